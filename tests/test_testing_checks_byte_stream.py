"""The check has to find what it is for: each planted defect breaks the rule that is about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    fail_after,
    sleep_forever,
)
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from saslwrap.errors import UsageError
from saslwrap.testing.checks.byte_stream import RULES, check_byte_stream
from saslwrap.testing.faults import FaultyStream, Stop
from saslwrap.testing.streams import MemoryStream, memory_stream_pair
from saslwrap.testing.tasks import CancelledRun, cancel_at, cancel_at_each, run_both

pytestmark = pytest.mark.anyio


class Sound(MemoryStream):
    pass


class ReceivesNothing(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await super().receive(max_bytes) if max_bytes == 65536 else b""


class ReceivesTooMuch(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await super().receive(max_bytes + 1)


class ReceivesAnyNumber(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await super().receive(max_bytes) if max_bytes > 0 else b""


class LosesAnOctetByNone(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            await super().receive(1)
        return await super().receive(max_bytes)


class Alters(MemoryStream):
    async def send(self, item: bytes) -> None:
        await super().send(item.replace(b"\0", b"\1"))


class SendsAWordForNothing(MemoryStream):
    async def send(self, item: bytes) -> None:
        await super().send(item or b"x")


class EndsWithNothing(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            return b""


class EndsOnce(MemoryStream):
    ended = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self.ended:
            await sleep_forever()
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            self.ended = True
            raise


class HalfCloseClosesAll(MemoryStream):
    async def send_eof(self) -> None:
        await self.aclose()


class HalfCloseDoesNothing(MemoryStream):
    async def send_eof(self) -> None:
        await checkpoint()


class BreaksAsAReset(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            raise BrokenResourceError from None


class TalksToNobody(MemoryStream):
    async def send(self, item: bytes) -> None:
        with suppress(BrokenResourceError):
            await super().send(item)


class ClosesOnce(MemoryStream):
    async def aclose(self) -> None:
        if self.closed:
            raise ClosedResourceError
        await super().aclose()


class ClosedIsBroken(MemoryStream):
    async def send(self, item: bytes) -> None:
        try:
            await super().send(item)
        except ClosedResourceError:
            raise BrokenResourceError from None


class ClosedIsTheEnd(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await super().receive(max_bytes)
        except ClosedResourceError:
            raise EndOfStream from None


class WaitsToClose(MemoryStream):
    async def aclose(self) -> None:
        await checkpoint()
        await super().aclose()


class LetsReceiversIn(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            with suppress(BusyResourceError):
                return await super().receive(max_bytes)
            await checkpoint()


class LetsSendersIn(MemoryStream):
    async def send(self, item: bytes) -> None:
        while True:
            with suppress(BusyResourceError):
                return await super().send(item)
            await checkpoint()


class HalfDuplex(MemoryStream):
    sending = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while self.sending:
            await checkpoint()
        return await super().receive(max_bytes)

    async def send(self, item: bytes) -> None:
        self.sending = True
        try:
            await super().send(item)
        finally:
            self.sending = False


class SendsWhenCancelled(MemoryStream):
    async def send(self, item: bytes) -> None:
        with CancelScope(shield=len(item) < 100):
            await super().send(item)


class LosesWhenCancelled(MemoryStream):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await super().receive(max_bytes)
        await checkpoint()
        return data


class HidesAnAttribute(MemoryStream):
    asked = False

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        attributes = {} if self.asked else {"name": lambda: "value"}
        self.asked = True
        return attributes


class KnowsEverything(MemoryStream):
    class Everything(dict[Any, Any]):
        def __missing__(self, key: object) -> Callable[[], object]:
            return lambda: key

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self.Everything()


Kind: TypeAlias = type[MemoryStream]

DEFECTS: list[tuple[Kind, str]] = [
    (ReceivesNothing, "in pieces of 1 to `max_bytes`"),
    (ReceivesTooMuch, "in pieces of 1 to `max_bytes`"),
    (Alters, "arrives whole and in order"),
    (SendsAWordForNothing, "Sending nothing"),
    (ReceivesAnyNumber, r"To receive less than one octet .*receive\(0\) gave b''"),
    (LosesAnOctetByNone, "To receive less than one octet"),
    (EndsWithNothing, "EndOfStream"),
    (EndsOnce, "as often as it asks"),
    (HalfCloseClosesAll, "After `send_eof`"),
    (HalfCloseDoesNothing, "After `send_eof`"),
    (BreaksAsAReset, "EndOfStream"),
    (TalksToNobody, "Sending to a peer that closed"),
    (ClosesOnce, "closing it again"),
    (ClosedIsBroken, "A closed stream refuses"),
    (ClosedIsTheEnd, "A closed stream refuses"),
    (WaitsToClose, "Closing in a cancelled scope"),
    (LetsReceiversIn, "A second receiver"),
    (LetsSendersIn, "A second sender"),
    (HalfDuplex, "at the same time"),
    (SendsWhenCancelled, "In a cancelled scope"),
    (LosesWhenCancelled, "loses nothing"),
    (HidesAnAttribute, "`extra` gives each"),
    (KnowsEverything, "`extra` gives each"),
]


#: What these break shows in that nothing moves any more.
HANGING = (
    EndsOnce,
    HalfCloseDoesNothing,
    HalfDuplex,
    LetsReceiversIn,
    LetsSendersIn,
    LosesAnOctetByNone,
    TalksToNobody,
)


def maker(kind: Kind) -> Callable[[], Any]:
    async def make_pair() -> tuple[MemoryStream, MemoryStream]:
        client, server = memory_stream_pair(capacity=500)
        return kind(client._inbox, client._outbox), kind(server._inbox, server._outbox)

    return make_pair


async def test_a_sound_stream_passes() -> None:
    await check_byte_stream(maker(Sound), volume=1000)


@pytest.mark.parametrize(("kind", "rule"), DEFECTS, ids=[kind.__name__ for kind, _ in DEFECTS])
async def test_a_planted_defect_is_found_by_its_rule(kind: Kind, rule: str) -> None:
    volume = 5000 if kind is HalfDuplex else 1000  # more than receives that began early can take
    patience = 0.3 if kind in HANGING else 30
    with pytest.raises(AssertionError, match=rf"^rule: .*({rule})"):
        await check_byte_stream(maker(kind), volume=volume, patience=patience)


async def test_half_close_can_be_left_out() -> None:
    await check_byte_stream(maker(HalfCloseClosesAll), half_close=False, volume=1000)


async def test_a_rule_can_be_left_out() -> None:
    await check_byte_stream(maker(KnowsEverything), volume=1000, leave_out=["attributes"])
    with pytest.raises(UsageError, match="the rules are data, empty_send, "):
        await check_byte_stream(maker(Sound), leave_out=["colours"])


@pytest.mark.parametrize("direction", ["sending", "receiving"])
async def test_a_stream_that_loses_octets_is_told_by_the_rule(direction: str) -> None:
    async def make_pair() -> tuple[ByteStream, ByteStream]:
        first, second = memory_stream_pair()
        return FaultyStream(first, **{direction: Stop(0)}), second

    with pytest.raises(AssertionError, match=r"^rule: Data of .* Instead: nothing more in 0.1 s$"):
        await check_byte_stream(make_pair, volume=1000, patience=0.1)


async def test_a_time_out_of_the_stream_s_own_is_told_as_such() -> None:
    class TimesOut(MemoryStream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            raise TimeoutError("of the kernel's")

    with pytest.raises(AssertionError, match=r"Instead: TimeoutError\(\"of the kernel's\"\)"):
        await check_byte_stream(maker(TimesOut))


async def test_a_pair_that_is_never_made_is_told_by_the_rule() -> None:
    complaint = r"^rule: Data of .* make_pair gave no pair in 0.1 s$"
    with fail_after(10), pytest.raises(AssertionError, match=complaint):
        await check_byte_stream(sleep_forever, patience=0.1)  # type: ignore[arg-type]


async def gives(what: Any) -> Any:
    return what


ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"make_pair": memory_stream_pair}, "make_pair is an async function .*, and gave no coroutine"),
    ({"make_pair": memory_stream_pair()}, "make_pair is an async function .*, not tuple"),
    ({"make_pair": partial(gives, (1, 2))}, "each of what make_pair gives is a byte stream"),
    ({"make_pair": partial(gives, None)}, "what make_pair gives is two streams"),
    ({"volume": 0}, "volume is a whole number from 1, not 0"),
    ({"patience": -1}, "patience is a number from 0, not -1"),
    ({"patience": "long"}, "patience is a number from 0, not str"),
]


@pytest.mark.parametrize(("options", "complaint"), ARGUMENTS)
async def test_what_cannot_be_checked_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        await check_byte_stream(**{"make_pair": maker(Sound), **options})


async def test_the_pairs_are_closed_whatever_happens() -> None:
    made: list[MemoryStream] = []

    async def make_pair() -> tuple[MemoryStream, MemoryStream]:
        pair = await maker(EndsWithNothing)()
        made.extend(pair)
        return pair[0], pair[1]

    with pytest.raises(AssertionError):
        await check_byte_stream(make_pair, volume=1000)
    assert made
    assert all(stream.closed for stream in made)


def test_every_rule_has_its_words() -> None:
    assert len({rule.__doc__ for rule in RULES}) == len(RULES)
    assert all(rule.__doc__ for rule in RULES)


async def test_cancel_at_counts_suspensions() -> None:
    passed: list[int] = []

    async def walk() -> str:
        for step in range(3):
            await checkpoint()
            passed.append(step)
        return "there"

    async def attempt(n: int) -> CancelledRun[str]:
        passed.clear()
        run = await cancel_at(n, walk)
        assert run.cancelled is run.reached
        assert run.value == (None if run.cancelled else "there")
        ends.append(len(passed))
        return run

    ends: list[int] = []
    runs = await cancel_at_each(attempt)
    assert sorted(set(ends)) == [0, 1, 2, 3]
    assert ends == sorted(ends)
    assert [run.reached for run in runs] == [True] * (len(runs) - 1) + [False]


async def test_cancel_at_lets_a_call_finish_that_is_past_its_last_checkpoint() -> None:
    async def finish() -> str:
        with CancelScope(shield=True):
            await checkpoint()
        return "done"

    run = await cancel_at(1, finish)
    assert (run.reached, run.cancelled, run.value) == (True, False, "done")


async def test_cancel_at_passes_exceptions() -> None:
    async def fail() -> None:
        try:
            await checkpoint()
        finally:
            raise KeyError("x")

    for n in (1, 9):
        with pytest.raises(KeyError):
            await cancel_at(n, fail)


async def test_run_both_gives_values_and_exceptions() -> None:
    async def value() -> int:
        return 1

    async def failure() -> int:
        raise KeyError("x")

    first, second = await run_both(value, failure)
    assert first == 1
    assert isinstance(second, KeyError)


async def test_run_both_is_cancelled_as_one() -> None:
    with CancelScope() as scope:
        scope.cancel()
        await run_both(sleep_forever, sleep_forever)
    assert scope.cancelled_caught
