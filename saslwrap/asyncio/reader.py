"""What is not to be had of a `StreamReader`: who waits, its read-ahead, its failure at the end."""

from __future__ import annotations

import asyncio

from saslwrap.errors import SASLError
from saslwrap.properties import MAX_MAXBUF

__all__ = ["SASLStreamReader", "ended", "is_awaited", "take"]


def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the end was fed, read or not: `at_eof()` only tells it when all is read."""
    return bool(reader._eof)  # type: ignore[attr-defined]


def is_awaited(reader: asyncio.StreamReader) -> bool:
    """Whether a task waits in one of its calls: asyncio bears with no second one."""
    return reader._waiter is not None  # type: ignore[attr-defined]


async def take(reader: asyncio.StreamReader) -> bytes:
    """Take what a reader holds, without waiting."""
    if ended(reader):
        return await reader.read()
    reader.feed_data(b"\0")  # so that there is something, and `read` returns at once
    return (await reader.read(MAX_MAXBUF))[:-1]


class SASLStreamReader(asyncio.StreamReader):
    """asyncio's own raises an exception before what it holds; a layer's errors come in their turn.

    Plaintext that was unsealed before the frame that failed was good. It is read first, as from the
    other shells; then the failure is raised where the end would have been.
    """

    _failure: Exception | None = None

    def set_exception(self, exc: Exception) -> None:
        """Fail, after what is there already."""
        self._failure = exc
        self.feed_eof()

    def exception(self) -> Exception | None:
        """Tell the failure: `StreamWriter.drain` asks."""
        return self._failure

    def at_eof(self) -> bool:
        """Whether all was read, up to a clean end: a failure is none."""
        return self._failure is None and super().at_eof()

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` octets; all up to the end without it, which a failure is not."""
        data = await super().read(n)
        if not data and n and self._failure is not None:
            raise self._anew()
        return data

    async def readexactly(self, n: int) -> bytes:
        """Read `n` octets."""
        try:
            return await super().readexactly(n)
        except asyncio.IncompleteReadError:
            if self._failure is None:
                raise
        raise self._anew()

    async def readuntil(self, separator: bytes | tuple[bytes, ...] = b"\n") -> bytes:  # type: ignore[override]
        """Read up to a separator; `readline` and `async for` come here too."""
        try:
            return await super().readuntil(separator)  # type: ignore[arg-type]
        except asyncio.IncompleteReadError:
            if self._failure is None:
                raise
        raise self._anew()

    def _anew(self) -> BaseException:
        """The failure, to be raised: the layer's as a fresh copy each time."""
        failure = self._failure
        return failure.fresh() if isinstance(failure, SASLError) else failure or EOFError()
