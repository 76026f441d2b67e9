"""A relay that cuts a connection in the middle of a frame."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    create_task_group,
    create_tcp_listener,
    fail_after,
)
from anyio.abc import SocketAttribute

from saslwrap.testing.faults.stream import reset
from tests.peers.slapd import Slapd
from tests.peers.slapd_sessions import connect
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream


class Valve:
    """A relay for one connection that lets pass what it is told to of what the server sends."""

    address = LOOPBACK

    def __init__(self, port: int) -> None:
        self.port = port
        self._allowed = sys.maxsize
        self._turned = anyio.Event()
        self._holds = anyio.Event()

    def allow(self, octets: int = sys.maxsize) -> None:
        """Let this many pass from now on, and hold the rest."""
        self._allowed = octets
        self._holds = anyio.Event()
        self._turned.set()
        self._turned = anyio.Event()

    async def holds(self) -> None:
        """Wait until all that is allowed has passed, and there is more."""
        await self._holds.wait()

    async def end(self) -> None:
        """Let the server die: its connection ends, in good order."""
        await self._client.aclose()

    async def reset(self) -> None:
        """Let the server's machine die: its connection is reset."""
        await reset(self._client)

    async def relay(self, client: SocketStream, server: SocketStream) -> None:
        self._client = client
        try:
            async with client, server, create_task_group() as tasks:
                tasks.start_soon(self._upward, client, server)
                async for chunk in server:
                    await self._let_through(chunk)
                await client.send_eof()
        except* (BrokenResourceError, ClosedResourceError):
            pass

    async def _upward(self, client: SocketStream, server: SocketStream) -> None:
        async for chunk in client:
            await server.send(chunk)
        await server.send_eof()

    async def _let_through(self, chunk: bytes) -> None:
        while chunk:
            while not self._allowed:
                self._holds.set()
                await self._turned.wait()
            part, chunk = chunk[: self._allowed], chunk[self._allowed :]
            self._allowed -= len(part)
            await self._client.send(part)


@asynccontextmanager
async def valve_before(server: Slapd) -> AsyncIterator[Valve]:
    async with await create_tcp_listener(local_host=LOOPBACK) as listener:
        valve = Valve(listener.extra(SocketAttribute.local_port))

        async def relay(client: SocketStream) -> None:
            await valve.relay(client, await connect(server))

        async with create_task_group() as tasks:
            tasks.start_soon(listener.serve, relay)
            with fail_after(10):
                yield valve
            tasks.cancel_scope.cancel()
