"""Each example runs as it stands, in an interpreter of its own, and logs in under a layer."""

from __future__ import annotations

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
    done = subprocess.run(
        [sys.executable, *(f"-W{action}" for action in WARNINGS), example],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(saslwrap.__file__).parent.parent)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "rc4" in done.stdout


def test_there_are_examples() -> None:
    assert EXAMPLES
