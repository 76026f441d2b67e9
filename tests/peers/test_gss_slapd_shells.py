"""slapd over Kerberos through every shell: what `test_gss_slapd.py` shows of anyio's, once each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import NegotiationError, SecurityProperties
from tests.peers.directory import ALICE, LARGE_VALUES, NEEDLE
from tests.peers.gss_client import (
    INTEGRITY,
    MECHANISMS,
    NO_LAYER,
    SEALED_OVERHEAD,
    bind,
    runs,
    split,
    tokens,
)
from tests.peers.ldap_session import LDAPSession
from tests.peers.shells import Shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("alice_ticket")]


@pytest.fixture
def tap(gss_slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(gss_slapd.address, gss_slapd.port)


@pytest.fixture
def session(shell: Shell, tap: Wiretap) -> LDAPSession:
    return LDAPSession(shell, tap.port)


@pytest.mark.parametrize(
    ("mechanism", "properties", "ssf"),
    [
        ("GSSAPI", SecurityProperties(), 256),
        ("GSSAPI", INTEGRITY, 1),
        ("GSSAPI", NO_LAYER, 0),
        ("GSS-SPNEGO", SecurityProperties(), 256),
        ("GSS-SPNEGO", NO_LAYER, 0),
    ],
)
def test_each_protection(
    session: LDAPSession, tap: Wiretap, mechanism: str, properties: SecurityProperties, ssf: int
) -> None:
    session.log_in(bind(mechanism, properties=properties))
    context = session.conversation.context
    assert (context.ssf if context else 0) == ssf
    assert session.who_am_i() == ALICE.dn
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert (NEEDLE.encode() in tap.server_to_client) is (ssf <= 1)
    for direction in Direction:
        wire = tap.recordings[0].sent(direction)
        assert (b"ou=large" in split(wire, mechanism)[1]) is (ssf <= 1)
        if ssf:
            found = tokens(wire, mechanism)
            assert {token.sealed for token in found} == {ssf > 1}
            assert len(runs(found)) == 1


def test_large_entries_through_a_small_buffer(session: LDAPSession, tap: Wiretap) -> None:
    session.log_in(bind(properties=SecurityProperties(max_buffer=SEALED_OVERHEAD + 40)))
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert max(map(len, tokens(tap.server_to_client, "GSSAPI"))) == SEALED_OVERHEAD + 40


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rebind(session: LDAPSession, tap: Wiretap, mechanism: str) -> None:
    too_much = SecurityProperties(min_ssf=300, max_ssf=300)
    session.log_in(bind())
    first = session.conversation.context
    with pytest.raises(NegotiationError, match="wanted: an SSF of 300 to 300"):
        session.log_in(bind(properties=too_much, message_id=10))
    assert session.conversation.context is first
    assert session.who_am_i() == ""
    session.log_in(bind(mechanism, message_id=20))
    second = session.conversation.context
    assert second is not None
    assert second is not first
    assert session.who_am_i() == ALICE.dn
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert len(runs(tokens(tap.client_to_server, "GSSAPI"))) == 2
    assert len(runs(tokens(tap.server_to_client, "GSSAPI"))) == 2
    assert NEEDLE.encode() not in tap.server_to_client
