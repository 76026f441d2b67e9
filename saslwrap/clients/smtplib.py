"""The standard library's smtplib under a security layer: its `SMTP`, with one more method.

    with SMTP("mail.example.com", 587) as client:
        client.authenticate_sasl(DigestMD5Client("alice", "s3cret", service="smtp", host=...))
        client.send_message(message)

smtplib writes to its `sock` and reads from its `file`, which it makes anew where there is none; so
its `starttls` switches, and so does the login. What `file` has read ahead by then answers nothing
that was asked, and is dropped. Under the layer both sides begin anew, with EHLO (RFC 4954 section
4): what the server said in clear that it can do is forgotten.

smtplib's clients may connect again, and are in clear then. One that has begun a login sends nothing
but what leads to one until it is logged in, over each connection anew: its `Gate` sees to that,
in `send` and `getreply`, through which all goes that smtplib says and hears.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, cast

from saslwrap.clients._login import closed_by_failure, told_as
from saslwrap.clients._smtp import NOT_OFFERED, Gate, refusal_code, refuse
from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.smtp import SMTPAuth
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    import socket

__all__ = ["LMTP", "SMTP", "SMTP_SSL"]

_GOOD_FORM: Final = (smtplib.SMTPHeloError, smtplib.SMTPNotSupportedError)


class SMTP(smtplib.SMTP):
    """smtplib's `SMTP`, whose login may bring a layer.

    What goes wrong in the layer is smtplib's `SMTPServerDisconnected`, with the `SASLError` as its
    cause. The client is then closed.
    """

    sock: socket.socket | None
    file: Any
    ehlo_resp: bytes | None
    helo_resp: bytes | None
    esmtp_features: dict[str, str]

    @cached_property
    def _gate(self) -> Gate:
        return Gate()

    def authenticate_sasl(self, mechanism: ClientMechanism) -> tuple[int, bytes]:
        """Log in, and go on under the layer that this brings; returns as `login` does.

        EHLO is said again. After a login that was refused in good form the client is in clear as
        before, and another one may follow; until one succeeds it sends no mail. After any other
        error it is closed.

        :param mechanism: a new one, of the service `smtp`; a mechanism is used once
        :raises smtplib.SMTPAuthenticationError: the login was refused, or policy and offer do not
            meet; its cause is an `AuthenticationError` or a `NegotiationError`. `smtp_code` is the
            server's; 535 if it did not refuse, as where it proved nothing
        :raises smtplib.SMTPServerDisconnected: the connection broke, or the server broke the
            protocol; its cause is a `SASLError` that is a `ConnectionError`, or another `OSError`
        :raises smtplib.SMTPNotSupportedError: the server has no AUTH
        :raises smtplib.SMTPHeloError: the server refused EHLO, before the login or under its layer
        :raises UsageError: the client is logged in already, or is not connected
        :raises MechanismUnavailableError: what the mechanism needs is not installed
        """
        if self.sock is None:
            raise UsageError("the client is not connected: call connect() before the login")
        self._gate.begin(self.sock)
        login = SMTPAuth(mechanism)
        with closed_by_failure(login, self.close, _GOOD_FORM):
            self.ehlo_or_helo_if_needed()
            if not self.has_extn("auth"):
                raise smtplib.SMTPNotSupportedError(NOT_OFFERED)
        refused = partial(_refused, login)
        with (
            told_as(refused, smtplib.SMTPServerDisconnected),
            closed_by_failure(login, self.close),
        ):
            sealed = authenticate_socket(self.sock, login)
        with closed_by_failure(login, self.close):
            self._begin_anew(sealed)
        return 235, login.text.encode()

    def _begin_anew(self, sealed: SASLSocket) -> None:
        self.file.close()
        self.sock, self.file = cast("Any", sealed), None
        self._gate.open(sealed)
        code, text = self.ehlo()
        if code != 250:
            raise smtplib.SMTPHeloError(code, text)

    # what is smtplib's

    def connect(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """Connect, as smtplib's; the connection before is closed, and what it said forgotten."""
        self.close()
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        return super().connect(*arguments, **options)

    def starttls(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """Put TLS below, as smtplib's; before the login.

        :raises UsageError: the client is logged in
        """
        refuse(self._gate.judge(self.sock, b"STARTTLS\r\n"))
        return super().starttls(*arguments, **options)

    def send(self, s: Any) -> None:
        """Send octets.

        :raises UsageError: a command that has no place before a login that is due, or behind one
        """
        try:
            refuse(self._gate.judge(self.sock, s))
            with _cause_named():
                super().send(s)
        finally:
            del s  # a traceback would show it

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply."""
        with _cause_named():
            code, text = super().getreply()
        self._gate.hear(self.sock, code)
        return code, text


def _refused(login: SMTPAuth, text: str) -> smtplib.SMTPAuthenticationError:
    return smtplib.SMTPAuthenticationError(refusal_code(login), text.encode())


@contextmanager
def _cause_named() -> Iterator[None]:
    """Let smtplib's error name ours as its cause, not as something that went wrong beside it."""
    try:
        yield
    except smtplib.SMTPServerDisconnected as error:
        if isinstance(error.__context__, SASLError):
            raise error from error.__context__
        raise


class SMTP_SSL(SMTP, smtplib.SMTP_SSL):  # noqa: N801 - the library's name
    """smtplib's `SMTP_SSL`, whose login may bring a layer.

    Over TLS no layer is asked for, unless the mechanism has
    `SecurityProperties(require_layer=True)`.
    """


class LMTP(SMTP, smtplib.LMTP):
    """smtplib's `LMTP`, whose login may bring a layer; the service of its mechanisms is `lmtp`."""
