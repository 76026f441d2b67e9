"""Segmentation: the same octets in other pieces. No receiver may see a difference."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

from saslwrap.errors import require_number
from saslwrap.framing import LENGTH_OCTETS
from saslwrap.testing.faults.base import Fault, Outcome, Whole

__all__ = ["AtOnce", "HeadersAlone", "OneOctet", "RandomSizes", "SplitHeaders"]


class OneOctet(Fault):
    """One octet at a time."""

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give octets."""
        return (data[i : i + 1] for i in range(len(data)))


class AtOnce(Whole):
    """All at once: a receiver lets the event loop turn before it looks. Senders cannot have it.

    :param turns: how often; in a `FaultProxy`, how many milliseconds
    :raises UsageError: that is no number, or below 1
    """

    def __init__(self, turns: int = 8) -> None:
        require_number("turns", turns, 1)
        self.turns = turns


class _AtPlaces(Fault):
    """A piece ends wherever a frame has come to certain places, and nowhere else."""

    #: The places, in octets from the frame's start; its length counts.
    places: ClassVar[frozenset[int]]

    def __init__(self) -> None:
        self._place = 0
        self._length = 0

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give pieces."""
        start = 0
        for position, octet in enumerate(data):
            if self._place in self.places and position > start:
                yield data[start:position]
                start = position
            self._pass(octet)
        yield data[start:]

    def _pass(self, octet: int) -> None:
        if self._place < LENGTH_OCTETS:
            self._length = self._length << 8 | octet
        self._place += 1
        if self._place >= LENGTH_OCTETS and self._place == LENGTH_OCTETS + self._length:
            self._place = self._length = 0


class SplitHeaders(_AtPlaces):
    """Each frame's length is split after its second octet; the rest comes with the token."""

    places: ClassVar[frozenset[int]] = frozenset({2})


class HeadersAlone(_AtPlaces):
    """Each frame's length comes alone, and so does its token."""

    places: ClassVar[frozenset[int]] = frozenset({0, LENGTH_OCTETS})


class RandomSizes(Fault):
    """Pieces of random sizes, the same for the same seed.

    :param largest: octets of the largest piece
    :raises UsageError: either is no number; the largest is below 1
    """

    def __init__(self, seed: int, largest: int = 200) -> None:
        require_number("seed", seed)
        require_number("largest", largest, 1)
        self._random = random.Random(f"sizes {seed}")  # noqa: S311 - repeatable on purpose
        self._largest = largest

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give pieces."""
        start = 0
        while start < len(data):
            size = self._random.randint(1, self._largest)
            yield data[start : start + size]
            start += size
