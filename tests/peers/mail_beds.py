"""Cyrus and a login for the clients that others wrote; and mail for them to work with."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.cyrus_logins import STRENGTHS, digest, kerberos
from tests.peers.directory import NEEDLE

if TYPE_CHECKING:
    from imaplib import IMAP4

    from saslwrap import ClientMechanism
    from tests.peers.cyrus import Cyrus


@pytest.fixture(params=[*STRENGTHS, "GSSAPI"])
def protection(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(protection: str, request: pytest.FixtureRequest) -> Cyrus:
    """Cyrus, as that protection needs it."""
    if protection == "GSSAPI":
        request.getfixturevalue("alice_ticket")
    found: Cyrus = request.getfixturevalue("gss_cyrus" if protection == "GSSAPI" else "cyrus")
    return found


def mechanism(protection: str, service: str = "imap") -> ClientMechanism:
    """Alice's login there."""
    if protection == "GSSAPI":
        return kerberos(service, least=112)
    return digest(protection=protection, service=service)


def mail(subject: str, volume: int = 0) -> bytes:
    """A message of so many octets or a few more, with a needle on every line."""
    source = random.Random(volume)
    lines = (f"{NEEDLE} {source.randbytes(350).hex()}\r\n" for _ in range(1 + volume // 700))
    return f"Subject: {subject}\r\n\r\n{''.join(lines)}".encode()


def ok(answer: tuple[str, Any]) -> Any:
    assert answer[0] == "OK"
    return answer[1]


def empty(client: IMAP4) -> None:
    """Leave no message, and a second mailbox: the server is used by other tests too."""
    client.create("Archive")
    for mailbox in ("Archive", "INBOX"):
        ok(client.select(mailbox))
        ok(client.store("1:*", "+FLAGS", "\\Deleted"))
        ok(client.expunge())
