"""The files over a socket, for its `makefile`.

They do what those of Python's own sockets do. Its `socket.SocketIO` is for these alone: it keeps
count in what is private to them, and what it could not write stays in the traceback.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from saslwrap.context import Buffer

__all__ = ["Socket", "SocketFile", "check_mode", "with_buffer"]

Buffered: TypeAlias = io.BufferedReader | io.BufferedWriter | io.BufferedRWPair


class Socket(Protocol):
    """What of a `SASLSocket` a file needs."""

    def recv_into(self, buffer: Buffer, /) -> int:
        """Receive; return how many octets, 0 at the end."""

    def send(self, data: Buffer, /) -> int:
        """Send all; return its length."""

    def fileno(self) -> int:
        """Give the file descriptor."""


def check_mode(mode: str, buffering: int | None) -> None:
    """Refuse what no file can be made of.

    :raises ValueError: the mode is unknown, or one of text is to have no buffer
    """
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    if buffering == 0 and "b" not in mode:
        raise ValueError("unbuffered streams must be binary")


def with_buffer(raw: SocketFile, buffering: int | None) -> Buffered:
    """Put a buffer before a file.

    :param buffering: its size in octets; the default for None, and for what is negative
    """
    size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
    if raw.readable() and raw.writable():
        return io.BufferedRWPair(raw, raw, size)
    return io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)


class SocketFile(io.RawIOBase):
    """The unbuffered file.

    After a time-out it gives nothing more, as `socket.SocketIO`: the file above may have lost what
    it read until then.

    :param mode: which directions it has: `"r"`, `"w"`, both; without either it reads
    :param on_close: called once
    """

    def __init__(self, sock: Socket, mode: str, *, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._sock: Final = sock
        self._writing: Final = "w" in mode
        self._reading: Final = "r" in mode or not self._writing
        self._on_close: Final = on_close
        self._timed_out = False

    def readable(self) -> bool:
        """Whether it is for reading."""
        return self._reading

    def writable(self) -> bool:
        """Whether it is for writing."""
        return self._writing

    def readinto(self, buffer: Any) -> int | None:
        """Read; None where the socket does not wait and nothing is there.

        :raises TimeoutError: nothing came in time
        :raises OSError: nothing had come in time before
        """
        self._check(able=self._reading)
        if self._timed_out:
            raise OSError("cannot read from timed out object")
        try:
            return self._sock.recv_into(buffer)
        except TimeoutError:
            self._timed_out = True
            raise
        except BlockingIOError:
            return None

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._check(able=self._writing)
        try:
            return self._sock.send(data)
        finally:
            data = b""  # no traceback is to show it

    def fileno(self) -> int:
        """Give the socket's file descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the file, and the socket if it was closed and this is the last one."""
        if not self.closed:
            super().close()
            self._on_close()

    def _check(self, *, able: bool) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not able:
            raise io.UnsupportedOperation("the file was not made for this direction")
