"""The command: list the targets, run the fuzzer on one, minimise what it found into the corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fuzz import engine

#: Where runs leave what they find; git ignores it.
FOUND = Path(".fuzz")


def main() -> None:
    """Do what the arguments say."""
    arguments = _parser().parse_args()
    arguments.work(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="name the targets, and what each may raise")
    listing.set_defaults(work=list_targets)
    run = commands.add_parser("run", help="run the fuzzer until it finds something")
    run.add_argument("--seconds", type=int, default=0, help="stop then; 0 is never")
    run.add_argument("--runs", type=int, default=-1, help="stop after so many; -1 is never")
    run.add_argument("--seed", type=int, default=0, help="of the fuzzer; 0 is another each time")
    run.set_defaults(work=run_target)
    minimise = commands.add_parser("minimise", help="make the corpus anew, with what was found")
    minimise.set_defaults(work=minimise_corpus)
    replay = commands.add_parser("replay", help="attack with files, without the fuzzer")
    replay.set_defaults(work=replay_files)
    for command in (run, minimise, replay):
        command.add_argument("target")
    for command in (run, minimise):
        command.add_argument("--found", type=Path, default=FOUND, help="folder of what is found")
    replay.add_argument("files", type=Path, nargs="+")
    return parser


def list_targets(arguments: argparse.Namespace) -> None:
    """Print each target, with what it may raise."""
    from tests.fuzz.targets import TARGETS

    for target in TARGETS.values():
        print(target.name)
        for kind, reason in target.allowed.items():
            print(f"    {kind.__name__}: {reason}")


def run_target(arguments: argparse.Namespace) -> None:
    """Run the fuzzer. What makes it stop is a file beside the folder of what it found."""
    found = arguments.found / arguments.target
    engine.fuzz(
        arguments.target,
        found,
        [
            f"-max_total_time={arguments.seconds}",
            f"-runs={arguments.runs}",
            f"-seed={arguments.seed}",
            f"-artifact_prefix={found}-",
            "-print_final_stats=1",
        ],
    )


def minimise_corpus(arguments: argparse.Namespace) -> None:
    """Put the corpus and what was found together, and keep what is worth it."""
    from tests.fuzz.minimise import minimise
    from tests.fuzz.targets import TARGETS

    target = TARGETS[arguments.target]
    found = (arguments.found / target.name).glob("*")
    inputs = [path.read_bytes() for path in (*target.corpus(), *found)]
    print(f"{target.name}: {len(inputs)} inputs, {minimise(target, inputs)} kept")


def replay_files(arguments: argparse.Namespace) -> None:
    """Attack with each file, and say what comes of it."""
    from tests.fuzz.targets import TARGETS

    for file in arguments.files:
        print(f"{file}: {TARGETS[arguments.target].run(file.read_bytes())!r}")


if __name__ == "__main__":
    main()
