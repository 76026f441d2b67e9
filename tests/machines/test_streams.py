"""Two sealed streams whose calls overlap, are cancelled, and wait for an unkind network.

Each side's transport ends in the machine's hands: what a stream has sent is *pumped* into a
direction, where it can be altered, and *delivered* from there. Calls are tasks, which the machine
lets run until all of them wait.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, cast

import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from saslwrap import IntegrityError, ProtocolError
from saslwrap.anyio import SASLStream
from saslwrap.testing import PROTECTIONS, MemoryStream, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import CancelledRun, cancel_at, settle
from tests.machines.direction import (
    Direction,
    alter,
    amounts,
    kinds,
    other,
    places,
    sides,
)

CAPACITY = 500
NEVER = 1 << 30

writes = st.integers(0, 700).map(lambda size: bytes(index % 251 for index in range(size)))
maxbufs = st.one_of(st.integers(60, 200), st.just(65536))


class Side:
    """One stream, what its transport ends in, and its calls under way."""

    def __init__(self, stream: SASLStream, near: MemoryStream, far: MemoryStream) -> None:
        self.stream = stream
        self.near = near
        self.far = far
        self.outbound = Direction()
        self.sending: Future[None] | None = None
        self.receiving: Future[CancelledRun[bytes]] | None = None
        self.disturbed = False  # closed, or a send of it was cancelled or failed
        self.half_sent = False  # a send was cancelled that had begun
        self.over = False  # it has got an end or an error


class StreamsMachine(RuleBasedStateMachine):
    """Nothing wrong is delivered; what nobody disturbs arrives; no call hangs or is forgotten."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal(backend))
        self.sides: dict[str, Side] = {}
        self.untouched = True

    @initialize(protection=st.sampled_from(PROTECTIONS), client=maxbufs, server=maxbufs)
    def log_in(self, protection: str, client: int, server: int) -> None:
        ends = [memory_stream_pair(CAPACITY) for _ in range(2)]
        pair = stream_pair(
            protection,
            client_maxbuf=client,
            server_maxbuf=server,
            transports=(ends[0][0], ends[1][0]),
        )
        self.sides = {
            name: Side(stream, near, far)
            for (name, stream), (near, far) in zip(pair._asdict().items(), ends, strict=True)
        }

    @rule(side=sides, data=writes)
    def send(self, side: str, data: bytes) -> None:
        it = self.sides[side]
        if it.sending is not None:
            with pytest.raises(BusyResourceError):
                self.portal.call(it.stream.send, data)
            return
        it.outbound.sent += data
        it.sending = self.portal.start_task_soon(it.stream.send, data)
        self.let_run()

    @rule(side=sides, max_bytes=amounts, cancel=st.integers(1, 6))
    def receive(self, side: str, max_bytes: int, cancel: int = NEVER) -> None:
        """Receive, and be cancelled at the call's n-th suspension, if it comes to that."""
        it = self.sides[side]
        if it.receiving is not None:
            with pytest.raises(BusyResourceError):
                self.portal.call(it.stream.receive)
            return
        call = partial(it.stream.receive, max_bytes)
        it.receiving = self.portal.start_task_soon(cancel_at, cancel, call)
        self.let_run()

    @rule(side=sides)
    def pump(self, side: str) -> None:
        it = self.sides[side]
        while it.near.under_way:
            it.outbound.put(self.portal.call(it.far.receive))
            self.let_run()

    @rule(side=sides, count=amounts)
    def deliver(self, side: str, count: int) -> None:
        peer = self.sides[other(side)]
        room = CAPACITY - peer.far.under_way
        data = self.sides[side].outbound.take(min(count, room))
        with suppress(BrokenResourceError, ClosedResourceError):  # either side has closed
            self.portal.call(peer.far.send, data)
        self.let_run()

    @rule(side=sides, kind=kinds, at=places, much=amounts)
    def tamper(self, side: str, kind: str, at: int, much: int) -> None:
        self.untouched = False
        alter(self.sides[side].outbound.under_way, kind, at, much)

    @rule(side=sides)
    def cancel_receive(self, side: str) -> None:
        if (call := self.sides[side].receiving) is not None:
            call.cancel()
            self.let_run()

    @rule(side=sides)
    def cancel_send(self, side: str) -> None:
        it = self.sides[side]
        if it.sending is not None:
            it.half_sent = not it.sending.done()
            it.sending.cancel()
            self.let_run()

    @rule(side=sides)
    def close(self, side: str) -> None:
        self.sides[side].disturbed = True
        self.portal.call(self.sides[side].stream.aclose)
        self.let_run()

    @rule(side=sides)
    def end(self, side: str) -> None:
        """Let the end of what was sent arrive, where there is one."""
        it, peer = self.sides[side], self.sides[other(side)]
        if it.near.closed and not it.near.under_way and not it.outbound.under_way:
            it.outbound.ended = True
            with suppress(ClosedResourceError):
                self.portal.call(peer.far.send_eof)
            self.let_run()

    @invariant()
    def nothing_wrong_is_delivered(self) -> None:
        for side in self.sides.values():
            side.outbound.check()

    def let_run(self) -> None:
        """Let all calls go on until they wait; take what is done."""
        self.portal.call(settle)
        for name, side in self.sides.items():
            if side.sending is not None and side.sending.done():
                call, side.sending = side.sending, None
                self.sent(side, call)
            if side.receiving is not None and side.receiving.done():
                received, side.receiving = side.receiving, None
                with suppress(CancelledError):
                    self.received(name, received)

    def sent(self, side: Side, call: Future[None]) -> None:
        try:
            call.result()
        except (CancelledError, BrokenResourceError, ClosedResourceError):
            side.disturbed = True
        else:
            assert not side.half_sent

    def received(self, name: str, call: Future[CancelledRun[bytes]]) -> None:
        side, inbound = self.sides[name], self.sides[other(name)].outbound
        try:
            run = call.result()
        except EndOfStream:
            assert inbound.at_a_border
            assert inbound.ended
        except BrokenResourceError as error:
            self.judge(side, inbound, error)
        except ClosedResourceError:
            assert side.near.closed
        else:
            assert run.value or run.cancelled
            assert run.cancelled or not side.over
            inbound.received += run.value or b""
            return
        side.over = True

    def judge(self, side: Side, inbound: Direction, error: BrokenResourceError) -> None:
        """Either side's layer refuses what is no longer genuine, or ends inside a frame."""
        assert isinstance(error.__cause__, IntegrityError | ProtocolError)
        assert not inbound.at_a_border
        assert side.near.closed

    def teardown(self) -> None:
        try:
            if self.untouched and not any(side.disturbed for side in self.sides.values()):
                self.everything_arrives()
        finally:
            for side in self.sides.values():
                self.portal.call(side.stream.aclose)
            self.stack.close()

    def progress(self) -> list[int]:
        return [
            len(octets)
            for side in self.sides.values()
            for octets in (side.outbound.delivered, side.outbound.received)
        ]

    def everything_arrives(self) -> None:
        moving = True
        while moving:
            before = self.progress()
            for name in self.sides:
                self.pump(name)
                self.deliver(name, CAPACITY)
                if self.sides[name].receiving is None:
                    self.receive(name, CAPACITY)
            moving = self.progress() != before
        for side in self.sides.values():
            assert side.outbound.received == side.outbound.sent


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_streams(backend: str) -> None:
    run_state_machine_as_test(
        cast("Any", partial(StreamsMachine, backend)),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
