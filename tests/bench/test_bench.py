"""The benchmarks run: each row, tiny, once. Nothing here looks at how long that took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saslwrap.framing import FrameDecoder
from saslwrap.testing import context_pair
from tests.bench import contests
from tests.bench.__main__ import main
from tests.bench.copies import SIZE, copies_of, inbound, outbound
from tests.bench.cost import Cost
from tests.bench.interval import median_interval
from tests.bench.report import table
from tests.bench.row import Result, Row, Verdict, run_row
from tests.bench.rows import ROWS
from tests.bench.stable import Stable
from tests.peers.support import require_sasl_plugin, unavailable

DAY_TO_DAY = Path(__file__).with_name("day_to_day.py")


@pytest.fixture(scope="module")
def stable() -> Iterator[Stable]:
    with Stable() as stable:
        yield stable


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mebibyte is 256 octets."""
    monkeypatch.setattr(contests, "MIB", 256)


@pytest.mark.peer
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_runs(row: Row, stable: Stable) -> None:
    if row.name.endswith("-cyrus"):
        require_sasl_plugin("digestmd5")
        require_sasl_plugin("sasldb")
    try:
        result = run_row(row, stable, pairs=1, scale=0)
    except FileNotFoundError as error:
        unavailable(str(error))
    assert len(result.ours) == len(result.theirs) == 1
    assert min(*result.ratios("cpu"), *result.ratios("wall")) > 0


def contested(*pairs: tuple[float, float], **options: float | str) -> Result:
    """What comes of costs that are known."""
    row = Row("name", "what", lambda _: pytest.fail("not run"), 1, **options)  # type: ignore[arg-type]
    ours, theirs = ([Cost(9, cpu) for cpu in side] for side in zip(*pairs, strict=True))
    return Result(row, ours, theirs)


def test_a_median_lies_between_the_sixth_and_the_fifteenth_of_twenty() -> None:
    interval = median_interval([*range(20, 0, -1)])
    assert (interval.median, interval.low, interval.high) == (10.5, 6, 15)
    assert round(interval.confidence, 4) == 0.9586


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (40, 14, 27)]
)
def test_the_interval_of_a_median(count: int, low: int, high: int) -> None:
    """6, 9 and 40 stand in the tables of the sign test; under 6 it is all there is."""
    interval = median_interval([*range(1, count + 1)])
    assert (interval.low, interval.high) == (low, high)
    assert (interval.confidence >= 0.95) is (count > 5)


def test_a_speed_is_ours_over_theirs_and_a_time_is_too() -> None:
    assert contested((2, 4)).interval.median == 2
    assert contested((2, 4), figure="time").interval.median == 0.5


@pytest.mark.parametrize(
    ("figure", "ratios", "verdict"),
    [
        ("speed", [0.8, 0.8, 0.8, 0.8, 0.8, 0.8], Verdict.SHORT),
        ("speed", [0.8, 0.8, 0.8, 0.8, 0.8, 1.0], Verdict.MUST),
        ("speed", [0.8, 0.8, 0.8, 0.8, 0.8, 1.3], Verdict.AIM),
        ("time", [1.3, 1.3, 1.3, 1.3, 1.3, 1.3], Verdict.SHORT),
        ("time", [1.3, 1.3, 1.3, 1.3, 1.3, 1.1], Verdict.MUST),
        ("time", [1.3, 1.3, 1.3, 1.3, 1.3, 0.8], Verdict.AIM),
    ],
)
def test_a_row_falls_short_only_with_its_whole_interval(
    figure: str, ratios: list[float], verdict: Verdict
) -> None:
    must, aim = (1.0, 1.2) if figure == "speed" else (1.2, 1.0)
    pairs = [(1, ratio) if figure == "speed" else (ratio, 1) for ratio in ratios]
    assert contested(*pairs, figure=figure, must=must, aim=aim).verdict is verdict
    assert contested(*pairs, figure=figure).verdict is Verdict.RECORD


def test_pairs_take_turns_in_who_is_first() -> None:
    order = []

    def contestant(name: str) -> Cost:
        order.append(name)
        return Cost(1, 1)

    row = Row("name", "what", lambda _: (lambda _: contestant("a"), lambda _: contestant("b")), 1)
    with Stable() as stable:
        run_row(row, stable, pairs=3)
    assert "".join(order) == "ab" + "abbaab"


def test_the_command_reports_as_text_json_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "figures.svg"
    options = ["--json", str(figures), "--plot", str(picture), "--scale", "0", "--pairs", "6"]
    main(["--rows", "rc4-65000-*-primitives", "rc4-100-*", *options])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "rc4 65,000 B, seal / its primitives alone" in lines[1]
    found = json.loads(figures.read_text())
    assert found["machine"]["cores"]
    names = [row["name"] for row in found["rows"]]
    assert names[0] == "rc4-65000-seal-primitives"
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in found["rows"])
    assert all(len(row["ratios"]["cpu"]) == row["pairs"] == 6 for row in found["rows"])
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("protection", "sent", "received"), [("auth-int", 1, 2), ("rc4", 2, 2), ("3des", 2, 3)]
)
def test_the_payload_is_copied_no_more_than_is_said(
    protection: str, sent: int, received: int
) -> None:
    """The guard: of what is received, one is the reassembly; the cipher's output counts."""
    assert sum(outbound(protection).values()) == sent
    assert sum(inbound(protection).values()) == received


@pytest.mark.parametrize("protection", ["auth-int", "rc4"])
def test_a_large_token_of_bytes_is_not_copied_to_be_opened(protection: str) -> None:
    """What is counted is the message that comes out."""
    client, server = context_pair(protection, client_maxbuf=0xFFFFFF)
    token = server.seal(bytes(SIZE))
    assert sum(copies_of(lambda: client.unseal(token)).values()) == 1


def test_a_copy_is_found_by_its_line() -> None:
    """The control: what the decoder gives up is a copy of all that it holds."""
    decoder = FrameDecoder(2 * SIZE)
    decoder.receive_data(bytes(SIZE))
    (line,) = copies_of(decoder.clear)
    assert line.startswith("framing.py: rest, self._buffer = bytes(self._buffer)")


def test_the_records_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--scale", "0", "--pairs", "1", "--json", str(figures)]
    main(["--rows", "rc4-65000-seal-primitives", "--records", *options])
    assert "login in memory, both sides, us: " in capsys.readouterr().out
    noted = json.loads(figures.read_text())["records"]
    idle, half = (record["value"] for record in noted[-2:])
    assert 30_000 < half - idle < 65_000


def test_rows_that_did_not_run_stay_in_the_file(tmp_path: Path) -> None:
    figures, text = tmp_path / "figures.json", tmp_path / "table.md"
    options = ["--scale", "0", "--pairs", "1", "--json", str(figures), "--table", str(text)]
    main(["--rows", "rc4-100-in-one-read", *options])
    main(["--rows", "rc4-65000-seal-primitives", *options])
    names = [row["name"] for row in json.loads(figures.read_text())["rows"]]
    assert names == ["rc4-65000-seal-primitives", "rc4-100-in-one-read"]
    assert text.read_text().count("\n| rc4 65,000 B, seal / its primitives alone |") == 1


def test_the_page_shows_the_figures_that_it_was_made_from() -> None:
    docs = Path(__file__).parents[2] / "docs"
    figures = json.loads((docs / "performance.json").read_text(encoding="utf-8"))
    assert table(figures["rows"]) in (docs / "performance.md").read_text(encoding="utf-8")
    assert {row["name"] for row in figures["rows"]} == set(ROWS)


def test_a_peer_that_is_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("saslwrap.testing._processes._SYSTEM_FOLDERS", ())
    main(["--rows", "rc4-64-seal-cyrus", "--scale", "0"])
    said = capsys.readouterr().out
    assert "not measured: rc4 64 B" in said
    assert "gcc: apt-get install" in said


def test_rows_that_are_not_there_are_refused() -> None:
    with pytest.raises(SystemExit, match="rc4-64-seal-cyrus"):
        main(["--rows", "nothing"])


def test_our_own_day_to_day_figures_run() -> None:
    """They stand outside of what pytest collects by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", DAY_TO_DAY, "--benchmark-disable"],
        cwd=DAY_TO_DAY.parents[2],
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
