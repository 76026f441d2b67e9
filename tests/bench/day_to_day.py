"""Our own figures, to see from day to day what a change costs. pytest does not look here by itself:

pytest tests/bench/day_to_day.py --benchmark-autosave --benchmark-compare

Who is faster than whom is not for these to say: see `python -m tests.bench`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from saslwrap import SecurityLayer
from saslwrap.asyncio import start_sasl
from saslwrap.testing import PROTECTIONS, connect_mechanisms, context_pair, layer_pair
from saslwrap.testing.pairs import mechanism_pair

T = TypeVar("T")

SIZES = (64, 256, 4096, 65000)
BATCH = 100
ROUNDS = 20

every_protection = pytest.mark.parametrize("protection", PROTECTIONS)
every_size = pytest.mark.parametrize("size", SIZES)


def run_batches(
    benchmark: BenchmarkFixture, call: Callable[[T], object], prepare: Callable[[], T]
) -> None:
    """Run `call` with something new each time, which is made outside of the clock."""
    benchmark.pedantic(call, setup=lambda: ((prepare(),), {}), rounds=ROUNDS)  # type: ignore[no-untyped-call]


def wire_of(layer: SecurityLayer, size: int) -> bytes:
    """So many frames in one piece."""
    return b"".join(part for _ in range(BATCH) for part in layer.send_data(bytes(size)))


@every_size
@every_protection
def test_seal(benchmark: BenchmarkFixture, protection: str, size: int) -> None:
    benchmark(context_pair(protection).client.seal, bytes(size))


@every_size
@every_protection
def test_unseal(benchmark: BenchmarkFixture, protection: str, size: int) -> None:
    client, server = context_pair(protection)

    def unseal(tokens: list[bytes]) -> None:
        for token in tokens:
            client.unseal(token)

    run_batches(benchmark, unseal, lambda: [server.seal(bytes(size)) for _ in range(BATCH)])


@every_size
def test_send_data(benchmark: BenchmarkFixture, size: int) -> None:
    benchmark(layer_pair().client.send_data, bytes(size))


@every_size
def test_read(benchmark: BenchmarkFixture, size: int) -> None:
    client, server = layer_pair()

    def read(wire: bytes) -> None:
        client.receive_data(wire)
        while client.read():
            pass

    run_batches(benchmark, read, lambda: wire_of(server, size))


def test_login(benchmark: BenchmarkFixture) -> None:
    benchmark(lambda: connect_mechanisms(*mechanism_pair()))


class _Sink(asyncio.Transport):
    """Takes octets and drops them."""

    def __init__(self) -> None:
        super().__init__()
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16384, 65536

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


@every_size
def test_asyncio_write(benchmark: BenchmarkFixture, size: int) -> None:
    async def run() -> None:
        transport = start_sasl(_Sink(), asyncio.Protocol(), context_pair().client)
        benchmark(transport.write, bytes(size))

    asyncio.run(run())


@every_size
def test_asyncio_data_received(benchmark: BenchmarkFixture, size: int) -> None:
    contexts = context_pair()
    server = SecurityLayer(contexts.server)

    async def run() -> None:
        sink = _Sink()
        start_sasl(sink, asyncio.Protocol(), contexts.client)
        wire = sink.get_protocol()
        assert isinstance(wire, asyncio.Protocol)
        run_batches(benchmark, wire.data_received, lambda: wire_of(server, size))

    asyncio.run(run())
