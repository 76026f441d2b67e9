"""Two layers, and somebody between them who delays, cuts and alters as he likes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from saslwrap import IntegrityError, ProtocolError, SASLError, SecurityLayer, TruncatedStreamError
from saslwrap.testing import PROTECTIONS, layer_pair
from tests.machines.direction import (
    Direction,
    alter,
    amounts,
    kinds,
    maxbufs,
    other,
    places,
    sides,
    writes,
)

#: Fuller than any frame that is announced here: what a reader asks for when it takes all.
ALL = 1 << 20


class LayersMachine(RuleBasedStateMachine):
    """Nothing wrong is ever delivered, nothing right is lost, and a failure stays one."""

    @initialize(protection=st.sampled_from(PROTECTIONS), client=maxbufs, server=maxbufs)
    def log_in(self, protection: str, client: int, server: int) -> None:
        pair = layer_pair(protection, client_maxbuf=client, server_maxbuf=server)
        self.layers: dict[str, SecurityLayer] = dict(pair._asdict())
        self.outbound = {"client": Direction(), "server": Direction()}
        self.faults: dict[str, SASLError | None] = {"client": None, "server": None}

    @rule(side=sides, data=writes)
    def send(self, side: str, data: bytes) -> None:
        if self.is_dead(side, partial(self.layers[side].send_data, data)):
            return
        direction = self.outbound[side]
        direction.put(b"".join(self.layers[side].send_data(data)))
        direction.sent += data

    @rule(side=sides, count=amounts)
    def deliver(self, side: str, count: int) -> None:
        self.layers[other(side)].receive_data(self.outbound[side].take(count))

    @rule(side=sides, kind=kinds, at=places, much=amounts)
    def tamper(self, side: str, kind: str, at: int, much: int) -> None:
        alter(self.outbound[side].under_way, kind, at, much)

    @rule(side=sides, much=amounts)
    def reflect(self, side: str, much: int) -> None:
        self.outbound[side].under_way[:0] = self.outbound[other(side)].original[:much]

    @rule(side=sides, max_bytes=st.one_of(st.integers(1, 30), st.just(ALL)))
    def read(self, side: str, max_bytes: int) -> None:
        if self.is_dead(side, partial(self.layers[side].read, max_bytes)):
            return
        try:
            data = self.layers[side].read(max_bytes)
        except SASLError as error:
            self.faults[side] = error
            self.judge(side, error)
        else:
            assert len(data) <= max_bytes
            self.outbound[other(side)].received += data

    @rule(side=sides)
    def end(self, side: str) -> None:
        """The direction ends here, with what has been delivered."""
        self.outbound[side].under_way.clear()
        self.outbound[side].ended = True
        self.layers[other(side)].receive_eof()

    @invariant()
    def nothing_wrong_is_delivered(self) -> None:
        for side, direction in getattr(self, "outbound", {}).items():
            direction.check()
            assert self.layers[side].pending <= self.layers[side].context.local_maxbuf

    def teardown(self) -> None:
        for side in getattr(self, "outbound", {}):
            self.deliver(side, ALL)
            self.end(side)
            self.read_to_the_end(other(side))
        for side in getattr(self, "outbound", {}):
            self.nothing_right_is_lost(side)

    def read_to_the_end(self, side: str) -> None:
        while self.faults[side] is None:
            before = len(self.outbound[other(side)].received)
            self.read(side, ALL)
            if self.faults[side] is None and len(self.outbound[other(side)].received) == before:
                assert self.layers[side].at_eof
                break

    def nothing_right_is_lost(self, side: str) -> None:
        direction, fault = self.outbound[side], self.faults[other(side)]
        direction.check()
        if direction.at_a_border and fault is None:
            lost = len(direction.original) - len(direction.delivered)
            assert lost or direction.received == direction.sent
        elif not direction.at_a_border:
            assert fault is not None

    def judge(self, side: str, error: SASLError) -> None:
        """It has to be one of the documented, and what arrived has to deserve it."""
        direction = self.outbound[other(side)]
        assert isinstance(error, IntegrityError | ProtocolError)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert not direction.at_a_border
        if direction.genuine:
            assert isinstance(error, TruncatedStreamError)
            assert direction.ended

    def is_dead(self, side: str, call: Callable[[], object]) -> bool:
        """Whether the layer has failed; then `call` has to fail as the first one did."""
        fault = self.faults[side]
        if fault is None:
            return False
        with pytest.raises(SASLError) as info:
            call()
        assert (type(info.value), str(info.value)) == (type(fault), str(fault))
        assert info.value is not fault
        return True


TestLayers = LayersMachine.TestCase
TestLayers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
