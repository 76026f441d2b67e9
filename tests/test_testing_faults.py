from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    move_on_after,
)
from anyio.abc import ByteStream

from saslwrap.errors import UsageError
from saslwrap.testing.checks import check_byte_stream
from saslwrap.testing.faults import (
    FAULTS,
    SEGMENTATIONS,
    AtOnce,
    Back,
    Chain,
    Cut,
    Delay,
    End,
    Fault,
    FaultyStream,
    FlipBit,
    HeadersAlone,
    InjectAt,
    OneOctet,
    Outcome,
    RandomSizes,
    Reflect,
    SplitHeaders,
    Stop,
    Swap,
    Wait,
    fault,
    segmentation,
)
from saslwrap.testing.streams import memory_stream_pair
from saslwrap.testing.tasks import cancel_at, run_both, settle
from tests.support import frame

pytestmark = pytest.mark.anyio

FRAMES = b"\0\0\0\3abc\0\0\0\1d\0\0\0\2ef"


def outcomes(fault: Fault, *chunks: bytes) -> list[Outcome]:
    """What comes of the chunks, and of the end behind them."""
    every = [outcome for chunk in chunks for outcome in fault.apply(chunk)]
    return [outcome for outcome in (*every, *fault.finish()) if outcome]


def pieces(fault: Fault, *chunks: bytes) -> list[bytes]:
    """The same, of a fault that does no more than pass octets on."""
    *octets, end = outcomes(fault, *chunks)
    assert end == End()
    assert all(isinstance(piece, bytes) for piece in octets)
    return [piece for piece in octets if isinstance(piece, bytes)]


async def waits_until_closed(stream: ByteStream) -> bool:
    """Whether nothing is received, and no end either, for as long as the stream is open."""

    async def close() -> None:
        await settle()
        await stream.aclose()

    received, _ = await run_both(stream.receive, close)
    return isinstance(received, ClosedResourceError)


@pytest.mark.parametrize("name", SEGMENTATIONS)
async def test_a_segmented_stream_keeps_the_contract(name: str) -> None:
    async def make_pair() -> tuple[ByteStream, ByteStream]:
        client, server = memory_stream_pair()
        return (
            FaultyStream(client, receiving=segmentation(name, 1), sending=segmentation(name, 2)),
            FaultyStream(server, receiving=segmentation(name, 3)),
        )

    await check_byte_stream(make_pair, volume=600)


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_segmentation_keeps_the_octets_and_repeats(name: str) -> None:
    chunks = FRAMES[:5], FRAMES[5:6], FRAMES[6:]
    first, second = (pieces(segmentation(name, seed=7), *chunks) for _ in range(2))
    assert first == second
    assert b"".join(first) == FRAMES


def test_one_octet_at_a_time() -> None:
    assert pieces(OneOctet(), b"abc", b"d") == [b"a", b"b", b"c", b"d"]


def test_headers_are_split_after_their_second_octet() -> None:
    split = [b"\0\0", b"\0\3abc\0\0", b"\0\1d\0\0", b"\0\2ef"]
    assert pieces(SplitHeaders(), FRAMES) == split
    assert pieces(SplitHeaders(), *(FRAMES[i : i + 1] for i in range(len(FRAMES)))) == [
        FRAMES[i : i + 1] for i in range(len(FRAMES))
    ]


def test_headers_come_alone() -> None:
    alone = [b"\0\0\0\3", b"abc", b"\0\0\0\1", b"d", b"\0\0\0\2", b"ef"]
    assert pieces(HeadersAlone(), FRAMES) == alone
    assert pieces(HeadersAlone(), FRAMES[:6], FRAMES[6:]) == [alone[0], b"ab", b"c", *alone[2:]]
    assert pieces(HeadersAlone(), b"\0\0\0\0\0\0\0\1x") == [bytes(4), b"\0\0\0\1", b"x"]


def test_random_sizes_follow_the_seed_and_the_limit() -> None:
    first, second = (pieces(RandomSizes(seed, largest=5), bytes(100)) for seed in (1, 2))
    assert first != second
    assert {len(piece) for piece in first[:-1]} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("chunks", [(b"abcdef",), (b"ab", b"cdef"), (b"abc", b"d", b"ef")])
def test_one_bit_is_flipped_wherever_the_chunks_end(chunks: tuple[bytes, ...]) -> None:
    assert b"".join(pieces(FlipBit(octet=3, bit=2), *chunks)) == b"abc`ef"


@pytest.mark.parametrize("chunks", [(b"abcdef",), (b"ab", b"cdef"), (b"abc", b"d", b"ef")])
def test_octets_are_injected_wherever_the_chunks_end(chunks: tuple[bytes, ...]) -> None:
    assert b"".join(pieces(InjectAt(3, b"++"), *chunks)) == b"abc++def"


def test_a_delay_waits_before_each_piece() -> None:
    assert outcomes(Delay(2.5), b"a", b"b") == [Wait(2.5), b"a", Wait(2.5), b"b", End()]
    first, second = (outcomes(Delay(2, seed=1), b"a", b"b") for _ in range(2))
    assert first == second
    waits = [outcome.seconds for outcome in first if isinstance(outcome, Wait)]
    assert len(set(waits)) == 2
    assert all(0 <= seconds < 2 for seconds in waits)


def test_what_is_stopped_does_not_end() -> None:
    assert outcomes(Stop(3), b"ab", b"cd", b"ef") == [b"ab", b"c"]
    assert outcomes(Stop(3), b"ab") == [b"ab", End()]


def test_what_is_cut_ends() -> None:
    assert outcomes(Cut(3), b"ab", b"cd")[:3] == [b"ab", b"c", End()]
    assert outcomes(Cut(0, reset=True), b"ab")[:1] == [End(reset=True)]


def test_a_chain_applies_one_after_the_other() -> None:
    assert pieces(Chain(FlipBit(0), OneOctet(), FlipBit(2)), b"aaa") == [b"`", b"a", b"`"]
    assert Chain(OneOctet(), AtOnce(turns=3)).turns == 3
    assert Chain().turns == 0


def test_a_chain_tells_the_end_to_each() -> None:
    assert pieces(Chain(Swap(), OneOctet()), frame(b"a")) == [b"\0", b"\0", b"\0", b"\1", b"a"]
    assert outcomes(Chain(Cut(6), Swap()), frame(b"a") * 2)[:3] == [frame(b"a"), b"\0", End()]
    assert outcomes(Chain(Stop(1), Delay(1)), b"ab") == [Wait(1), b"a"]
    assert outcomes(Chain(Cut(1, reset=True), Swap()), b"ab")[:1] == [End(reset=True)]
    assert outcomes(Chain(Delay(1), Reflect()), frame(b"a")) == [Wait(1), Back(frame(b"a")), End()]


async def test_at_once_waits_for_more() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server, receiving=AtOnce(turns=5))
    await client.send(b"x")
    assert (await cancel_at(5, stream.receive)).cancelled
    assert await stream.receive() == b"x"


@pytest.mark.parametrize(("reset", "error"), [(False, EndOfStream), (True, BrokenResourceError)])
@pytest.mark.parametrize("after", [0, 1, 4, 5])
async def test_a_receiver_is_cut_off(after: int, reset: bool, error: type[Exception]) -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server, receiving=Chain(OneOctet(), Cut(after, reset=reset)))
    await client.send(b"abcde")
    received = b""
    for _ in range(after):
        received += await stream.receive()
    assert received == b"abcde"[:after]
    for _ in range(2):
        with pytest.raises(error):
            await stream.receive()
    await stream.send(b"the other way goes on")
    assert await client.receive() == b"the other way goes on"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_sender_is_cut_off(reset: bool) -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(client, sending=Cut(3, reset=reset))
    with pytest.raises(BrokenResourceError):
        await stream.send(b"abcde")
    with pytest.raises(BrokenResourceError):
        await stream.send(b"")
    assert await server.receive() == b"abc"
    with pytest.raises(EndOfStream):
        await server.receive()
    if reset:
        with pytest.raises(BrokenResourceError):
            await server.send(b"x")
    else:
        await server.send(b"x")
        assert await stream.receive() == b"x"


@pytest.mark.parametrize("fault", [OneOctet, partial(Cut, 3)])
async def test_a_closed_stream_gives_nothing_of_what_it_holds(fault: Callable[[], Fault]) -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server, receiving=fault())
    await client.send(b"abc")
    assert await stream.receive(1) == b"a"
    await stream.aclose()
    with pytest.raises(ClosedResourceError):
        await stream.receive()
    with pytest.raises(ClosedResourceError):
        await stream.send(b"")


async def test_what_is_received_can_come_late_and_is_not_lost_by_a_cancelled_receive() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server, receiving=Delay(0.02))
    await client.send(b"late")
    received = b""
    while not received:
        with move_on_after(0.005):
            received = await stream.receive()
    assert received == b"late"


async def test_what_is_sent_can_come_late() -> None:
    client, server = memory_stream_pair()
    await FaultyStream(client, sending=Delay(0.001)).send(b"late")
    assert await server.receive() == b"late"


async def test_a_stopped_receiver_waits_past_the_end_until_it_is_closed() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server, receiving=Stop(3))
    await client.send(b"abcd")
    await client.aclose()
    assert await stream.receive() == b"abc"
    assert await waits_until_closed(stream)


async def test_what_is_sent_into_a_stopped_direction_is_lost_and_so_is_its_end() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(client, sending=Stop(3))
    for piece in (b"ab", b"cd", b"ef"):
        await stream.send(piece)
    await stream.send_eof()
    assert await server.receive() == b"abc"
    assert await waits_until_closed(server)


async def test_what_is_held_goes_out_with_the_end() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(client, sending=Swap())
    await stream.send(frame(b"held") + b"\0\0")
    assert client.under_way == 0
    await stream.send_eof()
    assert await server.receive() == frame(b"held") + b"\0\0"
    with pytest.raises(EndOfStream):
        await server.receive()


async def test_what_was_sent_comes_back_to_a_receiver_that_waits_and_to_one_that_comes() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(client, sending=Chain(Reflect(0), Reflect(0)))

    async def send() -> None:
        await settle()
        await stream.send(frame(b"one"))

    assert (await run_both(stream.receive, send))[0] == frame(b"one")
    await stream.send(frame(b"two"))
    await server.send(b"and the peer's")
    assert await stream.receive() == frame(b"two")
    assert await stream.receive() == b"and the peer's"
    assert client.under_way == 0


async def test_what_was_received_goes_back_to_the_peer() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(client, receiving=Reflect(0))
    await server.send(frame(b"one") + frame(b"two"))
    assert await stream.receive() == frame(b"two")
    assert await server.receive() == frame(b"one")


async def test_what_goes_back_to_the_peer_waits_for_what_is_being_sent() -> None:
    client, server = memory_stream_pair(capacity=8)
    stream = FaultyStream(client, receiving=Reflect(0))
    await server.send(frame(b"xy"))
    received = b""
    async with create_task_group() as tasks:
        tasks.start_soon(stream.send, b"uninterrupted")
        await settle()
        tasks.start_soon(stream.receive)
        while len(received) < 19:
            await settle()
            received += await server.receive()
        tasks.cancel_scope.cancel()
    assert received == b"uninterrupted" + frame(b"xy")


@pytest.mark.parametrize("names", [SEGMENTATIONS, FAULTS], ids=["segmentations", "faults"])
def test_the_same_name_and_seed_do_the_same(names: Mapping[str, object]) -> None:
    wire = b"".join(frame(bytes([number]) * 20) for number in range(8))
    for name in names:
        first, second = (outcomes(fault(name, seed=3), wire[:33], wire[33:]) for _ in range(2))
        assert first == second


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"delay"}))
def test_a_named_fault_does_harm_to_little_traffic_wherever_it_strikes(name: str) -> None:
    wire = b"".join(frame(bytes([number]) * 20) for number in range(5))
    made = [outcomes(fault(name, seed), wire) for seed in range(50)]
    passed_on = [b"".join(it for it in its if isinstance(it, bytes)) for its in made]
    assert wire not in passed_on
    assert len({str(it) for it in made}) > 2


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'dorp' is no name of these: whole, .*, drop, "):
        fault("dorp")
    with pytest.raises(UsageError, match="'drop' is no name of these: whole, one octet"):
        segmentation("drop")
