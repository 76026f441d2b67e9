"""Attack list, group G, through the anyio shell: failures, rivals, cancellation at any point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from saslwrap.anyio import SASLStream
from saslwrap.errors import IntegrityError, TruncatedStreamError
from saslwrap.layer import SecurityLayer
from saslwrap.testing import context_pair
from tests.attacks.support import every_protection, frame, judge, wire

pytestmark = pytest.mark.anyio

PATIENCE = 20


class Transport(ByteStream):
    """Sends and receives a few octets at a time, and can cancel at any of those points.

    `inbound` is what will be received, `offered` what it was asked to send, `outbound` what of that
    was sent. At the `cancel_at`-th point from
    now `scope` is cancelled; `late` then lets what was received be returned all the same.
    """

    def __init__(self, inbound: bytes = b"", *, piece: int = 7) -> None:
        self.inbound = bytearray(inbound)
        self.offered = bytearray()
        self.outbound = bytearray()
        self.piece = piece
        self.points = 0
        self.cancel_at = math.inf
        self.late = False
        self.scope = anyio.CancelScope()
        self.send_stalls: anyio.Event | None = None
        self.receive_stalls: anyio.Event | None = None
        self.closed = False

    async def _point(self, stalled: anyio.Event | None) -> None:
        self.points += 1
        if stalled is not None:
            await stalled.wait()
        if self.points == self.cancel_at:
            self.scope.cancel()
            if self.late:
                return
        await checkpoint()

    async def send(self, item: bytes) -> None:
        self.offered += item
        if self.closed:
            raise anyio.ClosedResourceError
        for start in range(0, len(item), self.piece):
            await self._point(self.send_stalls)
            self.outbound += item[start : start + self.piece]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self.closed:
            raise anyio.ClosedResourceError
        await self._point(self.receive_stalls)
        if not self.inbound:
            raise anyio.EndOfStream
        piece = bytes(self.inbound[: self.piece])
        del self.inbound[: self.piece]
        return piece

    async def send_eof(self) -> None:
        await checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {}


def stream_pair(protection: str) -> tuple[SASLStream, Transport, SecurityLayer]:
    """A stream over a transport, and the layer at the other end."""
    client, server = context_pair(protection)
    transport = Transport()
    return SASLStream(transport, client), transport, SecurityLayer(server)


async def cancelled_at(point: int, transport: Transport, call: Callable[[], Any]) -> Any:
    """What `call` returns when it is cancelled at the transport's n-th point; None of nothing."""
    with anyio.CancelScope() as transport.scope:
        transport.cancel_at = transport.points + point
        if not point:
            transport.scope.cancel()
        return await call()


@every_protection
async def test_g1_stream_refuses_to_send_after_an_error(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: frames = self._layer.send_data(batch)"""
    stream, transport, _ = stream_pair(protection)
    transport.inbound += frame(bytes(22))
    with pytest.raises(anyio.BrokenResourceError) as first:
        await stream.receive()
    with pytest.raises(anyio.BrokenResourceError) as again:
        await stream.send(b"data")
    assert type(first.value.__cause__) is type(again.value.__cause__) is IntegrityError
    assert transport.offered == b""


@every_protection
async def test_g2_stream_closes_its_transport_on_an_error(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: await close_at_once(self._transport)"""
    stream, transport, peer = stream_pair(protection)
    transport.inbound += wire(peer, b"good")[0] + frame(bytes(22)) + wire(peer, b"behind")[0]
    assert await stream.receive() == b"good"
    for _ in range(3):
        with pytest.raises(anyio.BrokenResourceError) as caught:
            await stream.receive()
        assert type(caught.value.__cause__) is IntegrityError
    assert transport.closed


@every_protection
async def test_g2_stream_cut_inside_a_frame_is_no_end(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: self._layer.receive_eof()"""
    stream, transport, peer = stream_pair(protection)
    transport.inbound += wire(peer, b"cut off")[0][:-1]
    with anyio.fail_after(PATIENCE), pytest.raises(anyio.BrokenResourceError) as caught:
        await stream.receive()
    assert type(caught.value.__cause__) is TruncatedStreamError


@every_protection
async def test_g3_second_sending_task_is_refused(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: self._sending: Final = ResourceGuard("sending to")"""
    stream, transport, peer = stream_pair(protection)
    transport.send_stalls = anyio.Event()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, b"first")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError), anyio.move_on_after(0.2):
                await stream.send(b"intruder")
            transport.send_stalls.set()
        await stream.send(b"second")
    assert judge(peer, bytes(transport.outbound)).accepted == b"firstsecond"


@every_protection
async def test_g3_second_receiving_task_is_refused(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: self._receiving: Final = ResourceGuard("receiving from")"""
    stream, transport, peer = stream_pair(protection)
    transport.receive_stalls = anyio.Event()
    transport.inbound += wire(peer, b"first")[0]
    received = []

    async def receive() -> None:
        received.append(await stream.receive())

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError), anyio.move_on_after(0.2):
                await stream.receive()
            transport.receive_stalls.set()
    assert received == [b"first"]


@every_protection
async def test_g3_sender_and_receiver_are_at_work_together(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: self._receiving: Final = ResourceGuard("receiving from")"""
    stream, transport, peer = stream_pair(protection)
    transport.send_stalls = anyio.Event()
    transport.inbound += wire(peer, b"inbound")[0]
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, b"outbound")
            await anyio.wait_all_tasks_blocked()
            assert await stream.receive() == b"inbound"
            transport.send_stalls.set()
    assert judge(peer, bytes(transport.outbound)).accepted == b"outbound"


@every_protection
async def test_g4_send_cancelled_at_any_point_breaks_writing_and_not_reading(
    protection: str,
) -> None:
    """Guard: saslwrap/anyio/stream.py: self._half_sent = self._layer.context is not None"""
    point = 0
    while True:
        point += 1
        stream, transport, peer = stream_pair(protection)
        await cancelled_at(point, transport, lambda: stream.send(b"a message"))  # noqa: B023
        if transport.points < point:
            break  # it was over before
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send(b"more")
        assert len(transport.outbound) == 7 * (point - 1)
        transport.cancel_at = math.inf
        transport.inbound += wire(peer, b"still read")[0]
        assert await stream.receive() == b"still read"
    assert point > 3


@every_protection
async def test_g4_send_cancelled_before_it_began_breaks_nothing(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: await checkpoint_if_cancelled() await self._send(item)"""
    stream, transport, peer = stream_pair(protection)
    await cancelled_at(0, transport, lambda: stream.send(b"never sealed"))
    assert transport.outbound == b""
    await stream.send(b"sealed")
    assert judge(peer, bytes(transport.outbound)).accepted == b"sealed"


@pytest.mark.parametrize("late", [False, True])
@every_protection
async def test_g4_receive_cancelled_at_any_point_loses_nothing(protection: str, late: bool) -> None:
    """Guard: saslwrap/anyio/stream.py: self._layer.receive_data(chunk)"""
    point = -1
    while True:
        point += 1
        stream, transport, peer = stream_pair(protection)
        transport.late = late
        transport.inbound += wire(peer, b"the whole message")[0]
        received = await cancelled_at(point, transport, stream.receive) or b""
        finished = transport.points < point
        transport.cancel_at = math.inf
        while len(received) < 17:
            received += await stream.receive()
        assert received == b"the whole message"
        if finished:
            break
    assert point > 3


@every_protection
async def test_g4_receive_cancelled_with_plaintext_at_hand_loses_nothing(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: await cancel_shielded_checkpoint()"""
    stream, transport, peer = stream_pair(protection)
    transport.piece = 1000
    transport.inbound += b"".join(wire(peer, b"first", b"second"))
    assert await stream.receive() == b"first"
    received = []
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel)
        received.append(await stream.receive())
    assert received == [b"second"]


@every_protection
async def test_g5_stream_closes_without_a_word(protection: str) -> None:
    """Guard: saslwrap/anyio/stream.py: self._layer.context.close()"""
    stream, transport, peer = stream_pair(protection)
    await stream.send(b"the last words")
    context = stream._layer.context
    await stream.aclose()
    await stream.aclose()
    assert judge(peer, bytes(transport.outbound), eof=True).accepted == b"the last words"
    assert peer.at_eof
    for call in (lambda: stream.send(b"more"), stream.receive):
        with pytest.raises(anyio.ClosedResourceError):
            await call()
    assert context is not None
    assert "closed" in repr(context)
