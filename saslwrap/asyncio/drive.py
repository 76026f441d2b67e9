"""The driver of an exchange for asyncio, whatever it reads from and writes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from saslwrap.asyncio.thread import in_daemon_thread
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step

__all__ = ["Writer", "drive"]


class Writer(Protocol):
    """What of a `StreamWriter` a login needs."""

    def write(self, data: bytes, /) -> None:
        """Send, or queue."""

    async def drain(self) -> None:
        """Wait until more may be queued."""


async def drive(writer: Writer, exchange: Exchange, read: Callable[[], Awaitable[bytes]]) -> None:
    """Turn the crank up to `Done`; what a mechanism blocks on, it blocks on in a thread.

    :param read: gives what the peer sent, `b""` at the end
    """
    while True:
        match exchange.advance():
            case Send(data):
                writer.write(data)
                await writer.drain()
            case NeedData():
                if data := await read():
                    exchange.receive_data(data)
                else:
                    exchange.receive_eof()
            case Step():
                if exchange.may_block:
                    await in_daemon_thread(exchange.step)
                else:
                    exchange.step()
            case Done():
                return
