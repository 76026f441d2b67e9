"""saslwrap's anyio shell against Active Directory, as Samba has it: layers that stand.

What the server reads from its own database is what has to arrive. For what it refuses there is
`test_samba_refusals.py`; what Samba is like stands in `samba.py`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest
from anyio import BrokenResourceError, create_task_group, to_thread

from saslwrap import QOP, AuthenticationError, FrameTooLargeError, SecurityProperties
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.kdc import BOB
from tests.peers.ldap_client import (
    SUBTREE,
    LDAPClient,
    search_request,
    value_is,
)
from tests.peers.samba import (
    BASE_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    SMALL_ENTRIES,
    Samba,
    enter,
    large_dn,
    small_dn,
    user_dn,
)
from tests.peers.samba_login import (
    KERBEROS_NAME,
    LOGINS,
    SIGNED,
    Login,
    Wire,
    gssapi,
    gssapi_of_ticket,
    layers,
    spnego,
    spnego_of_ticket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from saslwrap import ClientMechanism
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

Entries: TypeAlias = dict[str, dict[str, list[bytes]]]

SMALL_SEARCHES = 10_000
BATCH = 200

MAXBUF = 65536
"""What Samba announces."""

KERBEROS_OVERHEAD = 60

each_login = pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)
from_ticket = pytest.mark.parametrize(
    "mechanism", [gssapi_of_ticket, spnego_of_ticket], ids=["gssapi", "spnego"]
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where `KRB5CCNAME` points to."""
    return tmp_path / "ccache"


@pytest.fixture(autouse=True)
def in_the_domain(samba: Samba, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(samba, monkeypatch, cache)


@pytest.fixture
def tap(samba: Samba, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(samba.address, samba.port)


@pytest.fixture(scope="module")
def large(samba: Samba) -> Entries:
    return samba.ldbsearch("(thumbnailPhoto=*)", "thumbnailPhoto")


@pytest.fixture(scope="module")
def small(samba: Samba) -> Entries:
    return samba.ldbsearch("(cn=small-*)", "cn")


@asynccontextmanager
async def session(port: int, mechanism: ClientMechanism) -> AsyncIterator[LDAPClient]:
    async with (
        await anyio.connect_tcp(Samba.address, port) as tcp,
        await authenticate(tcp, LDAPBind(mechanism)) as stream,
    ):
        yield LDAPClient(stream)


async def recorded(tap: Wiretap) -> Wire:
    """What was on the wire, once the connection is closed."""
    await to_thread.run_sync(tap.wait_closed)
    return Wire(tap.recordings[0])


async def identity(client: LDAPClient) -> bytes:
    """The SID of the user that the server takes us for."""
    (root,) = (await client.search("", attributes=["tokenGroups"])).entries.values()
    return root["tokenGroups"][0]


async def sid(client: LDAPClient, user: str) -> bytes:
    found = await client.search(user_dn(user), attributes=["objectSid"])
    return found.entries[user_dn(user)]["objectSid"][0]


# Each layer, and a lot of what it is for.


@each_login
async def test_more_than_20_mib(tap: Wiretap, login: Login, large: Entries) -> None:
    wanted = ("present", b"thumbnailPhoto")
    async with session(tap.port, login.mechanism()) as client:
        check_attributes(client, login)
        found = await client.search(
            BASE_DN, scope=SUBTREE, matching=wanted, attributes=["thumbnailPhoto"]
        )
    assert found.entries == large
    values = [entry["thumbnailPhoto"][0] for entry in large.values()]
    assert sum(map(len, values)) > 20 << 20
    wire = await recorded(tap)
    wire.check(login)
    needles = (b"thumbnailPhoto", LARGE_DN.encode(), *(value[:32] for value in values[:8]))
    assert any(wire.shows(needle) for needle in needles) is not login.sealed
    assert ALICE.password.encode() not in tap.client_to_server


def check_attributes(client: LDAPClient, login: Login) -> None:
    extra = client.stream.extra
    assert extra(SASLAttribute.ssf) == login.ssf
    assert extra(SASLAttribute.qop) is (QOP.AUTH_CONF if login.sealed else QOP.AUTH_INT)
    assert extra(SASLAttribute.mechanism) == login.mechanism().name


@each_login
async def test_ten_thousand_small_searches(samba: Samba, login: Login, small: Entries) -> None:
    async with session(samba.port, login.mechanism()) as client:
        for first in range(1000, 1000 + SMALL_SEARCHES, BATCH):
            wanted = {
                number: small_dn(number % SMALL_ENTRIES) for number in range(first, first + BATCH)
            }
            requests = [
                search_request(number, dn, attributes=["cn"]) for number, dn in wanted.items()
            ]
            await client.stream.send(b"".join(requests))
            found = await client.collect(wanted)
            assert {number: answer.entries for number, answer in found.items()} == {
                number: {dn: small[dn]} for number, dn in wanted.items()
            }


@each_login
async def test_one_task_sends_while_another_receives(
    tap: Wiretap, login: Login, large: Entries
) -> None:
    """Large entries come while requests of more than one frame go."""
    wanted = {number: large_dn(number % LARGE_ENTRIES) for number in range(1000, 1400)}
    short = ("present", b"cn")
    long = ("or", [value_is("description", NEEDLE * 5000), short])

    async def send_requests() -> None:
        for number, dn in wanted.items():
            matching = short if number % 10 else long
            request = search_request(number, dn, matching=matching, attributes=["thumbnailPhoto"])
            await client.stream.send(request)

    async with session(tap.port, login.mechanism()) as client, create_task_group() as tasks:
        tasks.start_soon(send_requests)
        found = await client.collect(wanted)
    for number, dn in wanted.items():
        assert found[number].entries == {dn: large[dn]}
    wire = await recorded(tap)
    wire.check(login)
    assert wire.shows(NEEDLE.encode()) is not login.sealed


@pytest.mark.parametrize(("name", "choice"), [("sealed", 4), ("signed", 2), ("ad_compat", 6)])
async def test_the_choice_of_a_layer(tap: Wiretap, name: str, choice: int) -> None:
    async with session(tap.port, LOGINS[f"gssapi-{name}"].mechanism()) as client:
        assert await identity(client) == await sid(client, ALICE.username)
    wire = await recorded(tap)
    assert layers(wire.responses[1]) == b"\7" + MAXBUF.to_bytes(3, "big")
    assert layers(wire.requests[2]) == bytes([choice]) + MAXBUF.to_bytes(3, "big")


# Sizes.


@pytest.mark.parametrize("properties", [SecurityProperties(), SIGNED], ids=["sealed", "signed"])
async def test_a_request_beyond_the_server_s_maximum(
    tap: Wiretap, properties: SecurityProperties
) -> None:
    await ask_at_length(tap, gssapi(properties=properties))
    *full, last = map(len, (await recorded(tap)).sent)
    assert full == [MAXBUF, MAXBUF]
    assert last < MAXBUF


async def test_a_request_beyond_our_own_limit(tap: Wiretap) -> None:
    await ask_at_length(tap, spnego(send_limit=10_000))
    *full, last = map(len, (await recorded(tap)).sent)
    (length,) = set(full)
    assert abs(length - 10_000) <= KERBEROS_OVERHEAD
    assert len(full) > 14
    assert last <= length


async def ask_at_length(tap: Wiretap, mechanism: ClientMechanism) -> None:
    long = value_is("description", NEEDLE * 10_000)
    async with session(tap.port, mechanism) as client:
        found = await client.search(
            user_dn(ALICE.username), matching=("or", [long, ("present", b"cn")]), attributes=["cn"]
        )
    assert found.values("cn") == {user_dn(ALICE.username): ALICE.username}


@pytest.mark.parametrize(("least", "greatest"), [(112, 256), (1, 1)], ids=["sealed", "signed"])
async def test_a_small_max_buffer(tap: Wiretap, large: Entries, least: int, greatest: int) -> None:
    properties = SecurityProperties(min_ssf=least, max_ssf=greatest, max_buffer=1024)
    async with session(tap.port, gssapi(properties=properties)) as client:
        found = await client.search(large_dn(3), attributes=["thumbnailPhoto"])
    assert found.entries == {large_dn(3): large[large_dn(3)]}
    lengths = [len(token) for token in (await recorded(tap)).received]
    assert 1024 - KERBEROS_OVERHEAD < max(lengths) <= 1024
    assert len(lengths) > 88


async def test_a_token_beyond_our_receive_limit(samba: Samba) -> None:
    async with session(samba.port, spnego(receive_limit=1000)) as client:
        assert await sid(client, ALICE.username)
        with pytest.raises(BrokenResourceError) as raised:
            await client.search(large_dn(3), attributes=["thumbnailPhoto"])
    assert isinstance(raised.value.__cause__, FrameTooLargeError)
    assert raised.value.__cause__.limit == 1000


# Who logs in, and with what.


@from_ticket
async def test_a_ticket_where_the_system_has_it(
    samba: Samba, cache: Path, mechanism: Callable[..., ClientMechanism]
) -> None:
    samba.kinit(BOB.username, BOB.password, cache=cache)
    async with session(samba.port, mechanism()) as client:
        assert client.stream.extra(SASLAttribute.authcid) == f"{BOB.username}@{samba.realm}"
        assert await identity(client) == await sid(client, BOB.username)


@from_ticket
@pytest.mark.parametrize("prefix", ["", "FILE:"])
async def test_a_ticket_elsewhere(
    samba: Samba, cache: Path, mechanism: Callable[..., ClientMechanism], prefix: str
) -> None:
    elsewhere = cache.with_name("elsewhere")
    samba.kinit(BOB.username, BOB.password, cache=elsewhere)
    samba.kinit(cache=cache)  # which is not to be taken
    async with session(samba.port, mechanism(credential_cache=f"{prefix}{elsewhere}")) as client:
        assert await identity(client) == await sid(client, BOB.username)


@from_ticket
async def test_no_ticket(samba: Samba, mechanism: Callable[..., ClientMechanism]) -> None:
    with pytest.raises(AuthenticationError, match=r"there is no Kerberos ticket.*: run kinit"):
        async with session(samba.port, mechanism()):
            pass


async def test_ntlm_where_kerberos_cannot_be_had(samba: Samba) -> None:
    by_address = partial(spnego, host=samba.address)
    async with session(samba.port, by_address(ntlm=True)) as client:
        assert client.stream.extra(SASLAttribute.ssf) == 128
        assert client.stream.extra(SASLAttribute.authcid) == KERBEROS_NAME
        assert await identity(client) == await sid(client, ALICE.username)
    with pytest.raises(AuthenticationError, match=r"ldap/127\.0\.0\.1.*NTLM.*ntlm=True"):
        async with session(samba.port, by_address()):
            pass
