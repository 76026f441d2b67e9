"""Each mail client and its server over a network that cuts: into any pieces, and off."""

from __future__ import annotations

import asyncio
import imaplib
import smtplib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiosmtplib
import pytest
from aioimaplib import aioimaplib

from saslwrap import TruncatedStreamError
from saslwrap.clients import aioimaplib as our_aioimaplib
from saslwrap.clients import aiosmtplib as our_aiosmtplib
from saslwrap.clients.imaplib import IMAP4
from saslwrap.clients.poplib import POP3
from saslwrap.clients.smtplib import SMTP
from saslwrap.testing import (
    SEGMENTATIONS,
    AfterLogin,
    Cut,
    FaultProxy,
    IMAPServer,
    segmentation,
)
from tests import imap_clients, smtp_servers, test_clients_poplib
from tests.imap_bed import ANY_LAYER, MAILBOXES, USERS
from tests.raw_server import serving
from tests.test_clients_smtplib import NAME, RECIPIENT, SENDER, TEXT

HOST = "127.0.0.1"


@contextmanager
def imap() -> Iterator[int]:
    with IMAPServer(MAILBOXES, USERS, properties=ANY_LAYER).in_thread() as server:
        yield server.port


def pop3() -> AbstractContextManager[int]:
    return serving(test_clients_poplib.mailbox)


@contextmanager
def smtp() -> Iterator[int]:
    """Serve, and in the end there is the mail that was sent, or none."""
    room = smtp_servers.MailRoom()
    with serving(room) as port:
        yield port
    assert [mail.content for mail in room.mails if mail.content] in ([], [TEXT])


def by_imaplib(port: int) -> None:
    with IMAP4(HOST, port, timeout=30) as client:
        client.authenticate_sasl(imap_clients.make_mechanism())
        assert client.select("INBOX") == ("OK", [b"3"])
        fetched: Any = client.fetch("2", "(BODY.PEEK[])")[1]
        assert fetched[0][1] == MAILBOXES["INBOX"][1]


def by_poplib(port: int) -> None:
    client = POP3(HOST, port, timeout=30)
    try:
        client.authenticate_sasl(test_clients_poplib.make_mechanism())
        assert client.retr(1)[1] == [b"Subject: x", b"", b"body"]
        client.quit()
    finally:
        client.close()


def by_smtplib(port: int) -> None:
    with SMTP(HOST, port, NAME, timeout=30) as client:
        client.authenticate_sasl(smtp_servers.make_mechanism())
        assert client.sendmail(SENDER, RECIPIENT, TEXT) == {}


async def by_aioimaplib(port: int) -> None:
    client = aioimaplib.IMAP4(HOST, port, timeout=30)
    await client.wait_hello_from_server()
    try:
        await our_aioimaplib.authenticate(client, imap_clients.make_mechanism())
        assert b"3 EXISTS" in (await client.select("INBOX")).lines
        lines = (await client.fetch("2", "(BODY.PEEK[])")).lines
        assert bytes(lines[1]) == MAILBOXES["INBOX"][1]
        await client.logout()
    finally:
        client.protocol.transport.abort()


async def by_aiosmtplib(port: int) -> None:
    async with aiosmtplib.SMTP(hostname=HOST, port=port, local_hostname=NAME) as client:
        await our_aiosmtplib.authenticate(client, smtp_servers.make_mechanism())
        assert (await client.sendmail(SENDER, RECIPIENT, TEXT))[0] == {}


@dataclass(frozen=True)
class Bed:
    """A client at work, its server, and what it raises where the connection is lost."""

    serve: Callable[[], AbstractContextManager[int]]
    work: Callable[[int], None]
    lost: type[Exception]


BEDS = {
    "imaplib": Bed(imap, by_imaplib, imaplib.IMAP4.abort),
    "aioimaplib": Bed(imap, lambda port: asyncio.run(by_aioimaplib(port)), aioimaplib.Abort),
    "poplib": Bed(pop3, by_poplib, TruncatedStreamError),
    "smtplib": Bed(smtp, by_smtplib, smtplib.SMTPServerDisconnected),
    "aiosmtplib": Bed(
        smtp,
        lambda port: asyncio.run(by_aiosmtplib(port)),
        aiosmtplib.SMTPServerDisconnected,
    ),
}


@pytest.fixture(params=BEDS)
def bed(request: pytest.FixtureRequest) -> Bed:
    return BEDS[request.param]


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_any_segmentation(bed: Bed, name: str) -> None:
    with bed.serve() as port:
        proxy = FaultProxy(
            HOST,
            port,
            to_server=partial(segmentation, name, 1),
            to_client=partial(segmentation, name, 2),
        )
        with proxy.in_thread():
            bed.work(proxy.port)


@pytest.mark.parametrize("after", [1, 4, 20])
def test_an_end_inside_a_frame(bed: Bed, after: int) -> None:
    """In its length, behind that, and in the token."""
    with bed.serve() as port:
        proxy = FaultProxy(HOST, port, to_client=lambda: AfterLogin(Cut(after)))
        with proxy.in_thread(), pytest.raises(bed.lost) as caught:
            bed.work(proxy.port)
    assert any(isinstance(error, TruncatedStreamError) for error in chain(caught.value))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
