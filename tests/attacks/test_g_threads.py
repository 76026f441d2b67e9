"""Attack list, line G3: who shares a context, in threads: one sealer, one unsealer, no third."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Barrier, Semaphore

import pytest

from saslwrap.context import Buffer
from saslwrap.errors import ContextBusyError
from saslwrap.mechanisms.digest_md5.context import DigestSealer, DigestUnsealer
from saslwrap.testing import ContextPair, context_pair, layer_pair
from tests.attacks.support import (
    PATIENCE,
    Gate,
    T,
    between_frames,
    every_protection,
    held_inside,
    judge,
    sealer_of,
    unsealer_of,
    wire,
)

MILLION = 1_000_000


@every_protection
def test_g3_second_sealer_is_refused_at_once(protection: str) -> None:
    """Guard: saslwrap/context.py: if not lock.acquire(False):"""
    client, server = context_pair(protection)
    gate = Gate(sealer_of(client))
    with held_inside(gate, lambda: client.seal(b"first")) as first:
        for _ in range(10):
            with pytest.raises(ContextBusyError):
                client.seal(b"intruder")
    tokens = [first.result(PATIENCE), client.seal(b"second")]
    assert [server.unseal(token) for token in tokens] == [b"first", b"second"]


@every_protection
def test_g3_second_unsealer_is_refused_at_once(protection: str) -> None:
    """Guard: saslwrap/context.py: if not lock.acquire(False):"""
    client, server = context_pair(protection)
    first, second = client.seal(b"first"), client.seal(b"second")
    gate = Gate(unsealer_of(server))
    with held_inside(gate, lambda: server.unseal(first)) as opened:
        for _ in range(10):
            with pytest.raises(ContextBusyError):
                server.unseal(second)
    assert opened.result(PATIENCE) == b"first"
    assert server.unseal(second) == b"second"


@every_protection
def test_g3_sealer_and_unsealer_are_at_work_together(protection: str) -> None:
    """Guard: saslwrap/context.py: self._unsealing: Final = threading.Lock()"""
    client, server = context_pair(protection)
    token = server.seal(b"from the other side")
    with held_inside(Gate(sealer_of(client)), lambda: client.seal(b"first")) as first:
        assert client.unseal(token) == b"from the other side"
    assert server.unseal(first.result(PATIENCE)) == b"first"


@every_protection
def test_g3_second_writer_is_refused_between_two_frames_too(
    protection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/layer.py: if not self._sending.acquire(False):"""
    client, server = layer_pair(protection, server_maxbuf=64)
    with (
        between_frames(monkeypatch, "seal") as gate,
        held_inside(gate, lambda: client.send_data(b"x" * 200)) as sent,
        pytest.raises(ContextBusyError),
    ):
        client.send_data(b"intruder")
    assert judge(server, b"".join(sent.result(PATIENCE))).accepted == b"x" * 200


@every_protection
def test_g3_second_reader_is_refused_before_it_decodes(
    protection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/layer.py: if not self._reading.acquire(False):"""
    client, server = layer_pair(protection)
    server.receive_data(b"".join(wire(client, b"first", b"second")))
    with (
        between_frames(monkeypatch, "unseal") as gate,
        held_inside(gate, server.read) as first,
        pytest.raises(ContextBusyError),
    ):
        server.read()
    assert [first.result(PATIENCE), server.read()] == [b"first", b"second"]


@contextmanager
def switching_often() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def insist(call: Callable[[], T]) -> T:
    """Call again and again while it finds the context busy."""
    while True:
        try:
            return call()
        except ContextBusyError:
            continue


@every_protection
def test_g3_rivals_that_seal_freely_lose_no_number(protection: str) -> None:
    """Guard: saslwrap/context.py: if not lock.acquire(False):"""
    client, server = context_pair(protection)
    message = bytes(16384)  # over 2 KiB the primitives let other threads run
    together = Barrier(3)

    def seal_freely(_: int) -> list[bytes]:
        together.wait(PATIENCE)
        return [insist(lambda: client.seal(message)) for _ in range(100)]

    with switching_often(), ThreadPoolExecutor(3) as pool:
        tokens = [token for each in pool.map(seal_freely, range(3)) for token in each]
    tokens.sort(key=lambda token: token[-4:])
    assert [token[-4:] for token in tokens] == [n.to_bytes(4, "big") for n in range(300)]
    assert all(server.unseal(token) == message for token in tokens)


@every_protection
def test_g3_rivals_that_send_freely_mix_no_frames(protection: str) -> None:
    """Guard: saslwrap/layer.py: if not self._sending.acquire(False):"""
    client, server = layer_pair(protection, server_maxbuf=4102)
    together = Barrier(3)

    def send_freely(mark: bytes) -> list[list[Buffer]]:
        together.wait(PATIENCE)
        return [insist(lambda: client.send_data(mark * 12_000)) for _ in range(20)]  # three frames

    with switching_often(), ThreadPoolExecutor(3) as pool:
        sent = [frames for each in pool.map(send_freely, (b"a", b"b", b"c")) for frames in each]
    assert all(len(frames) == 6 for frames in sent)
    sent.sort(key=lambda frames: bytes(frames[1][-4:]))
    verdict = judge(server, b"".join(b"".join(frames) for frames in sent))
    assert verdict.error is None
    assert len(verdict.accepted) == 12_000 * 60
    starts = range(0, len(verdict.accepted), 12_000)
    assert all(len(set(verdict.accepted[start : start + 12_000])) == 1 for start in starts)


class Rival:
    """Tries what another thread is just doing, from inside each thousandth call of it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.outcomes: list[type[object]] = []

    def provoke(self, direction: DigestSealer | DigestUnsealer, call: Callable[[], object]) -> None:
        turns = iter(range(1, sys.maxsize))

        def on_call() -> None:
            if next(turns) % 1000 == 0:
                self.outcomes.append(type(self.thread.submit(call).exception(PATIENCE)))

        Gate(direction).on_call = on_call


Batch = tuple[list[bytes], list[bytes]]


def seal_both_ways(pair: ContextPair, batches: SimpleQueue[Batch], room: Semaphore) -> None:
    """Seal a million messages on each side, in batches, while there is room for them."""
    try:
        for _ in range(MILLION // 100):
            assert room.acquire(timeout=PATIENCE)
            there = [pair.client.seal(b"ping") for _ in range(100)]
            batches.put((there, [pair.server.seal(b"pong") for _ in range(100)]))
    finally:
        batches.put(([], []))


def unseal_both_ways(pair: ContextPair, batches: SimpleQueue[Batch], room: Semaphore) -> None:
    """Unseal them, to the end; a failure closes a context, which ends the other thread too."""
    try:
        while (batch := batches.get(timeout=PATIENCE))[0]:
            there, back = batch
            assert all(pair.server.unseal(token) == b"ping" for token in there)
            assert all(pair.client.unseal(token) == b"pong" for token in back)
            room.release()
    except BaseException:
        pair.client.close()
        room.release()
        raise


@pytest.mark.timeout(300)
def test_g3_million_frames_each_way_by_two_threads_and_rivals_lose_no_number() -> None:
    """One thread seals for both ends, one unseals for both; a third finds each direction busy.

    Guard: saslwrap/context.py: if not lock.acquire(False):
    """
    pair, rival = context_pair("rc4"), Rival()
    for context in pair:
        rival.provoke(sealer_of(context), partial(context.seal, b"rival"))
        rival.provoke(unsealer_of(context), partial(context.unseal, bytes(22)))
    batches: SimpleQueue[Batch] = SimpleQueue()
    room = Semaphore(50)
    with rival.thread, ThreadPoolExecutor(2) as pool:
        sealing = pool.submit(seal_both_ways, pair, batches, room)
        unsealing = pool.submit(unseal_both_ways, pair, batches, room)
        sealing.result()
        unsealing.result()
    assert len(rival.outcomes) == 4 * MILLION // 1000
    assert set(rival.outcomes) == {ContextBusyError}
    for sender, receiver in (pair, reversed(pair)):
        assert sealer_of(sender)._number == unsealer_of(receiver)._number == MILLION


@every_protection
def test_g3_layer_reads_while_it_sends(protection: str) -> None:
    """Guard: saslwrap/layer.py: self._reading: Final = threading.Lock()"""
    client, server = layer_pair(protection)
    client.receive_data(wire(server, b"inbound")[0])
    gate = Gate(sealer_of(client.context))
    with held_inside(gate, lambda: client.send_data(b"outbound")) as sent:
        assert client.read() == b"inbound"
    assert judge(server, b"".join(sent.result(PATIENCE))).accepted == b"outbound"


@every_protection
def test_g3_writer_and_reader_of_a_layer_run_freely(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: DigestUnsealer(integrity.inbound,"""
    client, server = layer_pair(protection)
    texts = [b"%d " % number for number in range(500)]
    inbound = wire(server, *texts)
    with switching_often(), ThreadPoolExecutor(2) as pool:
        sending = pool.submit(wire, client, *texts)
        receiving = pool.submit(lambda: [judge(client, data).accepted for data in inbound])
        outbound = sending.result(PATIENCE)
    assert receiving.result() == texts
    assert judge(server, b"".join(outbound)).accepted == b"".join(texts)
