"""Attack list, group E: the size that a peer announces."""

from __future__ import annotations

import pytest

from saslwrap.errors import FrameTooLargeError, MalformedMessageError, NegotiationError
from saslwrap.mechanisms.digest_md5 import messages
from saslwrap.testing.pairs import properties_for
from tests.attacks.digest_peer import (
    AUTH,
    INT,
    NO_LAYER,
    Raw,
    Role,
    Said,
    accepted,
    both_roles,
    delivered,
    hostile,
    layers,
    log_in,
    our_client,
    our_server,
    refusal,
    rewriting,
    victim,
)
from tests.attacks.support import judge

# ---------------------------------------------------------------- E5: maxbuf

OUT_OF_RANGE = {
    "0": b"0",
    "16": b"16",
    "2^24": b"16777216",
    "2^31": b"2147483648",
    "2^32": b"4294967296",
    "2^32+65536": b"4295032832",
    "2^64+65536": b"18446744073709617152",
    "zeros": b"0" * 400,
    "16 after zeros": b"0" * 400 + b"16",
    "400 digits": b"9" * 400,
    "1800 digits": b"1" + b"0" * 1799,
}


out_of_range = pytest.mark.parametrize("maxbuf", OUT_OF_RANGE.values(), ids=list(OUT_OF_RANGE))


@out_of_range
@pytest.mark.parametrize("choice", [{}, INT], ids=["conf", "int"])
@both_roles
def test_e5_maxbuf_out_of_range_is_refused(role: Role, choice: Said, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if not MIN_MAXBUF <= maxbuf
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if chosen[0].qop is not QOP.AUTH:
    Guard: saslwrap/mechanisms/digest_md5/server.py: protection.fits(check_maxbuf(peer_maxbuf))
    """
    message = hostile(role, **choice | {"maxbuf": maxbuf})
    text = refusal(victim(role), message, MalformedMessageError, "maxbuf is not in 17..16777215")
    assert len(text) < 200  # the digits are not in it


NO_NUMBER = [
    b"-1",
    b"-65536",
    b"+17",
    b"1e5",
    b"0x1000",
    b"65536.0",
    "",
    " ",
    "6 5",
    "1,2",
    b"\xb2",
]


@pytest.mark.parametrize("maxbuf", NO_NUMBER, ids=lambda raw: str(raw or "none").strip("b'"))
@pytest.mark.parametrize("choice", [{}, AUTH], ids=["conf", "auth"])
@both_roles
def test_e5_maxbuf_that_is_no_number_is_refused(role: Role, choice: Said, maxbuf: Raw) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not _DIGITS.fullmatch("""
    message = hostile(role, **choice | {"maxbuf": maxbuf})
    refusal(victim(role), message, MalformedMessageError, "not a decimal number")


@out_of_range
@both_roles
def test_e5_maxbuf_out_of_range_does_no_harm_without_a_layer(role: Role, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if chosen[0].qop is not QOP.AUTH:
    Guard: saslwrap/mechanisms/digest_md5/server.py: if protection.qop is not QOP.AUTH and not
    """
    assert accepted(victim(role, NO_LAYER), hostile(role, **AUTH, maxbuf=maxbuf)) is None


@pytest.mark.parametrize(
    "maxbuf",
    [b"9" * 1800, b"0" * 1800, b"0" * 1790 + b"65536"],
    ids=["nines", "zeros", "zeros and 65536"],
)
@both_roles
def test_e5_hundreds_of_digits_never_become_a_number(
    role: Role, maxbuf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if len(significant) <= 8 else
    Guard: saslwrap/mechanisms/digest_md5/messages.py: .lstrip(b"0")
    """
    converted: list[int] = []

    def spied(digits: bytes) -> int:
        converted.append(len(digits))
        return int(digits)

    monkeypatch.setattr(messages, "int", spied, raising=False)
    side = victim(role)
    if maxbuf.endswith(b"65536"):
        accepted(side, hostile(role, maxbuf=maxbuf))
    else:
        refusal(side, hostile(role, maxbuf=maxbuf), MalformedMessageError)
    assert max(converted, default=0) <= 8


@pytest.mark.parametrize("maxbuf", [b"17", b"21"])
@pytest.mark.parametrize("cipher", ["3des", "des"])
@both_roles
def test_e5_maxbuf_too_small_for_a_block_is_refused(role: Role, cipher: str, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: maximum_message(maxbuf, block_size)"""
    message = hostile(role, cipher=cipher, maxbuf=maxbuf)
    refusal(victim(role, properties_for(cipher)), message, NegotiationError, "too small")


@pytest.mark.parametrize(
    ("cipher", "maxbuf", "maximum"),
    [
        ("rc4", b"17", 1),
        ("rc4", b"0000000000000022", 6),
        ("rc4", b"1" * 4, 1095),
        ("rc4", b"16777215", 16777199),
        ("3des", b"22", 5),
        ("des", b"00000000000000000022", 5),
        ("3des", b"16777215", 16777197),
    ],
)
@both_roles
def test_e5_maxbuf_in_range_bounds_what_is_sent(
    role: Role, cipher: str, maxbuf: bytes, maximum: int
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: peer_maxbuf=challenge.maxbuf,
    Guard: saslwrap/mechanisms/digest_md5/server.py: peer_maxbuf=peer_maxbuf,
    """
    side = victim(role, properties_for(cipher))
    layer = accepted(side, hostile(role, cipher=cipher, maxbuf=maxbuf))
    assert layer
    assert layer.context.stream_sizes.maximum_message == maximum
    first, *_ = layer.send_data(bytes(min(maximum, 4000) + 1))
    assert len(bytes(first)) - 4 <= int(maxbuf)


@pytest.mark.parametrize("towards", ["server", "client"])
@pytest.mark.parametrize("maxbuf", [b"16", b"17", b"21", b"22", b"999", b"1008", b"65536", None])
@pytest.mark.parametrize("cipher", ["rc4", "3des"])
def test_e5_rewritten_maxbuf_denies_service_at_most(
    cipher: str, maxbuf: bytes | None, towards: Role
) -> None:
    """No hash covers maxbuf. Too small, it slows us down or stops us; too large, it does so later.

    Guard: saslwrap/framing.py: if length > self.limit:
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: maximum_message(maxbuf, block_size)
    """
    policy = properties_for(cipher, max_buffer=1000)
    client, server = our_client(policy), our_server(policy)
    rewrite = {"offer" if towards == "server" else "choice": rewriting(maxbuf=maxbuf)}
    small = 22 if cipher == "3des" else 17
    size = 65536 if maxbuf is None else int(maxbuf)
    if size < small:
        with pytest.raises((NegotiationError, MalformedMessageError)):
            log_in(client, server, **rewrite)
        return
    log_in(client, server, **rewrite)
    here, there = layers(client, server)
    sender, receiver = (here, there) if towards == "server" else (there, here)
    message = bytes(2000)
    if size <= 1000:
        assert delivered(sender, receiver, message) == message
    else:
        verdict = judge(receiver, bytes(sender.send_data(message)[0])[:4])
        assert (type(verdict.error), verdict.accepted) == (FrameTooLargeError, b"")
