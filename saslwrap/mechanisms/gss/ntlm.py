"""What an NTLM login is worth, read from the message that fixes it.

AUTHENTICATE_MESSAGE (MS-NLMP section 2.2.1.3) carries the client's proof, and the flags that both
sides derive their keys from, in clear. No provider passes them on, and pyspnego's acceptor is too
kind: it takes LM and NTLMv1, which prove next to nothing, and leaves out the message's MIC where it
is missing. A session may have keys of 40 or 56 bits, one cipher state for both directions, or
signatures that are constant; all of it looks like a sealed session from above. So the message is
judged here: by a server before pyspnego sees it, by a client before it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from saslwrap.errors import AuthenticationError, NegotiationError
from saslwrap.mechanisms.gss.tokens import open_token

__all__ = ["NTLMWatch"]

_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"
_FIELDS: Final = range(12, 60, 8)  # LM and NT response, domain, user, workstation, session key
_NT_RESPONSE: Final = 20
_DOMAIN: Final = 28
_USER: Final = 36
_SESSION_KEY: Final = 52  # encrypted; pyspnego decrypts an empty one to an empty key
_KEY_LENGTH: Final = 16
_FLAGS: Final = 60
_BEHIND_MIC: Final = 80  # where the payload starts, with the MIC and without a version

_CLIENT_CHALLENGE: Final = 44  # of an NTLMv2 response, up to its AV_PAIRs; NTLMv1 has 24 octets
_AV_FLAGS: Final = 6
_AV_BINDINGS: Final = 10
_HAS_MIC: Final = 2

_UNICODE = 0x00000001
_SIGN = 0x00000010
_SEAL = 0x00000020
_EXTENDED_SESSION_SECURITY = 0x00080000
_KEY_128 = 0x20000000
_KEY_EXCHANGE = 0x40000000
_KEY_56 = 0x80000000


class NTLMWatch:
    """Looks at the tokens that the client sends, on either side.

    :ivar bound: whether the client's response names a channel; which one, the acceptor compares
    """

    def __init__(self) -> None:
        self._flags: int | None = None
        self.bound: bool = False

    def see(self, token: bytes | None) -> None:
        """Look at one.

        :raises AuthenticationError: it has no NTLMv2 response with a MIC, or is not the only one
        :raises MalformedMessageError: it is no token of SPNEGO
        """
        message = open_token(token or b"")
        if message[8:12] != _AUTHENTICATE[8:]:  # pyspnego looks no further
            return
        if self._flags is not None or not message.startswith(_AUTHENTICATE):
            raise AuthenticationError("NTLM's last message came more than once, or is none")
        pairs = _av_pairs(message)
        if pairs is None or not int.from_bytes(pairs.get(_AV_FLAGS, b""), "little") & _HAS_MIC:
            raise AuthenticationError(
                "NTLM without an NTLMv2 response and its MIC proves nothing: unset "
                "LM_COMPAT_LEVEL, or update the client"
            )
        flags = self._flags = _number(message, _FLAGS, 4)
        exchanged = flags & _KEY_EXCHANGE and flags & (_SIGN | _SEAL)
        if exchanged and len(_payload(message, _SESSION_KEY)) != _KEY_LENGTH:
            raise AuthenticationError("NTLM's last message has no session key that can be one")
        if not all(map(_is_name, _names(message, unicode=bool(flags & _UNICODE)))):
            raise AuthenticationError("NTLM's last message has no user name that can be one")
        self.bound = any(pairs.get(_AV_BINDINGS, b""))

    @property
    def seen(self) -> bool:
        """Whether the message has come."""
        return self._flags is not None

    @property
    def ssf(self) -> int:
        """The strength of sealing, in bits; 0 where neither side asked for protection.

        :raises NegotiationError: the session signs only, or lacks what makes NTLM's signatures
            worth anything
        """
        flags = self._flags
        if flags is not None and not flags & (_SIGN | _SEAL):
            return 0
        needed = _SIGN | _SEAL | _EXTENDED_SESSION_SECURITY
        if flags is None or flags & needed != needed:
            raise NegotiationError(
                "NTLM was negotiated without sealing and extended session security, which is no "
                "protection: allow confidentiality on both sides (max_ssf), or use Kerberos"
            )
        return 128 if flags & _KEY_128 else 56 if flags & _KEY_56 else 40


def _names(message: bytes, *, unicode: bool) -> tuple[str, str]:
    """Give the user's name, and user and domain together, which may do without the domain."""
    codec = "utf-16-le" if unicode else "latin-1"
    user, domain = (_payload(message, at).decode(codec, "replace") for at in (_USER, _DOMAIN))
    return user, user + domain


def _is_name(name: str) -> bool:
    """Whether it is a name; pyspnego takes nobody, also behind a backslash, for its first user."""
    return bool(name) and name.isprintable() and "\\" not in name


def _payload(message: bytes, field: int) -> bytes:
    length, offset = _number(message, field, 2), _number(message, field + 4, 4)
    return message[offset : offset + length]


def _number(message: bytes, at: int, size: int) -> int:
    return int.from_bytes(message[at : at + size], "little")


def _av_pairs(message: bytes) -> dict[int, bytes] | None:
    """Give the AV_PAIRs of an NTLMv2 response (MS-NLMP sections 2.2.2.7, 2.2.2.1).

    None where there is none, or where the message has no room for a MIC.
    """
    for field in _FIELDS:
        length, offset = _number(message, field, 2), _number(message, field + 4, 4)
        if 0 < offset < _BEHIND_MIC or offset + length > len(message):
            return None
    response = _payload(message, _NT_RESPONSE)
    if len(response) <= _CLIENT_CHALLENGE:
        return None
    return dict(_pairs(response[_CLIENT_CHALLENGE:]))


def _pairs(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data) and (number := _number(data, at, 2)):
        length = _number(data, at + 2, 2)
        yield number, data[at + 4 : at + 4 + length]
        at += 4 + length
