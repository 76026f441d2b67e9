"""What a fault is: the octets of one direction go in, and what becomes of them comes out.

Without I/O, so that one fault serves a stream in the test's own process and a proxy between two
others alike. Those do what comes out, in its order: octets go on, `Back` goes to who sent them,
`Wait` takes its time, `End` ends the direction. Nothing at all is an answer too: the octets are
lost, or held until more comes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Back", "Chain", "End", "Fault", "Outcome", "Wait", "Whole"]


@dataclass(frozen=True, slots=True)
class Back:
    """Octets that go back to who sent them.

    :param data: the octets
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause: what follows comes later.

    :param seconds: how much later
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """The end of the direction; nothing comes after it.

    :param reset: not in good form, but by a reset of the connection
    """

    reset: bool = False


Outcome: TypeAlias = bytes | Back | Wait | End


class Fault(ABC):
    """What happens to the octets of one direction of one connection."""

    #: How many turns of the event loop a receiver waits first, to find more at once.
    turns: int = 0

    @abstractmethod
    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Take the direction's next octets and give what becomes of them, in pieces."""

    def finish(self) -> Iterator[Outcome]:
        """Take in that the direction has ended; give what was held, and the end."""
        yield End()


class Whole(Fault):
    """No fault."""

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give `data` as it is."""
        yield data


class Chain(Fault):
    """Several faults, one after the other.

    Those that know frames come before those that leave none.
    """

    def __init__(self, *faults: Fault) -> None:
        self._faults = faults
        self.turns: int = max((fault.turns for fault in faults), default=0)

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give what comes out of the last."""
        return self._all(iter((data,)))

    def finish(self) -> Iterator[Outcome]:
        """Let each give what it held, to those after it."""
        return self._all(iter((End(),)))

    def _all(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for fault in self._faults:
            outcomes = _through(fault, outcomes)
        return outcomes


def _through(fault: Fault, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        match outcome:
            case End(reset=False):
                yield from fault.finish()
            case Back() | Wait() | End():
                yield outcome
            case _:
                yield from fault.apply(outcome)
