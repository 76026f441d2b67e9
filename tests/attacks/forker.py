"""Runs pytest in folder after folder, each time in a fork of a process that is warm.

A program: `python -I forker.py`. It reads a line of JSON, `[folder, environment, test, ...]`, and
answers with `[exit code, report]`. Warm means that pytest and the libraries below are imported; the
package is not: each folder has a copy of its own, which stands first on the path.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

PATIENCE = 60

WARM = (
    "anyio.pytest_plugin",
    "anyio._backends._asyncio",
    "anyio.streams.tls",
    "cryptography.hazmat.decrepit.ciphers.algorithms",
    "cryptography.hazmat.primitives.ciphers.modes",
    "cryptography.hazmat.primitives.hmac",
)


def run(folder: str, environment: dict[str, str], tests: list[str]) -> int:
    """Run tests in a child process, its report in `report.txt`; give its exit code."""
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        os.chdir(folder)
        os.environ.update(environment)
        report = os.open("report.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(report, 1)
        os.dup2(report, 2)
        sys.path.insert(0, folder)
        code = pytest.main(["-q", "-x", "-rf", "--tb=line", *tests])
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Answer until there is nothing more to read."""
    for module in WARM:
        importlib.import_module(module)
    for line in sys.stdin:
        folder, environment, *tests = json.loads(line)
        code = run(folder, environment, tests)
        report = Path(folder, "report.txt").read_text("utf-8")
        sys.stdout.write(json.dumps([code, report]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
