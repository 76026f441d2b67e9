"""Each example runs as it stands, in an interpreter of its own, and logs in under a layer.

With arguments that it does not take it says how it is used; a password is none, for whoever lists
the machine's processes would read it: it is asked for.
"""

from __future__ import annotations

import ast
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import saslwrap
from saslwrap.testing import IMAPServer, LDAPServer

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("[!_]*.py"))

#: ldap3 takes old names of pyasn1.
WARNINGS = ("error", "ignore:tagMap is deprecated", "ignore:typeMap is deprecated")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(saslwrap.__file__).parent.parent)}

BASE = "dc=example,dc=com"
DIRECTORY = {
    BASE: {"objectClass": ["domain"], "dc": ["example"]},
    f"cn=bob,{BASE}": {"objectClass": ["person"], "cn": ["bob"], "sn": ["Builder"]},
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_runs_and_seals(example: Path) -> None:
    done = run(example)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "rc4" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["localhost", "no port", "alice"]],
    ids=["help", "port"],
)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_says_how_it_is_used(example: Path, arguments: list[str]) -> None:
    done = run(example, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"{ast.get_docstring(ast.parse(example.read_text()), clean=False)}\n"
    assert example.name in done.stderr


@pytest.fixture
def port(example: str) -> Iterator[int]:
    """The port of a server for the example, which is ours and seals."""
    users = {"alice": "s3cret"}
    ldap = LDAPServer(DIRECTORY, users=users)
    imap = IMAPServer({"INBOX": [b"Subject: hello\r\n\r\nHow are you?\r\n"]}, users=users)
    with (imap if "imap" in example else ldap).in_thread() as server:
        yield server.port


@pytest.mark.parametrize(
    ("example", "further", "shown"),
    [
        ("anyldap_sealed", [], "Builder"),
        ("blocking_socket", [], "alice"),
        ("imaplib_sealed", [], "Subject: hello"),
        ("ldap3_sealed", [], "Builder"),
        ("ldap_search", [BASE], "dc: example"),
    ],
)
def test_asks_for_the_password(example: str, port: int, further: list[str], shown: str) -> None:
    with ExitStack() as stack:
        keyboard, terminal = pty.openpty()
        stack.callback(os.close, keyboard)
        stack.callback(os.close, terminal)
        program = subprocess.Popen(
            command(FOLDER / f"{example}.py", "localhost", str(port), "alice", *further),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,  # so that it asks this terminal, not the tests'
        )
        stack.enter_context(program)
        stack.callback(program.kill)
        assert program.stderr
        assert program.stderr.read(10) == b"Password: "
        os.write(keyboard, b"s3cret\n")
        output, complaints = program.communicate(timeout=60)
    assert program.returncode == 0, complaints
    assert shown in output.decode()


def run(example: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(example, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


def command(example: Path, *arguments: str) -> list[str]:
    return [sys.executable, *(f"-W{action}" for action in WARNINGS), str(example), *arguments]


def test_there_are_examples() -> None:
    assert EXAMPLES
