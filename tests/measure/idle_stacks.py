"""What stands over an idle connection: plain asyncio, TLS and anyio, and each shell with a layer.

Both ends of a `Stack` are here. A server echoes; a client sends one message and waits until it is
back, so that both directions have worked. Logins are real, by LDAP's bind.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from anyio import EndOfStream, connect_tcp, create_tcp_listener
from anyio.abc import AnyByteStream, SocketAttribute, SocketStream, TaskGroup

from saslwrap.anyio import SASLListener, authenticate
from saslwrap.asyncio import authenticate_streams, start_sasl, start_server
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing.pairs import HOST, mechanism_pair

__all__ = ["STACKS", "Plan", "Stack"]

ADDRESS: Final = "127.0.0.1"
MESSAGE: Final = b"are you there? " * 10


@dataclass(frozen=True)
class Plan:
    """What the ends of a connection have to know.

    :param protection: of the layer, one of `saslwrap.testing.PROTECTIONS`
    :param certificate: for TLS, in PEM
    :param key: of the certificate
    """

    protection: str
    certificate: Path
    key: Path

    def client_half(self) -> Exchange:
        """Make the client's half of a login."""
        return LDAPBind(mechanism_pair(self.protection).client)

    def server_half(self) -> Exchange:
        """Make the server's half of a login."""
        server = mechanism_pair(self.protection).server
        return LDAPBindServer({server.name: lambda: server})


class Stack(ABC):
    """Both ends of a connection; a process uses one of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan: Final = plan

    @abstractmethod
    async def serve(self, tasks: TaskGroup) -> int:
        """Echo on a port from now on, and give the port."""

    @abstractmethod
    async def connect(self, port: int) -> Callable[[], object]:
        """Connect and have a message echoed; give what closes the connection, and keeps it."""


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Ask(asyncio.Protocol):
    """Sends a message, and tells when it came back."""

    def __init__(self) -> None:
        self.echoed: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self._missing = len(MESSAGE)

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if not self._missing and self.echoed:
            self.echoed.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.echoed:
            self.echoed.set_exception(exc or EOFError("the server ended the connection"))


class Plain(Stack):
    """asyncio's transports and protocols over TCP: what all else is held against."""

    client_tls: ssl.SSLContext | None = None
    server_tls: ssl.SSLContext | None = None

    def at_client(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Give what the client's transport gets, for `protocol` to be above."""
        return protocol

    def at_server(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Give what the server's transport gets, for `protocol` to be above."""
        return protocol

    async def serve(self, tasks: TaskGroup) -> int:
        """Let `Echo` serve."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self.at_server(Echo()), ADDRESS, ssl=self.server_tls
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def connect(self, port: int) -> Callable[[], object]:
        """Let `Ask` ask."""
        protocol = Ask()
        await asyncio.get_running_loop().create_connection(
            lambda: self.at_client(protocol),
            ADDRESS,
            port,
            ssl=self.client_tls,
            server_hostname=HOST if self.client_tls else None,
        )
        assert protocol.echoed
        await protocol.echoed
        protocol.echoed = None
        return protocol.transport.abort


class TLS(Plain):
    """asyncio's TLS: one context for all the connections of a process."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.client_tls = ssl.create_default_context(cafile=plan.certificate)
        self.server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server_tls.load_cert_chain(plan.certificate, plan.key)


class LogIn(asyncio.Protocol):
    """Runs a login, then leaves the connection to another protocol, under the layer."""

    def __init__(self, exchange: Exchange, protocol: asyncio.Protocol) -> None:
        self._exchange = exchange
        self._protocol = protocol

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._exchange.receive_data(data)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def _go_on(self) -> None:
        while not isinstance(event := self._exchange.advance(), NeedData):
            match event:
                case Send(data):
                    self._transport.write(data)
                case Step():
                    self._exchange.step()
                case Done():
                    self._leave()
                    return

    def _leave(self) -> None:
        context, received = self._exchange.context, self._exchange.trailing_data
        assert context is not None
        sealed = start_sasl(self._transport, self._protocol, context, received=received)
        self._protocol.connection_made(sealed)


class Sealed(Plain):
    """The asyncio shell: `start_sasl`, after a login."""

    def at_client(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        return LogIn(self.plan.client_half(), protocol)

    def at_server(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        return LogIn(self.plan.server_half(), protocol)


class PlainStreams(Stack):
    """asyncio's streams over TCP."""

    async def serve(self, tasks: TaskGroup) -> int:
        """Serve with a task for each connection."""
        self._server = await self.start_server()
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start_server(self) -> asyncio.Server:
        """Listen."""
        return await asyncio.start_server(self.echo, ADDRESS)

    async def open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection(ADDRESS, port)

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send back what comes, until the end."""
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connect(self, port: int) -> Callable[[], object]:
        """Ask, over a pair of streams that are both kept."""
        reader, writer = await self.open(port)
        writer.write(MESSAGE)
        await reader.readexactly(len(MESSAGE))

        def close() -> None:
            reader.feed_eof()
            writer.transport.abort()

        return close


class SealedStreams(PlainStreams):
    """The asyncio shell's streams."""

    async def start_server(self) -> asyncio.Server:
        return await start_server(self.echo, ADDRESS, make_exchange=self.plan.server_half)

    async def open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await super().open(port)
        return await authenticate_streams(reader, writer, self.plan.client_half())


class PlainAnyio(Stack):
    """anyio's TCP streams, on asyncio."""

    def listener(self, below: Any) -> Any:
        """Give what accepts the connections."""
        return below

    async def log_in(self, stream: AnyByteStream) -> AnyByteStream:
        """Give the stream to ask over."""
        return stream

    async def serve(self, tasks: TaskGroup) -> int:
        """Serve with a task for each connection."""
        below = await create_tcp_listener(local_host=ADDRESS)
        tasks.start_soon(self.listener(below).serve, self.echo)
        return below.extra(SocketAttribute.local_port)

    async def echo(self, stream: AnyByteStream) -> None:
        """Send back what comes, until the end."""
        async with stream:
            try:
                while True:
                    await stream.send(await stream.receive())
            except EndOfStream:
                return

    async def connect(self, port: int) -> Callable[[], object]:
        """Ask, over a stream that is kept."""
        tcp = await connect_tcp(ADDRESS, port)
        stream = await self.log_in(tcp)
        await stream.send(MESSAGE)
        missing = len(MESSAGE)
        while missing:
            missing -= len(await stream.receive())
        return partial(_shut_down, tcp, stream)


def _shut_down(tcp: SocketStream, *kept: object) -> None:
    tcp.extra(SocketAttribute.raw_socket).shutdown(socket.SHUT_RDWR)


class SealedAnyio(PlainAnyio):
    """The anyio shell."""

    def listener(self, below: Any) -> Any:
        return SASLListener(below, self.plan.server_half)

    async def log_in(self, stream: AnyByteStream) -> AnyByteStream:
        return await authenticate(stream, self.plan.client_half())


#: By name; the first is what the others are held against.
STACKS: Final[Mapping[str, Callable[[Plan], Stack]]] = {
    "plain asyncio": Plain,
    "asyncio TLS": TLS,
    "sealed asyncio": Sealed,
    "plain streams": PlainStreams,
    "sealed streams": SealedStreams,
    "plain anyio": PlainAnyio,
    "sealed anyio": SealedAnyio,
}
