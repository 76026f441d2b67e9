"""The LDAP server for tests: logins, the first and further ones."""

from __future__ import annotations

import pytest

from saslwrap import AuthenticationError, DigestMD5Client, NegotiationError
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode
from saslwrap.testing.pairs import properties_for
from tests.ldap_bed import (
    ALICE,
    ANY_LAYER,
    ANYTHING,
    BASE,
    PASSWORD,
    ROOT,
    USERS,
    WHO_AM_I,
    Anyone,
    anyio_backend,
    anyone_bind,
    connected,
    logged_in,
    make_server,
)

__all__ = ["anyio_backend"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("protection", "ssf"),
    [
        ("auth", 0),
        ("auth-int", 1),
        ("rc4-40", 40),
        ("des", 55),
        ("rc4-56", 56),
        ("3des", 112),
        ("rc4", 128),
    ],
)
async def test_each_protection(protection: str, ssf: int) -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in(properties=properties_for(protection))
        assert client.stream.extra(SASLAttribute.ssf) == ssf
        entries, done = await client.search(ALICE)
        assert done["resultCode"] == ResultCode.success
        assert list(entries) == [ALICE]
        assert entries[ALICE]["jpegPhoto"] == [b"\xff\xd8\xff"]


@pytest.mark.anyio
@pytest.mark.parametrize("username", USERS, ids=ascii)
async def test_who_am_i(username: str) -> None:
    async with connected(make_server()) as client:
        await client.log_in(username, USERS[username])
        answer = await client.extended(WHO_AM_I)
        assert answer["responseValue"].decode() == f"u:{username}"


@pytest.mark.anyio
async def test_an_authzid_is_shown() -> None:
    async with connected(make_server()) as client:
        await client.log_in(authzid="u:bob")
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:bob"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("username", "password", "realm"),
    [
        ("alice", "wrong", None),
        ("nobody", PASSWORD, None),
        ("alice", PASSWORD, "elsewhere"),
    ],
    ids=["password", "user", "realm"],
)
async def test_a_refused_login(username: str, password: str, realm: str | None) -> None:
    async with connected(make_server()) as client:
        with pytest.raises(AuthenticationError, match=r"invalidCredentials \(49\)$"):
            await client.log_in(username, password, realm=realm)
        entries, _ = await client.search("")
        assert list(entries) == [""]
        _, done = await client.search(ROOT)
        assert done["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_policy_is_the_servers_too() -> None:
    async with connected(make_server()) as client:
        with pytest.raises(NegotiationError):
            await client.log_in(properties=properties_for("auth-int"))
        await client.log_in()


@pytest.mark.anyio
async def test_a_realm_and_a_host_of_ones_own() -> None:
    server = make_server(realm="lab.test", host="ldap.lab.test")
    async with connected(server) as client:
        with pytest.raises(AuthenticationError):
            await client.log_in()
        mechanism = DigestMD5Client(
            "alice", PASSWORD, service="ldap", host="LDAP.lab.test", realm="lab.test"
        )
        await authenticate(client.stream, LDAPBind(mechanism))


@pytest.mark.anyio
async def test_mechanisms_of_ones_own() -> None:
    async with connected(make_server(mechanisms={"ANYONE": Anyone})) as client:
        entries, _ = await client.search("", BASE, ANYTHING, [b"+"])
        assert entries[""]["supportedSASLMechanisms"] == [b"ANYONE"]
        answer = await client.ask("bindRequest", anyone_bind(b"zoe"))
        assert answer.value["resultCode"] == ResultCode.success
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:zoe"
        with pytest.raises(NegotiationError, match="ANYONE"):
            await client.log_in()


@pytest.mark.anyio
async def test_a_server_without_mechanisms() -> None:
    async with connected(make_server(mechanisms={})) as client:
        entries, _ = await client.search("", BASE, ANYTHING, [b"+"])
        assert entries[""]["supportedSASLMechanisms"] == []


@pytest.mark.anyio
async def test_a_rebind_replaces_the_layer() -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in()
        old = client.stream.extra(SASLAttribute.context)
        await client.log_in("юлия", USERS["юлия"], properties_for("auth-int"))
        assert client.stream.extra(SASLAttribute.context) is not old
        assert client.stream.extra(SASLAttribute.ssf) == 1
        assert (await client.extended(WHO_AM_I))["responseValue"].decode() == "u:юлия"


@pytest.mark.anyio
async def test_a_rebind_without_a_layer_leaves_the_old_one() -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in()
        old = client.stream.extra(SASLAttribute.context)
        await client.log_in(properties=properties_for("auth"))
        assert client.stream.extra(SASLAttribute.context) is old
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_a_refused_rebind_leaves_the_layer_and_nobody() -> None:
    async with logged_in() as client:
        old = client.stream.extra(SASLAttribute.context)
        with pytest.raises(AuthenticationError):
            await client.log_in(password="wrong")
        assert client.stream.extra(SASLAttribute.context) is old
        _, done = await client.search(ROOT)
        assert done["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_a_simple_rebind_is_refused_under_the_layer() -> None:
    async with logged_in() as client:
        bind = {"version": 3, "name": b"", "authentication": ("simple", b"x")}
        answer = await client.ask("bindRequest", bind)
        assert answer.value["resultCode"] == ResultCode.strongerAuthRequired
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.strongerAuthRequired
