"""Cyrus IMAP through every shell: a login, and real work under the layer that it brought.

At the end its client, imtest, logs in to our server's half.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    GSSAPIClient,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.testing.pairs import PASSWORD, USERNAME, mechanism_pair
from tests.peers.cyrus import Cyrus, require_imtest, run_imtest
from tests.peers.cyrus_logins import STRENGTHS, WRONG, digest
from tests.peers.directory import NEEDLE, Credentials
from tests.peers.imap_wire import behind_the_login, frame_lengths
from tests.peers.kdc import BOB
from tests.peers.shells import Shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from saslwrap import ClientMechanism, SecurityContext
    from tests.peers.shells import Conversation
    from tests.peers.wiretap import Wiretap, WiretapFactory


pytestmark = pytest.mark.timeout(60)

VOLUME = 200_000


def mail(volume: int = VOLUME) -> bytes:
    """A message, with a needle on every line."""
    source = random.Random(volume)
    head = b"Subject: test\r\n\r\n"
    lines = (f"{NEEDLE} {source.randbytes(20).hex()}\r\n" for _ in range(volume // 59 + 1))
    return head + "".join(lines).encode()


class Session:
    """A connection to Cyrus, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self._number = 0
        assert self._until(rb"\* OK")

    def log_in(
        self, mechanism: ClientMechanism, *, initial_response: bool = False
    ) -> IMAPAuthenticate:
        login = IMAPAuthenticate(mechanism, tag=self._tag(), initial_response=initial_response)
        self.conversation.authenticate(login)
        return login

    @property
    def context(self) -> SecurityContext:
        assert self.conversation.context is not None
        return self.conversation.context

    def command(self, words: str) -> bytes:
        """Send it, and give all that comes up to its OK."""
        tag = self._tag()
        self.conversation.send(f"{tag} {words}\r\n".encode())
        return self._ok(tag)

    def append(self, message: bytes) -> int:
        """Put it into the INBOX, and give its UID."""
        tag = self._tag()
        self.conversation.send(f"{tag} APPEND INBOX {{{len(message)}}}\r\n".encode())
        assert self._until(rb"\+")
        self.conversation.send(message)
        self.conversation.send(b"\r\n")
        found = re.search(rb"\[APPENDUID \d+ (\d+)\]", self._ok(tag))
        assert found
        return int(found[1])

    def fetch(self, uid: int) -> bytes:
        answer = self.command(f"UID FETCH {uid} BODY.PEEK[]")
        found = re.search(rb"\{(\d+)\}\r\n", answer)
        assert found
        return answer[found.end() : found.end() + int(found[1])]

    def log_out(self) -> None:
        assert b"* BYE" in self.command("LOGOUT")
        assert self.conversation.receive() == b""
        self.conversation.close()

    def _tag(self) -> str:
        self._number += 1
        return f"t{self._number}"

    def _ok(self, tag: str) -> bytes:
        answer = self._until(rb"%b (?:OK|NO|BAD)" % tag.encode())
        assert f"\r\n{tag} OK".encode() in b"\r\n" + answer, answer[-200:]
        return answer

    def _until(self, start: bytes) -> bytes:
        """What comes up to a line that starts so, with that line; nothing comes behind it."""
        data = b""
        while not re.search(rb"(?:\A|\n)%b [^\n]*\n\Z" % start, data[-1000:]):
            received = self.conversation.receive()
            assert received, f"the end after {data[-200:]!r}"
            data += received
        return data


@pytest.fixture
def tap(cyrus: Cyrus, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(cyrus.address, cyrus.port)


def sealed(tap: Wiretap, direction: Direction) -> bytes:
    """What went in frames, once the connection is closed; nothing else did."""
    tap.wait_closed()
    rest = behind_the_login(tap.recordings[0], direction)
    assert frame_lengths(rest)
    return rest


def work(session: Session) -> None:
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
    session = Session(shell, tap.port)
    login = session.log_in(digest(protection=protection))
    assert session.context.ssf == STRENGTHS[protection]
    assert (login.status, login.code, login.capabilities) == ("OK", None, None)
    work(session)
    shows = protection == "auth-int"
    for direction in Direction:
        rest = sealed(tap, direction)
        words = (NEEDLE.encode(), b"INBOX", b"CAPABILITY", b"Subject")
        assert [word in rest for word in words] == [shows] * len(words)
    assert max(frame_lengths(sealed(tap, Direction.CLIENT_TO_SERVER))) <= 4096


def test_a_login_after_one_that_was_refused(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
    for refused in (WRONG, Credentials("nobody", "s3cret")):
        with pytest.raises(AuthenticationError, match="refused DIGEST-MD5: NO, 'authentication f"):
            session.log_in(digest(refused))
        assert session.conversation.context is None
    assert b" AUTH=DIGEST-MD5" in session.command("CAPABILITY")
    session.log_in(digest(BOB))
    work(session)
    assert NEEDLE.encode() not in tap.client_to_server + tap.server_to_client


def test_a_login_after_one_that_we_gave_up(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
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
    session = Session(shell, cyrus.port)
    unknown = UnknownMechanism("alice", "s3cret", service="imap", host=Cyrus.host)
    with pytest.raises(AuthenticationError, match="UNHEARD-OF: NO, 'no mechanism available'"):
        session.log_in(unknown)
    session.log_in(digest())
    work(session)


def test_a_login_without_a_layer_brings_capabilities(shell: Shell, tap: Wiretap) -> None:
    session = Session(shell, tap.port)
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
    session = Session(shell, tap.port)
    properties = SecurityProperties(min_ssf=least, max_ssf=greatest)
    mechanism = GSSAPIClient(service="imap", host=Cyrus.host, properties=properties)
    login = session.log_in(mechanism, initial_response=initial_response)
    context = session.conversation.context
    assert (context.ssf if context else 0) == greatest
    assert (login.capabilities is None) is (context is not None)
    work(session)
    if context is not None:
        for direction in Direction:
            rest = sealed(tap, direction)
            assert (NEEDLE.encode() in rest) is (greatest == 1)


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
    require_imtest()
    listener = shell.listen()
    with run_imtest(listener.getsockname()[1], USERNAME, PASSWORD) as imtest:
        conversation = shell.accept(listener)
        conversation.send(b"* OK ready\r\n")
        context = conversation.authenticate(imtest_server(protection))
        assert context is not None
        assert context.ssf == STRENGTHS[protection]
        assert answer_commands(conversation) == ["CAPABILITY", "NOOP", "LOGOUT"]
        conversation.close()
        said, _ = imtest.communicate(b"", 30)
    assert b"S: A01 OK authenticated" in said
    assert f"Security strength factor: {STRENGTHS[protection]}".encode() in said.splitlines()
    assert b"z1 OK done" in said


def test_imtest_with_a_wrong_password(shell: Shell) -> None:
    require_imtest()
    listener = shell.listen()
    with run_imtest(listener.getsockname()[1], USERNAME, WRONG.password) as imtest:
        conversation = shell.accept(listener)
        conversation.send(b"* OK ready\r\n")
        with pytest.raises(AuthenticationError):
            conversation.authenticate(imtest_server("rc4"))
        conversation.close()
        said, _ = imtest.communicate(b"", 30)
    assert b"S: A01 NO [AUTHENTICATIONFAILED] authentication failed" in said
