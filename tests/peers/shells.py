"""One conversation over each shell of the library: what the tests of foreign peers talk through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import anyio
import pytest
from anyio import create_task_group
from anyio.from_thread import start_blocking_portal

from tests.peers.support import LOOPBACK
from tests.peers.talks import PATIENCE as PATIENCE
from tests.peers.talks import AnyioTalk, ProtocolTalk, SocketTalk, StreamsTalk, Talk

if TYPE_CHECKING:
    from saslwrap import Exchange, SecurityContext

T = TypeVar("T")


class Conversation:
    """A connection as the test's thread sees it. Nothing waits for longer than `PATIENCE`."""

    def __init__(self, shell: Shell, talk: Talk) -> None:
        self._shell = shell
        self.talk = talk

    @property
    def context(self) -> SecurityContext | None:
        return self.talk.context

    def authenticate(self, exchange: Exchange) -> SecurityContext | None:
        """Log in, or be logged in to; again, on a connection with a layer."""
        self._shell.run(self.talk.authenticate, exchange)
        return self.context

    def send(self, data: bytes) -> None:
        self._shell.run(self.talk.send, data)

    def receive(self) -> bytes:
        """Receive something, `b""` at the end."""
        return self._shell.run(self.talk.receive)

    def receive_exactly(self, size: int) -> bytes:
        return self._shell.run(self._receive_exactly, size)

    def echoed(self, *pieces: bytes) -> bytes:
        """Send pieces, and receive at the same time what comes back."""
        return self._shell.run(self._echoed, pieces)

    def receive_until(self, ending: bytes) -> bytes:
        return self._shell.run(self._receive_until, ending)

    async def _receive_until(self, ending: bytes) -> bytes:
        data = bytearray()
        while not data.endswith(ending):
            received = await self.talk.receive()
            assert received, f"the end after {len(data)} octets"
            data += received
        return bytes(data)

    async def _receive_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            received = await self.talk.receive()
            assert received, f"the end after {len(data)} of {size} octets"
            data += received
        assert len(data) == size
        return bytes(data)

    async def _echoed(self, pieces: Sequence[bytes]) -> bytes:
        async def send() -> None:
            for piece in pieces:
                await self.talk.send(piece)

        async with create_task_group() as tasks:
            tasks.start_soon(send)
            received = await self._receive_exactly(sum(map(len, pieces)))
        return received  # noqa: RET504 - mypy does not know that a task group swallows nothing

    def send_eof(self) -> None:
        self._shell.run(self.talk.send_eof)

    def close(self) -> None:
        self._shell.run(self.talk.aclose)


class Shell:
    """Makes conversations over one shell, and ends them with itself."""

    #: Name to how it talks, and where: anyio's backend and its options.
    KINDS: ClassVar[dict[str, tuple[type[Talk], str, dict[str, Any]]]] = {
        "anyio-asyncio": (AnyioTalk, "asyncio", {}),
        "anyio-uvloop": (AnyioTalk, "asyncio", {"use_uvloop": True}),
        "anyio-trio": (AnyioTalk, "trio", {}),
        "streams-asyncio": (StreamsTalk, "asyncio", {}),
        "streams-uvloop": (StreamsTalk, "asyncio", {"use_uvloop": True}),
        "protocol-asyncio": (ProtocolTalk, "asyncio", {}),
        "protocol-uvloop": (ProtocolTalk, "asyncio", {"use_uvloop": True}),
        "socket": (SocketTalk, "asyncio", {}),
    }

    def __init__(self, kind: str) -> None:
        self._talk, self._backend, self._options = self.KINDS[kind]
        self._faults: list[object] = []

    @property
    def eager(self) -> bool:
        """Whether it unseals what arrives before it is asked for it."""
        return issubclass(self._talk, StreamsTalk | ProtocolTalk)

    def run(self, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run it in the shell's event loop, and wait for it here."""

        async def patiently() -> T:
            with anyio.fail_after(PATIENCE):
                return await call(*arguments)

        return self._portal.call(patiently)

    def connect(self, port: int) -> Conversation:
        return self._over(socket.create_connection((LOOPBACK, port), PATIENCE))

    def listen(self) -> socket.socket:
        """A listening socket, for `accept`."""
        listener = self._stack.enter_context(socket.create_server((LOOPBACK, 0)))
        listener.settimeout(PATIENCE)
        return listener

    def accept(self, listener: socket.socket) -> Conversation:
        return self._over(listener.accept()[0])

    def _over(self, sock: socket.socket) -> Conversation:
        self._stack.callback(sock.close)
        sock.setblocking(False)
        conversation = Conversation(self, self.run(self._talk.over, sock))
        self._stack.callback(conversation.close)
        return conversation

    async def _watch(self) -> None:
        """Note what an event loop would only log."""
        if self._backend == "asyncio":
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, fault: self._faults.append(fault))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = start_blocking_portal(self._backend, self._options)
            self._portal = stack.enter_context(portal)
            self.run(self._watch)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            assert not self._faults


@pytest.fixture(params=Shell.KINDS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with Shell(request.param) as shell:
        yield shell


FACES = ("anyio-trio", "streams-uvloop", "protocol-asyncio", "socket")
"""Shells for tests that need not run over all."""

DRIVERS = ("anyio-asyncio", "anyio-uvloop", "anyio-trio", "streams-asyncio", "socket")
"""Shells that drive an exchange themselves; with asyncio's protocols the application does."""

some_shells = pytest.mark.parametrize("shell", FACES, indirect=True)
driving_shells = pytest.mark.parametrize("shell", DRIVERS, indirect=True)
one_shell = pytest.mark.parametrize("shell", ["streams-asyncio"], indirect=True)
