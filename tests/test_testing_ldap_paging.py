"""Search results in pages (RFC 2696), as `LDAPServer` gives them."""

from __future__ import annotations

from typing import Any

import asn1tools
import pytest

from saslwrap.protocols.ldap_messages import Message, ResultCode
from saslwrap.testing import LDAPServer
from tests.ldap_bed import (
    PAGED_RESULTS,
    PASSWORD,
    ROOT,
    SUBTREE,
    USERS,
    WHO_AM_I,
    Client,
    connected,
    search_request,
)

pytestmark = pytest.mark.anyio

CODEC = asn1tools.compile_string(
    "P DEFINITIONS ::= BEGIN C ::= SEQUENCE { size INTEGER, cookie OCTET STRING } END", "ber"
)
NAMES = [f"cn={number},{ROOT}" for number in range(7)]
ENTRIES: dict[str, dict[str, list[str | bytes]]] = {name: {"cn": ["x"]} for name in NAMES}


@pytest.fixture
def server() -> LDAPServer:
    return LDAPServer(ENTRIES, USERS)


def paging(size: int, cookie: bytes = b"") -> dict[str, Any]:
    value = bytes(CODEC.encode("C", {"size": size, "cookie": cookie}))
    return {"controlType": PAGED_RESULTS, "criticality": True, "controlValue": value}


async def ask(
    client: Client, *controls: dict[str, Any], base: str = "", size_limit: int = 0
) -> tuple[list[str], Message]:
    request = search_request(base, SUBTREE, size_limit=size_limit)
    answer = await client.ask("searchRequest", request, controls)
    names = []
    while answer.operation == "searchResEntry":
        names.append(answer.value["objectName"].decode())
        answer = await client.receive()
    return names, answer


def cookie_of(done: Message) -> bytes:
    assert done.value["resultCode"] == ResultCode.success
    (control,) = done.controls
    assert control["controlType"] == PAGED_RESULTS
    value = CODEC.decode("C", control["controlValue"])
    assert value["size"] == 0
    cookie: bytes = value["cookie"]
    return cookie


@pytest.mark.parametrize("size", [1, 2, 6, 7, 8, 1000, 2**31 - 1])
async def test_page_after_page(server: LDAPServer, size: int) -> None:
    async with connected(server) as client:
        await client.log_in(password=PASSWORD)
        names, done = await ask(client, paging(size))
        pages = [names]
        while cookie := cookie_of(done):
            names, done = await ask(client, paging(size, cookie))
            pages.append(names)
        assert [name for page in pages for name in page] == NAMES
        assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
        assert 0 < len(pages[-1]) <= size


async def test_no_page_without_the_control(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.log_in()
        names, done = await ask(client)
        assert (names, done.controls) == (NAMES, ())


async def test_a_page_of_nothing(server: LDAPServer) -> None:
    """It asks how much there is (section 3), which may stay unsaid, or ends a series."""
    async with connected(server) as client:
        await client.log_in()
        for cookie in (b"", b"2"):
            names, done = await ask(client, paging(0, cookie))
            assert (names, cookie_of(done)) == ([], b"")


async def test_the_size_limit_is_for_each_page(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.log_in()
        names, done = await ask(client, paging(3), size_limit=3)
        assert (names, cookie_of(done)) == (NAMES[:3], b"3")
        names, done = await ask(client, paging(3), size_limit=2)
        assert (names, done.value["resultCode"]) == (NAMES[:2], ResultCode.sizeLimitExceeded)


async def test_a_cookie_past_the_end(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.log_in()
        names, done = await ask(client, paging(3, b"999999999"))
        assert (names, cookie_of(done)) == ([], b"")


BROKEN = {"controlType": PAGED_RESULTS, "criticality": True}


@pytest.mark.parametrize(
    ("controls", "code"),
    [
        ([paging(3, b"yours")], ResultCode.unwillingToPerform),
        ([paging(3, b"-1")], ResultCode.unwillingToPerform),
        ([paging(3, b"1" * 10)], ResultCode.unwillingToPerform),
        ([paging(-1)], ResultCode.protocolError),
        ([paging(2**31)], ResultCode.protocolError),
        ([paging(10**40)], ResultCode.protocolError),
        ([BROKEN], ResultCode.protocolError),
        ([{**BROKEN, "controlValue": b""}], ResultCode.protocolError),
        ([{**BROKEN, "controlValue": b"\x30\x05\x02\x01\x03"}], ResultCode.protocolError),
        ([paging(3), paging(3)], ResultCode.protocolError),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused(
    server: LDAPServer, controls: list[dict[str, Any]], code: ResultCode
) -> None:
    async with connected(server) as client:
        await client.log_in()
        names, done = await ask(client, *controls)
        assert (names, done.value["resultCode"]) == ([], code)
        assert (await ask(client))[0] == NAMES


async def test_it_is_for_searches_only(server: LDAPServer) -> None:
    async with connected(server) as client:
        await client.log_in()
        answer = await client.ask("extendedReq", {"requestName": WHO_AM_I}, [paging(3)])
        assert answer.value["resultCode"] == ResultCode.unavailableCriticalExtension
        names, done = await ask(client, paging(3), base="o=nowhere")
        assert (names, done.value["resultCode"]) == ([], ResultCode.noSuchObject)
