"""`start_sasl_streams`: a layer over a pair of streams."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from saslwrap.asyncio import start_sasl, start_sasl_streams
from saslwrap.asyncio.reader import is_awaited
from saslwrap.errors import IntegrityError, ProtocolError, TruncatedStreamError, UsageError
from saslwrap.testing import context_pair
from tests.asyncio_streams import arrived, both, sealed_streams, talk, within
from tests.conftest import TLSContexts
from tests.test_shells_support import (
    Peer,
    Recorder,
    loops,
    on_both_loops,
    problems,
    reset,
    stream_pair,
    turns,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


async def test_a_sealed_pair_of_streams() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    new_client = await sealed_streams(*client, contexts.client)
    new_server = await sealed_streams(*server, contexts.server)
    await talk(new_client, new_server)
    for size in (1, 65536, 1_000_000):
        new_client[1].write(bytes(size))
        got, _ = await both(new_server[0].readexactly(size), new_client[1].drain())
        assert got == bytes(size)
    assert new_client[1].get_extra_info("sasl") is contexts.client
    new_client[1].write_eof()
    assert await within(new_server[0].read()) == b""
    new_server[1].write(b"answer")
    new_server[1].close()
    assert await within(new_client[0].read()) == b"answer"
    new_client[1].close()
    for _, writer in (new_client, new_server, client, server):
        await within(writer.wait_closed())


async def test_a_pause_that_outlasts_the_old_pair(tls: TLSContexts) -> None:
    """With a limit of 0 TLS pauses a protocol while nothing is queued."""
    contexts = context_pair()
    client, server = await stream_pair(tls)
    transport, peer = client[1].transport, Peer(server, contexts.server)
    protocol: Any = transport.get_protocol()
    for _ in range(4):  # and resumes it when that is set again
        if not protocol._paused:
            transport.set_write_buffer_limits(0)
    assert protocol._paused
    _, writer = await sealed_streams(*client, contexts.client)
    for message in (b"one", b"two", b"three"):
        writer.write(message)
        assert await peer.receive(len(message)) == message
    transport.set_write_buffer_limits(1)
    await within(writer.drain())


async def test_the_old_reader_is_at_its_end() -> None:
    client, _ = await stream_pair()
    await sealed_streams(*client, context_pair().client)
    assert await client[0].read() == b""


async def test_200000_octets_that_were_read_ahead_are_kept() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    data = random.Random(1).randbytes(200_000)
    wire = b"the login's end\n" + peer.seal(*(data[i : i + 999] for i in range(0, 200_000, 999)))
    peer.writer.write(wire)
    assert await within(client[0].readline()) == b"the login's end\n"
    await arrived(client[0])
    assert len(client[0]._buffer) > 2 * 65536  # type: ignore[attr-defined]
    reader, writer = await sealed_streams(*client, contexts.client)
    assert await within(reader.readexactly(200_000)) == data
    writer.write(b"answer")
    assert await peer.receive(6) == b"answer"


async def test_what_was_received_comes_before_what_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    wire = peer.seal(b"one", b"two", b"three")
    await peer.send_raw(wire[7:-5])
    await arrived(client[0])
    reader, _ = await sealed_streams(*client, contexts.client, received=wire[:7])
    await peer.send_raw(wire[-5:])
    assert await within(reader.readexactly(11)) == b"onetwothree"


async def test_an_end_that_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    await peer.send(b"last ", b"words")
    peer.writer.write_eof()
    await arrived(client[0])
    reader, writer = await sealed_streams(*client, contexts.client)
    assert await within(reader.read()) == b"last words"
    assert reader.at_eof()
    writer.write(b"answer")
    writer.close()
    assert await peer.end() == b"answer"


async def test_an_end_inside_a_frame_that_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    await peer.send_raw(peer.seal(b"cut off")[:-1])
    peer.writer.write_eof()
    await arrived(client[0])
    reader, _ = await sealed_streams(*client, contexts.client)
    with pytest.raises(TruncatedStreamError):
        await within(reader.read())


async def test_a_reader_that_broke_is_refused_with_its_error() -> None:
    client, server = await stream_pair()
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(client[0].read())
    with pytest.raises(ConnectionError):
        await sealed_streams(*client, context_pair().client)


async def test_streams_that_cannot_be_upgraded() -> None:
    client, server = await stream_pair()
    new = await sealed_streams(*client, context_pair().client)
    for twice in (client, new):
        with pytest.raises(UsageError, match="rebind"):
            await sealed_streams(*twice, context_pair().client)
    server[1].transport.pause_reading()  # type: ignore[attr-defined]
    server[1].write(bytes(10_000_000))
    with pytest.raises(UsageError, match="in clear"):
        await sealed_streams(*server, context_pair().server)
    server[1].close()
    with pytest.raises(UsageError, match="closing"):
        await sealed_streams(*server, context_pair().server)


async def test_the_old_pair_is_kept_and_its_wait_closed_works() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    waiting = asyncio.create_task(client[1].wait_closed())
    new = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    await turns()
    assert not waiting.done()
    await peer.close()
    new[1].close()
    await within(waiting)
    await within(new[1].wait_closed())


async def test_the_old_wait_closed_tells_how_the_transport_ended() -> None:
    client, server = await stream_pair()
    waiting = asyncio.create_task(client[1].wait_closed())
    await sealed_streams(*client, context_pair().client)
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(waiting)


async def test_an_old_pair_that_nobody_holds_is_not_collected() -> None:
    contexts = context_pair()
    client, server = await stream_pair(held=False)
    peer = Peer(server, contexts.server)
    old = [weakref.ref(stream) for stream in client]
    reader, writer = await start_sasl_streams(*client, contexts.client)
    del client
    await turns()
    gc.collect()
    assert all(ref() for ref in old)
    await peer.send(b"still ")
    await peer.send(b"there")
    assert await within(reader.readexactly(11)) == b"still there"
    writer.close()
    await within(writer.wait_closed())
    await turns()
    gc.collect()
    assert not any(ref() for ref in old)


async def test_a_new_pair_that_nobody_holds_closes_as_any_pair() -> None:
    contexts = context_pair()
    client, server = await stream_pair(held=False)
    peer = Peer(server, contexts.server)
    new = await start_sasl_streams(*client, contexts.client)
    new[1].close()
    del new, client
    assert await peer.end() == b""


async def test_the_new_reader_has_its_limit() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    reader, _ = await sealed_streams(*client, contexts.client, limit=100)
    await Peer(server, contexts.server).send(bytes(200))
    with pytest.raises(asyncio.LimitOverrunError):
        await within(reader.readuntil(b"\n"))


async def test_drain_waits_for_a_slow_peer() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    _, writer = await sealed_streams(*client, contexts.client)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(bytes(10_000_000))
    draining = asyncio.create_task(writer.drain())
    await turns()
    assert not draining.done()
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    got, _ = await both(peer.receive(10_000_000), draining)
    assert got == bytes(10_000_000)


async def test_a_slow_reader_holds_little_and_loses_nothing() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    peer.writer.write(peer.seal(bytes(20_000_000)))
    peer.writer.close()
    await arrived(reader)
    assert len(reader._buffer) < 300_000  # type: ignore[attr-defined]
    assert await within(reader.readexactly(20_000_000)) == bytes(20_000_000)
    assert await within(reader.read()) == b""


async def test_a_slow_reader_over_tls_gets_all_that_came_before_the_end(tls: TLSContexts) -> None:
    contexts = context_pair()
    client, server = await stream_pair(tls)
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    peer.writer.write(peer.seal(bytes(2_000_000)))
    peer.writer.close()
    await arrived(reader)
    assert await within(reader.read()) == bytes(2_000_000)


async def test_a_pending_reader_gets_the_error() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, writer = await sealed_streams(*client, contexts.client)
    waiting = asyncio.create_task(reader.read())
    await turns()
    frame = bytearray(peer.seal(b"altered"))
    frame[5] ^= 1
    await peer.send_raw(bytes(frame))
    with pytest.raises(IntegrityError):
        await within(waiting)
    with pytest.raises(IntegrityError):
        writer.write(b"x")
    with pytest.raises(IntegrityError):
        await within(writer.wait_closed())


READS: dict[str, Callable[[asyncio.StreamReader], Awaitable[bytes]]] = {
    "read": lambda reader: reader.read(),
    "read some": lambda reader: reader.read(100),
    "readexactly": lambda reader: reader.readexactly(10),
    "readuntil": lambda reader: reader.readuntil(b"\n"),
    "readline": lambda reader: reader.readline(),
    "async for": lambda reader: anext(aiter(reader)),
}


@pytest.mark.parametrize("how", READS)
async def test_what_was_good_is_read_before_the_error(how: str) -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, writer = await sealed_streams(*client, contexts.client)
    await peer.send_raw(peer.seal(b"a line\n", b"good") + bytes(4))
    while not writer.is_closing():
        await turns()
    assert await within(reader.readline()) == b"a line\n"
    if how == "read some":
        assert await within(reader.read(100)) == b"good"
    for _ in range(2):
        with pytest.raises(ProtocolError, match="length 0"):
            await within(READS[how](reader))
    with pytest.raises(ProtocolError, match="length 0"):
        await within(writer.drain())
    assert await within(reader.read(0)) == b""


async def test_a_reader_at_a_clean_end_is_as_asyncios() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    await peer.send(b"two\nlines")
    peer.writer.write_eof()
    assert [line async for line in reader] == [b"two\n", b"lines"]
    for read in (reader.readexactly(1), reader.readuntil()):
        with pytest.raises(asyncio.IncompleteReadError):
            await within(read)


async def test_asyncio_still_has_the_private_attribute_that_tells_an_end() -> None:
    """`StreamReader._eof` alone tells an end that was fed from one that was not."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"x")
    assert reader._eof is False  # type: ignore[attr-defined]
    reader.feed_eof()
    assert reader._eof is True  # type: ignore[attr-defined]
    assert not reader.at_eof()


async def test_asyncio_still_has_the_private_attribute_that_tells_a_task_that_waits() -> None:
    reader = asyncio.StreamReader()
    assert not is_awaited(reader)
    waiting = asyncio.create_task(reader.readline())
    await turns()
    assert is_awaited(reader)
    reader.feed_data(b"\n")
    assert await waiting == b"\n"
    assert not is_awaited(reader)


async def test_a_protocol_below_streams_is_upgraded_too() -> None:
    """`start_sasl` on the transport of streams: its old protocol is not told, as documented."""
    contexts, protocol = context_pair(), Recorder()
    client, server = await stream_pair()
    start_sasl(client[1].transport, protocol, contexts.client)  # type: ignore[arg-type]
    await Peer(server, contexts.server).send(b"x")
    await protocol.got(b"x")
