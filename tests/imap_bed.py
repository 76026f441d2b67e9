"""A few mailboxes, and a client that shows each answer whole: for the tests of `IMAPServer`."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import pytest
from anyio import EndOfStream, create_task_group, fail_after
from anyio.abc import AnyByteStream
from anyio.streams.tls import TLSStream

from saslwrap import DigestMD5Client, SecurityProperties
from saslwrap.anyio import SASLStream, authenticate
from saslwrap.protocols.imap import IMAPAuthenticate
from saslwrap.testing import IMAPServer, Message
from saslwrap.testing.imap_commands import Command
from saslwrap.testing.pairs import HOST as CERTIFIED
from saslwrap.testing.streams import memory_stream_pair

PASSWORD = "s3cret-Pa55"
USERS = {"alice": PASSWORD, "юлия": "пароль"}

HELLO = (
    b"From: Bob <bob@example.com>\r\nTo: alice@example.com, Carol <carol@example.com>\r\n"
    b"Date: Sat, 3 Feb 2024 12:00:00 +0000\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"X-Folded: one\r\n two\r\nMessage-ID: <1@example.com>\r\n\r\nHow are YOU?\r\n"
)
BARE = b"no header at all"
MAILBOXES: dict[str, list[bytes | Message]] = {
    "INBOX": [
        Message(HELLO, {"\\Flagged"}, datetime(2024, 2, 3, 12, 0, 5, tzinfo=UTC)),
        b"Subject: second\r\n\r\nbody 2\r\n",
        b"Subject: third\r\n\r\nbody 3\r\n",
    ],
    "Archive/2024": [],
    "Entwürfe": [BARE],
}

ANY_LAYER = SecurityProperties(min_ssf=0, ciphers=("rc4", "3des", "rc4-56", "des", "rc4-40"))

_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")


def make_server(**options: Any) -> IMAPServer:
    return IMAPServer(MAILBOXES, USERS, **options)


class Answer(NamedTuple):
    """All untagged responses, each whole, and the last line without its tag."""

    untagged: list[bytes]
    last: bytes

    @property
    def ok(self) -> bool:
        return self.last.startswith(b"OK ")


class Client:
    """Our side of one connection, after the greeting."""

    def __init__(self, transport: AnyByteStream) -> None:
        self.transport = transport
        self.stream = SASLStream(transport, None)
        self._buffer = bytearray()
        self._tags = (f"t{n}" for n in count(1))

    async def log_in(
        self,
        username: str = "alice",
        password: str = PASSWORD,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
    ) -> IMAPAuthenticate:
        mechanism = DigestMD5Client(
            username, password, service="imap", host="localhost", properties=properties
        )
        login = IMAPAuthenticate(mechanism, tag=next(self._tags))
        await authenticate(self.stream, login)
        return login

    async def receive(self) -> bytes:
        """One response, its literals in it."""
        response = await self._line()
        while literal := _LITERAL.search(response):
            response += await self._exactly(int(literal[1])) + await self._line()
        return response[:-2]

    async def ask(self, command: str | bytes) -> Answer:
        tag = next(self._tags).encode()
        octets = command.encode() if isinstance(command, str) else command
        await self.stream.send(b"%b %b\r\n" % (tag, octets))
        return await self.answer(tag)

    async def answer(self, tag: bytes) -> Answer:
        untagged = []
        while not (response := await self.receive()).startswith(tag + b" "):
            assert response.startswith(b"* "), response
            untagged.append(response[2:])
        return Answer(untagged, response.removeprefix(tag + b" "))

    async def append(self, message: bytes, words: str = "INBOX") -> Answer:
        """APPEND with a literal that waits to be invited."""
        await self.stream.send(b"app APPEND %b {%d}\r\n" % (words.encode(), len(message)))
        first = await self.receive()
        if first.startswith(b"+ "):
            await self.stream.send(message + b"\r\n")
            return await self.answer(b"app")
        return Answer([], first.removeprefix(b"app "))

    async def fetch(self, what: str) -> bytes:
        """What one message's answer has in its parentheses."""
        answer = await self.ask(what)
        assert answer.ok
        (response,) = answer.untagged
        found = re.fullmatch(rb"[0-9]+ FETCH \((.*)\)", response, re.DOTALL)
        assert found
        return found[1]

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """Put TLS below."""
        transport, clear = self.stream.unwrap()
        assert self._buffer + clear.unread() == b""
        tls = await TLSStream.wrap(
            transport, hostname=CERTIFIED, ssl_context=context, standard_compatible=False
        )
        self.stream = SASLStream(tls, None)

    async def farewell(self) -> bytes:
        """The server ends the connection, and says why."""
        response = await self.receive()
        assert response.startswith(b"* BYE ")
        with pytest.raises(EndOfStream):
            await self.stream.receive()
        return response[6:]

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._buffer += await self.stream.receive()
        return await self._exactly(end + 1)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += await self.stream.receive()
        octets = bytes(self._buffer[:size])
        del self._buffer[:size]
        return octets


@asynccontextmanager
async def connected(server: IMAPServer, transport_capacity: int = 65536) -> AsyncIterator[Client]:
    """Connect in memory; in the end the server has noticed that we left."""
    ours, theirs = memory_stream_pair(transport_capacity)
    with fail_after(30):
        async with create_task_group() as tasks:
            tasks.start_soon(server.serve, theirs)
            async with ours:
                client = Client(ours)
                assert (await client.receive()).startswith(b"* OK [CAPABILITY IMAP4rev1 ")
                yield client
    assert theirs.closed


@asynccontextmanager
async def logged_in(server: IMAPServer | None = None, **options: Any) -> AsyncIterator[Client]:
    async with connected(server or make_server(**options)) as client:
        await client.log_in()
        yield client


@asynccontextmanager
async def selected(server: IMAPServer | None = None, **options: Any) -> AsyncIterator[Client]:
    """Logged in, with INBOX selected."""
    async with logged_in(server, **options) as client:
        assert (await client.ask("SELECT INBOX")).ok
        yield client


IMAP = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def search(client: Client, keys: str | bytes) -> list[int]:
    octets = keys.encode() if isinstance(keys, str) else keys
    answer = await client.ask(b"SEARCH " + octets)
    assert answer.ok, answer.last
    (response,) = answer.untagged
    name, *numbers = response.split()
    assert name == b"SEARCH"
    return [int(number) for number in numbers]


def command(text: str) -> Command:
    made = Command(f"a X {text}\r\n".encode())
    made.space()
    return made
