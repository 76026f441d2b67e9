"""Faults that know octets only. Places are counted from the start of the direction, from 0."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from saslwrap.context import Buffer
from saslwrap.errors import UsageError, require_kind, require_number
from saslwrap.testing.faults.base import End, Fault, Outcome, Wait

__all__ = ["CLEARTEXT", "Cut", "Delay", "FlipBit", "InjectAt", "Stop"]

#: What somebody in between might say in a server's name (RFC 9051 section 7.1.5).
CLEARTEXT: Final = b"* BYE go elsewhere\r\n"


def injected(data: Buffer) -> bytes:
    """Give what is to be injected.

    :raises UsageError: it is no octets, or none at all
    """
    require_kind("data", data, Buffer, "octets")
    if not data:
        raise UsageError("data is one octet or more: nothing would come in")
    return bytes(data)


class Delay(Fault):
    """Every piece comes later.

    :param seconds: how much later; with a seed at most so much, the same for the same seed
    :raises UsageError: either is no number; there are less than 0 seconds
    """

    def __init__(self, seconds: float, seed: int | None = None) -> None:
        self._longest = Wait(seconds)
        if seed is not None:
            require_number("seed", seed)
        self._random = None if seed is None else random.Random(f"delay {seed}")  # noqa: S311

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give a pause, and then `data`."""
        yield Wait(self._longest.seconds * (self._random.random() if self._random else 1))
        yield data


class Stop(Fault):
    """Nothing more arrives, the end neither; the connection stays open.

    :param after: how many octets still get through
    :raises UsageError: that is no number, or below 0
    """

    def __init__(self, after: int) -> None:
        require_number("after", after, 0)
        self._left = after

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give what gets through."""
        yield data[: self._left]
        self._left = max(0, self._left - len(data))

    def finish(self) -> Iterator[Outcome]:
        """Give the end only if all got through that came before it."""
        return iter((End(),) if self._left else ())


class Cut(Fault):
    """The connection ends after some octets.

    A receiver gets `EndOfStream` then, or with `reset` `BrokenResourceError`, again and again. A
    sender gets `BrokenResourceError`, and its peer the end of the direction, with `reset` of both.

    :param after: how many octets still get through
    :raises UsageError: that is no number, or below 0; `reset` is no bool
    """

    def __init__(self, after: int, *, reset: bool = False) -> None:
        require_number("after", after, 0)
        self._left = after
        self._end = End(reset)

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give what gets through."""
        yield data[: self._left]
        self._left = max(0, self._left - len(data))
        if not self._left:
            yield self._end


class FlipBit(Fault):
    """One bit is wrong.

    :param octet: where, counted from 0
    :param bit: which of it, 0 the least significant, 7 the most
    :raises UsageError: either is no number, or none of these
    """

    def __init__(self, octet: int, bit: int = 0) -> None:
        require_number("octet", octet, 0)
        require_number("bit", bit, 0, 7)
        self._octet = octet
        self._mask = 1 << bit

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give `data`, altered if the octet is in it."""
        position, self._octet = self._octet, self._octet - len(data)
        if 0 <= position < len(data):
            altered = bytearray(data)
            altered[position] ^= self._mask
            data = bytes(altered)
        yield data


class InjectAt(Fault):
    """Somebody else's octets come in between.

    :param octet: before which, counted from 0
    :param data: what comes in
    :raises UsageError: the place is no number, or below 0; there are no octets to come in
    """

    def __init__(self, octet: int, data: bytes = CLEARTEXT) -> None:
        require_number("octet", octet, 0)
        self._octet = octet
        self._data = injected(data)

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give `data`, with the others' in it if the octet is."""
        position, self._octet = self._octet, self._octet - len(data)
        if 0 <= position < len(data):
            data = data[:position] + self._data + data[position:]
        yield data
