"""A POP3 server under a layer: it serves a connection, in a thread of its own."""

from __future__ import annotations

import socket

from saslwrap import AuthenticationError, SecurityProperties
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.protocols.pop3 import POP3AuthServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret

ANY = SecurityProperties(min_ssf=0)


def make_mechanism(
    password: str = PASSWORD,
    properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
) -> DigestMD5Client:
    return DigestMD5Client(USERNAME, password, service="pop", host=HOST, properties=properties)


def make_server(properties: SecurityProperties = ANY) -> DigestMD5Server:
    return DigestMD5Server(
        get_secret, service="pop", host=HOST, realms=[REALM], properties=properties
    )


def log_in(sock: socket.socket) -> SASLSocket:
    """Greet, and log the client in, with a second try."""
    sock.sendall(b"+OK ready\r\n")
    try:
        return authenticate_socket(sock, POP3AuthServer({"DIGEST-MD5": make_server}))
    except AuthenticationError:
        return authenticate_socket(sock, POP3AuthServer({"DIGEST-MD5": make_server}))


class Mailbox:
    """Logs clients in, and gives its messages, none of which has a line that begins with a dot."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages

    def __call__(self, sock: socket.socket) -> None:
        sealed = log_in(sock)
        with sealed, sealed.makefile("rb") as commands:
            for command in commands:
                sealed.sendall(self._answer(command))

    def _answer(self, command: bytes) -> bytes:
        match command.split():
            case [b"STAT"]:
                return b"+OK %d %d\r\n" % (len(self._messages), sum(map(len, self._messages)))
            case [b"RETR", number]:
                return b"+OK\r\n" + self._messages[int(number) - 1] + b".\r\n"
        return b"+OK\r\n"
