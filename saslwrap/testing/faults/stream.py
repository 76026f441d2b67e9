"""A stream that misbehaves on demand, and how what a fault decides is done."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    Lock,
    ResourceGuard,
    aclose_forcefully,
    current_time,
    sleep,
    sleep_until,
)
from anyio.abc import AnyByteStream, ByteStream, SocketAttribute
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from saslwrap.errors import require_number
from saslwrap.testing._kinds import require_stream
from saslwrap.testing.faults.base import Back, End, Fault, Outcome, Wait, Whole, claimed

__all__ = ["FaultyStream", "perform", "reset"]

#: SO_LINGER with a time of 0: a close drops what is under way and resets the connection.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


async def perform(
    outcomes: Iterable[Outcome],
    forward: Callable[[bytes], Awaitable[None]],
    back: Callable[[bytes], Awaitable[None]],
) -> End | None:
    """Do what a fault decided, for who sends; give the end, if that came: it is theirs to do."""
    for outcome in outcomes:
        match outcome:
            case End():
                return outcome
            case Wait(seconds):
                await sleep(seconds)
            case Back(data):
                await back(data)
            case _ if outcome:
                await forward(outcome)
    return None


async def reset(stream: AnyByteStream) -> None:
    """Close a stream at once; where there is a socket, by a reset (RFC 9293 section 3.10.5)."""
    raw_socket = stream.extra(SocketAttribute.raw_socket, None)
    if raw_socket is not None:
        with suppress(OSError):  # it is closed already
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    await aclose_forcefully(stream)


class FaultyStream(ByteStream):
    """A stream over another one, with faults on the way.

    What a fault sends back is received, at this end or at the peer's: a fault of `sending` gives it
    to our own `receive`. `send_eof` lets a fault give what it holds; `aclose` drops that.

    :param stream: the one below; this one owns it from now on
    :param receiving: what happens to what is received
    :param sending: what happens to what is sent
    :raises UsageError: there is no stream, or what is no fault; a fault is in use
    """

    def __init__(
        self,
        stream: AnyByteStream,
        *,
        receiving: Fault | None = None,
        sending: Fault | None = None,
    ) -> None:
        require_stream("stream", stream)
        self.stream: Final = stream
        self._inbound, self._outbound = claimed(
            ("receiving", Whole() if receiving is None else receiving),
            ("sending", Whole() if sending is None else sending),
        )
        self._outcomes: Iterator[Outcome] = iter(())  # of what was received last
        self._piece = b""  # received and not given out
        self._came_back = bytearray()  # of what was sent
        self._due = 0.0  # the next outcome, on the event loop's clock
        self._below_ended = False
        self._receive_end: End | None = None
        self._send_cut = False
        self._closed = False
        self._closing = Event()
        self._fetching = CancelScope()
        self._below: Final = Lock(fast_acquire=True)
        self._sending: Final = ResourceGuard("sending to")
        self._receiving: Final = ResourceGuard("receiving from")

    async def send(self, item: bytes) -> None:
        """Send what the fault makes of `item`, each piece by a `send` of its own."""
        with self._sending:
            await checkpoint_if_cancelled()
            if self._closed:
                raise ClosedResourceError
            if self._send_cut:
                raise BrokenResourceError
            if await self._perform(self._outbound.apply(bytes(memoryview(item)))):
                self._send_cut = True
                raise BrokenResourceError
            await cancel_shielded_checkpoint()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive the next piece, or its first `max_bytes` octets.

        :raises UsageError: `max_bytes` is no number, or below 1
        """
        require_number("max_bytes", max_bytes, 1)
        with self._receiving:
            await checkpoint_if_cancelled()
            for _ in range(self._inbound.turns):
                await checkpoint()
            while not await self._next_piece():
                await self._fetch()
            await cancel_shielded_checkpoint()
            data, self._piece = self._piece[:max_bytes], self._piece[max_bytes:]
            return data

    async def send_eof(self) -> None:
        """End the sending direction, unless the fault keeps the end to itself."""
        with self._sending:
            await self._perform(self._outbound.finish())
            await checkpoint()

    async def aclose(self) -> None:
        """Close the stream below."""
        self._closed = True
        self._closing.set()
        await self.stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What the stream below tells."""
        return self.stream.extra_attributes

    async def _perform(self, outcomes: Iterator[Outcome]) -> bool:
        """Do what comes of what was sent; say whether that was the end."""
        end = await perform(outcomes, self._send_below, self._come_back)
        if end is None:
            return False
        await (reset(self.stream) if end.reset else self.stream.send_eof())
        return True

    async def _send_below(self, data: bytes) -> None:
        async with self._below:  # what comes back to the peer is sent while we receive
            await self.stream.send(data)

    async def _come_back(self, data: bytes) -> None:
        self._came_back += data
        self._fetching.cancel()

    async def _next_piece(self) -> bool:
        """Have a piece to give out, if one is there; first do what comes before it."""
        while True:
            if self._closed:
                raise ClosedResourceError
            if self._piece:
                return True
            if self._receive_end is not None:
                raise BrokenResourceError if self._receive_end.reset else EndOfStream
            if current_time() < self._due:
                await sleep_until(self._due)
            if not await self._take_outcome():
                return False

    async def _take_outcome(self) -> bool:
        match next(self._outcomes, None):
            case None:
                self._piece = bytes(self._came_back)
                self._came_back.clear()
                return bool(self._piece)
            case Wait(seconds):
                self._due = current_time() + seconds
            case Back(data):
                await self._send_below(data)
            case End() as end:
                self._receive_end = end
            case piece:
                self._piece = piece
        return True

    async def _fetch(self) -> None:
        """Wait for more, from below or of what came back."""
        with CancelScope() as self._fetching:
            if self._below_ended:  # and the fault keeps that to itself
                await self._closing.wait()
            else:
                await self._fetch_below()

    async def _fetch_below(self) -> None:
        try:
            data = await self.stream.receive()
        except EndOfStream:
            self._below_ended = True
            self._outcomes = self._inbound.finish()
        else:
            self._outcomes = self._inbound.apply(data)
