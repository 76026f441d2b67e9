"""What may stand in the fields that we fill: judged when given, not when sent."""

from __future__ import annotations

import re

from saslwrap.errors import UsageError

__all__ = ["check_nonce", "check_text", "digest_uri", "is_encodable", "require_str"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
_HOST = re.compile(r"[!-~]+")
_NONCE = re.compile(r"[!#-\[\]-~]+")  # printable, and nothing that needs an escape (RFC 2831bis)


def check_text(name: str, value: str, *, may_be_empty: bool = False) -> None:
    """Refuse a text that no peer would understand.

    :raises UsageError: it is empty, or has control characters or lone surrogates
    """
    require_str(name, value)
    if not value and not may_be_empty:
        raise UsageError(f"{name} is empty")
    if _CONTROL.search(value):
        raise UsageError(f"{name} has control characters in it")
    if not is_encodable(value):
        raise UsageError(f"{name} has lone surrogates in it, which UTF-8 cannot carry")


def require_str(name: str, value: object) -> None:
    """Refuse what is no str, octets above all, without showing it.

    :raises UsageError: it is none
    """
    if not isinstance(value, str):
        raise UsageError(f"{name} is a str, not {type(value).__name__}")


def is_encodable(value: str) -> bool:
    """Whether UTF-8 can carry it: it has no lone surrogates."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def check_nonce(value: str, source: str) -> bytes:
    """Refuse a nonce that would have to be escaped, and give its octets.

    :raises UsageError: it is empty, or has characters beyond printable ASCII, a space, `"` or a
        backslash in it
    """
    if not _NONCE.fullmatch(value):
        raise UsageError(f'{source} must give printable ASCII without spaces, " and backslash')
    return value.encode("ascii")


def digest_uri(service: str, host: str, serv_name: str | None = None) -> bytes:
    """`service/host[/serv-name]` (RFC 2831 section 2.1.2); serv-name is left out if it is host.

    :raises UsageError: a part has characters that a name of a service or host has not
    """
    require_str("service", service)
    require_str("host", host)
    if not _SERVICE.fullmatch(service):
        raise UsageError(f"service is a name such as 'ldap' or 'imap', not {service!r}")
    parts = [service, host]
    if serv_name is not None and serv_name.lower() != host.lower():
        parts.append(serv_name)
    for part in parts[1:]:
        if not _HOST.fullmatch(part) or "/" in part:
            raise UsageError(
                f"{part!r} is no host name; write one beyond ASCII in its xn-- form (IDNA)"
            )
    return "/".join(parts).encode("ascii")
