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

from saslwrap.context import Buffer
from saslwrap.errors import UsageError, require_kind, require_number

__all__ = ["Back", "Chain", "End", "Fault", "Outcome", "Wait", "Whole"]


@dataclass(frozen=True, slots=True)
class Back:
    """Octets that go back to who sent them.

    :param data: the octets
    :raises UsageError: they are none
    """

    data: bytes

    def __post_init__(self) -> None:
        require_kind("data", self.data, Buffer, "octets")


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause: what follows comes later.

    :param seconds: how much later
    :raises UsageError: it is no number, or below 0
    """

    seconds: float

    def __post_init__(self) -> None:
        require_number("seconds", self.seconds, 0, kind=int | float)


@dataclass(frozen=True, slots=True)
class End:
    """The end of the direction; nothing comes after it.

    :param reset: not in good form, but by a reset of the connection
    :raises UsageError: it is no bool
    """

    reset: bool = False

    def __post_init__(self) -> None:
        require_kind("reset", self.reset, bool)


Outcome: TypeAlias = bytes | Back | Wait | End


class Fault(ABC):
    """What happens to the octets of one direction of one connection.

    What takes a fault claims it, so that none is used twice: it would go on counting where the
    first direction left it, and mostly do nothing.
    """

    #: How many turns of the event loop a receiver waits first, to find more at once.
    turns: int = 0

    _claimed = False

    def claim(self) -> None:
        """Become the only user's, as a stream is, or a fault that is made of others.

        :raises UsageError: it has a user already
        """
        if self._claimed:
            kind = type(self).__name__
            raise UsageError(
                f"a fault is one direction's of one connection, and this {kind} has one already: "
                f"make a new one for each, in a FaultProxy by to_client=lambda: {kind}(...)"
            )
        object.__setattr__(self, "_claimed", True)  # a subclass may be a frozen dataclass

    @abstractmethod
    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Take the direction's next octets and give what becomes of them, in pieces."""

    def finish(self) -> Iterator[Outcome]:
        """Take in that the direction has ended; give what was held, and the end."""
        yield End()


def claimed(*named: tuple[str, Fault]) -> tuple[Fault, ...]:
    """Give arguments that are to be faults, claimed; none is, if there is another kind among them.

    :raises UsageError: one is none, or has a user already
    """
    for name, fault in named:
        require_kind(name, fault, Fault, 'a Fault, such as fault("drop", seed=3)')
    for _, fault in named:
        fault.claim()
    return tuple(fault for _, fault in named)


class Whole(Fault):
    """No fault."""

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give `data` as it is."""
        yield data


class Chain(Fault):
    """Several faults, one after the other.

    Those that know frames come before those that leave none.

    :param faults: the first one gets the octets first
    :raises UsageError: one is no fault, or has a user already
    """

    def __init__(self, *faults: Fault) -> None:
        self._faults = claimed(*(("each part of a Chain", fault) for fault in faults))
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
