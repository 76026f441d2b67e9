"""imaplib under our layer: `tests/peers/test_clients_imap.py` has Cyrus."""

from __future__ import annotations

import gc
import imaplib
import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

from saslwrap import (
    AuthenticationError,
    ClientMechanism,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.clients.imaplib import IMAP4, IMAP4_SSL
from saslwrap.sync import SASLSocket
from saslwrap.testing import CYRUS_IMAP, IMAPServer
from saslwrap.testing.pairs import HOST as CERTIFIED
from tests import imap_servers as servers
from tests.conftest import TLSContexts
from tests.imap_bed import ANY_LAYER, MAILBOXES, PASSWORD, USERS
from tests.imap_clients import make_mechanism
from tests.peers.imap_wire import behind_the_login, frame_lengths
from tests.peers.wiretap import Direction, Wiretap
from tests.raw_server import serving
from tests.support import ToyMechanism, reset_at_close


@pytest.fixture
def server() -> Iterator[IMAPServer]:
    with IMAPServer(MAILBOXES, USERS, properties=ANY_LAYER).in_thread() as running:
        yield running


def connect(port: int, timeout: float = 30) -> IMAP4:
    return IMAP4("127.0.0.1", port, timeout=timeout)


def test_the_state_is_as_after_a_login_of_its_own(server: IMAPServer) -> None:
    with connect(server.port) as client:
        before = client.tagnum
        assert client.authenticate_sasl(make_mechanism()) == ("OK", [b"authenticated"])
        assert client.state == "AUTH"
        assert client.tagnum == before + 2  # of the login, and of CAPABILITY
        assert "LOGINDISABLED" not in client.capabilities
        assert "IDLE" in client.capabilities
        assert isinstance(client.socket(), SASLSocket)
        assert client.select("INBOX") == ("OK", [b"3"])
    assert client.state == "LOGOUT"


def test_what_it_is_built_on_is_there() -> None:
    """Attributes without an underscore that imaplib does not document: its version may change."""
    assert {"open", "read", "readline", "send", "shutdown"} <= set(vars(imaplib.IMAP4))
    with serving(servers.in_clear) as port:
        client = imaplib.IMAP4("127.0.0.1", port, timeout=30)
        first = client.tagnum
        assert isinstance(client.tagpre, bytes)
        assert isinstance(client.sock, socket.socket)
        assert isinstance(client.untagged_responses, dict)
        assert (client.state, client.capabilities[0]) == ("NONAUTH", "IMAP4REV1")
        assert (first, len(client.tagged_commands)) == (1, 0)
        client.shutdown()


def test_a_login_without_a_layer(server: IMAPServer) -> None:
    with connect(server.port) as client:
        client.authenticate_sasl(make_mechanism(properties=SecurityProperties(0, 0)))
        assert client.sock.context is None  # type: ignore[attr-defined]
        assert client.select("INBOX")[0] == "OK"


def test_a_login_after_those_that_were_refused(server: IMAPServer) -> None:
    with Wiretap("127.0.0.1", server.port) as tap:
        with connect(tap.port) as client:
            with pytest.raises(IMAP4.error, match="refused DIGEST-MD5: NO") as refused:
                client.authenticate_sasl(make_mechanism(password="wrong"))
            assert isinstance(refused.value.__cause__, AuthenticationError)
            with pytest.raises(IMAP4.error, match="the server offers") as unmet:
                client.authenticate_sasl(make_mechanism(properties=SecurityProperties(200)))
            assert isinstance(unmet.value.__cause__, NegotiationError)
            assert client.state == "NONAUTH"
            assert client.noop()[0] == "OK"
            client.authenticate_sasl(make_mechanism())
            assert client.select("INBOX")[0] == "OK"
        tap.wait_closed()
        assert PASSWORD.encode() not in tap.client_to_server
        assert b"LOGIN" not in tap.client_to_server
        assert frame_lengths(behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER))


def test_what_a_mechanism_misses_is_raised_as_it_is(server: IMAPServer) -> None:
    missing = ToyMechanism(MechanismUnavailableError("install it"))
    with connect(server.port) as client:
        with pytest.raises(MechanismUnavailableError, match="install it"):
            client.authenticate_sasl(missing)
        client.authenticate_sasl(make_mechanism())


def test_a_second_login(server: IMAPServer) -> None:
    with connect(server.port) as client:
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(UsageError, match="this client is in AUTH"):
            client.authenticate_sasl(make_mechanism())
        assert client.noop()[0] == "OK"


def test_starttls_under_the_layer(server: IMAPServer) -> None:
    with connect(server.port) as client:
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(UsageError, match="before the login"):
            client.starttls()
        assert client.noop()[0] == "OK"


def test_a_client_that_was_sealed_is_not_opened_again(server: IMAPServer) -> None:
    with connect(server.port) as client:
        client.authenticate_sasl(make_mechanism())
        client.logout()
        with pytest.raises(UsageError, match="make a new one"):
            client.open("127.0.0.1", server.port)


def test_an_interrupted_login_closes(server: IMAPServer) -> None:
    client = connect(server.port)
    with pytest.raises(KeyboardInterrupt):
        client.authenticate_sasl(ToyMechanism(KeyboardInterrupt()))
    assert client.state == "LOGOUT"


def test_a_login_that_is_interrupted_while_it_asks_for_capabilities_closes(
    server: IMAPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on with those that were said in clear."""

    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    client = connect(server.port)
    monkeypatch.setattr(client, "capability", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.authenticate_sasl(make_mechanism())
    assert client.state == "LOGOUT"


# over TLS

LAYER_TOO = SecurityProperties(require_layer=True)


@pytest.fixture
def tls_server(tls: TLSContexts) -> Iterator[IMAPServer]:
    with IMAPServer(MAILBOXES, USERS, properties=LAYER_TOO, tls=tls.server).in_thread() as running:
        yield running


def test_starttls_before_the_login(tls_server: IMAPServer, tls: TLSContexts) -> None:
    with IMAP4(CERTIFIED, tls_server.port, timeout=30) as client:
        assert client.starttls(tls.client)[0] == "OK"
        client.authenticate_sasl(make_mechanism(properties=LAYER_TOO))
        assert client.sock.context is not None  # type: ignore[attr-defined]
        assert client.select("INBOX")[0] == "OK"


def test_tls_from_the_first_octet(tls: TLSContexts) -> None:
    with (
        IMAPServer(MAILBOXES, USERS, tls=tls.server, tls_at_once=True).in_thread() as server,
        IMAP4_SSL(CERTIFIED, server.port, ssl_context=tls.client, timeout=30) as client,
    ):
        client.authenticate_sasl(make_mechanism())
        assert client.sock.context is None  # type: ignore[attr-defined] # TLS suffices
        assert client.select("INBOX")[0] == "OK"


def test_cleartext_behind_the_answer_to_starttls(tls: TLSContexts) -> None:
    def inject(sock: socket.socket) -> None:
        servers.greet(sock)
        tag, _ = servers.command(sock)
        sock.sendall(tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
        with tls.server.wrap_socket(sock, server_side=True) as below:
            servers.wait(below)

    with serving(inject) as port:
        client = IMAP4(CERTIFIED, port, timeout=30)
        with pytest.raises(IMAP4.abort, match="in clear, behind its answer to STARTTLS"):
            client.starttls(tls.client)
        assert client.state == "LOGOUT"


# servers that do what they must not


def check_dead(client: IMAP4) -> None:
    """It sends nothing more, and nothing of it is left open."""
    assert client.state == "LOGOUT"
    with pytest.raises(IMAP4.error, match="illegal in state LOGOUT"):
        client.select("INBOX")
    gc.collect()  # or a warning of an open socket comes later


@pytest.mark.parametrize("case", servers.BAD_LOGINS)
def test_a_login_that_cannot_be_good(case: str) -> None:
    serve, words = servers.BAD_LOGINS[case]
    with serving(serve) as port, connect(port) as client:
        with pytest.raises(IMAP4.error, match=words) as caught:
            client.authenticate_sasl(make_mechanism())
        check_dead(client)
    assert isinstance(caught.value.__cause__, SASLError)
    assert isinstance(caught.value, IMAP4.abort) is isinstance(
        caught.value.__cause__, ProtocolError
    )


def test_success_under_the_layer_freezes_nothing() -> None:
    with (
        IMAPServer(MAILBOXES, USERS, quirks=CYRUS_IMAP).in_thread() as server,
        connect(server.port) as client,
    ):
        with pytest.raises(IMAP4.abort, match="6454"):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def log_in_and_select(client: IMAP4) -> None:
    client.authenticate_sasl(make_mechanism())
    client.select("INBOX")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("case", servers.FORBIDDEN)
def test_what_no_client_may_accept(case: str) -> None:
    serve, words = servers.FORBIDDEN[case]
    with serving(serve) as port, Wiretap("127.0.0.1", port) as tap:
        with connect(tap.port) as client:
            with pytest.raises(IMAP4.abort, match=words) as caught:
                log_in_and_select(client)
            assert any(isinstance(error, SASLError) for error in chain(caught.value))
            check_dead(client)
        tap.wait_closed()
        sent = behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER)
        assert frame_lengths(sent)
        assert b"CAPABILITY" not in sent


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_is_gone(reset: bool) -> None:
    def leave(sock: socket.socket) -> None:
        sealed = servers.log_in(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1\r\n")
        servers.command(sealed)
        if reset:
            reset_at_close(sock)

    with serving(leave) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(IMAP4.abort, match=r"EOF|reset"):
            client.noop()
        check_dead(client)
        with pytest.raises(IMAP4.abort, match="Bad file descriptor"):  # as of imaplib's own
            client.noop()


def test_a_server_that_calls_the_client_logged_in() -> None:
    with serving(servers.preauth) as port:
        client = connect(port)
        with pytest.raises(UsageError, match="this client is in AUTH"):
            client.authenticate_sasl(make_mechanism())
        client.shutdown()


def test_a_server_that_says_nothing_of_what_it_can() -> None:
    def silent(sock: socket.socket) -> None:
        servers.answer(servers.log_in(sock))
        servers.wait(sock)

    with serving(silent) as port:
        client = connect(port)
        with pytest.raises(IMAP4.error, match="did not say under the layer"):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def test_what_came_in_clear_is_not_believed_under_the_layer() -> None:
    def inject(sock: socket.socket) -> None:
        sock.sendall(servers.GREETING + b"* FLAGS (injected)\r\n")
        servers.answer(sock, b"* CAPABILITY IMAP4rev1 IDLE\r\n")

        sealed = servers.accept_login(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1 UNDER-THE-LAYER\r\n")
        servers.wait(sock)

    with serving(inject) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        assert client.capabilities == ("IMAP4REV1", "UNDER-THE-LAYER")
        assert client.response("FLAGS") == ("FLAGS", [None])
        client.shutdown()


def test_untagged_responses_that_came_before_the_login_are_its_to_hear() -> None:
    """They were read ahead together with the answer before."""

    def talkative(sock: socket.socket) -> None:
        sock.sendall(servers.GREETING)
        tag, _ = servers.command(sock)
        sock.sendall(
            b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n* BYE we close in an hour\r\n"
        )
        servers.wait(sock)

    with (
        serving(talkative) as port,
        connect(port) as client,
        pytest.raises(IMAP4.abort, match="we close in an hour"),
    ):
        client.authenticate_sasl(make_mechanism())


def test_an_endless_line() -> None:
    def endless(sock: socket.socket) -> None:
        sealed = servers.log_in(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1\r\n")
        servers.command(sealed)
        sealed.sendall(b"* OK " + b"A" * 1_000_001)
        servers.wait(sock)

    with serving(endless) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(IMAP4.error, match="a line over 1000000 octets"):
            client.noop()
        check_dead(client)


def test_a_literal_that_is_announced_and_does_not_come() -> None:
    def boast(sock: socket.socket) -> None:
        sealed = servers.log_in(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1\r\n")
        servers.command(sealed)
        sealed.sendall(b"* 1 FETCH (BODY[] {99999999999}\r\nshort")
        sealed.shutdown(socket.SHUT_WR)
        servers.wait(sock)

    with serving(boast) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(IMAP4.abort, match="EOF"):
            client.noop()
        client.shutdown()


def test_a_time_out_loses_nothing() -> None:
    def hesitant(sock: socket.socket) -> None:
        sealed = servers.log_in(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1\r\n")
        sealed.sendall(b"* OK half")
        servers.command(sealed)
        sealed.sendall(b" and half\r\n")
        servers.wait(sock)

    with serving(hesitant) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.readline()
        client.sock.settimeout(30)
        client.send(b"x1 NOOP\r\n")
        assert client.readline() == b"* OK half and half\r\n"
        client.shutdown()


def test_it_takes_any_mechanism() -> None:
    """The one for a name that the server does not have is refused by the server."""
    unknown: ClientMechanism = ToyMechanism(b"")
    with IMAPServer(MAILBOXES, USERS).in_thread() as server, connect(server.port) as client:
        with pytest.raises(IMAP4.error, match="refused TOY"):
            client.authenticate_sasl(unknown)
        client.authenticate_sasl(make_mechanism())
