"""The message functions work in the caller's memory, of any kind, and leave nothing elsewhere."""

from __future__ import annotations

import ctypes
import gc
import mmap
import tracemalloc
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from saslwrap import ContextBusyError, SecurityContext, UsageError
from saslwrap.mechanisms.digest_md5.context import DigestSealer
from saslwrap.sspi import (
    SecBuffer,
    SecBufferType,
    SSPIError,
    decrypt_message,
    encrypt_message,
    make_signature,
    verify_signature,
)
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.pairs import context_pair
from tests.sspi_calls import (
    DATA,
    LARGE,
    PADDING,
    TOKEN,
    each_protection,
    no_memory,
    opened,
    pair,
    refused,
    room_of,
    sealed,
)
from tests.support import make_context as make_toy_context


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
