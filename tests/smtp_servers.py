"""An SMTP server that takes mail under a layer, and those that do what servers must not.

Each serves a connection, in a thread of its own (`tests.raw_server`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from saslwrap import AuthenticationError, NegotiationError, SecurityProperties
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.protocols.smtp import SMTPAuthServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.bad_servers import seal_success
from tests.imap_servers import seal, wait
from tests.raw_server import Serve

ANY = SecurityProperties(min_ssf=0)
GREETING = b"220 localhost ESMTP\r\n"
CLEAR = b"250-localhost\r\n250-8BITMIME\r\n250-X-IN-CLEAR\r\n250 AUTH DIGEST-MD5 PLAIN\r\n"
SEALED = b"250-localhost\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 20000000\r\n"


def make_mechanism(
    password: str = PASSWORD,
    properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
    service: str = "smtp",
) -> DigestMD5Client:
    return DigestMD5Client(USERNAME, password, service=service, host=HOST, properties=properties)


def make_login(properties: SecurityProperties = ANY, service: str = "smtp") -> SMTPAuthServer:
    def make() -> DigestMD5Server:
        return DigestMD5Server(
            get_secret, service=service, host=HOST, realms=[REALM], properties=properties
        )

    return SMTPAuthServer({"DIGEST-MD5": make})


def log_in(
    sock: socket.socket, properties: SecurityProperties = ANY, service: str = "smtp"
) -> SASLSocket:
    """Log the client in, with as many tries as it takes."""
    while True:
        try:
            return authenticate_socket(sock, make_login(properties, service))
        except (AuthenticationError, NegotiationError):
            pass


@dataclass(slots=True)
class Mail:
    """A mail that was taken, and the commands that it came with."""

    sender: bytes
    recipients: list[bytes]
    content: bytes = b""


class MailRoom:
    """Logs clients in, and takes their mail, without the dots that were put before its lines.

    :param extra: whole lines of features that it has under the layer
    """

    def __init__(
        self, properties: SecurityProperties = ANY, service: str = "smtp", extra: bytes = b""
    ) -> None:
        self.mails: list[Mail] = []
        self.commands: list[bytes] = []
        self._properties = properties
        self._service = service
        self._features = b"250-localhost\r\n" + extra + SEALED.partition(b"\r\n")[2]

    def __call__(self, sock: socket.socket) -> None:
        sock.sendall(GREETING)
        self.serve(sock)

    def serve(self, sock: socket.socket) -> None:
        """Serve a client that was greeted."""
        sealed = log_in(sock, self._properties, self._service)
        with sealed, sealed.makefile("rb") as lines:
            for line in lines:
                self.commands.append(line[:4].upper())
                sealed.sendall(self._answer(line.rstrip()))
                if self.commands[-1] == b"DATA":
                    self.mails[-1].content = _content(lines)
                    sealed.sendall(b"250 2.6.0 taken\r\n")

    def _answer(self, line: bytes) -> bytes:
        match line[:4].upper():
            case b"EHLO" | b"LHLO":
                return self._features
            case b"MAIL":
                self.mails.append(Mail(line[10:], []))
            case b"RCPT":
                self.mails[-1].recipients.append(line[8:])
            case b"DATA":
                return b"354 go ahead\r\n"
            case b"QUIT":
                return b"221 2.0.0 bye\r\n"
        return b"250 2.0.0 OK\r\n"


def _content(lines: BinaryIO) -> bytes:
    content = bytearray()
    while (line := lines.readline()) != b".\r\n":
        if not line:
            raise ConnectionAbortedError("the client left")
        content += line.removeprefix(b".")
    return bytes(content)


def greet(sock: socket.socket, features: bytes = CLEAR, more: bytes = b"") -> None:
    """Greet, and answer EHLO, with more behind it if need be."""
    sock.sendall(GREETING)
    assert sock.recv(1000)[1:4].upper() == b"HLO"
    sock.sendall(features + more)


def in_clear(sock: socket.socket) -> None:
    greet(sock)
    log_in(sock)
    sock.sendall(SEALED)
    wait(sock)


def altered(sock: socket.socket) -> None:
    greet(sock)
    frame = bytearray(seal(log_in(sock), SEALED))
    frame[9] ^= 1
    sock.sendall(frame)
    wait(sock)


def replayed(sock: socket.socket) -> None:
    greet(sock)
    sealed = log_in(sock)
    frame = seal(sealed, SEALED)
    for _ in range(2):
        assert sealed.recv(1000)
        sock.sendall(frame)
    wait(sock)


def replayed_at_once(sock: socket.socket) -> None:
    greet(sock)
    sock.sendall(seal(log_in(sock), SEALED) * 2)
    wait(sock)


def cut_off(sock: socket.socket) -> None:
    greet(sock)
    sock.sendall(seal(log_in(sock), SEALED)[:-1])
    sock.shutdown(socket.SHUT_WR)
    wait(sock)


#: What no client may accept under the layer, and the words of our error.
FORBIDDEN: dict[str, tuple[Serve, str]] = {
    "cleartext after success": (in_clear, "announced a frame of .* octets"),
    "altered": (altered, "altered or forged"),
    "replayed": (replayed, "out of sequence"),
    "replayed at once": (replayed_at_once, "out of sequence"),
    "the end inside a frame": (cut_off, "inside a frame"),
}


def answering(reply: bytes) -> Serve:
    """Answer AUTH so, and wait."""

    def serve(sock: socket.socket) -> None:
        greet(sock)
        assert sock.recv(1000).startswith(b"AUTH ")
        sock.sendall(reply)
        wait(sock)

    return serve


def gone(sock: socket.socket) -> None:
    greet(sock)
    sock.recv(1000)


def success_under_the_layer(sock: socket.socket) -> None:
    greet(sock)
    seal_success(sock, make_login(), b"235")


#: What no login may survive, and the words of our error.
BAD_LOGINS: dict[str, tuple[Serve, str]] = {
    "endless challenge": (answering(b"334 " + b"A" * 200_000), "a line over 98304 octets"),
    "success at once": (answering(b"235 come in\r\n"), "without the proof"),
    "farewell": (answering(b"421 shutting down\r\n"), "ends the connection: 'shutting down'"),
    "gone": (gone, "closed the connection during the login"),
    "success under the layer": (success_under_the_layer, "6454"),
}


def saying(answer: Callable[[SASLSocket], None]) -> Serve:
    """Log the client in, hear its EHLO, and answer in the way of `answer`."""

    def serve(sock: socket.socket) -> None:
        greet(sock)
        with log_in(sock) as sealed:
            assert sealed.recv(1000)[1:4].upper() == b"HLO"
            answer(sealed)
            wait(sock)

    return serve


def _endless(sealed: SASLSocket) -> None:
    sealed.sendall(b"250-" + b"A" * 100_000)


def _refusing(sealed: SASLSocket) -> None:
    sealed.sendall(b"554 5.5.1 no\r\n")


#: Those that do not say under the layer what they can do.
endless = saying(_endless)
refuses_ehlo = saying(_refusing)


def refusing(answer: bytes = b"535 no\r\n", features: bytes = CLEAR) -> Serve:
    """Refuse every login so; obey everything else."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        answers = {
            b"EHLO": features,
            b"AUTH": answer,
            b"DATA": b"354 go\r\n",
            b"QUIT": b"221 bye\r\n",
        }
        with sock.makefile("rb") as lines:
            for line in lines:
                sock.sendall(answers.get(line[:4].upper(), b"250 OK\r\n"))

    return serve


def without_auth(sock: socket.socket) -> None:
    greet(sock, b"250-localhost\r\n250 8BITMIME\r\n")
    wait(sock)


def injecting(room: MailRoom) -> Serve:
    """Say more than was asked for, in clear, before the login: a reply to the next EHLO."""

    def serve(sock: socket.socket) -> None:
        greet(sock, more=b"250-localhost\r\n250 X-INJECTED\r\n")
        room.serve(sock)

    return serve
