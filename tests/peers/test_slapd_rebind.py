"""A second login at slapd, on a stream that has a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import ClosedResourceError

from saslwrap import AuthenticationError, NegotiationError, ProtocolError, SecurityProperties
from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from tests.peers.directory import ALICE, CYRILLIC, LATIN, large_dn, large_value
from tests.peers.ldap_client import LDAPClient
from tests.peers.ldap_wire import digest_numbers
from tests.peers.slapd import Slapd
from tests.peers.slapd_sessions import (
    NO_LAYER,
    PROTECTIONS,
    WRONG,
    bind,
    complete,
    every_entry,
    session,
)

if TYPE_CHECKING:
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.address, slapd.port)


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
