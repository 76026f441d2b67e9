"""Every shell behind one face, sealed or plain, so that one body of tests holds for all of them.

A `Shell` makes an `End` of a connected socket: over a finished login's context, over none (then it
is what the shell's library does over plain TCP), or by a login of its own. An `End` that breaks
raises `BrokenError`, with the `SASLError` behind it, if there is one.

At the other end of a connection stands another `End`, or a `Hand`, which does by hand, and in
another thread, what no shell would.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import anyio.abc
import pytest

from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.asyncio import SASLTransport, authenticate_streams, start_sasl, start_sasl_streams
from saslwrap.context import SecurityContext
from saslwrap.errors import SASLError
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.layer import SecurityLayer
from saslwrap.sync import SASLSocket, authenticate_socket
from tests.support import reset_at_close

T = TypeVar("T")

#: Seconds after which a test gives up.
PATIENCE = 20.0


class BrokenError(Exception):
    """The connection broke, or the shell says that it is closed."""

    def __init__(self, cause: BaseException | None) -> None:
        super().__init__(repr(cause))
        self.cause = cause if isinstance(cause, SASLError) else None


@contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except SASLError as error:
        raise BrokenError(error) from None
    except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise BrokenError(error.__cause__) from None
    except OSError as error:
        raise BrokenError(error) from None


class End(ABC):
    """One end of a connection, as an application has it."""

    async def send(self, data: bytes) -> None:
        """Send; wait where the shell makes its user wait."""
        with anyio.fail_after(PATIENCE), _broken():
            await self._send(data)

    async def receive(self) -> bytes:
        """Receive some octets, none at the end."""
        with anyio.fail_after(PATIENCE), _broken():
            return await self._receive()

    async def send_eof(self) -> None:
        """End the sending direction."""
        with _broken():
            await self._send_eof()

    @abstractmethod
    async def _send(self, data: bytes) -> None: ...

    @abstractmethod
    async def _receive(self) -> bytes: ...

    @abstractmethod
    async def _send_eof(self) -> None: ...

    @abstractmethod
    async def close(self) -> None:
        """Close, after what was sent."""

    @abstractmethod
    async def log_in(self, exchange: Exchange) -> None:
        """Log in under the layer that is in force."""

    @property
    @abstractmethod
    def context(self) -> SecurityContext | None:
        """The security context in force."""


class Shell(ABC):
    """Makes ends of connected sockets. It owns a socket that it was given."""

    @abstractmethod
    async def wrap(
        self, sock: socket.socket, context: SecurityContext | None, received: bytes = b""
    ) -> End:
        """Make an end over a finished login's context, over plain TCP without."""

    @abstractmethod
    async def authenticated(self, sock: socket.socket, exchange: Exchange) -> End:
        """Make an end by a login over the socket."""


# anyio


class AnyioEnd(End):
    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream

    async def _send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def _receive(self) -> bytes:
        try:
            return await self.stream.receive()
        except anyio.EndOfStream:
            return b""

    async def _send_eof(self) -> None:
        await self.stream.send_eof()

    async def close(self) -> None:
        await self.stream.aclose()

    async def log_in(self, exchange: Exchange) -> None:
        assert await authenticate(self.stream, exchange) is self.stream

    @property
    def context(self) -> SecurityContext | None:
        return self.stream.extra(SASLAttribute.context)


class AnyioShell(Shell):
    async def wrap(
        self, sock: socket.socket, context: SecurityContext | None, received: bytes = b""
    ) -> End:
        stream = await anyio.abc.SocketStream.from_socket(sock)
        if context is None:
            return AnyioEnd(stream)
        return AnyioEnd(SASLStream(stream, context, received=received))

    async def authenticated(self, sock: socket.socket, exchange: Exchange) -> End:
        stream = await anyio.abc.SocketStream.from_socket(sock)
        return AnyioEnd(await authenticate(stream, exchange))


# asyncio's streams


class StreamsEnd(End):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def _send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def _receive(self) -> bytes:
        return await self.reader.read(65536)

    async def _send_eof(self) -> None:
        self.writer.write_eof()

    async def close(self) -> None:
        self.writer.close()

    async def log_in(self, exchange: Exchange) -> None:
        again = await authenticate_streams(self.reader, self.writer, exchange)
        assert again == (self.reader, self.writer)

    @property
    def context(self) -> SecurityContext | None:
        context: SecurityContext | None = self.writer.get_extra_info("sasl")
        return context


class StreamsShell(Shell):
    async def wrap(
        self, sock: socket.socket, context: SecurityContext | None, received: bytes = b""
    ) -> End:
        streams = await asyncio.open_connection(sock=sock)
        if context is not None:
            streams = await start_sasl_streams(*streams, context, received=received)
        return StreamsEnd(*streams)

    async def authenticated(self, sock: socket.socket, exchange: Exchange) -> End:
        streams = await asyncio.open_connection(sock=sock)
        return StreamsEnd(*await authenticate_streams(*streams, exchange))


# asyncio's protocols


class ProtocolEnd(End):
    """An application that takes one chunk at a time, and is its transport's protocol too."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._over: Callable[[], bytes] | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        self._over = bytes
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        def over() -> bytes:
            raise exc or ConnectionAbortedError("closed on our side")

        if exc is not None or self._over is None:
            self._over = over
        self.transport = None
        self._news.set()
        self._writable.set()

    def take(self, data: bytes) -> None:
        assert self.transport is not None
        self._chunks.append(data)
        self.transport.pause_reading()
        self._news.set()

    async def _send(self, data: bytes) -> None:
        if self.transport is None:
            assert self._over is not None
            self._over()
            raise ConnectionAbortedError("closed on our side")
        self.transport.write(data)
        await self._writable.wait()

    async def _receive(self) -> bytes:
        while not self._chunks:
            if self._over is not None:
                return self._over()
            assert self.transport is not None
            self.transport.resume_reading()
            self._news.clear()
            await self._news.wait()
        return self._chunks.popleft()

    async def _send_eof(self) -> None:
        assert self.transport is not None
        self.transport.write_eof()

    async def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    async def log_in(self, exchange: Exchange) -> None:
        transport = self.transport
        assert isinstance(transport, SASLTransport)
        with transport.one_by_one():
            try:
                await self.drive(exchange)
            except BaseException as error:
                if not transport_survives(error):
                    transport.abort()
                raise
            if exchange.context is not None:
                transport.rebind(exchange.context, trailing_data=self.take_back(exchange))

    async def drive(self, exchange: Exchange) -> None:
        """Log in as an author of a protocol would."""
        while not isinstance(event := exchange.advance(), Done):
            match event:
                case Send(data):
                    await self._send(data)
                case Step():
                    exchange.step()
                case NeedData():
                    if data := await self._receive():
                        exchange.receive_data(data)
                    else:
                        exchange.receive_eof()

    def take_back(self, exchange: Exchange) -> bytes:
        """Take what was read past the login's end."""
        data = exchange.trailing_data + b"".join(self._chunks)
        self._chunks.clear()
        return data

    @property
    def context(self) -> SecurityContext | None:
        assert self.transport is not None
        context: SecurityContext | None = self.transport.get_extra_info("sasl")
        return context


class PlainProtocolEnd(ProtocolEnd, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.take(data)


class BufferedProtocolEnd(ProtocolEnd, asyncio.BufferedProtocol):
    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray(10_000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.take(bytes(self._buffer[:nbytes]))


class ProtocolShell(Shell):
    def __init__(self, kind: type[PlainProtocolEnd | BufferedProtocolEnd]) -> None:
        self.kind = kind

    async def _connect(self, sock: socket.socket) -> PlainProtocolEnd | BufferedProtocolEnd:
        loop = asyncio.get_running_loop()
        protocol = self.kind()
        await loop.create_connection(lambda: protocol, sock=sock)
        return protocol

    def _upgrade(
        self,
        end: PlainProtocolEnd | BufferedProtocolEnd,
        context: SecurityContext,
        received: bytes,
    ) -> End:
        assert end.transport is not None
        end.transport = start_sasl(end.transport, end, context, received=received)
        return end

    async def wrap(
        self, sock: socket.socket, context: SecurityContext | None, received: bytes = b""
    ) -> End:
        end = await self._connect(sock)
        return end if context is None else self._upgrade(end, context, received)

    async def authenticated(self, sock: socket.socket, exchange: Exchange) -> End:
        end = await self._connect(sock)
        await end.drive(exchange)
        if exchange.context is None:
            return end
        return self._upgrade(end, exchange.context, end.take_back(exchange))


# blocking sockets, in threads


async def exactly(end: End, count: int) -> bytes:
    """Receive so many octets."""
    data = bytearray()
    while len(data) < count:
        chunk = await end.receive()
        assert chunk, f"the end came after {len(data)} octets"
        data += chunk
    return bytes(data)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call that blocks; its socket gives up in time."""
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


class SocketEnd(End):
    def __init__(self, sock: SASLSocket | socket.socket) -> None:
        self.sock = sock

    async def _send(self, data: bytes) -> None:
        await in_thread(partial(self.sock.sendall, data))

    async def _receive(self) -> bytes:
        return await in_thread(partial(self.sock.recv, 65536))

    async def _send_eof(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        self.sock.close()

    async def log_in(self, exchange: Exchange) -> None:
        assert await in_thread(partial(authenticate_socket, self.sock, exchange)) is self.sock

    @property
    def context(self) -> SecurityContext | None:
        assert isinstance(self.sock, SASLSocket)
        return self.sock.context


class SocketShell(Shell):
    async def wrap(
        self, sock: socket.socket, context: SecurityContext | None, received: bytes = b""
    ) -> End:
        sock.settimeout(PATIENCE)
        if context is None:
            return SocketEnd(sock)
        return SocketEnd(SASLSocket(sock, context, received=received))

    async def authenticated(self, sock: socket.socket, exchange: Exchange) -> End:
        sock.settimeout(PATIENCE)
        return SocketEnd(await in_thread(partial(authenticate_socket, sock, exchange)))


# the other end, by hand


class Hand:
    """A socket and a layer; each call blocks, and is for a thread."""

    def __init__(self, sock: socket.socket, context: SecurityContext | None = None) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        if context is not None:
            self.install(context)

    def install(self, context: SecurityContext) -> None:
        """Seal with another context from now on."""
        self.layer = SecurityLayer(context)

    def seal(self, *messages: bytes) -> bytes:
        """Give the frames of messages."""
        return b"".join(b"".join(self.layer.send_data(message)) for message in messages)

    def receive(self, count: int) -> bytes:
        """Receive so many octets of plaintext."""
        data = b""
        while len(data) < count:
            if not (piece := self.layer.read(count - len(data))):
                chunk = self.sock.recv(65536)
                assert chunk, f"the end came after {len(data)} octets"
                self.layer.receive_data(chunk)
            data += piece
        return data

    def receive_some(self) -> bytes:
        """Receive what the next frame holds, or the rest of it."""
        while not (data := self.layer.read()):
            chunk = self.sock.recv(65536)
            assert chunk, "the end came"
            self.layer.receive_data(chunk)
        return data

    def wait_for_the_end(self) -> None:
        """Wait until the other end has closed."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass

    def reset(self) -> None:
        """End the connection by a reset."""
        reset_at_close(self.sock)
        self.sock.close()


# all together


@dataclass(frozen=True)
class World:
    """A shell, and the backend that it runs on."""

    backend: tuple[str, dict[str, Any]]
    make_shell: Callable[[], Shell]


_ASYNCIO: tuple[str, dict[str, Any]] = ("asyncio", {})
_UVLOOP: tuple[str, dict[str, Any]] = ("asyncio", {"use_uvloop": True})
_TRIO: tuple[str, dict[str, Any]] = ("trio", {})

_no_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop does not run here"
)

_Kind: TypeAlias = Callable[[], Shell]
_protocol: _Kind = partial(ProtocolShell, PlainProtocolEnd)
_buffered: _Kind = partial(ProtocolShell, BufferedProtocolEnd)

WORLDS = [
    pytest.param(World(_ASYNCIO, AnyioShell), id="anyio-asyncio"),
    pytest.param(World(_UVLOOP, AnyioShell), id="anyio-uvloop", marks=_no_uvloop),
    pytest.param(World(_TRIO, AnyioShell), id="anyio-trio"),
    pytest.param(World(_ASYNCIO, StreamsShell), id="streams-asyncio"),
    pytest.param(World(_UVLOOP, StreamsShell), id="streams-uvloop", marks=_no_uvloop),
    pytest.param(World(_ASYNCIO, _protocol), id="protocol-asyncio"),
    pytest.param(World(_UVLOOP, _protocol), id="protocol-uvloop", marks=_no_uvloop),
    pytest.param(World(_ASYNCIO, _buffered), id="buffered-asyncio"),
    pytest.param(World(_ASYNCIO, SocketShell), id="socket-threads"),
]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Connect two sockets, with small buffers: back-pressure comes soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for sock in (client, server):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 65536)
    return client, server


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def anyio_backend(world: World) -> Any:
    return world.backend


@pytest.fixture
def shell(world: World) -> Shell:
    return world.make_shell()
