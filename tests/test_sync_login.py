"""Logins over a blocking socket, and over one that has a layer."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from traceback import TracebackException
from typing import Any, TypeAlias

import pytest

from saslwrap.errors import (
    AuthenticationError,
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
from saslwrap.testing import PROTECTIONS, MechanismPair, mechanism_pair
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.conftest import exchange_pair
from tests.support import exactly
from tests.sync_sockets import (
    PATIENCE,
    ByHand,
    Sealed,
    Sockets,
    by_hand,
    pair,
    pool,
    seal,
    sockets,
    talk,
    tls_sockets,
    to_end,
)

__all__ = ["by_hand", "pair", "pool", "sockets", "tls_sockets"]

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


@pytest.mark.parametrize("given", [None, "socket", 5, socket.socket])
def test_what_is_no_socket_is_refused(given: Any) -> None:
    exchange = LDAPBind(wrong_password())
    with pytest.raises(UsageError, match="sock is a connected socket, not") as caught:
        authenticate_socket(given, exchange)
    TracebackException.from_exception(caught.value, capture_locals=True)  # which calls reprs
    exchange.begin(b"")  # it is unused


def test_a_socket_that_does_not_wait_is_refused_before_a_word_is_said(
    sockets: Sockets, pool: ThreadPoolExecutor
) -> None:
    sockets[0].setblocking(False)
    exchange = LDAPBind(wrong_password())
    with pytest.raises(UsageError, match=r"settimeout\(\) first"):
        authenticate_socket(sockets[0], exchange)
    exchange.begin(b"")
    sockets[0].settimeout(PATIENCE)
    talk(*logged_in(pool, sockets, "rc4"))


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
