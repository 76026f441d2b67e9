"""Cyrus' ManageSieve server through every shell, and its client, sivtest, at our server's half."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from saslwrap.protocols.pop3 import POP3Auth
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.sync import authenticate_socket
from saslwrap.testing.pairs import mechanism_pair
from tests.peers.cyrus import USERS, Cyrus
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
from tests.peers.shells import driving_shells
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.shells import Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.timeout(60), driving_shells]

SCRIPT = b'require ["fileinto"];\r\nfileinto "INBOX.plaintext-needle";\r\n'


class Session:
    """A connection to Cyrus, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self.conversation.receive_until(b"OK\r\n")  # the greeting

    def log_in(self, mechanism: ClientMechanism) -> SieveAuthenticate:
        login = SieveAuthenticate(mechanism)
        self.conversation.authenticate(login)
        return login

    def command(self, words: bytes) -> bytes:
        self.conversation.send(words + b"\r\n")
        return self.conversation.receive_until(b"OK\r\n")


def sieve_port(server: Cyrus) -> int:
    """The port, once the users have an INBOX, as timsieved wants: a login elsewhere makes it."""
    for user in USERS:
        sock = socket.create_connection((server.address, server.ports["pop3"]), 15)
        assert sock.recv(1000).endswith(b"\r\n")
        authenticate_socket(sock, POP3Auth(digest(user, service="pop"))).close()
    return server.ports["sieve"]


@pytest.fixture(scope="module")
def port(cyrus: Cyrus) -> int:
    return sieve_port(cyrus)


@pytest.fixture(scope="module")
def eager_port(eager_cyrus: Cyrus) -> int:
    return sieve_port(eager_cyrus)


@pytest.fixture(scope="module")
def gss_port(gss_cyrus: Cyrus) -> int:
    return sieve_port(gss_cyrus)


@pytest.fixture
def tap(port: int, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(Cyrus.address, port)


IN_CLEAR = {
    Direction.SERVER_TO_CLIENT: rb".*?\r\nOK \(SASL [^\r]*\r\n",
    Direction.CLIENT_TO_SERVER: rb'AUTHENTICATE "DIGEST-MD5"\r\n"[A-Za-z0-9+/=]*"\r\n',
}


def work(session: Session) -> None:
    """Put a script and get it back."""
    put = b'PUTSCRIPT "ours" {%d+}\r\n%b' % (len(SCRIPT), SCRIPT)
    assert session.command(put) == b"OK\r\n"
    assert b'"ours"' in session.command(b"LISTSCRIPTS")
    assert session.command(b'GETSCRIPT "ours"') == b"{%d}\r\n%b\r\nOK\r\n" % (len(SCRIPT), SCRIPT)
    session.conversation.send(b"LOGOUT\r\n")
    assert session.conversation.receive_until(b"\r\n").startswith(b"OK")
    hear_the_end(session.conversation)


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection, service="sieve"))
    check_ssf(session.conversation, STRENGTHS[protection])
    assert (login.status, login.code) == ("OK", "SASL")
    assert login.capabilities is not None
    assert "fileinto" in (login.capabilities["SIEVE"] or "")
    work(session)
    shows = protection == "auth-int"
    for direction in Direction:
        assert (b"fileinto" in in_frames(tap, direction, IN_CLEAR)) is shows


def test_a_server_that_says_its_capabilities_unasked(shell: Shell, eager_port: int) -> None:
    """They lie right behind its OK, in the layer; the client asked too, and both answers go."""
    session = Session(shell, eager_port)
    login = session.log_in(digest(service="sieve"))
    assert login.capabilities is not None
    assert login.capabilities["SASL"] == "DIGEST-MD5 GSSAPI"
    work(session)


def test_a_login_after_those_that_failed(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    log_in_after_failures(session.conversation, session.log_in, "sieve", "refused DIGEST-MD5: NO")
    work(session)
    wire = tap.recordings[0].client_to_server
    assert b'\r\nAUTHENTICATE "DIGEST-MD5"\r\n"*"\r\nAUTHENTICATE' in wire
    assert b"fileinto" not in wire


def test_a_login_without_a_layer(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection="auth", service="sieve"))
    assert session.conversation.context is None
    assert login.capabilities is None
    work(session)
    tap.wait_closed()
    assert b"fileinto" in tap.client_to_server


@pytest.mark.parametrize("greatest", [256, 1])
@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(shell: Shell, gss_port: int, greatest: int) -> None:
    session = Session(shell, gss_port)
    login = session.log_in(kerberos("sieve", greatest))
    check_ssf(session.conversation, greatest)
    assert login.capabilities
    work(session)


def sivtest_server(protection: str) -> SieveAuthenticateServer:
    server = mechanism_pair(protection, service="sieve").server
    return SieveAuthenticateServer(
        {"DIGEST-MD5": lambda: server}, capabilities={"SIEVE": "x"}, announce=False
    )


@pytest.mark.parametrize("protection", STRENGTHS)
def test_sivtest_logs_in_to_us(shell: Shell, protection: str) -> None:
    """It asks for the capabilities under the layer, and holds them against the greeting's."""
    with cyrus_client(shell, "sivtest", commands=b"NOOP\r\n") as sivtest:
        conversation, login = sivtest.conversation, sivtest_server(protection)
        sivtest.let_in(login.greeting, login, protection)
        assert conversation.receive_until(b"\r\n") == b"CAPABILITY\r\n"
        conversation.send(login.greeting)
        assert conversation.receive_until(b"\r\n") == b"NOOP\r\n"
        conversation.send(b'OK "done"\r\n')
        said = sivtest.said()
    assert shown_ssf(STRENGTHS[protection]) in said.splitlines()
    assert said.count(b'S: "SIEVE" "x"') == 2
    assert b"WARNING" not in said


def test_sivtest_with_a_wrong_password(shell: Shell) -> None:
    with cyrus_client(shell, "sivtest", WRONG.password) as sivtest:
        login = sivtest_server("rc4")
        said = sivtest.refuse(login.greeting, login)
    assert b'S: NO "authentication failed"' in said
