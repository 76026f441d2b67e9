from __future__ import annotations

import getpass
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import saslwrap
from saslwrap.cli import demo, main
from saslwrap.cli.picture import LENGTH, MAC, PLAIN, SEALED, SEQUENCE, TYPE, frame_parts
from saslwrap.properties import QOP
from saslwrap.testing import (
    PROTECTIONS,
    AfterLogin,
    Cut,
    Fault,
    FaultProxy,
    FlipBit,
    LDAPServer,
    Stop,
    context_pair,
)

SENTENCE = "Nobody"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def server() -> Iterator[LDAPServer]:
    entries = {"dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]}}
    with LDAPServer(entries, users={"alice": "s3cret"}).in_thread() as running:
        yield running


def columns(output: str) -> tuple[str, str]:
    """The text of the left and of the right side of every row of octets, without line breaks."""
    rows = re.findall(r"│ [0-9a-f ]{25}(.{8}) │ [0-9a-f ]{25}(.{8}) │", output)
    return "".join(left for left, _ in rows), "".join(right for _, right in rows)


def test_the_demo_shows_plaintext_beside_what_nobody_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo"]) == 0
    output = capsys.readouterr().out
    application, wire = columns(output)
    assert SENTENCE in application
    assert SENTENCE not in wire
    assert "auth-conf with rc4, SSF 128" in output
    assert "sequence number" in output


def test_without_a_layer_the_demo_shows_that_the_wire_can_be_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--protection", "auth"]) == 0
    output = capsys.readouterr().out
    application, wire = columns(output)
    assert SENTENCE in application
    assert SENTENCE in wire
    assert "no layer" in output


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_demo_takes_every_protection(
    protection: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--protection", protection]) == 0
    assert protection in capsys.readouterr().out


def test_the_demo_talks_to_another_server_and_finds_its_base(
    server: LDAPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret\n"))
    assert main(["demo", "--url", server.url, "--user", "alice"]) == 0
    output = capsys.readouterr().out
    assert "what is at dc=example,dc=com?" in output
    assert "s3cret" not in output


def test_the_clients_proof_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    output = capsys.readouterr().out.replace("\n", "")
    assert "response=...," in output
    assert not re.search(r"response=[0-9a-f]", output)


def test_a_wrong_password_ends_in_one_line(
    server: LDAPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    assert main(["demo", "--url", server.url, "--user", "alice"]) == 1
    assert "invalidCredentials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--url", "http://localhost", "--user", "x"], "ldap://host"),
        (["--url", "ldap://localhost"], "--user"),
        (["--user", "x"], "--url"),
        (["--url", "ldap://localhost:99999", "--user", "x"], "ldap://host[:port]"),
        (["--url", "ldap://localhost:0x", "--user", "x"], "ldap://host[:port]"),
        (["--url", "ldap://[::1", "--user", "x"], "ldap://host[:port]"),
        (["--realm", ""], "--realm go with --url"),
        (["--max-buffer", "3"], "from 17 to 16777215"),
    ],
)
def test_a_wrong_use_says_what_to_do(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("stdin", [None, io.StringIO("")])
def test_no_password_is_no_password(
    stdin: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["demo", "--url", "ldap://localhost", "--user", "alice"]) == 2
    assert "no password was given" in capsys.readouterr().err


def test_the_end_of_input_at_the_prompt_is_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(getpass, "getpass", lambda _: input())
    assert main(["demo", "--url", "ldap://localhost", "--user", "alice"]) == 2
    assert "no password was given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (partial(AfterLogin, FlipBit(5)), "a protected message was altered or forged"),
        (partial(AfterLogin, Cut(0)), "the server closed the connection"),
        (partial(AfterLogin, Cut(10)), "inside a frame"),
    ],
    ids=["altered", "end", "cut"],
)
def test_a_connection_that_fails_ends_in_one_line(
    fault: Callable[[], Fault],
    told: str,
    server: LDAPServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret\n"))
    with FaultProxy("localhost", server.port, to_client=fault).in_thread() as proxy:
        assert main(["demo", "--url", f"ldap://localhost:{proxy.port}", "--user", "alice"]) == 1
    assert re.fullmatch(f"saslwrap demo: .*{told}.*\n", capsys.readouterr().err)


def test_a_silent_server_is_not_waited_for(
    server: LDAPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret\n"))
    monkeypatch.setattr(demo, "TIMEOUT", 0.05)
    with FaultProxy("localhost", server.port, to_client=lambda: Stop(0)).in_thread() as proxy:
        assert main(["demo", "--url", f"ldap://localhost:{proxy.port}", "--user", "alice"]) == 1
    assert capsys.readouterr().err == "saslwrap demo: the server said nothing for 0.05 s\n"


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "saslwrap", "demo", "--base", b"ou=\xff"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=False,
    )
    assert b"Traceback" not in ended.stderr
    assert ended.returncode == 0


def test_no_connection_names_the_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x\n"))
    assert main(["demo", "--url", "ldap://127.0.0.1:1", "--user", "x"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_without_rich_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["demo"]) == 1
    assert "pip install 'saslwrap[cli]'" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


def test_python_m_saslwrap_is_the_command() -> None:
    command = [sys.executable, "-m", "saslwrap", "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == f"saslwrap {saslwrap.__version__}\n"


def test_output_into_a_pipe_that_closes_is_no_traceback() -> None:
    command = f"{sys.executable} -m saslwrap demo | head -n 1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert ended.stderr == ""


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_parts_of_a_frame_are_told_apart(protection: str) -> None:
    context = context_pair(protection).client
    token = context.seal(b"message")
    frame = len(token).to_bytes(4, "big") + token
    parts = frame_parts(frame, context.qop)
    styles = [style for _, style in parts]
    body = [PLAIN, MAC] if context.qop is QOP.AUTH_INT else [SEALED]
    assert styles == [LENGTH, *body, TYPE, SEQUENCE]
    assert b"".join(data for data, _ in parts) == frame
    assert parts[-2:] == [(b"\x00\x01", TYPE), (b"\x00\x00\x00\x00", SEQUENCE)]
