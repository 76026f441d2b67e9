"""What the clients of SMTP share: how a refusal is told, and what has no place behind a login."""

from __future__ import annotations

from typing import Final

from saslwrap.protocols.smtp import SMTPAuth

LOGGED_IN: Final = (
    "the client is logged in, and SMTP has one login a connection (RFC 4954 section 4): connect "
    "anew for another one"
)
IN_CLEAR: Final = (
    "this client was logged in, and its new connection is not: log in before mail goes out in clear"
)
NOT_OFFERED: Final = "the server does not offer AUTH"


def refusal_code(login: SMTPAuth) -> int:
    """Give the status that the server refused a login by; 535 where that was not the server."""
    status = login.status or ""
    return int(status) if status[:1] in ("4", "5") else 535
