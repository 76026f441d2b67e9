"""saslwrap's anyio shell against OpenLDAP's slapd, on asyncio, uvloop and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import BrokenResourceError, EndOfStream, TCPConnectable, create_task_group
from anyio.abc import SocketAttribute

from saslwrap import QOP, AuthenticationError, FrameTooLargeError, SecurityProperties
from saslwrap.anyio import SASLAttribute, SASLConnectable, authenticate
from tests.peers.directory import ALICE, LARGE_DN, LARGE_ENTRIES, NEEDLE, large_dn, large_value
from tests.peers.ldap_client import (
    ONE_LEVEL,
    LDAPClient,
    abandon_request,
    messages,
    search_request,
    value_contains,
    value_is,
)
from tests.peers.ldap_wire import digest_numbers, digest_tokens, split_login
from tests.peers.slapd import Slapd
from tests.peers.slapd_sessions import (
    EVERY_ENTRY,
    PROTECTIONS,
    REFUSED,
    SEARCH_DONE,
    WRONG,
    bind,
    complete,
    connect,
    every_entry,
    generated_values,
    session,
)
from tests.peers.support import LOOPBACK
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

without_uvloop = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
"""For a test that takes its time."""


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.address, slapd.port)


# Each protection, from the login to the unbind, and what it leaves on the wire.


@pytest.mark.parametrize("name", PROTECTIONS)
async def test_each_protection(tap: Wiretap, name: str) -> None:
    properties, ssf = PROTECTIONS[name]
    async with session(tap, bind(properties=properties)) as client:
        check_attributes(client.stream, name, ssf)
        own = await client.search(ALICE.dn)
        assert own.values("uid") == {ALICE.dn: ALICE.username}
        assert own.values("userPassword") == {ALICE.dn: ALICE.password}
        matching = value_contains("description", f"{NEEDLE}-3")
        large = await client.search(LARGE_DN, scope=ONE_LEVEL, matching=matching)
        assert large.values() == {large_dn(3): large_value(3)}
        await client.unbind()
        with pytest.raises(EndOfStream):
            await client.receive()
    await complete(tap)
    assert ALICE.password.encode() not in tap.client_to_server
    for direction in Direction:
        check_wire(tap.recordings[0].sent(direction), ssf)
    assert (ALICE.password.encode() in tap.server_to_client) is (ssf <= 1)


def check_attributes(stream: ByteStream, name: str, ssf: int) -> None:
    sealed = ssf > 0
    context = stream.extra(SASLAttribute.context)
    assert stream.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
    assert stream.extra(SASLAttribute.authcid) == ALICE.username
    assert stream.extra(SASLAttribute.authzid) is None
    assert stream.extra(SASLAttribute.ssf) == ssf
    assert stream.extra(SocketAttribute.remote_address)[0] == LOOPBACK
    assert (context is not None) is sealed
    for attribute in (SASLAttribute.qop, SASLAttribute.cipher, SASLAttribute.stream_sizes):
        assert (stream.extra(attribute, "absent") != "absent") is sealed
    if sealed:
        assert stream.extra(SASLAttribute.qop) is (QOP.AUTH_INT if ssf == 1 else QOP.AUTH_CONF)
        assert stream.extra(SASLAttribute.cipher) == (None if ssf == 1 else name)
        sizes = stream.extra(SASLAttribute.stream_sizes)
        assert sizes.maximum_message == (65517 if name == "des" else 65520)


def check_wire(wire: bytes, ssf: int) -> None:
    """Every octet is of a message or of a frame; and what shows is what may."""
    login, rest = split_login(wire)
    needles = (NEEDLE.encode(), b"ou=people", b"ou=large", b"objectClass")
    assert not any(needle in login for needle in needles)
    assert all((needle in rest) is (ssf <= 1) for needle in needles)
    if ssf:
        count = len(digest_tokens(wire))
        assert digest_numbers(wire) == list(range(count))
        assert count in (3, 4)  # 3 requests; 2 entries and 2 results
    else:
        buffer = bytearray(rest)
        assert len(list(messages(buffer))) in (3, 4)
        assert not buffer


async def test_3des_is_refused_by_debian_s_cyrus(slapd: Slapd) -> None:
    only_3des = SecurityProperties(ciphers=("3des",))
    async with await connect(slapd) as tcp:
        with pytest.raises(AuthenticationError) as raised:
            await authenticate(tcp, bind(properties=only_3des))
        assert str(raised.value) == (
            REFUSED + "other (80), \"SASL(-1): generic failure: couldn't init cipher '3des'\""
        )
        async with await authenticate(tcp, bind(message_id=9)) as stream:
            assert stream.extra(SASLAttribute.cipher) == "rc4"


async def test_connectable(slapd: Slapd) -> None:
    connectable = SASLConnectable(TCPConnectable(slapd.address, slapd.port), bind)
    async with await connectable.connect() as stream:
        assert await LDAPClient(stream).who_am_i() == ALICE.dn


async def test_connectable_of_a_login_that_is_refused(tap: Wiretap) -> None:
    connectable = SASLConnectable(TCPConnectable(tap.address, tap.port), lambda: bind(WRONG))
    with pytest.raises(AuthenticationError, match="invalidCredentials"):
        await connectable.connect()
    await complete(tap)


# Sizes.


@pytest.mark.parametrize("name", ["rc4", "des", "auth-int"])
@pytest.mark.parametrize("max_buffer", [64, 2048])
async def test_a_small_maxbuf(tap: Wiretap, name: str, max_buffer: int) -> None:
    strength, ssf = PROTECTIONS[name]
    properties = SecurityProperties(
        min_ssf=ssf, max_ssf=ssf, ciphers=strength.ciphers, max_buffer=max_buffer
    )
    async with session(tap, bind(properties=properties)) as client:
        found = await client.search(LARGE_DN, scope=ONE_LEVEL)
    await complete(tap)
    assert found.values() == {large_dn(n): large_value(n) for n in range(LARGE_ENTRIES)}
    lengths = [len(token) for token in digest_tokens(tap.server_to_client)]
    assert max_buffer - 16 < max(lengths) <= max_buffer
    assert len(lengths) > LARGE_ENTRIES * 4096 / max_buffer


async def test_cyrus_takes_no_notice_of_a_tiny_maxbuf(slapd: Slapd) -> None:
    async with session(slapd, bind(properties=SecurityProperties(max_buffer=30))) as client:
        assert (await client.search(large_dn(1))).values() == {large_dn(1): large_value(1)}
    async with session(slapd, bind(properties=SecurityProperties(max_buffer=29))) as client:
        with pytest.raises(BrokenResourceError, match=r"octets, our maxbuf is 29$") as raised:
            await client.search(large_dn(1))
    assert isinstance(raised.value.__cause__, FrameTooLargeError)
    assert raised.value.__cause__.limit == 29


async def test_a_request_beyond_the_server_s_maxbuf(tap: Wiretap) -> None:
    long = value_is("description", NEEDLE * 10_000)
    matching = ("or", [long, value_is("cn", "large-5")])
    async with session(tap) as client:
        found = await client.search(LARGE_DN, scope=ONE_LEVEL, matching=matching)
    await complete(tap)
    assert found.values() == {large_dn(5): large_value(5)}
    *full, last = (len(token) for token in digest_tokens(tap.client_to_server))
    assert full == [65536, 65536]
    assert last < 65536


@pytest.mark.parametrize("max_buffer", [100, 65536])
async def test_ten_thousand_entries(slapd: Slapd, max_buffer: int) -> None:
    received = bytearray()
    properties = SecurityProperties(max_buffer=max_buffer)
    async with session(slapd, bind(properties=properties)) as client:
        await client.stream.send(every_entry(7))
        while not received.endswith(SEARCH_DONE):
            received += await client.stream.receive()
    assert generated_values(received) == list(EVERY_ENTRY.values())


@without_uvloop
async def test_one_task_sends_while_another_receives(slapd: Slapd) -> None:
    big, small, abandoned = 1000, range(2000, 2064), range(3000, 3064, 16)

    async def send_requests() -> None:
        for number in small:
            await send(search_request(number, large_dn(number % LARGE_ENTRIES)))
            if (other := number + 1000) in abandoned:
                await send(every_entry(other))
                await send(abandon_request(other + 1000, other))

    async with session(slapd) as client:
        send = client.stream.send
        await send(every_entry(big))
        async with create_task_group() as tasks:
            tasks.start_soon(send_requests)
            found = await client.collect([big, *small], abandoned=abandoned)
        assert found[big].values() == EVERY_ENTRY
        for number in small:
            wanted = number % LARGE_ENTRIES
            assert found[number].values() == {large_dn(wanted): large_value(wanted)}
        assert all(found[number].code is None for number in abandoned)
