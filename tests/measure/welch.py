"""Welch's t of two classes of times, as dudect takes it (Reparaz, Balasch, Verbauwhede: "Dude, is
my code constant time?", DATE 2017, section III).

A time has a long tail that is not the code's: interrupts, caches, other processes. So the test is
made of all times, and again of those below each of a hundred thresholds, which are percentiles of
both classes together, close to each other at the upper end. What counts is the largest |t|.

dudect takes a |t| over 10 for a leak, and smaller ones for "maybe not constant"; 4.5 is what others
take for one test alone. Of a hundred tests the largest is larger than of one, without any leak.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, sqrt

__all__ = ["Cropped", "largest_t", "welch_t"]

THRESHOLDS = 100


@dataclass(frozen=True)
class Cropped:
    """A t, and of what it was taken.

    :param percentile: times up to this one of both classes together, 0 to 1
    :param counts: how many of either class
    """

    t: float
    percentile: float
    counts: tuple[int, int]


class _Sorted:
    """One class of times, with the sums of each of its beginnings: exact, since in integers."""

    def __init__(self, times: Sequence[int]) -> None:
        self.times = sorted(times)
        self._sums = [0, *accumulate(self.times)]
        self._squares = [0, *accumulate(time * time for time in self.times)]

    def below(self, threshold: float) -> int:
        """How many are not over the threshold."""
        return bisect_right(self.times, threshold)

    def mean(self, count: int) -> float:
        return self._sums[count] / count

    def squared_error(self, count: int) -> float:
        """Of the mean of the first `count`: their variance by their number."""
        total = self._sums[count]
        spread = count * self._squares[count] - total * total
        return float(spread / (count * count * (count - 1)))


def welch_t(first: Sequence[int], second: Sequence[int]) -> Cropped:
    """Test all times: positive where the first class takes longer."""
    return _test(_Sorted(first), _Sorted(second), 1.0, inf)


def largest_t(first: Sequence[int], second: Sequence[int]) -> Cropped:
    """Test the times below each threshold, and give the test with the largest |t|.

    :param first: at least two times, in whole nanoseconds; the same for `second`
    """
    classes = _Sorted(first), _Sorted(second)
    together = sorted([*first, *second])
    tests = [
        _test(*classes, percentile, together[int(percentile * (len(together) - 1))])
        for percentile in map(_percentile, range(THRESHOLDS))
    ]
    return max(tests, key=lambda test: abs(test.t))


def _percentile(place: int) -> float:
    """dudect's: 1 - 0.5^(10 i / 100), for i from 1."""
    return 1.0 - float(0.5 ** (10 * (place + 1) / THRESHOLDS))


def _test(first: _Sorted, second: _Sorted, percentile: float, threshold: float) -> Cropped:
    counts = first.below(threshold), second.below(threshold)
    if min(counts) < 2:
        return Cropped(0.0, percentile, counts)
    error = first.squared_error(counts[0]) + second.squared_error(counts[1])
    apart = first.mean(counts[0]) - second.mean(counts[1])
    t = apart / sqrt(error) if error else 0.0 if not apart else inf * apart
    return Cropped(t, percentile, counts)
