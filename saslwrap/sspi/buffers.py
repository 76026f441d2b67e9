"""SecBuffer: a piece of the caller's memory, and which of them a call works on."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from saslwrap.errors import SecurityStatus, half_made_too
from saslwrap.sspi.handles import SSPIError

__all__ = ["SECBUFFER_READONLY", "SecBuffer", "SecBufferType"]

#: Beside a type: the call leaves this buffer alone. `SecBuffer(..., readonly=True)` says the same.
SECBUFFER_READONLY: Final = 0x80000000

_ATTRMASK: Final = 0xF0000000


class SecBufferType(enum.IntEnum):
    """What a buffer is for (SecBuffer.BufferType)."""

    SECBUFFER_EMPTY = 0
    SECBUFFER_DATA = 1
    SECBUFFER_TOKEN = 2
    SECBUFFER_PKG_PARAMS = 3
    SECBUFFER_MISSING = 4
    SECBUFFER_EXTRA = 5
    SECBUFFER_STREAM_TRAILER = 6
    SECBUFFER_STREAM_HEADER = 7
    SECBUFFER_NEGOTIATION_INFO = 8
    SECBUFFER_PADDING = 9
    SECBUFFER_STREAM = 10
    SECBUFFER_MECHLIST = 11
    SECBUFFER_MECHLIST_SIGNATURE = 12
    SECBUFFER_TARGET = 13
    SECBUFFER_CHANNEL_BINDINGS = 14
    SECBUFFER_CHANGE_PASS_RESPONSE = 15
    SECBUFFER_TARGET_HOST = 16
    SECBUFFER_ALERT = 17


class _Memory(Protocol):
    """What `memoryview()` takes: bytearray, memoryview, mmap, array, ctypes' arrays."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class SecBuffer:
    """A piece of the caller's memory, and what it is for (SSPI: SecBuffer).

    Nothing is copied: a call works in the memory itself, and then lets `data` show what is used of
    it, as the native call does with cbBuffer. For the next call, `data` is set anew.

    :param type: a `SecBufferType`, with or without `SECBUFFER_READONLY`
    :param data: contiguous memory; None is no memory
    :param readonly: the call leaves this buffer alone
    :raises SSPIError: the type is none of those (SEC_E_INVALID_TOKEN)
    :raises TypeError: `data` is no memory, or not contiguous
    """

    __slots__ = ("_data", "_type", "readonly")

    def __init__(
        self,
        type: int,  # noqa: A002 - the brevity of BufferType
        data: _Memory | None = None,
        readonly: bool = False,
    ) -> None:
        self._type = _type_of(type)
        self.readonly: bool = readonly or bool(type & SECBUFFER_READONLY)
        self.data = data

    @property
    def type(self) -> SecBufferType:
        """What it is for. Make another `SecBuffer` for another purpose."""
        return self._type

    @property
    def data(self) -> memoryview:
        """The octets: what is given to a call, and what the call made of it."""
        return self._data

    @data.setter
    def data(self, data: _Memory | None) -> None:
        octets = memoryview(b"" if data is None else data).cast("B")
        self._data = octets or memoryview(bytearray())

    @half_made_too
    def __repr__(self) -> str:
        """Say what it is for and how long it is, but not what stands in it."""
        readonly = " readonly" if self.readonly else ""
        return f"<SecBuffer {self.type.name}{readonly}, {len(self._data)} octets>"


def _type_of(number: int) -> SecBufferType:
    if number & _ATTRMASK & ~SECBUFFER_READONLY:
        raise SSPIError(
            f"an attribute of a buffer that the Digest package does not heed: {number:#x}",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    try:
        return SecBufferType(number & ~_ATTRMASK)
    except ValueError:
        pass
    raise SSPIError(
        f"no type of a buffer that the Digest package knows: {number:#x}",
        SecurityStatus.SEC_E_INVALID_TOKEN,
    )


_EMPTY = SecBufferType.SECBUFFER_EMPTY
_DATA = SecBufferType.SECBUFFER_DATA
_STREAM = SecBufferType.SECBUFFER_STREAM
_STREAM_HEADER = SecBufferType.SECBUFFER_STREAM_HEADER


def message_and_signature(
    buffers: Sequence[SecBuffer], signature_types: tuple[SecBufferType, ...]
) -> tuple[SecBuffer, SecBuffer]:
    """Find the message, the first DATA, and the one buffer for its signature.

    :raises SSPIError: no message, or more than the call knows how to use (SEC_E_INVALID_TOKEN);
        nothing for the signature (SEC_E_BUFFER_TOO_SMALL)
    """
    worked_on = _worked_on(buffers, (_DATA, _STREAM_HEADER, *signature_types))
    message = next((buffer for buffer in worked_on if buffer.type is _DATA), None)
    if message is None:
        raise SSPIError("no SECBUFFER_DATA buffer", SecurityStatus.SEC_E_INVALID_TOKEN)
    headers = [buffer for buffer in worked_on if buffer.type is _STREAM_HEADER]
    signatures = [
        buffer
        for buffer in worked_on
        if buffer is not message and buffer.type is not _STREAM_HEADER
    ]
    if not signatures:
        raise SSPIError("no buffer for the signature", SecurityStatus.SEC_E_BUFFER_TOO_SMALL)
    if len(signatures) > 1:
        raise SSPIError("two buffers for the signature", SecurityStatus.SEC_E_INVALID_TOKEN)
    order = [worked_on.index(it) for it in (*headers, message, signatures[0])]
    if order != sorted(order):
        raise SSPIError(
            "the order is header, message, signature: so they make the token",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    return message, signatures[0]


def token_and_message(buffers: Sequence[SecBuffer]) -> tuple[SecBuffer, SecBuffer]:
    """Find the token, and the buffer that is to show its message: the same, or an empty DATA.

    :raises SSPIError: no token, or more than one (SEC_E_INVALID_TOKEN)
    """
    match sorted(_worked_on(buffers, (_DATA, _STREAM)), key=lambda it: it.type is _DATA):
        case [token]:
            return token, token
        case [token, message] if (token.type, message.type) == (_STREAM, _DATA):
            if not message.data:
                return token, message
    raise SSPIError(
        "the whole token stands in one SECBUFFER_DATA or SECBUFFER_STREAM buffer",
        SecurityStatus.SEC_E_INVALID_TOKEN,
    )


def unused(buffers: Sequence[SecBuffer]) -> Iterator[SecBuffer]:
    """Give those that a call takes and has no use for."""
    return (it for it in buffers if not it.readonly and it.type in (_EMPTY, _STREAM_HEADER))


def check_writable(buffer: SecBuffer) -> None:
    """Make sure that a call can work in a buffer.

    :raises SSPIError: it cannot (SEC_E_INVALID_TOKEN)
    """
    if buffer.data.readonly:
        raise SSPIError(
            f"the memory of the {buffer.type.name} cannot be written",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )


def check_apart(message: SecBuffer, signature: SecBuffer) -> None:
    """Make sure that the signature is not written over what it signs.

    :raises SSPIError: they overlap (SEC_E_INVALID_TOKEN)
    """
    if message.data.readonly:  # its address cannot be asked for
        overlap = bool(message.data) and message.data.obj is signature.data.obj
    elif message.data:
        distance = _address(signature.data) - _address(message.data)
        overlap = -len(signature.data) < distance < len(message.data)
    else:
        overlap = False
    if overlap:
        raise SSPIError("the buffers overlap", SecurityStatus.SEC_E_INVALID_TOKEN)


def _address(memory: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _worked_on(buffers: Sequence[SecBuffer], known: tuple[SecBufferType, ...]) -> list[SecBuffer]:
    worked_on = [it for it in buffers if not it.readonly and it.type is not _EMPTY]
    for buffer in worked_on:
        if buffer.type not in known:
            raise SSPIError(
                f"this call has no use for a {buffer.type.name}", SecurityStatus.SEC_E_INVALID_TOKEN
            )
    return worked_on
