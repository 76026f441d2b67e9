"""The list of mechanisms, read twice: of OpenLDAP, of Samba, and with somebody in between."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    ClientMechanism,
    DigestMD5Client,
    GSSAPIClient,
    GSSSPNEGOClient,
    SecurityProperties,
    transport_survives,
)
from saslwrap.protocols.ldap_login import DowngradeError, LDAPLogin
from saslwrap.protocols.ldap_messages import decode
from tests.peers.directory import ALICE
from tests.peers.ldap_client import search_request
from tests.peers.samba import user_dn
from tests.peers.shells import Conversation, Shell, driving_shells
from tests.peers.wiretap import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.kdc import Realm
    from tests.peers.samba import Samba
    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import Note

pytestmark = driving_shells

STRUCK_OUT = {b"GSSAPI": b"GSSAPX", b"GSS-SPNEGO": b"GSS-SPNEGX"}
"""Of the same length, so that the message keeps its form."""


class Strike(Relay):
    """Strikes names out of what the server says in clear."""

    def _relay(self, client: socket.socket, server: socket.socket, note: Note) -> None:
        below = Thread(target=self._strike, args=(server, client))
        below.start()
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
        below.join()

    def _strike(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                for name, other in STRUCK_OUT.items():
                    length = bytes([len(name)])  # of an OCTET STRING: the value, and no mention
                    data = data.replace(length + name, length + other)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@pytest.fixture
def strike(gss_slapd: Slapd) -> Iterator[Strike]:
    connect = partial(socket.create_connection, (gss_slapd.address, gss_slapd.port), timeout=10)
    with Strike(connect) as strike:
        yield strike


def candidates() -> list[ClientMechanism]:
    host = "localhost"
    return [
        GSSAPIClient(service="ldap", host=host),
        GSSSPNEGOClient(service="ldap", host=host),
        DigestMD5Client(ALICE.username, ALICE.password, service="ldap", host=host),
    ]


def finds(conversation: Conversation, login: LDAPLogin, dn: str) -> bool:
    """Whether the application can use the connection: the entry comes, and nothing before it."""
    conversation.send(search_request(login.next_message_id, dn))
    answer = conversation.receive()
    message = decode(answer[: 2 + answer[1]] if answer[1] < 0x80 else whole(answer))
    return message.message_id == login.next_message_id and message.value["objectName"] != b""


def whole(answer: bytes) -> bytes:
    size = answer[1] & 0x7F
    return answer[: 2 + size + int.from_bytes(answer[2 : 2 + size])]


def test_the_strongest_is_chosen_and_the_list_confirmed(
    shell: Shell, gss_slapd: Slapd, alice_ticket: Realm
) -> None:
    login = LDAPLogin(candidates())
    conversation = shell.connect(gss_slapd.port)
    context = conversation.authenticate(login)
    assert context is not None
    assert (context.mechanism, context.ssf) == ("GSSAPI", 256)
    assert {"GSSAPI", "GSS-SPNEGO", "DIGEST-MD5"} <= set(login.offered or ())
    assert login.next_message_id > 4  # a search, the binds, a search
    assert finds(conversation, login, ALICE.dn)


def test_samba(shell: Shell, samba: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in samba.environment.items():
        monkeypatch.setenv(name, value)
    user = f"{ALICE.username}@{samba.realm}"
    spnego = GSSSPNEGOClient(user, ALICE.password, service="ldap", host=samba.host)
    digest = DigestMD5Client("alice", ALICE.password, service="ldap", host=samba.host)
    login = LDAPLogin([digest, spnego])
    conversation = shell.connect(samba.port)
    context = conversation.authenticate(login)
    assert context is not None
    assert context.mechanism == "GSS-SPNEGO"
    assert "DIGEST-MD5" not in (login.offered or ())
    assert finds(conversation, login, user_dn(ALICE.username))


def test_what_was_struck_out_is_a_downgrade(
    shell: Shell, strike: Strike, alice_ticket: Realm
) -> None:
    login = LDAPLogin(candidates())
    conversation = shell.connect(strike.port)
    with pytest.raises(DowngradeError, match="the server has GSSAPI") as raised:
        conversation.authenticate(login)
    assert login.offered is not None
    assert "DIGEST-MD5" in login.offered
    assert "GSSAPI" not in login.offered
    assert not transport_survives(raised.value)
    strike.wait_closed()  # the shell has closed the connection


def test_under_the_attack_without_a_layer_nothing_can_be_told(
    shell: Shell, strike: Strike, alice_ticket: Realm
) -> None:
    nothing = SecurityProperties(min_ssf=0, max_ssf=0)
    digest = DigestMD5Client(
        ALICE.username, ALICE.password, service="ldap", host="localhost", properties=nothing
    )
    gssapi = GSSAPIClient(service="ldap", host="localhost", properties=nothing)
    login = LDAPLogin([gssapi, digest])
    assert shell.connect(strike.port).authenticate(login) is None
