"""A layer over a blocking socket: data, ends, errors."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.sync import SASLSocket
from saslwrap.testing import PROTECTIONS, context_pair
from tests.support import ToySealer, exactly, make_context, reset_at_close
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
    sealed,
    sockets,
    talk,
    tls_sockets,
    to_end,
)

__all__ = ["by_hand", "pair", "pool", "sockets", "tls_sockets"]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_data_of_any_size_goes_both_ways(
    sockets: Sockets, pool: ThreadPoolExecutor, protection: str
) -> None:
    client, server = sealed(sockets, protection)
    for size in (1, 1000, 65536, 300_000):
        data = bytes(i % 251 for i in range(size))
        for sender, receiver in ((client, server), (server, client)):
            sending = pool.submit(sender.sendall, data)
            assert exactly(receiver, size) == data
            sending.result(PATIENCE)


def test_a_frame_is_received_in_parts(pair: Sealed) -> None:
    client, server = pair
    client.sendall(b"abcdefg")
    client.sendall(b"hij")
    assert [server.recv(3) for _ in range(4)] == [b"abc", b"def", b"g", b"hij"]


def test_any_buffer_can_be_sent(pair: Sealed) -> None:
    client, server = pair
    assert client.send(b"") == 0
    assert client.send(memoryview(b"abcd").cast("I")) == 4
    assert client.send(bytearray(b"ef")) == 2
    client.sendall(b"")
    assert exactly(server, 6) == b"abcdef"


def test_recv_into(pair: Sealed) -> None:
    client, server = pair
    client.sendall(b"abcdefg")
    buffer = bytearray(8)
    assert server.recv_into(buffer, 2) == 2
    assert server.recv_into(memoryview(buffer)[2:], 2) == 2
    assert server.recv_into(memoryview(buffer)[4:].cast("I")) == 3
    assert buffer == b"abcdefg\0"
    assert server.recv_into(bytearray()) == 0


def test_recv_into_a_buffer_that_does_not_fit_takes_nothing(pair: Sealed) -> None:
    client, server = pair
    client.sendall(b"abc")
    for buffer, count in ((bytearray(2), 3), (bytearray(2), -1), (bytes(3), 0)):
        with pytest.raises(ValueError, match="buffer"):
            server.recv_into(buffer, count)
    assert server.recv(3) == b"abc"


def test_receiving_nothing(pair: Sealed) -> None:
    assert pair[0].recv(0) == b""
    with pytest.raises(ValueError, match="negative"):
        pair[0].recv(-1)


def test_receiving_a_part_of_an_octet_takes_nothing(pair: Sealed) -> None:
    client, server = pair
    client.sendall(b"abc")
    assert server.recv(1) == b"a"
    with pytest.raises(UsageError, match="a whole number from 1, not float"):
        server.recv(1.5)  # type: ignore[arg-type]
    assert server.recv(3) == b"bc"


def test_flags_have_no_meaning_here(pair: Sealed) -> None:
    for call in (
        lambda: pair[0].recv(1, socket.MSG_PEEK),
        lambda: pair[0].recv_into(bytearray(1), 1, socket.MSG_PEEK),
        lambda: pair[0].send(b"x", socket.MSG_OOB),
        lambda: pair[0].sendall(b"x", socket.MSG_OOB),
    ):
        with pytest.raises(UsageError, match="flags"):
            call()


def test_what_was_received_past_the_login_comes_first(sockets: Sockets) -> None:
    contexts = context_pair()
    layer = SecurityLayer(contexts.server)
    wire = seal(layer, b"one", b"two")
    sock = SASLSocket(sockets[0], contexts.client, received=wire[:-2])
    assert sock.recv(100) == b"one"
    sockets[1].sendall(wire[-2:])
    assert sock.recv(100) == b"two"


def test_a_socket_without_a_layer(sockets: Sockets) -> None:
    client, server = SASLSocket(sockets[0], None, received=b"first "), SASLSocket(sockets[1], None)
    server.sendall(b"second")
    assert exactly(client, 12) == b"first second"
    assert client.context is None
    assert client.pending() == 0
    talk(client, server)
    server.close()
    assert client.recv(1) == b""
    assert repr(client).startswith("<SASLSocket <ClearLayer> over <socket.socket fd=")


def test_half_close_in_both_directions(pair: Sealed) -> None:
    client, server = pair
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert to_end(server) == b"last words"
    assert server.recv(1) == b""
    server.sendall(b"answer")
    server.shutdown(socket.SHUT_WR)
    assert to_end(client) == b"answer"
    for sock in pair:
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"x")


def test_closing_drops_the_keys_and_ends_the_peer(pair: Sealed) -> None:
    client, server = pair
    with client as entered:
        assert entered is client
        client.sendall(b"last words")
    assert client.fileno() == -1
    assert to_end(server) == b"last words"
    for call in (lambda: client.recv(1), lambda: client.sendall(b"x"), client.pending):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()


def test_closing_a_socket_without_a_layer(sockets: Sockets) -> None:
    with SASLSocket(sockets[0], None) as client:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.recv(1)


def test_shutdown_wakes_the_receiver(pair: Sealed, pool: ThreadPoolExecutor) -> None:
    receiving = pool.submit(pair[0].recv, 1)
    pair[0].shutdown(socket.SHUT_RDWR)
    assert receiving.result(PATIENCE) == b""


def test_tls_is_not_half_closed(tls_sockets: Sockets) -> None:
    client, server = sealed(tls_sockets)
    for how in (socket.SHUT_RD, socket.SHUT_WR):
        with pytest.raises(UsageError, match="half closed"):
            client.shutdown(how)
    talk(client, server)
    client.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match="pipe"):
        client.sendall(b"x")


def test_the_rest_of_a_socket(pair: Sealed, sockets: Sockets) -> None:
    client, _ = pair
    assert client.sock is sockets[0]
    assert client.fileno() == sockets[0].fileno()
    assert client.getpeername() == sockets[1].getsockname()
    assert client.getsockname() == sockets[1].getpeername()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert client.context is not None
    assert client.context.cipher == "rc4"
    assert "SecurityContext DIGEST-MD5" in repr(client)


FAULTS: dict[str, tuple[Callable[[SecurityLayer], bytes], type[SASLError]]] = {
    "altered": (lambda layer: altered(seal(layer, b"altered")), IntegrityError),
    "too long": (lambda layer: b"\xff\xff\xff\xff", FrameTooLargeError),
    "no token": (lambda layer: bytes(4), ProtocolError),
    "cleartext": (lambda layer: b"* BYE see you\r\n", FrameTooLargeError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_comes_after_what_was_good_and_stays(by_hand: ByHand, fault: str) -> None:
    client, server, layer = by_hand
    make, kind = FAULTS[fault]
    server.sendall(seal(layer, b"good") + make(layer) + seal(layer, b"behind"))
    assert client.recv(100) == b"good"
    texts = set()
    for call in (
        lambda: client.recv(100),
        lambda: client.recv(100),
        lambda: client.sendall(b"x"),
        client.pending,
    ):
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, ConnectionError)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert client.fileno() == -1
    client.close()
    with pytest.raises(kind):
        client.recv(100)
    server.settimeout(PATIENCE)
    with suppress(ConnectionResetError):  # as it had not read all
        assert server.recv(1) == b""


@pytest.mark.parametrize("missing", [1, 10, 17])
def test_the_end_inside_a_frame_is_truncation(by_hand: ByHand, missing: int) -> None:
    client, server, layer = by_hand
    server.sendall(seal(layer, b"whole") + seal(layer, b"cut")[:-missing])
    server.close()
    assert client.recv(100) == b"whole"
    for _ in range(2):
        with pytest.raises(TruncatedStreamError):
            client.recv(100)


def test_a_reset_is_the_sockets_own_error(by_hand: ByHand) -> None:
    client, server, _ = by_hand
    reset_at_close(server)
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_send_that_times_out_breaks_writing_and_not_reading(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(10_000_000))
    for call in (client.send, client.sendall):
        with pytest.raises(BrokenPipeError, match="sequence"):
            call(b"x")
    server.sendall(seal(layer, b"you went silent"))
    client.settimeout(PATIENCE)
    assert client.recv(100) == b"you went silent"


def test_a_send_that_does_not_wait_breaks_loudly(by_hand: ByHand) -> None:
    client, _, _ = by_hand
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.sendall(bytes(10_000_000))
    with pytest.raises(BrokenPipeError, match="sequence"):
        client.sendall(b"x")


def test_a_send_that_times_out_without_a_layer_breaks_nothing(sockets: Sockets) -> None:
    client = SASLSocket(sockets[0], None)
    client.settimeout(0.05)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            client.sendall(bytes(10_000_000))


def test_data_that_cannot_be_sealed_breaks_nothing(pair: Sealed) -> None:
    with pytest.raises(TypeError):
        pair[0].sendall("text")  # type: ignore[arg-type]
    talk(*pair)


def test_a_sealer_that_fails_closes(sockets: Sockets) -> None:
    sealer = ToySealer()
    client = SASLSocket(sockets[0], make_context(sealer))

    def fail() -> None:
        raise SASLError("the numbers are used up")

    sealer.on_call = fail
    for _ in range(2):
        with pytest.raises(SASLError, match="used up"):
            client.sendall(b"x")
    assert client.fileno() == -1


def test_a_context_that_was_closed_is_the_callers_mistake(pair: Sealed) -> None:
    client, _ = pair
    assert client.context is not None
    client.context.close()
    with pytest.raises(UsageError, match="closed"):
        client.sendall(b"x")
    assert client.fileno() != -1
