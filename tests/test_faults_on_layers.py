"""Every fault by name, on real layers, in each direction: nothing wrong is ever delivered, nothing
right that came before is lost, and the error is the one that the documentation names.

What has to arrive is not a table. The same seeds make the same octets on the wire, so the fault is
tried on them without a stream first: all frames before the first octet that differs are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile

import pytest
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    wait_all_tasks_blocked,
)
from anyio.abc import ByteStream

from saslwrap.anyio import SASLAttribute, SASLStream
from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.testing import (
    FAULTS,
    FaultyStream,
    context_pair,
    fault,
    memory_stream_pair,
    stream_pair,
)

pytestmark = pytest.mark.anyio

MESSAGES = [f"message {number}".encode() for number in range(5)]
SEEDS = range(3)

#: What a receiver gets in the end: a fault of the layer, or of the stream below it.
ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "delay": (EndOfStream,),
    "stop": (),
    "cut": (EndOfStream, TruncatedStreamError),
    "reset": (BrokenResourceError, TruncatedStreamError, EndOfStream),
    "flip a bit": (IntegrityError, FrameTooLargeError, TruncatedStreamError),
    "replay": (OutOfSequenceError,),
    "replay later": (OutOfSequenceError,),
    "drop": (OutOfSequenceError,),
    "swap": (OutOfSequenceError,),
    "reflect": (OutOfSequenceError,),
    "cleartext before a frame": (FrameTooLargeError,),
    "cleartext anywhere": (IntegrityError, FrameTooLargeError),
    "length longer": (IntegrityError,),
    "length shorter": (IntegrityError,),
    "length 0": (ProtocolError,),
    "length over maxbuf": (FrameTooLargeError,),
    "length huge": (FrameTooLargeError,),
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Received:
    """What a receiver got: octets, and what came then; None if it still waits."""

    data: bytes = b""
    errors: list[Exception] = field(default_factory=list)


async def receive_all(stream: ByteStream, received: Received) -> None:
    try:
        while True:
            received.data += await stream.receive()
    except (EndOfStream, BrokenResourceError) as error:
        received.errors.append(error)
    try:  # the same again
        received.data += await stream.receive()
    except (EndOfStream, BrokenResourceError, ClosedResourceError) as error:
        received.errors.append(error)


async def send_all(stream: ByteStream) -> None:
    """Send as long as it goes well, each message alone; end in good form."""
    with suppress(BrokenResourceError, ClosedResourceError):
        for message in MESSAGES:
            await stream.send(message)
        await stream.send_eof()


def frames_on_the_wire(protection: str, seed: int, *, to_server: bool) -> list[bytes]:
    client, server = context_pair(protection, seed=seed)
    layer = SecurityLayer(client if to_server else server)
    return [b"".join(layer.send_data(message)) for message in MESSAGES]


def right_messages(name: str, seed: int, frames: Sequence[bytes]) -> bytes:
    """The messages of all frames that are whole before the fault changes something."""
    made = fault(name, seed)
    outcomes = [outcome for frame in frames for outcome in made.apply(frame)]
    wire = b"".join(outcome for outcome in outcomes if isinstance(outcome, bytes))
    pairs = zip(wire, b"".join(frames), strict=False)
    left, right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), b""
    for frame, message in zip(frames, MESSAGES, strict=True):
        left -= len(frame)
        if left < 0:
            break
        right += message
    return right


def test_every_fault_is_expected_to_do_something() -> None:
    assert ERRORS.keys() == FAULTS.keys()


@pytest.mark.parametrize("where", ["sending", "receiving"])
@pytest.mark.parametrize("to_server", [True, False], ids=["to server", "to client"])
@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
@pytest.mark.parametrize("name", FAULTS)
async def test_nothing_wrong_is_delivered_and_nothing_right_is_lost(
    name: str, protection: str, to_server: bool, where: str
) -> None:
    for seed in SEEDS:
        received = await transfer(name, protection, seed, to_server=to_server, where=where)
        frames = frames_on_the_wire(protection, seed, to_server=to_server)
        assert received.data == right_messages(name, seed, frames), seed
        assert_documented(name, received)


async def transfer(
    name: str, protection: str, seed: int, *, to_server: bool, where: str
) -> Received:
    """Send all messages through the fault, in one direction."""
    ends = memory_stream_pair()
    at = to_server == (where == "receiving")  # the end that the fault stands at: 1 is the server's
    made = fault(name, seed)
    faulty = FaultyStream(ends[at], **{where: made})
    transports = (ends[0], faulty) if at else (faulty, ends[1])
    pair = stream_pair(protection, seed=seed, transports=transports)
    sender, receiver = pair if to_server else pair[::-1]
    received = Received()
    async with create_task_group() as tasks:
        tasks.start_soon(receive_all, receiver, received)
        tasks.start_soon(send_all, sender)
        if name != "delay":
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    if received.errors:
        await assert_dead(receiver, received)
    return received


def assert_documented(name: str, received: Received) -> None:
    """It ends as is documented for this fault, twice in the same way."""
    assert bool(received.errors) == (name != "stop")
    kinds = []
    for error in received.errors:
        cause = error.__cause__
        kinds.append(type(cause if isinstance(cause, SASLError) else error))
    assert len(set(kinds)) <= 1
    assert all(issubclass(kind, ERRORS[name]) for kind in kinds), kinds


async def assert_dead(receiver: SASLStream, received: Received) -> None:
    """After a fault of the layer nothing is sent any more."""
    context = receiver.extra(SASLAttribute.context)
    assert context is not None
    cause = received.errors[0].__cause__
    assert context.failed == isinstance(cause, SASLError)
    if context.failed:
        with pytest.raises(BrokenResourceError) as caught:
            await receiver.send(b"anything")
        assert str(caught.value.__cause__) == str(cause)


@pytest.mark.parametrize("where", ["sending", "receiving"])
@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
async def test_what_comes_back_to_its_sender_is_refused(protection: str, where: str) -> None:
    for seed in SEEDS:
        client, server = memory_stream_pair()
        transports: tuple[ByteStream, ByteStream] = (client, server)
        made = fault("reflect", seed)
        if where == "sending":
            transports = (FaultyStream(client, sending=made), server)
        else:
            transports = (client, FaultyStream(server, receiving=made))
        pair = stream_pair(protection, seed=seed, transports=transports)
        at_sender, at_peer = Received(), Received()
        async with create_task_group() as tasks:
            tasks.start_soon(receive_all, pair.client, at_sender)
            tasks.start_soon(receive_all, pair.server, at_peer)
            tasks.start_soon(send_all, pair.client)
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert at_sender.data == b""
        assert isinstance(at_sender.errors[0].__cause__, IntegrityError)
        assert b"".join(MESSAGES).startswith(at_peer.data)
