"""poplib under our layer, with Cyrus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap.clients.imaplib import IMAP4
from saslwrap.clients.poplib import POP3
from tests.peers.directory import NEEDLE
from tests.peers.mail_beds import empty, mail, mechanism, ok
from tests.peers.mail_beds import protection as protection
from tests.peers.mail_beds import server as server

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.cyrus import Cyrus
    from tests.peers.wiretap import WiretapFactory

pytestmark = pytest.mark.timeout(60)


def second_message(port: int, mechanism: ClientMechanism) -> bytes:
    client = POP3("127.0.0.1", port, timeout=60)
    client.authenticate_sasl(mechanism)
    assert "UIDL" in client.capa()
    assert len(client.list()[1]) == 2
    lines = client.retr(2)[1]
    client.dele(1)
    client.quit()
    return b"\r\n".join(lines)


def test_poplib_does_its_work(server: Cyrus, wiretap: WiretapFactory, protection: str) -> None:
    """Put two messages there by IMAP, read one and delete the other, and see what is left."""
    with IMAP4(server.address, server.port, timeout=60) as imap:
        imap.authenticate_sasl(mechanism(protection))
        empty(imap)
        for subject in ("first", "second"):
            ok(imap.append("INBOX", "", "", mail(subject, 500_000)))
    tap = wiretap(server.address, server.ports["pop3"])
    message = second_message(tap.port, mechanism(protection, "pop"))
    assert message == mail("second", 500_000).rstrip()
    tap.wait_closed()
    shows = protection == "auth-int"
    assert (NEEDLE.encode() in tap.server_to_client) is shows
    assert (b"DELE" in tap.client_to_server) is shows
    with IMAP4(server.address, server.port, timeout=60) as imap:
        imap.authenticate_sasl(mechanism(protection))
        assert ok(imap.select("INBOX")) == [b"1"]
