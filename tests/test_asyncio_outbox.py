from __future__ import annotations

import asyncio

import pytest

from saslwrap.asyncio import start_sasl
from saslwrap.asyncio.outbox import HOLD, Outbox
from saslwrap.errors import SASLError
from saslwrap.testing import context_pair
from tests.support import ToySealer, make_context
from tests.test_shells_support import (
    Peer,
    Recorder,
    loops,
    on_both_loops,
    plain,
    problems,
    turns,
    upgraded,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


class Below(asyncio.Transport):
    """Notes what is handed down, and in how many pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False
        self.high = 65536

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.high // 4, self.high


def make_outbox(*, high: int = 65536, at_once: bool = False) -> tuple[Outbox, Below]:
    below = Below()
    below.high = high
    outbox = Outbox(below, asyncio.get_running_loop())
    outbox.at_once = at_once
    return outbox, below


# by itself


async def test_what_is_written_in_a_turn_goes_in_one_piece_when_it_ends() -> None:
    outbox, below = make_outbox()
    for _ in range(2):
        for word in (b"one", b"two", b"three"):
            outbox.put(b"len" + word)
        assert not below.pieces
        await asyncio.sleep(0)
        assert below.pieces == [b"lenonelentwolenthree"]
        below.pieces.clear()


async def test_the_first_write_does_not_wait() -> None:
    outbox, below = make_outbox(at_once=True)
    outbox.put(b"one")
    assert below.pieces == [b"one"]
    outbox.put(b"two")
    assert below.pieces == [b"one"]
    outbox.at_once = True
    outbox.put(b"three")
    assert below.pieces == [b"one", b"twothree"]
    await turns()
    assert below.pieces == [b"one", b"twothree"]


@pytest.mark.parametrize(("high", "room"), [(1 << 20, HOLD), (HOLD, HOLD), (100, 100), (0, 0)])
async def test_no_more_waits_than_fits(high: int, room: int) -> None:
    outbox, below = make_outbox(high=high)
    outbox.put(bytes(room))
    assert not below.pieces
    outbox.put(b"x")
    assert below.pieces == [bytes(room) + b"x"]
    outbox.put(bytes(room + 1))
    assert below.pieces[1:] == [bytes(room + 1)]


async def test_the_limit_follows_that_of_the_transport() -> None:
    outbox, below = make_outbox()
    below.high = 0
    outbox.put(b"one")
    assert not below.pieces
    outbox.limits_changed()
    outbox.put(b"two")
    assert below.pieces == [b"onetwo"]


async def test_a_piece_is_the_transports_alone() -> None:
    """The guard: a transport that could not send it yet keeps it, and finds it as it was."""

    class Keeps(Below):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.kept = data

    below = Keeps()
    outbox = Outbox(below, asyncio.get_running_loop())
    outbox.at_once = False
    outbox.put(b"one")
    outbox.flush()
    outbox.put(b"two")
    assert below.kept == b"one"


async def test_a_transport_that_closes_gets_nothing_more() -> None:
    outbox, below = make_outbox()
    outbox.put(b"one")
    below.closed = True
    await turns()
    outbox.flush()
    assert not below.pieces


# under a transport


async def test_an_answer_goes_at_once() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    waiting: list[int] = []

    def answer() -> None:
        for _ in range(2):
            transport.write(b"answer")
            waiting.append(len(transport._wire.outbox._held))

    protocol.on_data = answer
    for _ in range(2):
        await peer.send(b"question")
        assert await peer.receive(12) == b"answeranswer"
    assert waiting == [0, 4 + 6 + 16] * 2


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
async def test_what_waits_goes_out_before_the_end(end: str) -> None:
    transport, peer = await upgraded(Recorder())
    for word in (b"one ", b"two ", b"three"):
        transport.write(word)
    getattr(transport, end)()
    assert not transport._wire.outbox._held
    assert await peer.receive(13) == b"one two three"
    assert await peer.end() == b""


async def test_what_is_queued_is_below() -> None:
    transport, peer = await upgraded(Recorder())
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    transport.write(bytes(10_000_000))
    before = transport.get_write_buffer_size()
    transport.write(b"x")
    assert transport.get_write_buffer_size() == before + 4 + 1 + 16


async def test_without_a_buffer_no_write_waits() -> None:
    transport, _ = await upgraded(Recorder())
    transport.write(b"one")
    transport.write(b"two")
    assert transport._wire.outbox._held
    transport.set_write_buffer_limits(0)
    transport.write(b"three")
    assert not transport._wire.outbox._held


async def test_a_failure_takes_nothing_back_that_was_sealed_before() -> None:
    sealer = ToySealer()
    below, streams = await plain()
    transport = start_sasl(below, Recorder(), make_context(sealer))
    transport.write(b"one")
    transport.write(b"two")

    def fail() -> None:
        raise SASLError("the numbers are used up")

    sealer.on_call = fail
    with pytest.raises(SASLError, match="used up"):
        transport.write(b"three")
    peer = Peer(streams, make_context())
    assert await peer.end() == b"onetwo"


async def test_a_rebind_does_not_overtake_the_old_layers_frames() -> None:
    transport, peer = await upgraded(Recorder())
    anew = context_pair("3des")
    for word in (b"one ", b"two ", b"three"):
        transport.write(word)
    transport.rebind(anew.client)
    transport.write(b"under the new")
    assert await peer.receive(13) == b"one two three"
    renewed = Peer((peer.reader, peer.writer), anew.server)
    renewed.layer.receive_data(peer.layer.unread())
    assert await renewed.receive(13) == b"under the new"
