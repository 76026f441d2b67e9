"""What several tools for tests take, and refuse where it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from anyio.abc import AnyByteStream, ByteStream, ObjectStream

from saslwrap.errors import UsageError, require_kind

__all__ = ["both_ends", "require_stream"]

S = TypeVar("S", bound=AnyByteStream)


def require_stream(name: str, value: object) -> None:
    """Refuse what is no stream of octets.

    :raises UsageError: it is none
    """
    require_kind(name, value, ByteStream | ObjectStream, "a byte stream of anyio")


def both_ends(name: str, value: Sequence[S]) -> tuple[S, S]:
    """Give both ends of a connection.

    :raises UsageError: these are not two streams
    """
    require_kind(name, value, Sequence, "two streams: (client, server)")
    if len(value) != 2:
        raise UsageError(f"{name} is two streams, (client, server), not {len(value)}")
    for end in value:
        require_stream(f"each of {name}", end)
    return value[0], value[1]
