"""The standard library's poplib under a security layer: its `POP3`, with one more method.

    client = POP3("mail.example.com")
    client.authenticate_sasl(DigestMD5Client("alice", "s3cret", service="pop", host=...))
    client.list()

poplib writes to its `sock` and reads from its `file`, and replaces both when TLS starts; so does
the login. What `file` has read ahead by then answers nothing that was asked, and is dropped.
"""

from __future__ import annotations

import poplib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from saslwrap.clients._login import closed_by_failure, no_tls_now, told_as
from saslwrap.errors import UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.pop3 import POP3Auth
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    import socket

__all__ = ["POP3", "POP3_SSL"]


class POP3(poplib.POP3):
    """poplib's `POP3`, whose login may bring a layer.

    What goes wrong in the layer is a `SASLError` that is a `ConnectionError`, too, where poplib
    raises an `OSError`. The client is then closed.
    """

    sock: socket.socket
    file: BinaryIO

    def authenticate_sasl(self, mechanism: ClientMechanism) -> bytes:
        """Log in, and go on under the layer that this brings; returns the server's words.

        After a login that was refused in good form the client is in clear as before, and another
        one may follow; after any other error it is closed. `capa` asks anew what the server can do.

        :param mechanism: a new one, of the service `pop`; a mechanism is used once
        :raises poplib.error_proto: the login was refused, or policy and offer do not meet; its
            cause is an `AuthenticationError` or a `NegotiationError`
        :raises OSError: the connection broke; it is a `ProtocolError` if the server broke the
            protocol
        :raises UsageError: the client is logged in already, or is closed
        :raises MechanismUnavailableError: what the mechanism needs is not installed
        """
        if self.sock is None or isinstance(self.sock, SASLSocket):
            raise UsageError(
                "the client is logged in already, or closed: log in once, on a new one"
            )
        login = POP3Auth(mechanism)
        with told_as(poplib.error_proto), closed_by_failure(login, self.close):
            sealed = authenticate_socket(self.sock, login)
        self.file.close()
        self.sock, self.file = cast("Any", sealed), sealed.makefile("rb")
        return login.text.encode()

    def stls(self, *arguments: Any, **options: Any) -> bytes:
        """Put TLS below, as poplib's; before the login.

        :raises UsageError: the client is logged in
        """
        if isinstance(self.sock, SASLSocket):
            raise no_tls_now("STLS")
        return super().stls(*arguments, **options)

    def close(self) -> None:
        """Close; again, it does nothing."""
        with suppress(OSError):  # a failure of the layer has closed the socket
            super().close()


class POP3_SSL(POP3, poplib.POP3_SSL):  # type: ignore[misc] # noqa: N801 - the library's name
    """poplib's `POP3_SSL`, whose login may bring a layer.

    Over TLS no layer is asked for, unless the mechanism has
    `SecurityProperties(require_layer=True)`.
    """
