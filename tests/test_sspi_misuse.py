"""What a call refuses leaves everything as it was; and two threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from saslwrap import ContextBusyError, SecurityContext
from saslwrap.sspi import (
    SECBUFFER_READONLY,
    SecBuffer,
    decrypt_message,
    encrypt_message,
    make_signature,
    verify_signature,
)
from saslwrap.testing.pairs import PROTECTIONS
from tests.attacks.support import PATIENCE, Gate, held_inside, sealer_of, unsealer_of
from tests.sspi_calls import (
    DATA,
    INCOMPLETE,
    NO_BUFFER,
    NO_SPACE,
    PADDING,
    STREAM,
    TOKEN,
    TRAILER,
    Buffers,
    check_untouched,
    each_protection,
    opened,
    pair,
    readonly,
    room_of,
    sealed,
)


class Misuse(NamedTuple):
    """A wrong call, made of the right buffers; `memory` takes its own of each."""

    status: str
    bend: Callable[[SecurityContext, Buffers], Buffers]
    qop: int = 0
    sequence_number: int = 0


def plain(_: SecurityContext, buffers: Buffers) -> Buffers:
    return buffers


def too_long(context: SecurityContext, buffers: Buffers) -> Buffers:
    return [
        SecBuffer(DATA, bytearray(context.stream_sizes.maximum_message + 1)),
        *buffers[1:],
    ]


def too_little_room(context: SecurityContext, buffers: Buffers) -> Buffers:
    return [buffers[0], SecBuffer(PADDING, bytearray(room_of(context) - 1))]


def too_little_trailer(context: SecurityContext, buffers: Buffers) -> Buffers:
    return [buffers[0], SecBuffer(TRAILER, bytearray(context.stream_sizes.trailer - 1))]


def overlapping(context: SecurityContext, _: Buffers) -> Buffers:
    memory = memoryview(bytearray(b"message") + bytearray(room_of(context)))
    return [SecBuffer(DATA, memory[:7]), SecBuffer(PADDING, memory[6:])]


def overlapping_before(context: SecurityContext, _: Buffers) -> Buffers:
    room = room_of(context)
    memory = memoryview(bytearray(room) + bytearray(b"message"))
    return [SecBuffer(DATA, memory[room - 1 :]), SecBuffer(PADDING, memory[:room])]


def readonly_signature(_: SecurityContext, buffers: Buffers) -> Buffers:
    return [buffers[0], SecBuffer(PADDING | SECBUFFER_READONLY, buffers[1].data)]


WHEN_SEALING = {
    "qop": Misuse("SEC_E_QOP_NOT_SUPPORTED", plain, qop=0x80000001),
    "number": Misuse("SEC_E_OUT_OF_SEQUENCE", plain, sequence_number=1),
    "no buffer": Misuse(NO_BUFFER, lambda *_: []),
    "no message": Misuse(NO_BUFFER, lambda _, buffers: buffers[1:]),
    "readonly message": Misuse(NO_BUFFER, readonly),
    "no signature": Misuse(NO_SPACE, lambda _, buffers: buffers[:1]),
    "readonly signature": Misuse(NO_SPACE, readonly_signature),
    "the same twice": Misuse(NO_SPACE, lambda _, buffers: [buffers[0]] * 2),
    "two signatures": Misuse(
        NO_BUFFER, lambda _, buffers: [*buffers, SecBuffer(DATA, bytearray(24))]
    ),
    "unknown use": Misuse(NO_BUFFER, lambda _, buffers: [SecBuffer(STREAM), *buffers]),
    "message too long": Misuse(NO_SPACE, too_long),
    "too little room": Misuse(NO_SPACE, too_little_room),
    "unwritable signature": Misuse(
        NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(PADDING, bytes(24))]
    ),
    "overlap": Misuse(NO_BUFFER, overlapping),
    "overlap before": Misuse(NO_BUFFER, overlapping_before),
}

WHEN_ENCRYPTING = WHEN_SEALING | {
    "too little trailer": Misuse(NO_SPACE, too_little_trailer),
    "unwritable message": Misuse(
        NO_BUFFER, lambda _, buffers: [SecBuffer(DATA, b"message"), buffers[1]]
    ),
    "no use for a token": Misuse(
        NO_BUFFER, lambda _, buffers: [SecBuffer(TOKEN, bytearray(24)), *buffers]
    ),
}

WHEN_SIGNING = WHEN_SEALING | {
    "too little room": Misuse(
        NO_SPACE, lambda _, buffers: [buffers[0], SecBuffer(TOKEN, bytearray(15))]
    ),
    "no use for a trailer": Misuse(
        NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(TRAILER, bytearray(24))]
    ),
}


def check_sealing(call: Any, context: SecurityContext, misuse: Misuse) -> None:
    right = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    buffers = misuse.bend(context, right)
    arguments = context, misuse.qop, buffers, misuse.sequence_number
    check_untouched(misuse.status, call, *arguments, buffers=[*buffers, *right])


@each_protection
@pytest.mark.parametrize("misuse", WHEN_ENCRYPTING.values(), ids=list(WHEN_ENCRYPTING))
def test_misuse_of_encrypt_message_leaves_everything_as_it_was(
    protection: str, misuse: Misuse
) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    assert sealed(ours, b"first") == theirs.seal(b"first")
    check_sealing(encrypt_message, ours, misuse)
    assert sealed(ours, b"second") == theirs.seal(b"second")


@pytest.mark.parametrize("misuse", WHEN_SIGNING.values(), ids=list(WHEN_SIGNING))
def test_misuse_of_make_signature_leaves_everything_as_it_was(misuse: Misuse) -> None:
    ours, theirs = pair("auth-int").client, pair("auth-int").client
    check_sealing(make_signature, ours, misuse)
    assert sealed(ours, b"message") == theirs.seal(b"message")


@pytest.mark.parametrize(
    ("protection", "room"), [(it, 24 if it in ("des", "3des") else 17) for it in PROTECTIONS]
)
def test_the_documented_room_is_enough(protection: str, room: int) -> None:
    client, server = pair(protection)
    for length in range(20):
        assert server.unseal(sealed(client, bytes(length), room)) == bytes(length)


WHEN_DECRYPTING = {
    "number": Misuse("SEC_E_OUT_OF_SEQUENCE", plain, sequence_number=1),
    "no buffer": Misuse(NO_BUFFER, lambda *_: []),
    "readonly": Misuse(NO_BUFFER, lambda context, both: readonly(context, both)[:1]),
    "two tokens": Misuse(NO_BUFFER, plain),
    "token and stream": Misuse(
        NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(STREAM, buffers[1].data)]
    ),
    "two streams": Misuse(
        NO_BUFFER, lambda _, buffers: [SecBuffer(STREAM, buffers[0].data), SecBuffer(STREAM)]
    ),
    "two empty": Misuse(NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(DATA)]),
    "in two parts": Misuse(
        NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(PADDING, bytearray(16))]
    ),
    "unwritable": Misuse(NO_BUFFER, lambda _, buffers: [SecBuffer(DATA, bytes(buffers[0].data))]),
    "nothing": Misuse(INCOMPLETE, lambda *_: [SecBuffer(DATA)]),
    "one octet": Misuse(INCOMPLETE, lambda _, buffers: [SecBuffer(DATA, buffers[0].data[:1])]),
}


@each_protection
@pytest.mark.parametrize("misuse", WHEN_DECRYPTING.values(), ids=list(WHEN_DECRYPTING))
def test_misuse_of_decrypt_message_leaves_everything_as_it_was(
    protection: str, misuse: Misuse
) -> None:
    client, server = pair(protection)
    token = client.seal(b"message")
    right = [SecBuffer(DATA, bytearray(token)), SecBuffer(DATA, bytearray(token))]
    buffers = misuse.bend(server, right)
    arguments = server, buffers, misuse.sequence_number
    check_untouched(misuse.status, decrypt_message, *arguments, buffers=[*buffers, *right])
    assert opened(server, token) == b"message"


WHEN_VERIFYING = {
    "number": Misuse("SEC_E_OUT_OF_SEQUENCE", plain, sequence_number=1),
    "no message": Misuse(NO_BUFFER, lambda _, buffers: buffers[1:]),
    "no signature": Misuse(NO_SPACE, lambda _, buffers: buffers[:1]),
    "short signature": Misuse(
        INCOMPLETE, lambda _, buffers: [buffers[0], SecBuffer(TOKEN, buffers[1].data[:15])]
    ),
    "long signature": Misuse(
        NO_BUFFER, lambda _, buffers: [buffers[0], SecBuffer(TOKEN, bytearray(17))]
    ),
}


@pytest.mark.parametrize("misuse", WHEN_VERIFYING.values(), ids=list(WHEN_VERIFYING))
def test_misuse_of_verify_signature_leaves_everything_as_it_was(misuse: Misuse) -> None:
    client, server = pair("auth-int")
    token = client.seal(b"message")
    right = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(TOKEN, bytearray(token[7:]))]
    buffers = misuse.bend(server, right)
    arguments = server, buffers, misuse.sequence_number
    check_untouched(misuse.status, verify_signature, *arguments, buffers=[*buffers, *right])
    verify_signature(server, right, 0)


ROUNDS = 300


def encrypt_many(context: SecurityContext) -> list[bytes]:
    """Encrypt until there are ROUNDS tokens; where refused, try anew."""
    tokens: list[bytes] = []
    while len(tokens) < ROUNDS:
        try:
            tokens.append(sealed(context, b"%d" % len(tokens) * 200))
        except ContextBusyError:
            continue
    return tokens


@each_protection
def test_one_thread_encrypts_while_another_decrypts(protection: str) -> None:
    client, server = pair(protection)
    inbound = [server.seal(b"%d" % number * 200) for number in range(ROUNDS)]
    with ThreadPoolExecutor(2) as pool:
        encrypting = pool.submit(encrypt_many, client)
        decrypting = pool.submit(lambda: [opened(client, token) for token in inbound])
        outbound = encrypting.result(PATIENCE)
        assert decrypting.result(PATIENCE) == [b"%d" % number * 200 for number in range(ROUNDS)]
    assert [opened(server, token) for token in outbound] == [
        b"%d" % number * 200 for number in range(ROUNDS)
    ]


@each_protection
def test_two_that_encrypt_never_damage_the_count(protection: str) -> None:
    """Each call is refused at once or gets a number of its own: the peer opens them all."""
    client, server = pair(protection)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(encrypt_many, client) for _ in range(2)]
        tokens = [token for future in futures for token in future.result(PATIENCE)]
    tokens.sort(key=lambda token: token[-4:])
    assert [token[-4:] for token in tokens] == [
        number.to_bytes(4, "big") for number in range(2 * ROUNDS)
    ]
    assert all(opened(server, token) for token in tokens)


@each_protection
def test_a_third_thread_is_refused_at_once(protection: str) -> None:
    client, server = pair(protection)
    token = server.seal(b"inbound")
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    late = [SecBuffer(DATA, bytearray(token))]
    before = [bytes(buffer.data) for buffer in (*buffers, *late)]
    with (
        held_inside(Gate(sealer_of(client)), lambda: sealed(client, b"first")) as encrypting,
        held_inside(Gate(unsealer_of(client)), lambda: opened(client, token)) as decrypting,
    ):
        for _ in range(10):
            with pytest.raises(ContextBusyError):
                encrypt_message(client, 0, buffers, 0)
            with pytest.raises(ContextBusyError):
                decrypt_message(client, late, 0)
    assert [bytes(buffer.data) for buffer in (*buffers, *late)] == before
    assert opened(server, encrypting.result(PATIENCE)) == b"first"
    assert decrypting.result(PATIENCE) == b"inbound"
    assert opened(server, sealed(client, b"second")) == b"second"


def test_a_misuse_while_another_thread_is_at_work_is_told_first() -> None:
    client, _ = pair("rc4")
    with held_inside(Gate(sealer_of(client)), lambda: sealed(client, b"first")):
        check_sealing(encrypt_message, client, WHEN_ENCRYPTING["too little room"])
