"""Cyrus' POP3 server through every shell, and its client, pop3test, at our server's half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.testing.pairs import mechanism_pair
from tests.peers.cyrus import Cyrus
from tests.peers.cyrus_logins import (
    STRENGTHS,
    WRONG,
    check_ssf,
    cyrus_client,
    digest,
    hear_the_end,
    in_frames,
    kerberos,
    log_in_after_failures,
    shown_ssf,
)
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.shells import Conversation, Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(60)


class Session:
    """A connection to Cyrus, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self.conversation.receive_until(b"\r\n")  # the greeting

    def log_in(self, mechanism: ClientMechanism) -> POP3Auth:
        login = POP3Auth(mechanism)
        self.conversation.authenticate(login)
        return login

    def command(self, words: str, ending: bytes = b"\r\n") -> bytes:
        self.conversation.send(f"{words}\r\n".encode())
        return self.conversation.receive_until(ending)


@pytest.fixture
def tap(cyrus: Cyrus, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(cyrus.address, cyrus.ports["pop3"])


IN_CLEAR = {
    Direction.SERVER_TO_CLIENT: rb"\+OK[^\r]*\r\n(?:(?:\+ |-ERR)[^\r]*\r\n)*\+OK[^\r]*\r\n",
    Direction.CLIENT_TO_SERVER: rb"AUTH [^\r]*\r\n(?:[A-Za-z0-9+/=]*\r\n)+",
}


def work(session: Session) -> None:
    """What a client does that has just logged in."""
    assert b"\r\nUIDL\r\n" in session.command("CAPA", b"\r\n.\r\n")
    assert session.command("STAT").startswith(b"+OK ")
    assert session.command("QUIT") == b"+OK\r\n"
    hear_the_end(session.conversation)


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection, service="pop"))
    check_ssf(session.conversation, STRENGTHS[protection])
    assert (login.status, login.code) == ("+OK", None)
    work(session)
    shows = protection == "auth-int"
    assert (b"UIDL" in in_frames(tap, Direction.SERVER_TO_CLIENT, IN_CLEAR)) is shows
    assert (b"STAT" in in_frames(tap, Direction.CLIENT_TO_SERVER, IN_CLEAR)) is shows


def test_a_login_after_those_that_failed(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    refusal = r"refused DIGEST-MD5: -ERR \[AUTH\], 'authent"
    log_in_after_failures(session.conversation, session.log_in, "pop", refusal)
    work(session)
    wire = tap.recordings[0].client_to_server
    assert b"\r\nAUTH DIGEST-MD5\r\n*\r\nAUTH DIGEST-MD5\r\n" in wire
    assert b"STAT" not in wire


def test_a_login_without_a_layer(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    session.log_in(digest(protection="auth", service="pop"))
    assert session.conversation.context is None
    work(session)
    tap.wait_closed()
    assert b"STAT" in tap.client_to_server


@pytest.mark.parametrize("greatest", [256, 1])
@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(shell: Shell, gss_cyrus: Cyrus, greatest: int) -> None:
    """Its first message is longer than a command may be: it waits for the server's turn."""
    session = Session(shell, gss_cyrus.ports["pop3"])
    session.log_in(kerberos("pop", greatest))
    check_ssf(session.conversation, greatest)
    work(session)


READY = b"+OK ready\r\n"


def pop3test_server(protection: str) -> POP3AuthServer:
    server = mechanism_pair(protection, service="pop").server
    return POP3AuthServer({"DIGEST-MD5": lambda: server})


def answer_commands(conversation: Conversation) -> list[str]:
    """Answer every command up to QUIT, and give them; pop3test's first one is CAPA."""
    commands: list[str] = []
    while "QUIT" not in commands:
        command = conversation.receive_until(b"\r\n").decode().strip()
        offer = "SASL DIGEST-MD5\r\n.\r\n" if command == "CAPA" else ""
        conversation.send(f"+OK done\r\n{offer}".encode())
        commands.append(command)
    return commands


@pytest.mark.parametrize("protection", STRENGTHS)
def test_pop3test_logs_in_to_us(shell: Shell, protection: str) -> None:
    with cyrus_client(shell, "pop3test", commands=b"NOOP\r\nQUIT\r\n") as pop3test:
        pop3test.let_in(READY, pop3test_server(protection), protection)
        assert answer_commands(pop3test.conversation) == ["CAPA", "NOOP", "QUIT"]
        said = pop3test.said()
    assert b"S: +OK authenticated" in said
    assert shown_ssf(STRENGTHS[protection]) in said.splitlines()


def test_pop3test_with_a_wrong_password(shell: Shell) -> None:
    with cyrus_client(shell, "pop3test", WRONG.password) as pop3test:
        said = pop3test.refuse(READY, pop3test_server("rc4"))
    assert b"S: -ERR [AUTH] authentication failed" in said
