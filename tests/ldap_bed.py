"""A small directory, and a client of it that shows what came: for the tests of `LDAPServer`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, ClassVar

import pytest
from anyio import BrokenResourceError, EndOfStream, create_task_group, fail_after
from anyio.abc import AnyByteStream
from anyio.streams.tls import TLSStream

from saslwrap import DigestMD5Client, SecurityProperties, ServerMechanism
from saslwrap.anyio import SASLStream, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import (
    NOTICE_OF_DISCONNECTION,
    Message,
    ResultCode,
    decode,
    encode,
    measure,
)
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST as CERTIFIED
from saslwrap.testing.streams import memory_stream_pair

BASE, ONE, SUBTREE = range(3)
ANYTHING = ("present", b"objectClass")
START_TLS = b"1.3.6.1.4.1.1466.20037"
WHO_AM_I = b"1.3.6.1.4.1.4203.1.11.3"

PAGED_RESULTS = b"1.2.840.113556.1.4.319"

ROOT = "dc=example,dc=com"
PEOPLE = f"ou=People,{ROOT}"
ALICE = f"uid=alice,{PEOPLE}"
BOB = f"uid=bob,{PEOPLE}"

ENTRIES: dict[str, dict[str, list[str | bytes]]] = {
    ROOT: {"objectClass": ["dcObject", "organization"], "dc": ["example"]},
    PEOPLE: {"ou": ["People"]},
    ALICE: {
        "objectClass": ["inetOrgPerson"],
        "cn": ["Alice Liddell", "Alice"],
        "uidNumber": ["1000"],
        "jpegPhoto": [b"\xff\xd8\xff"],
    },
    BOB: {"objectClass": ["inetOrgPerson"], "cn": ["Bob"], "uidNumber": ["999"]},
    "o=Elsewhere": {"o": ["Elsewhere"]},
}
PASSWORD = "s3cret-Pa55"
USERS = {"alice": PASSWORD, "jürgen": "pässwörd", "юлия": "пароль"}

ANY_LAYER = SecurityProperties(
    min_ssf=0, ciphers=("rc4", "3des", "rc4-56", "des", "rc4-40"), max_buffer=65536
)


def make_server(**options: Any) -> LDAPServer:
    return LDAPServer(ENTRIES, USERS, **options)


def search_request(
    base: str = ROOT,
    scope: int = BASE,
    matching: Any = ANYTHING,
    attributes: Sequence[bytes] = (),
    *,
    size_limit: int = 0,
    types_only: bool = False,
) -> dict[str, Any]:
    return {
        "baseObject": base.encode(),
        "scope": scope,
        "derefAliases": 0,
        "sizeLimit": size_limit,
        "timeLimit": 0,
        "typesOnly": types_only,
        "filter": matching,
        "attributes": list(attributes),
    }


class Client:
    """Our side of one connection."""

    def __init__(self, transport: AnyByteStream) -> None:
        self.transport = transport
        self.stream = SASLStream(transport, None)
        self._buffer = bytearray()
        self._ids = count(1, 10)

    async def log_in(
        self,
        username: str = "alice",
        password: str = PASSWORD,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        *,
        realm: str | None = None,
        authzid: str | None = None,
    ) -> None:
        mechanism = DigestMD5Client(
            username,
            password,
            service="ldap",
            host="localhost",
            realm=realm,
            authzid=authzid,
            properties=properties,
        )
        await authenticate(self.stream, LDAPBind(mechanism, next(self._ids)))

    async def receive(self) -> Message:
        while (length := measure(self._buffer, 1 << 24)) is None or length > len(self._buffer):
            self._buffer += await self.stream.receive()
        pdu = bytes(self._buffer[:length])
        del self._buffer[:length]
        return decode(pdu)

    async def ask(self, operation: str, value: Any, controls: Any = ()) -> Message:
        number = next(self._ids)
        await self.stream.send(encode(number, operation, value, controls))
        answer = await self.receive()
        assert answer.message_id == number
        return answer

    async def search(self, *request: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the attributes that were found, by DN, and the result."""
        answer = await self.ask("searchRequest", search_request(*request, **options))
        entries = {}
        while answer.operation == "searchResEntry":
            attributes = {a["type"].decode(): list(a["vals"]) for a in answer.value["attributes"]}
            entries[answer.value["objectName"].decode()] = attributes
            answer = await self.receive()
        assert answer.operation == "searchResDone"
        return entries, answer.value

    async def extended(self, name: bytes) -> dict[str, Any]:
        answer = await self.ask("extendedReq", {"requestName": name})
        assert answer.operation == "extendedResp"
        value: dict[str, Any] = answer.value
        return value

    async def everything(self) -> bytes:
        """What comes until the connection is gone."""
        heard = bytearray()
        with suppress(EndOfStream, BrokenResourceError):
            while True:
                heard += await self.stream.receive()
        return bytes(heard)

    async def start_tls(self, context: ssl.SSLContext) -> dict[str, Any]:
        """Put TLS below, once the server has said yes; give its answer."""
        answer = await self.extended(START_TLS)
        assert answer["resultCode"] == ResultCode.success
        await self.shake_hands(context)
        return answer

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """Put TLS below."""
        transport, clear = self.stream.unwrap()
        assert self._buffer + clear.unread() == b""
        tls = await TLSStream.wrap(
            transport, hostname=CERTIFIED, ssl_context=context, standard_compatible=False
        )
        self.stream = SASLStream(tls, None)

    async def notice(self) -> ResultCode:
        """The server ends the connection, and says why."""
        message = await self.receive()
        assert (message.message_id, message.operation) == (0, "extendedResp")
        assert message.value["responseName"] == NOTICE_OF_DISCONNECTION
        with pytest.raises(EndOfStream):
            await self.stream.receive()
        return ResultCode(message.value["resultCode"])


@asynccontextmanager
async def connected(server: LDAPServer, transport_capacity: int = 65536) -> AsyncIterator[Client]:
    """Connect in memory; in the end the server has noticed that we left."""
    ours, theirs = memory_stream_pair(transport_capacity)
    with fail_after(30):
        async with create_task_group() as tasks:
            tasks.start_soon(server.serve, theirs)
            async with ours:
                yield Client(ours)
    assert theirs.closed


@asynccontextmanager
async def logged_in(**options: Any) -> AsyncIterator[Client]:
    async with connected(make_server(**options)) as client:
        await client.log_in()
        yield client


def raw(tag: int, contents: bytes = b"", message_id: int = 7) -> bytes:
    body = b"\x02\x01" + bytes([message_id, tag, len(contents)]) + contents
    return b"\x30" + bytes([len(body)]) + body


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


class Anyone(ServerMechanism):
    name: ClassVar[str] = "ANYONE"

    def _step(self, message: bytes | None) -> bytes | None:
        if message == b"bug":
            raise RuntimeError("a bug")
        self.authcid = (message or b"").decode()
        self._finish(None)
        return None


def anyone_bind(name: bytes) -> dict[str, Any]:
    sasl = {"mechanism": b"ANYONE", "credentials": name}
    return {"version": 3, "name": b"", "authentication": ("sasl", sasl)}
