"""Cyrus' ManageSieve server through every shell, and its client, sivtest, at our server's half."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    GSSAPIClient,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.protocols.pop3 import POP3Auth
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.sync import authenticate_socket
from saslwrap.testing.pairs import PASSWORD, USERNAME, mechanism_pair
from tests.peers.cyrus import USERS, Cyrus, require_imtest, run_imtest
from tests.peers.imap_wire import frame_lengths
from tests.peers.kdc import BOB
from tests.peers.test_cyrus_imap import STRENGTHS, WRONG, digest
from tests.peers.test_ldap_login import shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.shells import Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

__all__ = ["shell"]

pytestmark = pytest.mark.timeout(60)

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


def sealed(tap: Wiretap, direction: Direction) -> bytes:
    """What went in frames, once the connection is closed; nothing else did."""
    tap.wait_closed()
    wire = tap.recordings[0].sent(direction)
    if direction is Direction.SERVER_TO_CLIENT:
        found = re.match(rb".*?\r\nOK \(SASL [^\r]*\r\n", wire, re.DOTALL)
    else:
        found = re.match(rb'AUTHENTICATE "DIGEST-MD5"\r\n"[A-Za-z0-9+/=]*"\r\n', wire)
    assert found
    assert frame_lengths(wire[found.end() :])
    return wire[found.end() :]


def work(session: Session) -> None:
    """Put a script and get it back."""
    put = b'PUTSCRIPT "ours" {%d+}\r\n%b' % (len(SCRIPT), SCRIPT)
    assert session.command(put) == b"OK\r\n"
    assert b'"ours"' in session.command(b"LISTSCRIPTS")
    assert session.command(b'GETSCRIPT "ours"') == b"{%d}\r\n%b\r\nOK\r\n" % (len(SCRIPT), SCRIPT)
    session.conversation.send(b"LOGOUT\r\n")
    assert session.conversation.receive_until(b"\r\n").startswith(b"OK")
    assert session.conversation.receive() == b""
    session.conversation.close()


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection, service="sieve"))
    context = session.conversation.context
    assert context is not None
    assert context.ssf == STRENGTHS[protection]
    assert (login.status, login.code) == ("OK", "SASL")
    assert login.capabilities is not None
    assert "fileinto" in (login.capabilities["SIEVE"] or "")
    work(session)
    shows = protection == "auth-int"
    for direction in Direction:
        assert (b"fileinto" in sealed(tap, direction)) is shows


def test_a_server_that_says_its_capabilities_unasked(shell: Shell, eager_port: int) -> None:
    """They lie right behind its OK, in the layer; the client asked too, and both answers go."""
    session = Session(shell, eager_port)
    login = session.log_in(digest(service="sieve"))
    assert login.capabilities is not None
    assert login.capabilities["SASL"] == "DIGEST-MD5 GSSAPI"
    work(session)


def test_a_login_after_those_that_failed(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    with pytest.raises(AuthenticationError, match="refused DIGEST-MD5: NO"):
        session.log_in(digest(WRONG, service="sieve"))
    with pytest.raises(NegotiationError, match="the server offers auth,"):
        session.log_in(digest(properties=SecurityProperties(min_ssf=200), service="sieve"))
    assert session.conversation.context is None
    session.log_in(digest(BOB, service="sieve"))
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
    properties = SecurityProperties(min_ssf=1, max_ssf=greatest)
    login = session.log_in(GSSAPIClient(service="sieve", host=Cyrus.host, properties=properties))
    context = session.conversation.context
    assert context is not None
    assert context.ssf == greatest
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
    require_imtest()
    listener = shell.listen()
    port = listener.getsockname()[1]
    with run_imtest(port, USERNAME, PASSWORD, name="sivtest", commands=b"NOOP\r\n") as sivtest:
        conversation = shell.accept(listener)
        login = sivtest_server(protection)
        conversation.send(login.greeting)
        context = conversation.authenticate(login)
        assert context is not None
        assert context.ssf == STRENGTHS[protection]
        assert conversation.receive_until(b"\r\n") == b"CAPABILITY\r\n"
        conversation.send(login.greeting)
        assert conversation.receive_until(b"\r\n") == b"NOOP\r\n"
        conversation.send(b'OK "done"\r\n')
        conversation.close()
        said, _ = sivtest.communicate(b"", 30)
    assert b"Security strength factor: %d" % STRENGTHS[protection] in said.splitlines()
    assert said.count(b'S: "SIEVE" "x"') == 2
    assert b"WARNING" not in said


def test_sivtest_with_a_wrong_password(shell: Shell) -> None:
    require_imtest()
    listener = shell.listen()
    port = listener.getsockname()[1]
    with run_imtest(port, USERNAME, WRONG.password, name="sivtest", commands=b"") as sivtest:
        conversation = shell.accept(listener)
        login = sivtest_server("rc4")
        conversation.send(login.greeting)
        with pytest.raises(AuthenticationError):
            conversation.authenticate(login)
        conversation.close()
        said, _ = sivtest.communicate(b"", 30)
    assert b'S: NO "authentication failed"' in said
