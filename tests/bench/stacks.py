"""What stands between two processes in the rows of the shells: a shell, TLS, or nothing.

    asyncio-rc4, asyncio-auth-int, asyncio-tls, asyncio-plain      streams of asyncio
    anyio-rc4, anyio-tls, anyio-plain                              streams of anyio, on asyncio

Everything is as a user gets it: public calls, the default loop and its buffers, a login by LDAP's
Bind, TLS with the ciphers that Python's `ssl` chooses.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.abc import Listener, SocketAttribute
from anyio.streams.tls import TLSListener

import saslwrap.anyio
import saslwrap.asyncio
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing.pairs import HOST, mechanism_pair
from tests.certificate import tls_contexts
from tests.peers.support import LOOPBACK

__all__ = ["Handler", "Stack", "Stream", "stack_named"]


class Stream(Protocol):
    """An end of a connection."""

    async def send(self, item: bytes, /) -> None: ...

    async def receive(self) -> bytes: ...


Handler: TypeAlias = Callable[[Stream], Awaitable[None]]


class Stack(ABC):
    """One of them, in a process that connects or in one that serves.

    :param protection: a layer of DIGEST-MD5, `"tls"` or `"plain"`
    :param folder: where the certificate is
    """

    def __init__(self, protection: str, folder: Path) -> None:
        self.protection = protection
        self.folder = folder

    @abstractmethod
    async def connect(self, port: int) -> Stream:
        """Connect, and log in."""

    @abstractmethod
    async def serve(self, handle: Handler, tell: Callable[[int], object]) -> None:
        """Serve for ever; tell the port."""

    @property
    def seals(self) -> bool:
        return self.protection not in ("tls", "plain")

    def client_exchange(self) -> LDAPBind:
        return LDAPBind(mechanism_pair(self.protection).client)

    def server_exchange(self) -> LDAPBindServer:
        return LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair(self.protection).server})

    def tls(self, *, is_client: bool) -> ssl.SSLContext | None:
        if self.protection != "tls":
            return None
        contexts = tls_contexts(self.folder)
        return contexts.client if is_client else contexts.server


class _Pair:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, item: bytes, /) -> None:
        self._writer.write(item)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(65536)


class AsyncioStack(Stack):
    """Streams of asyncio."""

    async def connect(self, port: int) -> Stream:
        if self.seals:
            exchange = self.client_exchange()
            pair = await saslwrap.asyncio.open_connection(LOOPBACK, port, exchange=exchange)
        else:
            options: dict[str, Any] = {"ssl": self.tls(is_client=True)}
            if self.protection == "tls":
                options["server_hostname"] = HOST
            pair = await asyncio.open_connection(LOOPBACK, port, **options)
        return _Pair(*pair)

    async def serve(self, handle: Handler, tell: Callable[[int], object]) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await handle(_Pair(reader, writer))

        if self.seals:
            server = await saslwrap.asyncio.start_server(
                connected, LOOPBACK, 0, make_exchange=self.server_exchange
            )
        else:
            server = await asyncio.start_server(
                connected, LOOPBACK, 0, ssl=self.tls(is_client=False)
            )
        tell(server.sockets[0].getsockname()[1])
        await server.serve_forever()


class AnyioStack(Stack):
    """Streams of anyio."""

    async def connect(self, port: int) -> Stream:
        context = self.tls(is_client=True)
        if context is not None:
            return await anyio.connect_tcp(LOOPBACK, port, ssl_context=context, tls_hostname=HOST)
        tcp = await anyio.connect_tcp(LOOPBACK, port)
        if self.seals:
            return await saslwrap.anyio.authenticate(tcp, self.client_exchange())
        return tcp

    async def serve(self, handle: Handler, tell: Callable[[int], object]) -> None:
        tcp = await anyio.create_tcp_listener(local_host=LOOPBACK)
        listener: Listener[Any] = tcp
        context = self.tls(is_client=False)
        if context is not None:
            listener = TLSListener(tcp, context)
        elif self.seals:
            listener = saslwrap.anyio.SASLListener(tcp, self.server_exchange)
        tell(tcp.extra(SocketAttribute.local_port))
        await listener.serve(handle)


_SHELLS = {"asyncio": AsyncioStack, "anyio": AnyioStack}


def stack_named(name: str, folder: Path) -> Stack:
    """Make one, by a name of the list above."""
    shell, _, protection = name.partition("-")
    return _SHELLS[shell](protection, folder)
