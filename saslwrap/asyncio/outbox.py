"""Where frames wait for the end of the loop's turn, to go out together.

Of a small message the kernel's call costs more than all else, so what an application writes in one
turn is handed down in one piece (uvloop's own transports do the same). Nobody finds frames here:
whoever asks what is queued, or ends a direction, has them sent first. And none waits where
that would cost anything:

*   The first write after the peer was heard goes at once. That is an answer, or the next request.
*   What comes to more than `HOLD` octets goes at once, or to more than the transport's high water
    mark, where that is less: who set it to 0 wants to hear of each octet that is queued.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Outbox"]

#: How many octets may wait: enough frames to make the call cheap, little enough for the cache.
HOLD = 16384


class Outbox:
    """Stands before a transport's `write`.

    :ivar at_once: the next write does not wait
    """

    __slots__ = ("_held", "_limit", "_loop", "_scheduled", "_transport", "at_once")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport: Final = transport
        self._loop: Final = loop
        self._held = bytearray()
        self._scheduled = False
        self.at_once: bool = True
        self.limits_changed()

    def limits_changed(self) -> None:
        """Take note of the transport's high water mark."""
        self._limit = min(HOLD, self._transport.get_write_buffer_limits()[1])

    def put(self, data: bytes) -> None:
        """Send data, now or when the turn ends."""
        at_once, self.at_once = self.at_once, False
        if not self._held and (at_once or len(data) > self._limit):
            self._transport.write(data)  # as it is: a large one is not copied once more
            return
        self._held += data
        if at_once or len(self._held) > self._limit:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_turn)

    def flush(self) -> None:
        """Send what waits, unless the transport takes nothing any more."""
        held, self._held = self._held, bytearray()  # it is the transport's from now on
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()
