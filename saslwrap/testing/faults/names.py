"""Faults by name. A seed says where one strikes: the same seed, the same octets, the same result.

Each strikes early, so that little traffic is enough: one of the first `FRAMES` frames, or one of
the first `OCTETS` octets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from saslwrap.errors import UsageError, require_number
from saslwrap.properties import MAX_MAXBUF
from saslwrap.testing.faults.base import Fault, Whole
from saslwrap.testing.faults.frames import Drop, InjectBefore, Reflect, Replay, Swap, WrongLength
from saslwrap.testing.faults.octets import Cut, Delay, FlipBit, InjectAt, Stop
from saslwrap.testing.faults.segments import (
    AtOnce,
    HeadersAlone,
    OneOctet,
    RandomSizes,
    SplitHeaders,
)

__all__ = ["FAULTS", "FRAMES", "OCTETS", "SEGMENTATIONS", "fault", "segmentation"]

#: A named fault of frames strikes one of so many.
FRAMES: Final = 3

#: A named fault of octets strikes one of so many.
OCTETS: Final = 60

#: The longest that the named delay lasts, in seconds.
_DELAY: Final = 0.01

#: Makes a fault that strikes at a place of the source's choice.
_Maker: TypeAlias = Callable[[random.Random], Fault]

#: What a length is made to say, of the true one. The last wraps around with its own four octets.
_LENGTHS: Final[Mapping[str, Callable[[int], int]]] = {
    "longer": lambda true: true + 1,
    "shorter": lambda true: true - 1,
    "0": lambda true: 0,
    "over maxbuf": lambda true: MAX_MAXBUF + 1,
    "huge": lambda true: 0xFFFFFFFC,
}


def _wrong_length(change: Callable[[int], int], source: random.Random) -> Fault:
    return WrongLength(change, source.randrange(FRAMES))


def _seeded(name: str, make: _Maker, seed: int) -> Fault:
    return make(random.Random(f"{name} {seed}"))  # noqa: S311 - repeatable on purpose


_MAKERS: Final[Mapping[str, _Maker]] = {
    "delay": lambda source: Delay(_DELAY, source.randrange(1 << 32)),
    "stop": lambda source: Stop(source.randrange(OCTETS)),
    "cut": lambda source: Cut(source.randrange(OCTETS)),
    "reset": lambda source: Cut(source.randrange(OCTETS), reset=True),
    "flip a bit": lambda source: FlipBit(source.randrange(OCTETS), source.randrange(8)),
    "replay": lambda source: Replay(source.randrange(FRAMES)),
    "replay later": lambda source: Replay(source.randrange(FRAMES), later=1),
    "drop": lambda source: Drop(source.randrange(FRAMES)),
    "swap": lambda source: Swap(source.randrange(FRAMES)),
    "reflect": lambda source: Reflect(source.randrange(FRAMES)),
    "cleartext before a frame": lambda source: InjectBefore(source.randrange(FRAMES)),
    "cleartext anywhere": lambda source: InjectAt(source.randrange(OCTETS)),
    **{f"length {name}": partial(_wrong_length, change) for name, change in _LENGTHS.items()},
}

#: Ways to cut the same octets into other pieces, by name; of each, a maker that takes a seed.
SEGMENTATIONS: Final[Mapping[str, Callable[[int], Fault]]] = {
    "whole": lambda seed: Whole(),
    "one octet": lambda seed: OneOctet(),
    "at once": lambda seed: AtOnce(),
    "split headers": lambda seed: SplitHeaders(),
    "headers alone": lambda seed: HeadersAlone(),
    "random sizes": RandomSizes,
}

#: What else may happen to octets, by name; of each, a maker that takes a seed. All but "delay" do
#: harm.
FAULTS: Final[Mapping[str, Callable[[int], Fault]]] = {
    name: partial(_seeded, name, make) for name, make in _MAKERS.items()
}


def segmentation(name: str, seed: int = 0) -> Fault:
    """Make the fault that cuts in this way.

    :param name: a key of `SEGMENTATIONS`
    :param seed: says where it cuts
    :raises UsageError: that is no name of one; the seed is no number
    """
    return _make(SEGMENTATIONS, name, seed)


def fault(name: str, seed: int = 0) -> Fault:
    """Make the fault of this name, for one direction of one connection.

    :param name: a key of `FAULTS` or of `SEGMENTATIONS`
    :param seed: says where it strikes, or where it cuts
    :raises UsageError: that is no name of one; the seed is no number
    """
    return _make({**SEGMENTATIONS, **FAULTS}, name, seed)


def _make(makers: Mapping[str, Callable[[int], Fault]], name: str, seed: int) -> Fault:
    if not isinstance(name, str) or name not in makers:
        raise UsageError(f"{name!r} is no name of these: {', '.join(makers)}")
    require_number("seed", seed)
    return makers[name](seed)
