"""A TCP relay; and one that writes down what passes, to find plaintext where there must be none.

A chunk is recorded before it is passed on: whoever has received an octet finds it in the record.
What was sent and has not arrived may be missing: before a test says what is *not* on the wire, it
ends its connections and calls `wait_closed`.

One thread accepts, two carry each connection. An end of stream is passed on as such; an error on
either side breaks both. `close` ends what is still open and joins every thread.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Self, TypeAlias

from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536

Connect: TypeAlias = "Callable[[], socket.socket]"
"""Makes a connection to the server behind a relay."""


class Direction(Enum):
    CLIENT_TO_SERVER = "client to server"
    SERVER_TO_CLIENT = "server to client"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one `recv` brought."""

    direction: Direction
    data: bytes


@dataclass(eq=False, slots=True)
class Recording:
    """One connection: the chunks of both directions in the order in which they passed."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def client_to_server(self) -> bytes:
        return self.sent(Direction.CLIENT_TO_SERVER)

    @property
    def server_to_client(self) -> bytes:
        return self.sent(Direction.SERVER_TO_CLIENT)

    def sent(self, direction: Direction) -> bytes:
        """Every octet of one direction."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.direction is direction)


Note: TypeAlias = "Callable[[Chunk], None]"
"""Is told of each chunk of one connection before it is passed on."""


class Relay:
    """A relay from a free port on loopback to where `connect` leads."""

    host = "localhost"
    address = LOOPBACK

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._open: set[socket.socket] = set()
        self._carriers: list[Thread] = []
        self._lock = Lock()
        self._closing = False
        self._listener = socket.create_server((self.address, 0))
        self.port = int(self._listener.getsockname()[1])
        name = f"{type(self).__name__.lower()} {self.port}"
        self._acceptor = Thread(target=self._accept, name=name)
        self._acceptor.start()

    def wait_closed(self, timeout: float = 10) -> None:
        """Wait until both ends of every connection have closed: every chunk has been noted."""
        deadline = time.monotonic() + timeout
        for carrier in list(self._carriers):
            carrier.join(max(0.0, deadline - time.monotonic()))
            if carrier.is_alive():
                raise TimeoutError(f"a connection is still open after {timeout:g} s")

    def close(self) -> None:
        """Cut every connection and end every thread."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with suppress(OSError):
            socket.create_connection((self.address, self.port), timeout=1).close()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                _shut(sock, socket.SHUT_RDWR)
        for carrier in self._carriers:
            carrier.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            carrier = Thread(target=self._carry, args=(client, self._begin()))
            self._carriers.append(carrier)
            carrier.start()

    def _begin(self) -> Note:
        """Decide what becomes of the chunks of a connection that has just come: nothing."""
        return lambda chunk: None

    def _carry(self, client: socket.socket, note: Note) -> None:
        with client:
            try:
                server = self._connect()
            except OSError:
                return
            with server:
                server.settimeout(None)
                if self._register(client, server):
                    self._relay(client, server, note)
                self._forget(client, server)

    def _register(self, *sockets: socket.socket) -> bool:
        for relayed in sockets:  # or Nagle's algorithm waits for delayed acknowledgements
            relayed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.update(sockets)
            return not self._closing

    def _forget(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(sockets)

    def _relay(self, client: socket.socket, server: socket.socket, note: Note) -> None:
        upward = Thread(target=_pump, args=(client, server, note, Direction.CLIENT_TO_SERVER))
        upward.start()
        _pump(server, client, note, Direction.SERVER_TO_CLIENT)
        upward.join()


class Wiretap(Relay):
    """A recording relay from a free port on loopback to `host` and `port`.

    The recordings stay when it is closed.
    """

    def __init__(self, host: str, port: int) -> None:
        self._recordings: list[Recording] = []
        super().__init__(partial(socket.create_connection, (host, port), timeout=10))

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """One for each connection, in the order in which they came."""
        return tuple(self._recordings)

    @property
    def client_to_server(self) -> bytes:
        """What the clients of all connections sent, one connection after the other."""
        return b"".join(recording.client_to_server for recording in self._recordings)

    @property
    def server_to_client(self) -> bytes:
        """What all connections got from the server, one connection after the other."""
        return b"".join(recording.server_to_client for recording in self._recordings)

    def _begin(self) -> Note:
        recording = Recording()
        self._recordings.append(recording)
        return recording.chunks.append


WiretapFactory: TypeAlias = "Callable[[str, int], Wiretap]"
"""What the fixture `wiretap` gives: call it with the host and the port to relay to."""


def _pump(source: socket.socket, sink: socket.socket, note: Note, direction: Direction) -> None:
    try:
        while data := source.recv(_CHUNK):
            note(Chunk(direction, data))
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(source, socket.SHUT_RDWR)
        _shut(sink, socket.SHUT_RDWR)


def _shut(sock: socket.socket, how: int) -> None:
    with suppress(OSError):
        sock.shutdown(how)
