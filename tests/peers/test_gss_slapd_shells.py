"""slapd over Kerberos through every shell: what `test_gss_slapd.py` shows of anyio's, once each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import NegotiationError, SecurityProperties
from tests.peers.directory import ALICE, LARGE_DN, LARGE_ENTRIES, NEEDLE, large_dn, large_value
from tests.peers.gss_client import (
    INTEGRITY,
    MECHANISMS,
    NO_LAYER,
    SEALED_OVERHEAD,
    bind,
    client_over,
    runs,
    split,
    tokens,
)
from tests.peers.ldap_client import ONE_LEVEL
from tests.peers.shells import Shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saslwrap.protocols.ldap import LDAPBind
    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("alice_ticket")]

LARGE_VALUES = {large_dn(number): large_value(number) for number in range(LARGE_ENTRIES)}


@pytest.fixture(params=Shell.KINDS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with Shell(request.param) as shell:
        yield shell


@pytest.fixture
def tap(gss_slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(gss_slapd.address, gss_slapd.port)


class Session:
    """A connection to slapd, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self._client = client_over(self.conversation.talk)
        self._run = shell.run

    def log_in(self, exchange: LDAPBind) -> None:
        self.conversation.authenticate(exchange)

    def large_values(self) -> dict[str, str]:
        async def search() -> dict[str, str]:
            return (await self._client.search(LARGE_DN, scope=ONE_LEVEL)).values()

        return self._run(search)

    def who_am_i(self) -> str:
        return self._run(self._client.who_am_i)

    def unbind(self) -> None:
        self._run(self._client.unbind)
        assert self.conversation.receive() == b""
        self.conversation.close()


@pytest.fixture
def session(shell: Shell, tap: Wiretap) -> Session:
    return Session(shell, tap.port)


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
    session: Session, tap: Wiretap, mechanism: str, properties: SecurityProperties, ssf: int
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


def test_large_entries_through_a_small_buffer(session: Session, tap: Wiretap) -> None:
    session.log_in(bind(properties=SecurityProperties(max_buffer=SEALED_OVERHEAD + 40)))
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert max(map(len, tokens(tap.server_to_client, "GSSAPI"))) == SEALED_OVERHEAD + 40


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rebind(session: Session, tap: Wiretap, mechanism: str) -> None:
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
