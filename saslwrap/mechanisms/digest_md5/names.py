"""What may stand in DIGEST-MD5's own fields."""

from __future__ import annotations

import re

from saslwrap.errors import UsageError
from saslwrap.mechanisms.names import check_host, check_service

__all__ = ["check_nonce", "digest_uri"]

_NONCE = re.compile(r"[!#-\[\]-~]+")  # printable, and nothing that needs an escape (RFC 2831bis)


def check_nonce(value: str, source: str) -> bytes:
    """Refuse a nonce that would have to be escaped, and give its octets.

    :raises UsageError: it is empty, or has characters beyond printable ASCII, a space, `"` or a
        backslash in it
    """
    if not (isinstance(value, str) and _NONCE.fullmatch(value)):
        raise UsageError(f'{source} must give printable ASCII without spaces, " and backslash')
    return value.encode("ascii")


def digest_uri(service: str, host: str, serv_name: str | None = None) -> bytes:
    """`service/host[/serv-name]` (RFC 2831 section 2.1.2); serv-name is left out if it is host.

    :raises UsageError: a part has characters that a name of a service or host has not
    """
    check_service(service)
    parts = [service, host]
    check_host(host)
    if serv_name is not None:
        check_host(serv_name, "serv_name")
        if serv_name.lower() != host.lower():
            parts.append(serv_name)
    return "/".join(parts).encode("ascii")
