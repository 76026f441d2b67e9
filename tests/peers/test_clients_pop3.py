"""poplib under our layer, with Cyrus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import DigestMD5Client, GSSAPIClient
from saslwrap.clients.imaplib import IMAP4
from saslwrap.clients.poplib import POP3
from saslwrap.testing.pairs import properties_for
from tests.peers.cyrus import Cyrus
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.test_clients_imap import digest, empty, kerberos, mail, ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from saslwrap import ClientMechanism
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


@pytest.mark.parametrize("protection", ["rc4", "des", "auth-int"])
def test_poplib_does_its_work(cyrus: Cyrus, wiretap: WiretapFactory, protection: str) -> None:
    properties = properties_for(protection)
    mechanism = DigestMD5Client(
        ALICE.username, ALICE.password, service="pop", host=Cyrus.host, properties=properties
    )
    check_work(cyrus, wiretap, digest, mechanism, shows=protection == "auth-int")


@pytest.mark.usefixtures("alice_ticket")
def test_poplib_does_its_work_by_kerberos(gss_cyrus: Cyrus, wiretap: WiretapFactory) -> None:
    mechanism = GSSAPIClient(service="pop", host=Cyrus.host)
    check_work(gss_cyrus, wiretap, kerberos, mechanism, shows=False)


def check_work(
    cyrus: Cyrus,
    wiretap: WiretapFactory,
    imap_login: Callable[[], ClientMechanism],
    mechanism: ClientMechanism,
    *,
    shows: bool,
) -> None:
    """Put two messages there by IMAP, read one and delete the other, and see what is left."""
    with IMAP4(cyrus.address, cyrus.port, timeout=60) as imap:
        imap.authenticate_sasl(imap_login())
        empty(imap)
        for subject in ("first", "second"):
            ok(imap.append("INBOX", "", "", mail(subject, 500_000)))
    tap = wiretap(cyrus.address, cyrus.ports["pop3"])
    assert second_message(tap.port, mechanism) == mail("second", 500_000).rstrip()
    tap.wait_closed()
    assert (NEEDLE.encode() in tap.server_to_client) is shows
    assert (b"DELE" in tap.client_to_server) is shows
    with IMAP4(cyrus.address, cyrus.port, timeout=60) as imap:
        imap.authenticate_sasl(imap_login())
        assert ok(imap.select("INBOX")) == [b"1"]
