"""IMAP servers that do what servers must not: each serves a connection, in a thread of its own."""

from __future__ import annotations

import re
import socket

from saslwrap.protocols.imap import IMAPAuthenticateServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.pairs import mechanism_pair
from tests.raw_server import Serve

GREETING = b"* OK [CAPABILITY IMAP4rev1 AUTH=DIGEST-MD5] ready\r\n"
_CAPABILITIES = b"* CAPABILITY IMAP4rev1 IDLE\r\n"


def command(sock: socket.socket | SASLSocket) -> tuple[bytes, bytes]:
    """Take a command, and give its tag and its words."""
    line = b""
    while not line.endswith(b"\r\n"):
        octets = sock.recv(1)
        if not octets:
            raise ConnectionAbortedError("the client left")
        line += octets
    found = re.fullmatch(rb"(\S+) (.*)\r\n", line)
    assert found
    return found[1], found[2]


def answer(sock: socket.socket | SASLSocket, untagged: bytes = b"") -> bytes:
    """Say OK to the next command, and give its words."""
    tag, words = command(sock)
    sock.sendall(untagged + tag + b" OK done\r\n")
    return words


def greet(sock: socket.socket) -> None:
    """Greet, and say what there is, as imaplib and aioimaplib ask at once."""
    sock.sendall(GREETING)
    assert answer(sock, b"* CAPABILITY IMAP4rev1 AUTH=DIGEST-MD5 STARTTLS\r\n") == b"CAPABILITY"


def wait(sock: socket.socket) -> None:
    """Wait until the client has gone."""
    while sock.recv(65536):
        pass


def log_in(sock: socket.socket) -> SASLSocket:
    """Greet, and log the client in."""
    greet(sock)
    return accept_login(sock)


def accept_login(sock: socket.socket) -> SASLSocket:
    mechanism = mechanism_pair("rc4", service="imap").server
    return authenticate_socket(sock, IMAPAuthenticateServer({"DIGEST-MD5": lambda: mechanism}))


def seal(sealed: SASLSocket, message: bytes) -> bytes:
    """Make one frame."""
    assert sealed.context is not None
    token = sealed.context.seal(message)
    return len(token).to_bytes(4, "big") + token


def in_clear(sock: socket.socket) -> None:
    log_in(sock)
    sock.sendall(_CAPABILITIES)
    wait(sock)


def altered(sock: socket.socket) -> None:
    frame = bytearray(seal(log_in(sock), _CAPABILITIES))
    frame[9] ^= 1
    sock.sendall(frame)
    wait(sock)


def replayed(sock: socket.socket) -> None:
    frame = seal(log_in(sock), _CAPABILITIES)
    sock.sendall(frame + frame)
    wait(sock)


def cut_off(sock: socket.socket) -> None:
    sock.sendall(seal(log_in(sock), _CAPABILITIES)[:-1])
    sock.shutdown(socket.SHUT_WR)
    wait(sock)


#: What no client may accept under the layer, and the words of our error.
FORBIDDEN: dict[str, tuple[Serve, str]] = {
    "cleartext after success": (in_clear, "announced a frame of .* octets"),
    "altered": (altered, "altered or forged"),
    "replayed": (replayed, "out of sequence"),
    "the end inside a frame": (cut_off, "inside a frame"),
}


def endless_challenge(sock: socket.socket) -> None:
    greet(sock)
    command(sock)
    sock.sendall(b"+ " + b"A" * 200_000)
    wait(sock)


def success_at_once(sock: socket.socket) -> None:
    """Say OK before anything was proved."""
    greet(sock)
    answer(sock)
    wait(sock)


def bye(sock: socket.socket) -> None:
    greet(sock)
    command(sock)
    sock.sendall(b"* BYE shutting down\r\n")
    wait(sock)


def gone(sock: socket.socket) -> None:
    greet(sock)
    command(sock)


#: What no login may survive, and the words of our error.
BAD_LOGINS: dict[str, tuple[Serve, str]] = {
    "endless challenge": (endless_challenge, "a line over 98304 octets"),
    "success at once": (success_at_once, "without the proof"),
    "bye": (bye, "ends the connection: 'shutting down'"),
    "gone": (gone, "closed the connection during the login"),
}


def preauth(sock: socket.socket) -> None:
    """Call the client logged in, so that it does not log in (RFC 9051 section 11.1)."""
    sock.sendall(b"* PREAUTH welcome\r\n")
    answer(sock, b"* CAPABILITY IMAP4rev1\r\n")
    wait(sock)
