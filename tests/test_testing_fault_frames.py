"""Faults that know frames, and where they start; octets in, outcomes out."""

from __future__ import annotations

import pytest

from saslwrap.errors import UsageError
from saslwrap.protocols.ldap_messages import encode
from saslwrap.testing.faults import (
    After,
    AfterLogin,
    AtOnce,
    Back,
    Cut,
    Drop,
    End,
    Fault,
    FlipBit,
    InjectBefore,
    Outcome,
    Reflect,
    Replay,
    Stop,
    Swap,
    WrongLength,
)
from tests.support import frame

A, B, C, D = map(frame, (b"a", b"bb", b"ccc", b"dddd"))
WIRE = A + B + C + D


def outcomes(fault: Fault, *chunks: bytes) -> list[Outcome]:
    """What comes of the chunks and of the end behind them, without borders between octets."""
    every = [outcome for chunk in chunks for outcome in fault.apply(chunk)]
    joined: list[Outcome] = []
    for outcome in (*every, *fault.finish()):
        if isinstance(outcome, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += outcome
        elif outcome:
            joined.append(outcome)
    return joined


CASES: dict[str, tuple[type[Fault], dict[str, object], list[Outcome]]] = {
    "replay": (Replay, {"frame": 1}, [A + B + B + C + D]),
    "replay later": (Replay, {"frame": 0, "later": 2}, [A + B + C + A + D]),
    "replay the last": (Replay, {"frame": 3}, [WIRE + D]),
    "drop": (Drop, {"frame": 2}, [A + B + D]),
    "swap": (Swap, {"frame": 1}, [A + C + B + D]),
    "swap the last": (Swap, {"frame": 3}, [WIRE]),
    "reflect": (Reflect, {"frame": 1}, [A, Back(B), C + D]),
    "inject": (InjectBefore, {"frame": 2, "data": b"+"}, [A + B + b"+" + C + D]),
    "longer": (
        WrongLength,
        {"change": lambda true: true + 1, "frame": 1},
        [A + b"\0\0\0\3bb" + C + D],
    ),
    "huge": (WrongLength, {"change": lambda true: 0xFFFFFFFC}, [b"\xff\xff\xff\xfca" + B + C + D]),
    "beyond": (Drop, {"frame": 4}, [WIRE]),
}


@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, len(WIRE)])
@pytest.mark.parametrize("name", CASES)
def test_a_fault_strikes_one_frame_wherever_the_chunks_end(name: str, size: int) -> None:
    kind, options, expected = CASES[name]
    chunks = [WIRE[start : start + size] for start in range(0, len(WIRE), size)]
    assert outcomes(kind(**options), *chunks) == [*expected, End()]


@pytest.mark.parametrize("name", CASES)
def test_what_will_not_be_a_whole_frame_comes_with_the_end(name: str) -> None:
    kind, options, _ = CASES[name]
    assert outcomes(kind(**options), A[:-1]) == [A[:-1], End()]


def test_a_frame_is_one_piece() -> None:
    fault = Drop(9)
    assert list(fault.apply(WIRE[:3])) == []
    assert list(fault.apply(WIRE[3:])) == [A, B, C, D]


@pytest.mark.parametrize("none", [b"HTTP/1.1 200 OK", bytes(4) + A, b"\1\0\0\0"])
def test_octets_that_are_no_frames_are_refused(none: bytes) -> None:
    fault = Drop(9)
    with pytest.raises(UsageError, match=r"after 1 frames come octets .* AfterLogin or After"):
        list(fault.apply(A + none))


# Where a fault starts


@pytest.mark.parametrize("chunks", [[b"login" + WIRE], [b"lo", b"gin", WIRE], [b"login", WIRE]])
def test_a_fault_starts_after_some_octets(chunks: list[bytes]) -> None:
    assert outcomes(After(5, Drop(0)), *chunks) == [b"login" + B + C + D, End()]


def test_what_starts_later_counts_from_there() -> None:
    assert outcomes(After(5, FlipBit(1)), b"loginab") == [b"loginac", End()]
    assert outcomes(After(5, Cut(1)), b"loginab")[:2] == [b"logina", End()]
    assert outcomes(After(5, Stop(0)), b"loginab") == [b"login"]
    assert outcomes(After(5, Stop(0)), b"login") == [b"login", End()]
    assert outcomes(After(5, Swap()), b"log") == [b"log", End()]
    assert After(5, AtOnce(turns=3)).turns == 3
    assert AfterLogin(AtOnce(turns=3)).turns == 3


LINES = b"* OK hello\r\na1 AUTHENTICATE DIGEST-MD5\r\n+ a \0 in here\r\n\r\na1 OK\r\n"
BINDS = b"".join(
    encode(number, "bindResponse", {"resultCode": 0, "matchedDN": b"", "diagnosticMessage": text})
    for number, text in ((1, b""), (2, bytes(300)), (300, b"\n\0\n"))
)
LONG_LENGTH = bytes.fromhex("30 84 00 00 00 03 02 01 01")  # as Active Directory sends it


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize(
    "login", [LINES, BINDS, LONG_LENGTH, b""], ids=["lines", "LDAP", "AD", "-"]
)
def test_a_fault_starts_after_the_login(login: bytes, size: int) -> None:
    wire = login + WIRE
    chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
    assert outcomes(AfterLogin(Drop(1)), *chunks) == [login + A + C + D, End()]


@pytest.mark.parametrize("login", [LINES, BINDS[:-1], b"a line, not whole", b"0"])
def test_without_a_layer_it_never_starts(login: bytes) -> None:
    for size in (1, 7, 10_000):
        chunks = [login[start : start + size] for start in range(0, len(login), size)]
        assert outcomes(AfterLogin(Cut(0)), *chunks) == [login, End()]


def test_a_login_of_neither_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no login in LDAP messages or lines .* After"):
        list(AfterLogin(Drop()).apply(b"0\x80indefinite"))
