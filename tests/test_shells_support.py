"""What the tests of the asyncio shell share: loops, connections, peers, protocols that record."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from saslwrap.asyncio import SASLTransport, start_sasl
from saslwrap.context import SecurityContext
from saslwrap.layer import SecurityLayer
from saslwrap.testing import ContextPair, context_pair
from saslwrap.testing.pairs import HOST
from tests.conftest import TLSContexts
from tests.support import reset_at_close

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Problems: TypeAlias = list[dict[str, Any]]

ADDRESS = "127.0.0.1"

#: Seconds after which a test gives up.
PATIENCE = 20.0

WORDS = {
    "made": "m",
    "data": "d",
    "pause": "p",
    "resume": "r",
    "eof": "e",
    "lost": "l",
}


def _new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


#: Marks of a module whose tests run on both loops; it imports the fixtures `loops` and `problems`.
on_both_loops = [pytest.mark.asyncio, pytest.mark.usefixtures("_asyncio_loop_factory")]


@pytest.fixture(
    name="_asyncio_loop_factory",  # pytest-asyncio's own, which gives None
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(
            _new_uvloop,
            id="uvloop",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("uvloop") is None, reason="uvloop does not run here"
            ),
        ),
    ],
)
def loops(request: pytest.FixtureRequest) -> Any:
    """Run each asyncio test on both loops."""
    return request.param


@pytest_asyncio.fixture(autouse=True)
async def problems() -> AsyncIterator[Problems]:
    """What the loop's exception handler is told; a test takes out what it expects."""
    found: Problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield found
    for transport in _opened:
        with suppress(AttributeError):  # asyncio's own, when it was closed with data queued
            transport.abort()
    await turns()
    _opened.clear()
    _held.clear()
    gc.collect()
    await turns()
    assert not found


async def turns(count: int = 20) -> None:
    """Let the loop turn: what it can do without the network is done then."""
    for _ in range(count):
        await asyncio.sleep(0)


#: What a test has opened: aborted when it ends.
_opened: list[asyncio.WriteTransport] = []

#: Writers that are not collected before, as they complain of being unclosed then.
_held: list[asyncio.StreamWriter] = []


def hold(streams: Streams) -> Streams:
    """Let streams live as long as the test, and end with it."""
    _held.append(streams[1])
    _opened.append(streams[1].transport)
    return streams


def prepare(transport: asyncio.WriteTransport) -> None:
    """Let back-pressure come soon, and let the transport end with the test."""
    _opened.append(transport)
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 65536)


def cut(transport: asyncio.BaseTransport) -> None:
    """End the connection below TLS, without a word of TLS."""
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as sock:
        sock.shutdown(socket.SHUT_WR)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection by a reset."""
    reset_at_close(writer.get_extra_info("socket"))
    writer.transport.abort()


async def stream_pair(
    tls: TLSContexts | None = None, *, held: bool = True
) -> tuple[Streams, Streams]:
    """Connect two ends on the loopback: the client's and the server's streams.

    :param held: whether the client's streams live as long as the test
    """
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda *streams: accepted.set_result(streams), ADDRESS, 0, ssl=tls.server if tls else None
    )
    port = server.sockets[0].getsockname()[1]
    client = await asyncio.open_connection(
        ADDRESS, port, ssl=tls.client if tls else None, server_hostname=HOST if tls else None
    )
    pair = client, hold(await accepted)
    server.close()
    for _, writer in pair:
        prepare(writer.transport)
    if held:
        hold(client)
    return pair


class Peer:
    """The other end: seals and unseals by hand, so that it can do wrong."""

    def __init__(self, streams: Streams, context: SecurityContext) -> None:
        self.reader, self.writer = streams
        self.layer = SecurityLayer(context)

    def seal(self, *messages: bytes) -> bytes:
        """Give the frames of messages, one each at least."""
        return b"".join(b"".join(self.layer.send_data(message)) for message in messages)

    async def send(self, *messages: bytes) -> None:
        """Send messages, in one segment where it can hold them."""
        await self.send_raw(self.seal(*messages))

    async def send_raw(self, data: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, count: int) -> bytes:
        """Receive so many octets of plaintext."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            while len(data) < count:
                if not (piece := self.layer.read(count - len(data))):
                    chunk = await self.reader.read(65536)
                    assert chunk, f"the end came after {len(data)} octets"
                    self.layer.receive_data(chunk)
                data += piece
        return data

    async def receive_some(self) -> bytes:
        """Receive what the next frame holds, or the rest of it."""
        async with asyncio.timeout(PATIENCE):
            while not (data := self.layer.read()):
                self.layer.receive_data(await self.reader.read(65536))
        return data

    async def end(self) -> bytes:
        """What comes until the end: plaintext, of whole frames only."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            while chunk := await self.reader.read(65536):
                self.layer.receive_data(chunk)
        self.layer.receive_eof()
        while piece := self.layer.read():
            data += piece
        return data

    async def close(self) -> None:
        """Close, after what was sent."""
        self.writer.close()
        await self.writer.wait_closed()


class Life:
    """What a protocol lives through, in the words of its grammar."""

    keep_open = False

    def __init__(self) -> None:
        self.events = ""
        self.data = bytearray()
        self.chunks: list[bytes] = []
        self.error: Exception | None = None
        self.on_data: Callable[[], object] = lambda: None
        self.on_eof: Callable[[], object] = lambda: None
        self._changed = asyncio.Event()

    def _note(self, word: str) -> None:
        self.events += WORDS[word]
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition that an event brings about."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_size(self, size: int) -> None:
        """Wait until so many octets have come."""
        await self.until(lambda: len(self.data) >= size)

    async def got(self, data: bytes) -> None:
        """Wait for data, which is all that comes, and nothing else."""
        await self.until(lambda: len(self.data) >= len(data))
        assert self.data == data

    async def lost(self) -> Exception | None:
        """Wait for the end, and hold the life against the grammar."""
        await self.until(lambda: "l" in self.events)
        await turns()
        assert re.fullmatch("d*((p|r)d*)*e?l", self.events), self.events
        assert "pp" not in self.events.replace("d", "")
        return self.error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def eof_received(self) -> bool:
        self._note("eof")
        self.on_eof()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._note("lost")

    def note_data(self, data: bytes) -> None:
        self.data += data
        self.chunks.append(data)
        self._note("data")
        self.on_data()


class Recorder(Life, asyncio.Protocol):
    """Records, as a Protocol."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.note_data(data)


class BufferedRecorder(Life, asyncio.BufferedProtocol):
    """Records, as a BufferedProtocol over a buffer of 1000 octets."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        assert sizehint > 0
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.note_data(bytes(self.buffer[:nbytes]))


AnyRecorder: TypeAlias = Recorder | BufferedRecorder


async def plain(tls: TLSContexts | None = None) -> tuple[asyncio.Transport, Streams]:
    """Connect a transport, whose protocol is a `Recorder`, and the peer's streams."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda *streams: accepted.set_result(streams), ADDRESS, 0, ssl=tls.server if tls else None
    )
    transport, _ = await asyncio.get_running_loop().create_connection(
        Recorder,
        ADDRESS,
        server.sockets[0].getsockname()[1],
        ssl=tls.client if tls else None,
        server_hostname=HOST if tls else None,
    )
    streams = hold(await accepted)
    server.close()
    prepare(transport)
    prepare(streams[1].transport)
    return transport, streams


async def upgraded(
    protocol: AnyRecorder,
    contexts: ContextPair | str = "rc4",
    *,
    tls: TLSContexts | None = None,
    received: bytes = b"",
) -> tuple[SASLTransport, Peer]:
    """Connect, and slide a layer under `protocol`."""
    if isinstance(contexts, str):
        contexts = context_pair(contexts)
    transport, streams = await plain(tls)
    above = start_sasl(transport, protocol, contexts.client, received=received)
    return above, Peer(streams, contexts.server)
