"""GSSAPI and GSS-SPNEGO against OpenLDAP's slapd, with MIT's KDC: logins, layers, the wire.

What slapd does beyond the notes in `slapd.py` (2.5.13, Cyrus SASL 2.1.28, MIT 1.20.1):

- GSSAPI takes three messages of each side, GSS-SPNEGO one. The layer starts behind the success.
- Its tokens are as long as our maxbuf, to the octet; 32 less for integrity, because it takes off
  what sealing would add. Of a maxbuf that leaves nothing (60 octets) it takes no notice, and sends
  frames of any length.
- A frame longer than `maxbufsize` ends the connection without a word. GSSAPI announces it,
  GSS-SPNEGO has no way to.
- `security ssf=N` and `sasl=N` let a weaker login succeed and refuse what is asked for then;
  `tls=N` refuses the login. No setting makes slapd answer a login with strongerAuthRequired.
- `sasl-secprops minssf=N` takes layers out of GSSAPI's offer; GSS-SPNEGO takes no notice, unless
  the mechanism as such is weaker: inappropriateAuthentication (48).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream, to_thread

from saslwrap import (
    QOP,
    AuthenticationError,
    FrameTooLargeError,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap_messages import ResultCode
from tests.peers.directory import (
    ALICE,
    LARGE_DN,
    LARGE_ENTRIES,
    LARGE_VALUES,
    LATIN,
    NEEDLE,
    large_dn,
    large_value,
)
from tests.peers.gss_client import (
    DEFAULT,
    INTEGRITY,
    MECHANISMS,
    NO_LAYER,
    SEALED_OVERHEAD,
    SIGNED_OVERHEAD,
    bind,
    session,
    split,
    tokens,
)
from tests.peers.kdc import BOB, Realm
from tests.peers.ldap_client import (
    ONE_LEVEL,
    LDAPClient,
    messages,
    search_request,
    value_contains,
    value_is,
)
from tests.peers.slapd import Slapd
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyio.abc import ByteStream

    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.usefixtures("alice_ticket"),
]

CIPHER = "aes256-cts-hmac-sha1-96"
PRINCIPAL = "alice@EXAMPLE.COM"
MAXBUF = 65536
"""What slapd takes if nothing is configured."""


@pytest.fixture
def tap(gss_slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(gss_slapd.address, gss_slapd.port)


async def complete(tap: Wiretap) -> None:
    """Wait until the connections through the wiretap are closed, and their recordings complete."""
    await to_thread.run_sync(tap.wait_closed)


# Each protection, from the login to the unbind, and what it leaves on the wire.


@pytest.mark.parametrize(
    ("mechanism", "properties", "ssf", "longest"),
    [
        ("GSSAPI", DEFAULT, 256, MAXBUF - SEALED_OVERHEAD),
        ("GSSAPI", INTEGRITY, 1, MAXBUF - SIGNED_OVERHEAD),
        ("GSSAPI", NO_LAYER, 0, None),
        ("GSS-SPNEGO", DEFAULT, 256, MAXBUF - SEALED_OVERHEAD),
        ("GSS-SPNEGO", NO_LAYER, 0, None),
    ],
)
async def test_each_protection(
    tap: Wiretap, mechanism: str, properties: SecurityProperties, ssf: int, longest: int | None
) -> None:
    async with session(tap, bind(mechanism, properties=properties)) as client:
        check_attributes(client.stream, mechanism, ssf)
        if longest is not None:
            sizes = client.stream.extra(SASLAttribute.stream_sizes)
            assert sizes.maximum_message == longest
        assert await client.who_am_i() == ALICE.dn
        own = await client.search(ALICE.dn)
        assert own.values("userPassword") == {ALICE.dn: ALICE.password}
        matching = value_contains("description", NEEDLE)
        large = await client.search(LARGE_DN, scope=ONE_LEVEL, matching=matching)
        assert large.values() == LARGE_VALUES
        await client.unbind()
        with pytest.raises(EndOfStream):
            await client.receive()
    await complete(tap)
    assert (ALICE.password.encode() in tap.server_to_client) is (ssf <= 1)
    for direction in Direction:
        check_wire(tap.recordings[0].sent(direction), mechanism, ssf, direction)


def check_attributes(stream: ByteStream, mechanism: str, ssf: int) -> None:
    layer = ssf > 0
    assert stream.extra(SASLAttribute.mechanism) == mechanism
    assert stream.extra(SASLAttribute.authcid) == PRINCIPAL
    assert stream.extra(SASLAttribute.authzid) is None
    assert stream.extra(SASLAttribute.ssf) == ssf
    assert (stream.extra(SASLAttribute.context) is not None) is layer
    for attribute in (SASLAttribute.qop, SASLAttribute.cipher, SASLAttribute.stream_sizes):
        assert (stream.extra(attribute, "absent") != "absent") is layer
    if layer:
        assert stream.extra(SASLAttribute.qop) is (QOP.AUTH_INT if ssf == 1 else QOP.AUTH_CONF)
        assert stream.extra(SASLAttribute.cipher) == (None if ssf == 1 else CIPHER)


def check_wire(wire: bytes, mechanism: str, ssf: int, direction: Direction) -> None:
    """Every octet is of a message or of a frame; and what shows is what may."""
    login, rest = split(wire, mechanism)
    needles = (NEEDLE.encode(), b"ou=people", b"ou=large", b"objectClass")
    assert not any(needle in login for needle in needles)
    assert [needle in rest for needle in needles] == [ssf <= 1] * len(needles)
    upward = direction is Direction.CLIENT_TO_SERVER
    count = 4 if upward else 1 + 2 + LARGE_ENTRIES + 1
    if ssf:
        found = tokens(wire, mechanism)
        assert len(found) == count
        assert {token.sealed for token in found} == {ssf > 1}
        assert {token.by_server for token in found} == {not upward}
    else:
        buffer = bytearray(rest)
        assert len(list(messages(buffer))) == count
        assert not buffer


async def test_spnego_has_no_layer_of_integrity_only(gss_slapd: Slapd) -> None:
    async with await anyio.connect_tcp(gss_slapd.address, gss_slapd.port) as tcp:
        with pytest.raises(
            NegotiationError, match=r"Kerberos seals where it signs here: .* is for GSSAPI"
        ):
            await authenticate(tcp, bind("GSS-SPNEGO", properties=INTEGRITY))


# Sizes.


@pytest.mark.parametrize("max_buffer", [SEALED_OVERHEAD + 1, 100, 1024])
@pytest.mark.parametrize("ssf", [1, 256])
async def test_a_small_maxbuf(tap: Wiretap, max_buffer: int, ssf: int) -> None:
    properties = SecurityProperties(min_ssf=ssf, max_ssf=ssf, max_buffer=max_buffer)
    async with session(tap, bind(properties=properties)) as client:
        found = await client.search(large_dn(3))
    await complete(tap)
    assert found.values() == {large_dn(3): large_value(3)}
    lengths = [len(token) for token in tokens(tap.server_to_client, "GSSAPI")]
    longest = max_buffer - (SEALED_OVERHEAD - SIGNED_OVERHEAD if ssf == 1 else 0)
    assert max(lengths) == longest
    assert lengths.count(longest) >= len(large_value(3)) // (max_buffer - SEALED_OVERHEAD)


async def test_slapd_takes_no_notice_of_a_tiny_maxbuf(gss_slapd: Slapd) -> None:
    properties = SecurityProperties(max_buffer=SEALED_OVERHEAD)
    async with session(gss_slapd, bind(properties=properties)) as client:
        with pytest.raises(BrokenResourceError, match=r"octets, our maxbuf is 60$") as raised:
            await client.search(ALICE.dn)
    assert isinstance(raised.value.__cause__, FrameTooLargeError)


@pytest.fixture(scope="module", params=[100, 1024, MAXBUF])
def narrow_slapd(request: pytest.FixtureRequest, realm: Realm) -> Iterator[tuple[Slapd, int]]:
    """A server that takes no longer tokens than this."""
    secprops = f"none,maxbufsize={request.param}"
    with Slapd(sasl_secprops=secprops, environment=realm.environment) as server:
        yield server, request.param


@pytest.mark.parametrize(
    ("properties", "overhead"), [(DEFAULT, SEALED_OVERHEAD), (INTEGRITY, SIGNED_OVERHEAD)]
)
async def test_a_request_beyond_the_server_s_maxbuf(
    narrow_slapd: tuple[Slapd, int],
    wiretap: WiretapFactory,
    properties: SecurityProperties,
    overhead: int,
) -> None:
    server, maxbuf = narrow_slapd
    tap = wiretap(server.address, server.port)
    async with session(tap, bind(properties=properties)) as client:
        await ask_at_length(client, 2 * maxbuf)
    await complete(tap)
    lengths = [len(token) for token in tokens(tap.client_to_server, "GSSAPI")]
    assert set(lengths[:-1]) == {maxbuf}
    assert overhead < lengths[-1] <= maxbuf
    assert sum(lengths) - overhead * len(lengths) > 2 * maxbuf


async def ask_at_length(client: LDAPClient, octets: int) -> None:
    """Make a request of more octets than this, and see that it was understood."""
    long = value_is("description", NEEDLE * (octets // len(NEEDLE) + 1))
    matching = ("or", [long, value_is("cn", "large-5")])
    found = await client.search(LARGE_DN, scope=ONE_LEVEL, matching=matching)
    assert found.values() == {large_dn(5): large_value(5)}


async def test_a_long_request_over_spnego(tap: Wiretap) -> None:
    async with session(tap, bind("GSS-SPNEGO")) as client:
        await ask_at_length(client, 2 * MAXBUF)
    await complete(tap)
    *full, last = (len(token) for token in tokens(tap.client_to_server, "GSS-SPNEGO"))
    assert set(full) == {MAXBUF}
    assert last <= MAXBUF


async def test_a_short_limit_of_our_own_over_spnego(tap: Wiretap) -> None:
    async with session(tap, bind("GSS-SPNEGO", send_limit=200)) as client:
        assert client.stream.extra(SASLAttribute.stream_sizes).maximum_message <= 200
        await ask_at_length(client, 5000)
    await complete(tap)
    lengths = [len(token) for token in tokens(tap.client_to_server, "GSS-SPNEGO")]
    assert max(lengths) <= 200 + SEALED_OVERHEAD
    assert len(lengths) > 5000 // 200


async def test_our_limit_of_what_spnego_may_bring(gss_slapd: Slapd) -> None:
    async with session(gss_slapd, bind("GSS-SPNEGO", receive_limit=1024)) as client:
        assert await client.who_am_i() == ALICE.dn
        with pytest.raises(BrokenResourceError, match=r"4277 octets, our maxbuf is 1024$"):
            await client.search(large_dn(1))


# Who logs in, and as whom.


@pytest.mark.parametrize(
    ("authzid", "identity"),
    [("u:alice", ALICE.dn), ("u:bob", BOB.dn), (f"dn:{LATIN.dn}", LATIN.dn)],
    ids=["oneself", "another", "dn"],
)
async def test_authzid(gss_slapd: Slapd, authzid: str, identity: str) -> None:
    async with session(gss_slapd, bind(authzid=authzid)) as client:
        assert await client.who_am_i() == identity
        assert client.stream.extra(SASLAttribute.authcid) == PRINCIPAL
        assert client.stream.extra(SASLAttribute.authzid) == authzid


async def test_another_s_authzid_is_refused(
    alice_ticket: Realm, gss_slapd: Slapd, tmp_path: Path
) -> None:
    cache = tmp_path / "bob"
    alice_ticket.kinit(BOB.username, BOB.password, cache=cache)
    async with await anyio.connect_tcp(gss_slapd.address, gss_slapd.port) as tcp:
        refused = bind(authzid="u:alice", credential_cache=cache)
        with pytest.raises(AuthenticationError) as raised:
            await authenticate(tcp, refused)
        assert str(raised.value) == (
            "the server refused GSSAPI: insufficientAccessRights (50), "
            "'SASL(-14): authorization failure: not authorized'"
        )
        assert await LDAPClient(tcp).who_am_i() == ""
    async with session(gss_slapd, bind(authzid="u:bob", credential_cache=cache)) as client:
        assert client.stream.extra(SASLAttribute.authcid) == "bob@EXAMPLE.COM"
        assert await client.who_am_i() == BOB.dn


# A server that wants more than we give. The connection can be used on.


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("properties", [DEFAULT, NO_LAYER], ids=["sealed", "no layer"])
async def test_a_server_that_insists_on_tls(
    realm: Realm, mechanism: str, properties: SecurityProperties
) -> None:
    with Slapd(extra_config="security tls=128", environment=realm.environment) as server:
        async with await anyio.connect_tcp(server.address, server.port) as tcp:
            refused = bind(mechanism, properties=properties)
            with pytest.raises(NegotiationError) as raised:
                await authenticate(tcp, refused)
            assert refused.result_code == ResultCode.confidentialityRequired
            text = str(raised.value)
            assert "confidentialityRequired (13), 'TLS confidentiality required'" in text
            assert text.endswith("raise min_ssf, set require_layer=True, or use TLS")


@pytest.mark.parametrize(
    ("secprops", "properties", "text"),
    [
        ("minssf=56", INTEGRITY, "confidentiality; wanted: an SSF of 1 to 1;"),
        ("minssf=1", NO_LAYER, "integrity, confidentiality; wanted: no layer;"),
        ("maxssf=1", DEFAULT, "none, integrity; wanted: an SSF of 112 to 256;"),
    ],
    ids=["seals only", "no login without a layer", "does not seal"],
)
async def test_an_offer_beside_our_policy(
    realm: Realm, secprops: str, properties: SecurityProperties, text: str
) -> None:
    with Slapd(sasl_secprops=secprops, environment=realm.environment) as server:
        async with await anyio.connect_tcp(server.address, server.port) as tcp:
            refused = bind(properties=properties)
            with pytest.raises(NegotiationError) as raised:
                await authenticate(tcp, refused)
            assert str(raised.value).startswith(f"the server offers {text}")
            assert str(raised.value).endswith("Change min_ssf or max_ssf, or connect with TLS")
            willing = SecurityProperties(min_ssf=1)
            again = bind(properties=willing, message_id=refused.next_message_id)
            async with await authenticate(tcp, again) as stream:
                assert await LDAPClient(stream).who_am_i() == ALICE.dn


@pytest.mark.parametrize("ssf", [0, 1])
async def test_a_server_that_answers_only_sealed_requests(realm: Realm, ssf: int) -> None:
    weak = SecurityProperties(min_ssf=ssf, max_ssf=ssf)
    with Slapd(extra_config="security sasl=128", environment=realm.environment) as server:
        async with session(server, bind(properties=weak)) as client:
            await client.stream.send(search_request(7, ALICE.dn))
            refused = (await client.collect([7]))[7]
            assert refused.code == ResultCode.confidentialityRequired
            await authenticate(client.stream, bind(message_id=900))
            assert (await client.search(ALICE.dn)).values("uid") == {ALICE.dn: ALICE.username}
