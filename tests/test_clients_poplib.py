"""poplib under our layer: `tests/peers/test_clients_pop3.py` has Cyrus."""

from __future__ import annotations

import poplib
import socket
from collections.abc import Callable

import pytest

from saslwrap import AuthenticationError, ProtocolError, SASLError, SecurityProperties, UsageError
from saslwrap.clients.poplib import POP3, POP3_SSL
from saslwrap.protocols.pop3 import POP3AuthServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.pairs import HOST
from tests.conftest import TLSContexts
from tests.imap_servers import seal, wait
from tests.pop3_servers import Mailbox, log_in, make_mechanism, make_server
from tests.raw_server import serving

LAYER_TOO = SecurityProperties(require_layer=True)

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
MAILBOX = Mailbox(MESSAGE)


def connect(port: int) -> POP3:
    return POP3("127.0.0.1", port, timeout=30)


def test_work_under_a_layer() -> None:
    with serving(MAILBOX) as port:
        client = connect(port)
        assert client.authenticate_sasl(make_mechanism()) == b"authenticated"
        assert isinstance(client.sock, SASLSocket)
        assert client.stat() == (1, 20)
        assert client.retr(1)[1] == [b"Subject: x", b"", b"body"]
        with pytest.raises(UsageError, match="before the login"):
            client.stls()
        with pytest.raises(UsageError, match="logged in already"):
            client.authenticate_sasl(make_mechanism())
        client.quit()
        with pytest.raises(UsageError, match="or closed"):
            client.authenticate_sasl(make_mechanism())


def test_what_it_is_built_on_is_there() -> None:
    """Attributes without an underscore that poplib does not document."""
    with serving(MAILBOX) as port:
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        assert isinstance(client.sock, socket.socket)
        assert callable(client.file.readline)
        client.close()
        assert [client.sock, client.file].count(None) == 2


def test_a_login_after_one_that_was_refused() -> None:
    with serving(MAILBOX) as port:
        client = connect(port)
        with pytest.raises(poplib.error_proto, match="refused DIGEST-MD5") as refused:
            client.authenticate_sasl(make_mechanism("wrong"))
        assert isinstance(refused.value.__cause__, AuthenticationError)
        client.authenticate_sasl(make_mechanism())
        assert client.stat() == (1, 20)
        client.quit()


def test_a_refusal_with_more_behind_it_closes() -> None:
    """Or the answers to the next commands would be those."""

    def refuse(sock: socket.socket) -> None:
        sock.sendall(b"+OK ready\r\n")
        assert sock.recv(100).startswith(b"AUTH ")
        sock.sendall(b"-ERR no\r\n+OK 1 20\r\n+OK")
        wait(sock)

    with serving(refuse) as port:
        client = connect(port)
        with pytest.raises(poplib.error_proto, match="refused DIGEST-MD5"):
            client.authenticate_sasl(make_mechanism())
        assert client.sock is None


def test_stls_and_a_login_without_a_layer(tls: TLSContexts) -> None:
    def over_tls(sock: socket.socket) -> None:
        sock.sendall(b"+OK ready\r\n")
        assert sock.recv(100) == b"CAPA\r\n"
        sock.sendall(b"+OK\r\nSTLS\r\n.\r\n")
        assert sock.recv(100) == b"STLS\r\n"
        sock.sendall(b"+OK\r\n")
        with tls.server.wrap_socket(sock, server_side=True) as below:
            sealed = authenticate_socket(below, POP3AuthServer({"DIGEST-MD5": make_server}))
            assert sealed.recv(100) == b"QUIT\r\n"
            sealed.sendall(b"+OK\r\n")

    with serving(over_tls) as port:
        client = POP3(HOST, port, timeout=30)
        client.stls(context=tls.client)
        client.authenticate_sasl(make_mechanism())
        assert client.sock.context is None  # type: ignore[attr-defined] # TLS suffices
        client.quit()


def test_tls_from_the_first_octet(tls: TLSContexts) -> None:
    def over_tls(sock: socket.socket) -> None:
        with tls.server.wrap_socket(sock, server_side=True) as below:
            below.sendall(b"+OK ready\r\n")
            login = POP3AuthServer({"DIGEST-MD5": lambda: make_server(LAYER_TOO)})
            sealed = authenticate_socket(below, login)
            assert sealed.recv(100) == b"QUIT\r\n"
            sealed.sendall(b"+OK\r\n")

    with serving(over_tls) as port:
        client = POP3_SSL(HOST, port, timeout=30, context=tls.client)
        client.authenticate_sasl(make_mechanism(properties=LAYER_TOO))
        assert client.sock.context is not None  # type: ignore[attr-defined]
        client.quit()


def in_clear(sock: socket.socket) -> None:
    log_in(sock)
    sock.sendall(b"+OK 1 20\r\n")
    wait(sock)


def altered(sock: socket.socket) -> None:
    frame = bytearray(seal(log_in(sock), b"+OK 1 20\r\n"))
    frame[6] ^= 1
    sock.sendall(frame)
    wait(sock)


@pytest.mark.parametrize(
    ("serve", "words"), [(in_clear, "speak cleartext"), (altered, "altered or forged")]
)
def test_what_no_client_may_accept(serve: Callable[[socket.socket], None], words: str) -> None:
    with serving(serve) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(ConnectionError, match=words) as caught:
            client.stat()
        assert isinstance(caught.value, SASLError)
        with pytest.raises(ConnectionError):
            client.stat()
        client.close()


def endless(sock: socket.socket) -> None:
    sock.sendall(b"+OK ready\r\n")
    sock.recv(100)
    sock.sendall(b"+ " + b"A" * 200_000)
    wait(sock)


def success_at_once(sock: socket.socket) -> None:
    sock.sendall(b"+OK ready\r\n")
    sock.recv(100)
    sock.sendall(b"+OK come in\r\n")
    wait(sock)


@pytest.mark.parametrize(
    ("serve", "kind", "words"),
    [
        (endless, ProtocolError, "a line over"),
        (success_at_once, poplib.error_proto, "without the proof"),
    ],
)
def test_a_login_that_cannot_be_good(
    serve: Callable[[socket.socket], None], kind: type[Exception], words: str
) -> None:
    with serving(serve) as port:
        client = connect(port)
        with pytest.raises(kind, match=words):
            client.authenticate_sasl(make_mechanism())
        assert client.sock is None
