"""Pairs of asyncio's streams, and logins over them, for `test_asyncio_streams*.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from saslwrap.asyncio import SASLTransport, authenticate_streams, start_sasl_streams
from saslwrap.context import SecurityContext
from saslwrap.exchange import Exchange
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.testing import MechanismPair, mechanism_pair
from saslwrap.testing.pairs import HOST, USERNAME
from tests.conftest import exchange_pair
from tests.test_shells_support import PATIENCE, Streams, hold, turns


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def both(first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    """Await two; give what came of each, results or exceptions."""
    outcomes = await within(asyncio.gather(first, second, return_exceptions=True))
    return outcomes[0], outcomes[1]


async def talk(client: Streams, server: Streams) -> None:
    """Show that both directions work."""
    for (_, writer), (reader, _) in ((client, server), (server, client)):
        writer.write(b"are you there?\n")
        await within(writer.drain())
        assert await within(reader.readline()) == b"are you there?\n"


async def arrived(reader: asyncio.StreamReader) -> None:
    """Wait until a reader has read all ahead that it wants to, the end too."""
    size = -1
    while size != len(reader._buffer):  # type: ignore[attr-defined]
        size = len(reader._buffer)  # type: ignore[attr-defined]
        await turns(100)


async def sealed_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: SecurityContext,
    **options: Any,
) -> Streams:
    """`start_sasl_streams`; the new pair lives as long as the test."""
    return hold(await start_sasl_streams(reader, writer, context, **options))


async def log_in(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    exchange: Exchange,
    **options: Any,
) -> Streams:
    """`authenticate_streams`; the new pair lives as long as the test."""
    return hold(await authenticate_streams(reader, writer, exchange, **options))


def sealed(streams: Streams) -> SASLTransport:
    transport: object = streams[1].transport
    assert isinstance(transport, SASLTransport)
    return transport


async def logged_in(
    client: Streams, server: Streams, mechanisms: MechanismPair | str = "rc4"
) -> tuple[Streams, Streams]:
    """Authenticate both ends, which has to succeed."""
    if isinstance(mechanisms, str):
        mechanisms = mechanism_pair(mechanisms)
    client_half, server_half = exchange_pair(mechanisms)
    at_client, at_server = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert isinstance(at_client, tuple), at_client
    assert isinstance(at_server, tuple), at_server
    return at_client, at_server


WRONG_PASSWORD = "Tr0ub4dor&3"


def wrong_password() -> DigestMD5Client:
    return DigestMD5Client(USERNAME, WRONG_PASSWORD, service="ldap", host=HOST)
