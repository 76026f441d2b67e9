"""A fault that cannot strike is refused where it is made, and one that was used where it is taken.

Either did nothing before, silently, and the test that had it passed and showed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from math import nan
from typing import Any

import pytest

import saslwrap.testing.faults
from saslwrap.errors import UsageError
from saslwrap.testing.faults import (
    After,
    AfterLogin,
    AtOnce,
    Back,
    Chain,
    Cut,
    Delay,
    Drop,
    End,
    Fault,
    FaultyStream,
    FlipBit,
    FrameFault,
    HeadersAlone,
    InjectAt,
    InjectBefore,
    OneOctet,
    Outcome,
    RandomSizes,
    Reflect,
    Replay,
    SplitHeaders,
    Stop,
    Swap,
    Wait,
    Whole,
    WrongLength,
    fault,
    segmentation,
)
from saslwrap.testing.streams import memory_stream_pair
from tests.support import frame


def one_longer(true: int) -> int:
    return true + 1


#: Each class with arguments that it takes, of every parameter.
MAKERS: dict[Callable[..., object], dict[str, object]] = {
    After: {"octets": 0, "fault": None},
    AfterLogin: {"fault": None},
    AtOnce: {"turns": 1},
    Back: {"data": b""},
    Cut: {"after": 0, "reset": False},
    Delay: {"seconds": 0, "seed": -1},
    Drop: {"frame": 0},
    End: {"reset": True},
    FlipBit: {"octet": 0, "bit": 7},
    HeadersAlone: {},
    InjectAt: {"octet": 0, "data": bytearray(b"x")},
    InjectBefore: {"frame": 0, "data": memoryview(b"x")},
    OneOctet: {},
    RandomSizes: {"seed": -1, "largest": 1},
    Reflect: {"frame": 0},
    Replay: {"frame": 0, "later": 0},
    SplitHeaders: {},
    Stop: {"after": 0},
    Swap: {"frame": 0},
    Wait: {"seconds": 0.5},
    Whole: {},
    WrongLength: {"change": one_longer, "frame": 0},
    fault: {"name": "drop", "seed": -1},
    segmentation: {"name": "whole", "seed": 0},
}

#: Parameters of which every number will do.
EVERY_NUMBER = {"seed"}

ARGUMENTS = [(make, name) for make, arguments in MAKERS.items() for name in arguments]
NUMBERS = [(make, name) for make, name in ARGUMENTS if type(MAKERS[make][name]) in (int, float)]


def made(make: Callable[..., object], **changed: object) -> object:
    """Make one with these arguments changed, and a new fault where one is taken."""
    arguments = {**MAKERS[make], **changed}
    if "fault" in arguments:
        arguments["fault"] = arguments["fault"] or Whole()
    return make(**arguments)


def test_the_table_has_every_fault_and_every_parameter() -> None:
    for kind in vars(saslwrap.testing.faults).values():
        if isinstance(kind, type) and issubclass(kind, Fault):
            assert kind in {*MAKERS, Chain, Fault, FrameFault}
    for make, arguments in MAKERS.items():
        assert made(make)
        assert arguments.keys() == signature(make).parameters.keys()


@pytest.mark.parametrize(("make", "name"), ARGUMENTS)
def test_an_argument_of_another_kind_is_refused(make: Callable[..., object], name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is .*, not object$| is no name of these: "):
        made(make, **{name: object()})


@pytest.mark.parametrize(("make", "name"), NUMBERS)
def test_a_number_that_is_none_or_out_of_its_range_is_refused(
    make: Callable[..., object], name: str
) -> None:
    for number in (True, nan, "1", None, *(() if name in EVERY_NUMBER else (-1,))):
        if (name, number) != ("seed", None):
            with pytest.raises(UsageError, match=rf"^{name} is a (whole )?number.*, not "):
                made(make, **{name: number})


def call(make: Any, *arguments: Any, **options: Any) -> Callable[[], object]:
    """As a user calls it who does not check types."""
    return partial(make, *arguments, **options)


REFUSALS = [
    (call(Drop, "1"), "frame is a whole number from 0, not str"),
    (call(Drop, 1.5), "frame is a whole number from 0, not float"),
    (call(Replay, 1, later=-1), "later is a whole number from 0, not -1"),
    (call(FlipBit, 3, 9), "bit is a whole number from 0 to 7, not 9"),
    (call(RandomSizes, 1, 0), "largest is a whole number from 1, not 0"),
    (call(AtOnce, 0), "turns is a whole number from 1, not 0"),
    (call(Delay, -0.5), "seconds is a number from 0, not -0.5"),
    (call(WrongLength, 5), r"change is a function, such as lambda true: true \+ 1, not int"),
    (call(InjectAt, 3, "x"), "data is octets, not str"),
    (call(InjectAt, 3, b""), "data is one octet or more: nothing would come in"),
    (call(InjectBefore, 3, b""), "data is one octet or more: nothing would come in"),
    (call(Cut, 1, reset="x"), "reset is bool, not str"),
    (call(Chain, [Drop()]), r'each part of a Chain is a Fault, .*\("drop", seed=3\), not list'),
    (call(Chain, OneOctet(), Drop), "each part of a Chain is a Fault, .*, not the class Drop"),
    (call(After, 5, "drop"), "fault is a Fault, .*, not str"),
    (call(fault, []), r"\[\] is no name of these: whole, .*, drop, "),
    (call(fault, "drop", "x"), "seed is a whole number, not str"),
    (call(segmentation, "random sizes", 1.5), "seed is a whole number, not float"),
]


@pytest.mark.parametrize(("make", "complaint"), REFUSALS)
def test_a_refusal_says_what_is_taken(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UsageError, match=f"^{complaint}"):
        make()


@pytest.mark.parametrize(
    ("said", "instead"), [(-1, "-1"), (1 << 32, "4294967296"), (None, "NoneType"), (True, "bool")]
)
def test_a_length_that_four_octets_cannot_say_is_refused(said: Any, instead: str) -> None:
    struck = WrongLength(lambda true: said).apply(frame(b"abc"))
    complaint = f"what change makes of 3 is a whole number from 0 to 4294967295, not {instead}"
    with pytest.raises(UsageError, match=complaint):
        list(struck)


# Streams


@pytest.mark.parametrize("direction", ["sending", "receiving"])
@pytest.mark.parametrize(
    ("what", "instead"), [("drop", "str"), (Drop, "the class Drop"), (0, "int"), (b"", "bytes")]
)
def test_a_stream_takes_faults_only(direction: str, what: object, instead: str) -> None:
    options: dict[str, Any] = {direction: what}
    with pytest.raises(UsageError, match=f"^{direction} is a Fault, such as .*, not {instead}$"):
        FaultyStream(memory_stream_pair()[0], **options)


def test_a_stream_is_over_a_stream() -> None:
    with pytest.raises(UsageError, match="stream is a byte stream of anyio, not NoneType"):
        FaultyStream(None)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_stream_refuses_to_receive_nothing_and_to_send_a_number() -> None:
    client, server = memory_stream_pair()
    stream = FaultyStream(server)
    await client.send(b"hello")
    for max_bytes in (0, -1):
        with pytest.raises(UsageError, match=f"from 1, not {max_bytes}"):
            await stream.receive(max_bytes)
    with pytest.raises(TypeError, match="bytes-like"):
        await stream.send(5)  # type: ignore[arg-type]
    assert await stream.receive() == b"hello"
    assert server.under_way == 0


# A fault is used once


def over(**options: Fault) -> FaultyStream:
    return FaultyStream(memory_stream_pair()[0], **options)


def sends(it: Fault) -> object:
    return over(sending=it)


def receives(it: Fault) -> object:
    return over(receiving=it)


def chains(it: Fault) -> object:
    return Chain(OneOctet(), it)


USES: list[Callable[[Fault], object]] = [
    sends,
    receives,
    Chain,
    chains,
    partial(After, 5),
    AfterLogin,
]


@pytest.mark.anyio
@pytest.mark.parametrize("second", USES)
@pytest.mark.parametrize("first", USES)
async def test_a_fault_is_used_once(
    first: Callable[[Fault], object], second: Callable[[Fault], object]
) -> None:
    drop = Drop(0)
    first(drop)
    with pytest.raises(UsageError, match=r"this Drop has one already: make a new one for each, "):
        second(drop)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make", [lambda it: over(sending=it, receiving=it), lambda it: Chain(it, it)]
)
async def test_a_fault_is_not_used_twice_in_one_place(make: Callable[[Fault], object]) -> None:
    with pytest.raises(UsageError, match="this Stop has one already"):
        make(Stop(0))


def test_a_fault_with_a_place_that_is_refused_is_not_used_by_it() -> None:
    drop = Drop(0)
    with pytest.raises(UsageError, match="octets is"):
        After(-1, drop)
    assert After(1, drop)


@dataclass(frozen=True)
class Upper(Fault):
    """Somebody's own, that keeps no state and forgets to call the base's constructor."""

    word: bytes

    def apply(self, data: bytes) -> Iterator[Outcome]:
        yield data.replace(self.word, self.word.upper())


@pytest.mark.anyio
async def test_one_s_own_fault_is_used_once_too() -> None:
    client, server = memory_stream_pair()
    own = Upper(b"x")
    await FaultyStream(client, sending=own).send(b"axb")
    assert await server.receive() == b"aXb"
    with pytest.raises(UsageError, match="this Upper has one already"):
        AfterLogin(own)


def test_what_is_refused_for_another_argument_is_still_free() -> None:
    drop = Drop(0)
    client, _ = memory_stream_pair()
    with pytest.raises(UsageError, match=r"^sending is a Fault"):
        FaultyStream(client, receiving=drop, sending="nope")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^each part of a Chain is a Fault"):
        Chain(drop, "nope")  # type: ignore[arg-type]
    Chain(drop)
