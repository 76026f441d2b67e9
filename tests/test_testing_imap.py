"""`IMAPServer` as a server: logins, layers, TLS, limits, its end, and word from the test's side."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
import threading
from typing import Any, ClassVar

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    connect_tcp,
    fail_after,
    to_thread,
)
from anyio.streams.tls import TLSAttribute

import saslwrap.testing.imap
import saslwrap.testing.server
from saslwrap import (
    AuthenticationError,
    NegotiationError,
    ProtocolError,
    SecurityProperties,
    ServerMechanism,
    UsageError,
)
from saslwrap.anyio import SASLAttribute
from saslwrap.testing import CYRUS_IMAP, MICROSOFT, IMAPServer, Message, Quirks
from saslwrap.testing.imap_mailboxes import Mailbox
from saslwrap.testing.pairs import properties_for
from saslwrap.testing.tasks import settle
from tests.conftest import TLSContexts
from tests.imap_bed import (
    ANY_LAYER,
    HELLO,
    MAILBOXES,
    PASSWORD,
    USERS,
    Client,
    connected,
    logged_in,
    make_server,
    selected,
)

pytestmark = pytest.mark.anyio

ABLE = (
    b"AUTH=DIGEST-MD5 SASL-IR LITERAL+ ID IDLE MOVE NAMESPACE UIDPLUS UNSELECT APPENDLIMIT=33554432"
)
BEFORE_A_LOGIN = b"CAPABILITY IMAP4rev1 LOGINDISABLED " + ABLE
AFTER_A_LOGIN = b"CAPABILITY IMAP4rev1 " + ABLE


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


# Before a login


async def test_what_is_answered_before_a_login() -> None:
    async with connected(make_server()) as client:
        answer = await client.ask("CAPABILITY")
        assert answer.untagged == [BEFORE_A_LOGIN]
        assert answer.last == b"OK CAPABILITY completed"
        assert (await client.ask("noop")).ok
        assert (await client.ask('ID ("name" "test")')).untagged == [b'ID ("name" "saslwrap")']
        assert (await client.ask("STARTTLS")).last.startswith(b"BAD TLS cannot be started")


@pytest.mark.parametrize("command", ["SELECT INBOX", 'LIST "" *', "IDLE", "UID FETCH 1 UID", "XYZ"])
async def test_the_rest_needs_a_login(command: str) -> None:
    async with connected(make_server()) as client:
        assert (await client.ask(command)).last == b"BAD log in first"


async def test_there_is_no_login_in_clear() -> None:
    async with connected(make_server()) as client:
        answer = await client.ask(f"LOGIN alice {PASSWORD}")
        assert answer.last == b"NO [PRIVACYREQUIRED] use AUTHENTICATE"
        assert (await client.ask("SELECT INBOX")).last == b"BAD log in first"


async def test_logout() -> None:
    async with connected(make_server()) as client:
        answer = await client.ask("LOGOUT")
        assert answer == ([b"BYE logging out"], b"OK LOGOUT completed")
        with pytest.raises(EndOfStream):
            await client.stream.receive()


# Logins


@pytest.mark.parametrize(
    ("protection", "ssf"),
    [
        ("auth", 0),
        ("auth-int", 1),
        ("rc4-40", 40),
        ("des", 55),
        ("rc4-56", 56),
        ("3des", 112),
        ("rc4", 128),
    ],
)
async def test_each_protection(protection: str, ssf: int) -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in(properties=properties_for(protection))
        assert client.stream.extra(SASLAttribute.ssf) == ssf
        assert (await client.ask("SELECT INBOX")).ok
        assert HELLO in await client.fetch("FETCH 1 BODY.PEEK[]")


async def test_capabilities_again_under_the_layer() -> None:
    async with logged_in() as client:
        answer = await client.ask("CAPABILITY")
        assert answer.untagged == [AFTER_A_LOGIN]


async def test_names_beyond_ascii() -> None:
    async with connected(make_server()) as client:
        await client.log_in("юлия", USERS["юлия"])
        assert (await client.ask("NOOP")).ok


async def test_a_refused_login() -> None:
    async with connected(make_server()) as client:
        for username, password in (("alice", "wrong"), ("nobody", PASSWORD)):
            with pytest.raises(AuthenticationError, match="AUTHENTICATIONFAILED"):
                await client.log_in(username, password)
            assert (await client.ask("SELECT INBOX")).last == b"BAD log in first"
        await client.log_in()
        assert (await client.ask("SELECT INBOX")).ok


async def test_policy_is_the_servers_too() -> None:
    async with connected(make_server()) as client:
        with pytest.raises(NegotiationError):
            await client.log_in(properties=properties_for("auth-int"))
        await client.log_in()


async def test_a_login_that_the_client_gives_up() -> None:
    async with connected(make_server()) as client:
        await client.stream.send(b"x AUTHENTICATE DIGEST-MD5\r\n")
        assert (await client.receive()).startswith(b"+ ")
        await client.stream.send(b"*\r\n")
        assert (await client.answer(b"x")).last == b"BAD the client aborted the login"
        await client.log_in()


async def test_nobody_logs_in_twice() -> None:
    async with logged_in() as client:
        for command in ("AUTHENTICATE DIGEST-MD5", "LOGIN alice x", "STARTTLS"):
            answer = await client.ask(command)
            assert answer.last == b"BAD this comes before a login, and you are logged in"
        assert (await client.ask("SELECT INBOX")).ok


async def test_a_login_that_is_no_base64_ends_the_connection() -> None:
    async with connected(make_server()) as client:
        await client.stream.send(b"x AUTHENTICATE DIGEST-MD5\r\n")
        await client.receive()
        await client.stream.send(b"???\r\n")
        assert (await client.answer(b"x")).last.startswith(b"BAD the client sent a message that")
        with pytest.raises(EndOfStream):
            await client.stream.receive()


class Anyone(ServerMechanism):
    name: ClassVar[str] = "ANYONE"

    def _step(self, message: bytes | None) -> bytes | None:
        self.authcid = (message or b"").decode()
        self._finish(None)
        return None


async def test_mechanisms_of_ones_own_and_a_first_message() -> None:
    async with connected(make_server(mechanisms={"ANYONE": Anyone})) as client:
        assert b" AUTH=ANYONE" in (await client.ask("CAPABILITY")).untagged[0]
        assert (await client.ask("AUTHENTICATE ANYONE em9l")).ok
        assert (await client.ask("SELECT INBOX")).ok


async def test_as_small_frames_as_those_of_cyrus() -> None:
    small = SecurityProperties(max_buffer=4096)
    async with connected(make_server(properties=small)) as client:
        await client.log_in()
        context = client.stream.extra(SASLAttribute.context)
        assert context is not None
        assert context.peer_maxbuf == 4096
        content = b"Subject: x\r\n\r\n" + b"line\r\n" * 5000
        assert (await client.append(content)).ok


async def test_ok_under_the_layer_is_an_error_and_no_wait() -> None:
    async with connected(make_server(quirks=CYRUS_IMAP)) as client:
        with pytest.raises(ProtocolError, match="cyrus-imapd issue 6454"):
            await client.log_in()


@pytest.mark.parametrize("quirks", [MICROSOFT, Quirks(realms=("one", "two"))], ids=["MS", "realms"])
async def test_quirks_of_mechanisms_are_had_here_too(quirks: Quirks) -> None:
    async with logged_in(quirks=quirks) as client:
        assert (await client.ask("SELECT INBOX")).ok


async def test_a_cipher_that_is_offered_and_broken() -> None:
    async with connected(make_server(quirks=CYRUS_IMAP)) as client:
        with pytest.raises(AuthenticationError, match=r"NO \[UNAVAILABLE\]"):
            await client.log_in(properties=properties_for("3des"))
        assert (await client.ask("NOOP")).ok


async def test_without_a_layer_ok_is_where_it_belongs() -> None:
    async with connected(make_server(quirks=CYRUS_IMAP, properties=ANY_LAYER)) as client:
        with pytest.raises(AuthenticationError):
            await client.log_in(password="wrong")
        assert (await client.log_in(properties=properties_for("auth"))).status == "OK"
        assert (await client.ask("SELECT INBOX")).ok


# TLS


async def test_tls_first_and_then_a_login(tls: TLSContexts) -> None:
    async with connected(make_server(tls=tls.server)) as client:
        assert b" STARTTLS " in (await client.ask("CAPABILITY")).untagged[0]
        assert (await client.ask("STARTTLS")).last == b"OK begin TLS"
        await client.shake_hands(tls.client)
        answer = await client.ask("CAPABILITY")
        assert answer.untagged == [BEFORE_A_LOGIN]
        assert (await client.ask("STARTTLS")).last.startswith(b"BAD ")
        await client.log_in()
        assert client.stream.extra(SASLAttribute.ssf) == 0
        assert client.stream.extra(TLSAttribute.cipher)[2] >= 128
        assert (await client.ask("SELECT INBOX")).ok
        assert HELLO in await client.fetch("FETCH 1 RFC822")


async def test_no_tls_below_a_layer(tls: TLSContexts) -> None:
    async with logged_in(tls=tls.server) as client:
        assert b"STARTTLS" not in (await client.ask("CAPABILITY")).untagged[0]
        assert (await client.ask("STARTTLS")).last.startswith(b"BAD ")
        assert (await client.ask("NOOP")).ok


async def test_no_tls_after_a_login_without_a_layer(tls: TLSContexts) -> None:
    async with connected(make_server(tls=tls.server, properties=ANY_LAYER)) as client:
        await client.log_in(properties=properties_for("auth"))
        assert (await client.ask("STARTTLS")).last.startswith(b"BAD ")


async def test_a_command_injected_behind_starttls_is_not_obeyed(tls: TLSContexts) -> None:
    """CVE-2011-0411."""
    async with connected(make_server(tls=tls.server)) as client:
        await client.stream.send(b"a STARTTLS\r\nb CAPABILITY\r\n")
        assert (
            await client.farewell() == b"the client sent more in clear behind its request for TLS"
        )


async def test_tls_at_once(tls: TLSContexts) -> None:
    server = make_server(tls=tls.server, tls_at_once=True)
    async with server:
        assert server.url == f"imaps://localhost:{server.port}"
        async with await connect_tcp("127.0.0.1", server.port) as tcp:
            client = Client(tcp)
            await client.shake_hands(tls.client)
            assert b"STARTTLS" not in await client.receive()
            await client.log_in()
            assert (await client.ask("SELECT INBOX")).ok


# What is no command


@pytest.mark.parametrize(
    "line",
    [b"", b"+", b"tag", b"tag ", b"(a) NOOP", b"a\tNOOP", b"a NO\0OP", b"a NO\rOP"],
    ids=repr,
)
async def test_a_line_that_is_no_command(line: bytes) -> None:
    async with connected(make_server()) as client:
        await client.stream.send(line + b"\r\n")
        assert (await client.receive()).startswith(b"* BAD ")
        assert (await client.ask("NOOP")).ok


async def test_a_line_without_cr() -> None:
    async with connected(make_server()) as client:
        await client.stream.send(b"a NOOP\n")
        assert (await client.receive()).startswith(b"* BAD a line ends in CRLF")
        assert (await client.ask("NOOP")).ok


@pytest.mark.parametrize(
    "command", ["XYZZY", "NOOP now", "UID NOOP", "UID CHECK", "UID", "FETCH 1 UID"]
)
async def test_what_is_not_known_is_bad(command: str) -> None:
    async with logged_in() as client:
        assert (await client.ask(command)).last.startswith(b"BAD ")
        assert (await client.ask("NOOP")).ok


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00", b"\0\0\0\x20"], ids=["TLS", "frame"])
async def test_what_is_no_text_ends_the_connection(first: bytes) -> None:
    async with connected(make_server()) as client:
        await client.stream.send(first)
        assert await client.farewell() == b"the client sent what is no text; a command was due"


async def test_cleartext_under_the_layer_is_not_obeyed() -> None:
    async with selected() as client:
        await client.transport.send(b"x EXPUNGE\r\n")
        with pytest.raises(EndOfStream):
            await client.stream.receive()


# Limits


@pytest.mark.parametrize("login", [False, True])
async def test_a_line_without_end(login: bool) -> None:
    async with connected(make_server()) as client:
        if login:
            await client.log_in()
        await client.stream.send(b"a SEARCH " + b"x" * 98304)
        assert b"over 98304 octets" in await client.farewell()


async def test_many_lines_of_one_command() -> None:
    async with logged_in() as client:
        await client.stream.send((b"a SEARCH" + b" TEXT {1+}\r\nx" * 9000)[:120_000])
        assert b"over 98304 octets" in await client.farewell()


@pytest.mark.parametrize("size", ["33554433", "99999999999999999999999999"])
async def test_a_message_that_is_too_long_is_not_invited(size: str) -> None:
    async with logged_in() as client:
        answer = await client.ask(f"APPEND INBOX {{{size}}}")
        assert answer.last.startswith(b"NO [TOOBIG] ")
        assert (await client.ask("NOOP")).ok


async def test_a_message_that_is_too_long_and_comes_unasked() -> None:
    async with logged_in() as client:
        await client.stream.send(b"a APPEND INBOX {33554433+}\r\nx")
        assert await client.farewell() == b"the client sent a literal that is too long, unasked"


async def test_the_limit_is_for_all_literals_of_a_command() -> None:
    async with logged_in(append_limit=10) as client:
        assert (await client.append(b"0123456789")).ok
        assert (await client.append(b"0123456789a")).last.startswith(b"NO [TOOBIG] ")
        await client.stream.send(b"a SEARCH TEXT {6+}\r\n012345 TEXT {5+}\r\n")
        assert b"too long" in await client.farewell()


async def test_no_literal_before_a_login() -> None:
    async with connected(make_server()) as client:
        assert (await client.ask("LOGIN {5}")).last.startswith(b"NO [TOOBIG] ")
        await client.stream.send(b"a LOGIN {5+}\r\n")
        await client.farewell()


async def test_an_idle_client() -> None:
    async with connected(make_server(idle_timeout=0.2)) as client:
        assert await client.farewell() == b"the client took too long"


async def test_idle_has_an_end() -> None:
    async with logged_in(idle_timeout=1) as client:
        await client.stream.send(b"a IDLE\r\n")
        assert await client.receive() == b"+ idling"
        assert await client.farewell() == b"the client took too long"


async def test_a_login_that_stops() -> None:
    async with connected(make_server(idle_timeout=0.5)) as client:
        await client.stream.send(b"a AUTHENTICATE DIGEST-MD5\r\n")
        await client.receive()
        with pytest.raises(EndOfStream):
            await client.stream.receive()


async def test_an_answer_that_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saslwrap.testing.server, "_FAREWELL", 0.01)
    server = IMAPServer({"INBOX": [b"y" * 90_000]}, USERS, idle_timeout=1)
    async with connected(server, 5000) as client:
        await client.log_in()
        await client.ask("SELECT INBOX")
        await client.stream.send(b"a FETCH 1 BODY[]\r\n")
        while not caplog.records:
            await settle()
    assert [record.getMessage() for record in caplog.records] == [
        "a connection failed: TimeoutError"
    ]


async def test_a_long_message_both_ways() -> None:
    content = b"Subject: long\r\n\r\n" + bytes(range(32, 126)) * 110_000
    server = IMAPServer({}, USERS)
    async with selected(server) as client:
        assert (await client.append(content)).ok
        assert server.messages("INBOX")[1].content == content
        assert (
            await client.fetch("FETCH 1 BODY.PEEK[]") == b"BODY[] {%d}\r\n" % len(content) + content
        )


# Errors of our own


async def test_a_bug_is_logged_and_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Mailbox, "add", broken)
    async with logged_in(IMAPServer({}, USERS)) as client:
        await client.stream.send(b"a APPEND INBOX {1+}\r\nx\r\n")
        assert await client.farewell() == b"the server had to give up"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_client_that_leaves_in_the_middle_of_a_literal() -> None:
    server = make_server()
    async with logged_in(server) as client:
        await client.stream.send(b"a APPEND INBOX {100}\r\n")
        assert await client.receive() == b"+ go ahead"
        await client.stream.send(b"half of it")
    assert len(server.messages("INBOX")) == 3


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connected(make_server()) as client:
            with pytest.raises(AuthenticationError):
                await client.log_in(password="wr0ng")
            await client.ask("LOGIN alice s3cret-Pa55")
            await client.log_in()
            await client.append(b"Subject: Liddell\r\n\r\n")
            await client.stream.send(b"\0Liddell")
            await client.farewell()
    logged = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert len(logged) == 2
    for record in logged:
        assert not re.search(r"s3cret|wr0ng|Liddell|response=", record.getMessage())


# From the test's side, and IDLE


async def test_what_the_test_delivers_is_told() -> None:
    server = make_server()
    async with selected(server) as client:
        assert server.deliver("INBOX", b"Subject: new\r\n\r\n") == 4
        assert (await client.ask("NOOP")).untagged == [b"4 EXISTS"]
        server.expunge("INBOX", 1, 2, 1)
        assert (await client.ask("NOOP")).untagged == [b"2 EXPUNGE", b"1 EXPUNGE"]
        assert (
            await client.fetch("FETCH 2 (UID BODY[TEXT])")
            == b"UID 4 BODY[TEXT] {0}\r\n FLAGS (\\Seen)"
        )
    assert server.messages("INBOX")[4].flags == {"\\Seen"}


async def test_idle_hears_of_what_others_change() -> None:
    server = make_server()
    async with selected(server) as idler, selected(server) as other:
        await idler.stream.send(b"a IDLE\r\n")
        assert await idler.receive() == b"+ idling"
        server.deliver("INBOX", b"x")
        assert await idler.receive() == b"* 4 EXISTS"
        assert (await other.append(b"y")).untagged == [b"5 EXISTS"]
        assert await idler.receive() == b"* 5 EXISTS"
        await other.ask("STORE 2 FLAGS (\\Deleted)")
        assert await idler.receive() == b"* 2 FETCH (UID 2 FLAGS (\\Deleted))"
        assert (await other.ask("EXPUNGE")).untagged == [b"2 EXPUNGE"]
        assert await idler.receive() == b"* 2 EXPUNGE"
        await idler.stream.send(b"DONE\r\n")
        assert (await idler.answer(b"a")).last == b"OK IDLE completed"
        assert (await idler.ask("NOOP")).untagged == []


async def test_no_news_is_lost_between_two_looks() -> None:
    """While news is sent, and waits for room, there is more."""
    server = IMAPServer({}, USERS)
    ours = connected(server, 64)
    async with ours as client:
        await client.log_in()
        await client.ask("SELECT INBOX")
        await client.stream.send(b"a IDLE\r\n")
        assert await client.receive() == b"+ idling"
        for _ in range(5):
            server.deliver("INBOX", b"x")
            await settle()
        while await client.receive() != b"* 5 EXISTS":
            pass


@pytest.mark.parametrize("over_tls", [False, True], ids=["layer", "TLS"])
async def test_idle_gets_what_comes_while_it_is_told_news(tls: TLSContexts, over_tls: bool) -> None:
    """A wait that is cancelled for news loses nothing of what the client sends."""
    server = make_server(tls=tls.server)
    async with connected(server) as client:
        if over_tls:
            assert (await client.ask("STARTTLS")).ok
            await client.shake_hands(tls.client)
        await client.log_in()
        await client.ask("SELECT INBOX")
        await client.stream.send(b"a IDLE\r\n")
        assert await client.receive() == b"+ idling"
        for octet in b"DONE":
            await client.stream.send(bytes([octet]))
            server.deliver("INBOX", b"x")
            await settle()
        await client.stream.send(b"\r\n")
        answer = await client.answer(b"a")
        assert answer.untagged == [b"4 EXISTS", b"5 EXISTS", b"6 EXISTS", b"7 EXISTS"]
        assert answer.last == b"OK IDLE completed"


async def test_idle_without_a_mailbox_and_with_another_word() -> None:
    async with logged_in() as client:
        await client.stream.send(b"a IDLE\r\n")
        assert await client.receive() == b"+ idling"
        await client.stream.send(b"b NOOP\r\n")
        assert await client.receive() == b"a BAD DONE was expected"
        assert (await client.ask("IDLE now")).last.startswith(b"BAD ")


async def test_names_that_the_test_gets_wrong() -> None:
    server = make_server()
    for call in (
        lambda: server.deliver("Nowhere", b"x"),
        lambda: server.expunge("Nowhere", 1),
        lambda: server.messages("Nowhere"),
    ):
        with pytest.raises(UsageError, match="there is no mailbox 'Nowhere'"):
            call()
    for name in (3, None, b"INBOX"):
        with pytest.raises(UsageError, match="a mailbox's name is a str, not"):
            server.deliver(name, b"x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="octets"):
        server.deliver("INBOX", "text")  # type: ignore[arg-type]
    assert server.deliver("Entwürfe", b"x") == 2


async def test_uids_that_the_test_gets_wrong() -> None:
    server = make_server()
    for other in ("1", [1], True, None):
        with pytest.raises(UsageError, match="a UID is int, not"):
            server.expunge("INBOX", 2, other)  # type: ignore[arg-type]
    for uid in (0, -1, 4):
        with pytest.raises(UsageError, match=f"'INBOX' never had a message with UID {uid};"):
            server.expunge("INBOX", 2, uid)
    assert list(server.messages("INBOX")) == [1, 2, 3]
    server.expunge("INBOX", 2, 3, 3)
    server.expunge("INBOX", 3)
    server.expunge("INBOX")
    assert list(server.messages("INBOX")) == [1]


# Over TCP, in a thread


async def test_several_connections_over_tcp() -> None:
    async with make_server() as server:
        assert server.url == f"imap://localhost:{server.port}"
        assert repr(server) == f"<IMAPServer {server.url}>"
        clients = []
        for _ in range(3):
            client = Client(await connect_tcp("127.0.0.1", server.port))
            assert (await client.receive()).startswith(b"* OK ")
            await client.log_in()
            await client.ask("SELECT INBOX")
            clients.append(client)
        await clients[0].append(b"x")
        for client in clients[1:]:
            assert (await client.ask("NOOP")).untagged == [b"4 EXISTS"]
        await to_thread.run_sync(server.deliver, "INBOX", b"from a thread")
        assert (await clients[0].ask("NOOP")).untagged == [b"5 EXISTS"]
    for client in clients:
        with pytest.raises((EndOfStream, BrokenResourceError)), fail_after(5):
            await client.stream.receive()
        await client.stream.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_a_thread(backend: str) -> None:
    before = threading.active_count()
    with make_server().in_thread(backend) as server:
        assert server.deliver("INBOX", Message(b"x", {"\\Seen"})) == 4
        assert list(server.messages("INBOX")) == [1, 2, 3, 4]
        server.expunge("INBOX", 4)
    assert threading.active_count() == before
    assert server.deliver("INBOX", b"while it does not listen") == 5


def test_what_is_served_is_a_copy() -> None:
    server = make_server()
    server.deliver("INBOX", b"x")
    assert len(MAILBOXES["INBOX"]) == 3
    server.messages("INBOX").clear()
    assert len(server.messages("INBOX")) == 4


def test_the_documented_example() -> None:
    text = saslwrap.testing.imap.__doc__ or ""
    example = text[text.index("    import anyio") : text.index("\nA blocking client")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(example)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "1 EXISTS" in done.stdout
