"""Cyrus' client, imtest, against `IMAPServer`: the client side of the peer, in another process.

What the two have agreed on is read from what passed the wiretap, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import SecurityProperties
from saslwrap.testing import IMAPServer
from saslwrap.testing.pairs import PASSWORD, USERNAME, properties_for
from tests.peers.cyrus import require_imtest, run_imtest
from tests.peers.directory import NEEDLE
from tests.peers.frames import frame_lengths
from tests.peers.imap_wire import behind_the_login
from tests.peers.support import LOOPBACK, require_sasl_plugin
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from tests.peers.wiretap import Wiretap, WiretapFactory

STRENGTHS = {"rc4": 128, "rc4-56": 56, "des": 55, "rc4-40": 40, "auth-int": 1}
MAXBUF = 1024  # what imtest announces

LINE = f"{NEEDLE} and some more\r\n".encode()
MESSAGE = b"Subject: a needle\r\n\r\n" + LINE * 300


@pytest.fixture(autouse=True)
def _imtest() -> None:
    require_imtest()


def make_server(properties: SecurityProperties) -> IMAPServer:
    return IMAPServer({"INBOX": [MESSAGE]}, {USERNAME: PASSWORD}, properties=properties)


def talk(
    port: int, commands: bytes, password: str = PASSWORD, mechanism: str = "DIGEST-MD5"
) -> bytes:
    """What imtest prints, up to its end."""
    with run_imtest(port, USERNAME, password, commands, mechanism=mechanism) as imtest:
        said, _ = imtest.communicate(b"", 30)
    return said


def lengths(tap: Wiretap, direction: Direction) -> list[int]:
    return frame_lengths(behind_the_login(tap.recordings[0], direction))


@pytest.mark.parametrize("protection", STRENGTHS)
def test_imtest_does_its_work(wiretap: WiretapFactory, protection: str) -> None:
    with make_server(properties_for(protection)).in_thread() as server:
        tap = wiretap(LOOPBACK, server.port)
        commands = (
            b'z1 LIST "" *\r\nz2 SELECT INBOX\r\nz3 FETCH 1 BODY[]\r\n'
            b"z4 APPEND INBOX {5+}\r\nhello\r\nz5 UID SEARCH TEXT hello\r\nz6 LOGOUT\r\n"
        )
        said = talk(tap.port, commands)
        assert server.messages("INBOX")[2].content == b"hello"
    assert f"Security strength factor: {STRENGTHS[protection]}".encode() in said.splitlines()
    assert b"AUTH=" in said
    assert b"possible MITM attack" not in said
    assert said.count(LINE) == 300
    for end in (b"z2 OK [READ-WRITE] SELECT", b"z4 OK [APPENDUID 1 2]", b"z6 OK LOGOUT"):
        assert end in said
    assert b"* SEARCH 2\r\n" in said
    tap.wait_closed()
    both = b"".join(behind_the_login(tap.recordings[0], direction) for direction in Direction)
    shows = protection == "auth-int"
    assert [word in both for word in (NEEDLE.encode(), b"INBOX", b"hello")] == [shows] * 3
    assert max(lengths(tap, Direction.SERVER_TO_CLIENT)) <= MAXBUF
    assert lengths(tap, Direction.CLIENT_TO_SERVER)


def test_a_wrong_password(wiretap: WiretapFactory) -> None:
    with make_server(properties_for("rc4")).in_thread() as server:
        said = talk(server.port, b"", password="wrong")
    assert b"S: A01 NO [AUTHENTICATIONFAILED] authentication failed" in said


def test_imtest_says_that_nothing_protects_it() -> None:
    with make_server(properties_for("auth")).in_thread() as server:
        said = talk(server.port, b"z1 SELECT INBOX\r\nz2 LOGOUT\r\n")
    assert b"Security strength factor: 0" in said.splitlines()
    assert b"z1 OK [READ-WRITE]" in said


@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(wiretap: WiretapFactory) -> None:
    pytest.importorskip("spnego")
    require_sasl_plugin("gssapiv2")
    with IMAPServer({"INBOX": [MESSAGE]}, mechanisms=["GSSAPI"]).in_thread() as server:
        tap = wiretap(LOOPBACK, server.port)
        said = talk(
            tap.port, b"z1 SELECT INBOX\r\nz2 FETCH 1 RFC822\r\nz3 LOGOUT\r\n", mechanism="GSSAPI"
        )
    assert b"Security strength factor: 256" in said.splitlines()
    assert said.count(LINE) == 300
    tap.wait_closed()
    assert NEEDLE.encode() not in tap.server_to_client
    assert lengths(tap, Direction.SERVER_TO_CLIENT)
