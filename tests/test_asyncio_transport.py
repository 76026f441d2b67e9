"""The asyncio transport: data, ends, what it tells, and logins."""

from __future__ import annotations

import asyncio

import pytest

from saslwrap.asyncio import start_sasl
from saslwrap.errors import IntegrityError, ProtocolError, TruncatedStreamError, UsageError
from saslwrap.testing import PROTECTIONS, context_pair
from tests.asyncio_transports import altered, both_kinds, over_what, tls_or_tcp, wire_of
from tests.conftest import TLSContexts
from tests.test_shells_support import (
    AnyRecorder,
    Peer,
    Recorder,
    loops,
    on_both_loops,
    plain,
    problems,
    turns,
    upgraded,
)

__all__ = ["loops", "problems", "tls_or_tcp"]

pytestmark = on_both_loops


@both_kinds
@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_data_of_any_size_goes_both_ways(kind: type[AnyRecorder], protection: str) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol, protection)
    for size in (1, 999, 1000, 1001, 65536, 150_000):
        data = bytes(i % 251 for i in range(size))
        transport.write(data)
        assert await peer.receive(size) == data
        await peer.send(data)
        await protocol.got(data)
        protocol.data.clear()
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events.strip("d") == "el"


@both_kinds
async def test_what_was_received_past_the_login_comes_first(kind: type[AnyRecorder]) -> None:
    contexts = context_pair()
    plain_transport, streams = await plain()
    peer, protocol = Peer(streams, contexts.server), kind()
    wire = peer.seal(b"one", b"two", b"three")
    start_sasl(plain_transport, protocol, contexts.client, received=wire[:-3])
    assert not protocol.data, "called back before start_sasl returned"
    await protocol.got(b"onetwo")
    await peer.send_raw(wire[-3:])
    await protocol.got(b"onetwothree")
    await peer.close()
    assert await protocol.lost() is None


async def test_the_old_protocol_hears_nothing_more() -> None:
    transport, streams = await plain()
    former = transport.get_protocol()
    assert isinstance(former, Recorder)
    contexts, protocol = context_pair(), Recorder()
    start_sasl(transport, protocol, contexts.client)
    await Peer(streams, contexts.server).send(b"x")
    await protocol.got(b"x")
    transport.close()
    await protocol.lost()
    assert former.events == "m"
    assert "m" not in protocol.events


async def test_frames_are_delivered_one_by_one() -> None:
    protocol = Recorder()
    _, peer = await upgraded(protocol)
    await peer.send(b"one", b"two", b"three")
    await protocol.got(b"onetwothree")
    assert protocol.chunks == [b"one", b"two", b"three"]


class Chunks(asyncio.StreamReaderProtocol):
    """asyncio's own, with a look at what it is given."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)
        self.chunks: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        super().data_received(data)


async def test_a_stream_reader_gets_frames_together() -> None:
    contexts, protocol = context_pair(), Chunks()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    wire = peer.seal(b"one", b"two", *[bytes(1000)] * 20)
    transport = start_sasl(below, protocol, contexts.client, received=wire[:-3])
    assert await protocol.reader.readexactly(19_006) == b"onetwo" + bytes(19_000)
    assert [len(chunk) for chunk in protocol.chunks] == [17_006, 2000]
    with transport.one_by_one():
        await peer.send_raw(wire[-3:] + peer.seal(b"one", b"two"))
        assert await protocol.reader.readexactly(1000) == bytes(1000)
        await turns()
        assert len(protocol.chunks[2:]) == 1
    assert await protocol.reader.readexactly(6) == b"onetwo"
    assert protocol.chunks[3:] == [b"onetwo"]


async def test_a_stream_reader_gets_what_precedes_a_failure() -> None:
    contexts, protocol = context_pair(), Chunks()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    wire = peer.seal(b"good ", b"too") + altered(peer) + peer.seal(b"behind")
    start_sasl(below, protocol, contexts.client, received=wire)
    with pytest.raises(IntegrityError):
        await protocol.reader.read()
    assert protocol.chunks == [b"good too"]


async def test_write_takes_any_buffer_and_nothing_of_nothing() -> None:
    transport, peer = await upgraded(Recorder())
    for data in (b"", bytearray(b"ab"), memoryview(b"cd"), memoryview(b"efgh").cast("I")):
        transport.write(data)
    transport.writelines([b"ij", bytearray(b"k"), memoryview(b"l"), b""])
    transport.writelines([])
    assert await peer.receive(12) == b"abcdefghijkl"
    with pytest.raises(TypeError):
        transport.write("text")  # type: ignore[arg-type]


async def test_writelines_seals_once() -> None:
    transport, peer = await upgraded(Recorder(), "auth-int")
    transport.writelines([b"a"] * 100)
    transport.close()
    async with asyncio.timeout(10):
        assert len(await peer.reader.read()) == 4 + 100 + 16


async def test_write_eof_leaves_the_other_direction_open() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    assert transport.can_write_eof()
    transport.write(b"last words")
    transport.write_eof()
    transport.write_eof()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"x")
    assert await peer.end() == b"last words"
    await peer.send(b"answer")
    await protocol.got(b"answer")
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events == "del"


async def test_a_protocol_that_keeps_open_at_eof_still_writes() -> None:
    protocol = Recorder()
    protocol.keep_open = True
    transport, peer = await upgraded(protocol)
    await peer.send(b"question")
    peer.writer.write_eof()
    await protocol.until(lambda: "e" in protocol.events)
    transport.pause_reading()  # and on, which reads the end once more below
    transport.resume_reading()
    await turns()
    transport.write(b"answer")
    transport.close()
    assert await peer.end() == b"answer"
    assert await protocol.lost() is None
    assert protocol.events == "del"


@over_what
async def test_close_sends_what_is_queued(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.write(bytes(1_000_000))
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert not transport.is_reading()
    transport.write(b"never")
    assert await peer.end() == bytes(1_000_000)
    peer.writer.close()
    assert await protocol.lost() is None
    transport.write(b"never")
    transport.abort()
    assert transport.get_extra_info("sasl") is wire_of(transport).layer.context


@over_what
async def test_nothing_is_delivered_after_close(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.close
    await peer.send(b"one", b"two", b"three")
    await protocol.until(lambda: protocol.data)
    await peer.send(b"four")
    peer.writer.close()
    await protocol.lost()  # TLS may find fault with the fourth
    assert protocol.events == "dl"


@over_what
async def test_abort_drops_what_is_queued(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    transport.write(bytes(10_000_000))
    transport.abort()
    transport.abort()
    assert await protocol.lost() is None
    assert protocol.events.replace("p", "") == "l"


async def test_abort_in_a_callback_ends_the_burst() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.abort
    await peer.send(b"one", b"two")
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_the_keys_are_dropped_with_the_connection() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    context = transport.get_extra_info("sasl")
    await peer.close()
    await protocol.lost()
    with pytest.raises(UsageError, match="closed"):
        context.seal(b"x")


async def test_closing_the_transport_below_ends_it_too() -> None:
    protocol = Recorder()
    transport, _ = await upgraded(protocol)
    wire_of(transport).transport.close()
    assert await protocol.lost() is None


async def test_closing_the_transport_below_does_not_wait_for_an_application_that_pauses() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two")
    await protocol.got(b"one")
    wire_of(transport).transport.close()
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_closing_the_transport_below_in_mid_frame_is_truncation() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    await peer.send_raw(peer.seal(b"whole") + peer.seal(b"cut off")[:-1])
    await protocol.got(b"whole")
    wire_of(transport).transport.close()
    assert isinstance(await protocol.lost(), TruncatedStreamError)


async def test_it_tells_about_itself_and_what_is_below() -> None:
    protocol = Recorder()
    contexts = context_pair("3des")
    transport, peer = await upgraded(protocol, contexts)
    assert transport.get_extra_info("sasl") is contexts.client
    assert transport.get_extra_info("peername") == peer.writer.get_extra_info("sockname")
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", 7) == 7
    assert transport.get_protocol() is protocol
    assert transport.is_reading()
    assert not transport.is_closing()
    assert repr(transport).startswith("<SASLTransport <SecurityLayer over <SecurityContext DIGEST")


@both_kinds
async def test_a_layer_over_tls(kind: type[AnyRecorder], tls: TLSContexts) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol, tls=tls)
    for size in (1, 20_000, 300_000):
        transport.write(bytes(size))
        assert await peer.receive(size) == bytes(size)
        await peer.send(bytes(size))
        await protocol.got(bytes(size))
        protocol.data.clear()
    assert transport.get_extra_info("cipher")
    await peer.close()
    assert await protocol.lost() is None
    transport.close()
    assert transport.get_extra_info("sslcontext") is tls.client


async def test_tls_cannot_be_half_closed(tls: TLSContexts) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    transport, peer = await upgraded(protocol, tls=tls)
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        transport.write_eof()
    transport.write(b"still open")
    assert await peer.receive(10) == b"still open"
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events == "el"


async def test_a_rebind_frame_by_frame() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    anew = context_pair("3des")
    renewed = Peer((peer.reader, peer.writer), anew.server)

    def switch() -> None:
        if protocol.data == b"success":
            transport.rebind(anew.client)

    protocol.on_data = switch
    with transport.one_by_one():
        await peer.send_raw(peer.seal(b"success") + renewed.seal(b"under ", b"the new"))
        await protocol.until(lambda: protocol.data)
        await turns()
        assert protocol.data == b"success"
        assert not transport.is_reading()
    await protocol.got(b"successunder the new")
    assert transport.get_extra_info("sasl") is anew.client
    transport.write(b"answer")
    assert await renewed.receive(6) == b"answer"


async def test_a_rebind_with_data_of_the_old_layer_breaks_the_connection() -> None:
    protocol = Recorder()
    transport, _ = await upgraded(protocol)
    with pytest.raises(ProtocolError, match="old layer"):
        transport.rebind(context_pair().client, trailing_data=b"x")
    error = await protocol.lost()
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError, match="old layer"):
        transport.write(b"x")
