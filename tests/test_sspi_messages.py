"""EncryptMessage, DecryptMessage, MakeSignature, VerifySignature: in place; each status."""

from __future__ import annotations

import ctypes
import gc
import mmap
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslwrap import ContextBusyError, SecurityContext, UsageError
from saslwrap.errors import SecurityStatus
from saslwrap.mechanisms.digest_md5.context import DigestSealer, DigestUnsealer
from saslwrap.sspi import (
    SECBUFFER_READONLY,
    CtxtHandle,
    SecBuffer,
    SecBufferType,
    SSPIError,
    decrypt_message,
    encrypt_message,
    make_signature,
    verify_signature,
)
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.pairs import (
    PROTECTIONS,
    ContextPair,
    connect_mechanisms,
    context_pair,
    mechanism_pair,
)
from tests.attacks.support import PATIENCE, Gate, held_inside, sealer_of, unsealer_of
from tests.support import make_context as make_toy_context
from tests.test_digest_md5_vectors import (
    CASES,
    CLIENT_SAYS,
    EXTRA,
    SERVER_SAYS,
    context_of,
    logged_in_client,
    logged_in_server,
)

DATA = SecBufferType.SECBUFFER_DATA
EMPTY = SecBufferType.SECBUFFER_EMPTY
HEADER = SecBufferType.SECBUFFER_STREAM_HEADER
PADDING = SecBufferType.SECBUFFER_PADDING
STREAM = SecBufferType.SECBUFFER_STREAM
TOKEN = SecBufferType.SECBUFFER_TOKEN
TRAILER = SecBufferType.SECBUFFER_STREAM_TRAILER

LENGTHS = (*range(41), None)  # None is the maximum
LARGE = 65_000

each_protection = pytest.mark.parametrize("protection", PROTECTIONS)
confidential = pytest.mark.parametrize("protection", PROTECTIONS[1:])


def room_of(context: SecurityContext) -> int:
    return context.sizes.max_signature + context.sizes.block_size


def pair(protection: str, **options: int) -> ContextPair:
    """Two ends, the same ones for each call."""
    return context_pair(protection, seed=1, **options)


def messages_for(context: SecurityContext) -> Iterator[bytes]:
    for length in LENGTHS:
        length = context.stream_sizes.maximum_message if length is None else length
        yield bytes(number % 251 for number in range(length))


def sealed(context: SecurityContext | CtxtHandle, message: bytes, room: int = 24) -> bytes:
    """Encrypt in memory of its own and give the token."""
    buffers = [SecBuffer(DATA, bytearray(message)), SecBuffer(PADDING, bytearray(room))]
    encrypt_message(context, 0, buffers, 0)
    assert len(buffers[0].data) == len(message)
    return b"".join(buffer.data for buffer in buffers)


def opened(context: SecurityContext | CtxtHandle, token: bytes, kind: int = DATA) -> bytes:
    """Decrypt in memory of its own and give the message."""
    buffer = SecBuffer(kind, bytearray(token))
    decrypt_message(context, [buffer], 0)
    return bytes(buffer.data)


def refused(status: str, call: Callable[..., object], *arguments: Any) -> SSPIError:
    with pytest.raises(SSPIError) as caught:
        call(*arguments)
    assert caught.value.status is SecurityStatus[status], caught.value
    assert str(caught.value).endswith(f"({status})")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


# ---------------------------------------------------------------- tokens are the library's own


@each_protection
@pytest.mark.parametrize("side", ["client", "server"])
def test_encrypted_messages_open_with_unseal(protection: str, side: str) -> None:
    ends = pair(protection)
    sender, receiver = ends if side == "client" else ends[::-1]
    for message in messages_for(sender):
        assert receiver.unseal(sealed(sender, message)) == message


@each_protection
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("kind", [DATA, STREAM])
def test_sealed_messages_decrypt(protection: str, side: str, kind: int) -> None:
    ends = pair(protection)
    sender, receiver = ends if side == "client" else ends[::-1]
    for message in messages_for(sender):
        assert opened(receiver, sender.seal(message), kind) == message


@each_protection
def test_tokens_are_those_of_seal(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    for message in messages_for(ours):
        token = theirs.seal(message)
        buffers = [SecBuffer(DATA, bytearray(message)), SecBuffer(PADDING, bytearray(24))]
        encrypt_message(ours, 0, buffers, 0)
        assert buffers[0].data == token[: len(message)]
        assert buffers[1].data == token[len(message) :]


@given(st.lists(st.binary(max_size=100), max_size=8), st.sampled_from(PROTECTIONS))
def test_any_messages_come_through(messages: list[bytes], protection: str) -> None:
    client, server = pair(protection)
    assert [opened(server, sealed(client, message)) for message in messages] == messages


@each_protection
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_vectors(case: Any, protection: str) -> None:
    client = context_of(logged_in_client(case, protection))
    server = context_of(logged_in_server(case, protection))
    for sender, receiver, messages, name in [
        (client, server, CLIENT_SAYS, "c2s"),
        (server, client, SERVER_SAYS, "s2c"),
    ]:
        tokens = [bytes.fromhex(frame)[4:] for frame in case["layers"][protection][name]]
        assert [sealed(sender, message) for message in messages] == tokens
        assert [opened(receiver, token) for token in tokens] == messages


@pytest.mark.parametrize("protection", EXTRA["empty_message"]["c2s"])
def test_the_vectors_of_an_empty_message(protection: str) -> None:
    case = CASES[EXTRA["empty_message"]["case"]]
    token = bytes.fromhex(EXTRA["empty_message"]["c2s"][protection])[4:]
    assert sealed(context_of(logged_in_client(case, protection)), b"") == token
    assert opened(context_of(logged_in_server(case, protection)), token) == b""


def test_a_handle_stands_for_its_context() -> None:
    client, server = mechanism_pair("rc4")
    connect_mechanisms(client, server)
    ours, theirs = CtxtHandle(client), CtxtHandle(server)  # type: ignore[arg-type]
    assert opened(theirs, sealed(ours, b"message")) == b"message"


# ---------------------------------------------------------------- in the caller's memory


class Memory(NamedTuple):
    """Some memory, and how to look at it."""

    buffer: Any
    octets: Callable[[], bytes]


def in_bytearray(size: int) -> Memory:
    memory = bytearray(size)
    return Memory(memory, lambda: bytes(memory))


def in_memoryview(size: int) -> Memory:
    memory = bytearray(size + 20)
    return Memory(memoryview(memory)[10:-10], lambda: bytes(memory[10:-10]))


def in_mmap(size: int) -> Memory:
    memory = mmap.mmap(-1, size or 1)
    return Memory(memoryview(memory)[:size], lambda: memory[:size])


def in_ctypes(size: int) -> Memory:
    memory = (ctypes.c_ubyte * size)()
    return Memory(memory, lambda: bytes(memory))


def in_ctypes_chars(size: int) -> Memory:
    memory = ctypes.create_string_buffer(size)
    return Memory(memory, lambda: memory.raw)


def in_array(size: int) -> Memory:
    memory = array("b", bytes(size))
    return Memory(memory, memory.tobytes)


MEMORIES = [in_bytearray, in_memoryview, in_mmap, in_ctypes, in_ctypes_chars, in_array]

each_memory = pytest.mark.parametrize("allocate", MEMORIES)


def fill(memory: Memory, octets: bytes) -> None:
    memoryview(memory.buffer).cast("B")[: len(octets)] = octets


@each_protection
@each_memory
def test_the_token_appears_where_the_message_was(
    protection: str, allocate: Callable[[int], Memory]
) -> None:
    client, theirs = pair(protection).client, pair(protection).client
    for message in (b"a message of some length", b"short", b"x" * 1000):
        token, message_memory, rest = theirs.seal(message), allocate(len(message)), allocate(24)
        fill(message_memory, message)
        buffers = [SecBuffer(DATA, message_memory.buffer), SecBuffer(PADDING, rest.buffer)]
        encrypt_message(client, 0, buffers, 0)
        assert message_memory.octets() == token[: len(message)]
        assert rest.octets()[: len(token) - len(message)] == token[len(message) :]


@each_protection
@each_memory
def test_the_message_appears_where_the_token_was(
    protection: str, allocate: Callable[[int], Memory]
) -> None:
    client, server = pair(protection)
    for message in (b"a message of some length", b"short", b"x" * 1000):
        token = client.seal(message)
        memory = allocate(len(token))
        fill(memory, token)
        buffer = SecBuffer(DATA, memory.buffer)
        decrypt_message(server, [buffer], 0)
        assert buffer.data == message
        assert memory.octets()[: len(message)] == message


@each_protection
def test_side_by_side_in_one_memory_the_token_is_in_one_piece(protection: str) -> None:
    client, server = pair(protection)
    room = room_of(client)
    for length in range(40):
        memory = memoryview(bytearray(length + room))
        memory[:length] = bytes(range(length))
        buffers = [SecBuffer(DATA, memory[:length]), SecBuffer(PADDING, memory[length:])]
        encrypt_message(client, 0, buffers, 0)
        token = memory[: length + len(buffers[1].data)]
        assert bytes(token) == b"".join(buffer.data for buffer in buffers)
        assert opened(server, bytes(token)) == bytes(range(length))


def peak(work: Callable[[], object]) -> int:
    """The most that was allocated at once by `work`, in octets."""
    gc.collect()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@each_protection
def test_neither_direction_copies_the_message(protection: str) -> None:
    client, server = pair(protection)
    memory = memoryview(bytearray(b"m" * LARGE + bytes(room_of(client))))
    buffers = [SecBuffer(DATA, memory[:LARGE]), SecBuffer(PADDING, memory[LARGE:])]
    assert peak(lambda: encrypt_message(client, 0, buffers, 0)) < LARGE // 4
    whole = [SecBuffer(DATA, memory[: LARGE + len(buffers[1].data)])]
    assert peak(lambda: decrypt_message(server, whole, 0)) < LARGE // 4
    assert whole[0].data == b"m" * LARGE


def test_neither_signing_nor_verifying_copies_the_message() -> None:
    client, server = pair("auth-int")
    buffers = [SecBuffer(DATA, b"m" * LARGE), SecBuffer(TOKEN, bytearray(16))]
    assert peak(lambda: make_signature(client, 0, buffers, 0)) < LARGE // 4
    assert peak(lambda: verify_signature(server, buffers, 0)) < LARGE // 4


@each_protection
def test_the_trace_sees_a_copy(protection: str) -> None:
    """The guard: what the tests above would measure of a call that copies."""
    client, server = pair(protection)
    message = b"m" * LARGE
    assert peak(lambda: client.seal(message)) > LARGE
    token = pair(protection).client.seal(message)
    assert peak(lambda: server.unseal(token)) > (protection != "auth-int") * LARGE


# ---------------------------------------------------------------- which buffers


@each_protection
def test_the_documented_order_of_four(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    buffers = [
        SecBuffer(HEADER, bytearray(4)),
        SecBuffer(DATA, bytearray(b"message")),
        SecBuffer(TRAILER, bytearray(ours.stream_sizes.trailer)),
        SecBuffer(EMPTY, bytearray(4)),
    ]
    encrypt_message(ours, 0, buffers, 0)
    assert b"".join(buffer.data for buffer in buffers) == theirs.seal(b"message")


@each_protection
def test_buffers_that_need_no_memory(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    trailer = SecBuffer(TRAILER, bytearray(ours.stream_sizes.trailer))
    encrypt_message(ours, 0, [SecBuffer(HEADER), SecBuffer(DATA), trailer, SecBuffer(EMPTY)], 0)
    assert trailer.data == theirs.seal(b"")


@each_protection
def test_a_second_data_buffer_takes_the_signature(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(DATA, bytearray(24))]
    encrypt_message(ours, 0, buffers, 0)
    assert b"".join(buffer.data for buffer in buffers) == theirs.seal(b"message")


@each_protection
def test_readonly_buffers_are_not_processed(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    aside = [
        SecBuffer(DATA | SECBUFFER_READONLY, b"left alone"),
        SecBuffer(PADDING, bytearray(b"as well"), readonly=True),
        SecBuffer(HEADER | SECBUFFER_READONLY, bytearray(b"this one too")),
        SecBuffer(EMPTY, bytearray(b"and this"), readonly=True),
    ]
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    encrypt_message(ours, 0, [*aside[:2], *buffers, *aside[2:]], 0)
    token = b"".join(buffer.data for buffer in buffers)
    assert token == theirs.seal(b"message")
    whole = SecBuffer(DATA, bytearray(token))
    decrypt_message(pair(protection).server, [*aside, whole], 0)
    assert bytes(whole.data) == b"message"
    assert [bytes(buffer.data) for buffer in aside] == [
        b"left alone",
        b"as well",
        b"this one too",
        b"and this",
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_an_empty_data_buffer_beside_a_stream_shows_the_message(order: int) -> None:
    client, server = pair("rc4")
    stream, data = SecBuffer(STREAM, bytearray(client.seal(b"message"))), SecBuffer(DATA)
    decrypt_message(server, [stream, SecBuffer(EMPTY), data][::order], 0)
    assert bytes(data.data) == bytes(stream.data) == b"message"


def test_success_without_a_message_is_normal() -> None:
    client, server = pair("3des")
    assert opened(server, client.seal(b"")) == b""
    assert opened(server, client.seal(b"next")) == b"next"


# ---------------------------------------------------------------- signatures

SIGNATURE_TYPES = [TOKEN, PADDING, DATA]


@pytest.mark.parametrize("kind", SIGNATURE_TYPES)
def test_message_and_signature_are_a_token(kind: SecBufferType) -> None:
    client, server = pair("auth-int")
    for message in messages_for(client):
        buffers = [SecBuffer(DATA, message), SecBuffer(kind, bytearray(20))]
        make_signature(client, 0, buffers, 0)
        assert buffers[0].data == message
        assert len(buffers[1].data) == 16
        assert server.unseal(message + bytes(buffers[1].data)) == message


@pytest.mark.parametrize("kind", SIGNATURE_TYPES)
def test_a_signature_is_verified(kind: SecBufferType) -> None:
    client, server = pair("auth-int")
    for message in messages_for(client):
        token = client.seal(message)
        buffers = [SecBuffer(DATA, message), SecBuffer(kind, token[-16:])]
        verify_signature(server, buffers, 0)
        assert [bytes(buffer.data) for buffer in buffers] == [message, token[-16:]]


def test_signing_is_encrypting_without_confidentiality() -> None:
    ours, theirs = pair("auth-int").client, pair("auth-int").client
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, bytearray(16))]
    make_signature(ours, 0, buffers, 0)
    assert sealed(theirs, b"message") == b"".join(buffer.data for buffer in buffers)


@pytest.mark.parametrize("place", range(16))
def test_each_octet_of_a_signature_counts(place: int) -> None:
    client, server = pair("auth-int")
    token = bytearray(client.seal(b"message"))
    token[7 + place] ^= 1
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, token[7:])]
    status = "SEC_E_OUT_OF_SEQUENCE" if place > 11 else "SEC_E_MESSAGE_ALTERED"
    refused(status, verify_signature, server, buffers, 0)
    assert server.failed


def test_a_signature_of_another_message_is_refused() -> None:
    client, server = pair("auth-int")
    buffers = [
        SecBuffer(DATA, bytearray(b"massage")),
        SecBuffer(TOKEN, client.seal(b"message")[7:]),
    ]
    refused("SEC_E_MESSAGE_ALTERED", verify_signature, server, buffers, 0)
    assert bytes(buffers[0].data) == b"massage"


@confidential
def test_nothing_is_only_signed_under_confidentiality(protection: str) -> None:
    client, _ = pair(protection)
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, bytearray(16))]
    refused("SEC_E_QOP_NOT_SUPPORTED", make_signature, client, 0, buffers, 0)
    refused("SEC_E_QOP_NOT_SUPPORTED", verify_signature, client, buffers, 0)
    assert sealed(client, b"message") == pair(protection).client.seal(b"message")


def test_a_signed_message_over_our_maxbuf_is_refused() -> None:
    client, server = pair("auth-int", server_maxbuf=64)
    assert client.stream_sizes.maximum_message == 48
    buffers = [SecBuffer(DATA, bytes(49)), SecBuffer(TOKEN, bytes(16))]
    refused("SEC_E_BUFFER_TOO_SMALL", verify_signature, server, buffers, 0)
    assert server.failed


# ---------------------------------------------------------------- misuse

Buffers = list[SecBuffer]


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


def readonly(_: SecurityContext, buffers: Buffers) -> Buffers:
    return [SecBuffer(DATA | SECBUFFER_READONLY, buffers[0].data), buffers[1]]


def readonly_signature(_: SecurityContext, buffers: Buffers) -> Buffers:
    return [buffers[0], SecBuffer(PADDING | SECBUFFER_READONLY, buffers[1].data)]


NO_SPACE, NO_BUFFER = "SEC_E_BUFFER_TOO_SMALL", "SEC_E_INVALID_TOKEN"

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


def check_untouched(
    status: str, call: Callable[..., object], *arguments: Any, buffers: Buffers
) -> None:
    before = [(buffer.type, bytes(buffer.data)) for buffer in buffers]
    refused(status, call, *arguments)
    assert [(buffer.type, bytes(buffer.data)) for buffer in buffers] == before


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


INCOMPLETE = "SEC_E_INCOMPLETE_MESSAGE"

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


# ---------------------------------------------------------------- the other statuses


def calls(context: Any) -> list[tuple[Buffers, Callable[[], object]]]:
    """All four, as documented, each with its buffers."""
    made: list[tuple[Buffers, Callable[[], object]]] = []
    for call in (encrypt_message, make_signature):
        sealing = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
        made.append((sealing, partial(call, context, 0, sealing, 0)))
    token = [SecBuffer(DATA, bytearray(pair("auth-int").client.seal(b"message")))]
    made.append((token, partial(decrypt_message, context, token, 0)))
    signed = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(16))]
    made.append((signed, partial(verify_signature, context, signed, 0)))
    return made


def check_all_refused(status: str, context: Any) -> None:
    for buffers, call in calls(context):
        check_untouched(status, call, buffers=buffers)


@pytest.mark.parametrize("nothing", [None, 0, "context", object()])
def test_what_is_no_context_is_an_invalid_handle(nothing: object) -> None:
    check_all_refused("SEC_E_INVALID_HANDLE", nothing)


def test_a_login_that_is_not_complete_is_an_invalid_handle() -> None:
    client, server = mechanism_pair("rc4")
    check_all_refused("SEC_E_INVALID_HANDLE", CtxtHandle(client))  # type: ignore[arg-type]
    server.step(None)
    check_all_refused("SEC_E_INVALID_HANDLE", CtxtHandle(server))  # type: ignore[arg-type]


def test_a_login_without_a_layer_has_no_quality_of_protection() -> None:
    client, server = mechanism_pair("auth")
    connect_mechanisms(client, server)
    for mechanism in (client, server):
        handle = CtxtHandle(mechanism)  # type: ignore[arg-type]
        check_all_refused("SEC_E_QOP_NOT_SUPPORTED", handle)
        handle.close()
        check_all_refused("SEC_E_QOP_NOT_SUPPORTED", handle)


def test_a_context_of_another_mechanism_is_not_for_this_package() -> None:
    check_all_refused("SEC_E_UNSUPPORTED_FUNCTION", make_toy_context())


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
def test_a_closed_context_has_expired(protection: str) -> None:
    client, server = mechanism_pair(protection)
    connect_mechanisms(client, server)
    handle = CtxtHandle(client)  # type: ignore[arg-type]
    handle.close()
    handle.close()
    assert server.context is not None
    server.context.close()
    for closed in (handle, handle.context, server.context):
        for buffers, call in calls(closed)[:: 2 if protection != "auth-int" else 1]:
            check_untouched("SEC_E_CONTEXT_EXPIRED", call, buffers=buffers)


@each_protection
def test_an_altered_message_ends_the_context_and_is_wiped(protection: str) -> None:
    token = pair(protection).client.seal(b"message of some length")
    for place in range(len(token)):
        server = pair(protection).server
        memory = bytearray(token)
        memory[place] ^= 0x80
        buffer = SecBuffer(DATA, memory)
        status = "SEC_E_OUT_OF_SEQUENCE" if place >= len(token) - 4 else "SEC_E_MESSAGE_ALTERED"
        error = refused(status, decrypt_message, server, [buffer], 0)
        assert not any(memory[:-6])
        assert server.failed
        again = SecBuffer(DATA, bytearray(token))
        assert str(refused(status, decrypt_message, server, [again], 0)) == str(error)
        assert again.data == token
        pad = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
        check_untouched(status, encrypt_message, server, 0, pad, 0, buffers=pad)


@each_protection
def test_a_replayed_message_is_out_of_sequence(protection: str) -> None:
    client, server = pair(protection)
    token = client.seal(b"message")
    assert opened(server, token) == b"message"
    memory = bytearray(token)
    refused("SEC_E_OUT_OF_SEQUENCE", decrypt_message, server, [SecBuffer(DATA, memory)], 0)
    assert not any(memory[:-6])


@each_protection
def test_what_is_shorter_than_any_token_is_incomplete(protection: str) -> None:
    client, server = pair(protection)
    token = client.seal(b"")
    for length in range(len(token)):
        buffer = SecBuffer(STREAM, bytearray(token[:length]))
        check_untouched(INCOMPLETE, decrypt_message, server, [buffer], 0, buffers=[buffer])
    assert not server.failed
    assert opened(server, token) == b""


@each_protection
def test_a_token_over_our_maxbuf_does_not_fit_our_buffer(protection: str) -> None:
    _, server = pair(protection, server_maxbuf=64)
    buffer = SecBuffer(DATA, bytearray(65))
    refused(NO_SPACE, decrypt_message, server, [buffer], 0)
    refused(NO_SPACE, decrypt_message, server, [buffer], 0)
    assert server.failed


def no_memory(*_: object) -> Any:
    raise MemoryError


@each_protection
def test_without_memory_for_sealing(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = pair(protection)
    monkeypatch.setattr(DigestSealer, "_mac", no_memory)
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    call = partial(encrypt_message, client, 0, buffers, 0)
    check_untouched("SEC_E_INSUFFICIENT_MEMORY", call, buffers=buffers)
    monkeypatch.undo()
    assert "connect anew" in str(refused("SEC_E_INTERNAL_ERROR", call))


@each_protection
def test_without_memory_for_opening(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard: what was deciphered and not yet authenticated does not stay behind."""
    client, server = pair(protection)
    buffer = SecBuffer(DATA, bytearray(client.seal(b"message")))
    monkeypatch.setattr(DigestUnsealer, "_authenticate", no_memory)
    refused("SEC_E_INSUFFICIENT_MEMORY", decrypt_message, server, [buffer], 0)
    assert not any(buffer.data[:-6])
    assert server.failed


def test_other_exceptions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    client, _ = pair("rc4")
    monkeypatch.setattr(DigestSealer, "_mac", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sealed(client, b"message")


def test_the_end_of_the_sequence_numbers() -> None:
    client, _ = pair("rc4")
    sealer_of(client)._number = 1 << 32
    memory = bytearray(b"message")
    buffers = [SecBuffer(DATA, memory), SecBuffer(PADDING, bytearray(24))]
    refused("SEC_E_UNSUPPORTED_FUNCTION", encrypt_message, client, 0, buffers, 0)
    assert memory == b"message"


# ---------------------------------------------------------------- contexts below


@pytest.mark.parametrize("place", [b"readonly", array("H", [0] * 8), memoryview(bytearray(8))[::2]])
def test_a_context_works_in_writable_octets_alone(place: Any) -> None:
    client, _ = pair("rc4")
    for call in (client.seal_in_place, client.unseal_in_place):
        with pytest.raises(UsageError, match="writable"):
            call(memoryview(place))
    assert sealed(client, b"message") == pair("rc4").client.seal(b"message")


def test_only_what_can_work_in_place_does() -> None:
    toy = make_toy_context(cipher=None)
    attempts: list[tuple[Callable[[], object], str]] = [
        (partial(toy.seal_in_place, memoryview(bytearray(5))), "use seal"),
        (partial(toy.unseal_in_place, memoryview(bytearray(5))), "use unseal"),
        (partial(toy.verify, memoryview(b"hello"), memoryview(bytes(4))), "use unseal"),
    ]
    for call, hint in attempts:
        with pytest.raises(UsageError, match=hint):
            call()
    assert not toy.failed


def test_signing_is_for_integrity_only_and_for_octets() -> None:
    confidential, signing = pair("rc4"), pair("auth-int")
    strided = memoryview(bytes(8))[::2]
    for call in (
        partial(confidential.client.sign, memoryview(bytearray(b"left as it is"))),
        partial(confidential.server.verify, memoryview(b"message"), memoryview(bytes(16))),
        partial(signing.client.sign, strided),
        partial(signing.server.verify, strided, memoryview(bytes(16))),
    ):
        with pytest.raises(UsageError):
            call()
    assert confidential.server.unseal(confidential.client.seal(b"on")) == b"on"
    assert signing.server.unseal(signing.client.seal(b"on")) == b"on"


@each_protection
def test_the_signature_comes_after_the_message(protection: str) -> None:
    ours, theirs = pair(protection)
    backwards = [SecBuffer(PADDING, bytearray(24)), SecBuffer(DATA, bytearray(b"message"))]
    refused("SEC_E_INVALID_TOKEN", encrypt_message, ours, 0, backwards, 0)
    assert theirs.unseal(ours.seal(b"on")) == b"on"


def test_a_readonly_view_of_the_signatures_memory_overlaps_too() -> None:
    ours, theirs = pair("auth-int")
    memory = bytearray(b"pay 100 EUR to bob, please!!")
    message = SecBuffer(DATA, memoryview(memory).toreadonly())
    over_it = SecBuffer(SecBufferType.SECBUFFER_TOKEN, memoryview(memory)[:16])
    refused("SEC_E_INVALID_TOKEN", make_signature, ours, 0, [message, over_it], 0)
    assert memory == b"pay 100 EUR to bob, please!!"
    assert theirs.unseal(ours.seal(b"on")) == b"on"


def test_the_type_of_a_buffer_stays() -> None:
    buffer = SecBuffer(DATA, b"message")
    with pytest.raises(AttributeError):
        buffer.type = 9  # type: ignore[misc, assignment]


def test_an_attribute_that_would_be_ignored_is_refused() -> None:
    """The guard: SECBUFFER_READONLY_WITH_CHECKSUM asks to be covered by the signature."""
    refused("SEC_E_INVALID_TOKEN", SecBuffer, DATA | 0x10000000, b"header")


# ---------------------------------------------------------------- threads

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


# ---------------------------------------------------------------- what a traceback shows


SECRET = b"plaintext that nobody may see"


def in_memory(message: bytes, room: int) -> list[SecBuffer]:
    """A message, and room for its signature, in one memory of the caller's."""
    memory = memoryview(bytearray(message + bytes(room)))
    data, rest = memory[: len(message)], memory[len(message) :]
    return [SecBuffer(DATA, data), SecBuffer(PADDING, rest)]


def failing(context: SecurityContext, call: Callable[..., object], *arguments: Any) -> None:
    """Let a call fail, and look for the plaintext in the frames of the package."""
    with pytest.raises((SSPIError, ContextBusyError)) as caught:
        call(context, *arguments)
    assert shows(SECRET, *kept_by(caught.value, ("tests.", "_pytest", "pluggy"))) == []


@pytest.mark.parametrize("protection", ["rc4", "auth-int"])
@pytest.mark.parametrize("room", [0, 64], ids=["before", "below"])
def test_no_plaintext_shows_where_sealing_fails(
    protection: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DigestSealer, "seal_in_place", no_memory)
    failing(context_pair(protection).client, encrypt_message, 0, in_memory(SECRET, room), 0)
    signer = context_pair("auth-int").client
    failing(signer, make_signature, 0, in_memory(SECRET, room), 0)


@pytest.mark.parametrize("size", [16, 17], ids=["forged", "long"])
def test_no_plaintext_shows_where_a_signature_is_wrong(size: int) -> None:
    verifier = context_pair("auth-int").server
    failing(verifier, verify_signature, in_memory(SECRET, size), 0)
