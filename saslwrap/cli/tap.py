"""A byte stream that remembers what went through it: the wire, as the demo shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from anyio.abc import AnyByteStream, ByteStream

__all__ = ["Tap", "next_frame", "take"]


class Tap(ByteStream):
    """Passes everything on and keeps a copy, until it is taken.

    :ivar sent: octets that went down to `transport` and were not taken yet
    :ivar received: octets that came up from it and were not taken yet
    """

    def __init__(self, transport: AnyByteStream) -> None:
        self._transport: Final = transport
        self.sent: bytearray = bytearray()
        self.received: bytearray = bytearray()

    async def send(self, item: bytes) -> None:
        """Send, and remember."""
        await self._transport.send(item)
        self.sent += item

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive, and remember."""
        data = await self._transport.receive()
        self.received += data
        return data

    async def send_eof(self) -> None:
        """Close the sending direction."""
        await self._transport.send_eof()

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What the transport tells."""
        return self._transport.extra_attributes


def take(buffer: bytearray) -> bytes:
    """Take everything."""
    data = bytes(buffer)
    buffer.clear()
    return data


def next_frame(buffer: bytearray) -> bytes:
    """Take one frame, length included."""
    end = 4 + int.from_bytes(buffer[:4], "big")
    frame = bytes(buffer[:end])
    del buffer[:end]
    return frame
