"""The standard library's smtplib under a security layer: its `SMTP`, with one more method.

    with SMTP("mail.example.com", 587) as client:
        client.authenticate_sasl(DigestMD5Client("alice", "s3cret", service="smtp", host=...))
        client.send_message(message)

smtplib writes to its `sock` and reads from its `file`, which it makes anew where there is none; so
its `starttls` switches, and so does the login. What `file` has read ahead by then answers nothing
that was asked, and is dropped. Under the layer both sides begin anew, with EHLO (RFC 4954 section
4): what the server said in clear that it can do is forgotten.

smtplib's clients may connect again, and are in clear then. One that was logged in sends no mail
until it is again.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from saslwrap.clients._login import closed_by_failure, no_tls_now, told_as
from saslwrap.clients._smtp import IN_CLEAR, LOGGED_IN, NOT_OFFERED, refusal_code
from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.smtp import SMTPAuth
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    import socket

__all__ = ["LMTP", "SMTP", "SMTP_SSL"]


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

    _login_due = False  # before mail goes out: this client was logged in once

    def authenticate_sasl(self, mechanism: ClientMechanism) -> tuple[int, bytes]:
        """Log in, and go on under the layer that this brings; returns as `login` does.

        EHLO is said again. After a login that was refused in good form the client is in clear as
        before, and another one may follow; after any other error it is closed.

        :param mechanism: a new one, of the service `smtp`; a mechanism is used once
        :raises smtplib.SMTPAuthenticationError: the login was refused, or policy and offer do not
            meet; its cause is an `AuthenticationError` or a `NegotiationError`
        :raises smtplib.SMTPServerDisconnected: the connection broke, or the server broke the
            protocol; its cause is a `SASLError` that is a `ConnectionError`, or another `OSError`
        :raises smtplib.SMTPNotSupportedError: the server has no AUTH
        :raises smtplib.SMTPHeloError: the server refused EHLO, before the login or under its layer
        :raises UsageError: the client is logged in already, or is not connected
        :raises MechanismUnavailableError: what the mechanism needs is not installed
        """
        if self.sock is None:
            raise UsageError("the client is not connected: call connect() before the login")
        self._refuse_another_login()
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("auth"):
            raise smtplib.SMTPNotSupportedError(NOT_OFFERED)
        login = SMTPAuth(mechanism)
        refused = partial(_refused, login)
        with (
            told_as(refused, smtplib.SMTPServerDisconnected),
            closed_by_failure(login, self.close),
        ):
            sealed = authenticate_socket(self.sock, login)
        self._begin_anew(sealed)
        return 235, login.text.encode()

    def _begin_anew(self, sealed: SASLSocket) -> None:
        self.file.close()
        self.sock, self.file = cast("Any", sealed), None
        self._login_due = True
        code, text = self.ehlo()
        if code != 250:
            self.close()
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
        if isinstance(self.sock, SASLSocket):
            raise no_tls_now("STARTTLS")
        return super().starttls(*arguments, **options)

    def auth(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """Log in without a layer, as smtplib's, and its `login` through this.

        :raises UsageError: the client is logged in; no password was sent
        """
        self._refuse_another_login()
        answer = super().auth(*arguments, **options)
        self._login_due = False
        return answer

    def mail(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """Begin a mail, as smtplib's.

        :raises UsageError: the client was logged in, has connected anew, and is not logged in
        """
        if self._login_due and self.sock is not None and not isinstance(self.sock, SASLSocket):
            raise UsageError(IN_CLEAR)
        return super().mail(*arguments, **options)

    def send(self, s: Any) -> None:
        """Send octets."""
        with _cause_named():
            super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply."""
        with _cause_named():
            return super().getreply()

    def _refuse_another_login(self) -> None:
        if isinstance(self.sock, SASLSocket):
            raise UsageError(LOGGED_IN)


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
