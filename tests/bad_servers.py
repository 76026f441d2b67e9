"""LDAP servers that log a client in and then do what servers must not, or seldom do.

A server answers the first request behind the login by one entry and its result, in frames of the
test's choice. It serves one connection after the other, in a thread of its own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeAlias

import pytest

from saslwrap.exchange import Done, Exchange, NeedData, Send, Step
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBindServer
from saslwrap.protocols.ldap_messages import decode, encode, result
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.pairs import HOST, get_secret
from tests.raw_server import Serve

DN = "cn=hidden,dc=example,dc=com"

Behaviour: TypeAlias = Callable[[SASLSocket, bytes, bytes], None]
"""Gets the connection, and the two messages of the answer."""


def _login() -> LDAPBindServer:
    """Its realm is its name: anyldap takes the one for the other."""

    def secret(username: str, _: str) -> str | None:
        return get_secret(username, "example.com")

    mechanism = DigestMD5Server(
        secret,
        service="ldap",
        host=HOST,
        realms=[HOST],
        properties=SecurityProperties(min_ssf=1),
    )
    return LDAPBindServer({"DIGEST-MD5": lambda: mechanism})


def frame(sealed: SASLSocket, message: bytes) -> bytes:
    """Seal one message into one frame."""
    assert sealed.context is not None
    token = sealed.context.seal(message)
    return len(token).to_bytes(4, "big") + token


def _in_pieces(sealed: SASLSocket, *pieces: bytes) -> None:
    for piece in pieces:
        sealed.sock.sendall(piece)
        time.sleep(0.02)  # or they may arrive as one


def coalesced(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    sealed.sock.sendall(frame(sealed, entry) + frame(sealed, done))


def in_one_frame(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    sealed.sock.sendall(frame(sealed, entry + done))


def cut_anywhere(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    """Messages over borders of frames, as Samba has them: the first cut is inside a head."""
    answer = entry + done
    for part in (answer[:1], answer[1:40], answer[40:]):
        _in_pieces(sealed, frame(sealed, part))


def header_in_halves(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    first, second = frame(sealed, entry), frame(sealed, done)
    _in_pieces(sealed, first[:2], first[2:] + second[:2], second[2:])


def header_apart(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    first, second = frame(sealed, entry), frame(sealed, done)
    _in_pieces(sealed, first[:4], first[4:] + second[:4], second[4:])


#: What every client has to cope with.
UNUSUAL: dict[str, Behaviour] = {
    "coalesced": coalesced,
    "in one frame": in_one_frame,
    "messages over frames": cut_anywhere,
    "header 2+2": header_in_halves,
    "header apart": header_apart,
}
each_unusual = pytest.mark.parametrize("behave", UNUSUAL.values(), ids=list(UNUSUAL))


def skipped(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    for _ in range(7):
        frame(sealed, b"lost")
    coalesced(sealed, entry, done)


def replayed(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    first = frame(sealed, entry)
    sealed.sock.sendall(first + first)


def altered(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    first = bytearray(frame(sealed, entry))
    first[20] ^= 1
    sealed.sock.sendall(first + frame(sealed, done))


def cut_off(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    sealed.sock.sendall(frame(sealed, entry + done)[:-1])


def endless_frame(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    sealed.sock.sendall(b"\xff\xff\xff\xfc" + entry)


def in_clear(sealed: SASLSocket, entry: bytes, done: bytes) -> None:
    sealed.sock.sendall(entry + done)


#: What no client may accept, and the words of our error.
FORBIDDEN: dict[str, tuple[Behaviour, str]] = {
    "sequence number 7 for 0": (skipped, "out of sequence"),
    "replay": (replayed, "out of sequence"),
    "altered": (altered, "altered or forged"),
    "end inside a frame": (cut_off, "inside a frame"),
    "endless frame": (endless_frame, "announced a frame of 4294967292 octets"),
    "cleartext after success": (in_clear, "announced a frame of .* octets"),
}
each_forbidden = pytest.mark.parametrize(
    ("behave", "words"), FORBIDDEN.values(), ids=list(FORBIDDEN)
)


def _serve(sock: socket.socket, behave: Behaviour) -> None:
    with authenticate_socket(sock, _login()) as sealed:
        request = decode(sealed.recv(65536))
        attributes = [{"type": b"sn", "vals": [b"hidden"]}]
        found = {"objectName": DN.encode(), "attributes": attributes}
        behave(
            sealed,
            encode(request.message_id, "searchResEntry", found),
            encode(request.message_id, "searchResDone", result(0)),
        )
        sealed.sock.shutdown(socket.SHUT_WR)
        while sealed.sock.recv(65536):  # until the client has read it all and gone
            pass


def seal_success(sock: socket.socket, login: Exchange, start: bytes = b"") -> None:
    """Log in well, but seal the message that reports it, and starts so."""
    while True:
        match login.advance():
            case Send(data):
                mechanism = login.mechanism
                if mechanism is not None and mechanism.complete and data.startswith(start):
                    assert mechanism.context is not None
                    token = mechanism.context.seal(data)
                    data = len(token).to_bytes(4, "big") + token
                sock.sendall(data)
            case NeedData():
                login.receive_data(sock.recv(65536))
            case Step():
                login.step()
            case Done():
                break
    while sock.recv(65536):
        pass


def success_under_the_layer(sock: socket.socket) -> None:
    seal_success(sock, _login())


def endless_answer(sock: socket.socket) -> None:
    """Answer the first bindRequest by a message of 2 GiB."""
    sock.recv(65536)
    sock.sendall(b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01\x61")
    while sock.recv(65536):
        pass


#: What no login may survive, and the words of our error.
BAD_LOGINS: dict[str, tuple[Serve, str]] = {
    "success under the layer": (success_under_the_layer, "where LDAP was expected"),
    "endless answer": (endless_answer, "over the limit|octets"),
}
each_bad_login = pytest.mark.parametrize(
    ("login", "words"), BAD_LOGINS.values(), ids=list(BAD_LOGINS)
)


def lying_list(sock: socket.socket) -> None:
    """Name a mechanism under the layer that was struck out of the list in clear."""
    _offer(sock, b"DIGEST-MD5")
    with authenticate_socket(sock, _login()) as sealed:
        _offer(sealed, b"DIGEST-MD5", b"X-STRONG")
        while sealed.recv(65536):
            pass


def _offer(sock: socket.socket | SASLSocket, *names: bytes) -> None:
    request = decode(sock.recv(65536))
    attributes = [{"type": b"supportedSASLMechanisms", "vals": list(names)}]
    entry = {"objectName": b"", "attributes": attributes}
    sock.sendall(
        encode(request.message_id, "searchResEntry", entry)
        + encode(request.message_id, "searchResDone", result(0))
    )


class Strong(DigestMD5Client):
    """What `lying_list` hides."""

    name = "X-STRONG"

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return 256


def behaving(behave: Behaviour) -> Serve:
    """Serve a login, and one answer in the way of `behave`."""
    return lambda sock: _serve(sock, behave)
