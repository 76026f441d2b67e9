"""A follow-up that fails, in however good form, ends the connection, over every shell.

The login before it is done then: the peer speaks under the new layer, and what stood behind its
success in clear was put there by somebody else.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial

import anyio
import pytest
from anyio import ClosedResourceError

import saslwrap.asyncio
from saslwrap import Exchange, NegotiationError, UsageError
from saslwrap.anyio import SASLStream, authenticate
from saslwrap.exchange import Script
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing import memory_stream_pair
from saslwrap.testing.pairs import mechanism_pair

INJECTED = b"INJECTED IN CLEAR\r\n"


class Polite(Exchange):
    """Has nothing to send, and finds that it does not like the peer."""

    def _run(self) -> Script:
        yield from ()
        raise NegotiationError("not like this")

    def _measure(self, buffer: bytearray) -> int | None:
        return None

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Script:
        yield from ()


class Login(LDAPBind):
    def follow_up(self) -> Exchange:
        return Polite(None)


def halves() -> tuple[Login, LDAPBindServer]:
    client, server = mechanism_pair()
    return Login(client), LDAPBindServer({"DIGEST-MD5": lambda: server})


def serve(sock: socket.socket, half: LDAPBindServer) -> None:
    """Be logged in to; the octets in clear go out in one piece with the success."""
    sock.settimeout(20)
    SASLSocket(sock, None).authenticate(half)
    with suppress(OSError):  # the client has closed already
        sock.sendall(INJECTED)


def test_over_a_socket() -> None:
    login, half = halves()
    here, there = socket.socketpair()
    with here, there:
        sealed = SASLSocket(here, None)

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, serve, there, half)
                with pytest.raises(NegotiationError, match="not like this"):
                    await anyio.to_thread.run_sync(authenticate_socket, sealed, login)

        anyio.run(both)
        assert here.fileno() == -1
        with pytest.raises(UsageError, match="closed"):
            sealed.recv(100)


@pytest.mark.anyio
async def test_over_a_stream() -> None:
    login, half = halves()
    here, there = memory_stream_pair()
    stream = SASLStream(here, None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(authenticate, there, half))
        with pytest.raises(NegotiationError, match="not like this"):
            await authenticate(stream, login)
    assert here.closed
    with pytest.raises(ClosedResourceError):
        await stream.receive()


@pytest.mark.asyncio
async def test_over_a_pair_of_asyncio_s_streams() -> None:
    login, half = halves()
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    served = asyncio.create_task(asyncio.to_thread(serve, there, half))
    with pytest.raises(NegotiationError, match="not like this"):
        await saslwrap.asyncio.authenticate_streams(reader, writer, login)
    assert writer.transport.is_closing()
    await served
    there.close()


@pytest.mark.asyncio
async def test_over_a_transport() -> None:
    login, half = halves()
    here, there = socket.socketpair()
    received: list[bytes] = []

    class Application(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.append(data)

    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Application, sock=here)
    served = asyncio.create_task(asyncio.to_thread(serve, there, half))
    with pytest.raises(NegotiationError, match="not like this"):
        await saslwrap.asyncio.authenticate_transport(transport, protocol, login)
    assert transport.is_closing()
    await served
    await asyncio.sleep(0)
    assert received == []
    there.close()
