from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.peers.support import LOOPBACK, free_port
from tests.peers.wiretap import Direction, Wiretap

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as sock:
        sock.settimeout(5)
        yield sock


@pytest.fixture
def tap(listener: socket.socket) -> Iterator[Wiretap]:
    with Wiretap(LOOPBACK, listener.getsockname()[1]) as relay:
        yield relay


def dial(tap: Wiretap) -> socket.socket:
    return socket.create_connection((tap.address, tap.port), timeout=5)


def test_both_directions_in_order(tap: Wiretap, listener: socket.socket) -> None:
    with dial(tap) as client, listener.accept()[0] as server:
        for question, answer in ((b"one", b"ONE"), (b"two", b"TWO")):
            client.sendall(question)
            assert server.recv(100) == question
            server.sendall(answer)
            assert client.recv(100) == answer
    (recording,) = tap.recordings
    assert [chunk.data for chunk in recording.chunks] == [b"one", b"ONE", b"two", b"TWO"]
    assert recording.chunks[1].direction is Direction.SERVER_TO_CLIENT
    assert tap.client_to_server == b"onetwo"
    assert tap.server_to_client == b"ONETWO"


def test_end_of_stream_passes_one_way(tap: Wiretap, listener: socket.socket) -> None:
    with dial(tap) as client, listener.accept()[0] as server:
        client.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b""
        server.sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_waiting_for_the_end(tap: Wiretap, listener: socket.socket) -> None:
    with dial(tap) as client, listener.accept()[0]:
        client.sendall(b"last words")
        with pytest.raises(TimeoutError, match="still open"):
            tap.wait_closed(timeout=0.05)
    tap.wait_closed()
    assert tap.client_to_server == b"last words"


def test_close_cuts_what_is_open(tap: Wiretap, listener: socket.socket) -> None:
    with dial(tap) as client, listener.accept()[0] as server:
        client.sendall(b"x")
        assert server.recv(100) == b"x"
        tap.close()
        assert client.recv(100) == b""
        assert server.recv(100) == b""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wiretap")]
    assert tap.client_to_server == b"x"
    tap.close()


def test_close_without_a_connection(tap: Wiretap) -> None:
    tap.close()
    assert tap.recordings == ()


def test_nobody_behind_it() -> None:
    with Wiretap(LOOPBACK, free_port()) as tap, dial(tap) as client:
        assert client.recv(100) == b""
