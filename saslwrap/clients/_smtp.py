"""What the clients of SMTP share: how a refusal is told, and what may be sent without a login."""

from __future__ import annotations

import re
from typing import Final

from saslwrap.clients._login import no_tls_now
from saslwrap.errors import UsageError
from saslwrap.protocols.smtp import SMTPAuth

LOGGED_IN: Final = (
    "the client is logged in, and SMTP has one login a connection (RFC 4954 section 4): connect "
    "anew for another one"
)
IN_CLEAR: Final = (
    "this client has begun a login, and none has succeeded over this connection: log in before "
    "mail goes out in clear, or send what may be read by all with a client of its own"
)
NOT_OFFERED: Final = "the server does not offer AUTH"

_WITHOUT_A_LOGIN: Final = frozenset(
    (b"EHLO", b"LHLO", b"HELO", b"STARTTLS", b"AUTH", b"NOOP", b"RSET", b"QUIT")
)
_COMMAND: Final = re.compile(rb"([a-z]+)(?: [^\r\n]*)?\r\n", re.IGNORECASE)
_RESPONSE: Final = re.compile(rb"(?!data\r)(?:[a-z0-9+/]*={0,2}|\*)\r\n", re.IGNORECASE)


def refusal_code(login: SMTPAuth) -> int:
    """Give the status that the server refused a login by; 535 where that was not the server.

    The libraries' errors have to have one. A success that proves nothing was said by 235, which is
    none of a failure. 535 is the one failure of a login in RFC 4954 section 6 that is permanent and
    asks for nothing (534 and 538 do, for another mechanism or TLS), so nobody tries again by it,
    as by 454. That the password may well be right is the cause's to say.
    """
    status = login.status or ""
    return int(status) if status[:1] in ("4", "5") else 535


def refuse(objection: UsageError | None) -> None:
    """Raise what a `Gate` objects to; in a frame without the octets, as a traceback shows it."""
    if objection is not None:
        raise objection


class Gate:
    """What a client may send. Once a login of ours has begun, only what leads to one.

    So it is until a login has succeeded, by our exchange or by the library's own AUTH, and over
    each connection anew: whoever refuses a login, or cuts the connection, gets no mail in clear.
    """

    def __init__(self) -> None:
        self._begun = False
        self._asking = False  # what was sent last is AUTH, or answers a challenge
        self._challenger: object = None  # the connections, each as the client names it
        self._logged_in: object = None

    def begin(self, connection: object) -> None:
        """Let only through, from now on, what leads to a login.

        :raises UsageError: this connection has one
        """
        self._begun = True
        refuse(UsageError(LOGGED_IN) if self.is_open(connection) else None)

    def open(self, connection: object) -> None:
        """Let everything through that has a place behind a login, which this connection has."""
        self._logged_in = connection

    def is_open(self, connection: object) -> bool:
        """Whether a connection is logged in."""
        return connection is not None and connection is self._logged_in

    def judge(self, connection: object, data: str | bytes) -> UsageError | None:
        """Say what is wrong with sending this: a command, a response, or a mail; None for nothing.

        A mail, with the lone dot at its end, is more than a line.

        :param connection: over which; None for none, which is the library's to say
        """
        if isinstance(data, str):
            data = data.encode(errors="replace")
        match = _COMMAND.fullmatch(data)
        verb = match[1].upper() if match else b""
        answers = connection is self._challenger and _RESPONSE.fullmatch(data) is not None
        self._asking = answers or verb == b"AUTH"
        if not self._begun or connection is None:
            return None
        if not self.is_open(connection):
            return None if answers or verb in _WITHOUT_A_LOGIN else UsageError(IN_CLEAR)
        if verb == b"STARTTLS":
            return no_tls_now("STARTTLS")
        return UsageError(LOGGED_IN) if verb == b"AUTH" else None

    def hear(self, connection: object, status: int) -> None:
        """Take in the status of a reply. Only 235, and only to a login, is one."""
        asked, self._asking = self._asking, False
        self._challenger = connection if asked and status == 334 else None
        if asked and status == 235:
            self.open(connection)
