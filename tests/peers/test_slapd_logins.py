"""Who logs in to slapd, and who may not. After a refusal the connection can be used on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import AuthenticationError, NegotiationError, SecurityProperties
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode
from tests.peers.directory import ALICE, CYRILLIC, LATIN, USERS, Credentials
from tests.peers.ldap_client import LDAPClient
from tests.peers.slapd import Slapd
from tests.peers.slapd_sessions import NO_LAYER, PROTECTIONS, REFUSED, WRONG, bind, connect, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saslwrap.mechanisms.digest_md5.credentials import HashEncoding

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


@pytest.fixture(scope="module")
def weak_slapd() -> Iterator[Slapd]:
    """A server that offers no layer, as one that leaves protection to TLS does."""
    Slapd.require("digestmd5")
    with Slapd(sasl_secprops="maxssf=0") as server:
        yield server


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
