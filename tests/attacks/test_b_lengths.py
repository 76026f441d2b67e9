"""Attack list, group B: what a length field may say, and what it may cost."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from saslwrap.errors import FrameTooLargeError, IntegrityError, ProtocolError
from saslwrap.layer import MAX_EMPTY_FRAMES, SecurityLayer
from saslwrap.testing import layer_pair
from tests.attacks.support import (
    Forger,
    Primitives,
    block_protection,
    counted,
    every_protection,
    frame,
    judge,
    stream_protection,
    victim,
    work_of,
)

MIB = 1 << 20
MAXBUF = 16 * MIB - 1  # the greatest there is


def trailer_ended(length: int) -> bytes:
    """A token of this length that ends as the first token must: type 1, number 0."""
    return (bytes(length) + b"\0\1\0\0\0\0")[-length:]


def peak(action: Callable[[], object]) -> int:
    """The most octets that were allocated at once while `action` ran."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every_protection
def test_b1_length_0_is_an_error_at_once(protection: str) -> None:
    """Guard: saslwrap/framing.py: if not length:"""
    verdict = judge(victim(protection), bytes(4))
    assert type(verdict.error) is ProtocolError
    assert verdict.accepted == b""


@pytest.mark.parametrize("length", range(1, 16))
@every_protection
def test_b2_token_shorter_than_any_runs_no_primitive(
    protection: str, length: int, primitives: Primitives
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if len(token) < self.shortest or ("""
    verdict = judge(victim(protection), frame(trailer_ended(length)))
    assert type(verdict.error) is IntegrityError
    assert primitives.calls == []


@stream_protection
def test_b3_token_of_16_octets_is_an_empty_message(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: SIGNATURE_OCTETS if block_size == 1"""
    token = Forger(protection).token(b"")
    assert len(token) == 16
    layer = victim(protection)
    verdict = judge(layer, frame(token), eof=True)
    assert verdict.error is None
    assert verdict.accepted == b""
    assert layer.at_eof


@block_protection
def test_b3_token_of_22_octets_is_an_empty_message(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: else 2 * block_size + TRAILER_OCTETS"""
    token = Forger(protection).token(b"")
    assert len(token) == 22
    layer = victim(protection)
    verdict = judge(layer, frame(token), eof=True)
    assert verdict.error is None
    assert verdict.accepted == b""
    assert layer.at_eof


@pytest.mark.parametrize("length", [*range(16, 22), *range(23, 30), 31, 1000, 1023])
@block_protection
def test_b4_token_of_no_whole_blocks_runs_no_primitive(
    protection: str, length: int, primitives: Primitives
) -> None:
    """Debian 12's libsasl2 dies of such a token.

    Guard: saslwrap/mechanisms/digest_md5/context.py: (len(token) - TRAILER_OCTETS) %
    """
    verdict = judge(victim(protection), frame(trailer_ended(length)))
    assert type(verdict.error) is IntegrityError
    assert primitives.calls == []


@every_protection
def test_b5_token_of_just_maxbuf_is_accepted(protection: str) -> None:
    """Guard: saslwrap/framing.py: if length > self.limit:
    Guard: saslwrap/context.py: if len(token) > self.local_maxbuf:
    """
    maxbuf = 1030  # whole blocks fit it exactly
    client, server = layer_pair(protection, server_maxbuf=maxbuf)
    largest = client.context.stream_sizes.maximum_message
    octets = b"".join(client.send_data(bytes(largest)))
    assert len(octets) == 4 + maxbuf
    assert len(judge(server, octets).accepted) == largest


@every_protection
def test_b5_length_over_maxbuf_is_refused_at_its_fourth_octet(protection: str) -> None:
    """Guard: saslwrap/framing.py: if length > self.limit:"""
    layer = victim(protection, maxbuf=1030)
    assert judge(layer, (1031).to_bytes(4, "big")[:3]).error is None
    error = judge(layer, (1031).to_bytes(4, "big")[3:]).error
    assert isinstance(error, FrameTooLargeError)
    assert (error.announced, error.limit) == (1031, 1030)


@pytest.mark.parametrize("announced", [0x80000000, 0xFFFFFFFC, 0xFFFFFFFF, 0x01000000])
@every_protection
def test_b6_length_that_wraps_or_turns_negative_is_refused(protection: str, announced: int) -> None:
    """Guard: saslwrap/framing.py: length = int.from_bytes(self._buffer[:LENGTH_OCTETS], "big")"""
    layer = victim(protection, maxbuf=MAXBUF)
    error = judge(layer, announced.to_bytes(4, "big") + bytes(64)).error
    assert isinstance(error, FrameTooLargeError)
    assert error.announced == announced


@every_protection
def test_b7_announced_16_mib_then_silence_allocates_nothing(protection: str) -> None:
    """Guard: saslwrap/framing.py: self._buffer += data if type(data) is bytes else octets(data)"""
    layer = victim(protection, maxbuf=MAXBUF)

    def announce() -> None:
        assert judge(layer, MAXBUF.to_bytes(4, "big")).error is None
        assert judge(layer, bytes(100)).error is None

    assert peak(announce) < 8192


@pytest.mark.parametrize("announced", [MAXBUF + 1, 0xFFFFFFFF])
def test_b7_announced_over_maxbuf_allocates_nothing(announced: int) -> None:
    """Guard: saslwrap/framing.py: if length > self.limit:"""
    layer = victim("rc4", maxbuf=MAXBUF)

    def announce() -> None:
        assert isinstance(judge(layer, announced.to_bytes(4, "big")).error, FrameTooLargeError)

    assert peak(announce) < 8192


def dribble(layer: SecurityLayer, octets: int) -> None:
    """Announce 16 MiB, then send some of it, one octet at a time."""
    layer.receive_data(MAXBUF.to_bytes(4, "big"))
    for _ in range(octets):
        layer.receive_data(b"\0")
        assert layer.read() == b""


@every_protection
def test_b8_dribbled_16_mib_take_memory_for_what_arrived(protection: str) -> None:
    """Guard: saslwrap/framing.py: self._buffer += data if type(data) is bytes else octets(data)"""
    layer = victim(protection, maxbuf=MAXBUF)
    arrived = 20_000
    assert peak(lambda: dribble(layer, arrived)) < 2 * arrived + 8192


def test_b8_dribbled_16_mib_cost_linear_work() -> None:
    """Guard: saslwrap/framing.py: self._buffer += data if type(data) is bytes else octets(data)
    Guard: saslwrap/framing.py: length = int.from_bytes(self._buffer[:LENGTH_OCTETS], "big")
    """

    def work(octets: int) -> int:
        layer = counted(victim("rc4", maxbuf=MAXBUF))
        dribble(layer, octets)
        return work_of(layer)

    once = work(10_000)
    assert once < 10 * 10_000
    assert work(20_000) <= 2.1 * once


@every_protection
def test_b9_cleartext_gets_an_error_that_says_so(protection: str) -> None:
    """Guard: saslwrap/framing.py: _cleartext_hint(self._buffer)"""
    error = judge(victim(protection), b"HELO example.com\r\n").error
    assert isinstance(error, FrameTooLargeError)
    assert "'HELO'" in str(error)
    assert "cleartext" in str(error)


@pytest.mark.parametrize("head", ["30840000", "30820123", "300c0201"])
@every_protection
def test_b9_ldap_in_clear_gets_an_error_that_says_so(protection: str, head: str) -> None:
    """Guard: saslwrap/framing.py: if head[0] == 0x30:"""
    error = judge(victim(protection), bytes.fromhex(head) + bytes(20)).error
    assert isinstance(error, FrameTooLargeError)
    assert "LDAP" in str(error)


@every_protection
def test_b10_flood_of_empty_frames_ends_in_an_error(protection: str) -> None:
    """Guard: saslwrap/layer.py: if self._empty_frames > MAX_EMPTY_FRAMES:"""
    forger, layer = Forger(protection), victim(protection)
    empty = [frame(forger.token(b"", number)) for number in range(MAX_EMPTY_FRAMES + 1)]
    assert judge(layer, b"".join(empty[:-1])).error is None
    assert type(judge(layer, empty[-1]).error) is ProtocolError
    assert layer.context.failed


@every_protection
def test_b10_flood_of_empty_frames_is_counted_over_reads(protection: str) -> None:
    """Guard: saslwrap/layer.py: self._empty_frames += 1"""
    forger, layer = Forger(protection), victim(protection)
    for number in range(MAX_EMPTY_FRAMES):
        assert judge(layer, frame(forger.token(b"", number))).error is None
    assert judge(layer, frame(forger.token(b"", MAX_EMPTY_FRAMES))).error is not None


@every_protection
def test_b10_some_empty_frames_do_no_harm(protection: str) -> None:
    """Guard: saslwrap/layer.py: self._empty_frames = 0 return message"""
    forger, layer = Forger(protection), victim(protection)
    for number in range(0, 3 * MAX_EMPTY_FRAMES, 2):
        empty, full = forger.token(b"", number), forger.token(b"x", number + 1)
        verdict = judge(layer, frame(empty, full))
        assert verdict.error is None
        assert verdict.accepted == b"x"
