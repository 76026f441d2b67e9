"""aiosmtplib under a security layer.

    client = aiosmtplib.SMTP(hostname="mail.example.com", port=587)
    await client.connect()
    await authenticate(client, DigestMD5Client("alice", "s3cret", service="smtp", host=...))
    await client.send_message(message)

The client has a `protocol`, and both have the `transport`, which its `starttls` replaces; so does
the login. As there, attributes of the protocol have to be known that are private:

    _command_lock       while it is held, no command of another task goes out, in clear
    _buffer             what came in clear and was not asked for: it must not be read under the
                        layer
    _response_pending   whether what comes next is an answer

A client that has begun a login sends nothing but what leads to one until it is logged in, over each
connection anew. Its `Gate` judges what the protocol writes, where a command's turn has come: one
that has waited for the login goes out under the layer, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, cast

from saslwrap.asyncio import authenticate_transport
from saslwrap.clients._library import require
from saslwrap.clients._login import closed_by_failure, told_as
from saslwrap.clients._smtp import NOT_OFFERED, Gate, refusal_code, refuse
from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.smtp import SMTPAuth

__all__ = ["authenticate"]


async def authenticate(client: Any, mechanism: ClientMechanism) -> None:
    """Log in, and go on under the layer that this brings.

    EHLO is said again. After a login that was refused in good form the client is in clear as
    before, and another one may follow; until one succeeds it sends no mail. After any other error
    it is closed. So it is when the layer fails later: what waits for an answer then gets an
    `SMTPServerDisconnected`, whose cause is the `SASLError`.

    :param client: an `aiosmtplib.SMTP` that is connected
    :param mechanism: a new one, of the service `smtp`; a mechanism is used once
    :raises aiosmtplib.SMTPAuthenticationError: the login was refused, or policy and offer do not
        meet; its cause is an `AuthenticationError` or a `NegotiationError`. `code` is the server's;
        535 if it did not refuse, as where it proved nothing
    :raises aiosmtplib.SMTPServerDisconnected: the connection broke, or the server broke the
        protocol; its cause is a `SASLError` that is a `ConnectionError`, or another `OSError`
    :raises aiosmtplib.SMTPTimeoutError: the login took longer than the client's `timeout`
    :raises aiosmtplib.SMTPNotSupported: the server has no AUTH
    :raises aiosmtplib.SMTPHeloError: the server refused EHLO, before the login or under its layer
    :raises UsageError: the client is not connected, or is logged in already
    :raises MechanismUnavailableError: aiosmtplib is missing, or neither 5.1.2 nor a later 5.1; or
        what the mechanism needs
    """
    require("aiosmtplib", "5.1.2", "5.2")
    import aiosmtplib

    if not isinstance(client, aiosmtplib.SMTP) or not client.is_connected:
        raise UsageError("client takes an aiosmtplib.SMTP after its connect()")
    try:
        login = SMTPAuth(mechanism)
    except UsageError:
        _Guard.of(client).gate.begin(client.protocol)  # it sends no mail in clear now
        raise
    try:
        async with asyncio.timeout(client.timeout):
            await _log_in(client, login)
    except TimeoutError as error:
        raise aiosmtplib.SMTPTimeoutError("the login took too long") from error


async def _log_in(client: Any, login: SMTPAuth) -> None:
    from aiosmtplib import SMTPAuthenticationError as Refused
    from aiosmtplib import SMTPHeloError, SMTPNotSupported, SMTPResponse, SMTPServerDisconnected

    def refused(text: str) -> Exception:
        return Refused(refusal_code(login), text)

    protocol, guard = client.protocol, _Guard.of(client)
    close = partial(_close, client, protocol)
    with closed_by_failure(login, close, (SMTPHeloError, SMTPNotSupported, Refused)):
        async with guard.turn_at(protocol):
            if not protocol.is_connected:
                raise SMTPServerDisconnected("the connection was lost before the login")
            guard.gate.begin(protocol)
            await _require_auth(client, protocol)
            with told_as(refused, SMTPServerDisconnected), closed_by_failure(login, close):
                await _seal(protocol, login)
            with closed_by_failure(login, close):
                _check_connection(client, protocol, protocol.transport)
                guard.gate.open(protocol)
                client.transport = protocol.transport
                client.last_ehlo_response = SMTPResponse(250, "")  # and nothing that came in clear
                await _say_ehlo(client, protocol)


async def _require_auth(client: Any, protocol: Any) -> None:
    from aiosmtplib import SMTPNotSupported

    if client.is_ehlo_or_helo_needed or not client.supports_extension("auth"):
        await _say_ehlo(client, protocol)  # also where it remembers another connection's
    if not client.supports_extension("auth"):
        raise SMTPNotSupported(NOT_OFFERED)


async def _say_ehlo(client: Any, protocol: Any) -> None:
    """Ask what the server can do, by the client's `ehlo`, which may be a subclass's with LHLO."""
    transport = protocol.transport
    await client.ehlo()
    _check_connection(client, protocol, transport)


async def _seal(protocol: Any, login: SMTPAuth) -> None:
    received, protocol._buffer[:] = bytes(protocol._buffer), b""
    protocol.transport = await authenticate_transport(
        protocol.transport, protocol, login, received=received
    )


def _check_connection(client: Any, protocol: Any, transport: asyncio.Transport) -> None:
    """See to it that the client has this connection still, or say what it was lost of.

    aiosmtplib tells that nobody who does not wait: what came behind an answer, say.
    """
    from aiosmtplib import SMTPServerDisconnected

    if client.protocol is protocol and protocol.is_connected:
        return
    with _failure_told():
        transport.write(b"")  # a layer that has failed refuses it
    raise SMTPServerDisconnected("the connection was lost during the login")


@contextmanager
def _failure_told() -> Iterator[None]:
    """Tell of a layer that has failed in aiosmtplib's words, which has not heard of it yet."""
    from aiosmtplib import SMTPServerDisconnected

    try:
        yield
    except SASLError as error:
        raise SMTPServerDisconnected(str(error)) from error


def _close(client: Any, protocol: Any) -> None:
    """Close this connection; where the client has another one by now, it was closed for that."""
    if client.protocol is protocol:
        client.close()


class _Guard:
    """Puts a client's gate before what it writes, over this connection and those that follow."""

    def __init__(self, client: Any) -> None:
        self.gate: Final = Gate()
        self._client = client
        self._watched: object = None
        self._turns: Final = set[tuple[object, object]]()
        self._execute_command, self._data = client.execute_command, client.data
        client.execute_command, client.data = self.execute_command, self.data
        self._watch()

    @classmethod
    def of(cls, client: Any) -> _Guard:
        """Give the client's own, for all its logins."""
        client._saslwrap_guard = getattr(client, "_saslwrap_guard", None) or cls(client)
        return cast("_Guard", client._saslwrap_guard)

    @asynccontextmanager
    async def turn_at(self, protocol: Any) -> AsyncIterator[None]:
        """Let other tasks' commands wait, and this one's out."""
        async with protocol._command_lock:
            turn = asyncio.current_task(), protocol
            self._turns.add(turn)
            try:
                yield
            finally:
                self._turns.discard(turn)

    async def execute_command(self, *words: bytes, **options: Any) -> Any:
        protocol = self._watch()
        if (asyncio.current_task(), protocol) in self._turns:
            protocol.write(b" ".join(words) + b"\r\n")
            response = await protocol.read_response()
        else:
            response = await self._execute_command(*words, **options)
        self.gate.hear(protocol, response.code)
        return response

    async def data(self, *arguments: Any, **options: Any) -> Any:
        self._watch()
        return await self._data(*arguments, **options)

    def _watch(self) -> Any:
        protocol = self._client.protocol
        if protocol is not None and protocol is not self._watched:
            self._watched, protocol.write = protocol, partial(self._write, protocol, protocol.write)
        return protocol

    def _write(self, protocol: Any, write: Callable[[bytes], None], data: bytes) -> None:
        try:
            objection = self.gate.judge(protocol, data)
            if objection:
                protocol._response_pending = False  # or what comes unasked is an answer
            refuse(objection)
            with _failure_told():
                write(data)
        finally:
            del data  # a traceback would show it
