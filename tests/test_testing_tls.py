"""TLS below a server for tests: StartTLS, TLS at once, and what somebody in between could try."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream
from anyio.streams.tls import TLSAttribute, TLSStream

from saslwrap import NegotiationError, SecurityProperties, UsageError
from saslwrap.anyio import SASLAttribute
from saslwrap.protocols.ldap_messages import ResultCode, encode
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST as CERTIFIED
from tests.conftest import TLSContexts
from tests.ldap_bed import (
    ALICE,
    BASE,
    ENTRIES,
    PEOPLE,
    ROOT,
    START_TLS,
    SUBTREE,
    USERS,
    WHO_AM_I,
    Client,
    connected,
    make_server,
    search_request,
)

pytestmark = pytest.mark.anyio

NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)
CRITICAL = {"controlType": b"1.2.3", "criticality": True}


@pytest.fixture
def server(tls: TLSContexts) -> LDAPServer:
    return make_server(tls=tls.server)


def start_tls_request(message_id: int = 1) -> bytes:
    return encode(message_id, "extendedReq", {"requestName": START_TLS})


def only_tls(heard: bytes) -> bool:
    """Whether that is nothing, or one alert of TLS: no word in clear."""
    return not heard or (heard[0] == 0x15 and len(heard) == 5 + int.from_bytes(heard[3:5], "big"))


async def test_a_login_over_tls_brings_no_layer(server: LDAPServer, tls: TLSContexts) -> None:
    async with connected(server) as client:
        answer = await client.start_tls(tls.client)
        assert answer["responseName"] == START_TLS
        await client.log_in()
        assert client.stream.extra(SASLAttribute.ssf) == 0
        assert client.stream.extra(TLSAttribute.cipher)[2] >= 128
        entries, done = await client.search(PEOPLE, SUBTREE)
        assert ALICE in entries
        assert done["resultCode"] == ResultCode.success


async def test_a_layer_over_tls_for_who_insists(tls: TLSContexts) -> None:
    insisting = SecurityProperties(require_layer=True)
    async with connected(make_server(tls=tls.server, properties=insisting)) as client:
        await client.start_tls(tls.client)
        with pytest.raises(NegotiationError, match="offers auth-conf"):
            await client.log_in()
        await client.log_in(properties=insisting)
        assert client.stream.extra(SASLAttribute.ssf) == 128
        assert (await client.extended(START_TLS))["resultCode"] == ResultCode.operationsError


async def test_the_root_dse_says_whether_tls_can_be_had(server: LDAPServer) -> None:
    for each, extensions in ((server, [WHO_AM_I, START_TLS]), (make_server(), [WHO_AM_I])):
        async with connected(each) as client:
            entries, _ = await client.search("", BASE, attributes=[b"supportedExtension"])
            assert entries[""]["supportedExtension"] == extensions


async def test_tls_that_cannot_be_had(server: LDAPServer, tls: TLSContexts) -> None:
    async with connected(make_server()) as client:
        assert (await client.extended(START_TLS))["resultCode"] == ResultCode.protocolError
    async with connected(server) as client:
        answer = await client.ask("extendedReq", {"requestName": START_TLS}, [CRITICAL])
        assert answer.value["resultCode"] == ResultCode.unavailableCriticalExtension
        await client.start_tls(tls.client)
        again = await client.extended(START_TLS)
        assert again["resultCode"] == ResultCode.operationsError
        assert again["responseName"] == START_TLS
        assert again["diagnosticMessage"] == b"TLS is there already"


async def test_no_tls_below_a_layer(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.log_in()
        refused = await client.extended(START_TLS)
        assert refused["resultCode"] == ResultCode.operationsError
        assert refused["diagnosticMessage"] == b"no TLS below a security layer"
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice"


async def test_who_logged_in_in_clear_is_nobody_over_tls(tls: TLSContexts) -> None:
    """Somebody in between could have logged in as himself."""
    async with connected(make_server(tls=tls.server, properties=NO_LAYER)) as client:
        await client.log_in(properties=NO_LAYER)
        await client.start_tls(tls.client)
        assert (await client.extended(WHO_AM_I))["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice"


async def test_a_request_that_was_asked_before_is_answered_before(
    server: LDAPServer, tls: TLSContexts
) -> None:
    async with connected(server) as client:
        search = encode(1, "searchRequest", search_request("", BASE))
        await client.stream.send(search + start_tls_request(2))
        answers = [await client.receive() for _ in range(3)]
        assert [answer.message_id for answer in answers] == [1, 1, 2]
        await client.shake_hands(tls.client)
        await client.log_in()


# Somebody in between


async def test_what_was_put_behind_the_request_is_not_heard_over_tls(server: LDAPServer) -> None:
    """CVE-2011-0411: the octets would count as the client's, who is authenticated by then."""
    async with connected(server) as client:
        injected = encode(2, "searchRequest", search_request(ROOT))
        await client.stream.send(start_tls_request() + injected)
        assert await client.notice() == ResultCode.protocolError


async def test_half_a_request_is_enough(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.stream.send(start_tls_request() + b"\x30")
        assert await client.notice() == ResultCode.protocolError


async def test_what_comes_in_clear_later_breaks_the_handshake(
    server: LDAPServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server) as client:
        assert (await client.extended(START_TLS))["resultCode"] == ResultCode.success
        await client.stream.send(encode(2, "searchRequest", search_request("", BASE)))
        assert only_tls(await client.everything())
    assert "TLS could not be started" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_client_that_leaves_instead_of_shaking_hands(
    server: LDAPServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server) as client:
        await client.extended(START_TLS)
        await client.stream.send_eof()
        assert only_tls(await client.everything())
    assert "TLS could not be started: the client closed the connection" in caplog.text


async def test_a_client_that_says_nothing_instead(tls: TLSContexts) -> None:
    server = make_server(tls=tls.server, tls_at_once=True, idle_timeout=0.05)
    async with connected(server) as client:
        assert only_tls(await client.everything())


async def test_a_broken_record_ends_the_connection(
    server: LDAPServer, tls: TLSContexts, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server) as client:
        await client.start_tls(tls.client)
        await client.transport.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises((EndOfStream, BrokenResourceError, OSError)):
            await client.stream.receive()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING


async def test_a_farewell_over_tls(server: LDAPServer, tls: TLSContexts) -> None:
    async with connected(server) as client:
        await client.start_tls(tls.client)
        await client.stream.send(b"\x99")
        assert (await client.receive()).value["resultCode"] == ResultCode.protocolError


# TLS at once


async def test_tls_at_once(tls: TLSContexts) -> None:
    server = make_server(tls=tls.server, tls_at_once=True)
    async with server:
        assert server.url == f"ldaps://localhost:{server.port}"
        async with await anyio.connect_tcp(
            "127.0.0.1",
            server.port,
            ssl_context=tls.client,
            tls_hostname=CERTIFIED,
            tls_standard_compatible=False,
        ) as stream:
            assert isinstance(stream, TLSStream)
            client = Client(stream)
            assert (await client.extended(START_TLS))["resultCode"] == ResultCode.operationsError
            await client.log_in()
            assert client.stream.extra(SASLAttribute.ssf) == 0


async def test_clear_text_where_tls_is_due(tls: TLSContexts) -> None:
    async with connected(make_server(tls=tls.server, tls_at_once=True)) as client:
        await client.stream.send(encode(1, "searchRequest", search_request("", BASE)))
        assert only_tls(await client.everything())


@pytest.mark.parametrize("options", [{"tls_at_once": True}])
async def test_tls_without_a_certificate(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="tls="):
        LDAPServer(ENTRIES, USERS, **options)
