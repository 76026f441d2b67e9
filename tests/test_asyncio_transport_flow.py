"""The asyncio transport: flow control in both directions."""

from __future__ import annotations

import asyncio

import pytest

from saslwrap.asyncio import start_sasl
from saslwrap.errors import UsageError
from saslwrap.testing import context_pair
from tests.asyncio_transports import both_kinds, over_what, tls_or_tcp, wire_of
from tests.conftest import TLSContexts
from tests.test_shells_support import (
    AnyRecorder,
    BufferedRecorder,
    Peer,
    Recorder,
    loops,
    on_both_loops,
    plain,
    problems,
    reset,
    turns,
    upgraded,
)

__all__ = ["loops", "problems", "tls_or_tcp"]

pytestmark = on_both_loops


async def test_write_limits_are_those_of_the_transport_below() -> None:
    transport, _ = await upgraded(Recorder())
    transport.set_write_buffer_limits(high=2000, low=1000)
    assert transport.get_write_buffer_limits() == (1000, 2000)
    assert wire_of(transport).transport.get_write_buffer_limits() == (1000, 2000)
    assert transport.get_write_buffer_size() == 0


@over_what
async def test_a_fast_writer_is_paused_and_resumed(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.set_write_buffer_limits(high=100_000, low=10_000)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    written = 0
    while "p" not in protocol.events:
        transport.write(bytes(10_000))
        written += 10_000
        assert written < 20_000_000
        await turns(2)
    assert transport.get_write_buffer_size() > 100_000 or tls_or_tcp
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await peer.receive(written) == bytes(written)
    await protocol.until(lambda: protocol.events == "pr")
    transport.close()
    peer.writer.close()
    assert await protocol.lost() is None


@over_what
async def test_a_slow_reader_stops_a_fast_writer(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while sent < 50_000_000:
            await peer.send(bytes(50_000))
            sent += 50_000

    task = asyncio.create_task(flood())
    before = -1
    while before != sent:
        before = sent
        await turns(200)
    assert sent < 5_000_000
    assert len(wire_of(transport).layer._decoder._buffer) <= 600_000
    assert not protocol.data
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    await protocol.got(bytes(sent + 50_000))
    assert not wire_of(transport).layer._decoder._buffer


@both_kinds
async def test_pausing_in_mid_burst_stops_the_burst(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two", b"three")
    expected = b""
    for word in (b"one", b"two", b"three"):
        expected += word
        await protocol.got(expected)
        await turns()
        assert protocol.data == expected
        transport.resume_reading()
    await peer.close()
    assert await protocol.lost() is None


async def test_a_buffered_protocol_pauses_inside_a_frame() -> None:
    protocol = BufferedRecorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(bytes(2500), b"next")
    for chunk in (1000, 2000, 2500, 2504):
        await protocol.until_size(chunk)
        await turns()
        assert len(protocol.data) == chunk
        transport.resume_reading()
    await turns()
    assert protocol.chunks[-2:] == [bytes(500), b"next"]


async def test_resuming_in_the_callback_goes_on_at_once() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)

    def blink() -> None:
        transport.pause_reading()
        transport.resume_reading()

    protocol.on_data = blink
    await peer.send(*[b"x"] * 50)
    await protocol.got(b"x" * 50)
    await peer.send(b"y")
    await protocol.got(b"x" * 50 + b"y")


async def test_pausing_again_before_the_resume_took_effect() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    transport.pause_reading()
    await peer.send(b"x")
    transport.resume_reading()
    transport.pause_reading()
    await turns()
    assert not protocol.data
    transport.resume_reading()
    await protocol.got(b"x")


async def test_a_transport_that_was_paused_stays_paused() -> None:
    contexts, protocol = context_pair(), Recorder()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    below.pause_reading()
    transport = start_sasl(below, protocol, contexts.client, received=peer.seal(b"one"))
    assert not transport.is_reading()
    await peer.send(b"two")
    await turns()
    assert not protocol.data
    transport.resume_reading()
    await protocol.got(b"onetwo")


@over_what
async def test_the_end_waits_for_an_application_that_pauses(
    tls_or_tcp: TLSContexts | None,
) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.pause_reading
    peer.writer.write(peer.seal(*[b"x"] * 10))
    peer.writer.close()
    for count in range(1, 11):
        await protocol.until_size(count)
        await turns()
        assert protocol.events == "d" * count
        transport.resume_reading()
    assert await protocol.lost() is None
    assert protocol.events == "d" * 10 + "el"


@over_what
async def test_an_application_that_pauses_at_the_end_can_close(
    tls_or_tcp: TLSContexts | None,
) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.pause_reading
    peer.writer.write(peer.seal(b"one", b"two"))
    peer.writer.close()
    await protocol.got(b"one")
    await turns()
    transport.close()
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_a_broken_connection_does_not_wait_for_an_application_that_pauses() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two")
    await protocol.got(b"one")
    reset(peer.writer)
    while "l" not in protocol.events:  # writing finds out
        transport.write(b"x")
        await turns()
    assert isinstance(await protocol.lost(), OSError)
    transport.resume_reading()
    await turns()
    assert protocol.data == b"one"


async def test_data_that_comes_while_data_is_delivered_waits_its_turn() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)

    def more() -> None:  # as of a transport in memory, whose peer answers in the same call
        if protocol.data == b"one":
            wire_of(transport).data_received(peer.seal(b"three"))
            assert protocol.data == b"one"

    protocol.on_data = more
    await peer.send(b"one", b"two")
    await protocol.got(b"onetwothree")


@both_kinds
async def test_another_protocol_takes_over_in_mid_burst(kind: type[AnyRecorder]) -> None:
    first, second = Recorder(), kind()
    transport, peer = await upgraded(first)
    first.on_data = lambda: transport.set_protocol(second)
    await peer.send(b"for the first", b"for the second")
    await second.got(b"for the second")
    assert transport.get_protocol() is second
    await peer.close()
    assert await second.lost() is None
    assert first.events == "d"


@both_kinds
async def test_another_protocol_takes_over_in_mid_frame(kind: type[AnyRecorder]) -> None:
    first, second = BufferedRecorder(), kind()
    transport, peer = await upgraded(first)
    first.on_data = lambda: transport.set_protocol(second)
    await peer.send(b"1" * 1000 + b"2" * 1500)
    await second.got(b"2" * 1500)
    await peer.close()
    assert await second.lost() is None
    assert first.events == "d"
    assert first.data == b"1" * 1000


async def test_a_protocol_of_another_kind_is_refused() -> None:
    transport, _ = await upgraded(Recorder())
    with pytest.raises(UsageError, match="BufferedProtocol"):
        transport.set_protocol(asyncio.BaseProtocol())
