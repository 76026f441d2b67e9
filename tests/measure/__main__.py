"""`python -m tests.measure NAME`: measure, print what came out, and write it as JSON if asked."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.measure import idle, soak, timing

MEASUREMENTS = {"idle": idle, "soak": soak, "timing": timing}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one measurement."""
    parser = ArgumentParser(prog="python -m tests.measure", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in MEASUREMENTS.items():
        command = commands.add_parser(name, description=module.__doc__)
        command.add_argument("--json", type=Path, help="a file to write it to")
        module.add_arguments(command)
    arguments = parser.parse_args(argv)
    report = MEASUREMENTS[arguments.name].run(arguments)
    sys.stdout.write(str(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
