"""The anyio stream and a peer that can do wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
)

from saslwrap.anyio import SASLStream
from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.testing import PROTECTIONS
from saslwrap.testing.faults import Cut, FaultyStream, FlipBit
from saslwrap.testing.streams import MemoryStream, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import run_both, settle
from tests.anyio_bench import Bench, broken, make_bench, sealed
from tests.conftest import talk

pytestmark = pytest.mark.anyio


def tampered(bench: Bench) -> bytes:
    frame = bytearray(sealed(bench, b"tampered"))
    frame[6] ^= 1
    return bytes(frame)


def replayed(bench: Bench) -> bytes:
    return 2 * sealed(bench, b"once")


def frame(token: bytes) -> bytes:
    return len(token).to_bytes(4, "big") + token


def nothing_in_it(bench: Bench) -> bytes:
    return b"".join(frame(bench.peer.context.seal(b"")) for _ in range(33))


WIRE_FAULTS: dict[str, tuple[Callable[[Bench], bytes], type[SASLError], bytes]] = {
    "tampered": (tampered, IntegrityError, b""),
    "replayed": (replayed, OutOfSequenceError, b"once"),
    "too large": (lambda bench: b"\0\1\0\1", FrameTooLargeError, b""),
    "empty": (lambda bench: bytes(4), ProtocolError, b""),
    "cleartext": (lambda bench: b"* OK\r\n", FrameTooLargeError, b""),
    "nothing in it": (nothing_in_it, ProtocolError, b""),
}


@pytest.mark.parametrize("name", WIRE_FAULTS)
async def test_a_wire_fault_comes_after_earlier_plaintext_and_stays(name: str) -> None:
    make, kind, more = WIRE_FAULTS[name]
    bench = make_bench()
    await bench.wire.send(sealed(bench, b"good ", b"news ") + make(bench))
    plaintext = b"good news " + more
    received = b""
    while len(received) < len(plaintext):
        received += await bench.stream.receive(3)
    assert received == plaintext
    assert not bench.transport.closed
    first = await broken(bench.stream.receive)
    assert type(first) is kind
    assert bench.transport.closed
    calls: list[Callable[[], Awaitable[object]]] = [
        bench.stream.receive,
        partial(bench.stream.send, b"x"),
        partial(bench.stream.send, b""),
    ]
    for call in calls:
        again = await broken(call)
        assert again is not first
        assert (type(again), str(again)) == (type(first), str(first))
    with pytest.raises(EndOfStream):
        await bench.wire.receive()
    await bench.stream.aclose()
    with pytest.raises(ClosedResourceError):
        await bench.stream.receive()


async def test_a_failure_of_the_sealing_side_closes_too() -> None:
    bench = make_bench()
    await bench.wire.send(sealed(bench, b"good news"))
    assert await bench.stream.receive(4) == b"good"
    bench.context.fail(OutOfSequenceError())
    assert type(await broken(partial(bench.stream.send, b"x"))) is OutOfSequenceError
    assert bench.transport.closed
    assert await bench.stream.receive() == b" news"
    assert type(await broken(bench.stream.receive)) is OutOfSequenceError


async def test_an_end_at_a_frame_border_is_clean_and_elsewhere_truncation() -> None:
    whole = len(sealed(make_bench(), b"frame"))
    for cut in range(whole + 1):
        bench = make_bench()
        await bench.wire.send(sealed(bench, b"frame")[:cut])
        await bench.wire.send_eof()
        if cut == whole:
            assert await bench.stream.receive() == b"frame"
        if cut in (0, whole):
            for _ in range(2):
                with pytest.raises(EndOfStream):
                    await bench.stream.receive()
            await bench.stream.send(b"the other way goes on")
        else:
            for _ in range(2):
                assert type(await broken(bench.stream.receive)) is TruncatedStreamError
            assert bench.transport.closed


async def test_frames_without_content_are_no_empty_receive() -> None:
    bench = make_bench()
    frames = [frame(bench.peer.context.seal(text)) for text in (b"", b"", b"text")]
    await bench.wire.send(b"".join(frames))
    assert await bench.stream.receive() == b"text"


async def test_a_transport_that_breaks_is_passed_on() -> None:
    bench = make_bench()
    await bench.wire.aclose()
    with pytest.raises(BrokenResourceError) as caught:
        await bench.stream.send(b"x")
    assert caught.value.__cause__ is None


class BreaksOnce(MemoryStream):
    """As trio's sockets: a reset is reported once, and looks like an end from then on."""

    broke = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self.broke:
            raise EndOfStream
        self.broke = True
        raise BrokenResourceError


@pytest.mark.parametrize("protection", ["auth", "rc4"])
async def test_a_transport_that_broke_has_not_ended(protection: str) -> None:
    client, server = memory_stream_pair()
    client.__class__ = BreaksOnce
    pair = stream_pair(protection, transports=(client, server))
    for _ in range(3):
        with pytest.raises(BrokenResourceError):
            await pair.client.receive()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_stream_that_is_cut_gives_no_half_frame(protection: str, reset: bool) -> None:
    for after in (1, 4, 10):
        client, server = memory_stream_pair()
        cut = FaultyStream(server, receiving=Cut(after, reset=reset))
        pair = stream_pair(protection, transports=(client, cut))
        await pair.client.send(b"x" * 20)
        with pytest.raises(BrokenResourceError) as caught:
            await pair.server.receive()
        assert isinstance(caught.value.__cause__, TruncatedStreamError) is not reset


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_bit_that_flips_is_noticed(protection: str) -> None:
    for octet in (4, 12, 20):
        client, server = memory_stream_pair()
        flipped = FaultyStream(server, receiving=FlipBit(octet, bit=octet % 8))
        pair = stream_pair(protection, transports=(client, flipped))
        await pair.client.send(b"x" * 20)
        with pytest.raises(BrokenResourceError) as caught:
            await pair.server.receive()
        assert isinstance(caught.value.__cause__, IntegrityError)
        assert server.closed


async def cancelled_send(bench: Bench, data: bytes) -> None:
    with CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(bench.stream.send, data)
            await settle()
            scope.cancel()
    assert scope.cancelled_caught


async def test_after_half_a_send_writing_is_broken_and_reading_goes_on() -> None:
    bench = make_bench(capacity=50)
    await cancelled_send(bench, b"x" * 100)
    for _ in range(2):
        with pytest.raises(BrokenResourceError, match="cancelled or failed") as caught:
            await bench.stream.send(b"y")
        assert caught.value.__cause__ is None
    assert not bench.transport.closed
    await bench.wire.send(sealed(bench, b"good news"))
    assert await bench.stream.receive() == b"good news"
    await bench.stream.send_eof()
    bench.peer.receive_data(await bench.wire.receive())
    assert bench.peer.read() == b""
    with pytest.raises(EndOfStream):
        await bench.wire.receive()


async def test_after_a_failed_send_writing_is_broken() -> None:
    bench = make_bench()
    await bench.wire.aclose()
    with pytest.raises(BrokenResourceError):
        await bench.stream.send(b"x")
    with pytest.raises(BrokenResourceError, match="cancelled or failed"):
        await bench.stream.send(b"x")


async def test_without_a_layer_half_a_send_is_as_with_tcp() -> None:
    transport, wire = memory_stream_pair(capacity=2)
    stream = SASLStream(transport, None)
    with CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(stream.send, b"xyz")
            await settle()
            scope.cancel()
    assert await wire.receive() == b"xy"
    await stream.send(b"z")
    assert await wire.receive() == b"z"


async def test_a_send_that_was_cancelled_before_it_began_costs_nothing() -> None:
    pair = stream_pair()
    with CancelScope() as scope:
        scope.cancel()
        await pair.client.send(b"x")
    assert scope.cancelled_caught
    await talk(pair.client, pair.server)


async def test_a_receive_in_a_cancelled_scope_takes_nothing() -> None:
    pair = stream_pair()
    await pair.client.send(b"x")
    with CancelScope() as scope:
        scope.cancel()
        await pair.server.receive()
    assert scope.cancelled_caught
    assert await pair.server.receive() == b"x"


async def test_a_sender_that_waits_gets_the_layers_failure() -> None:
    bench = make_bench(capacity=50)

    async def fail() -> SASLError:
        await settle()
        await bench.wire.send(tampered(bench))
        return await broken(bench.stream.receive)

    sent, failure = await run_both(partial(bench.stream.send, b"x" * 100), fail)
    assert isinstance(failure, IntegrityError)
    assert isinstance(sent, BrokenResourceError)
    assert isinstance(sent.__cause__, IntegrityError)


async def test_a_receiver_that_waits_gets_the_layers_failure() -> None:
    bench = make_bench()

    async def fail() -> SASLError:
        await settle()
        bench.context.fail(IntegrityError())
        return await broken(partial(bench.stream.send, b"x"))

    received, failure = await run_both(bench.stream.receive, fail)
    assert isinstance(failure, IntegrityError)
    assert isinstance(received, BrokenResourceError)
    assert isinstance(received.__cause__, IntegrityError)


class ClosesBadly(MemoryStream):
    """As `TLSStream`, whose closing handshake can fail."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            raise BrokenResourceError("the closing handshake failed")


async def test_a_close_that_fails_does_not_hide_the_layers_failure() -> None:
    bench = make_bench()
    bench.transport.__class__ = ClosesBadly
    await bench.wire.send(tampered(bench))
    assert isinstance(await broken(bench.stream.receive), IntegrityError)
