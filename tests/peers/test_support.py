from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.peers.support import (
    REQUIRE_PEERS,
    StartError,
    find_program,
    free_port,
    require_program,
    require_sasl_plugin,
    stop_process,
    wait_for_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def idle_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    stop_process(process)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.peers.support.find_program", lambda name: None)
    monkeypatch.setattr("tests.peers.support.glob", lambda pattern: [])
    monkeypatch.delenv(REQUIRE_PEERS, raising=False)


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_program_skips_and_names_the_packages() -> None:
    with pytest.raises(Skipped, match=r"slapd libsasl2-modules ldap-utils$"):
        require_program("slapd", "ldapsearch")


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_plugin_skips_and_names_the_package() -> None:
    with pytest.raises(Skipped, match="digestmd5: apt-get install libsasl2-modules"):
        require_sasl_plugin("digestmd5")


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_program_fails_where_peers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE_PEERS, "1")
    with pytest.raises(Failed, match="no slapd"):
        require_program("slapd")


def test_a_program_that_exists() -> None:
    require_program("sh")
    assert find_program("sh")


def test_waiting_ends_with_the_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the reason\n")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(StartError, match="ended with status 3\nthe reason"):
        wait_for_port(process, free_port(), log)


def test_waiting_has_an_end(idle_process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"after 0\.1 s\n\(no log"):
        wait_for_port(idle_process, free_port(), tmp_path / "log", timeout=0.1)
