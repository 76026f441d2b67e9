"""Pairs of sealed sockets, and talk over them, for `test_sync*.py`."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias

import pytest

from saslwrap.layer import SecurityLayer
from saslwrap.sync import SASLSocket
from saslwrap.testing import context_pair
from saslwrap.testing.pairs import HOST
from tests.conftest import TLSContexts
from tests.support import exactly

Sockets: TypeAlias = tuple[socket.socket, socket.socket]
Sealed: TypeAlias = tuple[SASLSocket, SASLSocket]

#: Seconds after which a test gives up.
PATIENCE = 20.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """Two connected sockets that give up in time; buffers are small."""
    with connected() as pair:
        yield pair


@contextmanager
def connected() -> Iterator[Sockets]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        for sock in (client, server):
            sock.settimeout(PATIENCE)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 65536)
        yield client, server


@pytest.fixture
def tls_sockets(sockets: Sockets, tls: TLSContexts, pool: ThreadPoolExecutor) -> Iterator[Sockets]:
    client, server = sockets
    shaking_hands = pool.submit(tls.server.wrap_socket, server, server_side=True)
    tls_client = tls.client.wrap_socket(client, server_hostname=HOST)
    with tls_client, shaking_hands.result(PATIENCE) as tls_server:
        yield tls_client, tls_server


def sealed(sockets: Sockets, protection: str = "rc4") -> Sealed:
    contexts = context_pair(protection)
    return SASLSocket(sockets[0], contexts.client), SASLSocket(sockets[1], contexts.server)


@pytest.fixture
def pair(sockets: Sockets) -> Sealed:
    """Two sealed sockets, connected."""
    return sealed(sockets)


@pytest.fixture
def by_hand(sockets: Sockets) -> tuple[SASLSocket, socket.socket, SecurityLayer]:
    """A sealed socket, the plain one at its other end, and the layer for it."""
    contexts = context_pair()
    return SASLSocket(sockets[0], contexts.client), sockets[1], SecurityLayer(contexts.server)


ByHand: TypeAlias = tuple[SASLSocket, socket.socket, SecurityLayer]


def seal(layer: SecurityLayer, *messages: bytes) -> bytes:
    return b"".join(b"".join(layer.send_data(message)) for message in messages)


def to_end(sock: SASLSocket | socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def talk(client: SASLSocket, server: SASLSocket) -> None:
    """Show that both directions work."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"are you there?")
        assert exactly(receiver, 14) == b"are you there?"


def altered(frame: bytes) -> bytes:
    return frame[:6] + bytes([frame[6] ^ 1]) + frame[7:]


def ready(sock: SASLSocket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        assert selector.select(PATIENCE)
