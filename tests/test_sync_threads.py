"""One thread sends while another receives; a third is refused."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from saslwrap.errors import ContextBusyError, IntegrityError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing import context_pair, mechanism_pair
from tests.support import exactly
from tests.sync_sockets import (
    PATIENCE,
    ByHand,
    Sealed,
    Sockets,
    altered,
    by_hand,
    pair,
    pool,
    seal,
    sockets,
)

__all__ = ["by_hand", "pair", "pool", "sockets"]


def test_one_thread_sends_and_one_receives(pair: Sealed, pool: ThreadPoolExecutor) -> None:
    volume = 3_000_000
    source = random.Random(5)
    there, back = source.randbytes(volume), source.randbytes(volume)
    client, server = pair
    work: list[Future[Any]] = [
        pool.submit(client.sendall, there),
        pool.submit(server.sendall, back),
        pool.submit(exactly, client, volume),
        pool.submit(exactly, server, volume),
    ]
    *_, at_client, at_server = (future.result(PATIENCE) for future in work)
    assert (at_client, at_server) == (back, there)


class Gate:
    """A socket that holds a call inside until it is told to let it go."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.entered, self.leave = Event(), Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def _wait(self) -> None:
        self.entered.set()
        assert self.leave.wait(PATIENCE)

    def sendall(self, data: bytes) -> None:
        self._wait()
        self.sock.sendall(data)

    def recv(self, size: int) -> bytes:
        self._wait()
        return self.sock.recv(size)


@contextmanager
def inside(gate: Gate, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Keep `call` at work, in another thread, while the block runs."""
    future = pool.submit(call)
    try:
        assert gate.entered.wait(PATIENCE)
        yield future
    finally:
        gate.leave.set()


def gated(sockets: Sockets) -> tuple[Gate, SASLSocket, SASLSocket]:
    contexts = context_pair()
    gate = Gate(sockets[0])
    client = SASLSocket(gate, contexts.client)  # type: ignore[arg-type]
    return gate, client, SASLSocket(sockets[1], contexts.server)


def test_a_second_sender_is_refused_at_once(sockets: Sockets, pool: ThreadPoolExecutor) -> None:
    gate, client, server = gated(sockets)
    with inside(gate, pool, lambda: client.sendall(b"first")) as sending:
        for call in (client.send, client.sendall):
            with pytest.raises(ContextBusyError, match="sending"):
                call(b"intruder")
    sending.result(PATIENCE)
    client.sendall(b"second")
    assert exactly(server, 11) == b"firstsecond"


def test_a_second_receiver_is_refused_at_once(sockets: Sockets, pool: ThreadPoolExecutor) -> None:
    gate, client, server = gated(sockets)
    with inside(gate, pool, lambda: client.recv(100)) as receiving:
        for call in (
            lambda: client.recv(1),
            lambda: client.recv_into(bytearray(1)),
            client.pending,
        ):
            with pytest.raises(ContextBusyError, match="receiving"):
                call()
        server.sendall(b"data")
    assert receiving.result(PATIENCE) == b"data"


@pytest.mark.parametrize("at_work", ["sending", "receiving"])
def test_a_login_is_refused_while_another_thread_is_at_work(
    sockets: Sockets, pool: ThreadPoolExecutor, at_work: str
) -> None:
    gate, client, server = gated(sockets)
    call = {"sending": lambda: client.sendall(b"x"), "receiving": lambda: client.recv(1)}[at_work]
    with inside(gate, pool, call) as working:
        with pytest.raises(ContextBusyError, match=at_work):
            authenticate_socket(client, LDAPBind(mechanism_pair().client))
        server.sendall(b"x")
    working.result(PATIENCE)
    client.sendall(b"y")
    assert exactly(server, 2 if at_work == "sending" else 1) in (b"xy", b"y")


def test_an_error_wakes_a_sender_that_waits(by_hand: ByHand, pool: ThreadPoolExecutor) -> None:
    client, server, layer = by_hand
    client.settimeout(None)
    sending = pool.submit(client.sendall, bytes(10_000_000))
    assert server.recv(1)
    server.sendall(altered(seal(layer, b"altered")))
    with pytest.raises(IntegrityError):
        client.recv(1)
    with pytest.raises(OSError, match=r"pipe|descriptor|reset"):
        sending.result(PATIENCE)
