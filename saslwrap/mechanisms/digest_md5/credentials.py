"""Secrets, and the octets that names and passwords are hashed as (RFC 2831 section 2.1.2.1).

With `charset=utf-8`, each of username, realm and password is hashed as ISO 8859-1 if all of it lies
below U+0100, else as UTF-8: each by itself, as section 8's code has it. Real peers differ, in what
stands beyond ASCII alone:

    per-string   the rule above: Cyrus, the JDK, and what Windows' documents suggest
    all UTF-8    no down-conversion (the second guess of Cyrus' server)
    gsasl        the password alone is down-converted

A client is told which one by `hash_encoding`; a server tries all three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import md5
from typing import Literal, TypeAlias

from saslwrap.errors import NegotiationError, UsageError, require_kind
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.names import check_encodable, check_text

__all__ = ["DigestMD5Secret", "HashEncoding", "Secret", "all_urps", "urp"]

HashEncoding: TypeAlias = Literal["auto", "utf8", "gsasl"]


@dataclass(frozen=True, slots=True, init=False)
class DigestMD5Secret:
    """A stored H(username:realm:password), 16 octets: what a server may keep instead of a password.

    It is worth as much as the password to an attacker, in its realm: keep it as secret.
    (RFC 2831 section 2.1.2.1; Cyrus SASL calls it cmusaslsecretDIGEST-MD5.)

    :raises UsageError: it is of another kind, or has not 16 octets
    """

    digest: bytes = field(repr=False)

    @forgetful
    def __init__(self, digest: bytes) -> None:
        require_kind("digest", digest, bytes)
        if len(digest) != 16:
            raise UsageError(
                f"H(username:realm:password) has 16 octets, not {len(digest)}; "
                "bytes.fromhex() reads it from hex digits"
            )
        object.__setattr__(self, "digest", digest)

    @classmethod
    @forgetful
    def from_password(cls, username: str, realm: str, password: str) -> DigestMD5Secret:
        """Compute it, by the per-string rule.

        :param realm: the server's, `""` for none
        :raises UsageError: a name or a password that no client can send
        """
        check_text("username", username)
        check_text("realm", realm, may_be_empty=True)
        check_encodable("password", password)
        return cls(urp(username, realm, password, "auto"))


#: What `get_secret` of a server may give.
Secret: TypeAlias = str | DigestMD5Secret


def _converted(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


def urp(username: str, realm: str, password: str, encoding: HashEncoding) -> bytes:
    """H(username:realm:password), 16 octets."""
    names = _converted if encoding == "auto" else str.encode
    secret = str.encode if encoding == "utf8" else _converted
    return md5(b":".join((names(username), names(realm), secret(password)))).digest()


def all_urps(username: str, realm: str, password: str) -> tuple[bytes, bytes, bytes]:
    """The hashes that a client may have meant, always three."""
    return (
        urp(username, realm, password, "auto"),
        urp(username, realm, password, "utf8"),
        urp(username, realm, password, "gsasl"),
    )


def to_wire(text: str, *, utf8: bool) -> bytes:
    """A name as it travels.

    :raises NegotiationError: the server knows ISO 8859-1 only, and the name is beyond that
    """
    try:
        return text.encode("utf-8" if utf8 else "latin-1")
    except UnicodeEncodeError:
        pass
    raise NegotiationError(
        "the server did not offer charset=utf-8, and a name or the password is beyond ISO 8859-1; "
        "use one that is not, or another mechanism"
    )


def from_wire(octets: bytes) -> str:
    """A name as it came: UTF-8, as Cyrus' client sends without saying so, else ISO 8859-1."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
