"""Attack list, group H: the keystream is used once, and a broken stream is never taken up again."""

from __future__ import annotations

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher

from saslwrap.errors import IntegrityError, SASLError
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS
from saslwrap.mechanisms.digest_md5.keys import sealing_keys
from tests.attacks.support import (
    SESSION_KEY,
    Forger,
    every_protection,
    frame,
    judge,
    judge_in_place,
    victim,
)

RC4 = ("rc4", "rc4-56", "rc4-40")
LENGTHS = (0, 1, 2, 15, 16, 17, 255, 256, 257, 4096, 65520)


def keystream(protection: str, octets: int) -> bytes:
    """The client's keystream, from the connection's start."""
    key = sealing_keys(SESSION_KEY, CIPHERS[protection].key_octets).client_to_server
    return Cipher(ARC4(key), mode=None).encryptor().update(bytes(octets))


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("protection", RC4)
def test_h_sealing_advances_the_keystream_by_length_plus_10(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: (message), self._update(mac), trailer"""
    context = victim(protection, is_client=True).context
    forger = Forger("auth-int")  # of the same keys, to know the MAC
    stream = keystream(protection, sum(LENGTHS) + 10 * len(LENGTHS))
    position = 0
    for number, length in enumerate(LENGTHS):
        message = bytes(length)
        body = context.seal(message)[:-6]
        assert len(body) == length + 10
        plain = xor(body, stream[position : position + len(body)])
        assert plain == message + forger.mac(message, number)
        position += len(body)


@pytest.mark.parametrize("protection", RC4)
def test_h_unsealing_advances_the_keystream_by_length_plus_10(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: return message, self._update(mac), True"""
    context = victim(protection).context
    forger = Forger("auth-int")
    stream = keystream(protection, sum(LENGTHS) + 10 * len(LENGTHS))
    position = 0
    for number, length in enumerate(LENGTHS):
        message = bytes(length)
        plain = message + forger.mac(message, number)
        body = xor(plain, stream[position : position + len(plain)])
        token = body + b"\0\1" + number.to_bytes(4, "big")
        assert context.unseal(token) == message
        position += len(body)


@every_protection
def test_h_sealing_in_place_spends_the_same_keystream(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: self._update_into(message, message)"""
    contexts = [victim(protection).context, victim(protection).context]
    for length in (*range(30), 1000):
        memory = bytearray(range(256)) * 4
        with memoryview(memory)[:length] as message:
            token = contexts[0].seal(message)
            rest = contexts[1].seal_in_place(message)
        assert memory[:length] + rest == token


@every_protection
def test_h_unsealing_in_place_spends_the_same_keystream(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: self._update_into(body, body)"""
    forger, layer = Forger(protection), victim(protection)
    for number, length in enumerate((*range(30), 1000)):
        message = (bytes(range(256)) * 4)[:length]
        verdict = judge_in_place(layer, frame(forger.token(message, number)))
        assert verdict.error is None
        assert verdict.accepted == message


@every_protection
def test_h_no_two_tokens_of_the_same_message_are_alike(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/ciphers.py: return self._cipher(key).encryptor()
    Guard: saslwrap/mechanisms/digest_md5/context.py: mac.update(sequence)
    """
    context = victim(protection).context
    bodies = [context.seal(b"the same every time")[:-6] for _ in range(100)]
    assert len(set(bodies)) == len(bodies)
    if protection != "auth-int":
        assert len({body[:8] for body in bodies}) == len(bodies)


@pytest.mark.parametrize(
    "fault",
    ["mac", "number", "type", "short", "empty", "length"],
)
@every_protection
def test_h_failed_frame_is_not_resynchronised(protection: str, fault: str) -> None:
    """Guard: saslwrap/context.py: self.close()"""
    forger, layer = Forger(protection), victim(protection)
    broken = {
        "mac": frame(Forger(protection).token(mac=bytes(10))),
        "number": frame(Forger(protection).token(number=1)),
        "type": frame(Forger(protection).token(kind=b"\0\2")),
        "short": frame(bytes(9) + b"\0\1\0\0\0\0"),
        "empty": bytes(4),
        "length": b"\xff\xff\xff\xff",
    }[fault]
    if fault == "mac":  # the victim's cipher has gone on by that much, so may the forger's
        forger.token(mac=bytes(10))
    first = judge(layer, broken)
    assert first.accepted == b""
    assert isinstance(first.error, SASLError)
    for number in (0, 1):  # 0 would be right, if the layer took up again
        verdict = judge(layer, frame(forger.token(b"again", number)))
        assert verdict.accepted == b""
        assert type(verdict.error) is type(first.error)
        assert str(verdict.error) == str(first.error)


@every_protection
def test_h_failed_frame_takes_good_frames_behind_it_along(protection: str) -> None:
    """Guard: saslwrap/layer.py: self._decoder.discard()
    Guard: saslwrap/context.py: self.close()
    """
    forger, layer = Forger(protection), victim(protection)
    good = forger.token(b"good", 0)
    bad = Forger(protection).token(b"bad", 5)
    behind = forger.token(b"behind", 1)
    verdict = judge(layer, frame(good, bad, behind))
    assert verdict.accepted == b"good"
    assert isinstance(verdict.error, IntegrityError)
    assert isinstance(judge(layer, frame(forger.token(b"later", 2))).error, IntegrityError)
    assert layer.unread() == b""
