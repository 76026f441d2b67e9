"""What clients that block read from: lines and octets of a socket, by its `recv` alone."""

from __future__ import annotations

import socket
from typing import Final, TypeAlias

from saslwrap.sync import SASLSocket

__all__ = ["Input", "Socket"]

Socket: TypeAlias = socket.socket | SASLSocket

_CHUNK: Final = 65536


class Input:
    """A reader over a socket. What it has read ahead can be taken out, which no file allows.

    Memory follows what has arrived, whatever a server announces. A time-out loses nothing.

    :param received: octets that were read from `sock` before
    """

    def __init__(self, sock: Socket, received: bytes = b"") -> None:
        self.sock: Final = sock
        self._buffer = bytearray(received)

    def readline(self, limit: int) -> bytes:
        """Read up to the end of a line; without it after `limit` octets, or at the stream's end."""
        searched = 0
        while not (end := self._buffer.find(b"\n", searched, limit) + 1):
            searched = len(self._buffer)
            if searched >= limit or not self._fill():
                break
        return self._take(end or limit)

    def read(self, size: int) -> bytes:
        """Read `size` octets; fewer at the stream's end."""
        while len(self._buffer) < size and self._fill():
            pass
        return self._take(size)

    def take(self) -> bytes:
        """Take out what was read ahead."""
        return self._take(len(self._buffer))

    def _fill(self) -> bool:
        data = self.sock.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data
