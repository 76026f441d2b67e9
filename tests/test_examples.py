"""Each example runs as it stands, in an interpreter of its own, and logs in under a layer.

With arguments that it does not take it says how it is used.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import saslwrap

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("[!_]*.py"))

#: ldap3 takes old names of pyasn1.
WARNINGS = ("error", "ignore:tagMap is deprecated", "ignore:typeMap is deprecated")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_runs_and_seals(example: Path) -> None:
    done = run(example)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "rc4" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["localhost", "no port", "alice", "s3cret"]],
    ids=["help", "port"],
)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_says_how_it_is_used(example: Path, arguments: list[str]) -> None:
    done = run(example, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"{ast.get_docstring(ast.parse(example.read_text()), clean=False)}\n"
    assert example.name in done.stderr


def run(example: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(f"-W{action}" for action in WARNINGS), example, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(saslwrap.__file__).parent.parent)},
        timeout=60,
        check=False,
    )


def test_there_are_examples() -> None:
    assert EXAMPLES
