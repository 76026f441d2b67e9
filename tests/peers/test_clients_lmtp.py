"""smtplib and aiosmtplib under our layer: mail goes to Cyrus by LMTP, and is read back by IMAP."""

from __future__ import annotations

import asyncio
import smtplib
from typing import TYPE_CHECKING, Any

import aiosmtplib
import pytest

from saslwrap.clients.aiosmtplib import authenticate
from saslwrap.clients.imaplib import IMAP4
from saslwrap.clients.smtplib import LMTP
from tests.peers.cyrus_logins import WRONG, digest
from tests.peers.directory import NEEDLE
from tests.peers.mail_beds import empty, mail, mechanism, ok
from tests.peers.mail_beds import protection as protection
from tests.peers.mail_beds import server as server
from tests.peers.smtp_wire import check_sealed

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.cyrus import Cyrus
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(120)

NAME = "client.example.com"
SENDER = "bob@example.com"

#: What must show in no frame that is sealed.
WORDS = (NEEDLE.encode(), b"bob@example.com", b"IGNOREQUOTA")


# smtplib


def deliver(port: int, mechanism: ClientMechanism, message: bytes) -> None:
    with LMTP("127.0.0.1", port, "client.example.com", timeout=60) as client:
        client.authenticate_sasl(mechanism)
        client.sendmail("bob@example.com", "alice", message)


# aiosmtplib, which has no LMTP of its own


class LocalClient(aiosmtplib.SMTP):
    """Says LHLO, as LMTP has it (RFC 2033)."""

    async def ehlo(self, **_: Any) -> aiosmtplib.SMTPResponse:
        response = await self.execute_command(b"LHLO", NAME.encode())
        if response.code != 250:
            raise aiosmtplib.SMTPHeloError(response.code, response.message)
        self.last_ehlo_response = response
        return response


def deliver_by_aiosmtplib(port: int, mechanism: ClientMechanism, message: bytes) -> None:
    async def main() -> None:
        client = LocalClient(hostname="127.0.0.1", port=port, local_hostname=NAME, timeout=60)
        async with client:
            await authenticate(client, mechanism)
            await client.sendmail(SENDER, "alice", message)

    asyncio.run(main())


CLIENTS = {"smtplib": deliver, "aiosmtplib": deliver_by_aiosmtplib}


def read(server: Cyrus, protection: str) -> bytes:
    """Read the last message, if there is one, and leave none. The login makes the INBOX."""
    with IMAP4(server.address, server.port, timeout=60) as client:
        client.authenticate_sasl(mechanism(protection))
        (number,) = ok(client.select("INBOX"))
        message = b"" if number == b"0" else ok(client.fetch(number, "(BODY.PEEK[])"))[0][1]
        empty(client)
        return bytes(message)


def body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_mail_is_delivered(
    server: Cyrus, protection: str, client: str, wiretap: WiretapFactory
) -> None:
    read(server, protection)
    message = mail("by LMTP", 500_000)
    tap = wiretap(server.address, server.ports["lmtp"])
    CLIENTS[client](tap.port, mechanism(protection, "lmtp"), message)
    received = read(server, protection)
    assert received.startswith(b"Return-Path: <bob@example.com>\r\n")
    assert body(received) == body(message)
    check_sealed(tap, *WORDS, shows=protection == "auth-int")


@pytest.fixture
def tap(cyrus: Cyrus, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(cyrus.address, cyrus.ports["lmtp"])


def test_smtplib_after_a_login_that_was_refused(cyrus: Cyrus, tap: Wiretap) -> None:
    read(cyrus, "rc4")
    with LMTP(tap.address, tap.port, NAME, timeout=60) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError, match="refused DIGEST-MD5: 501"):
            client.authenticate_sasl(digest(WRONG, service="lmtp"))
        assert "auth" in client.esmtp_features
        client.authenticate_sasl(digest(service="lmtp"))
        assert "ignorequota" in client.esmtp_features
        client.sendmail(SENDER, "alice", mail("second try"))
    assert b"second try" in read(cyrus, "rc4")
    check_sealed(tap, *WORDS)


@pytest.mark.asyncio
async def test_aiosmtplib_after_a_login_that_was_refused(tap: Wiretap) -> None:
    async with LocalClient(hostname=tap.address, port=tap.port, local_hostname=NAME) as client:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="refused DIGEST-MD5: 501"):
            await authenticate(client, digest(WRONG, service="lmtp"))
        await authenticate(client, digest(service="lmtp"))
        assert client.supports_extension("ignorequota")
        assert (await client.noop()).code == 250
