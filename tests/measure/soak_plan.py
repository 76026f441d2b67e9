"""What both ends of the soak share: which layers and faults, what is sent, what is counted."""

from __future__ import annotations

import random
import time
import tracemalloc
from dataclasses import dataclass, field
from typing import Final

from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.testing.faults import FAULTS, SEGMENTATIONS
from tests.measure.memory import Memory, live_objects, malloced, open_files

__all__ = [
    "ADDRESS",
    "ALL_LAYERS",
    "FAULT_NAMES",
    "HARMLESS",
    "LAYERS",
    "NUMBER_OCTETS",
    "SERVER_MAXBUFS",
    "Octets",
    "Plan",
    "Sample",
    "Tally",
    "octets_of",
]

ADDRESS: Final = "127.0.0.1"

#: A client says its number first: both ends' octets follow from it.
NUMBER_OCTETS: Final = 8

#: What the connections have, in turns: the layer, and the client's maxbuf.
LAYERS: Final = (
    ("rc4", 65536),
    ("3des", 65536),
    ("auth-int", 65536),
    ("rc4", 300),
    ("3des", 300),
    ("des", 65536),
    ("rc4-56", 65536),
    ("auth-int", 300),
)

#: What the server announces as its maxbuf, in turns.
SERVER_MAXBUFS: Final = (65536, 65536, 65536, 512)

ALL_LAYERS: Final = SecurityProperties(min_ssf=1, ciphers=CIPHER_NAMES)

FAULT_NAMES: Final = (*FAULTS, *(name for name in SEGMENTATIONS if name != "whole"))

#: No fault, and those that change nothing but pieces and times.
HARMLESS: Final = frozenset({None, "delay", *SEGMENTATIONS})

#: Of how many connections one has a fault.
FAULTY_ONE_OF = 3

BLOCK = 1024


@dataclass(frozen=True)
class Plan:
    """How it is done.

    :param connections: at once
    :param pace: seconds between two messages of a connection, on average
    :param idle: most seconds that a connection with a harmful fault waits before its first message
    :param patience: seconds that such a connection waits for an answer before it gives up
    """

    connections: int
    pace: float
    idle: float
    patience: float

    @property
    def files(self) -> int:
        """How many files an end may have open."""
        return 2 * self.connections + 100

    def fault_of(self, place: int) -> str | None:
        """The name of the fault of this connection, and of those that replace it."""
        turn, rest = divmod(place, FAULTY_ONE_OF)
        return None if rest else FAULT_NAMES[turn % len(FAULT_NAMES)]


class Octets:
    """Endless octets, the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._ahead = b""

    def take(self, count: int) -> bytes:
        """The next ones."""
        while len(self._ahead) < count:
            self._ahead += self._random.randbytes(BLOCK)
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return taken


def octets_of(number: int) -> tuple[Octets, Octets]:
    """What the client of this number sends, and what its server does."""
    return Octets(f"{number} to server"), Octets(f"{number} to client")


@dataclass
class Tally:
    """What came of it, at one end.

    :param octets: received and compared with what was sent
    :param wrong: of these, how many pieces differed
    :param ends: how connections ended that were not closed, by fault and kind of error
    :param unexpected: errors that nothing explains
    """

    logins: int = 0
    messages: int = 0
    octets: int = 0
    wrong: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    def compare(self, data: bytes, expected: Octets) -> None:
        """Hold what arrived against what has to be next."""
        self.octets += len(data)
        self.wrong += data != expected.take(len(data))

    def ended(self, how: str) -> None:
        """Count a connection that was not closed."""
        self.ends[how] = self.ends.get(how, 0) + 1


@dataclass(frozen=True)
class Sample:
    """What a process holds, and what it did so far.

    :param minutes: on a clock that only goes on
    :param rss: KiB
    :param traced: KiB that Python's allocator gave out
    :param malloced: KiB that the C library's did
    :param files: open descriptors
    :param objects: live ones by class: ours, and those of asyncio, anyio and uvloop
    """

    minutes: float
    rss: int
    traced: float
    malloced: float
    files: int
    objects: dict[str, int]
    tally: Tally

    @classmethod
    def now(cls, tally: Tally) -> Sample:
        """Take one, after the garbage is collected."""
        rss = Memory.now().rss
        traced, _ = tracemalloc.get_traced_memory()
        objects = live_objects("saslwrap", "asyncio", "anyio", "uvloop")
        return cls(
            time.monotonic() / 60, rss, traced / 1024, malloced(), open_files(), objects, tally
        )
