"""imaplib and aioimaplib, unmodified, do their work with `IMAPServer` under a layer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aioimaplib import aioimaplib

from saslwrap import SecurityProperties
from saslwrap.clients.aioimaplib import authenticate
from saslwrap.clients.imaplib import IMAP4
from saslwrap.testing import CYRUS_IMAP, IMAPServer
from saslwrap.testing.pairs import PROTECTIONS, properties_for
from tests.imap_bed import ANY_LAYER, HELLO, PASSWORD, USERS
from tests.imap_clients import make_mechanism
from tests.peers.imap_wire import check_sealed
from tests.peers.wiretap import Wiretap

NEEDLE = b"needle-in-clear"
LONG = b"Subject: long\r\n\r\n" + (NEEDLE + b"\r\n") * (10_000_000 // 17)
SECOND = b"Subject: second\r\n\r\n" + NEEDLE
CONTENTS: dict[str, list[bytes]] = {"INBOX": [HELLO, SECOND], "Archive": []}


@pytest.fixture
def server() -> Iterator[IMAPServer]:
    with IMAPServer(CONTENTS, USERS, properties=ANY_LAYER).in_thread() as running:
        yield running


@pytest.fixture
def tap(server: IMAPServer) -> Iterator[Wiretap]:
    with Wiretap("127.0.0.1", server.port) as tap:
        yield tap


# imaplib


def connect(port: int) -> IMAP4:
    return IMAP4("127.0.0.1", port, timeout=30)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_imaplib_under_each_layer(server: IMAPServer, tap: Wiretap, protection: str) -> None:
    with connect(tap.port) as client:
        assert "LOGINDISABLED" in client.capabilities
        client.authenticate_sasl(make_mechanism(properties=properties_for(protection)))
        assert client.capability()[1][0].startswith(b"IMAP4rev1 AUTH=DIGEST-MD5 ")
        assert client.select("INBOX") == ("OK", [b"2"])
        _, data = client.fetch("2", "(UID BODY.PEEK[])")
        assert data == [(b"2 (UID 2 BODY[] {34}", SECOND), b")"]
        assert client.append("INBOX", "", "", b"Subject: third\r\n\r\n" + NEEDLE)[0] == "OK"
        assert client.uid("SEARCH", "SUBJECT", "third") == ("OK", [b"3"])
    words = (NEEDLE, b"INBOX", b"Subject", b"CAPABILITY", b"third")
    check_sealed(tap, *words, shows=protection == "auth-int")
    assert server.messages("INBOX")[3].content.endswith(NEEDLE)


@pytest.fixture
def client(server: IMAPServer) -> Iterator[IMAP4]:
    with connect(server.port) as client:
        client.authenticate_sasl(make_mechanism())
        yield client


def test_imaplib_and_mailboxes(client: IMAP4) -> None:
    assert client.list()[1] == [b'() "/" "INBOX"', b'() "/" "Archive"']
    assert client.lsub('""', "A%")[1] == [b'() "/" "Archive"']
    assert client.namespace() == ("OK", [b'(("" "/")) NIL NIL'])
    assert client.create("Work/2024")[0] == "OK"
    assert client.status("Work/2024", "(MESSAGES)")[1] == [b'"Work/2024" (MESSAGES 0)']
    assert client.delete("Work/2024")[0] == "OK"
    assert client.select("none")[0] == "NO"
    assert client.select("Archive", readonly=True) == ("OK", [b"0"])
    assert client.response("UIDVALIDITY") == ("UIDVALIDITY", [b"2"])
    assert client.check()[0] == client.close()[0] == "OK"
    with pytest.raises(IMAP4.error, match="RENAME is not known here"):
        client.rename("Archive", "x")


def test_imaplib_and_messages(client: IMAP4, server: IMAPServer) -> None:
    client.select("INBOX")
    assert client.search(None, "ALL") == ("OK", [b"1 2"])
    when = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    appended = client.append("INBOX", "\\Seen $Done", when, b"Subject: x\r\n\r\ny")
    assert appended == ("OK", [b"[APPENDUID 1 3] APPEND completed"])
    _, data = client.fetch("3", "(FLAGS INTERNALDATE)")
    assert data == [b'3 (FLAGS ($Done \\Seen) INTERNALDATE "06-May-2024 07:08:09 +0000")']
    assert client.store("1:2", "+FLAGS", "\\Deleted")[1][0] == b"1 (FLAGS (\\Deleted))"
    assert client.copy("3", "Archive") == ("OK", [b"[COPYUID 2 3 1] COPY completed"])
    assert client.expunge() == ("OK", [b"2", b"1"])
    server.deliver("INBOX", b"Subject: new\r\n\r\n")
    assert client.noop()[0] == "OK"
    assert client.response("EXISTS")[1][-1:] == [b"2"]
    assert client.unselect()[0] == "OK"


def test_imaplib_and_ten_megabytes(client: IMAP4) -> None:
    assert client.append("Archive", "", "", LONG)[0] == "OK"
    client.select("Archive", readonly=True)
    _, data = client.fetch("1", "(BODY[])")
    assert data == [(b"1 (BODY[] {%d}" % len(LONG), LONG), b")"]


def test_imaplib_after_a_login_that_was_refused(server: IMAPServer) -> None:
    with connect(server.port) as client:
        with pytest.raises(IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.authenticate_sasl(make_mechanism("alice", "wrong"))
        with pytest.raises(IMAP4.error, match="the server offers"):
            client.authenticate_sasl(
                make_mechanism("alice", PASSWORD, SecurityProperties(min_ssf=200))
            )
        with pytest.raises(IMAP4.error, match="PRIVACYREQUIRED"):
            client.login("alice", PASSWORD)
        client.authenticate_sasl(make_mechanism("юлия", USERS["юлия"]))
        assert client.select("INBOX")[0] == "OK"


def test_imaplib_is_not_left_waiting_by_ok_under_the_layer() -> None:
    with IMAPServer(CONTENTS, USERS, quirks=CYRUS_IMAP).in_thread() as server:
        client = connect(server.port)
        with pytest.raises(IMAP4.abort, match="6454"):
            client.authenticate_sasl(make_mechanism())
        client.shutdown()


# aioimaplib


@asynccontextmanager
async def aioimap(port: int, protection: str = "rc4") -> AsyncIterator[aioimaplib.IMAP4]:
    """A client that is logged in, and that logs out; nothing of it is left running."""
    client = aioimaplib.IMAP4("127.0.0.1", port, timeout=20)
    try:
        await client.wait_hello_from_server()
        await authenticate(client, make_mechanism(properties=properties_for(protection)))
        yield client
        assert (await client.logout()).result == "OK"
    finally:
        client.protocol.transport.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("protection", ["rc4", "des", "auth-int"])
async def test_aioimaplib_under_a_layer(server: IMAPServer, tap: Wiretap, protection: str) -> None:
    async with aioimap(tap.port, protection) as client:
        assert not client.has_capability("LOGINDISABLED")
        assert (await client.select("INBOX")).result == "OK"
        response = await client.fetch("2", "(UID BODY[])")
        assert response.result == "OK"
        assert response.lines[1] == SECOND
        appended = await client.append(b"Subject: third\r\n\r\n" + NEEDLE, "INBOX", "\\Seen")
        assert appended.result == "OK"
        assert (await client.uid_search("SUBJECT third")).lines[0] == b"3"
    await asyncio.to_thread(
        check_sealed, tap, NEEDLE, b"INBOX", b"third", shows=protection == "auth-int"
    )


@pytest.mark.asyncio
async def test_aioimaplib_does_its_work(server: IMAPServer) -> None:
    async with aioimap(server.port) as client:
        assert (await client.id(name="test")).lines[0] == b'("name" "saslwrap")'
        assert (await client.namespace()).result == "OK"
        assert (await client.list('""', "*")).lines[0] == b'() "/" "INBOX"'
        assert (await client.create("Work")).result == "OK"
        assert (await client.status("Work", "(MESSAGES)")).lines[0] == b'"Work" (MESSAGES 0)'
        await client.select("INBOX")
        assert (await client.search("ALL")).lines[0] == b"1 2"
        assert (await client.store("2", "+FLAGS", "(\\Flagged)")).lines[
            0
        ] == b"2 FETCH (FLAGS (\\Flagged))"
        assert (await client.uid("STORE", "2", "FLAGS", "()")).lines[
            0
        ] == b"2 FETCH (UID 2 FLAGS ())"
        assert (await client.copy("1", "Work")).result == "OK"
        assert (await client.move("1", "Work")).lines[-2:] == [b"1 EXPUNGE", b"MOVE completed"]
        assert (await client.noop()).result == "OK"
        assert (await client.examine("Work")).result == "OK"
        assert (await client.close()).result == "OK"
        assert (await client.delete("Work")).result == "OK"
        assert (await client.rename("a", "b")).result == "BAD"


@pytest.mark.asyncio
async def test_aioimaplib_hears_of_mail_in_idle(server: IMAPServer) -> None:
    async with aioimap(server.port) as client:
        await client.select("INBOX")
        idle = await client.idle_start(timeout=30)
        await asyncio.to_thread(server.deliver, "INBOX", b"Subject: new\r\n\r\n")
        assert await client.wait_server_push() == [b"3 EXISTS"]
        await asyncio.to_thread(server.expunge, "INBOX", 1)
        assert await client.wait_server_push() == [b"1 EXPUNGE"]
        client.idle_done()
        assert (await asyncio.wait_for(idle, 20)).result == "OK"
        assert re.search(rb"Subject: new", (await client.fetch("2", "(BODY[])")).lines[1])


@pytest.mark.asyncio
async def test_two_aioimaplibs_at_once(server: IMAPServer) -> None:
    async with aioimap(server.port) as one, aioimap(server.port, "auth-int") as other:
        await one.select("INBOX")
        await other.select("INBOX")
        idle = await one.idle_start(timeout=30)
        await other.append(b"Subject: x\r\n\r\n", "INBOX")
        assert await one.wait_server_push() == [b"3 EXISTS"]
        one.idle_done()
        await asyncio.wait_for(idle, 20)


@pytest.mark.asyncio
async def test_aioimaplib_and_ten_megabytes(server: IMAPServer) -> None:
    async with aioimap(server.port) as client:
        assert (await client.append(LONG, "Archive")).result == "OK"
        await client.select("Archive")
        assert bytes((await client.fetch("1", "(BODY.PEEK[])")).lines[1]) == LONG
