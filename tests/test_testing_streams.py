from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream

from saslwrap import DigestMD5Client
from saslwrap.anyio import SASLAttribute, SASLStream
from saslwrap.errors import AuthenticationError, UsageError
from saslwrap.testing import PROTECTIONS, MechanismPair, authenticated_streams, mechanism_pair
from saslwrap.testing.checks import check_byte_stream
from saslwrap.testing.pairs import HOST, USERNAME
from saslwrap.testing.streams import MemoryStream, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import cancel_at, run_both, settle, succeeded
from tests.conftest import exchange_pair, talk, tcp_pair
from tests.sound import SoundClient, SoundServer

pytestmark = pytest.mark.anyio


async def test_memory_streams_keep_the_contract() -> None:
    async def make_pair() -> tuple[MemoryStream, MemoryStream]:
        return memory_stream_pair()

    await check_byte_stream(make_pair)


@pytest.mark.parametrize("capacity", [100, 101])
async def test_memory_streams_of_little_capacity_keep_the_contract(capacity: int) -> None:
    async def make_pair() -> tuple[MemoryStream, MemoryStream]:
        return memory_stream_pair(capacity)

    await check_byte_stream(make_pair, volume=500)


async def test_tcp_keeps_the_contract() -> None:
    await check_byte_stream(tcp_pair)


async def test_a_sender_waits_at_the_capacity_and_goes_on_as_the_peer_reads() -> None:
    client, server = memory_stream_pair(capacity=100)

    async def read() -> list[int]:
        await settle()
        levels = [client.under_way]
        assert await server.receive(30) == bytes(30)
        await settle()
        levels.append(client.under_way)
        assert await server.receive() == bytes(100)
        await settle()
        levels.append(client.under_way)
        return levels

    sent, levels = await run_both(partial(client.send, bytes(150)), read)
    assert (sent, levels) == (None, [100, 100, 20])


async def test_a_sender_that_waits_is_told_when_the_peer_closes() -> None:
    client, server = memory_stream_pair(capacity=1)

    async def close() -> None:
        await settle()
        await server.aclose()

    sent, _ = await run_both(partial(client.send, b"two"), close)
    assert isinstance(sent, BrokenResourceError)


async def test_what_is_under_way_still_arrives_after_a_close() -> None:
    client, server = memory_stream_pair()
    await client.send(b"last words")
    await client.aclose()
    assert await server.receive(4) == b"last"
    assert await server.receive() == b" words"
    with pytest.raises(EndOfStream):
        await server.receive()


async def test_a_memory_stream_that_ended_its_direction_sends_no_more() -> None:
    client, server = memory_stream_pair()
    await client.send_eof()
    await client.send_eof()
    with pytest.raises(ClosedResourceError):
        await client.send(b"x")
    await server.send(b"y")
    assert await client.receive() == b"y"
    await client.aclose()
    with pytest.raises(ClosedResourceError):
        await client.send_eof()


async def test_a_memory_stream_cannot_end_while_it_sends() -> None:
    client, server = memory_stream_pair(capacity=1)

    async def end() -> None:
        await settle()
        with pytest.raises(BusyResourceError):
            await client.send_eof()
        await server.receive()
        await server.receive()

    assert await run_both(partial(client.send, b"xy"), end) == (None, None)


async def test_a_memory_stream_takes_any_buffer_and_at_least_one_octet() -> None:
    client, server = memory_stream_pair()
    await client.send(memoryview(b"abcd").cast("I"))  # type: ignore[arg-type]
    assert await server.receive() == b"abcd"
    with pytest.raises(UsageError, match="max_bytes is a whole number from 1, not 0"):
        await server.receive(0)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None])
def test_a_capacity_that_lets_nothing_under_way_is_refused(capacity: Any) -> None:
    with pytest.raises(UsageError, match=r"capacity is a whole number from 1, not "):
        memory_stream_pair(capacity)


TRANSPORTS = [
    ((1, 2), "each of transports is a byte stream of anyio, not int"),
    ("ab", "each of transports is a byte stream of anyio, not str"),
    (memory_stream_pair()[:1], r"transports is two streams, \(client, server\), not 1"),
    (memory_stream_pair()[0], r"transports is two streams: \(client, server\), not MemoryStream"),
]


@pytest.mark.parametrize(("transports", "complaint"), TRANSPORTS)
async def test_transports_that_are_not_two_streams_are_refused(
    transports: Any, complaint: str
) -> None:
    for protection in ("auth", "rc4"):
        with pytest.raises(UsageError, match=complaint):
            stream_pair(protection, transports=transports)
    with pytest.raises(UsageError, match=complaint):
        await authenticated_streams(*exchange_pair(mechanism_pair()), transports=transports)


async def test_every_call_of_a_memory_stream_is_a_checkpoint() -> None:
    client, server = memory_stream_pair()
    await server.send(b"x")
    for call in (partial(client.send, b""), client.receive, client.send_eof, client.aclose):
        assert (await cancel_at(1, call)).reached


async def test_a_memory_stream_tells_its_state() -> None:
    client, _ = memory_stream_pair()
    await client.send(b"xyz")
    assert repr(client) == "<MemoryStream 3 octets under way>"
    assert not client.closed
    await client.aclose()
    assert repr(client) == "<MemoryStream 3 octets under way closed>"
    assert client.closed


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_sealed_pair_talks(protection: str) -> None:
    pair = stream_pair(protection, client_maxbuf=2000, server_maxbuf=3000)
    await talk(pair.client, pair.server)
    context = pair.client.extra(SASLAttribute.context)
    assert context is not None
    assert (context.local_maxbuf, context.peer_maxbuf) == (2000, 3000)


async def test_a_pair_without_a_layer_talks() -> None:
    pair = stream_pair("auth")
    await talk(pair.client, pair.server)
    assert pair.server.extra(SASLAttribute.context) is None


async def test_a_seed_makes_the_wire_the_same() -> None:
    async def wire(seed: int | None) -> bytes:
        client, server = memory_stream_pair()
        pair = stream_pair("rc4", seed=seed, transports=(client, server))
        assert isinstance(pair.client, SASLStream)
        await pair.client.send(b"message")
        return await server.receive()

    assert await wire(1) == await wire(1)
    assert len({await wire(1), await wire(2), await wire(None), await wire(None)}) == 4


async def test_a_sealed_pair_of_another_mechanism_talks() -> None:
    pair = stream_pair(MechanismPair(SoundClient(), SoundServer()))
    await talk(pair.client, pair.server)
    assert pair.client.extra(SASLAttribute.mechanism) == "TOY"


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_two_exchanges_log_in_over_two_streams(protection: str) -> None:
    pair = await authenticated_streams(*exchange_pair(mechanism_pair(protection)))
    await talk(pair.client, pair.server)
    assert pair.server.extra(SASLAttribute.authcid) == USERNAME


async def test_two_exchanges_log_in_over_tcp_and_again() -> None:
    first = await authenticated_streams(
        *exchange_pair(mechanism_pair("des")), transports=await tcp_pair()
    )
    async with first.client, first.server:
        again = await authenticated_streams(*exchange_pair(mechanism_pair()), transports=first)
        assert again == first
        await talk(*again)
        assert first.client.extra(SASLAttribute.cipher) == "rc4"


async def test_a_login_that_fails_says_both_sides_reasons() -> None:
    wrong = DigestMD5Client(USERNAME, "wrong", service="ldap", host=HOST)
    halves = exchange_pair(MechanismPair(wrong, mechanism_pair().server))
    with pytest.raises(AuthenticationError) as caught:
        await authenticated_streams(*halves)
    assert "invalidCredentials" in str(caught.value)
    assert "the login was refused" in str(caught.value.__cause__)


async def test_what_only_one_call_raised_is_raised() -> None:
    error = KeyError("x")
    for outcomes in ((error, 1), (1, error)):
        with pytest.raises(KeyError) as caught:
            succeeded(*outcomes)
        assert caught.value is error
        assert caught.value.__cause__ is None
    assert succeeded(1, "two") == (1, "two")
