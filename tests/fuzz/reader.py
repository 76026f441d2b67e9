"""Takes a fuzzer's octets apart, front to back.

Every input means something: past the end there are zeros. Choices come first and octets that go to
the package last, so that a fuzzer's small changes make small changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_EDITS = 4
MOST_PIECES = 512


class Reader:
    """Reads choices, numbers and octets off an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """As many octets, fewer at the end."""
        start, self._at = self._at, min(self._at + count, len(self._data))
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def number(self, size: int = 1) -> int:
        """A number of `size` octets."""
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big")

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number() & 1)

    def one_of(self, options: Sequence[T]) -> T:
        """One of a few."""
        return options[self.number() % len(options)]

    def octets(self) -> bytes:
        """Some octets, behind their length."""
        return self.take(self.number())

    def edited(self, octets: bytes) -> bytes:
        """Genuine octets with some cut out and others put in, in up to `MOST_EDITS` places."""
        for _ in range(self.number() % (MOST_EDITS + 1)):
            at = self.number(2) % (len(octets) + 1)
            octets = octets[:at] + self.octets() + octets[at + self.number() :]
        return octets

    def sizes(self) -> list[int]:
        """How a stream is to be cut, for `cut`: three sizes; 0 is all of it."""
        return list(self.take(3).ljust(3, b"\0"))


def cut(stream: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut a stream by these sizes, over and over; 0 is all that is left, as is the last piece."""
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)] if turn < MOST_PIECES else 0
        end = at + (size or len(stream))
        yield stream[at:end]
        at, turn = end, turn + 1
