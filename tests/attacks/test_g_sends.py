"""Attack list, group G, through every shell: what a send that failed leaves to be seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from saslwrap.testing import context_pair
from saslwrap.testing.tasks import settle
from tests.attacks.support import buffers_in, frame
from tests.test_shells_adapters import (
    BrokenError,
    End,
    Hand,
    Shell,
    anyio_backend,
    shell,
    socket_pair,
    world,
)

__all__ = ["anyio_backend", "shell", "world"]

pytestmark = pytest.mark.anyio

PLAINTEXT = b"plaintext that nobody may see"


@pytest.fixture
async def ends(shell: Shell) -> AsyncIterator[tuple[End, Hand]]:
    """The end that sends, and the hand that breaks the connection."""
    ours, theirs = socket_pair()
    contexts = context_pair()
    end = await shell.wrap(ours, contexts.client)
    yield end, Hand(theirs, contexts.server)
    await end.close()
    theirs.close()
    await settle()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def send_on(end: End) -> None:
    while True:
        await end.send(PLAINTEXT * 1000)
        await settle()


async def check_send(end: End) -> None:
    """Send until it fails; look at all that the error keeps of our frames."""
    with pytest.raises(BrokenError) as caught:
        await send_on(end)
    found = [data for error in chain(caught.value) for data in buffers_in(error.__traceback__)]
    assert not [data for data in found if PLAINTEXT in data]


async def test_g6_traceback_of_a_send_into_a_lost_connection_holds_no_plaintext(
    ends: tuple[End, Hand],
) -> None:
    """Guard: saslwrap/sync/socket.py: data = batch = b""
    Guard: saslwrap/anyio/stream.py: item = batch = b""
    """
    end, hand = ends
    hand.reset()
    await check_send(end)


async def test_g6_traceback_of_a_send_over_a_broken_layer_holds_no_plaintext(
    ends: tuple[End, Hand],
) -> None:
    """Guard: saslwrap/sync/socket.py: data = batch = b""
    Guard: saslwrap/anyio/stream.py: finally: batch = b""
    Guard: saslwrap/anyio/stream.py: item = b"" # no
    Guard: saslwrap/asyncio/transport.py: data = b"" # no
    """
    end, hand = ends
    hand.sock.sendall(frame(bytes(22)))
    with pytest.raises(BrokenError):
        await end.receive()
    await check_send(end)
