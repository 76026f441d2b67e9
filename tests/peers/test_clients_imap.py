"""IMAP clients that others wrote, under our layer, with Cyrus: what clients do all day."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aioimaplib import aioimaplib

from saslwrap.clients.aioimaplib import authenticate
from saslwrap.clients.imaplib import IMAP4
from tests.peers.cyrus_logins import WRONG, digest
from tests.peers.directory import NEEDLE
from tests.peers.imap_wire import check_sealed
from tests.peers.kdc import BOB
from tests.peers.mail_beds import empty, mail, mechanism, ok
from tests.peers.mail_beds import protection as protection
from tests.peers.mail_beds import server as server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.cyrus import Cyrus
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(120)

#: What must show in no frame that is sealed.
WORDS = (NEEDLE.encode(), b"INBOX", b"Archive", b"Subject", b"CAPABILITY")


LONG = mail("long", 10_000_000)


@pytest.fixture
def tap(server: Cyrus, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(server.address, server.port)


@pytest.fixture
def wire(tap: Wiretap, protection: str) -> Iterator[Wiretap]:
    """In the end nothing showed, but for what is signed only."""
    yield tap
    check_sealed(tap, *WORDS, shows=protection == "auth-int")


# imaplib


def imaplib_client(wire: Wiretap, protection: str) -> IMAP4:
    client = IMAP4(wire.address, wire.port, timeout=60)
    client.authenticate_sasl(mechanism(protection))
    return client


def test_imaplib_does_its_work(wire: Wiretap, protection: str) -> None:
    with imaplib_client(wire, protection) as client:
        assert client.state == "AUTH"
        assert "IDLE" in client.capabilities
        empty(client)
        assert any(b'"/" Archive' in line for line in ok(client.list()))
        ok(client.append("INBOX", "\\Seen", "", mail("first")))
        ok(client.append("INBOX", "", "", LONG))
        assert ok(client.select("INBOX")) == [b"2"]
        assert ok(client.search(None, "SUBJECT", "first")) == [b"1"]
        assert ok(client.search(None, "UNSEEN")) == [b"2"]
        (_, message), _ = ok(client.fetch("2", "(BODY.PEEK[])"))
        assert message == LONG
        ok(client.copy("1", "Archive"))
        assert ok(client.status("Archive", "(MESSAGES)")) == [b"Archive (MESSAGES 1)"]
        assert ok(client.select("Archive", readonly=True)) == [b"1"]


def test_imaplib_hears_of_mail_in_idle(wire: Wiretap, protection: str) -> None:
    """imaplib has `idle` from 3.14 on; until then it is said by hand."""
    with (
        imaplib_client(wire, protection) as client,
        imaplib_client(wire, protection) as other,
    ):
        empty(client)
        client.send(b"idle1 IDLE\r\n")
        assert client.readline().startswith(b"+ ")
        ok(other.append("INBOX", "", "", mail("pushed")))
        assert client.readline() == b"* 1 EXISTS\r\n"
        client.send(b"DONE\r\n")
        while not re.match(b"idle1 OK", client.readline()):
            pass
        assert ok(client.search(None, "SUBJECT", "pushed")) == [b"1"]


def test_imaplib_after_a_login_that_was_refused(cyrus: Cyrus) -> None:
    with IMAP4(cyrus.address, cyrus.port, timeout=60) as client:
        with pytest.raises(IMAP4.error, match="refused DIGEST-MD5: NO, 'authentication failure'"):
            client.authenticate_sasl(digest(WRONG))
        client.authenticate_sasl(digest(BOB))
        assert ok(client.select("INBOX"))


# aioimaplib


@asynccontextmanager
async def aioimaplib_client(wire: Wiretap, protection: str) -> AsyncIterator[aioimaplib.IMAP4]:
    client = aioimaplib.IMAP4(wire.address, wire.port, timeout=60)
    await client.wait_hello_from_server()
    try:
        await authenticate(client, mechanism(protection))
        yield client
        fine(await client.logout())
    finally:
        client.protocol.transport.close()


def fine(response: aioimaplib.Response) -> list[bytes]:
    assert response.result == "OK", response
    lines: list[bytes] = response.lines
    return lines


async def empty_by(client: aioimaplib.IMAP4) -> None:
    await client.create("Archive")
    for mailbox in ("Archive", "INBOX"):
        fine(await client.select(mailbox))
        fine(await client.store("1:*", "+FLAGS", "(\\Deleted)"))
        fine(await client.expunge())


@pytest.mark.asyncio
async def test_aioimaplib_does_its_work(wire: Wiretap, protection: str) -> None:
    async with aioimaplib_client(wire, protection) as client:
        assert client.get_state() == "AUTH"
        assert client.has_capability("IDLE")
        await empty_by(client)
        assert any(b'"/" Archive' in line for line in fine(await client.list('""', "*")))
        fine(await client.append(mail("first"), "INBOX", "\\Seen"))
        fine(await client.append(LONG, "INBOX"))
        assert b"2 EXISTS" in fine(await client.select("INBOX"))
        assert fine(await client.search("SUBJECT first"))[0] == b"1"
        assert fine(await client.uid_search("UNSEEN"))[0]
        assert bytes(fine(await client.fetch("2", "(BODY.PEEK[])"))[1]) == LONG
        fine(await client.copy("1", "Archive"))
        assert b"1 EXISTS" in fine(await client.examine("Archive"))


@pytest.mark.asyncio
async def test_aioimaplib_hears_of_mail_in_idle(wire: Wiretap, protection: str) -> None:
    async with (
        aioimaplib_client(wire, protection) as client,
        aioimaplib_client(wire, protection) as other,
    ):
        await empty_by(client)
        idle = await client.idle_start(timeout=60)
        fine(await other.append(mail("pushed"), "INBOX"))
        assert b"1 EXISTS" in await client.wait_server_push(60)
        client.idle_done()
        fine(await idle)
        assert fine(await client.search("SUBJECT pushed"))[0] == b"1"


@pytest.mark.asyncio
async def test_aioimaplib_after_a_login_that_was_refused(cyrus: Cyrus) -> None:
    client = aioimaplib.IMAP4(cyrus.address, cyrus.port, timeout=60)
    await client.wait_hello_from_server()
    with pytest.raises(aioimaplib.Error, match="refused DIGEST-MD5: NO, 'authentication failure'"):
        await authenticate(client, digest(WRONG))
    await authenticate(client, digest(BOB))
    fine(await client.select("INBOX"))
    fine(await client.logout())
    client.protocol.transport.close()
