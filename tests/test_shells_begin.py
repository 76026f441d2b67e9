"""A login that cannot begin costs the caller nothing: what was handed in is there again.

Over every shell: a mechanism that was used before is found out when the channel is bound, an
exchange that was used before first of all. And a context that has a layer gets no other stream.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import saslwrap.asyncio
from saslwrap import Exchange, UsageError
from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.context import SecurityContext
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing import context_pair, memory_stream_pair, stream_pair
from tests.support import ToyExchange, ToyMechanism

HANDED_IN, MORE = b"handed in", b" and what came behind"


def with_a_used_mechanism() -> Exchange:
    mechanism = ToyMechanism(b"first", b"second")
    mechanism.step(None)
    return ToyExchange(mechanism)


def used() -> Exchange:
    exchange = ToyExchange(ToyMechanism(b"first"))
    exchange.receive_data(b"NO\nof another connection")
    exchange.advance()
    return exchange


refused = pytest.raises(UsageError, match="a mechanism is used once")
no_exchange = pytest.raises(
    UsageError, match=r"takes an Exchange, as LDAPBind\(mechanism\) makes, not"
)


def test_over_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(MORE)
        sealed, exchange = SASLSocket(here, None), with_a_used_mechanism()
        with refused:
            authenticate_socket(sealed, exchange, received=HANDED_IN)
        assert exchange.trailing_data == HANDED_IN
        assert sealed.recv(100) + sealed.recv(100) == HANDED_IN + MORE


@pytest.mark.anyio
async def test_over_a_stream() -> None:
    here, there = memory_stream_pair()
    await there.send(MORE)
    stream, exchange = SASLStream(here, None), with_a_used_mechanism()
    with refused:
        await authenticate(stream, exchange, received=HANDED_IN)
    assert exchange.trailing_data == HANDED_IN
    assert await stream.receive() + await stream.receive() == HANDED_IN + MORE
    assert not here.closed


@pytest.mark.asyncio
async def test_over_a_pair_of_asyncio_s_streams() -> None:
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    exchange = with_a_used_mechanism()
    with there, refused:
        there.sendall(MORE)
        await saslwrap.asyncio.authenticate_streams(reader, writer, exchange, received=HANDED_IN)
    assert exchange.trailing_data == HANDED_IN
    assert await reader.read() == HANDED_IN + MORE
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_over_a_transport() -> None:
    here, there = socket.socketpair()
    reader = asyncio.StreamReader()
    transport, protocol = await asyncio.get_running_loop().create_connection(
        lambda: asyncio.StreamReaderProtocol(reader), sock=here
    )
    with there, refused:
        there.sendall(MORE)
        await saslwrap.asyncio.authenticate_transport(
            transport, protocol, with_a_used_mechanism(), received=HANDED_IN
        )
    assert await reader.read() == HANDED_IN + MORE
    transport.close()
    await asyncio.sleep(0)


def test_an_exchange_of_another_login_takes_nothing_and_gives_nothing() -> None:
    """What it kept of the other connection is not to come out of this one."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(MORE)
        sealed, exchange = SASLSocket(here, None), used()
        with pytest.raises(UsageError, match="an exchange is one login's"):
            authenticate_socket(sealed, exchange, received=HANDED_IN)
        assert HANDED_IN not in exchange.trailing_data
        assert sealed.recv(100) == MORE


NO_EXCHANGE = [ToyMechanism(b"first"), ToyExchange, "LDAP", None]


def kind(given: object) -> str:
    return type(given).__name__


@pytest.mark.parametrize("given", NO_EXCHANGE, ids=kind)
def test_no_exchange_over_a_socket(given: Any) -> None:
    here, there = socket.socketpair()
    with here, there, no_exchange:
        authenticate_socket(here, given)


@pytest.mark.anyio
@pytest.mark.parametrize("given", NO_EXCHANGE, ids=kind)
async def test_no_exchange_over_a_stream(given: Any) -> None:
    here, _ = memory_stream_pair()
    with no_exchange:
        await authenticate(here, given)
    assert not here.closed


@pytest.mark.asyncio
@pytest.mark.parametrize("given", NO_EXCHANGE, ids=kind)
async def test_no_exchange_over_asyncio(given: Any) -> None:
    here, there = socket.socketpair()
    with there:
        reader, writer = await asyncio.open_connection(sock=here)
        with no_exchange:
            await saslwrap.asyncio.authenticate_streams(reader, writer, given)
        transport: Any = writer.transport
        with no_exchange:
            await saslwrap.asyncio.authenticate_transport(transport, asyncio.Protocol(), given)
        assert not writer.is_closing()
        writer.close()
        await writer.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("given", [None, ToyMechanism(b"first"), "context"], ids=kind)
async def test_no_context_over_asyncio(given: Any) -> None:
    here, there = socket.socketpair()
    with there:
        _, writer = await asyncio.open_connection(sock=here)
        transport: Any = writer.transport
        with pytest.raises(UsageError, match=r"a layer takes a SecurityContext.*go on without"):
            saslwrap.asyncio.start_sasl(transport, asyncio.Protocol(), given)
        writer.close()
        await writer.wait_closed()


def in_use() -> SecurityContext:
    context = context_pair().client
    SASLStream(memory_stream_pair()[0], context)
    return context


has_a_layer = pytest.raises(UsageError, match="has a user already")


def test_a_context_of_another_stream_over_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there, has_a_layer:
        SASLSocket(here, in_use())


def test_a_context_of_another_stream_over_a_stream() -> None:
    with has_a_layer:
        SASLStream(memory_stream_pair()[0], in_use())


@pytest.mark.asyncio
async def test_a_context_of_another_stream_over_asyncio() -> None:
    here, there = socket.socketpair()
    with there:
        reader, writer = await asyncio.open_connection(sock=here)
        there.sendall(MORE)
        with has_a_layer:
            await saslwrap.asyncio.start_sasl_streams(reader, writer, in_use())
        assert await reader.readexactly(len(MORE)) == MORE  # the pair is as it was
        writer.close()
        await writer.wait_closed()


@pytest.mark.anyio
async def test_the_context_of_a_stream_that_goes_on() -> None:
    client, server = stream_pair()
    with has_a_layer:
        SASLStream(memory_stream_pair()[0], client.extra(SASLAttribute.context))
    await client.send(b"still here")
    assert await server.receive() == b"still here"
