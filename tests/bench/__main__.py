"""The command: chooses rows, runs them, and says what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.bench.plot import draw
from tests.bench.records import records
from tests.bench.report import HEADING, line_of, machine, record_line, summary, table
from tests.bench.row import Row, run_row
from tests.bench.rows import ROWS
from tests.bench.stable import Stable


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parser().parse_args(arguments)
    rows = [row for row in ROWS.values() if _wanted(row, options.rows)]
    if not rows:
        sys.exit(f"no row is named so; there are {', '.join(ROWS)}")
    if options.list:
        return say(*(f"{row.name:40} {row.what}" for row in rows))
    say(HEADING)
    figures: dict[str, Any] = {
        "machine": machine(),
        "rows": list(_run(rows, options.pairs, options.scale)),
        "records": list(records(options.scale)) if options.records else [],
    }
    say(*map(record_line, figures["records"]))
    _write(figures, options)
    return None


def _write(figures: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what is asked for. Rows that a JSON has, and that did not run now, stay in it."""
    if options.json:
        if options.json.exists():
            figures = merged(json.loads(options.json.read_text("utf-8")), figures)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(figures["rows"], options.plot)
    if options.table:
        options.table.write_text(table(figures["rows"]) + "\n", encoding="utf-8")


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Take the newer of each row, in the order of the table."""
    rows = {row["name"]: row for row in (*before["rows"], *now["rows"])}
    return {
        **now,
        "rows": [rows[name] for name in ROWS if name in rows],
        "records": now["records"] or before["records"],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="PATTERN", help="by name")
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--pairs", type=int, default=20, help="how many bursts of each")
    parser.add_argument("--scale", type=float, default=1, help="of the bursts' length")
    parser.add_argument("--records", action="store_true", help="login, copies, memory")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="as Markdown")
    return parser


def _wanted(row: Row, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(row.name, pattern) for pattern in patterns)


def _run(rows: Sequence[Row], pairs: int, scale: float) -> Iterator[dict[str, Any]]:
    with Stable() as stable:
        for row in rows:
            try:
                result = run_row(row, stable, pairs, scale)
            except FileNotFoundError as error:  # a peer is not installed; it says which
                say(f"not measured: {row.what}: {error}")
                continue
            say(line_of(result))
            yield summary(result)


def say(*lines: str) -> None:
    """Print, at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
