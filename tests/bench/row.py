"""A row: two contestants, and what is asked of ours; running it gives its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, TypeAlias

from tests.bench.cost import Clock, Contestant, Cost
from tests.bench.interval import Interval, median_interval
from tests.bench.stable import Stable

__all__ = ["Contest", "Figure", "Result", "Row", "Verdict", "run_row"]

#: `"speed"` is ours over theirs, where more is better; of `"time"` less is.
Figure: TypeAlias = Literal["speed", "time"]

#: Makes ready ours and theirs.
Contest: TypeAlias = Callable[[Stable], tuple[Contestant, Contestant]]


class Verdict(StrEnum):
    """Where the interval lies."""

    AIM = "aim"
    MUST = "must"
    SHORT = "short"
    RECORD = "record"


@dataclass(frozen=True)
class Row:
    """What is compared with what.

    :ivar must: what the ratio has to reach; None, as `aim`, for the record only
    :ivar count: operations of a burst
    :ivar octets: of one operation, to tell a throughput; 0 where that says nothing
    """

    name: str
    what: str
    contest: Contest
    count: int
    figure: Figure = "speed"
    must: float | None = None
    aim: float | None = None
    octets: int = 0
    clock: Clock = "cpu"

    def ratio(self, ours: float, theirs: float) -> float:
        return theirs / ours if self.figure == "speed" else ours / theirs

    def reaches(self, interval: Interval, mark: float) -> bool:
        """Whether a part of the interval, at the least, does."""
        return interval.high >= mark if self.figure == "speed" else interval.low <= mark


@dataclass(frozen=True)
class Result:
    """What came of a row, pair by pair."""

    row: Row
    ours: list[Cost]
    theirs: list[Cost]

    def ratios(self, clock: Clock) -> list[float]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [self.row.ratio(ours.on(clock), theirs.on(clock)) for ours, theirs in pairs]

    @cached_property
    def interval(self) -> Interval:
        return median_interval(self.ratios(self.row.clock))

    @property
    def verdict(self) -> Verdict:
        row = self.row
        if row.must is None:
            return Verdict.RECORD
        if row.aim is not None and row.reaches(self.interval, row.aim):
            return Verdict.AIM
        return Verdict.MUST if row.reaches(self.interval, row.must) else Verdict.SHORT


def run_row(row: Row, stable: Stable, pairs: int, scale: float = 1) -> Result:
    """Run a row: a burst each to warm up, then in turns, the first one in turns too.

    :param scale: of the bursts' length; tests make it tiny
    """
    ours, theirs = row.contest(stable)
    count = max(1, round(row.count * scale))
    list(_pairs(ours, theirs, count, 1))
    results = list(_pairs(ours, theirs, count, pairs))
    return Result(row, [first for first, _ in results], [second for _, second in results])


def _pairs(
    ours: Contestant, theirs: Contestant, count: int, pairs: int
) -> Iterator[tuple[Cost, Cost]]:
    for number in range(pairs):
        if number % 2:
            second = theirs(count)
            yield ours(count), second
        else:
            first = ours(count)
            yield first, theirs(count)
