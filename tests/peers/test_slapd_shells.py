"""slapd through every shell: streams, a protocol that upgrades itself, a socket, and anyio again.

What each does alone is in `test_slapd*.py` and in the tests of the shells; here they do the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from saslwrap import AuthenticationError, DigestMD5Client, NegotiationError, SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing.pairs import properties_for
from tests.peers.directory import (
    ALICE,
    CYRILLIC,
    GENERATED_DN,
    LARGE_ENTRIES,
    LARGE_VALUES,
    LATIN,
    NEEDLE,
    Credentials,
    generated_value,
)
from tests.peers.ldap_client import ONE_LEVEL, search_request
from tests.peers.ldap_session import LDAPSession
from tests.peers.ldap_wire import digest_numbers, digest_tokens, split_login
from tests.peers.shells import Shell
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(60)

WRONG = Credentials(ALICE.username, "wr0ng-Pa55")
SEARCH_DONE = bytes.fromhex("65 07  0a 01 00  04 00  04 00")
"""The end of a result: searchResDone, success."""


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.address, slapd.port)


class Session(LDAPSession):
    """Its logins are DIGEST-MD5's, and each goes on from the message id of the last."""

    def __init__(self, shell: Shell, port: int) -> None:
        super().__init__(shell, port)
        self._message_id = 1

    def bind(
        self,
        user: Credentials = ALICE,
        protection: str = "rc4",
        *,
        max_buffer: int = 65536,
        properties: SecurityProperties | None = None,
    ) -> None:
        mechanism = DigestMD5Client(
            user.username,
            user.password,
            service="ldap",
            host="localhost",
            properties=properties or properties_for(protection, max_buffer=max_buffer),
        )
        exchange = LDAPBind(mechanism, self._message_id)
        try:
            self.log_in(exchange)
        finally:
            self._message_id = exchange.next_message_id


@pytest.fixture
def session(shell: Shell, tap: Wiretap) -> Session:
    return Session(shell, tap.port)


def numbers(tap: Wiretap, direction: Direction) -> list[int]:
    """The sequence numbers of one direction, once the connection is closed."""
    tap.wait_closed()
    return digest_numbers(tap.recordings[0].sent(direction))


@pytest.mark.parametrize(
    ("protection", "longest"), [("rc4", 2035), ("des", 2038), ("auth-int", 2044)]
)
def test_large_entries_through_a_small_buffer(
    session: Session, tap: Wiretap, protection: str, longest: int
) -> None:
    session.bind(protection=protection, max_buffer=2048)
    assert session.who_am_i() == ALICE.dn
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    for direction in Direction:
        wire = tap.recordings[0].sent(direction)
        rest = split_login(wire)[1]
        shows = protection == "auth-int"
        words = (b"ou=large", b"objectClass")
        assert all((word in rest) is shows for word in words)
        assert (NEEDLE.encode() in rest) is (shows and direction is Direction.SERVER_TO_CLIENT)
        assert digest_numbers(wire) == list(range(len(digest_tokens(wire))))
    lengths = [len(token) for token in digest_tokens(tap.server_to_client)]
    assert max(lengths) == longest
    assert lengths.count(longest) == 2 * LARGE_ENTRIES


def test_ten_thousand_entries(shell: Shell, slapd: Slapd) -> None:
    session = Session(shell, slapd.port)
    session.bind(max_buffer=2048)
    session.conversation.send(
        search_request(50, GENERATED_DN, scope=ONE_LEVEL, attributes=["description"])
    )
    received = session.conversation.receive_until(SEARCH_DONE)
    values = re.findall(rb"%b \d{5}" % NEEDLE.encode(), received)
    assert values == [generated_value(number).encode() for number in range(10_000)]


def test_rebind(session: Session, tap: Wiretap) -> None:
    session.bind()
    first = session.conversation.context
    assert session.who_am_i() == ALICE.dn
    session.bind(LATIN, "des")
    second = session.conversation.context
    assert second is not first
    assert second is not None
    assert second.cipher == "des"
    assert session.who_am_i() == LATIN.dn
    assert session.large_values() == LARGE_VALUES
    session.bind(CYRILLIC, "auth-int")
    assert session.who_am_i() == CYRILLIC.dn
    session.unbind()
    sent = [*range(3), *range(4), *range(2)]
    assert numbers(tap, Direction.CLIENT_TO_SERVER) == sent
    received = [*range(3), *range(1 + LARGE_ENTRIES + 1 + 2), 0]
    assert numbers(tap, Direction.SERVER_TO_CLIENT) == received
    assert LATIN.username.encode() not in tap.client_to_server


def test_a_rebind_that_is_refused_keeps_the_layer(session: Session, tap: Wiretap) -> None:
    session.bind()
    first = session.conversation.context
    with pytest.raises(AuthenticationError, match="invalidCredentials"):
        session.bind(WRONG)
    assert session.conversation.context is first
    assert session.who_am_i() == ""
    with pytest.raises(NegotiationError, match="the server offers auth,"):
        session.bind(properties=SecurityProperties(min_ssf=200))
    session.bind(LATIN, "auth")  # and neither does one that brings no layer
    assert session.conversation.context is first
    assert session.who_am_i() == LATIN.dn
    session.unbind()
    assert numbers(tap, Direction.CLIENT_TO_SERVER) == list(range(9))


def test_a_login_after_one_that_was_refused(session: Session, tap: Wiretap) -> None:
    with pytest.raises(AuthenticationError, match="invalidCredentials"):
        session.bind(WRONG)
    assert session.conversation.context is None
    assert session.who_am_i() == ""
    session.bind()
    assert session.who_am_i() == ALICE.dn
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert NEEDLE.encode() not in tap.server_to_client


def test_a_layer_after_a_login_without_one(session: Session, tap: Wiretap) -> None:
    session.bind(protection="auth")
    assert session.conversation.context is None
    assert session.who_am_i() == ALICE.dn
    session.bind(LATIN)
    assert session.who_am_i() == LATIN.dn
    assert session.large_values() == LARGE_VALUES
    session.unbind()
    tap.wait_closed()
    assert NEEDLE.encode() not in tap.server_to_client
