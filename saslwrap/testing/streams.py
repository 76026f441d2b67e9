"""Byte streams in memory, that behave as TCP does, and sealed streams over them.

    client, server = memory_stream_pair()
    client, server = stream_pair("rc4")
    client, server = await authenticated_streams(LDAPBind(...), LDAPBindServer(...))

What a `MemoryStream` keeps of TCP: octets without borders; a limit on what is under way, at which
the sender waits; an end of its own for each direction. What it adds: no clock and no kernel, so a
test on it runs the same way each time.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    ResourceGuard,
)
from anyio.abc import AnyByteStream, ByteStream
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.errors import require_number
from saslwrap.exchange import Exchange
from saslwrap.properties import SecurityProperties
from saslwrap.testing._kinds import both_ends
from saslwrap.testing.pairs import DEFAULT_MAXBUF, MechanismPair, context_pair
from saslwrap.testing.tasks import run_both, succeeded

__all__ = [
    "MemoryStream",
    "StreamPair",
    "authenticated_streams",
    "memory_stream_pair",
    "stream_pair",
]


class _Pipe:
    """One direction: what is under way, and which ends are gone.

    Its reader waits only while it is empty, its writer only while it is full: never both at once,
    so one event serves them.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer: bytearray = bytearray()
        self.ended = False  # the writer sends no more
        self.abandoned = False  # the reader reads no more
        self._event: Event | None = None

    async def wait(self) -> None:
        """Wait until the other end has done something."""
        self._event = Event()
        await self._event.wait()

    def wake(self) -> None:
        """Let the waiting end look again."""
        if self._event is not None:
            self._event.set()

    def put(self, data: memoryview) -> int:
        """Take in as much of `data` as there is room for."""
        room = min(self.capacity - len(self.buffer), len(data))
        self.buffer += data[:room]
        self.wake()
        return room

    def take(self, max_bytes: int) -> bytes:
        """Give out at most `max_bytes`."""
        data = bytes(memoryview(self.buffer)[:max_bytes])
        del self.buffer[:max_bytes]
        self.wake()
        return data


class MemoryStream(ByteStream):
    """One end of a connection in memory; `memory_stream_pair` makes both.

    A call that waits is a checkpoint, and so is one that does not. A `receive` that is cancelled
    has taken nothing; a `send` that is cancelled may have sent a part, as with TCP.
    """

    def __init__(self, inbox: _Pipe, outbox: _Pipe) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._closed = False
        self._sending = ResourceGuard("sending to")
        self._receiving = ResourceGuard("receiving from")

    @property
    def under_way(self) -> int:
        """Octets that were sent and that the peer has not received."""
        return len(self._outbox.buffer)

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._closed

    async def send(self, item: bytes) -> None:
        """Send all of `item`; wait while the peer lets the limit be reached.

        :raises BrokenResourceError: the peer closed
        :raises ClosedResourceError: after `aclose` or `send_eof`
        :raises BusyResourceError: another task is sending
        """
        with self._sending:
            await checkpoint_if_cancelled()
            view = memoryview(item).cast("B")
            sent = self._put(view)
            while sent < len(view):
                await self._outbox.wait()
                sent += self._put(view[sent:])
            await cancel_shielded_checkpoint()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what is there, 1 to `max_bytes` octets of it; wait for the first.

        :raises EndOfStream: the peer closed, or sends no more, and all was received
        :raises ClosedResourceError: after `aclose`
        :raises BusyResourceError: another task is receiving
        :raises UsageError: `max_bytes` is no number, or below 1
        """
        require_number("max_bytes", max_bytes, 1)
        with self._receiving:
            await checkpoint_if_cancelled()
            while not (data := self._take(max_bytes)):
                await self._inbox.wait()
            await cancel_shielded_checkpoint()
            return data

    async def send_eof(self) -> None:
        """End the sending direction; the other one goes on."""
        with self._sending:
            await checkpoint()
            if self._closed:
                raise ClosedResourceError
            self._end()

    async def aclose(self) -> None:
        """Close at once, both directions; what is under way still arrives."""
        self._closed = True
        self._inbox.abandoned = True
        self._inbox.wake()
        self._end()
        await checkpoint()

    def _end(self) -> None:
        self._outbox.ended = True
        self._outbox.wake()

    def _put(self, data: memoryview) -> int:
        if self._closed or self._outbox.ended:
            raise ClosedResourceError
        if self._outbox.abandoned:
            raise BrokenResourceError
        return self._outbox.put(data)

    def _take(self, max_bytes: int) -> bytes:
        if self._closed:
            raise ClosedResourceError
        data = self._inbox.take(max_bytes)
        if not data and self._inbox.ended:
            raise EndOfStream
        return data

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<MemoryStream {self.under_way} octets under way{state}>"


class StreamPair(NamedTuple):
    """Both ends' sealed streams."""

    client: SASLStream
    server: SASLStream


def memory_stream_pair(capacity: int = 65536) -> tuple[MemoryStream, MemoryStream]:
    """Connect two streams in memory.

    :param capacity: how many octets may be under way in a direction before its sender waits
    :raises UsageError: that is no number, or below 1
    """
    require_number("capacity", capacity, 1)
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(back, there), MemoryStream(there, back)


def stream_pair(
    protection: str | SecurityProperties | MechanismPair = "rc4",
    *,
    client_maxbuf: int = DEFAULT_MAXBUF,
    server_maxbuf: int = DEFAULT_MAXBUF,
    seed: int | None = None,
    transports: tuple[AnyByteStream, AnyByteStream] | None = None,
) -> StreamPair:
    """Connect two sealed streams, after a login that did not travel over them.

    :param protection: one of `PROTECTIONS`, or `"auth"` for streams without a layer; properties, or
        both sides of a login of any mechanism, as with `context_pair`
    :param client_maxbuf: what the client can receive, in octets
    :param server_maxbuf: what the server can receive, in octets
    :param seed: makes every sealed octet the same each time
    :param transports: the client's and the server's, connected to each other; in memory, without
    :raises UsageError: these are not two streams; or as with `context_pair`
    """
    client, server = _connected(transports)
    if protection == "auth":
        return StreamPair(SASLStream(client, None), SASLStream(server, None))
    contexts = context_pair(
        protection, client_maxbuf=client_maxbuf, server_maxbuf=server_maxbuf, seed=seed
    )
    return StreamPair(SASLStream(client, contexts.client), SASLStream(server, contexts.server))


async def authenticated_streams(
    client: Exchange,
    server: Exchange,
    *,
    transports: tuple[AnyByteStream, AnyByteStream] | None = None,
) -> StreamPair:
    """Let two exchanges log in to each other over two streams.

    Two that both wait to be spoken to, such as two servers, do so until `anyio.fail_after` ends it.

    :param client: the client's half, `LDAPBind(mechanism)` for one
    :param server: the server's half
    :param transports: the client's and the server's, connected to each other; in memory, without.
        A `SASLStream` is rebound
    :raises UsageError: the transports are not two streams
    :raises Exception: what the client's side raised, with the server's as its cause, or the
        server's
    """
    at_client, at_server = _connected(transports)
    ours, theirs = await run_both(
        partial(authenticate, at_client, client), partial(authenticate, at_server, server)
    )
    return StreamPair(*succeeded(ours, theirs))


def _connected(
    transports: tuple[AnyByteStream, AnyByteStream] | None,
) -> tuple[AnyByteStream, AnyByteStream]:
    return memory_stream_pair() if transports is None else both_ends("transports", transports)
