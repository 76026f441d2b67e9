"""A second login on a connection that has a layer of Kerberos, against OpenLDAP's slapd.

As with DIGEST-MD5, a login travels under the old layer, and a new one starts behind its success.
After an authzid that was refused, slapd holds later logins over Kerberos on the same connection
against that authzid, whatever they ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from anyio import to_thread

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    NegotiationError,
    SecurityContext,
    SecurityProperties,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from tests.peers.directory import ALICE, LATIN, large_dn, large_value
from tests.peers.gss_client import (
    DEFAULT,
    INTEGRITY,
    LOGIN_MESSAGES,
    MECHANISMS,
    NO_LAYER,
    bind,
    runs,
    session,
    split,
    tokens,
)
from tests.peers.kdc import BOB
from tests.peers.support import require_sasl_plugin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.kdc import Realm
    from tests.peers.ldap_client import LDAPClient
    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60), pytest.mark.usefixtures("alice_ticket")]


class Login(Protocol):
    """Makes a login: as Bob, if nothing is said."""

    def __call__(self, mechanism: str = ..., **options: Any) -> LDAPBind: ...


@pytest.fixture
def bob(alice_ticket: Realm, tmp_path: Path) -> Login:
    cache = tmp_path / "bob"
    alice_ticket.kinit(BOB.username, BOB.password, cache=cache)

    def login(mechanism: str = "GSSAPI", **options: Any) -> LDAPBind:
        return bind(mechanism, message_id=50, credential_cache=cache, **options)

    return login


@pytest.fixture
def tap(gss_slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(gss_slapd.address, gss_slapd.port)


def context(client: LDAPClient) -> SecurityContext | None:
    found: SecurityContext | None = client.stream.extra(SASLAttribute.context)
    return found


async def all_runs(tap: Wiretap, mechanism: str = "GSSAPI") -> tuple[list[int], list[int]]:
    """How many tokens each context made: the client's, and the server's."""
    await to_thread.run_sync(tap.wait_closed)
    wires = (tap.client_to_server, tap.server_to_client)
    first, second = (runs(tokens(wire, mechanism)) for wire in wires)
    return first, second


@pytest.mark.parametrize("first", MECHANISMS)
@pytest.mark.parametrize("second", MECHANISMS)
async def test_rebind(tap: Wiretap, bob: Login, first: str, second: str) -> None:
    async with session(tap, bind(first)) as client:
        old = context(client)
        assert await client.who_am_i() == ALICE.dn
        again = await authenticate(client.stream, bob(second))
        assert again is client.stream
        assert context(client) not in (old, None)
        assert client.stream.extra(SASLAttribute.mechanism) == second
        assert client.stream.extra(SASLAttribute.authcid) == "bob@EXAMPLE.COM"
        assert await client.who_am_i() == BOB.dn
        assert (await client.search(large_dn(2))).values() == {large_dn(2): large_value(2)}
    login = LOGIN_MESSAGES[second]
    assert await all_runs(tap, first) == ([1 + login, 2], [1 + login, 3])
    for wire in (tap.client_to_server, tap.server_to_client):
        assert second.encode() not in split(wire, first)[1]


@pytest.mark.parametrize(
    ("properties", "ssf"), [(DEFAULT, 256), (INTEGRITY, 1)], ids=["sealed", "integrity"]
)
async def test_rebind_to_another_protection(
    tap: Wiretap, bob: Login, properties: SecurityProperties, ssf: int
) -> None:
    async with session(tap, bind(properties=INTEGRITY)) as client:
        await authenticate(client.stream, bob(properties=properties))
        assert client.stream.extra(SASLAttribute.ssf) == ssf
        assert await client.who_am_i() == BOB.dn
    assert await all_runs(tap) == ([3, 1], [3, 1])
    sealed = [token.sealed for token in tokens(tap.client_to_server, "GSSAPI")]
    assert sealed == [False, False, False, ssf > 1]


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_rebind_from_kerberos_to_digest_md5_and_back(
    gss_slapd: Slapd, bob: Login, mechanism: str
) -> None:
    require_sasl_plugin("digestmd5")
    digest = DigestMD5Client(LATIN.username, LATIN.password, service="ldap", host=gss_slapd.host)
    async with session(gss_slapd, bind(mechanism)) as client:
        await authenticate(client.stream, LDAPBind(digest, 20))
        assert client.stream.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
        assert client.stream.extra(SASLAttribute.ssf) == 128
        assert await client.who_am_i() == LATIN.dn
        await authenticate(client.stream, bob(mechanism))
        assert client.stream.extra(SASLAttribute.ssf) == 256
        assert await client.who_am_i() == BOB.dn


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_rebind_without_a_layer_keeps_the_old_one(
    tap: Wiretap, bob: Login, mechanism: str
) -> None:
    async with session(tap, bind()) as client:
        old = context(client)
        await authenticate(client.stream, bob(mechanism, properties=NO_LAYER))
        assert context(client) is old
        assert client.stream.extra(SASLAttribute.ssf) == 256
        assert client.stream.extra(SASLAttribute.authcid) == "bob@EXAMPLE.COM"
        assert await client.who_am_i() == BOB.dn
    count = LOGIN_MESSAGES[mechanism] + 1
    assert await all_runs(tap) == ([count], [count])


async def test_a_rebind_that_is_refused_keeps_the_layer(tap: Wiretap, bob: Login) -> None:
    async with session(tap, bind()) as client:
        old = context(client)
        with pytest.raises(AuthenticationError, match="not authorized"):
            await authenticate(client.stream, bob(authzid="u:alice"))
        assert context(client) is old
        assert client.stream.extra(SASLAttribute.authcid) == "alice@EXAMPLE.COM"
        assert await client.who_am_i() == ""
    assert await all_runs(tap) == ([4], [4])


async def test_a_rebind_that_we_refuse_keeps_the_layer(tap: Wiretap, bob: Login) -> None:
    too_much = SecurityProperties(min_ssf=300, max_ssf=300)
    async with session(tap, bind()) as client:
        old = context(client)
        with pytest.raises(NegotiationError, match="wanted: an SSF of 300 to 300"):
            await authenticate(client.stream, bob(properties=too_much))
        assert context(client) is old
        assert await client.who_am_i() == ""
        await authenticate(client.stream, bob())
        assert context(client) is not old
        assert await client.who_am_i() == BOB.dn
    assert await all_runs(tap) == ([7, 1], [7, 1])


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_layer_after_a_login_without_one(
    gss_slapd: Slapd, bob: Login, mechanism: str
) -> None:
    async with session(gss_slapd, bind(mechanism, properties=NO_LAYER)) as client:
        assert await client.who_am_i() == ALICE.dn
        await authenticate(client.stream, bob(mechanism))
        assert client.stream.extra(SASLAttribute.ssf) == 256
        assert await client.who_am_i() == BOB.dn
