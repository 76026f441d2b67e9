"""Attack list, group D: nothing tells a wrong padding from a wrong MAC.

The forger knows the keys, so each fault can be had alone. An attacker who does not know them
reaches the same states by altering ciphertext, one query a connection.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

import pytest

from saslwrap.errors import IntegrityError
from saslwrap.layer import SecurityLayer
from tests.attacks.support import (
    Forger,
    Primitives,
    Verdict,
    block_protection,
    frame,
    judge,
    judge_in_place,
    victim,
)

LUCKY_13_RESIDUE = 7  # octets by which the HMAC's input may differ: attack list, group D

BODY = b"a body of 22 octets..."  # message and padding together, in front of the MAC
SHORT_BODY = b"6 only"  # of the shortest token


def with_end(body: bytes, end: bytes) -> bytes:
    """The body, its end replaced."""
    return body[: len(body) - len(end)] + end


def with_wrong_octet(length: int, place: int) -> bytes:
    """A padding of this length, wrong at one place (0 is the first octet)."""
    padding = bytearray((length,)) * length
    padding[place] ^= 0x20
    return bytes(padding)


WRONG_BODIES = {
    **{f"last octet {value}": with_end(BODY, bytes((value,))) for value in (0, 9, 16, 0x7F)},
    **{f"last octet {value}": with_end(BODY, bytes((value,))) for value in (0x80, 0xF8, 0xFF)},
    **{f"all {value}": bytes((value,)) * 22 for value in (0, 9, 16, 0x7F, 0x80, 0xFF)},
    **{
        f"{length} but octet {place}": with_end(BODY, with_wrong_octet(length, place))
        for length in range(2, 9)
        for place in range(length - 1)
    },
    "7 in a body of 6": b"\7" * 6,
    "8 in a body of 6": b"\x08" * 6,
    "22 in a body of 22": b"\x16" * 22,
    "last octet 0 of a short body": with_end(SHORT_BODY, b"\0"),
}

RIGHT_BODIES = {str(length): with_end(BODY, bytes((length,)) * length) for length in range(1, 9)}


def macs(forger: Forger, body: bytes) -> list[bytes]:
    """Every MAC that a careless receiver may hold for right, and a wrong one."""
    ends = {1, *range(9), body[-1]}
    return [*(forger.mac(body[: len(body) - end]) for end in ends), bytes(10)]


Judge: TypeAlias = Callable[[SecurityLayer, bytes], Verdict]
both_ways = pytest.mark.parametrize("how", [judge, judge_in_place], ids=["copied", "in place"])


def refusal(
    protection: str, how: Judge, body: bytes, mac: Callable[[Forger], bytes]
) -> IntegrityError:
    """What the victim raises of a token of this body and MAC."""
    forger = Forger(protection)
    token = forger.token(body, padding=b"", mac=mac(forger))
    verdict = how(victim(protection), frame(token))
    assert not any(verdict.accepted[:-6])  # in place: wiped, up to the trailer
    assert type(verdict.error) is IntegrityError
    return verdict.error


@pytest.mark.parametrize("body", RIGHT_BODIES.values(), ids=RIGHT_BODIES)
@block_protection
@both_ways
def test_d_right_padding_is_accepted(protection: str, how: Judge, body: bytes) -> None:
    """The control of all others.

    Guard: saslwrap/mechanisms/digest_md5/context.py: length += excess * hit
    """
    message = body[: -body[-1]]
    forger = Forger(protection)
    token = forger.token(body, padding=b"", mac=forger.mac(message))
    assert how(victim(protection), frame(token)).accepted == message


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
@block_protection
@both_ways
def test_d_wrong_padding_is_refused_under_any_mac(protection: str, how: Judge, body: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    Guard: saslwrap/mechanisms/digest_md5/context.py: wipe(body)
    Guard: saslwrap/mechanisms/digest_md5/context.py: right |= hit
    Guard: saslwrap/mechanisms/digest_md5/context.py: ended[-2 - excess :], padding)
    """
    for mac in macs(Forger(protection), body):
        refusal(protection, how, body, lambda _, mac=mac: mac)  # type: ignore[misc]


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
@block_protection
@both_ways
def test_d_wrong_padding_and_wrong_mac_raise_the_same(
    protection: str, how: Judge, body: bytes
) -> None:
    """Guard: saslwrap/layer.py: self.context.fail(error)
    Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    """
    wrong_padding = refusal(protection, how, body, lambda forger: forger.mac(body[:-1]))
    wrong_mac = refusal(protection, how, RIGHT_BODIES["8"], lambda _: bytes(10))
    both = refusal(protection, how, body, lambda _: bytes(10))
    for error in (wrong_padding, wrong_mac, both):
        assert str(error) == str(IntegrityError())
        assert vars(error) == {}
        assert error.__cause__ is None
        assert error.__context__ is None


def three_faults(
    protection: str,
    how: Judge,
    length: str,
    body: bytes,
    record: Callable[[Callable[[], object]], Any],
) -> list[Any]:
    """Records of a wrong MAC, a wrong padding and both."""
    right = RIGHT_BODIES[length]
    return [
        record(lambda: refusal(protection, how, right, lambda _: bytes(10))),
        record(lambda: refusal(protection, how, body, lambda forger: forger.mac(body[:-1]))),
        record(lambda: refusal(protection, how, body, lambda _: bytes(10))),
    ]


def hmac_octets(record: list[tuple[str, int]]) -> int:
    """How many octets the HMAC got."""
    return sum(length for name, length in record if name == "hmac update")


SAME_SIZE = {name: body for name, body in WRONG_BODIES.items() if len(body) == len(BODY)}
every_wrong_body = pytest.mark.parametrize("body", SAME_SIZE.values(), ids=SAME_SIZE)


@every_wrong_body
@block_protection
@both_ways
def test_d_wrong_padding_and_wrong_mac_call_the_same_primitives(
    protection: str, how: Judge, body: bytes, primitives: Primitives
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: authentic = compare_digest("""

    def record(action: Callable[[], object]) -> list[tuple[str, int]]:
        primitives.calls.clear()
        action()
        return list(primitives.calls)

    for length in RIGHT_BODIES:
        wrong_mac, wrong_padding, both = three_faults(protection, how, length, body, record)
        names = [name for name, _ in wrong_mac]
        deciphered = names.index("compare_digest")
        assert names[:deciphered] == ["cipher update"] * deciphered
        assert names[deciphered:] == [
            *["compare_digest"] * 8,  # one for each padding there is
            "hmac copy",
            "hmac update",
            "hmac update",
            "hmac finalize",
            "compare_digest",
        ]
        assert wrong_padding == both
        for one, other in zip(wrong_mac, both, strict=True):
            assert one[0] == other[0]
            allowed = LUCKY_13_RESIDUE if one[0] == "hmac update" else 0
            assert abs(one[1] - other[1]) <= allowed
        assert abs(hmac_octets(wrong_mac) - hmac_octets(both)) <= LUCKY_13_RESIDUE


def lines_run(action: Callable[[], object]) -> list[tuple[str, int]]:
    """The lines of the mechanism that `action` runs, in order."""
    lines: list[tuple[str, int]] = []

    def trace(stack: FrameType, event: str, _: object) -> Any:
        if event == "call" and "digest_md5" not in stack.f_code.co_filename:
            return None
        lines.append((stack.f_code.co_qualname, stack.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


@every_wrong_body
@block_protection
@both_ways
def test_d_wrong_padding_and_wrong_mac_run_the_same_lines(
    protection: str, how: Judge, body: bytes
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: authentic = compare_digest(
    Guard: saslwrap/mechanisms/digest_md5/context.py: for excess, padding in PADDINGS:
    """
    wrong_mac, wrong_padding, both = three_faults(protection, how, "8", body, lines_run)
    assert "DigestUnsealer._authenticate" in dict(wrong_mac)
    assert wrong_mac == wrong_padding == both


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
@block_protection
@both_ways
def test_d_wrong_padding_and_wrong_mac_log_nothing(
    protection: str, how: Judge, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:"""
    with caplog.at_level(logging.NOTSET):
        refusal(protection, how, body, lambda forger: forger.mac(body[:-1]))
        refusal(protection, how, RIGHT_BODIES["8"], lambda _: bytes(10))
    assert caplog.records == []
