"""Cyrus IMAP through every shell: a login, and real work under the layer that it brought.

At the end its client, imtest, logs in to our server's half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.protocols.imap import IMAPAuthenticateServer
from saslwrap.testing.pairs import mechanism_pair
from tests.peers.cyrus import Cyrus
from tests.peers.cyrus_logins import (
    STRENGTHS,
    WRONG,
    check_ssf,
    cyrus_client,
    digest,
    kerberos,
    shown_ssf,
)
from tests.peers.directory import NEEDLE, Credentials
from tests.peers.frames import frame_lengths
from tests.peers.imap_session import IMAPSession, mail
from tests.peers.imap_wire import behind_the_login
from tests.peers.kdc import BOB
from tests.peers.shells import Shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from tests.peers.shells import Conversation
    from tests.peers.wiretap import Wiretap, WiretapFactory


pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def tap(cyrus: Cyrus, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(cyrus.address, cyrus.port)


def sealed(tap: Wiretap, direction: Direction) -> bytes:
    """What went in frames, once the connection is closed; nothing else did."""
    tap.wait_closed()
    rest = behind_the_login(tap.recordings[0], direction)
    assert frame_lengths(rest)
    return rest


def work(session: IMAPSession) -> None:
    """What a client does that has just logged in."""
    capabilities = session.command("CAPABILITY")
    assert b" IDLE" in capabilities
    assert b'"/" INBOX\r\n' in session.command('LIST "" *')
    message = mail()
    uid = session.append(message)
    assert b"[READ-WRITE]" in session.command("SELECT INBOX")
    assert session.fetch(uid) == message
    session.log_out()


@pytest.mark.parametrize("protection", STRENGTHS)
def test_work_under_each_layer(shell: Shell, tap: Wiretap, protection: str) -> None:
    session = IMAPSession(shell, tap.port)
    login = session.log_in(digest(protection=protection))
    check_ssf(session.conversation, STRENGTHS[protection])
    assert (login.status, login.code, login.capabilities) == ("OK", None, None)
    work(session)
    shows = protection == "auth-int"
    for direction in Direction:
        rest = sealed(tap, direction)
        words = (NEEDLE.encode(), b"INBOX", b"CAPABILITY", b"Subject")
        assert [word in rest for word in words] == [shows] * len(words)
    assert max(frame_lengths(sealed(tap, Direction.CLIENT_TO_SERVER))) <= 4096


def test_a_login_after_one_that_was_refused(shell: Shell, tap: Wiretap) -> None:
    session = IMAPSession(shell, tap.port)
    for refused in (WRONG, Credentials("nobody", "s3cret")):
        with pytest.raises(AuthenticationError, match="refused DIGEST-MD5: NO, 'authentication f"):
            session.log_in(digest(refused))
        assert session.conversation.context is None
    assert b" AUTH=DIGEST-MD5" in session.command("CAPABILITY")
    session.log_in(digest(BOB))
    work(session)
    assert NEEDLE.encode() not in tap.client_to_server + tap.server_to_client


def test_a_login_after_one_that_we_gave_up(shell: Shell, tap: Wiretap) -> None:
    session = IMAPSession(shell, tap.port)
    with pytest.raises(NegotiationError, match="the server offers auth,"):
        session.log_in(digest(properties=SecurityProperties(min_ssf=200)))
    session.log_in(digest())
    work(session)
    wire = tap.recordings[0]
    assert wire.client_to_server.startswith(b"t1 AUTHENTICATE DIGEST-MD5\r\n*\r\nt2 ")
    assert b"\r\nt1 BAD Client canceled authentication\r\n" in wire.server_to_client


class UnknownMechanism(DigestMD5Client):
    name = "UNHEARD-OF"


def test_a_mechanism_that_the_server_does_not_have(shell: Shell, cyrus: Cyrus) -> None:
    session = IMAPSession(shell, cyrus.port)
    unknown = UnknownMechanism("alice", "s3cret", service="imap", host=Cyrus.host)
    with pytest.raises(AuthenticationError, match="UNHEARD-OF: NO, 'no mechanism available'"):
        session.log_in(unknown)
    session.log_in(digest())
    work(session)


def test_a_login_without_a_layer_brings_capabilities(shell: Shell, tap: Wiretap) -> None:
    session = IMAPSession(shell, tap.port)
    login = session.log_in(digest(protection="auth"))
    assert session.conversation.context is None
    assert login.code == "CAPABILITY"
    assert login.capabilities is not None
    assert {"IMAP4REV1", "IDLE"} <= set(login.capabilities)
    work(session)
    tap.wait_closed()
    assert b"INBOX" in tap.client_to_server


@pytest.mark.parametrize(("least", "greatest"), [(112, 256), (1, 1), (0, 0)])
@pytest.mark.parametrize("initial_response", [True, False])
@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(
    shell: Shell,
    gss_cyrus: Cyrus,
    wiretap: WiretapFactory,
    least: int,
    greatest: int,
    initial_response: bool,
) -> None:
    tap = wiretap(gss_cyrus.address, gss_cyrus.port)
    session = IMAPSession(shell, tap.port)
    mechanism = kerberos("imap", greatest, least)
    login = session.log_in(mechanism, initial_response=initial_response)
    context = session.conversation.context
    assert (context.ssf if context else 0) == greatest
    assert (login.capabilities is None) is (context is not None)
    work(session)
    if context is not None:
        for direction in Direction:
            rest = sealed(tap, direction)
            assert (NEEDLE.encode() in rest) is (greatest == 1)


READY = b"* OK ready\r\n"


def imtest_server(protection: str) -> IMAPAuthenticateServer:
    server = mechanism_pair(protection, service="imap").server
    return IMAPAuthenticateServer({"DIGEST-MD5": lambda: server})


def answer_commands(conversation: Conversation) -> list[str]:
    """Say OK to every command up to LOGOUT, and give them; imtest's first one is CAPABILITY."""
    commands: list[str] = []
    while "LOGOUT" not in commands:
        tag, command = conversation.receive_until(b"\r\n").decode().split()
        offer = "* CAPABILITY IMAP4rev1 SASL-IR AUTH=DIGEST-MD5\r\n"
        untagged = offer if command == "CAPABILITY" else ""
        conversation.send(f"{untagged}{tag} OK done\r\n".encode())
        commands.append(command)
    return commands


@pytest.mark.parametrize("protection", STRENGTHS)
def test_imtest_logs_in_to_us(shell: Shell, protection: str) -> None:
    with cyrus_client(shell, "imtest", commands=b"z1 NOOP\r\nz2 LOGOUT\r\n") as imtest:
        imtest.let_in(READY, imtest_server(protection), protection)
        assert answer_commands(imtest.conversation) == ["CAPABILITY", "NOOP", "LOGOUT"]
        said = imtest.said()
    assert b"S: A01 OK authenticated" in said
    assert shown_ssf(STRENGTHS[protection]) in said.splitlines()
    assert b"z1 OK done" in said


def test_imtest_with_a_wrong_password(shell: Shell) -> None:
    with cyrus_client(shell, "imtest", WRONG.password) as imtest:
        said = imtest.refuse(READY, imtest_server("rc4"))
    assert b"S: A01 NO [AUTHENTICATIONFAILED] authentication failed" in said
