"""The command `saslwrap`. Each subcommand is a module with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from saslwrap import __version__
from saslwrap.cli import demo
from saslwrap.errors import SASLError, UsageError

__all__ = ["main"]

COMMANDS = {"demo": demo}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 for an error, 2 for bad usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        COMMANDS[options.command].run(options)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SASLError, OSError) as error:
        print(f"saslwrap {options.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="saslwrap", description="SASL security layers between a stream and the application."
    )
    parser.add_argument("--version", action="version", version=f"saslwrap {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary, _, rest = (module.__doc__ or "").partition("\n")
        module.add_arguments(commands.add_parser(name, help=summary, description=summary + rest))
    return parser
