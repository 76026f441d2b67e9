"""Whether a figure stays where it is: a line through its samples, by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

__all__ = ["Trend", "trend"]


@dataclass(frozen=True)
class Trend:
    """What the samples of a figure did.

    :param slope: what the figure grows by in a minute
    :param error: two standard errors of the slope: its samples alone explain as much
    """

    mean: float
    least: float
    most: float
    slope: float
    error: float


def trend(minutes: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line; of fewer than three samples, or samples at one time, it has no slope."""
    slope, error = 0.0, 0.0
    if len(set(minutes)) > 2:
        slope, intercept = linear_regression(minutes, values)
        residuals = (
            value - slope * minute - intercept
            for minute, value in zip(minutes, values, strict=True)
        )
        variance = sum(residual * residual for residual in residuals) / (len(values) - 2)
        middle = fmean(minutes)
        error = 2 * (variance / sum((minute - middle) ** 2 for minute in minutes)) ** 0.5
    return Trend(fmean(values), min(values), max(values), slope, error)
