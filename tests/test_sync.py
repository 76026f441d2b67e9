from __future__ import annotations

import gc
import imaplib
import io
import random
import selectors
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, TypeAlias

import pytest

from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.layer import SecurityLayer
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import encode, result
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing import PROTECTIONS, MechanismPair, context_pair, mechanism_pair
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.conftest import TLSContexts, exchange_pair
from tests.support import ToySealer, make_context

Sockets: TypeAlias = tuple[socket.socket, socket.socket]
Sealed: TypeAlias = tuple[SASLSocket, SASLSocket]

#: Seconds after which a test gives up.
PATIENCE = 20.0

RESET = struct.pack("ii", 1, 0)


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


def exactly(sock: SASLSocket | socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"the end came after {len(data)} octets"
        data += chunk
    return bytes(data)


def to_end(sock: SASLSocket | socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def talk(client: SASLSocket, server: SASLSocket) -> None:
    """Show that both directions work."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"are you there?")
        assert exactly(receiver, 14) == b"are you there?"


def altered(frame: bytes) -> bytes:
    return frame[:6] + bytes([frame[6] ^ 1]) + frame[7:]


# data


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


# files


@pytest.mark.parametrize("buffering", [None, -1, 3, 8192])
def test_a_binary_file_for_reading(pair: Sealed, buffering: int | None) -> None:
    client, server = pair
    server.sendall(b"* OK first\r\n")
    server.sendall(b"* OK sec")
    server.sendall(b"ond\r\nand ten octets")
    server.close()
    with client.makefile("rb", buffering) as file:
        assert file.readline() == b"* OK first\r\n"
        assert file.readline() == b"* OK second\r\n"
        assert file.read(3) == b"and"
        assert file.read() == b" ten octets"
        assert file.readable()
        assert not file.writable()
        assert file.fileno() == client.fileno()


def test_an_unbuffered_file(pair: Sealed) -> None:
    client, server = pair
    file = client.makefile("rwb", 0)
    assert file.write(b"request") == 7
    assert exactly(server, 7) == b"request"
    server.sendall(b"line\nrest")
    assert file.readline() == b"line\n"
    assert file.read(100) == b"rest"
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


@pytest.mark.parametrize(("mode", "able"), [("rb", False), ("wb", True), ("b", False)])
def test_a_file_has_its_direction(pair: Sealed, mode: str, able: bool) -> None:
    with pair[0].makefile(mode, 0) as file:
        assert file.writable() is able
        assert file.readable() is not able
        with pytest.raises(io.UnsupportedOperation):
            file.read(1) if able else file.write(b"x")


def test_a_file_for_both_directions(pair: Sealed) -> None:
    client, server = pair
    with client.makefile("rwb") as file:
        file.write(b"question\n")
        file.flush()
        assert exactly(server, 9) == b"question\n"
        server.sendall(b"answer\n")
        assert file.readline() == b"answer\n"


def test_a_text_file(pair: Sealed) -> None:
    client, server = pair
    with client.makefile("rw", encoding="utf-8", newline="\r\n") as file:
        file.write("Grüße\n")
        file.flush()
        assert server.recv(100) == "Grüße\r\n".encode()
        server.sendall("für Sie\r\nund".encode())
        assert file.readline() == "für Sie\r\n"


def test_a_text_file_by_default(pair: Sealed) -> None:
    pair[1].sendall(b"text\n")
    with pair[0].makefile(encoding="ascii") as file:
        assert isinstance(file, io.TextIOWrapper)
        assert file.readline() == "text\n"


def test_files_that_cannot_be_made(pair: Sealed) -> None:
    with pytest.raises(ValueError, match="mode 'a'"):
        pair[0].makefile("a")
    with pytest.raises(ValueError, match="binary"):
        pair[0].makefile("r", 0)
    pair[0].close()
    assert pair[0].fileno() == -1, "a file that was not made keeps it open"


def test_a_file_for_writing_sends_what_it_holds_when_closed(pair: Sealed) -> None:
    with pair[0].makefile("wb") as file:
        file.write(b"held")
    assert exactly(pair[1], 4) == b"held"


def test_the_socket_closes_after_its_last_file(pair: Sealed) -> None:
    client, server = pair
    first, second = client.makefile("rb"), client.makefile("rwb")
    client.close()
    client.close()
    server.sendall(b"still here\n")
    assert first.readline() == b"still here\n"
    first.close()
    assert client.fileno() != -1
    second.write(b"so are we")
    second.close()
    assert client.fileno() == -1
    assert to_end(server) == b"so are we"


def test_the_files_close_before_the_socket(pair: Sealed) -> None:
    client, _ = pair
    client.makefile("rb").close()
    assert client.fileno() != -1
    talk(*pair)
    client.close()
    assert client.fileno() == -1


def test_a_file_that_is_collected_counts_as_closed(pair: Sealed) -> None:
    client, _ = pair
    file = client.makefile("rb", 0)
    client.close()
    del file
    gc.collect()
    assert client.fileno() == -1


def test_a_file_gives_nothing_more_after_a_time_out(pair: Sealed) -> None:
    """As a socket's own: a part of the line may be lost."""
    client, server = pair
    client.settimeout(0.01)
    file = client.makefile("rb")
    server.sendall(b"half a li")
    with pytest.raises(TimeoutError):
        file.readline()
    server.sendall(b"ne\n")
    with pytest.raises(OSError, match="timed out"):
        file.readline()
    client.settimeout(PATIENCE)
    assert exactly(client, 3) == b"ne\n"


def test_a_file_over_a_socket_that_does_not_wait(pair: Sealed) -> None:
    client, server = pair
    client.setblocking(False)
    with client.makefile("rb", 0) as file:
        assert file.read(1) is None
        server.sendall(b"x")
        ready(client)
        assert file.read(1) == b"x"


# waiting


def ready(sock: SASLSocket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        assert selector.select(PATIENCE)


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


# the ends


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


# errors


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
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
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


# threads


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


# logins


WRONG_PASSWORD = "Tr0ub4dor&3"


def wrong_password() -> DigestMD5Client:
    return DigestMD5Client(USERNAME, WRONG_PASSWORD, service="ldap", host=HOST)


AnySocket: TypeAlias = socket.socket | SASLSocket


def outcome(call: Callable[[], SASLSocket]) -> SASLSocket | Exception:
    try:
        return call()
    except Exception as error:
        return error


def both_log_in(
    pool: ThreadPoolExecutor, client: AnySocket, server: AnySocket, mechanisms: MechanismPair | str
) -> tuple[SASLSocket | Exception, SASLSocket | Exception]:
    if isinstance(mechanisms, str):
        mechanisms = mechanism_pair(mechanisms)
    client_half, server_half = exchange_pair(mechanisms)
    serving = pool.submit(outcome, lambda: authenticate_socket(server, server_half))
    at_client = outcome(lambda: authenticate_socket(client, client_half))
    return at_client, serving.result(PATIENCE)


def logged_in(
    pool: ThreadPoolExecutor, sockets: Sockets | Sealed, mechanisms: MechanismPair | str = "rc4"
) -> Sealed:
    """Authenticate both ends, which has to succeed."""
    at_client, at_server = both_log_in(pool, sockets[0], sockets[1], mechanisms)
    assert isinstance(at_client, SASLSocket), at_client
    assert isinstance(at_server, SASLSocket), at_server
    return at_client, at_server


@pytest.mark.parametrize("protection", ["auth", *PROTECTIONS])
def test_both_roles_log_in(sockets: Sockets, pool: ThreadPoolExecutor, protection: str) -> None:
    client, server = logged_in(pool, sockets, protection)
    assert (client.context is None) is (protection == "auth")
    talk(client, server)


def test_octets_of_the_login_that_were_read_already(
    sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    client_half, server_half = exchange_pair(mechanism_pair())
    login = pool.submit(authenticate_socket, sockets[0], client_half)
    first = sockets[1].recv(1000)
    server = authenticate_socket(sockets[1], server_half, received=first)
    talk(login.result(PATIENCE), server)


def test_a_refused_login_leaves_both_ends_usable(
    sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    refused = MechanismPair(wrong_password(), mechanism_pair().server)
    for error in both_log_in(pool, *sockets, refused):
        assert type(error) is AuthenticationError
    pair = logged_in(pool, sockets, "3des")
    talk(*pair)


def test_a_refused_login_leaves_the_layer_in_force(pair: Sealed, pool: ThreadPoolExecutor) -> None:
    before = pair[0].context
    refused = MechanismPair(wrong_password(), mechanism_pair().server)
    for error in both_log_in(pool, *pair, refused):
        assert type(error) is AuthenticationError
    assert pair[0].context is before
    talk(*pair)


def test_what_follows_a_refusal_is_not_lost(sockets: Sockets) -> None:
    refusal = encode(1, "bindResponse", result(49, "no"))
    sockets[1].sendall(refusal + b"right behind")
    exchange = LDAPBind(wrong_password())
    with pytest.raises(AuthenticationError):
        authenticate_socket(sockets[0], exchange)
    sockets[1].sendall(b" and later")
    assert exchange.trailing_data + exactly(sockets[0], 10) == b"right behind and later"


def test_what_follows_a_refusal_stays_in_the_sealed_socket(by_hand: ByHand) -> None:
    client, server, layer = by_hand
    refusal = encode(1, "bindResponse", result(49, "no"))
    server.sendall(seal(layer, refusal + b"right ", b"behind"))
    with pytest.raises(AuthenticationError):
        authenticate_socket(client, LDAPBind(wrong_password()))
    assert client.pending() == 6
    assert exactly(client, 12) == b"right behind"


def test_policies_that_do_not_meet_leave_both_ends_usable(
    sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    mechanisms = MechanismPair(mechanism_pair("3des").client, mechanism_pair("auth-int").server)
    at_client, at_server = both_log_in(pool, sockets[0], sockets[1], mechanisms)
    assert type(at_client) is NegotiationError
    assert isinstance(at_server, SASLError)
    talk(SASLSocket(sockets[0], None), SASLSocket(sockets[1], None))


BROKEN: dict[str, tuple[bytes, type[SASLError]]] = {
    "no LDAP": (b"* OK ready\r\n", ProtocolError),
    "cut off": (encode(1, "bindResponse", result(14, ""))[:5], TruncatedStreamError),
    "no proof": (encode(1, "bindResponse", result(0, "")), MutualAuthenticationError),
}


@pytest.mark.parametrize("answer", BROKEN)
def test_a_login_that_breaks_closes(sockets: Sockets, answer: str) -> None:
    octets, kind = BROKEN[answer]
    sockets[1].sendall(octets)
    sockets[1].shutdown(socket.SHUT_WR)
    with pytest.raises(kind):
        authenticate_socket(sockets[0], LDAPBind(wrong_password()))
    assert sockets[0].fileno() == -1


def test_a_login_that_times_out_closes(sockets: Sockets) -> None:
    sockets[0].settimeout(0.01)
    with pytest.raises(TimeoutError):
        authenticate_socket(sockets[0], LDAPBind(wrong_password()))
    assert sockets[0].fileno() == -1


def test_a_login_that_is_interrupted_closes(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism = wrong_password()

    def interrupt(message: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(mechanism, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        authenticate_socket(sockets[0], LDAPBind(mechanism))
    assert sockets[0].fileno() == -1


def test_over_tls_no_layer_is_asked_for(tls_sockets: Sockets, pool: ThreadPoolExecutor) -> None:
    mechanism = DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST)
    pair = logged_in(pool, tls_sockets, MechanismPair(mechanism, mechanism_pair("auth").server))
    assert pair[0].context is None
    talk(*pair)


def test_over_tls_a_layer_can_be_required(tls_sockets: Sockets, pool: ThreadPoolExecutor) -> None:
    properties = SecurityProperties(require_layer=True)
    client = DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST, properties=properties)
    server = DigestMD5Server(
        get_secret, service="ldap", host=HOST, realms=[REALM], properties=properties
    )
    pair = logged_in(pool, tls_sockets, MechanismPair(client, server))
    assert pair[0].context is not None
    talk(*pair)


def test_a_rebind_replaces_the_layer_in_the_same_socket(
    sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    client, server = logged_in(pool, sockets, "3des")
    first = client.context
    assert first is not None
    assert logged_in(pool, (client, server), "rc4") == (client, server)
    talk(client, server)
    second = client.context
    assert second is not None
    assert (first.cipher, second.cipher) == ("3des", "rc4")
    with pytest.raises(UsageError, match="closed"):
        first.seal(b"x")
    assert logged_in(pool, (client, server), "auth") == (client, server)
    assert client.context is second
    talk(client, server)


def serve_by_hand(
    server: socket.socket, layer: SecurityLayer, in_old: bytes, *in_new: bytes
) -> None:
    """Log a client in under `layer`; what follows the success comes in its segment."""
    exchange = LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair("rc4").server})
    sent = b""
    while not isinstance(event := exchange.advance(), Done):
        match event:
            case Send(data):
                sent += seal(layer, data + in_old * (b"rspauth" in data))
            case Step():
                exchange.step()
            case NeedData():
                server.sendall(sent)
                sent = b""
                while not (data := layer.read()):
                    layer.receive_data(server.recv(65536))
                exchange.receive_data(data)
    assert exchange.context is not None
    server.sendall(sent + seal(SecurityLayer(exchange.context), *in_new))
    server.shutdown(socket.SHUT_WR)


def test_frames_of_the_new_layer_right_behind_the_success(
    by_hand: ByHand, pool: ThreadPoolExecutor
) -> None:
    client, server, layer = by_hand
    serving = pool.submit(serve_by_hand, server, layer, b"", b"one ", b"two")
    assert authenticate_socket(client, LDAPBind(mechanism_pair("rc4").client)) is client
    serving.result(PATIENCE)
    assert to_end(client) == b"one two"


def test_data_of_the_old_layer_behind_a_success_breaks_the_connection(
    by_hand: ByHand, pool: ThreadPoolExecutor
) -> None:
    client, server, layer = by_hand
    serving = pool.submit(serve_by_hand, server, layer, b"old")
    with pytest.raises(ProtocolError, match="old layer"):
        authenticate_socket(client, LDAPBind(mechanism_pair("rc4").client))
    serving.result(PATIENCE)
    assert client.fileno() == -1


# a client of the standard library


def speak_imap(server: SASLSocket) -> list[bytes]:
    """Serve one IMAP client, until it logs out; give the commands it sent."""
    commands: list[bytes] = []
    with server, server.makefile("rwb") as file:
        file.write(b"* PREAUTH ready\r\n")
        file.flush()
        while commands[-1:] != [b"LOGOUT"]:
            tag, command, *_ = file.readline().split()
            commands.append(command)
            if command == b"CAPABILITY":
                file.write(b"* CAPABILITY IMAP4rev1\r\n")
            elif command == b"SELECT":
                file.write(b"* 1 EXISTS\r\n")
            elif command == b"FETCH":
                body = b"a literal\r\nof two lines" * 5000
                file.write(b"* 1 FETCH (BODY[] {%d}\r\n%s)\r\n" % (len(body), body))
            file.write(tag + b" OK done\r\n")
            file.flush()
    return commands


def test_imaplib_over_a_sealed_socket(pair: Sealed, pool: ThreadPoolExecutor) -> None:
    client, server = pair
    serving = pool.submit(speak_imap, server)

    class Mailbox(imaplib.IMAP4):
        def _create_socket(self, timeout: float | None) -> Any:
            return client

    mailbox = Mailbox("mail.example.com")
    assert mailbox.select("inbox")[1] == [b"1"]
    parts: Any = mailbox.fetch("1", "(BODY[])")[1]
    assert parts[0][1] == b"a literal\r\nof two lines" * 5000
    mailbox.logout()
    assert serving.result(PATIENCE) == [b"CAPABILITY", b"SELECT", b"FETCH", b"LOGOUT"]
    assert client.fileno() == -1
