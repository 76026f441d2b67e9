"""The anyio stream: the contract, the end, attributes and amounts."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from anyio import (
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    TypedAttributeLookupError,
    create_memory_object_stream,
    create_task_group,
    fail_after,
)
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.tls import TLSAttribute, TLSStream

from saslwrap.anyio import SASLAttribute, SASLStream
from saslwrap.errors import FrameTooLargeError, UsageError
from saslwrap.layer import ClearLayer, SecurityLayer
from saslwrap.properties import QOP
from saslwrap.testing import PROTECTIONS, context_pair
from saslwrap.testing.checks import check_byte_stream
from saslwrap.testing.faults import SEGMENTATIONS, FaultyStream, segmentation
from saslwrap.testing.streams import MemoryStream, StreamPair, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import CancelledRun, cancel_at, cancel_at_each, run_both, settle
from tests.anyio_bench import WITH_AND_WITHOUT, broken, make_bench, sealed
from tests.conftest import TLSContexts, talk, tcp_pair
from tests.layer_reads import NO_SIZES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("protection", WITH_AND_WITHOUT)
async def test_the_contract_holds_in_memory(protection: str) -> None:
    async def make_pair() -> StreamPair:
        return stream_pair(protection)

    await check_byte_stream(make_pair, volume=150_000)


@pytest.mark.parametrize("protection", WITH_AND_WITHOUT)
async def test_the_contract_holds_over_tcp(protection: str) -> None:
    async def make_pair() -> StreamPair:
        return stream_pair(protection, transports=await tcp_pair())

    await check_byte_stream(make_pair, volume=500_000)


@pytest.mark.parametrize("name", SEGMENTATIONS)
@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_the_contract_holds_under_any_segmentation(protection: str, name: str) -> None:
    async def make_pair() -> StreamPair:
        client, server = memory_stream_pair()
        both_ways = FaultyStream(
            client, receiving=segmentation(name, 1), sending=segmentation(name, 2)
        )
        transports = both_ways, FaultyStream(server, receiving=segmentation(name, 3))
        return stream_pair(protection, transports=transports)

    await check_byte_stream(make_pair, volume=300)


async def tls_pair(tls: TLSContexts) -> tuple[TLSStream, TLSStream]:
    client, server = memory_stream_pair()
    wrap = partial(TLSStream.wrap, standard_compatible=False)
    ends = await run_both(
        partial(wrap, client, hostname="localhost", ssl_context=tls.client),
        partial(wrap, server, server_side=True, ssl_context=tls.server),
    )
    assert isinstance(ends[0], TLSStream)
    assert isinstance(ends[1], TLSStream)
    return ends[0], ends[1]


async def test_the_contract_holds_over_tls(tls: TLSContexts) -> None:
    async def make_pair() -> StreamPair:
        return stream_pair("rc4", transports=await tls_pair(tls))

    await check_byte_stream(make_pair, half_close=False, volume=150_000)


async def test_send_eof_ends_one_direction() -> None:
    pair = stream_pair()
    await pair.client.send(b"last words")
    await pair.client.send_eof()
    await pair.client.send_eof()
    with pytest.raises(ClosedResourceError):
        await pair.client.send(b"x")
    assert await pair.server.receive() == b"last words"
    with pytest.raises(EndOfStream):
        await pair.server.receive()
    await pair.server.send(b"answer")
    assert await pair.client.receive() == b"answer"
    await pair.client.aclose()
    with pytest.raises(ClosedResourceError):
        await pair.client.send_eof()


async def test_send_eof_waits_for_no_sender() -> None:
    bench = make_bench(capacity=10)
    with CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(bench.stream.send, b"x" * 100)
            await settle()
            with pytest.raises(BusyResourceError):
                await bench.stream.send_eof()
            scope.cancel()


class NoHalfClose(MemoryStream):
    """As `TLSStream`."""

    async def send_eof(self) -> None:
        raise NotImplementedError


async def test_a_transport_without_half_close_says_so_and_goes_on() -> None:
    client, server = memory_stream_pair()
    client.__class__ = NoHalfClose
    pair = stream_pair(transports=(client, server))
    for _ in range(2):
        with pytest.raises(NotImplementedError):
            await pair.client.send_eof()
    await talk(pair.client, pair.server)


async def test_a_cancelled_send_eof_can_be_repeated() -> None:
    async def attempt(n: int) -> CancelledRun[None]:
        pair = stream_pair()
        run = await cancel_at(n, pair.client.send_eof)
        await pair.client.send_eof()
        with fail_after(1), pytest.raises(EndOfStream):
            await pair.server.receive()
        return run

    assert len(await cancel_at_each(attempt)) > 1


async def test_closing_drops_the_keys() -> None:
    bench = make_bench()
    await bench.stream.aclose()
    assert bench.transport.closed
    with pytest.raises(UsageError, match="closed"):
        bench.context.seal(b"x")


async def test_a_context_that_its_owner_closed_is_a_usage_error() -> None:
    bench = make_bench()
    bench.context.close()
    with pytest.raises(UsageError, match="closed"):
        await bench.stream.send(b"x")
    with pytest.raises(UsageError, match="closed"):
        await bench.stream.receive()
    assert not bench.transport.closed


@pytest.mark.parametrize("protection", ["auth", "rc4"])
@pytest.mark.parametrize("size", NO_SIZES)
async def test_at_least_one_octet_has_to_be_asked_for(protection: str, size: Any) -> None:
    pair = stream_pair(protection)
    await pair.client.send(b"xyz")
    assert await pair.server.receive(1) == b"x"
    with pytest.raises(UsageError, match="max_bytes"):
        await pair.server.receive(size)
    assert await pair.server.receive() == b"yz"


@pytest.mark.parametrize("protection", ["auth", "rc4"])
async def test_unwrap_gives_transport_and_layer_alive(protection: str) -> None:
    transport, wire = memory_stream_pair()
    pair = stream_pair(protection, transports=(transport, wire))
    for text in (b"one", b"two", b"three"):
        await pair.server.send(text)
    assert await pair.client.receive(1) == b"o"
    below, layer = pair.client.unwrap()
    assert below is transport
    assert not transport.closed
    assert isinstance(layer, ClearLayer if protection == "auth" else SecurityLayer)
    assert b"".join(iter(layer.read, b"")) == b"netwothree"
    await below.send(b"".join(layer.send_data(b"four")))
    assert await pair.server.receive() == b"four"
    calls: list[Callable[[], Awaitable[object]]] = [
        partial(pair.client.send, b"x"),
        pair.client.receive,
        pair.client.send_eof,
    ]
    for call in calls:
        with pytest.raises(ClosedResourceError):
            await call()
    with pytest.raises(ClosedResourceError):
        pair.client.unwrap()


async def test_unwrap_leaves_what_is_not_unsealed_in_the_layer() -> None:
    bench = make_bench()
    wire = sealed(bench, b"one", b"two")
    await bench.wire.send(wire[:-1])
    assert await bench.stream.receive() == b"one"
    _, layer = bench.stream.unwrap()
    assert layer.read() == b""
    assert layer.unread() == wire[len(wire) // 2 : -1]


async def test_closing_after_unwrap_leaves_what_was_given_away() -> None:
    bench = make_bench()
    async with bench.stream:
        transport, layer = bench.stream.unwrap()
    assert transport is bench.transport
    assert not bench.transport.closed
    await transport.send(b"".join(layer.send_data(b"x")))


async def test_unwrap_waits_for_nobody() -> None:
    bench = make_bench()
    async with create_task_group() as tasks:
        tasks.start_soon(bench.stream.receive)
        await settle()
        with pytest.raises(BusyResourceError):
            bench.stream.unwrap()
        tasks.cancel_scope.cancel()
    await bench.stream.aclose()
    with pytest.raises(ClosedResourceError):
        bench.stream.unwrap()


@pytest.mark.parametrize("cut", [1, 4, 10, None])
async def test_what_was_received_before_goes_through_the_layer(cut: int | None) -> None:
    transport, wire = memory_stream_pair()
    contexts = context_pair()
    frames = b"".join(SecurityLayer(contexts.server).send_data(b"pipelined"))
    stream = SASLStream(transport, contexts.client, received=frames[:cut])
    await wire.send(frames[len(frames[:cut]) :])
    assert await stream.receive() == b"pipelined"


async def test_what_was_received_before_is_plaintext_without_a_layer() -> None:
    transport, wire = memory_stream_pair()
    stream = SASLStream(transport, None, received=b"early ")
    await wire.send(b"late")
    assert await stream.receive() == b"early "
    assert await stream.receive() == b"late"


async def test_plaintext_that_was_received_before_fails_in_the_layer() -> None:
    bench = make_bench(received=b"* injected\r\n")
    assert isinstance(await broken(bench.stream.receive), FrameTooLargeError)


class Named(MemoryStream):
    name = object()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {self.name: lambda: "the transport"}


def named_pair(protection: str) -> StreamPair:
    client, server = memory_stream_pair()
    client.__class__ = Named
    return stream_pair(protection, transports=(client, server))


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_attributes_tell_the_layer_and_the_transport(protection: str) -> None:
    stream = named_pair(protection).client
    context = stream.extra(SASLAttribute.context)
    assert context is not None
    assert stream.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
    if protection == "auth-int":
        assert stream.extra(SASLAttribute.qop) == QOP.AUTH_INT
        assert stream.extra(SASLAttribute.cipher) is None
        assert stream.extra(SASLAttribute.ssf) == 1
    else:
        assert stream.extra(SASLAttribute.qop) == QOP.AUTH_CONF
        assert stream.extra(SASLAttribute.cipher) == protection
        assert stream.extra(SASLAttribute.ssf) == context.ssf > 1
    assert stream.extra(SASLAttribute.stream_sizes) == context.stream_sizes
    assert stream.extra(Named.name) == "the transport"


async def test_attributes_without_a_layer() -> None:
    stream = named_pair("auth").client
    assert stream.extra(SASLAttribute.context) is None
    assert stream.extra(SASLAttribute.ssf) == 0
    assert stream.extra(Named.name) == "the transport"
    absent = (SASLAttribute.qop, SASLAttribute.cipher, SASLAttribute.stream_sizes)
    for attribute in (*absent, SASLAttribute.mechanism, SASLAttribute.authcid):
        with pytest.raises(TypedAttributeLookupError):
            stream.extra(attribute)


async def test_attributes_of_tls_and_tcp_show_through(tls: TLSContexts) -> None:
    over_tls = stream_pair(transports=await tls_pair(tls))
    assert over_tls.client.extra(TLSAttribute.tls_version).startswith("TLSv1.")
    over_tcp = stream_pair(transports=await tcp_pair())
    assert over_tcp.client.extra(SocketAttribute.remote_address)[0] == "127.0.0.1"
    for stream in (*over_tls, *over_tcp):
        await stream.aclose()


async def test_repr_shows_the_layer_and_no_key() -> None:
    bench = make_bench()
    shown = (
        "<SASLStream <SecurityLayer over <SecurityContext DIGEST-MD5 auth-conf rc4 ssf=128{}>>{}>"
    )
    assert repr(bench.stream) == shown.format("", "")
    await bench.stream.aclose()
    assert repr(bench.stream) == shown.format(" closed", " closed")
    assert repr(stream_pair("auth").client) == "<SASLStream <ClearLayer>>"


async def test_a_paused_reader_piles_up_no_plaintext_and_stops_the_writer() -> None:
    transport, wire = memory_stream_pair(capacity=20_000)
    pair = stream_pair(client_maxbuf=1000, transports=(transport, wire))
    data = bytes(range(256)) * 1000
    context = pair.server.extra(SASLAttribute.context)
    assert context is not None
    async with create_task_group() as tasks:
        tasks.start_soon(pair.server.send, data)
        assert await pair.client.receive(1) == data[:1]
        await settle()
        assert wire.under_way == 20_000
        _, layer = pair.client.unwrap()
        waiting = layer.read(1 << 30)
        assert waiting
        assert len(waiting) < context.stream_sizes.maximum_message
        assert len(layer.unread()) < 2 * 20_000
        tasks.cancel_scope.cancel()


async def test_large_data_is_split_at_the_maximum_message() -> None:
    transport, wire = memory_stream_pair()
    pair = stream_pair(client_maxbuf=100, transports=(transport, wire))
    context = pair.server.extra(SASLAttribute.context)
    assert context is not None
    maximum = context.stream_sizes.maximum_message
    await pair.server.send(bytes(2 * maximum + 1))
    sizes = [len(await pair.client.receive()) for _ in range(3)]
    assert sizes == [maximum, maximum, 1]


@pytest.mark.parametrize("protection", ["auth", "rc4"])
async def test_any_buffer_can_be_sent(protection: str) -> None:
    pair = stream_pair(protection)
    numbers = array("I", [1, 2, 3])
    buffers: Iterator[Any] = iter(
        (bytearray(b"abc"), memoryview(b"abcdef")[::2], numbers, memoryview(numbers))
    )
    for buffer in buffers:
        await pair.client.send(buffer)
        assert await pair.server.receive() == memoryview(buffer).tobytes()


async def test_the_transport_may_carry_objects() -> None:
    to_server, at_server = create_memory_object_stream[bytes](9)
    to_client, at_client = create_memory_object_stream[bytes](9)
    pair = stream_pair(
        transports=(
            StapledObjectStream(to_server, at_client),
            StapledObjectStream(to_client, at_server),
        )
    )
    await talk(pair.client, pair.server)
    await pair.client.aclose()
    with pytest.raises(EndOfStream):
        await pair.server.receive()
    await pair.server.aclose()


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    pair = stream_pair()
    await talk(pair.client, pair.server)
    await pair.client.aclose()
    assert not [r for r in caplog.records if r.name.startswith("saslwrap")]


async def test_every_call_is_a_checkpoint() -> None:
    pair = stream_pair()
    await pair.server.send(b"three")
    assert await pair.client.receive(1) == b"t"
    calls: list[Callable[[], Awaitable[object]]] = [
        partial(pair.client.send, b""),
        partial(pair.client.send, b"x"),
        pair.client.receive,  # it is decoded already
        pair.client.aclose,
    ]
    for call in calls:
        suspended = await run_both(partial(cancel_at, 1, call), checkpoint)
        assert not isinstance(suspended[0], Exception), call
        assert suspended[0].reached, call


async def test_it_is_a_byte_stream() -> None:
    assert isinstance(stream_pair().client, ByteStream)
