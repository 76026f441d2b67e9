"""Cancel at the n-th checkpoint, for every n: nothing lost, nothing doubled, broken where it must.

The streams are in memory, so each n is the same place each time. Peers take their time: asyncio
delivers a cancellation a turn late, and a call that got what it waited for by then goes on.
"""

from __future__ import annotations

from functools import partial

import pytest
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
)

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.errors import IntegrityError, TruncatedStreamError
from saslwrap.testing import mechanism_pair
from saslwrap.testing.faults import AtOnce, FaultyStream, RandomSizes
from saslwrap.testing.streams import StreamPair, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import CancelledRun, cancel_at, cancel_at_each, run_both, settle
from tests.conftest import exchange_pair, talk

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 2


async def read_all(stream: SASLStream) -> tuple[bytes, Exception]:
    """Read to the end; give the data, and what ended it."""
    data = bytearray()
    while True:
        await settle(4)
        try:
            data += await stream.receive()
        except (EndOfStream, BrokenResourceError) as end:
            return bytes(data), end


async def send_slowly(stream: SASLStream) -> None:
    for start in range(0, len(DATA), 64):
        await settle(4)
        await stream.send(DATA[start : start + 64])
    await stream.aclose()


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
async def test_send(protection: str) -> None:
    async def send(n: int, pair: StreamPair) -> CancelledRun[None]:
        run = await cancel_at(n, partial(pair.client.send, DATA))
        if run.cancelled:
            with pytest.raises(BrokenResourceError, match="cancelled or failed"):
                await pair.client.send(b"more")
        else:
            await pair.client.send(b"more")
        await pair.server.send(b"reading goes on")
        assert await pair.client.receive() == b"reading goes on"
        await pair.client.aclose()
        return run

    async def attempt(n: int) -> CancelledRun[None]:
        pair = stream_pair(
            protection, client_maxbuf=200, server_maxbuf=200, transports=memory_stream_pair(70)
        )
        run, got = await run_both(partial(send, n, pair), partial(read_all, pair.server))
        assert isinstance(run, CancelledRun)
        assert not isinstance(got, Exception)
        data, end = got
        truncated = isinstance(end.__cause__, TruncatedStreamError)
        assert truncated or isinstance(end, EndOfStream)
        if run.cancelled:
            assert DATA.startswith(data)
        else:
            assert (data, truncated) == (DATA + b"more", False)
        return run

    assert sum(run.cancelled for run in await cancel_at_each(attempt)) > 5


@pytest.mark.parametrize("protection", ["auth", "auth-int", "rc4", "3des"])
async def test_receive(protection: str) -> None:
    async def receive(n: int, stream: SASLStream) -> tuple[CancelledRun[bytes], bytes, Exception]:
        run = await cancel_at(n, partial(stream.receive, 50))
        return run, *await read_all(stream)

    async def attempt(n: int) -> CancelledRun[bytes]:
        client, server = memory_stream_pair()
        pieces = FaultyStream(server, receiving=RandomSizes(seed=1, largest=3))
        pair = stream_pair(protection, transports=(client, pieces))
        _, got = await run_both(partial(send_slowly, pair.client), partial(receive, n, pair.server))
        assert not isinstance(got, Exception), got
        run, rest, end = got
        assert (run.value or b"") + rest == DATA
        assert isinstance(end, EndOfStream)
        return run

    runs = await cancel_at_each(attempt)
    assert sum(run.cancelled for run in runs) > (0 if protection == "auth" else 20)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
async def test_receive_again_and_again(n: int) -> None:
    client, server = memory_stream_pair()
    pieces = FaultyStream(server, receiving=RandomSizes(seed=n, largest=20))
    pair = stream_pair("rc4", transports=(client, pieces))

    async def receive() -> bytes:
        received = b""
        while len(received) < len(DATA):
            run = await cancel_at(n, partial(pair.server.receive, 30))
            received += run.value or b""
            if run.cancelled and len(received) < len(DATA):
                received += await pair.server.receive(30)
        return received

    assert await run_both(partial(send_slowly, pair.client), receive) == (None, DATA)


async def test_receive_of_what_fails() -> None:
    async def attempt(n: int) -> CancelledRun[bytes]:
        ends = memory_stream_pair()
        pair = stream_pair(transports=ends)

        async def forge() -> None:
            await settle(4)
            await ends[0].send(b"\0\0\0\x20" + bytes(16))
            await settle(4)
            await ends[0].send(bytes(16))

        async def receive() -> CancelledRun[bytes]:
            return await cancel_at(n, pair.server.receive)

        run, _ = await run_both(receive, forge)
        if isinstance(run, CancelledRun):
            assert run.cancelled
            with pytest.raises(BrokenResourceError) as caught:
                await pair.server.receive()
            run_error: Exception = caught.value
        else:
            run_error, run = run, CancelledRun(False, False, None)
        assert isinstance(run_error.__cause__, IntegrityError)
        assert ends[1].closed
        return run

    assert len(await cancel_at_each(attempt)) > 2


@pytest.mark.parametrize("may_block", [False, True])
@pytest.mark.parametrize("rebind", [False, True])
@pytest.mark.parametrize("victim", [0, 1], ids=["client", "server"])
async def test_authenticate(victim: int, rebind: bool, may_block: bool) -> None:
    other = 1 - victim

    async def attempt(n: int) -> CancelledRun[SASLStream]:
        ends = memory_stream_pair()
        client, server = (FaultyStream(end, receiving=AtOnce(turns=5)) for end in ends)
        streams = stream_pair("3des" if rebind else "auth", transports=(client, server))
        mechanisms = mechanism_pair()
        mechanisms.server.may_block = mechanisms.client.may_block = may_block
        halves = exchange_pair(mechanisms)
        logins = [partial(authenticate, s, h) for s, h in zip(streams, halves, strict=True)]
        run, outcome = await run_both(partial(cancel_at, n, logins[victim]), logins[other])
        assert isinstance(run, CancelledRun)
        if not run.cancelled:
            assert outcome is streams[other]
            await talk(*streams)
        else:
            assert ends[victim].closed
            with pytest.raises(ClosedResourceError):
                await streams[victim].send(b"x")
            if isinstance(outcome, SASLStream):  # it is past its last message
                with pytest.raises(EndOfStream):
                    await outcome.receive()
            else:
                assert isinstance(outcome, TruncatedStreamError | BrokenResourceError)
                assert ends[other].closed
        return run

    runs = await cancel_at_each(attempt)
    assert sum(run.cancelled for run in runs) > 10


@pytest.mark.parametrize("protection", ["auth", "rc4"])
async def test_close(protection: str) -> None:
    async def attempt(n: int) -> CancelledRun[None]:
        ends = memory_stream_pair()
        pair = stream_pair(protection, transports=ends)
        await pair.client.send(b"last words")
        run = await cancel_at(n, pair.client.aclose)
        assert ends[0].closed
        with pytest.raises(ClosedResourceError):
            await pair.client.receive()
        assert await pair.server.receive() == b"last words"
        with pytest.raises(EndOfStream):
            await pair.server.receive()
        return run

    assert len(await cancel_at_each(attempt)) > 1


async def test_close_after_half_a_send() -> None:
    pair = stream_pair(transports=memory_stream_pair(10))
    async with create_task_group() as tasks:
        tasks.start_soon(pair.client.send, DATA)
        await settle()
        tasks.cancel_scope.cancel()
    with CancelScope() as scope:
        scope.cancel()
        await pair.client.aclose()
    with pytest.raises(BrokenResourceError) as caught:
        await pair.server.receive()
    assert isinstance(caught.value.__cause__, TruncatedStreamError)
