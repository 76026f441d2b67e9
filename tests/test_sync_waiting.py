"""Time-outs, sockets that do not wait, selectors."""

from __future__ import annotations

import selectors
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from saslwrap.errors import IntegrityError
from tests.sync_sockets import (
    PATIENCE,
    ByHand,
    Sealed,
    Sockets,
    altered,
    by_hand,
    pair,
    pool,
    ready,
    seal,
    sealed,
    sockets,
    tls_sockets,
)

__all__ = ["by_hand", "pair", "pool", "sockets", "tls_sockets"]


def test_a_time_out_in_mid_frame_keeps_what_came(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    wire = seal(layer, b"one", b"two")
    client.settimeout(0.001)
    assert client.gettimeout() == 0.001
    received = b""
    for start in range(0, len(wire), 5):
        server.sendall(wire[start : start + 5])
        with pytest.raises(TimeoutError):  # noqa: PT012 - a loop, as of a caller
            while True:
                received += client.recv(100)
    assert received == b"onetwo"


def test_a_socket_that_does_not_wait(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    wire = seal(layer, b"message")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    server.sendall(wire[:9])
    ready(client)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    server.sendall(wire[9:])
    ready(client)
    assert client.recv(1) == b"m"
    assert client.pending() == 6


def test_with_selectors_pending_tells_what_the_kernel_does_not_know(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    client.setblocking(False)
    server.sendall(seal(layer, b"one", b"two", b"three"))
    ready(client)
    assert client.recv(100) == b"one"
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        assert not selector.select(0)
    sizes = []
    while size := client.pending():
        sizes.append(size)
        assert len(client.recv(100)) == size
    assert sizes == [3, 5]


def test_with_selectors_over_tls_nothing_stays_behind(
    tls_sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    client, server = sealed(tls_sockets)

    def send() -> None:
        server.sendall(bytes(30_000))
        server.close()

    sending = pool.submit(send)
    client.setblocking(False)
    received, ended = 0, False
    while not ended:
        ready(client)
        try:
            while chunk := client.recv(1000):
                received += len(chunk)
            ended = True
        except ssl.SSLWantReadError:
            assert not client.pending()
            assert not tls_sockets[0].pending()  # type: ignore[attr-defined]
    assert received == 30_000
    sending.result(PATIENCE)


def test_pending_changes_nothing(pair: Sealed) -> None:
    client, server = pair
    assert client.pending() == 0
    server.sendall(b"abc")
    assert client.pending() == 0, "it asks the socket below for nothing"
    assert client.recv(1) == b"a"
    assert client.pending() == client.pending() == 2
    assert client.recv(5) == b"bc"


def test_pending_raises_what_recv_would(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    server.sendall(seal(layer, b"good") + altered(seal(layer, b"altered")))
    assert client.recv(100) == b"good"
    with pytest.raises(IntegrityError):
        client.pending()
    assert client.fileno() == -1
