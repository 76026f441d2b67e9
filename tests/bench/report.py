"""What came out, as text for people and as JSON for whatever draws or compares."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from tests.bench.cost import Clock, Cost
from tests.bench.row import Result, Row, Verdict

__all__ = ["HEADING", "line_of", "machine", "record_line", "summary", "table"]

CLOCKS: tuple[Clock, ...] = ("cpu", "wall")

HEADING = (
    f"{'ratio':>6}  {'interval':<14} {'must':>5} {'aim':>5}  {'ours':>12} {'peer':>12}  "
    f"{'reaches':8}  row [clock; ratio on the other one]"
)


def line_of(result: Result) -> str:
    """One row, for people."""
    row, interval = result.row, result.interval
    other: Clock = "cpu" if row.clock == "wall" else "wall"
    bounds = f"{interval.low:.2f} to {interval.high:.2f}"
    marks = " ".join(f"{'' if mark is None else mark:>5}" for mark in (row.must, row.aim))
    ours, theirs = (_told(row, costs) for costs in (result.ours, result.theirs))
    return (
        f"{interval.median:6.2f}  {bounds:<14} {marks}  {ours:>12} {theirs:>12}  {result.verdict:8}"
        f"  {row.what} [{row.clock}; {other} {median(result.ratios(other)):.2f}]"
    )


def _told(row: Row, costs: list[Cost]) -> str:
    return _figure(row.octets, median(cost.on(row.clock) for cost in costs))


def _figure(octets: int, cost: float) -> str:
    """A throughput, a time, or a share."""
    if octets >= 1024:
        return f"{octets / cost / 1e6:.0f} MB/s"
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if cost < 500 * size:
            return f"{cost / size:.3g} {unit}"
    return f"{cost:.2f}"


def summary(result: Result) -> dict[str, Any]:
    """One row, for machines; costs are medians of an operation, in seconds."""
    row, interval = result.row, result.interval
    return {
        "name": row.name,
        "what": row.what,
        "figure": row.figure,
        "must": row.must,
        "aim": row.aim,
        "clock": row.clock,
        "octets": row.octets,
        "pairs": len(result.ours),
        "ratio": interval.median,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "verdict": result.verdict,
        "ours": {clock: median(cost.on(clock) for cost in result.ours) for clock in CLOCKS},
        "peer": {clock: median(cost.on(clock) for cost in result.theirs) for clock in CLOCKS},
        "ratios": {clock: result.ratios(clock) for clock in CLOCKS},
    }


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a table in Markdown.

    :param rows: as in the JSON
    """
    heading = "| what | ours | peer | ratio | interval | must | aim |"
    rule = "|---|--:|--:|--:|---|--:|--:|"
    return "\n".join([heading, rule, *map(_table_line, rows)])


def _table_line(row: Mapping[str, Any]) -> str:
    costs = (_figure(row["octets"], row[side][row["clock"]]) for side in ("ours", "peer"))
    sign = "≥" if row["figure"] == "speed" else "≤"
    marks = ("" if row[mark] is None else f"{sign} {row[mark]}" for mark in ("must", "aim"))
    ratio = f"{row['ratio']:.2f}"
    if row["verdict"] == Verdict.SHORT:
        ratio = f"**{ratio}**"
    interval = f"{row['low']:.2f} to {row['high']:.2f}"
    return f"| {' | '.join((row['what'], *costs, ratio, interval, *marks))} |"


def record_line(record: Mapping[str, Any]) -> str:
    """One thing that is for the record, for people."""
    if "value" in record:
        return f"{record['name']}: {record['value']:.0f}"
    lines = (f"    {times} x {line}" for line, times in record["lines"].items())
    return "\n".join([f"{record['name']}:", *lines])


def machine() -> dict[str, Any]:
    """Where it ran, and over what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.platform(terse=True),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        **{name: version(name) for name in ("anyio", "cryptography", "pyspnego", "saslwrap")},
    }
