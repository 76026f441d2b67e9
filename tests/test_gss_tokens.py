"""The tokens of a login, taken apart before pyspnego sees them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.gss.tokens import MAX_TOKEN, list_mic, open_token

SPNEGO = "06062b0601050502"
KERBEROS = "06092a864886f712010202"
NTLM = "060a2b06010401823702020a"


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def init(*fields: bytes) -> bytes:
    return tlv(0x60, bytes.fromhex(SPNEGO), tlv(0xA0, tlv(0x30, *fields)))


def response(*fields: bytes) -> bytes:
    return tlv(0xA1, tlv(0x30, *fields))


MECHANISMS = tlv(0xA0, tlv(0x30, bytes.fromhex(KERBEROS), bytes.fromhex(NTLM)))
INNER = tlv(0xA2, tlv(0x04, b"the mechanism's own"))
MIC = tlv(0xA3, tlv(0x04, bytes(16)))
STATE = tlv(0xA0, tlv(0x0A, b"\1"))
PICKED = tlv(0xA1, bytes.fromhex(NTLM))


@pytest.mark.parametrize(
    "token",
    [
        init(MECHANISMS, INNER),
        init(MECHANISMS, INNER, MIC),
        response(STATE, PICKED, INNER),
        response(STATE, INNER, MIC),
        response(INNER),
        response(INNER) + b"behind it",
        response(tlv(0xA2, tlv(0x04, b"the mechanism's own"), b"\4\0")),
    ],
)
def test_the_mechanism_s_token_is_found(token: bytes) -> None:
    if token.endswith(b"behind it"):
        with pytest.raises(MalformedMessageError):
            open_token(token)
    else:
        assert open_token(token) == b"the mechanism's own"


@pytest.mark.parametrize("token", [init(MECHANISMS), response(STATE), response(STATE, PICKED, MIC)])
def test_there_may_be_none(token: bytes) -> None:
    assert open_token(token) == b""


@pytest.mark.parametrize("token", [response(STATE, INNER, MIC), response(PICKED, MIC)])
def test_the_mic_over_the_list_is_found(token: bytes) -> None:
    assert list_mic(token) == MIC[4:]


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"NTLMSSP\0\1\0\0\0" + bytes(20),
        tlv(0x60, bytes.fromhex(KERBEROS), b"\1\0"),
        init(MECHANISMS, INNER, MIC),
        response(STATE, INNER),
        response(STATE, INNER, tlv(0xA3, INNER[2:])),  # which pyspnego does not verify
        response(STATE, tlv(0xA3, b"\4\0")),
        tlv(0xA1, tlv(0x30, STATE), MIC),
    ],
)
def test_there_may_be_no_mic(token: bytes) -> None:
    assert list_mic(token) == b""


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"NTLMSSP\0\1\0\0\0" + bytes(20),
        tlv(0x60, bytes.fromhex(KERBEROS), b"\1\0", tlv(0x6E, b"\xff" * 100)),
    ],
)
def test_what_is_not_spnego_stays_as_it_is(token: bytes) -> None:
    assert open_token(token) == token


def test_the_longest_token() -> None:
    longest = b"NTLMSSP\0".ljust(MAX_TOKEN, b"\0")
    assert open_token(longest) == longest
    with pytest.raises(MalformedMessageError, match="65536 octets; 65535 are the most"):
        open_token(longest + b"\0")


LONG_OID = tlv(0x06, b"\x2a" + b"\xff" * 32)
OID = tlv(0x06, b"\x2a\x03")


@pytest.mark.parametrize(
    "token",
    [
        init(tlv(0xA0, tlv(0x30, LONG_OID)), INNER),
        tlv(0x60, LONG_OID, b"x"),
        tlv(0x60, tlv(0x04, bytes(60000)), b"x"),
        response(STATE, tlv(0xA1, LONG_OID)),
        init(tlv(0xA0, tlv(0x30, *[OID] * 64)), INNER),
        response(INNER, INNER),
        response(INNER, STATE),
        response(tlv(0xA5, b"")),
        response(tlv(0x62, tlv(0x04, b"x"))),
        response(tlv(0xA2, b"")),
        response(tlv(0xA3, b"")),
        response(tlv(0xA3, tlv(0x30, b"x"))),
        response(tlv(0xA2, tlv(0x24, tlv(0x04, b"x")))),
        tlv(0xA1, b"\x3f\x81\x01\x00"),
        b"\xa1\x80\x30\x00\x00\x00",
        b"\xa1\x85\x00\x00\x00\x00\x02\x30\x00",
        b"\xa1\x03\x30\x05\x00",
        b"\xa1",
        b"\x60",
        b"\xa1\x00",
        b"\xa0\x01",
        b"\x6f\x03abc",
        b"\x60\x04\x06\x02\x2a\x03",
        b"\x81" + response(INNER)[1:],
        b"\xbf\x01" + response(INNER)[1:],
        tlv(0xA0, tlv(0x30, MECHANISMS, INNER)),
        tlv(0x60, tlv(0x06, b"\x80" + bytes.fromhex(SPNEGO)[2:]), tlv(0xA0, tlv(0x30, INNER))),
        tlv(0x60, bytes.fromhex(SPNEGO), response(INNER)),
        tlv(0xA1, tlv(0x31, INNER)),
        response(tlv(0xA0, tlv(0x0A, bytes(9)))),
    ],
)
def test_what_genuine_tokens_do_not_have_is_refused(token: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="not as SPNEGO or Kerberos") as raised:
        open_token(token)
    assert raised.value.__cause__ is None


@given(st.binary(max_size=200).map(lambda rest: b"\xa1" + rest) | st.binary(max_size=200))
def test_anything_else_is_refused_or_left(token: bytes) -> None:
    with suppress(MalformedMessageError):
        assert open_token(token) in token
