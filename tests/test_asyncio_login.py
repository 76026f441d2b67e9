"""A login over a transport that a protocol has, as client libraries have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.asyncio import SASLTransport, authenticate_transport, start_sasl
from saslwrap.errors import (
    AuthenticationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Exchange
from tests.conftest import TLSContexts
from tests.support import ToyExchange, ToyMechanism, frames, make_context
from tests.test_shells_support import (
    PATIENCE,
    Recorder,
    Streams,
    loops,
    on_both_loops,
    plain,
    problems,
    reset,
    turns,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops

#: More than sockets hold.
VOLUME = 4_000_000


def login() -> ToyExchange:
    """A challenge, an answer, a layer."""
    return ToyExchange(ToyMechanism(b"answer", context=make_context()))


def login_without_a_layer() -> ToyExchange:
    return ToyExchange(ToyMechanism(b"answer"))


async def start(
    exchange: Exchange, tls: TLSContexts | None = None
) -> tuple[asyncio.Task[asyncio.Transport], Recorder, asyncio.Transport, Streams]:
    transport, streams = await plain(tls)
    protocol = transport.get_protocol()
    assert isinstance(protocol, Recorder)
    protocol.events = ""
    task = asyncio.create_task(authenticate_transport(transport, protocol, exchange))
    assert await streams[0].readline() == b"AUTH toy\n"
    return task, protocol, transport, streams


async def succeed(streams: Streams, *, behind: bytes = b"") -> None:
    """Play the server, whose last words come in one segment with what is behind them."""
    reader, writer = streams
    writer.write(b"+challenge\n")
    assert await reader.readline() == b"answer\n"
    writer.write(b"OK\n" + behind)


@pytest.mark.parametrize("over", ["tcp", "tls"])
async def test_a_login_with_a_layer(tls: TLSContexts, over: str) -> None:
    below = tls if over == "tls" else None
    task, protocol, transport, streams = await start(login(), below)
    await succeed(streams, behind=frames(b"hello"))
    above = await task
    assert isinstance(above, SASLTransport)
    assert above.get_protocol() is protocol
    await protocol.got(b"hello")
    above.write(b"hello back")
    assert await streams[0].readexactly(22) == frames(b"hello back")
    assert transport.get_protocol() is not protocol
    streams[1].close()
    assert await protocol.lost() is None


async def test_a_login_without_a_layer() -> None:
    task, protocol, transport, streams = await start(login_without_a_layer())
    await succeed(streams, behind=b"in clear")
    assert await task is transport
    assert transport.get_protocol() is protocol
    await protocol.got(b"in clear")
    streams[1].write(b", and more")
    await protocol.got(b"in clear, and more")


async def test_a_login_that_is_refused() -> None:
    task, protocol, transport, streams = await start(login())
    streams[1].write(b"NO\nstill here")
    with pytest.raises(AuthenticationError, match="the server says NO"):
        await task
    assert transport.get_protocol() is protocol
    assert not transport.is_closing()
    await protocol.got(b"still here")


async def test_what_was_read_before_is_the_logins() -> None:
    transport, _ = await plain()
    protocol = Recorder()
    exchange = ToyExchange(ToyMechanism(b"answer"))
    with pytest.raises(AuthenticationError):
        await authenticate_transport(transport, protocol, exchange, received=b"NO\nbehind")
    assert protocol.data == b"behind"


async def check_gone(protocol: Recorder, transport: asyncio.Transport) -> None:
    assert transport.is_closing()
    await protocol.lost()
    assert protocol.data == b""


async def test_a_peer_that_breaks_the_protocol() -> None:
    task, protocol, transport, streams = await start(login())
    streams[1].write(b"x" * 100)
    with pytest.raises(ProtocolError, match="a line over 16 octets"):
        await task
    await check_gone(protocol, transport)


async def test_a_cancellation() -> None:
    task, protocol, transport, streams = await start(login())
    streams[1].write(b"+chall")
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_gone(protocol, transport)


async def test_what_arrives_with_a_cancellation_is_nobodys() -> None:
    """The protocol would take it for an answer of its own."""
    task, protocol, transport, _ = await start(login())
    await turns()
    bridge = transport.get_protocol()
    assert isinstance(bridge, asyncio.Protocol)
    bridge.data_received(b"+challenge\n")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_gone(protocol, transport)


async def test_a_protocol_that_had_paused_reading_still_has() -> None:
    transport, streams = await plain()
    transport.pause_reading()
    protocol = Recorder()
    streams[1].write(b"NO\nbehind")
    with pytest.raises(AuthenticationError):
        await authenticate_transport(transport, protocol, login())
    assert not transport.is_reading()
    transport.resume_reading()
    await protocol.got(b"behind")


@pytest.mark.parametrize("exchange", [login, login_without_a_layer])
async def test_a_protocol_that_was_paused_before_hears_that_it_may_go_on(
    exchange: Callable[[], ToyExchange],
) -> None:
    transport, streams = await plain()
    protocol = transport.get_protocol()
    assert isinstance(protocol, Recorder)
    transport.set_write_buffer_limits(0)
    transport.write(bytes(VOLUME))
    assert protocol.events == "mp"
    task = asyncio.create_task(authenticate_transport(transport, protocol, exchange()))
    await turns()
    assert protocol.events == "mp"
    await streams[0].readexactly(VOLUME)
    assert await streams[0].readline() == b"AUTH toy\n"
    await succeed(streams)
    await task
    assert protocol.events == "mpr"


async def test_a_protocol_hears_of_a_pause_that_outlasts_a_login() -> None:
    transport, streams = await plain()
    protocol = transport.get_protocol()
    assert isinstance(protocol, Recorder)
    transport.set_write_buffer_limits(2 * VOLUME)
    transport.write(bytes(VOLUME))
    task = asyncio.create_task(authenticate_transport(transport, protocol, login()))
    await turns()
    transport.set_write_buffer_limits(0)
    streams[1].write(b"NO\n")
    with pytest.raises(AuthenticationError):
        await task
    assert protocol.events == "mp"
    await streams[0].readexactly(VOLUME)
    await protocol.until(lambda: protocol.events == "mpr")


async def test_the_end_during_the_login() -> None:
    task, protocol, transport, streams = await start(login())
    streams[1].close()
    with pytest.raises(TruncatedStreamError):
        await task
    await check_gone(protocol, transport)


async def test_a_reset_during_the_login() -> None:
    task, protocol, transport, streams = await start(login())
    reset(streams[1])
    with pytest.raises((ConnectionResetError, TruncatedStreamError)):
        await task
    await check_gone(protocol, transport)


async def test_the_end_behind_the_success() -> None:
    task, protocol, transport, streams = await start(login())
    streams[1].write(b"+challenge\n")
    assert await streams[0].readline() == b"answer\n"
    transport.pause_reading()  # so that both come in one turn
    streams[1].write(b"OK\n")
    streams[1].close()
    await turns()
    transport.abort()
    with pytest.raises((ConnectionResetError, TruncatedStreamError)):
        await task
    await check_gone(protocol, transport)


class WithMore(ToyExchange):
    """A login behind which something is to be heard under the layer."""

    more: Exchange

    def follow_up(self) -> Exchange:
        return self.more


async def test_what_follows_under_the_layer() -> None:
    exchange = WithMore(ToyMechanism(b"answer", context=make_context()))
    exchange.more = login_without_a_layer()
    task, protocol, _, streams = await start(exchange)
    await succeed(streams)
    assert await streams[0].readexactly(21) == frames(b"AUTH toy\n")
    streams[1].write(frames(b"+ch\n", b"OK\nrest"))
    async with asyncio.timeout(PATIENCE):
        above = await task
    assert isinstance(above, SASLTransport)
    await protocol.got(b"rest")


@pytest.mark.parametrize(
    "given",
    [None, asyncio.Protocol, asyncio.DatagramProtocol(), asyncio.BufferedProtocol()],
    ids=["None", "a class", "datagrams", "buffered"],
)
async def test_what_is_no_protocol_is_refused_before_the_login(given: Any) -> None:
    transport, streams = await plain()
    streams[1].write_eof()  # a login that begins all the same ends at once
    former, exchange = transport.get_protocol(), login()
    with pytest.raises(UsageError, match=r"protocol is an asyncio\.Protocol, not"):
        await authenticate_transport(transport, given, exchange)
    assert transport.get_protocol() is former
    exchange.begin(b"")  # it is unused


async def test_a_transport_that_has_a_layer_or_is_closing() -> None:
    task, protocol, _, streams = await start(login())
    await succeed(streams)
    above = await task
    with pytest.raises(UsageError, match="connect anew"):
        await authenticate_transport(above, protocol, login())
    above.abort()
    await protocol.lost()
    transport, _ = await plain()
    transport.close()
    with pytest.raises(UsageError, match="connect anew"):
        await authenticate_transport(transport, protocol, login())


async def test_a_transport_below_a_layer_does_not_log_in_in_clear() -> None:
    transport, streams = await plain()
    protocol = transport.get_protocol()
    assert isinstance(protocol, Recorder)
    start_sasl(transport, protocol, make_context())
    with pytest.raises(UsageError, match="has a security layer"):
        await authenticate_transport(transport, protocol, login())
    transport.abort()
    assert await streams[0].read() == b""


async def test_a_failure_of_the_layer_is_told() -> None:
    task, protocol, _, streams = await start(login())
    await succeed(streams, behind=frames(b"good") + b"\0\0\0\x09forgeries")
    await task
    assert isinstance(await protocol.lost(), SASLError)
    assert protocol.data == b"good"
