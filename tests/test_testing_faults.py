from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ByteStream

from saslwrap.testing.checks import check_byte_stream
from saslwrap.testing.faults import (
    SEGMENTATIONS,
    AtOnce,
    Chain,
    Cut,
    Fault,
    FaultyStream,
    FlipBit,
    OneOctet,
    RandomSizes,
    SplitHeaders,
    segmentation,
)
from saslwrap.testing.streams import memory_stream_pair
from saslwrap.testing.tasks import cancel_at

pytestmark = pytest.mark.anyio

FRAMES = b"\0\0\0\3abc\0\0\0\1d\0\0\0\2ef"


def pieces(fault: Fault, *chunks: bytes) -> list[bytes]:
    return [piece for chunk in chunks for piece in fault.apply(chunk) if piece]


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


def test_random_sizes_follow_the_seed_and_the_limit() -> None:
    first, second = (pieces(RandomSizes(seed, largest=5), bytes(100)) for seed in (1, 2))
    assert first != second
    assert {len(piece) for piece in first[:-1]} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("chunks", [(b"abcdef",), (b"ab", b"cdef"), (b"abc", b"d", b"ef")])
def test_one_bit_is_flipped_wherever_the_chunks_end(chunks: tuple[bytes, ...]) -> None:
    assert b"".join(pieces(FlipBit(octet=3, bit=2), *chunks)) == b"abc`ef"


def test_a_chain_applies_one_after_the_other() -> None:
    assert pieces(Chain(FlipBit(0), OneOctet(), FlipBit(2)), b"aaa") == [b"`", b"a", b"`"]
    assert Chain(OneOctet(), AtOnce(turns=3)).turns == 3
    assert Chain().turns == 0


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
