"""A short run of the fuzzer on each target, where there is one: always the same one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel here"
)

#: So many inputs; a second or two, and more of the slow ones would not be.
RUNS = 1000
RUNS_OF_SLOW = {"gss-spnego-step": 100, "gss-spnego-kerberos-step": 100}


def fuzz(name: str, found: Path, runs: int) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer in a process of its own: it ends it, and has the package instrumented."""
    options = [f"--runs={runs}", "--seed=1", f"--found={found}"]
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "run", name, *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    )


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    TARGETS[name].require()
    done = fuzz(name, tmp_path, RUNS_OF_SLOW.get(name, RUNS))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "DONE" in done.stderr
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
