"""A connection as each shell of the library has it, in its event loop, with one face for all."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Self, cast

from anyio import BrokenResourceError, EndOfStream, to_thread
from anyio.abc import SocketStream

from saslwrap import ChannelInfo, SASLError, SecurityContext
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.asyncio import SASLTransport, authenticate_streams, start_sasl
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    from anyio.abc import ByteStream

PATIENCE = 15.0
"""Seconds that one call of a conversation may take."""

CHUNK = 65536


class Talk(ABC):
    """A connection as its event loop sees it."""

    @classmethod
    @abstractmethod
    async def over(cls, sock: socket.socket) -> Self:
        """Take a connected socket."""

    @property
    @abstractmethod
    def context(self) -> SecurityContext | None: ...

    @abstractmethod
    async def authenticate(self, exchange: Exchange) -> None: ...

    @abstractmethod
    async def send(self, data: bytes) -> None: ...

    @abstractmethod
    async def receive(self) -> bytes: ...

    @abstractmethod
    async def send_eof(self) -> None: ...

    @abstractmethod
    async def aclose(self) -> None: ...


class AnyioTalk(Talk):
    """`saslwrap.anyio`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        return cls(await SocketStream.from_socket(sock))

    @property
    def context(self) -> SecurityContext | None:
        return self._stream.extra(SASLAttribute.context, None)

    async def authenticate(self, exchange: Exchange) -> None:
        self._stream = await authenticate(self._stream, exchange)

    async def send(self, data: bytes) -> None:
        with _saslerror():
            await self._stream.send(data)

    async def receive(self) -> bytes:
        with _saslerror():
            try:
                return await self._stream.receive()
            except EndOfStream:
                return b""

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _saslerror() -> Iterator[None]:
    """Raise what the other shells raise."""
    try:
        yield
    except BrokenResourceError as error:
        if isinstance(error.__cause__, SASLError):
            raise error.__cause__ from None
        raise


class StreamsTalk(Talk):
    """`saslwrap.asyncio`, reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        return cls(*await asyncio.open_connection(sock=sock))

    @property
    def context(self) -> SecurityContext | None:
        context: SecurityContext | None = self._writer.get_extra_info("sasl")
        return context

    async def authenticate(self, exchange: Exchange) -> None:
        self._reader, self._writer = await authenticate_streams(
            self._reader, self._writer, exchange
        )

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(CHUNK)

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(SASLError, OSError):
            await self._writer.wait_closed()


class ProtocolTalk(asyncio.Protocol, Talk):
    """`start_sasl`: a protocol turns the login's crank in its callbacks, then upgrades itself.

    It lets nothing queue in the transport, so that it learns when its success has gone out: only
    then may the layer start.
    """

    def __init__(self) -> None:
        self._login: Exchange | None = None
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        _, protocol = await asyncio.get_running_loop().create_connection(cls, sock=sock)
        return protocol

    @property
    def context(self) -> SecurityContext | None:
        context: SecurityContext | None = self.transport.get_extra_info("sasl")
        return context

    async def authenticate(self, exchange: Exchange) -> None:
        exchange.bind_channel(ChannelInfo())
        exchange.receive_data(self._take())
        self._login = exchange
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with ExitStack() as stack:
            if isinstance(self.transport, SASLTransport):
                stack.enter_context(self.transport.one_by_one())
            self._advance(exchange)
            await self._outcome

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        await self._writable.wait()

    async def receive(self) -> bytes:
        while not self._received and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._received and self._error is not None:
            raise self._error
        return self._take()

    async def send_eof(self) -> None:
        self.transport.write_eof()

    async def aclose(self) -> None:
        self.transport.close()
        await self._lost

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        if self._login is None:
            self._received += data
            self._news.set()
        else:
            self._login.receive_data(data)
            self._advance(self._login)

    def eof_received(self) -> bool:
        self._ended = True
        self._news.set()
        if self._login is not None:
            self._login.receive_eof()
            self._advance(self._login)
        return True  # we may still send

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, exc
        self._news.set()
        self._writable.set()
        if self._login is not None:
            self._login.receive_eof()
            self._advance(self._login)
        self._lost.set_result(None)  # which fails if it is the second time

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._login is not None:
            self._advance(self._login)

    def _take(self) -> bytes:
        data = bytes(self._received)
        self._received.clear()
        return data

    def _advance(self, exchange: Exchange) -> None:
        try:
            while not self._outcome.done():
                match exchange.advance():
                    case Send(data):
                        self.transport.write(data)
                    case Step():
                        exchange.step()
                    case NeedData():
                        return self._read_on()
                    case Done():
                        return self._switch(exchange)
        except Exception as error:
            self._login = None
            if transport_survives(error):
                self._received += exchange.trailing_data
            else:
                self.transport.abort()
            self._outcome.set_exception(error)

    def _read_on(self) -> None:
        if isinstance(self.transport, SASLTransport):  # it pauses after we return from a frame
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def _switch(self, exchange: Exchange) -> None:
        if not self._writable.is_set():
            return  # `resume_writing` comes back here
        context, rest = exchange.context, exchange.trailing_data
        self._login = None
        if context is None:
            self._received += rest
        elif isinstance(self.transport, SASLTransport):
            self.transport.rebind(context, trailing_data=rest)
        else:
            self.transport = start_sasl(self.transport, self, context, received=rest)
        self._outcome.set_result(None)


class SocketTalk(Talk):
    """`saslwrap.sync`, in worker threads: one reads while another writes."""

    def __init__(self, sock: socket.socket | SASLSocket) -> None:
        self._sock = sock
        self._trailing = b""

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        sock.settimeout(PATIENCE)
        return cls(sock)

    @property
    def context(self) -> SecurityContext | None:
        return self._sock.context if isinstance(self._sock, SASLSocket) else None

    async def authenticate(self, exchange: Exchange) -> None:
        self._sock = await to_thread.run_sync(authenticate_socket, self._sock, exchange)

    async def send(self, data: bytes) -> None:
        await to_thread.run_sync(self._sock.sendall, data)

    async def receive(self) -> bytes:
        return await to_thread.run_sync(self._sock.recv, CHUNK)

    async def send_eof(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._sock.close()
