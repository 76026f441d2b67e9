"""A connection that misbehaves on demand: cut into other pieces, cut off, altered.

    transport = FaultyStream(transport, receiving=OneOctet())
    transport = FaultyStream(transport, sending=Chain(RandomSizes(seed=7), FlipBit(octet=100)))

A fault is one direction's, is used once, and knows what passed before: positions are counted in
octets from the start of its direction. The same fault over the same octets does the same.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    ResourceGuard,
    aclose_forcefully,
)
from anyio.abc import AnyByteStream, ByteStream
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

__all__ = [
    "SEGMENTATIONS",
    "AtOnce",
    "Chain",
    "Cut",
    "Fault",
    "FaultyStream",
    "FlipBit",
    "OneOctet",
    "RandomSizes",
    "SplitHeaders",
    "Whole",
    "segmentation",
]


class _CutError(Exception):
    """The connection ends here: in good form, or by a reset."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Fault(ABC):
    """What happens to the octets of one direction."""

    #: How many turns of the event loop a receiver waits first, to find more at once.
    turns: int = 0

    @abstractmethod
    def apply(self, data: bytes) -> Iterator[bytes]:
        """Take the direction's next octets and give them as they come out, in pieces."""


class Whole(Fault):
    """No fault."""

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give `data` as it is."""
        yield data


class OneOctet(Fault):
    """One octet at a time."""

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give octets."""
        return (data[i : i + 1] for i in range(len(data)))


class AtOnce(Whole):
    """All at once: a receiver lets the event loop turn before it looks. Senders cannot have it.

    :param turns: how often
    """

    def __init__(self, turns: int = 8) -> None:
        self.turns = turns


class SplitHeaders(Fault):
    """Each frame's length is split after its second octet; the rest comes with the token."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._token_left = 0

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give half a length, then the other half with what follows."""
        start = 0
        for position, octet in enumerate(data):
            if self._token_left:
                self._token_left -= 1
                continue
            if len(self._header) == 2:
                yield data[start:position]
                start = position
            self._header.append(octet)
            if len(self._header) == 4:
                self._token_left = int.from_bytes(self._header, "big")
                self._header.clear()
        yield data[start:]


class RandomSizes(Fault):
    """Pieces of random sizes, the same for the same seed.

    :param largest: octets of the largest piece
    """

    def __init__(self, seed: int, largest: int = 200) -> None:
        self._random = random.Random(f"sizes {seed}")  # noqa: S311 - repeatable on purpose
        self._largest = largest

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give pieces."""
        start = 0
        while start < len(data):
            size = self._random.randint(1, self._largest)
            yield data[start : start + size]
            start += size


class Cut(Fault):
    """The connection ends after some octets.

    A receiver gets `EndOfStream` then, or with `reset` `BrokenResourceError`, again and again. A
    sender gets `BrokenResourceError`, and its peer the end of the direction, with `reset` of both.

    :param after: how many octets still get through
    """

    def __init__(self, after: int, *, reset: bool = False) -> None:
        self._left = after
        self._reset = reset

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give what gets through."""
        yield data[: self._left]
        self._left = max(0, self._left - len(data))
        if not self._left:
            raise _CutError(reset=self._reset)


class FlipBit(Fault):
    """One bit is wrong.

    :param octet: where, counted from 0
    :param bit: which of it, 0 the least significant
    """

    def __init__(self, octet: int, bit: int = 0) -> None:
        self._octet = octet
        self._mask = 1 << bit

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give `data`, altered if the octet is in it."""
        position, self._octet = self._octet, self._octet - len(data)
        if 0 <= position < len(data):
            altered = bytearray(data)
            altered[position] ^= self._mask
            data = bytes(altered)
        yield data


class Chain(Fault):
    """Several faults, one after the other."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = faults
        self.turns: int = max((fault.turns for fault in faults), default=0)

    def apply(self, data: bytes) -> Iterator[bytes]:
        """Give what comes out of the last."""
        pieces: Iterator[bytes] = iter((data,))
        for fault in self._faults:
            pieces = _through(fault, pieces)
        return pieces


def _through(fault: Fault, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from fault.apply(piece)


class FaultyStream(ByteStream):
    """A stream over another one, with faults on the way.

    :param stream: the one below; this one owns it from now on
    :param receiving: what happens to what is received
    :param sending: what happens to what is sent
    """

    _NOTHING: ClassVar[Iterator[bytes]] = iter(())

    def __init__(
        self,
        stream: AnyByteStream,
        *,
        receiving: Fault | None = None,
        sending: Fault | None = None,
    ) -> None:
        self.stream: Final = stream
        self._inbound: Final = receiving or Whole()
        self._outbound: Final = sending or Whole()
        self._pieces = self._NOTHING  # received and not given out
        self._piece = b""
        self._receive_cut: _CutError | None = None
        self._send_cut = False
        self._closed = False
        self._sending: Final = ResourceGuard("sending to")
        self._receiving: Final = ResourceGuard("receiving from")

    async def send(self, item: bytes) -> None:
        """Send what the fault makes of `item`, each piece by a `send` of its own."""
        with self._sending:
            await checkpoint_if_cancelled()
            if self._closed:
                raise ClosedResourceError
            if self._send_cut:
                raise BrokenResourceError
            try:
                for piece in self._outbound.apply(bytes(item)):
                    await self.stream.send(piece)
            except _CutError as cut:
                self._send_cut = True
                await self._cut_off(reset=cut.reset)
                raise BrokenResourceError from None
            await cancel_shielded_checkpoint()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive the next piece, or its first `max_bytes` octets."""
        with self._receiving:
            await checkpoint_if_cancelled()
            for _ in range(self._inbound.turns):
                await checkpoint()
            while not self._next_piece():
                self._pieces = self._inbound.apply(await self.stream.receive())
            await cancel_shielded_checkpoint()
            data, self._piece = self._piece[:max_bytes], self._piece[max_bytes:]
            return data

    async def send_eof(self) -> None:
        """End the sending direction."""
        await self.stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream below."""
        self._closed = True
        await self.stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What the stream below tells."""
        return self.stream.extra_attributes

    async def _cut_off(self, *, reset: bool) -> None:
        if reset:
            await aclose_forcefully(self.stream)
        else:
            await self.stream.send_eof()

    def _next_piece(self) -> bool:
        """Whether there is a piece that is not given out."""
        if self._closed:
            raise ClosedResourceError
        try:
            while not self._piece and self._receive_cut is None:
                self._piece = next(self._pieces)
        except StopIteration:
            return False
        except _CutError as cut:
            self._receive_cut = cut
        if self._receive_cut is not None and not self._piece:
            raise BrokenResourceError if self._receive_cut.reset else EndOfStream
        return True


#: Ways to cut the same octets into other pieces, by name; of each, a maker that takes a seed.
SEGMENTATIONS: Final[Mapping[str, Callable[[int], Fault]]] = {
    "whole": lambda seed: Whole(),
    "one octet": lambda seed: OneOctet(),
    "at once": lambda seed: AtOnce(),
    "split headers": lambda seed: SplitHeaders(),
    "random sizes": RandomSizes,
}


def segmentation(name: str, seed: int = 0) -> Fault:
    """Make the fault that cuts in this way.

    :param name: a key of `SEGMENTATIONS`
    """
    return SEGMENTATIONS[name](seed)
