"""One direction of a connection that somebody holds in his hands: what a machine judges by.

    application  ->  sent  ->  [layer]  ->  original
                                              |     put(): under way, where it may be altered
    application  <-  received  <-  [layer]  <-  delivered

Whatever was done on the way, two facts decide what may come out. As long as `delivered` is how
`original` begins, nothing wrong has been delivered, and the plaintext of its whole frames has to
come. From the first octet on that differs nothing may come but an error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

LENGTH_OCTETS = 4


@dataclass
class Direction:
    """What was sent, what became of it, and what may be made of that."""

    sent: bytearray = field(default_factory=bytearray)
    original: bytearray = field(default_factory=bytearray)
    under_way: bytearray = field(default_factory=bytearray)
    delivered: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def put(self, wire: bytes) -> None:
        """The layer has sent these octets."""
        self.original += wire
        self.under_way += wire

    def take(self, count: int) -> bytes:
        """Deliver at most `count` octets."""
        data = bytes(self.under_way[:count])
        del self.under_way[:count]
        self.delivered += data
        return data

    @property
    def genuine(self) -> bool:
        """Whether all that was delivered is as it was sent, and where it was sent."""
        return self.original.startswith(self.delivered)

    @property
    def whole_frames(self) -> int:
        """Octets of the genuine frames at the start of what was delivered."""
        end, same = 0, self._same
        while (following := self._frame_end(end)) <= same:
            end = following
        return end

    @property
    def at_a_border(self) -> bool:
        """Whether what was delivered ends where a genuine frame does."""
        return self.genuine and self.whole_frames == len(self.delivered)

    def check(self) -> None:
        """Nothing wrong was delivered to the application."""
        assert self.sent.startswith(self.received)
        assert len(self.received) <= self.whole_frames

    @property
    def _same(self) -> int:
        """Octets at the start of what was delivered that are as they were sent."""

        def differ(count: int) -> bool:
            return self.original[:count] != self.delivered[:count]

        return bisect_left(range(len(self.delivered) + 1), True, key=differ) - 1

    def _frame_end(self, start: int) -> int:
        length = int.from_bytes(self.original[start : start + LENGTH_OCTETS], "big")
        return start + LENGTH_OCTETS + length if length else len(self.original) + 1


def _flip(data: bytearray, at: int, much: int) -> None:
    data[at] ^= 1 << much % 8


def _drop(data: bytearray, at: int, much: int) -> None:
    del data[at : at + much]


def _repeat(data: bytearray, at: int, much: int) -> None:
    data[at:at] = data[at : at + much]


def _swap(data: bytearray, at: int, much: int) -> None:
    middle, end = at + much, at + 2 * much
    data[at:end] = data[middle:end] + data[at:middle]


def _insert(data: bytearray, at: int, much: int) -> None:
    data[at:at] = bytes(range(much % 256))


#: What can be done to octets under way: `alter(octets, at, how_much)`.
ALTERATIONS: dict[str, Callable[[bytearray, int, int], None]] = {
    "flip": _flip,
    "drop": _drop,
    "repeat": _repeat,
    "swap": _swap,
    "insert": _insert,
}


def alter(data: bytearray, kind: str, at: int, much: int) -> None:
    """Alter octets under way; where there are none there is nothing to do."""
    if data:
        ALTERATIONS[kind](data, at % len(data), much)


kinds = st.sampled_from(sorted(ALTERATIONS))
places = st.integers(0, 400)
amounts = st.one_of(st.integers(1, 40), st.just(1000))
sides = st.sampled_from(["client", "server"])
writes = st.one_of(
    st.binary(max_size=60),
    st.integers(0, 3000).map(lambda n: bytes(range(256)) * (n // 256) + bytes(n % 256)),
)
maxbufs = st.one_of(st.integers(22, 120), st.just(65536))


def other(side: str) -> str:
    """The side across."""
    return "server" if side == "client" else "client"
