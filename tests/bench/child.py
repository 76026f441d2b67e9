"""A contestant in a process of its own: a peer that does on command what is timed.

It is told `seal SIZE COUNT` or `unseal SIZE COUNT` on its standard input, and answers in a line
with the nanoseconds that it took, on the wall and on the CPU, by its own clocks. Neither its start
nor the pipe is in them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.bench.cost import Contestant, Cost
from tests.peers.support import StartError, stop_process

__all__ = ["Child", "built", "python_child", "run_python"]

_ROOT = Path(__file__).parents[2]


class Child:
    """A peer at work."""

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def contestant(self, what: str, size: int) -> Contestant:
        return lambda count: self.measure(f"{what} {size} {count}") / count

    def measure(self, command: str) -> Cost:
        """Have it do something, and hear what that took."""
        pipe = _there(self._process.stdin)
        pipe.write(command + "\n")
        pipe.flush()
        if not (line := self.line()):
            raise StartError(f"{self._process.args!r} ended, status {self._process.wait()}")
        wall, cpu = map(int, line.split())
        return Cost(wall / 1e9, cpu / 1e9)

    def line(self) -> str:
        """Hear what it says; nothing if it ended."""
        return _there(self._process.stdout).readline()

    def close(self) -> None:
        """End it."""
        stop_process(self._process)
        _there(self._process.stdin).close()
        _there(self._process.stdout).close()


def python_child(module: str, *arguments: str) -> Child:
    """Start a module of ours."""
    return Child([sys.executable, "-m", module, *arguments], _environment())


def run_python(code: str, **environment: str) -> str:
    """Run some code in an interpreter of its own; give what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.check_output(
        command, text=True, env={**os.environ, **_environment(), **environment}
    )


def _environment() -> dict[str, str]:
    path = filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
    return {"PYTHONPATH": os.pathsep.join(path)}


def built(command: Sequence[str | Path]) -> None:
    """Run a compiler. Its warnings are errors.

    :raises StartError: it said something
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode or done.stderr:
        raise StartError(f"{command[0]}: {done.stderr}")


def _there(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
