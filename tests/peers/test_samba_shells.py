"""Samba's domain controller through every shell: one sealed search of each kind, and its wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from saslwrap import AuthenticationError
from saslwrap.protocols.ldap import LDAPBind
from tests.peers.ldap_client import ONE_LEVEL, LDAPClient, value_is
from tests.peers.samba import LARGE_DN, LARGE_VALUE_LENGTH, Samba, enter, large_dn
from tests.peers.samba_login import LOGINS, Login, Wire, ntlm
from tests.peers.shells import Conversation, Shell

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import ByteStream

    from saslwrap import ClientMechanism
    from tests.peers.ldap_client import Found
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = pytest.mark.timeout(300)

SEARCHED = range(12)
"""The numbers of the large entries that are looked for: more than 1 MiB in all."""

each_login = pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)


@pytest.fixture(autouse=True)
def in_the_domain(samba: Samba, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(samba, monkeypatch, tmp_path / "ccache")


@pytest.fixture
def tap(samba: Samba, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(samba.address, samba.port)


@pytest.fixture
def conversation(shell: Shell, tap: Wiretap) -> Conversation:
    return shell.connect(tap.port)


def search(shell: Shell, conversation: Conversation) -> dict[str, dict[str, list[bytes]]]:
    async def large_entries() -> Found:
        client = LDAPClient(cast("ByteStream", conversation.talk))
        names = [value_is("cn", f"large-{number:03}") for number in SEARCHED]
        return await client.search(
            LARGE_DN, scope=ONE_LEVEL, matching=("or", names), attributes=["thumbnailPhoto"]
        )

    return shell.run(large_entries).entries


def bind(conversation: Conversation, mechanism: ClientMechanism, message_id: int = 1) -> LDAPBind:
    exchange = LDAPBind(mechanism, message_id)
    conversation.authenticate(exchange)
    return exchange


@pytest.fixture(scope="module")
def large(samba: Samba) -> dict[str, dict[str, list[bytes]]]:
    found = samba.ldbsearch("(thumbnailPhoto=*)", "thumbnailPhoto")
    return {large_dn(number): found[large_dn(number)] for number in SEARCHED}


@each_login
def test_a_search(
    shell: Shell,
    conversation: Conversation,
    tap: Wiretap,
    login: Login,
    large: dict[str, dict[str, list[bytes]]],
) -> None:
    bind(conversation, login.mechanism())
    context = conversation.context
    assert context is not None
    assert context.ssf == login.ssf
    assert search(shell, conversation) == large
    conversation.close()
    tap.wait_closed()
    wire = Wire(tap.recordings[0])
    wire.check(login)
    assert sum(map(len, wire.received)) > len(SEARCHED) * LARGE_VALUE_LENGTH
    for needle in (b"thumbnailPhoto", LARGE_DN.encode()):
        assert wire.shows(needle) is not login.sealed


def test_a_login_after_one_that_was_refused_and_one_that_comes_too_late(
    shell: Shell, conversation: Conversation, large: dict[str, dict[str, list[bytes]]]
) -> None:
    """Rule 8: neither refusal takes the connection, nor its layer, away."""
    refused = LDAPBind(ntlm(password="wr0ng-Pa55"))
    with pytest.raises(AuthenticationError, match="invalidCredentials"):
        conversation.authenticate(refused)
    assert conversation.context is None
    accepted = bind(conversation, ntlm(), refused.next_message_id)
    first = conversation.context
    assert first is not None
    with pytest.raises(AuthenticationError, match="unwillingToPerform"):
        bind(conversation, ntlm(), accepted.next_message_id)
    assert conversation.context is first
    assert search(shell, conversation) == large
