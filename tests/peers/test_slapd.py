"""saslwrap's anyio shell against OpenLDAP's slapd, on asyncio, uvloop and trio.

What slapd does beyond the notes in `slapd.py` (2.5.13, Cyrus SASL 2.1.28):

- A client that chooses 3des is refused in good form, other (80), and the connection can be used on.
- A name inside Latin-1 is accepted by the per-string rule and all in UTF-8, not as gsasl has it.
- An authzid has the form `u:name` or `dn:...`. The rootdn may take any; others only their own.
- A Bind on a sealed connection travels under the old layer; the new one starts behind the success,
  its sequence numbers from 0. A Bind without a layer leaves the old one in force. A Bind that is
  refused leaves it too, and the connection anonymous.
- A Bind abandons a search that is under way; the entries that were sent until then come first.
- Cyrus takes 29 (rc4, des) or 20 (auth-int) octets off our maxbuf; of a maxbuf that leaves nothing
  it takes no notice, and sends frames of any length.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    TCPConnectable,
    create_task_group,
    create_tcp_listener,
    fail_after,
    move_on_after,
    to_thread,
)
from anyio.abc import SocketAttribute

from saslwrap import (
    QOP,
    AuthenticationError,
    DigestMD5Client,
    FrameTooLargeError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    TruncatedStreamError,
)
from saslwrap.anyio import SASLAttribute, SASLConnectable, SASLStream, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode
from tests.peers.directory import (
    ALICE,
    CYRILLIC,
    GENERATED_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    LATIN,
    NEEDLE,
    USERS,
    Credentials,
    generated_dn,
    generated_value,
    large_dn,
    large_value,
)
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
from tests.peers.support import LOOPBACK
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from anyio.abc import ByteStream, SocketStream

    from saslwrap.mechanisms.digest_md5.credentials import HashEncoding
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

DEFAULT = SecurityProperties()
INTEGRITY = SecurityProperties(min_ssf=1, max_ssf=1)
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)
PROTECTIONS = {
    "rc4": (SecurityProperties(ciphers=("rc4",)), 128),
    "rc4-56": (SecurityProperties(ciphers=("rc4-56",), min_ssf=56), 56),
    "des": (SecurityProperties(ciphers=("des",), min_ssf=55), 55),
    "rc4-40": (SecurityProperties(ciphers=("rc4-40",), min_ssf=40), 40),
    "auth-int": (INTEGRITY, 1),
    "auth": (NO_LAYER, 0),
}
REFUSED = "the server refused DIGEST-MD5: "
WRONG = Credentials("alice", "wr0ng-Pa55")

EVERY_ENTRY = {generated_dn(number): generated_value(number) for number in range(10_000)}

ENTRY_FRAME = 4 + 4233
"""Octets of the frame that brings a large entry."""

SEARCH_DONE = bytes.fromhex("65 07  0a 01 00  04 00  04 00")
"""The end of a result: searchResDone, success."""

Server: TypeAlias = "Slapd | Wiretap | Valve"
Backend: TypeAlias = tuple[str, dict[str, Any]]

BACKENDS: dict[str, Backend] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

without_uvloop = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
"""For a test that takes its time."""


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture(scope="module")
def weak_slapd() -> Iterator[Slapd]:
    """A server that offers no layer, as one that leaves protection to TLS does."""
    Slapd.require("digestmd5")
    with Slapd(sasl_secprops="maxssf=0") as server:
        yield server


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.address, slapd.port)


def bind(
    user: Credentials = ALICE,
    *,
    properties: SecurityProperties = DEFAULT,
    message_id: int = 1,
    realm: str | None = None,
    authzid: str | None = None,
    hash_encoding: HashEncoding = "auto",
) -> LDAPBind:
    mechanism = DigestMD5Client(
        user.username,
        user.password,
        service="ldap",
        host=Slapd.host,
        realm=realm,
        authzid=authzid,
        properties=properties,
        hash_encoding=hash_encoding,
    )
    return LDAPBind(mechanism, message_id)


async def connect(server: Server) -> SocketStream:
    return await anyio.connect_tcp(server.address, server.port)


@asynccontextmanager
async def session(server: Server, exchange: LDAPBind | None = None) -> AsyncIterator[LDAPClient]:
    """A client that is logged in: as Alice under rc4, if nothing is said."""
    async with (
        await connect(server) as tcp,
        await authenticate(tcp, exchange or bind()) as stream,
    ):
        yield LDAPClient(stream)


async def complete(tap: Wiretap) -> None:
    """Wait until the connections through the wiretap are closed, and their recordings complete."""
    await to_thread.run_sync(tap.wait_closed)


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


def every_entry(message_id: int) -> bytes:
    """The request for the values of all generated entries."""
    return search_request(message_id, GENERATED_DN, scope=ONE_LEVEL, attributes=["description"])


def generated_values(result: bytearray) -> list[str]:
    """The values of the generated entries in a result, which need not be decoded for that."""
    return [value.decode() for value in re.findall(rb"%b \d{5}" % NEEDLE.encode(), result)]


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


# Who logs in, and who may not. After a refusal the connection can be used on.


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@pytest.mark.parametrize("hash_encoding", ["auto", "utf8", "gsasl"])
async def test_each_user(slapd: Slapd, user: Credentials, hash_encoding: HashEncoding) -> None:
    exchange = bind(user, hash_encoding=hash_encoding)
    if (user, hash_encoding) == (LATIN, "gsasl"):
        async with await connect(slapd) as tcp:
            with pytest.raises(AuthenticationError, match="invalidCredentials"):
                await authenticate(tcp, exchange)
        return
    async with session(slapd, exchange) as client:
        assert await client.who_am_i() == user.dn
        assert client.stream.extra(SASLAttribute.authcid) == user.username


@pytest.mark.parametrize(
    ("user", "authzid", "identity"),
    [
        (ALICE, "u:alice", ALICE.dn),
        (ALICE, f"u:{LATIN.username}", LATIN.dn),
        (ALICE, f"dn:{CYRILLIC.dn}", CYRILLIC.dn),
        (CYRILLIC, f"u:{CYRILLIC.username}", CYRILLIC.dn),
    ],
    ids=["oneself", "another", "dn", "cyrillic"],
)
async def test_authzid(slapd: Slapd, user: Credentials, authzid: str, identity: str) -> None:
    async with session(slapd, bind(user, authzid=authzid)) as client:
        assert await client.who_am_i() == identity
        assert client.stream.extra(SASLAttribute.authcid) == user.username
        assert client.stream.extra(SASLAttribute.authzid) == authzid


@pytest.mark.parametrize(
    ("login", "code", "text"),
    [
        (
            lambda: bind(WRONG),
            ResultCode.invalidCredentials,
            "invalidCredentials (49), \"SASL(-13): authentication failure: client response doesn't "
            'match what we generated (tried bogus)"',
        ),
        (
            lambda: bind(Credentials("nobody", ALICE.password)),
            ResultCode.other,
            "other (80), 'SASL(-1): generic failure: unable to canonify user and get auxprops'",
        ),
        (
            lambda: bind(realm="example.org"),
            ResultCode.other,
            "other (80), 'SASL(-1): generic failure: unable to canonify user and get auxprops'",
        ),
        (
            lambda: bind(LATIN, authzid="u:alice"),
            ResultCode.insufficientAccessRights,
            "insufficientAccessRights (50), 'SASL(-14): authorization failure: not authorized'",
        ),
        (
            lambda: bind(LATIN, authzid="alice"),
            ResultCode.insufficientAccessRights,
            "insufficientAccessRights (50), 'SASL(-14): authorization failure: unable to canonify "
            "authorization ID'",
        ),
    ],
    ids=["password", "user", "realm", "authzid", "form-of-authzid"],
)
async def test_refusals(slapd: Slapd, login: Callable[[], LDAPBind], code: int, text: str) -> None:
    async with await connect(slapd) as tcp:
        refused = login()
        with pytest.raises(AuthenticationError) as raised:
            await authenticate(tcp, refused)
        assert str(raised.value) == REFUSED + text
        assert refused.result_code == code
        assert refused.trailing_data == b""
        assert await LDAPClient(tcp).who_am_i() == ""
        stream = await authenticate(tcp, bind(message_id=refused.next_message_id))
        assert stream.extra(SASLAttribute.ssf) == 128
        assert await LDAPClient(stream).who_am_i() == ALICE.dn


async def test_an_offer_below_our_policy(weak_slapd: Slapd) -> None:
    async with await connect(weak_slapd) as tcp:
        refused = bind()
        with pytest.raises(NegotiationError) as raised:
            await authenticate(tcp, refused)
        assert str(raised.value).startswith(
            "the server offers auth; wanted: an SSF of 112 to 256 with ciphers rc4, 3des."
        )
        exchange = bind(properties=NO_LAYER, message_id=refused.next_message_id)
        stream = await authenticate(tcp, exchange)
        assert stream.extra(SASLAttribute.ssf) == 0
        assert await LDAPClient(stream).who_am_i() == ALICE.dn


@pytest.mark.parametrize("name", ["rc4-56", "auth-int", "auth"])
async def test_an_offer_above_our_wishes(strict_slapd: Slapd, name: str) -> None:
    properties, ssf = PROTECTIONS[name]
    weak = SecurityProperties(min_ssf=ssf, max_ssf=ssf, ciphers=properties.ciphers)
    async with await connect(strict_slapd) as tcp:
        refused = bind(properties=weak)
        with pytest.raises(NegotiationError) as raised:
            await authenticate(tcp, refused)
        assert str(raised.value).startswith(
            f"the server offers auth-conf with rc4, 3des; wanted: an SSF of {ssf} to {ssf} with "
        )
        stream = await authenticate(tcp, bind(message_id=refused.next_message_id))
        assert await LDAPClient(stream).who_am_i() == ALICE.dn


# A second login on a stream that has a layer.


@pytest.mark.parametrize("name", ["rc4", "des", "auth-int"])
async def test_rebind(tap: Wiretap, name: str) -> None:
    async with session(tap) as client:
        stream, first = sasl_stream(client), client.stream.extra(SASLAttribute.context)
        assert await client.who_am_i() == ALICE.dn
        again = await authenticate(stream, bind(LATIN, properties=PROTECTIONS[name][0]))
        assert again is stream
        assert stream.extra(SASLAttribute.context) is not first
        assert stream.extra(SASLAttribute.ssf) == PROTECTIONS[name][1]
        assert stream.extra(SASLAttribute.authcid) == LATIN.username
        assert await client.who_am_i() == LATIN.dn
        assert (await client.search(large_dn(2))).values() == {large_dn(2): large_value(2)}
    await complete(tap)
    assert digest_numbers(tap.client_to_server) == [0, 1, 2, 0, 1]
    assert digest_numbers(tap.server_to_client) == [0, 1, 2, 0, 1, 2]
    assert LATIN.username.encode() not in tap.client_to_server
    assert tap.server_to_client.count(b"rspauth=") == 1


async def test_a_rebind_that_is_refused_keeps_the_layer(tap: Wiretap) -> None:
    async with session(tap) as client:
        stream, first = sasl_stream(client), client.stream.extra(SASLAttribute.context)
        with pytest.raises(AuthenticationError, match="invalidCredentials"):
            await authenticate(stream, bind(WRONG))
        assert stream.extra(SASLAttribute.context) is first
        assert await client.who_am_i() == ""
        with pytest.raises(NegotiationError, match="the server offers auth,"):
            await authenticate(stream, bind(properties=SecurityProperties(min_ssf=200)))
        assert await client.who_am_i() == ""
        await authenticate(stream, bind(CYRILLIC))
        assert stream.extra(SASLAttribute.context) is not first
        assert await client.who_am_i() == CYRILLIC.dn
    await complete(tap)
    assert digest_numbers(tap.client_to_server) == [*range(8), 0]
    assert digest_numbers(tap.server_to_client) == [*range(8), 0]


async def test_a_rebind_without_a_layer_keeps_the_old_one(tap: Wiretap) -> None:
    async with session(tap) as client:
        stream, first = sasl_stream(client), client.stream.extra(SASLAttribute.context)
        await authenticate(stream, bind(LATIN, properties=NO_LAYER))
        assert stream.extra(SASLAttribute.context) is first
        assert stream.extra(SASLAttribute.ssf) == 128
        assert stream.extra(SASLAttribute.authcid) == LATIN.username
        assert await client.who_am_i() == LATIN.dn
    await complete(tap)
    assert digest_numbers(tap.client_to_server) == [0, 1, 2]
    assert digest_numbers(tap.server_to_client) == [0, 1, 2]


async def test_a_layer_after_a_login_without_one(slapd: Slapd) -> None:
    async with session(slapd, bind(properties=NO_LAYER)) as client:
        assert await client.who_am_i() == ALICE.dn
        await authenticate(client.stream, bind(LATIN))
        assert client.stream.extra(SASLAttribute.ssf) == 128
        assert await client.who_am_i() == LATIN.dn


async def test_a_rebind_amid_a_search(slapd: Slapd) -> None:
    async with session(slapd) as client:
        await client.stream.send(every_entry(7))
        await client.receive()
        await anyio.sleep(0.05)  # slapd sends more meanwhile
        with pytest.raises(ProtocolError, match="sent searchResEntry with message id 7 during the"):
            await authenticate(client.stream, bind(LATIN, message_id=20))
        with pytest.raises(ClosedResourceError):
            await client.receive()


def sasl_stream(client: LDAPClient) -> SASLStream:
    assert isinstance(client.stream, SASLStream)
    return client.stream


# Cut and cancelled in the middle.


class Valve:
    """A relay for one connection that lets pass what it is told to of what the server sends."""

    address = LOOPBACK

    def __init__(self, port: int) -> None:
        self.port = port
        self._allowed = sys.maxsize
        self._turned = anyio.Event()
        self._holds = anyio.Event()

    def allow(self, octets: int = sys.maxsize) -> None:
        """Let this many pass from now on, and hold the rest."""
        self._allowed = octets
        self._holds = anyio.Event()
        self._turned.set()
        self._turned = anyio.Event()

    async def holds(self) -> None:
        """Wait until all that is allowed has passed, and there is more."""
        await self._holds.wait()

    async def end(self) -> None:
        """Let the server die: its connection ends, in good order."""
        await self._client.aclose()

    async def reset(self) -> None:
        """Let the server's machine die: its connection is reset."""
        linger = struct.pack("ii", 1, 0)
        raw = self._client.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self._client.aclose()

    async def relay(self, client: SocketStream, server: SocketStream) -> None:
        self._client = client
        try:
            async with client, server, create_task_group() as tasks:
                tasks.start_soon(self._upward, client, server)
                async for chunk in server:
                    await self._let_through(chunk)
                await client.send_eof()
        except* (BrokenResourceError, ClosedResourceError):
            pass

    async def _upward(self, client: SocketStream, server: SocketStream) -> None:
        async for chunk in client:
            await server.send(chunk)
        await server.send_eof()

    async def _let_through(self, chunk: bytes) -> None:
        while chunk:
            while not self._allowed:
                self._holds.set()
                await self._turned.wait()
            part, chunk = chunk[: self._allowed], chunk[self._allowed :]
            self._allowed -= len(part)
            await self._client.send(part)


@asynccontextmanager
async def valve_before(server: Slapd) -> AsyncIterator[Valve]:
    async with await create_tcp_listener(local_host=LOOPBACK) as listener:
        valve = Valve(listener.extra(SocketAttribute.local_port))

        async def relay(client: SocketStream) -> None:
            await valve.relay(client, await connect(server))

        async with create_task_group() as tasks:
            tasks.start_soon(listener.serve, relay)
            with fail_after(10):
                yield valve
            tasks.cancel_scope.cancel()


async def test_a_cancelled_receive_loses_nothing(slapd: Slapd) -> None:
    received = bytearray()
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(0)
        await client.stream.send(every_entry(7))
        # none; within a length; behind it; within a token; many frames and parts of them
        for octets in (0, 2, 2, 50, 1000, 100_003, 200_001):
            valve.allow(octets)
            await valve.holds()
            scope = CancelScope()
            while not scope.cancelled_caught:
                with move_on_after(0.01) as scope:
                    received += await client.stream.receive()
        valve.allow()
        while not received.endswith(SEARCH_DONE):
            with move_on_after(0.0001):
                received += await client.stream.receive(1000)
    assert generated_values(received) == list(EVERY_ENTRY.values())


@pytest.mark.parametrize("octets", [2, 4, 100, ENTRY_FRAME + 1])
async def test_the_server_dies_within_a_frame(slapd: Slapd, octets: int) -> None:
    text = f"the connection ended inside a frame, {octets % ENTRY_FRAME} octets after its start"
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(octets)
        request = search_request(7, LARGE_DN, scope=ONE_LEVEL)
        await client.stream.send(request)
        await valve.holds()
        await valve.end()
        if octets > ENTRY_FRAME:
            assert (await client.receive()).operation == "searchResEntry"
        for _ in range(2):
            with pytest.raises(BrokenResourceError, match=text) as raised:
                await client.receive()
            assert isinstance(raised.value.__cause__, TruncatedStreamError)
        with pytest.raises(BrokenResourceError, match=text):
            await client.stream.send(request)


async def test_the_connection_is_reset_within_a_frame(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(100)
        await client.stream.send(search_request(7, LARGE_DN, scope=ONE_LEVEL))
        await valve.holds()
        with move_on_after(0.01):
            await client.receive()
        await valve.reset()
        with pytest.raises(BrokenResourceError) as raised:
            await client.receive()
        assert not isinstance(raised.value.__cause__, SASLError)


@pytest.mark.parametrize("octets", [0, 1, 20])
async def test_the_server_dies_during_the_login(slapd: Slapd, octets: int) -> None:
    async def end() -> None:
        await valve.holds()
        await valve.end()

    async with valve_before(slapd) as valve, await connect(valve) as tcp:
        valve.allow(octets)
        async with create_task_group() as tasks:
            tasks.start_soon(end)
            with pytest.raises(TruncatedStreamError, match="closed the connection during the"):
                await authenticate(tcp, bind())


async def test_a_cancelled_login_closes_the_connection(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, await connect(valve) as tcp:
        valve.allow(20)
        with move_on_after(0.05) as scope:
            await authenticate(tcp, bind())
        assert scope.cancelled_caught
        with pytest.raises(ClosedResourceError):
            await tcp.receive()


async def test_a_cancelled_rebind_closes_the_connection(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(20)
        with move_on_after(0.05) as scope:
            await authenticate(client.stream, bind(LATIN))
        assert scope.cancelled_caught
        with pytest.raises(ClosedResourceError):
            await client.stream.send(b"anything")


async def test_the_connection_is_cut_between_frames(tap: Wiretap) -> None:
    async with session(tap) as client:
        assert await client.who_am_i() == ALICE.dn
        async with create_task_group() as tasks:
            tasks.start_soon(to_thread.run_sync, tap.close)
            with fail_after(5), pytest.raises(EndOfStream):
                await client.receive()


async def test_the_wire_is_cut_amid_a_large_result(tap: Wiretap) -> None:
    """Wherever the cut falls, and however it is reported, the receiver learns of it."""
    received = bytearray()
    async with session(tap) as client:
        await client.stream.send(b"".join(every_entry(number) for number in (1, 2, 3)))
        received += await client.stream.receive()
        await to_thread.run_sync(tap.close)
        with fail_after(15), suppress(BrokenResourceError):
            async for chunk in client.stream:
                received += chunk
    assert received.count(SEARCH_DONE) < 3
