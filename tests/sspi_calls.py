"""Calls of SSPI's message functions, and what they refuse, for `test_sspi_*.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saslwrap import SecurityContext
from saslwrap.errors import SecurityStatus
from saslwrap.sspi import (
    SECBUFFER_READONLY,
    CtxtHandle,
    SecBuffer,
    SecBufferType,
    SSPIError,
    decrypt_message,
    encrypt_message,
)
from saslwrap.testing.pairs import PROTECTIONS, ContextPair, context_pair

DATA = SecBufferType.SECBUFFER_DATA
EMPTY = SecBufferType.SECBUFFER_EMPTY
HEADER = SecBufferType.SECBUFFER_STREAM_HEADER
PADDING = SecBufferType.SECBUFFER_PADDING
STREAM = SecBufferType.SECBUFFER_STREAM
TOKEN = SecBufferType.SECBUFFER_TOKEN
TRAILER = SecBufferType.SECBUFFER_STREAM_TRAILER

LENGTHS = (*range(41), None)  # None is the maximum
LARGE = 65_000

NO_SPACE, NO_BUFFER = "SEC_E_BUFFER_TOO_SMALL", "SEC_E_INVALID_TOKEN"
INCOMPLETE = "SEC_E_INCOMPLETE_MESSAGE"

Buffers = list[SecBuffer]

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


def readonly(_: SecurityContext, buffers: Buffers) -> Buffers:
    return [SecBuffer(DATA | SECBUFFER_READONLY, buffers[0].data), buffers[1]]


def check_untouched(
    status: str, call: Callable[..., object], *arguments: Any, buffers: Buffers
) -> None:
    before = [(buffer.type, bytes(buffer.data)) for buffer in buffers]
    refused(status, call, *arguments)
    assert [(buffer.type, bytes(buffer.data)) for buffer in buffers] == before


def no_memory(*_: object) -> Any:
    raise MemoryError
