"""What many tests share: toys of floors 0 to 2, a seal that is read by eye and a login of lines.

A toy token is `sequence number (4) + reversed message + CRC-32 (4)`. It keeps no secret, but it
breaks where a real one breaks: altered, replayed, lost, reordered.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Flag
from typing import ClassVar, Protocol

from saslwrap.context import Octets, SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MutualAuthenticationError,
    OutOfSequenceError,
    ProtocolError,
)
from saslwrap.exchange import Exchange, Script, Send
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ClientMechanism, Mechanism
from saslwrap.properties import QOP, SecurityProperties, Sizes, StreamSizes

OVERHEAD = 8

#: Stands for a session key: the toys hold it in a local while they work.
KEY = b"toy-session-key"

PATIENCE = 10.0


def nothing() -> None:
    """Do nothing."""


def _checksum(head: bytes, message: bytes) -> bytes:
    return zlib.crc32(head + message).to_bytes(4, "big")


class ToySealer:
    """Seals into toy tokens. `on_call` runs inside each call, before anything is spent."""

    def __init__(self) -> None:
        self.sequence = 0
        self.on_call: Callable[[], object] = nothing

    def seal(self, message: Octets) -> bytes:
        self.on_call()
        head, plaintext = self.sequence.to_bytes(4, "big"), bytes(message)
        self.sequence += 1
        return head + plaintext[::-1] + _checksum(head, plaintext)


class ToyUnsealer:
    """Opens toy tokens. `on_call` runs inside each call, when the plaintext is already there."""

    def __init__(self) -> None:
        self.sequence = 0
        self.on_call: Callable[[], object] = nothing

    def unseal(self, token: Octets) -> bytes:
        key = KEY
        head, plaintext = bytes(token[:4]), bytes(token[4:-4])[::-1]
        self.on_call()
        if head != self.sequence.to_bytes(4, "big"):
            raise OutOfSequenceError
        if not key or bytes(token[-4:]) != _checksum(head, plaintext):
            raise IntegrityError
        self.sequence += 1
        return plaintext


def make_context(
    sealer: ToySealer | None = None,
    unsealer: ToyUnsealer | None = None,
    *,
    maximum_message: int = 100,
    local_maxbuf: int = 1000,
    cipher: str | None = "toy",
) -> SecurityContext:
    """Make a context over toys."""
    return SecurityContext(
        sealer or ToySealer(),
        unsealer or ToyUnsealer(),
        mechanism="TOY",
        qop=QOP.AUTH_CONF if cipher else QOP.AUTH_INT,
        ssf=128 if cipher else 1,
        cipher=cipher,
        stream_sizes=StreamSizes(4, 4, maximum_message, 4, 1),
        sizes=Sizes(4096, 8, 1, OVERHEAD),
        local_maxbuf=local_maxbuf,
        peer_maxbuf=maximum_message + OVERHEAD,
    )


def make_layer(
    sealer: ToySealer | None = None,
    unsealer: ToyUnsealer | None = None,
    *,
    maximum_message: int = 100,
    local_maxbuf: int = 1000,
) -> SecurityLayer:
    """Make a layer over toys."""
    return SecurityLayer(
        make_context(sealer, unsealer, maximum_message=maximum_message, local_maxbuf=local_maxbuf)
    )


def tokens(*messages: bytes) -> list[bytes]:
    """Seal each message as a peer would, from sequence number 0."""
    sealer = ToySealer()
    return [sealer.seal(memoryview(message)) for message in messages]


def frame(token: bytes) -> bytes:
    """Put the length before a token."""
    return len(token).to_bytes(4, "big") + token


def frames(*messages: bytes) -> bytes:
    """Seal and frame each message as a peer would, from sequence number 0."""
    return b"".join(map(frame, tokens(*messages)))


def drain(layer: SecurityLayer) -> bytes:
    """Read all plaintext that is there."""
    return b"".join(iter(layer.read, b""))


class Receiving(Protocol):
    """A socket, sealed or not."""

    def recv(self, size: int, /) -> bytes: ...


def exactly(sock: Receiving, count: int) -> bytes:
    """Receive so many octets."""
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"the end came after {len(data)} octets"
        data += chunk
    return bytes(data)


def reset_at_close(sock: socket.socket) -> None:
    """Let a connection end by a reset (RFC 9293 section 3.10.5)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Toy(Protocol):
    """What calls `on_call` while it works."""

    on_call: Callable[[], object]


@contextmanager
def at_work(toy: Toy, call: Callable[[], object]) -> Iterator[Future[object]]:
    """Keep `call` inside `toy`, in another thread, while the block runs; calls after it pass."""
    entered, leave = Flag(), Flag()

    def wait() -> None:
        entered.set()
        assert leave.wait(PATIENCE)

    toy.on_call = wait
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            assert entered.wait(PATIENCE)
            toy.on_call = nothing
            yield future
        finally:
            leave.set()


class ToyMechanism(ClientMechanism):
    """Answers with its script, item by item: a message or None is given, an exception is raised.

    It is complete with the last answer. `messages` is what it was asked. `on_call` runs inside each
    step, before the answer.
    """

    name = "TOY"
    best: ClassVar[int | None] = 128

    def __init__(
        self, *script: bytes | BaseException | None, context: SecurityContext | None = None
    ) -> None:
        super().__init__()
        self.authcid = "alice"
        self.messages: list[bytes | None] = []
        self.on_call: Callable[[], object] = nothing
        self._script = list(script)
        self._result = context

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return cls.best

    def _step(self, message: bytes | None) -> bytes | None:
        self.messages.append(message)
        self.on_call()
        answer = self._script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        if not self._script:
            self._finish(self._result)
        return answer


class ToyExchange(Exchange):
    """A login of lines: `AUTH toy`, then `+<challenge>` and its answer, until `OK` or `NO`."""

    LIMIT = 16

    def __init__(self, mechanism: Mechanism | None) -> None:
        super().__init__(mechanism)
        self.limit = self.LIMIT

    def _run(self) -> Script:
        yield Send(b"AUTH toy\n")
        while (line := (yield from self._message())[:-1]).startswith(b"+"):
            answer = yield from self._ask_mechanism(line[1:])
            if answer is not None:
                yield Send(answer + b"\n")
        if line != b"OK":
            raise AuthenticationError("the server says NO")
        if self.mechanism is None or not self.mechanism.complete:
            raise MutualAuthenticationError("success before the mechanism was complete")

    def _measure(self, buffer: bytearray) -> int | None:
        length = buffer.find(b"\n", 0, self.limit) + 1
        if not length and len(buffer) >= self.limit:
            raise ProtocolError(f"a line over {self.limit} octets; {len(buffer)} are here")
        return length or None

    def _abort_message(self) -> bytes:
        return b"*\n"

    def _aborted(self) -> Script:
        yield from self._message()
