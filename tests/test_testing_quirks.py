"""The habits of real servers, as a server for tests takes them on; and that our client copes."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
from anyio import fail_after, move_on_after

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    IntegrityError,
    NegotiationError,
    OutOfSequenceError,
    SecurityContext,
    SecurityProperties,
    ServerMechanism,
    UsageError,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import Message, ResultCode, encode
from saslwrap.testing import LDAPServer
from saslwrap.testing.mechanisms import Place
from saslwrap.testing.pairs import connect_mechanisms, properties_for
from saslwrap.testing.quirks import CYRUS, JDK, MICROSOFT, STRICT, Quirks
from tests.conftest import TLSContexts
from tests.ldap_bed import (
    ALICE,
    ANY_LAYER,
    PASSWORD,
    PEOPLE,
    SUBTREE,
    WHO_AM_I,
    Client,
    connected,
    make_server,
)

PRESETS = {"MICROSOFT": MICROSOFT, "CYRUS": CYRUS, "JDK": JDK}
SINGLE = {
    "several realms": Quirks(realms=("one.example", "two.example")),
    "no realm": Quirks(realms=()),
    "quoted algorithm": Quirks(quoted=("algorithm",)),
    "quoted maxbuf": Quirks(quoted=("maxbuf",)),
    "no maxbuf": Quirks(no_maxbuf=True),
    "long nonce": Quirks(nonce=MICROSOFT.nonce),
    "absent challenge": Quirks(absent_challenge=True),
    "empty success": Quirks(empty_success=True),
}
QUIRKS = {**PRESETS, **SINGLE}
PROTECTIONS = ("rc4", "des", "auth-int")
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)


async def challenge_of(client: Client) -> str:
    answer = await bind(client, "DIGEST-MD5")
    assert answer.value["resultCode"] == ResultCode.saslBindInProgress
    challenge: bytes = answer.value["serverSaslCreds"]
    return challenge.decode()


async def bind(client: Client, mechanism: str, credentials: bytes | None = None) -> Message:
    sasl: dict[str, Any] = {"mechanism": mechanism.encode()}
    if credentials is not None:
        sasl["credentials"] = credentials
    request = {"version": 3, "name": b"", "authentication": ("sasl", sasl)}
    return await client.ask("bindRequest", request)


@pytest.mark.anyio
@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("name", QUIRKS)
async def test_our_client_copes(name: str, protection: str) -> None:
    properties = properties_for(protection)
    async with connected(make_server(quirks=QUIRKS[name], properties=ANY_LAYER)) as client:
        await client.log_in(properties=properties)
        assert client.stream.extra(SASLAttribute.context) is not None
        entries, done = await client.search(PEOPLE, SUBTREE)
        assert ALICE in entries
        assert done["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_without_quirks_it_is_strict() -> None:
    assert Quirks() == STRICT
    async with connected(make_server()) as client:
        challenge = parse_directives((await challenge_of(client)).encode(), 2048)
        assert [value.value for value in challenge["realm"]] == [b"example.com"]
        assert len(challenge["nonce"][0].value) == 32
        assert challenge["maxbuf"][0].value == b"65536"


# The challenge


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("MICROSOFT", r'nonce="\+Upgraded\+v1[0-9a-f]{112}"', "maxbuf"),
        ("JDK", 'maxbuf="65536"', "maxbuf=6"),
        ("CYRUS", 'cipher="rc4,3des"', "3des,rc4"),
        ("quoted algorithm", 'algorithm="md5-sess"', "algorithm=m"),
        ("quoted maxbuf", 'maxbuf="65536"', "maxbuf=6"),
        ("no maxbuf", "charset=utf-8", "maxbuf"),
        ("several realms", 'realm="one.example",realm="two.example"', "example.com"),
        ("no realm", "nonce=", "realm"),
    ],
)
async def test_challenges(name: str, there: str, absent: str) -> None:
    async with connected(make_server(quirks=QUIRKS[name])) as client:
        challenge = await challenge_of(client)
        assert re.search(there, challenge)
        assert absent not in challenge


@pytest.mark.anyio
async def test_a_nonce_is_new_each_time() -> None:
    challenges = set()
    for _ in range(2):
        async with connected(make_server(quirks=MICROSOFT)) as client:
            challenges.add(await challenge_of(client))
    assert len(challenges) == 2


@pytest.mark.anyio
async def test_each_of_several_realms() -> None:
    server = make_server(quirks=SINGLE["several realms"])
    for realm in ("one.example", "two.example"):
        async with connected(server) as client:
            await client.log_in(realm=realm)
    async with connected(server) as client:
        with pytest.raises(AuthenticationError, match="invalidCredentials"):
            await client.log_in(realm="example.com")


@pytest.mark.anyio
@pytest.mark.parametrize("realm", [None, "of.my.own"])
async def test_a_realm_of_the_clients_own(realm: str | None) -> None:
    async with connected(make_server(quirks=SINGLE["no realm"])) as client:
        await client.log_in(realm=realm)


# Ciphers and frames


@pytest.mark.anyio
async def test_a_cipher_that_is_offered_and_does_not_work() -> None:
    only_3des = SecurityProperties(ciphers=("3des",))
    async with connected(make_server(quirks=CYRUS)) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.log_in(properties=only_3des)
        assert "other (80), \"SASL(-1): generic failure: couldn't init cipher '3des'\"" in str(
            caught.value
        )
        await client.log_in()
        assert client.stream.extra(SASLAttribute.cipher) == "rc4"


@pytest.mark.anyio
async def test_a_broken_cipher_is_offered_though_the_policy_has_it_not() -> None:
    only_rc4 = SecurityProperties(ciphers=("rc4",))
    async with connected(make_server(quirks=CYRUS, properties=only_rc4)) as client:
        assert 'cipher="rc4,3des"' in await challenge_of(client)


def contexts(
    quirks: Quirks, protection: str, *, client_maxbuf: int = 65536
) -> tuple[SecurityContext, SecurityContext]:
    properties = properties_for(protection)
    place = Place(
        "ldap", "localhost", "example.com", {"alice": PASSWORD}, properties, quirks=quirks
    )
    server = place.mechanisms(["DIGEST-MD5"])["DIGEST-MD5"]()
    client = DigestMD5Client(
        "alice",
        PASSWORD,
        service="ldap",
        host="localhost",
        properties=replace(properties, max_buffer=client_maxbuf),
    )
    connect_mechanisms(client, server)
    assert client.context is not None
    assert server.context is not None
    assert server.authcid == "alice"
    return client.context, server.context


@pytest.mark.parametrize(
    ("quirks", "protection", "maxbuf", "largest"),
    [
        # measured with the real ones
        (CYRUS, "auth-int", 65536, 65516),
        (CYRUS, "rc4", 65536, 65507),
        (CYRUS, "des", 1000, 971),
        (JDK, "auth-int", 65536, 65520),
        (JDK, "3des", 65536, 65510),
        (STRICT, "rc4", 65536, 65520),
        (STRICT, "3des", 65536, 65517),
        # where nothing would be left
        (CYRUS, "rc4", 20, 1),
    ],
)
def test_the_largest_message(quirks: Quirks, protection: str, maxbuf: int, largest: int) -> None:
    client, server = contexts(quirks, protection, client_maxbuf=maxbuf)
    assert server.stream_sizes.maximum_message == largest
    token = server.seal(bytes(largest))
    assert len(token) <= maxbuf
    assert client.unseal(token) == bytes(largest)
    if (quirks, protection, maxbuf) == (CYRUS, "des", 1000):
        assert len(token) == 990


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
def test_a_bad_frame_is_discarded_and_the_next_one_ends_it(protection: str) -> None:
    client, server = contexts(JDK, protection)
    assert server.unseal(client.seal(b"before")) == b"before"
    altered = bytearray(client.seal(b"altered"))
    altered[0] ^= 1
    assert server.unseal(altered) == b""
    assert not server.failed
    for _ in range(2):
        with pytest.raises(OutOfSequenceError):
            server.unseal(client.seal(b"after"))
    with pytest.raises(OutOfSequenceError):
        server.seal(b"nothing works any more")


def test_a_frame_out_of_sequence_is_not_discarded() -> None:
    client, server = contexts(JDK, "rc4")
    client.seal(b"lost")
    with pytest.raises(OutOfSequenceError):
        server.unseal(client.seal(b"after"))
    client, server = contexts(STRICT, "rc4")
    with pytest.raises(IntegrityError):
        server.unseal(b"\0" * 10 + client.seal(b"x")[-6:])


@pytest.mark.anyio
async def test_a_server_that_says_nothing_to_a_bad_frame() -> None:
    async with connected(make_server(quirks=JDK)) as client:
        await client.log_in()
        context = client.stream.extra(SASLAttribute.context)
        assert context is not None
        token = bytearray(context.seal(encode(1, "extendedReq", {"requestName": WHO_AM_I})))
        token[0] ^= 1
        await client.transport.send(len(token).to_bytes(4, "big") + token)
        with move_on_after(0.1) as waiting:
            await client.receive()
        assert waiting.cancelled_caught
        await client.stream.send(encode(2, "extendedReq", {"requestName": WHO_AM_I}))
        with fail_after(5):
            assert await client.everything() == b""


# Words


@pytest.mark.anyio
async def test_how_microsoft_refuses(tls: TLSContexts) -> None:
    async with connected(make_server(quirks=MICROSOFT)) as client:
        with pytest.raises(AuthenticationError, match=r"8009030C: LdapErr: .*, data 52e, v"):
            await client.log_in(password="wrong")
        with pytest.raises(AuthenticationError, match="data 52e"):
            await client.log_in("nobody")
        for host in ("elsewhere", "localhost.example.com"):
            with pytest.raises(AuthenticationError, match=r"80090303: .* does not match any LDAP"):
                await log_in_to(client, host)
        with pytest.raises(NegotiationError, match="offers auth-conf"):
            await client.log_in(properties=NO_LAYER)
        simple = {"version": 3, "name": ALICE.encode(), "authentication": ("simple", b"x")}
        answer = await client.ask("bindRequest", simple)
        assert answer.value["resultCode"] == ResultCode.strongerAuthRequired
        assert answer.value["diagnosticMessage"].startswith(b"00002028: LdapErr: ")
        assert answer.value["diagnosticMessage"].endswith(b", v4563\0")
        await log_in_to(client, "LOCALHOST")


async def log_in_to(client: Client, host: str) -> None:
    mechanism = DigestMD5Client("alice", PASSWORD, service="ldap", host=host)
    await authenticate(client.stream, LDAPBind(mechanism, 100))


@pytest.mark.anyio
async def test_a_foreign_digest_uri_is_a_wrong_password_to_others() -> None:
    async with connected(make_server(quirks=CYRUS)) as client:
        with pytest.raises(AuthenticationError, match=r"invalidCredentials \(49\)$"):
            await log_in_to(client, "elsewhere")


@pytest.mark.anyio
async def test_no_layer_over_tls(tls: TLSContexts) -> None:
    insisting = SecurityProperties(require_layer=True)
    async with connected(make_server(quirks=MICROSOFT, tls=tls.server)) as client:
        await client.start_tls(tls.client)
        with pytest.raises(NegotiationError, match="Active Directory takes no layer over TLS"):
            await client.log_in(properties=insisting)
        assert (await client.extended(WHO_AM_I))["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert client.stream.extra(SASLAttribute.ssf) == 0
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice"
    async with connected(make_server(quirks=MICROSOFT, tls=tls.server)) as client:
        await client.log_in()
        assert client.stream.extra(SASLAttribute.ssf) == 128


# Absent and empty credentials


class Polite(ServerMechanism):
    """Says nothing once, and is done."""

    name: ClassVar[str] = "POLITE"

    def _step(self, message: bytes | None) -> bytes | None:
        if message is None:
            return b""
        self._finish(None)
        return None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("quirks", "challenge", "success"),
    [
        (STRICT, b"", None),
        (Quirks(absent_challenge=True), None, None),
        (Quirks(empty_success=True), b"", b""),
    ],
)
async def test_absent_and_empty(
    quirks: Quirks, challenge: bytes | None, success: bytes | None
) -> None:
    """These are LDAP's, so that they are there with any mechanism."""
    async with connected(make_server(quirks=quirks, mechanisms={"POLITE": Polite})) as client:
        answer = await bind(client, "POLITE")
        assert answer.value["resultCode"] == ResultCode.saslBindInProgress
        assert answer.value.get("serverSaslCreds") == challenge
        answer = await bind(client, "POLITE", b"")
        assert answer.value["resultCode"] == ResultCode.success
        assert answer.value.get("serverSaslCreds") == success


# What cannot be


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quoted": ("nonce",)}, "quoted takes a tuple of algorithm, maxbuf"),
        ({"quoted": "maxbuf"}, "quoted takes a tuple"),
        ({"broken_ciphers": ("aes",)}, "broken_ciphers takes a tuple of 3des, des, rc4"),
        ({"broken_ciphers": None}, "broken_ciphers is Iterable, not NoneType"),
        ({"broken_ciphers": [["3des"]]}, "broken_ciphers takes a tuple of"),
        ({"quoted": [[]]}, "quoted takes a tuple of"),
        ({"quoted": "m"}, "quoted takes a tuple of"),
        ({"reserve": 16}, "reserve is tuple, not int"),
        ({"reserve": (1,)}, r"reserve takes two numbers .*: reserve=\(16, 26\)"),
        ({"reserve": ()}, "reserve takes two numbers"),
        ({"reserve": (16, 16, 22)}, "reserve takes two numbers"),
        ({"reserve": (0, -5)}, "reserve takes two numbers of octets, 0 or more"),
        ({"reserve": ("1", "2")}, "a number in reserve is int, not str"),
        ({"reserve": (True, 2)}, "a number in reserve is int, not bool"),
        ({"realms": "example.com"}, "realms is tuple | None, not str"),
        ({"realms": (5,)}, "a realm of realms is a str, not int"),
        ({"realms": ("a\nb",)}, "a realm of realms has control characters"),
        ({"nonce": "abc"}, "nonce is .*Callable | None, not str"),
        ({"texts": ["no"]}, "texts is Mapping, not list"),
        ({"texts": {"invalidCredentials": "no"}}, "a code in texts is int, not str"),
        ({"texts": {ResultCode.other: b"no"}}, r"texts\[.*80.*\] is a str, not bytes"),
        ({"texts": {1: "\udcff"}}, r"texts\[1\] has lone surrogates"),
        ({"foreign_uri": b"no"}, "foreign_uri is str | None, not bytes"),
        ({"foreign_uri": "\udcff"}, "foreign_uri has lone surrogates"),
    ],
)
def test_quirks_that_nobody_has(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Quirks(**options)


@pytest.mark.parametrize("name", [f.name for f in fields(Quirks) if f.type == "bool"])
@pytest.mark.parametrize("value", ["no", 0, None])
def test_a_server_has_a_quirk_or_not(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is bool, not {type(value).__name__}"):
        Quirks(**{name: value})


def test_names_are_taken_from_what_gives_them_once() -> None:
    quirks = Quirks(quoted=iter(["maxbuf"]), broken_ciphers=iter(["3des"]))  # type: ignore[arg-type]
    assert quirks == Quirks(quoted=("maxbuf",), broken_ciphers=("3des",))


def test_a_maxbuf_that_cannot_be_left_unsaid() -> None:
    with pytest.raises(UsageError, match="max_buffer is 4096"):
        LDAPServer({}, properties=SecurityProperties(max_buffer=4096), quirks=MICROSOFT)


def test_each_quirk_is_described() -> None:
    text = Quirks.__doc__ or ""
    assert [f.name for f in fields(Quirks)] == re.findall(r":param (\w+):", text)
