"""SMTP's AUTH at Cyrus' LMTP server through every shell: mail is delivered under each layer.

At the end its clients, smtptest and lmtptest, log in to our server's half.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from saslwrap.testing.pairs import mechanism_pair
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
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.imap_session import IMAPSession, mail
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.cyrus import Cyrus
    from tests.peers.shells import Conversation, Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(60)

VOLUME = 50_000


class Session:
    """A connection to Cyrus, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        assert self.conversation.receive_until(b"\r\n").startswith(b"220 ")
        assert b"AUTH DIGEST-MD5" in self.greet()

    def log_in(self, mechanism: ClientMechanism) -> SMTPAuth:
        login = SMTPAuth(mechanism)
        self.conversation.authenticate(login)
        return login

    def greet(self) -> bytes:
        self.conversation.send(b"LHLO client.example.com\r\n")
        reply = b""
        while not re.search(rb"(?:\A|\n)250 [^\n]*\n\Z", reply):
            reply += self.conversation.receive_until(b"\r\n")
        return reply

    def command(self, words: bytes, status: bytes) -> None:
        self.conversation.send(words + b"\r\n")
        assert self.conversation.receive_until(b"\r\n").startswith(status)

    def deliver(self, message: bytes) -> None:
        self.command(b"MAIL FROM:<bob@example.com>", b"250 ")
        self.command(b"RCPT TO:<alice>", b"250 ")
        self.command(b"DATA", b"354 ")
        self.command(message + b".", b"250 ")

    def leave(self) -> None:
        self.command(b"QUIT", b"221 ")
        hear_the_end(self.conversation)


@pytest.fixture
def tap(cyrus: Cyrus, shell: Shell, wiretap: WiretapFactory) -> Wiretap:
    provide_inbox(shell, cyrus)
    return wiretap(cyrus.address, cyrus.ports["lmtp"])


def provide_inbox(shell: Shell, cyrus: Cyrus) -> None:
    """Give alice what mail can be delivered to: her first login makes it."""
    session = IMAPSession(shell, cyrus.port)
    session.log_in(digest())
    session.log_out()


IN_CLEAR = {
    Direction.SERVER_TO_CLIENT: rb".*?\r\n235 [^\r]*\r\n",
    Direction.CLIENT_TO_SERVER: rb"LHLO [^\r]*\r\nAUTH [^\r]*\r\n(?:[A-Za-z0-9+/=]*\r\n)+",
}


def work(session: Session) -> None:
    """What a client does that has just logged in."""
    assert b"PIPELINING" in session.greet()
    session.deliver(mail(VOLUME))
    session.leave()


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection, service="lmtp"))
    check_ssf(session.conversation, STRENGTHS[protection])
    assert (login.status, login.code) == ("235", None)
    work(session)
    shows = protection == "auth-int"
    assert (b"PIPELINING" in in_frames(tap, Direction.SERVER_TO_CLIENT, IN_CLEAR)) is shows
    assert (NEEDLE.encode() in in_frames(tap, Direction.CLIENT_TO_SERVER, IN_CLEAR)) is shows


def test_a_login_after_those_that_failed(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    refusal = r"refused DIGEST-MD5: 501 \[5\.5\.4\], 'un"
    log_in_after_failures(session.conversation, session.log_in, "lmtp", refusal, ALICE)
    work(session)
    wire = tap.recordings[0].client_to_server
    assert b"\r\nAUTH DIGEST-MD5\r\n*\r\nAUTH DIGEST-MD5\r\n" in wire
    assert NEEDLE.encode() not in wire


def test_a_login_without_a_layer(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    session.log_in(digest(protection="auth", service="lmtp"))
    assert session.conversation.context is None
    work(session)
    tap.wait_closed()
    assert NEEDLE.encode() in tap.client_to_server


@pytest.mark.parametrize("greatest", [256, 1])
@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(shell: Shell, gss_cyrus: Cyrus, greatest: int) -> None:
    """Its first message is longer than a command may be: it waits for the server's turn."""
    provide_inbox(shell, gss_cyrus)
    session = Session(shell, gss_cyrus.ports["lmtp"])
    session.log_in(kerberos("lmtp", greatest))
    check_ssf(session.conversation, greatest)
    work(session)


READY = b"220 localhost ready\r\n"


def smtptest_server(protection: str, service: str) -> SMTPAuthServer:
    server = mechanism_pair(protection, service=service).server
    return SMTPAuthServer({"DIGEST-MD5": lambda: server})


def answer_commands(conversation: Conversation) -> list[str]:
    """Answer every command up to QUIT, and give them; the first one is EHLO or LHLO."""
    commands: list[str] = []
    while "QUIT" not in commands:
        command = conversation.receive_until(b"\r\n").decode().split()[0]
        offer = "250-localhost\r\n250 AUTH DIGEST-MD5\r\n"
        conversation.send((offer if command.endswith("HLO") else "250 done\r\n").encode())
        commands.append(command)
    return commands


PROGRAMS = [("smtptest", "smtp", "EHLO"), ("lmtptest", "lmtp", "LHLO")]


@pytest.mark.parametrize(("program", "service", "greets"), PROGRAMS)
@pytest.mark.parametrize("protection", STRENGTHS)
def test_cyrus_client_logs_in_to_us(
    shell: Shell, protection: str, program: str, service: str, greets: str
) -> None:
    with cyrus_client(shell, program, commands=b"NOOP\r\nQUIT\r\n") as it:
        it.let_in(READY, smtptest_server(protection, service), protection)
        assert answer_commands(it.conversation) == [greets, "NOOP", "QUIT"]
        said = it.said()
    assert b"S: 235 2.7.0 authenticated" in said
    assert shown_ssf(STRENGTHS[protection]) in said.splitlines()
    assert b"WARNING" not in said


def test_smtptest_with_a_wrong_password(shell: Shell) -> None:
    with cyrus_client(shell, "smtptest", WRONG.password) as smtptest:
        said = smtptest.refuse(READY, smtptest_server("rc4", "smtp"))
    assert b"S: 535 5.7.8 authentication failed" in said
