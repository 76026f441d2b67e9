"""What a server for tests refuses when it is made.

It would come out late otherwise: in a log, as a client that is sent away.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.names import check_encodable, check_text

__all__ = ["check_patience", "check_tls", "check_users"]


def check_users(users: Mapping[str, str] | None) -> None:
    """Refuse what are no passwords by username, without showing one.

    :raises UsageError: they are none; the text says whose
    """
    require_kind("users", users, Mapping | None, "passwords by username ({'alice': 's3cret'})")
    for username, password in (users or {}).items():
        check_text("a username", username)
        check_encodable(f"the password of {username!r}", password)


def check_patience(idle_timeout: float) -> None:
    """Refuse what is no time to wait.

    :raises UsageError: it is none
    """
    require_kind("idle_timeout", idle_timeout, int | float)
    if not idle_timeout > 0:
        raise UsageError("idle_timeout is a number of seconds above 0; math.inf waits for ever")


def check_tls(tls: ssl.SSLContext | None, *, at_once: bool, end_point: bytes | None) -> None:
    """Refuse what a server cannot begin TLS with.

    :raises UsageError: another kind, a client's context, or something that needs one without it
    """
    require_kind("tls", tls, ssl.SSLContext | None)
    if tls is not None and tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise UsageError("tls is a client's context; a server's has PROTOCOL_TLS_SERVER")
    require_kind("tls_at_once", at_once, bool)
    if at_once and tls is None:
        raise UsageError("tls_at_once needs a context with the certificate: tls=...")
    binding = "the hash that channel_binding makes"
    require_kind("tls_server_end_point", end_point, bytes | None, binding)
