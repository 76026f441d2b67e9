"""What may stand in the names that we send, whatever the mechanism: judged when given."""

from __future__ import annotations

import re

from saslwrap.errors import UsageError, require_kind

__all__ = [
    "check_encodable",
    "check_host",
    "check_service",
    "check_text",
    "is_encodable",
    "require_str",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
_HOST = re.compile(r"[!-~]+")


def check_text(name: str, value: str, *, may_be_empty: bool = False) -> None:
    """Refuse a text that no peer would understand.

    :raises UsageError: it is empty, or has control characters or lone surrogates
    """
    check_encodable(name, value)
    if not value and not may_be_empty:
        raise UsageError(f"{name} is empty")
    if _CONTROL.search(value):
        raise UsageError(f"{name} has control characters in it")


def check_encodable(name: str, value: str) -> None:
    """Refuse a text that cannot be sent, without showing it.

    :raises UsageError: it is no str, or has lone surrogates
    """
    require_str(name, value)
    if not is_encodable(value):
        raise UsageError(f"{name} has lone surrogates in it, which UTF-8 cannot carry")


def require_str(name: str, value: object) -> None:
    """Refuse what is no str, octets above all, without showing it.

    :raises UsageError: it is none
    """
    require_kind(name, value, str, "a str")


def is_encodable(value: str) -> bool:
    """Whether UTF-8 can carry it: it has no lone surrogates."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def check_service(service: str) -> None:
    """Refuse what is no service name (IANA's GSSAPI/Kerberos/SASL service names).

    :raises UsageError: it is none
    """
    require_str("service", service)
    if not _SERVICE.fullmatch(service):
        raise UsageError(f"service is a name such as 'ldap' or 'imap', not {service!r}")


def check_host(host: str, name: str = "host") -> None:
    """Refuse what is no host name, in ASCII.

    :raises UsageError: it is none
    """
    require_str(name, host)
    if not _HOST.fullmatch(host) or "/" in host:
        raise UsageError(
            f"{host!r} is no host name: give the name alone, without scheme and port, and beyond "
            "ASCII in its xn-- form (IDNA)"
        )
