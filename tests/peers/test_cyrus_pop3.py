"""Cyrus' POP3 server through every shell, and its client, pop3test, at our server's half."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    GSSAPIClient,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.testing.pairs import PASSWORD, USERNAME, mechanism_pair
from tests.peers.cyrus import Cyrus, require_imtest, run_imtest
from tests.peers.imap_wire import frame_lengths
from tests.peers.kdc import BOB
from tests.peers.test_cyrus_imap import STRENGTHS, WRONG, digest, shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.shells import Conversation, Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

__all__ = ["shell"]

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


def sealed(tap: Wiretap, direction: Direction) -> bytes:
    """What went in frames, once the connection is closed; nothing else did."""
    tap.wait_closed()
    wire = tap.recordings[0].sent(direction)
    if direction is Direction.SERVER_TO_CLIENT:
        found = re.match(rb"\+OK.*?\r\n(?:(?:\+ |-ERR)[^\r]*\r\n)*\+OK[^\r]*\r\n", wire)
    else:
        found = re.match(rb"AUTH .*?\r\n(?:[A-Za-z0-9+/=]*\r\n)+", wire)
    assert found
    assert frame_lengths(wire[found.end() :])
    return wire[found.end() :]


def work(session: Session) -> None:
    """What a client does that has just logged in."""
    assert b"\r\nUIDL\r\n" in session.command("CAPA", b"\r\n.\r\n")
    assert session.command("STAT").startswith(b"+OK ")
    assert session.command("QUIT") == b"+OK\r\n"
    assert session.conversation.receive() == b""
    session.conversation.close()


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection, service="pop"))
    context = session.conversation.context
    assert context is not None
    assert context.ssf == STRENGTHS[protection]
    assert (login.status, login.code) == ("+OK", None)
    work(session)
    shows = protection == "auth-int"
    assert (b"UIDL" in sealed(tap, Direction.SERVER_TO_CLIENT)) is shows
    assert (b"STAT" in sealed(tap, Direction.CLIENT_TO_SERVER)) is shows


def test_a_login_after_those_that_failed(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    with pytest.raises(AuthenticationError, match=r"refused DIGEST-MD5: -ERR \[AUTH\], 'authent"):
        session.log_in(digest(WRONG, service="pop"))
    with pytest.raises(NegotiationError, match="the server offers auth,"):
        session.log_in(digest(properties=SecurityProperties(min_ssf=200), service="pop"))
    assert session.conversation.context is None
    session.log_in(digest(BOB, service="pop"))
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
    properties = SecurityProperties(min_ssf=1, max_ssf=greatest)
    session.log_in(GSSAPIClient(service="pop", host=Cyrus.host, properties=properties))
    context = session.conversation.context
    assert context is not None
    assert context.ssf == greatest
    work(session)


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
    require_imtest()
    listener = shell.listen()
    port = listener.getsockname()[1]
    with run_imtest(port, USERNAME, PASSWORD, name="pop3test", commands=b"NOOP\r\nQUIT\r\n") as it:
        conversation = shell.accept(listener)
        conversation.send(b"+OK ready\r\n")
        context = conversation.authenticate(pop3test_server(protection))
        assert context is not None
        assert context.ssf == STRENGTHS[protection]
        assert answer_commands(conversation) == ["CAPA", "NOOP", "QUIT"]
        conversation.close()
        said, _ = it.communicate(b"", 30)
    assert b"S: +OK authenticated" in said
    assert f"Security strength factor: {STRENGTHS[protection]}".encode() in said.splitlines()


def test_pop3test_with_a_wrong_password(shell: Shell) -> None:
    require_imtest()
    listener = shell.listen()
    port = listener.getsockname()[1]
    with run_imtest(port, USERNAME, WRONG.password, name="pop3test", commands=b"") as pop3test:
        conversation = shell.accept(listener)
        conversation.send(b"+OK ready\r\n")
        with pytest.raises(AuthenticationError):
            conversation.authenticate(pop3test_server("rc4"))
        conversation.close()
        said, _ = pop3test.communicate(b"", 30)
    assert b"S: -ERR [AUTH] authentication failed" in said
