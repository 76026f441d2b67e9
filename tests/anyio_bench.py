"""What the tests of the anyio stream share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from anyio import BrokenResourceError

from saslwrap.anyio import SASLStream
from saslwrap.context import SecurityContext
from saslwrap.errors import SASLError
from saslwrap.layer import SecurityLayer
from saslwrap.testing import PROTECTIONS, context_pair
from saslwrap.testing.streams import MemoryStream, memory_stream_pair

WITH_AND_WITHOUT = ("auth", *PROTECTIONS)


class Bench(NamedTuple):
    """The stream under test, its transport, the wire's other end, and the peer's context."""

    stream: SASLStream
    transport: MemoryStream
    wire: MemoryStream
    peer: SecurityLayer
    context: SecurityContext


def make_bench(protection: str = "rc4", *, capacity: int = 65536, received: bytes = b"") -> Bench:
    transport, wire = memory_stream_pair(capacity)
    contexts = context_pair(protection)
    stream = SASLStream(transport, contexts.client, received=received)
    return Bench(stream, transport, wire, SecurityLayer(contexts.server), contexts.client)


def sealed(bench: Bench, *messages: bytes) -> bytes:
    return b"".join(b"".join(bench.peer.send_data(message)) for message in messages)


async def broken(call: Callable[[], Awaitable[object]]) -> SASLError:
    with pytest.raises(BrokenResourceError) as caught:
        await call()
    cause = caught.value.__cause__
    assert isinstance(cause, SASLError), repr(cause)
    assert str(caught.value) == str(cause)
    return cause
