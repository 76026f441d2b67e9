"""What an operation costs, on two clocks.

CPU time is what rows go by: what else the machine does is not in it. Of two processes that work
hand in hand it is that of the busier one, which is what would bound them on two idle cores. The
wall clock is kept beside it, and is what counts for threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter_ns, process_time_ns
from typing import Literal, TypeAlias

__all__ = ["Clock", "Contestant", "Cost", "in_turns", "one_each", "repeated", "timed"]

Clock: TypeAlias = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Cost:
    """Of one operation, in seconds, unless a row says otherwise."""

    wall: float
    cpu: float

    def on(self, clock: Clock) -> float:
        return self.wall if clock == "wall" else self.cpu

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)

    def __truediv__(self, count: int) -> Cost:
        return Cost(self.wall / count, self.cpu / count)


#: Does an operation so many times, and says what one of them cost.
Contestant: TypeAlias = Callable[[int], Cost]


def timed(work: Callable[[], object]) -> Cost:
    """Time one call."""
    wall, cpu = perf_counter_ns(), process_time_ns()
    work()
    cpu, wall = process_time_ns() - cpu, perf_counter_ns() - wall
    return Cost(wall / 1e9, cpu / 1e9)


def repeated(call: Callable[[bytes], object], message: bytes) -> Contestant:
    """Call with the same argument each time."""

    def contestant(count: int) -> Cost:
        def work() -> None:
            for _ in range(count):
                call(message)

        return timed(work) / count

    return contestant


def one_each(call: Callable[[bytes], object], prepare: Callable[[], bytes]) -> Contestant:
    """Call with an argument of its own each time; they are prepared before the clock starts."""

    def contestant(count: int) -> Cost:
        arguments = [prepare() for _ in range(count)]

        def work() -> None:
            for argument in arguments:
                call(argument)

        return timed(work) / count

    return contestant


def in_turns(contestants: Iterable[Contestant]) -> Contestant:
    """Let another one of them do each burst."""
    turns = cycle(contestants)
    return lambda count: next(turns)(count)
