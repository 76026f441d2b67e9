"""aioimaplib under a security layer.

    client = aioimaplib.IMAP4("mail.example.com")
    await client.wait_hello_from_server()
    await authenticate(client, DigestMD5Client("alice", "s3cret", service="imap", host=...))
    await client.select()

No private attribute is touched. The client's `protocol` has a `transport`, to which it writes; it
is replaced. What comes from the layer goes to the protocol's `data_received`, through a
`_Delivery`, for aioimaplib does not tell a waiting command that its connection is gone: it would
wait for its time-out, and one in IDLE for half an hour. The protocol's `send` is watched for what a
layer says that has just failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from saslwrap.asyncio import authenticate_transport
from saslwrap.clients._library import require
from saslwrap.clients._login import told_as
from saslwrap.errors import ProtocolError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.imap import IMAPAuthenticate

__all__ = ["authenticate"]

_LOST: Final = "the connection was lost"


async def authenticate(client: Any, mechanism: ClientMechanism) -> None:
    """Log in, and go on under the layer that this brings.

    The capabilities are asked for again. After a login that was refused in good form the client is
    in clear as before, and another one may follow; after any other error it is closed, and in the
    state LOGOUT. So it is when the layer fails later: commands that wait then end with the result
    KO and the reason as their last line, and `conn_lost_cb` gets the `SASLError`. A command that is
    sent in that very turn of the loop raises an `aioimaplib.Abort`.

    :param client: an `aioimaplib.IMAP4` or `IMAP4_SSL` that has heard the server's hello
    :param mechanism: a new one, of the service `imap`; a mechanism is used once
    :raises aioimaplib.Error: the login was refused, or policy and offer do not meet; its cause is
        an `AuthenticationError` or a `NegotiationError`
    :raises aioimaplib.Abort: the connection broke, or the server broke the protocol; its cause is
        a `SASLError` that is a `ConnectionError`, or another `OSError`
    :raises TimeoutError: the login took longer than the client's `timeout`
    :raises UsageError: the client is not connected, is logged in already, or has commands under way
    :raises MechanismUnavailableError: aioimaplib is missing, or no 2.0; or what the mechanism needs
    """
    require("aioimaplib", "2.0", "2.1")
    from aioimaplib import aioimaplib

    if not isinstance(client, aioimaplib.IMAP4):
        raise UsageError("client takes an aioimaplib.IMAP4")
    protocol = client.protocol
    async with asyncio.timeout(client.timeout):
        with told_as(aioimaplib.Error, aioimaplib.Abort):
            async with protocol.state_condition:
                await _log_in(protocol, mechanism)
                protocol.state_condition.notify_all()


async def _log_in(protocol: Any, mechanism: ClientMechanism) -> None:
    from aioimaplib import aioimaplib

    _check_state(protocol)
    login = IMAPAuthenticate(
        mechanism, tag=protocol.new_tag(), initial_response="SASL-IR" in protocol.capabilities
    )
    delivery = _Delivery(protocol)
    received, protocol.incomplete_line = protocol.incomplete_line, b""
    protocol.state = "STARTED"  # in which aioimaplib lets no other command out, in clear
    try:
        if protocol.current_command is not None:  # its rest would be taken from under the layer
            raise ProtocolError("the server began a response before the login and did not end it")
        protocol.transport = await authenticate_transport(
            protocol.transport, delivery, login, received=received
        )
        protocol.send = partial(_send, protocol.send)
        protocol.state, protocol.capabilities = "AUTH", set()
        await protocol.capability()
    except BaseException as error:
        if login.leaves_usable(error):
            protocol.state = "NONAUTH"
        else:
            protocol.state = "LOGOUT"
            protocol.transport.abort()
        if delivery.failure is not None and isinstance(error, aioimaplib.AioImapException):
            raise delivery.failure from None  # of which aioimaplib's error knows nothing
        raise


def _send(send: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Send a command, where the layer may have failed and the protocol has not heard of it yet."""
    from aioimaplib import aioimaplib

    try:
        with told_as(aioimaplib.Error, aioimaplib.Abort):
            send(*arguments, **options)
    finally:
        del arguments, options  # a traceback would show them


def _check_state(protocol: Any) -> None:
    if protocol.state != "NONAUTH":
        raise UsageError(
            f"a login starts in the state NONAUTH, and this client is in {protocol.state}: wait "
            "for the server's hello, and log in once"
        )
    if protocol.pending_sync_command or protocol.pending_async_commands:
        raise UsageError("commands are under way; wait for them before the login")


class _Delivery(asyncio.Protocol):
    """Stands before aioimaplib's protocol, and lets nobody wait for a connection that is gone."""

    def __init__(self, protocol: Any) -> None:
        self._protocol: Final = protocol
        self.failure: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        from aioimaplib.aioimaplib import STOP_WAIT_SERVER_PUSH

        self.failure = exc or ConnectionResetError(_LOST)
        protocol, reason = self._protocol, (str(exc) if exc else _LOST).encode()
        waiting = [*protocol.pending_async_commands.values(), protocol.pending_sync_command]
        protocol.state, protocol.pending_sync_command = "LOGOUT", None
        protocol.pending_async_commands.clear()
        for command in filter(None, waiting):
            command.close(reason, "KO")
        protocol.idle_queue.put_nowait(STOP_WAIT_SERVER_PUSH)
        protocol.connection_lost(exc)
