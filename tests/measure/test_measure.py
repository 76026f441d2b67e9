"""Each measurement runs, small, and tells what it measured.

Times and memory are the machine's, and nothing is expected of them.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from statistics import mean, variance
from typing import Any

import pytest

from tests.measure.__main__ import main
from tests.measure.idle_stacks import STACKS
from tests.measure.memory import FILE_DESCRIPTORS
from tests.measure.process import Child, raise_file_limit
from tests.measure.report import table
from tests.measure.soak_plan import FAULT_NAMES, HARMLESS, Octets
from tests.measure.timing import CASES
from tests.measure.trend import trend
from tests.measure.welch import largest_t, welch_t

linux = pytest.mark.skipif(not FILE_DESCRIPTORS.exists(), reason="the kernel tells nothing here")


@pytest.fixture
def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a measurement; give what it prints, and the data of its JSON."""

    def run(*arguments: str) -> tuple[str, Any]:
        file = tmp_path / "measured.json"
        main([*arguments, "--json", str(file)])
        report = json.loads(file.read_text())
        assert report["machine"]["cores"]
        return capsys.readouterr().out, report["data"]

    return run


@linux
@pytest.mark.timeout(300)
def test_soak(measured: Any) -> None:
    """Whatever the machine: nothing wrong, nothing unexplained, nothing left."""
    harmful = [name for name in FAULT_NAMES if name not in HARMLESS]
    brief = ("--pace", "0.02", "--idle", "0.1", "--patience", "2", "--interval", "0.2")
    text, data = measured(
        *("soak", "--connections", str(3 * len(FAULT_NAMES)), "--minutes", "0.01"),
        *("--warm-up", "0.01", "--deaths", str(len(harmful)), *brief),
    )
    for end in "client", "server":
        assert f"{end}: " in text
        tally = data[end]["tally"]
        assert tally["octets"] > 0
        assert tally["wrong"] == 0
        assert tally["unexpected"] == []
        assert data[end]["left"] == {}
        assert data[end]["trends"]["SecurityContext"]["most"] > len(FAULT_NAMES)
        assert {"RSS, KiB", "traced, KiB", "files"} < set(data[end]["trends"])
    assert sum(data["client"]["tally"]["ends"].values()) >= len(harmful)


@linux
@pytest.mark.timeout(300)  # many processes one after the other
def test_idle(measured: Any) -> None:
    text, rows = measured("idle", "--connections", "10")
    assert [(row["stack"], row["end"]) for row in rows] == [
        (name, end) for name in STACKS for end in ("client", "server")
    ]
    assert all(name in text for name in STACKS)


def test_timing(measured: Any) -> None:
    text, rows = measured("timing", "--samples", "200")
    assert {(row["cipher"], row["case"]) for row in rows} == {
        (cipher, case) for cipher in ("des", "3des") for case in CASES
    }
    assert [row["unsealer"] for row in rows].count("leaky") == 2
    assert [row["second"] for row in rows].count("bad MAC") == 2
    assert all(row["first_median"] > 0 for row in rows)
    assert "same length" in text


def test_welchs_t() -> None:
    first, second = [10, 12, 15, 11], [20, 22, 21]
    error = variance(first) / len(first) + variance(second) / len(second)
    test = welch_t(first, second)
    assert test.t == pytest.approx((mean(first) - mean(second)) / error**0.5)
    assert test.counts == (4, 3)
    assert welch_t(second, first).t == pytest.approx(-test.t)
    assert welch_t([5, 5], [5, 5]).t == 0
    assert welch_t([5, 5], [6, 6]).t < -1e9


def test_the_long_tail_is_cropped() -> None:
    """A difference that a few huge times drown without."""
    tail = [1_000_000, 9_000_000]
    first = [100, 101, 102] * 50 + tail
    second = [103, 104, 105] * 50 + tail[::-1]
    assert abs(welch_t(first, second).t) < 1
    cropped = largest_t(first, second)
    assert cropped.t < -10
    assert cropped.percentile < 1


def test_a_trend() -> None:
    flat = trend([0, 1, 2, 3], [7, 7, 7, 7])
    assert (flat.mean, flat.least, flat.most, flat.slope, flat.error) == (7, 7, 7, 0, 0)
    growing = trend([0, 1, 2, 3], [1, 3, 5, 7])
    assert growing.slope == pytest.approx(2)
    assert growing.error == pytest.approx(0, abs=1e-6)
    noisy = trend([0, 1, 2, 3], [1, 3, 4, 7])
    assert noisy.slope == pytest.approx(1.9)
    assert noisy.error == pytest.approx(2 * (0.7 / 2 / 5) ** 0.5)
    assert trend([0, 1], [0, 9]).slope == 0


def test_octets_are_the_same_in_any_pieces() -> None:
    whole = Octets("seed").take(5000)
    pieces = Octets("seed")
    assert b"".join(pieces.take(size) for size in (1, 0, 1023, 1024, 2952)) == whole
    assert Octets("another").take(5000) != whole


def test_a_table() -> None:
    assert table(("a", "b"), [("long name", "1"), ("x", "1000")]) == (
        "a             b\nlong name     1\nx          1000"
    )


def test_more_files_than_the_system_allows() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    with pytest.raises(OSError, match="ulimit -Hn"):
        raise_file_limit(hard + 1)


def fail(pipe: object) -> None:
    raise SystemExit(1)


def test_a_process_that_ends_instead_of_answering() -> None:
    with Child(fail) as child, pytest.raises(EOFError):
        child.answer()
