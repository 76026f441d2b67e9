"""The contract of a connected pair of byte streams, as a check that runs.

    await check_byte_stream(make_pair)

`make_pair` is an async function that gives both ends of a new connection, of any two
`anyio.abc.ByteStream`s. Each rule gets a pair of its own, twice, with the ends the other way round.
The rules are those of plain TCP, so whatever passes can stand where TCP stood. A rule that does not
hold raises `AssertionError` with its words, and so does one that comes to no end.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from itertools import cycle
from typing import Any, Final, TypeAlias, TypeVar

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    TypedAttributeLookupError,
    aclose_forcefully,
    create_task_group,
    move_on_after,
)
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from saslwrap.errors import UsageError, require_kind, require_number
from saslwrap.testing._kinds import both_ends
from saslwrap.testing.checks.words import broken, chosen, expect, raises
from saslwrap.testing.tasks import cancel_at, run_both, settle, sole

__all__ = ["RULES", "check_byte_stream"]

A = TypeVar("A")
B = TypeVar("B")

MakePair: TypeAlias = Callable[[], Awaitable[tuple[ByteStream, ByteStream]]]
Rule: TypeAlias = Callable[[ByteStream, ByteStream, int], Awaitable[None]]

_MAKER: Final = "an async function that gives both ends of a new connection"


async def check_byte_stream(
    make_pair: MakePair,
    *,
    half_close: bool = True,
    volume: int = 1 << 20,
    patience: float = 30,
    leave_out: Collection[str] = (),
) -> None:
    """Hold a pair of connected streams against the contract of a byte stream.

    :param make_pair: an async function that gives both ends of a new connection; they are closed
        afterwards. It has to hold 100 octets that nobody receives yet
    :param half_close: whether `send_eof` works; with TLS below it does not
    :param volume: octets that go both ways at once: more than the connection holds by itself
    :param patience: seconds that a rule may take, and so many `make_pair`
    :param leave_out: rules that cannot hold, by name: `"no_octets"` for streams of anyio before
        4.14.2. A wrong name is answered with all there are
    :raises AssertionError: a rule does not hold, or comes to no end
    :raises UsageError: `make_pair` is no async function, or does not give two streams; `leave_out`
        names no rule; a number is none, or below its least
    """
    require_kind("make_pair", make_pair, Callable, _MAKER)
    require_number("volume", volume, 1)
    require_number("patience", patience, 0, kind=int | float)
    for rule in chosen(RULES, leave_out):
        if half_close or rule is not _half_close:
            for swap in False, True:
                await _hold(rule, make_pair, volume, patience, swap=swap)


async def _hold(
    rule: Rule, make_pair: MakePair, volume: int, patience: float, *, swap: bool
) -> None:
    first, second = await _made(rule, make_pair, patience)
    try:
        with move_on_after(patience) as scope:
            await (rule(second, first, volume) if swap else rule(first, second, volume))
        expect(not scope.cancelled_caught, f"nothing more in {patience} s")
    except Exception as error:
        cause = sole(error)
        raise broken(rule, cause) from cause
    finally:
        for stream in (first, second):
            with suppress(Exception):
                await aclose_forcefully(stream)


async def _made(rule: Rule, make_pair: MakePair, patience: float) -> tuple[ByteStream, ByteStream]:
    pair = make_pair()
    if not isawaitable(pair):
        raise UsageError(f"make_pair is {_MAKER}, and gave no coroutine")
    with move_on_after(patience):
        return both_ends("what make_pair gives", await pair)
    raise broken(rule, AssertionError(f"make_pair gave no pair in {patience} s"))


# Words of the rules


async def _exactly(stream: ByteStream, count: int, max_bytes: int = 65536) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = await stream.receive(max_bytes)
        expect(chunk, "receive() gave no octets")
        expect(len(chunk) <= max_bytes, f"receive({max_bytes}) gave {len(chunk)} octets")
        data += chunk
    return bytes(data)


async def _together(
    first: Callable[[], Awaitable[A]], second: Callable[[], Awaitable[B]]
) -> tuple[A, B]:
    """As `run_both`, but both have to succeed: a failure ends the other too."""
    results: list[Any] = [None, None]

    async def run(place: int, function: Callable[[], Awaitable[Any]]) -> None:
        results[place] = await function()

    async with create_task_group() as tasks:
        tasks.start_soon(run, 0, first)
        tasks.start_soon(run, 1, second)
    return results[0], results[1]


async def _flood(stream: ByteStream, volume: int) -> None:
    data = bytes(min(volume, 65536))
    while True:
        await stream.send(data)


# The rules. `a` and `b` are the two ends.


async def _data(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Data of any size arrives whole and in order, in pieces of 1 to `max_bytes` octets."""
    source = random.Random(0)  # noqa: S311 - repeatable on purpose
    sizes = [size for size in (1, 2, 3, 17, 1000, 4096, 65535, 65536, 65537) if size <= volume]
    for size in sizes:
        for max_bytes in (65536, max(1, size // 7)):
            data = source.randbytes(size)
            receive = partial(_exactly, b, size, max_bytes)
            _, received = await _together(partial(a.send, data), receive)
            expect(received == data, f"{size} octets arrived changed")


async def _empty_send(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Sending nothing is no error and sends nothing."""
    for data in (b"", b"x", b"", b"y"):
        await a.send(data)
    expect(await _exactly(b, 2) == b"xy", "something else than b'xy' arrived")


async def _no_octets(a: ByteStream, b: ByteStream, volume: int) -> None:
    """To receive less than one octet is a ValueError or a UsageError, and takes none."""
    await a.send(b"x")
    for max_bytes in (0, -1):
        with suppress(ValueError, UsageError):
            data = await b.receive(max_bytes)
            raise AssertionError(f"receive({max_bytes}) gave {data!r}")
    expect(await _exactly(b, 1) == b"x", "something else than b'x' arrived")


async def _half_close(a: ByteStream, b: ByteStream, volume: int) -> None:
    """After `send_eof` the peer reads what was sent, then EndOfStream; the other way goes on."""
    await a.send(b"last words")
    await a.send_eof()
    expect(await _exactly(b, 10) == b"last words", "other octets arrived")
    for _ in range(2):
        with raises(EndOfStream):
            await b.receive()
    await b.send(b"answer")
    expect(await _exactly(a, 6) == b"answer", "other octets arrived")
    await b.send_eof()
    with raises(EndOfStream):
        await a.receive()


async def _end(a: ByteStream, b: ByteStream, volume: int) -> None:
    """After `aclose` the peer reads what was sent, then EndOfStream, as often as it asks."""
    await a.send(b"last words")
    await a.aclose()
    expect(await _exactly(b, 10) == b"last words", "other octets arrived")
    for _ in range(2):
        with raises(EndOfStream):
            await b.receive()


async def _end_while_receiving(a: ByteStream, b: ByteStream, volume: int) -> None:
    """A peer that waits in `receive` gets EndOfStream when this end closes."""

    async def close() -> None:
        await settle()
        await a.aclose()

    outcome, _ = await run_both(b.receive, close)
    expect(isinstance(outcome, EndOfStream), f"{outcome!r}")


async def _peer_gone(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Sending to a peer that closed raises BrokenResourceError, once that is known."""
    await b.aclose()
    with raises(BrokenResourceError):
        while True:
            await a.send(b"anybody there?")
            await checkpoint()


async def _closed(a: ByteStream, b: ByteStream, volume: int) -> None:
    """A closed stream refuses with ClosedResourceError; closing it again is no error."""
    await a.aclose()
    await a.aclose()
    with raises(ClosedResourceError):
        await a.send(b"x")
    with raises(ClosedResourceError):
        await a.receive()


async def _closed_at_work(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Closing a stream wakes its own receiver and its own sender with ClosedResourceError."""

    async def close() -> None:
        await settle()
        await a.aclose()

    work = partial(run_both, a.receive, partial(_flood, a, volume))
    outcomes, _ = await _together(work, close)
    for outcome in outcomes:
        expect(isinstance(outcome, ClosedResourceError), f"{outcome!r}")


async def _closed_in_a_cancelled_scope(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Closing in a cancelled scope closes."""
    with CancelScope() as scope:
        scope.cancel()
        await a.aclose()
    with raises(ClosedResourceError):
        await a.send(b"x")
    with raises(EndOfStream):
        await b.receive()


async def _two_receivers(a: ByteStream, b: ByteStream, volume: int) -> None:
    """A second receiver gets BusyResourceError, and the first one goes on."""

    async def disturb() -> None:
        await settle()
        with raises(BusyResourceError):
            await b.receive()
        await a.send(b"x")

    received, _ = await _together(b.receive, disturb)
    expect(received == b"x", "something else than b'x' arrived")


async def _two_senders(a: ByteStream, b: ByteStream, volume: int) -> None:
    """A second sender gets BusyResourceError."""
    async with create_task_group() as tasks:
        tasks.start_soon(_flood, a, volume)
        await settle()
        with raises(BusyResourceError):
            await a.send(b"x")
        tasks.cancel_scope.cancel()


async def _full_duplex(a: ByteStream, b: ByteStream, volume: int) -> None:
    """Both ends send and receive at the same time, more than the connection holds."""
    source = random.Random(1)  # noqa: S311 - repeatable on purpose
    there, back = source.randbytes(volume), source.randbytes(volume)

    async def both(stream: ByteStream, data: bytes) -> bytes:
        receive = partial(_exactly, stream, volume)
        _, received = await _together(partial(stream.send, data), receive)
        return received

    at_a, at_b = await _together(partial(both, a, there), partial(both, b, back))
    expect((at_a, at_b) == (back, there), "octets arrived changed")


async def _cancelled_before(a: ByteStream, b: ByteStream, volume: int) -> None:
    """In a cancelled scope `send` does nothing, and `receive` returns what it took, if any."""
    received = b""
    await a.send(b"before ")
    with CancelScope() as scope:
        scope.cancel()
        await a.send(b"never ")
    expect(scope.cancelled_caught, "send() was not cancelled")
    with CancelScope() as scope:  # anyio's own, on uvloop, is not always cancelled
        scope.cancel()
        received = await b.receive()
    await a.send(b"after")
    received += await _exactly(b, 12 - len(received))
    expect(received == b"before after", "other octets arrived")


async def _cancelled_receive(a: ByteStream, b: ByteStream, volume: int) -> None:
    """A `receive` that is cancelled, wherever that hits it, loses nothing."""
    data = random.Random(2).randbytes(1000)  # noqa: S311 - repeatable on purpose
    received = bytearray()

    async def send() -> None:
        for start in range(0, len(data), 50):
            await a.send(data[start : start + 50])
        await a.aclose()

    async def receive() -> None:
        turns = cycle(range(1, 17))
        while len(received) < len(data):
            run = await cancel_at(next(turns), partial(b.receive, 40))
            received.extend(run.value or b"")

    await _together(send, receive)
    expect(received == data, "octets arrived changed")


async def _attributes(a: ByteStream, b: ByteStream, volume: int) -> None:
    """`extra` gives each of `extra_attributes`, the default for another, else a lookup error."""
    attributes: Mapping[Any, Callable[[], Any]] = a.extra_attributes
    for attribute, value in attributes.items():
        expect(type(a.extra(attribute)) is type(value()), f"{attribute!r} differs")
    unknown = object()
    expect(a.extra(unknown, "default") == "default", "the default was not given")
    with raises(TypedAttributeLookupError):
        a.extra(unknown)


#: The rules, in the order in which they are tried. Each takes both ends and the volume.
RULES: Final[tuple[Rule, ...]] = (
    _data,
    _empty_send,
    _no_octets,
    _end,
    _half_close,
    _end_while_receiving,
    _peer_gone,
    _closed,
    _closed_at_work,
    _closed_in_a_cancelled_scope,
    _two_receivers,
    _two_senders,
    _full_duplex,
    _cancelled_before,
    _cancelled_receive,
    _attributes,
)
