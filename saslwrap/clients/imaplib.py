"""The standard library's imaplib under a security layer: its `IMAP4`, with one more method.

    with IMAP4("mail.example.com") as client:
        client.authenticate_sasl(DigestMD5Client("alice", "s3cret", service="imap", host=...))
        client.select()

imaplib says which of its methods a subclass may replace, for another transport: `open`, `read`,
`readline`, `send` and `shutdown`. After the login `sock` is a `SASLSocket`, so whatever writes to
it is sealed. Reading does not go through imaplib's own file, which keeps what it has read ahead:
that may be the layer's first frames.

What came in clear is not believed under the layer: capabilities are asked for again, and untagged
responses of before are dropped.
"""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

from saslwrap.clients._input import Input
from saslwrap.clients._login import closed_by_failure, no_tls_now, told_as
from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.imap import IMAPAuthenticate
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    import socket

__all__ = ["IMAP4", "IMAP4_SSL"]

#: The longest line of an answer, in octets: imaplib's own limit.
_LINE_LIMIT: Final = 1_000_000


class IMAP4(imaplib.IMAP4):
    """imaplib's `IMAP4`, whose login may bring a layer.

    A failure of the layer is imaplib's `abort`, with ours in its chain: imaplib makes some of its
    errors anew, so that ours is the cause of the one before. So is the end of the connection. The
    client is then closed, in the state LOGOUT, and refuses further commands.
    """

    sock: socket.socket
    state: str
    tagnum: int
    capabilities: tuple[str, ...]

    def authenticate_sasl(self, mechanism: ClientMechanism) -> tuple[str, list[Any]]:
        """Log in, and go on under the layer that this brings; returns as `authenticate` does.

        The capabilities are asked for again. After a login that was refused in good form the client
        is in clear as before, and another one may follow; after any other error it is closed.

        :param mechanism: a new one, of the service `imap`; a mechanism is used once
        :raises imaplib.IMAP4.error: the login was refused, or policy and offer do not meet; its
            cause is an `AuthenticationError` or a `NegotiationError`
        :raises imaplib.IMAP4.abort: the connection broke, or the server broke the protocol; its
            cause is a `SASLError` that is a `ConnectionError`, or another `OSError`
        :raises UsageError: the client is logged in already, or is not connected
        :raises MechanismUnavailableError: what the mechanism needs is not installed
        """
        if self.state != "NONAUTH":
            raise UsageError(
                f"a login starts in the state NONAUTH, and this client is in {self.state}: log in "
                "once, on a new connection"
            )
        login = IMAPAuthenticate(
            mechanism, tag=self._take_tag(), initial_response="SASL-IR" in self.capabilities
        )
        with told_as(self.error, self.abort), self._kept_or_closed(login):
            sealed = authenticate_socket(self.sock, login, received=self._source().take())
        self.sock = cast("socket.socket", sealed)
        self.state = "AUTH"
        self.untagged_responses.clear()
        with closed_by_failure(login, self._end):
            self._ask_capabilities()
        return "OK", [login.text.encode()]

    def _take_tag(self) -> str:
        prefix = cast("bytes", self.tagpre).decode()  # typeshed takes it for a str
        tag = f"{prefix}{self.tagnum}"
        self.tagnum += 1
        return tag

    def _ask_capabilities(self) -> None:
        status, data = self.capability()
        if status != "OK" or not data[-1]:
            raise self.error("the server did not say under the layer what it can do")
        self.capabilities = tuple(data[-1].decode("ascii", "replace").upper().split())

    @contextmanager
    def _kept_or_closed(self, login: IMAPAuthenticate) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if login.leaves_usable(error):
                self._input = Input(self.sock, login.trailing_data)
            else:
                self._end()
            raise

    # what imaplib lets a subclass replace

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connect, as imaplib's; once only.

        :raises UsageError: this client was logged in: its next commands would go out in clear
        """
        if isinstance(getattr(self, "sock", None), SASLSocket):
            raise UsageError("a client that was logged in is not opened again: make a new one")
        super().open(host, port, timeout)
        self._input = Input(self.sock)

    def read(self, size: int) -> bytes:
        """Read `size` octets."""
        with self._failure_explained():
            return self._source().read(size)

    def readline(self) -> bytes:
        """Read a line."""
        with self._failure_explained():
            line = self._source().readline(_LINE_LIMIT + 1)
        if not line:
            self._end()  # imaplib says so, but would send again
        if len(line) > _LINE_LIMIT:
            self._end()
            raise self.error(f"the server sent a line over {_LINE_LIMIT} octets")
        return line

    def send(self, data: Any) -> None:
        """Send octets."""
        try:
            with self._failure_explained():
                super().send(data)
        finally:
            data = b""  # no traceback is to show it

    def shutdown(self) -> None:
        """Close; again, it does nothing."""
        with suppress(OSError):
            super().shutdown()

    def starttls(self, ssl_context: Any = None) -> Any:
        """Put TLS below, as imaplib's; before the login.

        :raises UsageError: the client is logged in
        """
        if isinstance(self.sock, SASLSocket):
            raise no_tls_now("STARTTLS")
        return super().starttls(ssl_context)

    def _source(self) -> Input:
        if self._input.sock is not self.sock:  # TLS or a layer is below now
            if self._input.take():
                self._end()
                raise self.abort("the server sent more, in clear, behind its answer to STARTTLS")
            self._input = Input(self.sock)
        return self._input

    @contextmanager
    def _failure_explained(self) -> Iterator[None]:
        try:
            yield
        except UsageError:
            raise
        except (SASLError, ConnectionError) as error:
            self._end()
            raise self.abort(str(error)) from error

    def _end(self) -> None:
        self.state = "LOGOUT"
        self.shutdown()


class IMAP4_SSL(IMAP4, imaplib.IMAP4_SSL):  # type: ignore[misc] # noqa: N801 - by its default port
    """imaplib's `IMAP4_SSL`, whose login may bring a layer.

    Over TLS no layer is asked for, unless the mechanism has
    `SecurityProperties(require_layer=True)`.
    """
