"""One body of tests over every shell: what an application may rely on.

The first part is held against plain TCP too, through the same library: it is the contract of a
stream, not ours alone. The second part is what a security layer adds.
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.testing import context_pair
from saslwrap.testing.tasks import run_both, settle
from tests.test_shells_adapters import (
    WORLDS,
    BrokenError,
    End,
    Hand,
    Shell,
    World,
    anyio_backend,
    exactly,
    in_thread,
    shell,
    socket_pair,
    world,
)

__all__ = ["anyio_backend", "shell", "world"]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["plain", "sealed"])
async def pair(shell: Shell, request: pytest.FixtureRequest) -> AsyncIterator[tuple[End, End]]:
    """Both ends of a connection."""
    contexts = context_pair() if request.param == "sealed" else (None, None)
    client, server = socket_pair()
    ends = await shell.wrap(client, contexts[0]), await shell.wrap(server, contexts[1])
    yield ends
    for end in ends:
        await end.close()
    await settle()


@pytest.fixture
async def sealed(shell: Shell) -> AsyncIterator[tuple[End, Hand]]:
    """A sealed end, and a hand that can do wrong."""
    contexts = context_pair()
    client, server = socket_pair()
    end, hand = await shell.wrap(client, contexts.client), Hand(server, contexts.server)
    yield end, hand
    await end.close()
    server.close()
    await settle()


async def to_end(end: End) -> bytes:
    data = bytearray()
    while chunk := await end.receive():
        data += chunk
    return bytes(data)


def value(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def together(
    first: Callable[[], Awaitable[Any]], second: Callable[[], Awaitable[Any]]
) -> tuple[Any, Any]:
    """Await two at the same time, which have to succeed."""
    outcomes = await run_both(first, second)
    return value(outcomes[0]), value(outcomes[1])


# the contract of a stream


async def test_data_of_any_size_arrives_whole_and_in_order(pair: tuple[End, End]) -> None:
    source = random.Random(1)
    for sender, receiver in (pair, pair[::-1]):
        for size in (1, 2, 17, 1000, 65535, 65536, 65537, 200_000):
            data = source.randbytes(size)
            _, got = await together(partial(sender.send, data), partial(exactly, receiver, size))
            assert got == data


async def test_many_small_sends_arrive_in_order(pair: tuple[End, End]) -> None:
    source = random.Random(2)
    messages = [source.randbytes(source.randrange(1, 50)) for _ in range(500)]

    async def send() -> None:
        for message in messages:
            await pair[0].send(message)

    whole = b"".join(messages)
    _, got = await together(send, partial(exactly, pair[1], len(whole)))
    assert got == whole


async def test_sending_nothing_sends_nothing(pair: tuple[End, End]) -> None:
    for data in (b"", b"x", b""):
        await pair[0].send(data)
    await pair[0].send_eof()
    assert await to_end(pair[1]) == b"x"


async def test_the_end_of_a_direction_comes_after_its_data_and_again(
    pair: tuple[End, End],
) -> None:
    client, server = pair
    await client.send(b"last words")
    await client.send_eof()
    assert await to_end(server) == b"last words"
    assert await server.receive() == b""
    await server.send(b"answer")
    await server.send_eof()
    assert await to_end(client) == b"answer"


async def test_the_end_wakes_who_waits_for_data(pair: tuple[End, End]) -> None:
    async def end() -> None:
        await settle()
        await pair[0].send_eof()

    assert (await together(pair[1].receive, end))[0] == b""


async def test_closing_sends_what_was_sent(pair: tuple[End, End]) -> None:
    client, server = pair
    await client.send(bytes(50_000))
    await client.close()
    await client.close()
    assert await to_end(server) == bytes(50_000)


async def test_a_reset_is_an_error_without_a_security_error_behind_it(
    shell: Shell,
) -> None:
    for contexts in (None, context_pair()):
        client, server = socket_pair()
        end = await shell.wrap(client, contexts and contexts.client)
        Hand(server).reset()
        with pytest.raises(BrokenError) as caught:
            await end.receive()
        assert caught.value.cause is None
        await end.close()
        await settle()


async def test_sending_to_a_peer_that_is_gone_fails_in_the_end(pair: tuple[End, End]) -> None:
    client, server = pair
    await server.close()

    async def flood() -> None:
        while True:
            await client.send(bytes(50_000))
            await settle(2)

    with pytest.raises(BrokenError):
        await flood()


async def test_both_directions_at_once_carry_more_than_the_connection_holds(
    pair: tuple[End, End],
) -> None:
    source = random.Random(3)
    volume = 1 << 21
    there, back = source.randbytes(volume), source.randbytes(volume)

    async def both(end: End, data: bytes) -> bytes:
        async def send() -> None:
            for start in range(0, volume, 100_000):
                await end.send(data[start : start + 100_000])

        _, got = await together(send, partial(exactly, end, volume))
        assert isinstance(got, bytes)
        return got

    at_client, at_server = await together(
        partial(both, pair[0], there), partial(both, pair[1], back)
    )
    assert (at_client, at_server) == (back, there)


async def test_a_slow_receiver_stops_the_sender(pair: tuple[End, End]) -> None:
    client, server = pair
    sent = 0
    total = 20_000_000

    async def flood() -> None:
        nonlocal sent
        while sent < total:
            await client.send(bytes(50_000))
            sent += 50_000

    async def look_then_receive() -> int:
        assert await server.receive()
        before = -1
        while before != sent:
            before = sent
            await settle(200)
        return before

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flood)
        assert await look_then_receive() < 10_000_000
        got = 0
        while got < 15_000_000:
            got += len(await server.receive())
        total = 0
        tasks.start_soon(to_end, server)
        while sent < 15_000_000:
            await settle()
        tasks.cancel_scope.cancel()


# what a layer adds


async def test_the_wire_may_be_cut_anywhere(sealed: tuple[End, Hand]) -> None:
    end, hand = sealed
    wire = hand.seal(b"one", b"two", b"three", bytes(1000))

    def dribble() -> None:
        for octet in wire[:60]:
            hand.sock.sendall(bytes((octet,)))
        hand.sock.sendall(wire[60:])

    hand.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _, got = await together(partial(in_thread, dribble), partial(exactly, end, 1011))
    assert got == b"onetwothree" + bytes(1000)


async def test_no_plaintext_shows_on_the_wire(sealed: tuple[End, Hand]) -> None:
    end, hand = sealed
    await end.send(b"the password is swordfish")
    assert b"swordfish" not in hand.sock.recv(100, socket.MSG_PEEK)
    assert hand.receive(25) == b"the password is swordfish"


async def test_what_was_received_past_the_login_comes_first(shell: Shell) -> None:
    contexts = context_pair()
    client, server = socket_pair()
    hand = Hand(server, contexts.server)
    wire = hand.seal(b"one", b"two")
    end = await shell.wrap(client, contexts.client, received=wire[:-3])
    assert await exactly(end, 3) == b"one"
    server.sendall(wire[-3:])
    assert await exactly(end, 3) == b"two"
    await end.close()
    server.close()
    await settle()


async def test_a_frame_without_content_is_no_end(sealed: tuple[End, Hand]) -> None:
    end, hand = sealed
    empty = hand.layer.context.seal(b"")
    hand.sock.sendall(len(empty).to_bytes(4, "big") + empty + hand.seal(b"content"))
    assert await exactly(end, 7) == b"content"


def altered(hand: Hand) -> bytes:
    frame = bytearray(hand.seal(b"altered"))
    frame[6] ^= 1
    return bytes(frame)


def replayed(hand: Hand) -> bytes:
    return hand.seal(b"once") * 2


FAULTS: dict[str, tuple[Callable[[Hand], bytes], bytes, type[SASLError]]] = {
    "altered": (altered, b"good", IntegrityError),
    "replayed": (replayed, b"goodonce", OutOfSequenceError),
    "too long": (lambda hand: b"\xff\xff\xff\xff", b"good", FrameTooLargeError),
    "no token": (lambda hand: bytes(4), b"good", ProtocolError),
    "cleartext": (lambda hand: b"* BYE see you\r\n", b"good", FrameTooLargeError),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_stays_and_closes(sealed: tuple[End, Hand], fault: str) -> None:
    end, hand = sealed
    make, good, kind = FAULTS[fault]
    hand.sock.sendall(hand.seal(b"good") + make(hand) + hand.seal(b"behind"))
    got = b""
    causes = []
    for _ in range(5):
        try:
            got += await end.receive()
        except BrokenError as error:
            causes.append(error.cause)
    with pytest.raises(BrokenError) as caught:
        await end.send(b"x")
    causes.append(caught.value.cause)
    assert good.startswith(got), "what came behind, or the frame itself, was delivered"
    assert len(causes) >= 4
    assert {type(cause) for cause in causes} == {kind}
    assert len({str(cause) for cause in causes}) == 1
    await in_thread(hand.wait_for_the_end)


async def test_what_came_before_an_error_can_be_received(sealed: tuple[End, Hand]) -> None:
    end, hand = sealed
    hand.sock.sendall(hand.seal(b"good"))
    assert await exactly(end, 4) == b"good"
    hand.sock.sendall(altered(hand))
    with pytest.raises(BrokenError) as caught:
        await end.receive()
    assert type(caught.value.cause) is IntegrityError


@pytest.mark.parametrize("missing", [1, 12, 16, 18, 20])
async def test_an_end_inside_a_frame_is_truncation(sealed: tuple[End, Hand], missing: int) -> None:
    end, hand = sealed
    hand.sock.sendall(hand.seal(b"whole") + hand.seal(b"cut")[:-missing])
    hand.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenError) as caught:
        assert await to_end(end) is None
    assert type(caught.value.cause) is TruncatedStreamError


async def test_a_failure_in_one_direction_ends_the_other(sealed: tuple[End, Hand]) -> None:
    """A sender that waits for a slow peer is told, too."""
    end, hand = sealed

    async def flood() -> None:
        while True:
            await end.send(bytes(1_000_000))
            await settle(2)

    async def break_it() -> None:
        await settle()
        hand.sock.sendall(altered(hand))
        await end.receive()

    for outcome in await run_both(flood, break_it):
        assert isinstance(outcome, BrokenError)


# between the shells


SHELLS = [(param.id, param.values[0]) for param in WORLDS]
OF_ASYNCIO = {
    str(name): world.make_shell
    for name, world in SHELLS
    if isinstance(world, World) and world.backend == ("asyncio", {})
}


@pytest.mark.parametrize("world", [World(("asyncio", {}), Shell)], ids=["asyncio"])
@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
@pytest.mark.parametrize("first", OF_ASYNCIO)
@pytest.mark.parametrize("second", OF_ASYNCIO)
async def test_every_shell_talks_with_every_shell(
    world: World, first: str, second: str, protection: str
) -> None:
    contexts = context_pair(protection)
    client, server = socket_pair()
    ends = (
        await OF_ASYNCIO[first]().wrap(client, contexts.client),
        await OF_ASYNCIO[second]().wrap(server, contexts.server),
    )
    for sender, receiver in (ends, ends[::-1]):
        await together(partial(sender.send, bytes(100_000)), partial(exactly, receiver, 100_000))
    for end in ends:
        await end.close()
    await settle()
