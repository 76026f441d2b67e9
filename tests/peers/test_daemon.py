"""What every server under test has of `Daemon`: shown by one that writes down where it lives."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers.daemon import Daemon
from tests.peers.support import StartError, program, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

SCRIPT = """\
import os, pathlib, socket, sys
port, word = sys.argv[1:]
pathlib.Path("pid").write_text(str(os.getpid()))
pathlib.Path("config").write_text(os.environ.get("KRB5_CONFIG", ""))
if word == "fail":
    sys.exit(f"cannot work in {os.getcwd()}")
with socket.create_server(("127.0.0.1", int(port))) as server:
    print(word, flush=True)
    while True:
        server.accept()[0].close()
"""


class Toy(Daemon):
    def __init__(self, word: str = "ready", environment: Mapping[str, str] | None = None) -> None:
        super().__init__(environment)
        self.word = word

    def _prepare(self) -> None:
        self._choose_ports("toy")
        self._adopt()

    def _start(self, stack: ExitStack) -> None:
        self._run(stack, sys.executable, "-c", SCRIPT, str(self.port), self.word, ready="ready")


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_stays_behind() -> None:
    toy = Toy()
    for _ in range(2):
        with toy:
            folder, pid = toy.folder, int((toy.folder / "pid").read_text())
            assert toy.log.read_text() == "ready\n"
            assert toy.ports == {"toy": toy.port}
            assert runs(pid)
        assert not runs(pid)
        assert not folder.exists()
        with pytest.raises(AssertionError, match="not started"):
            assert toy.port


def test_nor_does_it_after_a_start_that_fails() -> None:
    toy = Toy("fail")
    with pytest.raises(StartError, match="ended with status 1\ncannot work in ") as caught:
        toy.__enter__()
    assert not Path(str(caught.value).split()[-1]).exists()
    with pytest.raises(AssertionError, match="not started"):
        assert toy.folder


def test_what_a_realm_keeps_is_copied(tmp_path: Path) -> None:
    """Whoever it runs as may not look into the realm's folder."""
    config = tmp_path / "krb5.conf"
    config.write_text("[libdefaults]\n")
    with Toy(environment={"KRB5_CONFIG": str(config)}) as toy:
        copy = toy.folder / "krb5.conf"
        assert (toy.folder / "config").read_text() == str(copy)
        assert copy.read_text() == "[libdefaults]\n"


def test_a_program_that_fails_says_why() -> None:
    assert run("sh", "-c", "cat", answer="a word") == b"a word"
    assert run("sh", "-c", "echo $WORD", environ={"WORD": "another"}) == b"another\n"
    with pytest.raises(StartError, match=r"^sh: status 3\nthe reason\n$"):
        run("sh", "-c", "echo the reason >&2; exit 3")
    with pytest.raises(FileNotFoundError, match="apt-get install no-such-program"):
        program("no-such-program")
