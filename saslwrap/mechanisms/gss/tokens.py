"""The tokens of a login, held against bounds and taken apart before anybody has proved anything.

pyspnego's parser takes time that grows with the square of what it is given: seconds for one long
OBJECT IDENTIFIER. Genuine tokens of SPNEGO (RFC 4178) have a handful of elements around the
mechanism's own token, which is found here where pyspnego finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from saslwrap.errors import MalformedMessageError

__all__ = ["MAX_TOKEN", "RESPONSE", "list_mic", "open_token"]

MAX_TOKEN: Final = 65535
"""Octets: the largest that Windows takes (MaxTokenSize)."""

RESPONSE: Final = 0xA1
"""The first octet of SPNEGO's answers (NegTokenResp)."""

_MOST_ELEMENTS: Final = 64
_LONGEST_OID: Final = 32

_NTLM: Final = b"NTLMSSP\0"
_INITIAL: Final = 0x60  # RFC 2743 section 3.1: the mechanism, then what it says
_SPNEGO: Final = bytes.fromhex("06062b0601050502")
_KERBEROS: Final = (
    bytes.fromhex("06092a864886f712010202"),
    bytes.fromhex("06092a864882f712010202"),  # Microsoft's slip of old
)
_INIT: Final = 0xA0
_SEQUENCE: Final = 0x30
_OID: Final = 0x06
_OCTET_STRING: Final = 0x04
_FIRST_FIELD: Final = 0xA0
_TOKEN_FIELD: Final = 0xA2  # mechToken of NegTokenInit, responseToken of NegTokenResp
_MIC_FIELD: Final = 0xA3  # mechListMIC of NegTokenResp
_LAST_FIELD: Final = 0xA4

#: What SPNEGO's tokens are made of, and how long that may be. Other tags are refused: pyspnego does
#: not look at the bit that tells what has elements inside.
_LONGEST: Final = {
    _INITIAL: MAX_TOKEN,
    **dict.fromkeys(range(_FIRST_FIELD, _LAST_FIELD + 1), MAX_TOKEN),
    _SEQUENCE: MAX_TOKEN,
    _OCTET_STRING: MAX_TOKEN,
    _OID: _LONGEST_OID,
    0x03: 8,  # BIT STRING: reqFlags
    0x0A: 8,  # ENUMERATED: negState
    0x1B: 256,  # GeneralString: hintName
}
_CONSTRUCTED: Final = 0x20


def open_token(token: bytes) -> bytes:
    """Give the mechanism's token in one of SPNEGO, `b""` without; NTLM's and Kerberos' as they are.

    Strict about what is told apart by it: what pyspnego would open must not look like something
    else here.

    :raises MalformedMessageError: it is too long, too much of a tree, or of another form
    """
    if len(token) > MAX_TOKEN:
        raise MalformedMessageError(f"a token of {len(token)} octets; {MAX_TOKEN} are the most")
    if not token or token.startswith(_NTLM):
        return token
    fields = _take_apart(token)
    return token if fields is None else fields.get(_TOKEN_FIELD, b"")


def list_mic(token: bytes) -> bytes:
    """Give the MIC over the list of mechanisms in an answer of SPNEGO's, `b""` without.

    Without one, too, where it is the mechanism's token again: pyspnego takes that for the slip of
    an old peer, and does not verify it.

    :raises MalformedMessageError: it is too much of a tree, or of another form
    """
    if not token or token[0] != RESPONSE:
        return b""
    fields = _take_apart(token) or {}
    mic = fields.get(_MIC_FIELD, b"")
    return b"" if mic == fields.get(_TOKEN_FIELD) else mic


def _take_apart(token: bytes) -> dict[int, bytes] | None:
    """Give the strings of a token's fields, by their tags; None for a token of Kerberos' own."""
    try:
        if token[0] not in (_INITIAL, RESPONSE):
            raise ValueError
        _walk(token)
        spans = _field_spans(token)
        if spans is None:
            return None
        strings = (_TOKEN_FIELD,) if token[0] == _INITIAL else (_TOKEN_FIELD, _MIC_FIELD)
        return {tag: _string(token, *spans[tag]) for tag in strings if tag in spans}
    except (IndexError, ValueError):
        raise MalformedMessageError("the token is not as SPNEGO or Kerberos have it") from None


def _field_spans(token: bytes) -> dict[int, tuple[int, int]] | None:
    start, stop = _contents(token, 0, len(token))
    if token[0] == _INITIAL:
        behind = _contents(token, start, stop)[1]
        if (mechanism := token[start:behind]) in _KERBEROS:
            return None
        if mechanism != _SPNEGO or token[behind] != _INIT:
            raise ValueError
        start, stop = _contents(token, behind, stop)
    if token[start] != _SEQUENCE:
        raise ValueError
    return dict(_fields(token, *_contents(token, start, stop)))


def _string(token: bytes, start: int, stop: int) -> bytes:
    if token[start] != _OCTET_STRING:
        raise ValueError
    return token[slice(*_contents(token, start, stop))]


def _fields(token: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Give the fields of a SEQUENCE, [0] to [4], each at most once and in order."""
    least = _FIRST_FIELD
    while at < end:
        if not least <= token[at] <= _LAST_FIELD:
            raise ValueError
        least = token[at] + 1
        start, stop = _contents(token, at, end)
        yield token[at], (start, stop)
        at = stop


def _walk(token: bytes) -> None:
    spans, count = [(0, len(token))], 0
    while spans:
        at, end = spans.pop()
        while at < end:
            count += 1
            start, stop = _contents(token, at, end)
            if count > _MOST_ELEMENTS or stop - start > _LONGEST.get(token[at], -1):
                raise ValueError
            if token[at] == _INITIAL:
                behind = _contents(token, start, stop)[1]
                if behind - start > _LONGEST_OID + 2:
                    raise ValueError
                if token[start:behind] == _SPNEGO:
                    spans.append((behind, stop))
            elif token[at] & _CONSTRUCTED:
                spans.append((start, stop))
            at = stop


def _contents(token: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the contents of the element at `at` start and stop (X.690 section 8.1)."""
    length, at = token[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(token[at : at + size]), at + size
        if not 0 < size <= 4:
            raise ValueError
    if at + length > end:
        raise ValueError
    return at, at + length
