"""Tokens of DIGEST-MD5, from one who knows the keys: the strongest attacker there is.

What he makes is right, wrong in one field, or right and then edited. A token is accepted if, and
only if, all of it is right.
"""

from __future__ import annotations

from collections.abc import Iterator

from saslwrap.errors import FrameTooLargeError, IntegrityError, OutOfSequenceError, SASLError
from saslwrap.layer import SecurityLayer
from saslwrap.testing.pairs import PROTECTIONS
from tests.attacks.support import Forger, victim
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target, same_error

MAXBUF = 400
MOST_TOKENS = 8


def open_tokens(data: bytes) -> None:
    """Open tokens, in memory of the layer's or the caller's, until one is wrong."""
    reader = Reader(data)
    protection = reader.one_of(PROTECTIONS)
    forger, layer = Forger(protection), victim(protection, maxbuf=MAXBUF)
    in_place = reader.flag()
    for due in range(MOST_TOKENS):
        if not reader.more:
            return
        message, right, genuine = make_token(reader, forger, due)
        token = reader.edited(genuine) if right else genuine
        fault, opened = open_token(layer, token, in_place=in_place)
        is_right = right and token == genuine and len(token) <= MAXBUF
        assert (fault is None) == is_right, (fault, message, token)
        if fault:
            judge_refusal(layer, fault, token, opened, in_place=in_place)
            raise fault
        assert opened[: len(message)] == message
        assert len(opened) == (len(token) if in_place else len(message))


def make_token(reader: Reader, forger: Forger, due: int) -> tuple[bytes, bool, bytes]:
    """Make a token: its message, whether it is right, its octets."""
    message = reader.octets()
    number, kind, mac, padding = due, b"\0\1", forger.mac(message, due), forger.padding(message)
    match reader.number() % 8:
        case 1:
            number = reader.number(4)
        case 2:
            kind = reader.take(2).ljust(2, b"\0")
        case 3:
            mac = reader.take(10).ljust(10, b"\0")
        case 4:
            padding = bent_padding(reader, padding)
        case 5:
            mac = forger.mac(message, reader.number(4))
        case 6:
            mac = forger.mac(reader.octets(), due)
    right = (number, kind, mac, padding) == (
        due,
        b"\0\1",
        forger.mac(message, due),
        forger.padding(message),
    )
    token = forger.token(message, number, padding=padding, mac=mac, kind=kind)
    return message, right, token


def bent_padding(reader: Reader, padding: bytes) -> bytes:
    """Another padding of the same length, so that the token is still whole blocks."""
    return reader.take(len(padding)).ljust(len(padding), b"\0")


def open_token(
    layer: SecurityLayer, token: bytes, *, in_place: bool
) -> tuple[SASLError | None, bytes]:
    """Open a token; give what is wrong with it, and its message or what became of the memory."""
    memory = bytearray(token)
    try:
        if in_place:
            layer.context.unseal_in_place(memoryview(memory))
            return None, bytes(memory)
        return None, layer.context.unseal(memory)
    except SASLError as error:
        return error, bytes(memory)


def judge_refusal(
    layer: SecurityLayer, fault: SASLError, token: bytes, memory: bytes, *, in_place: bool
) -> None:
    """Hold that nothing is told of a forged token, and nothing goes on after it."""
    assert layer.context.failed
    for call in (lambda: layer.context.unseal(token), lambda: layer.context.seal(b"")):
        same_error(call, fault)
    if in_place and not isinstance(fault, FrameTooLargeError):
        assert not any(memory[:-6]), "a forged token was not wiped"
    else:
        assert memory == token, "the peer's octets were changed"


def token_seeds() -> Iterator[bytes]:
    """Each protection: right tokens, and each way to be wrong."""
    ways = (
        b"\0",
        b"\1\0\0\0\5",
        b"\2\0\2",
        b"\3" + bytes(10),
        b"\4\3\3\3",
        b"\5\0\0\0\1",
        b"\6\1x",
    )
    for number in range(len(PROTECTIONS)):
        for in_place in (b"\0", b"\1"):
            head = bytes([number]) + in_place + b"\5hello\0\0" + b"\0\0\0"
            for way in ways:
                yield head + b"\6second" + way + b"\0"
            yield head + b"\3bye\0\1\0\2\1x\1"
            yield head + b"\xff" + bytes(255) + b"\0\1\0\2\xff" + bytes(255) + b"\0"


TARGETS = (
    Target(
        "digest-token",
        open_tokens,
        {
            FrameTooLargeError: "a token over our maxbuf",
            IntegrityError: "a MAC, a padding, a type or a length that is wrong",
            OutOfSequenceError: "another number than was due",
        },
        token_seeds,
        1024,
    ),
)
