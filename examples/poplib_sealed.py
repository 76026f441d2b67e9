"""Read mail with the standard library's poplib, under a layer.

Run it as it is, and it starts a server of its own. With

    poplib_sealed.py HOST PORT USER

it asks for the password.
"""

import socket
import sys
from getpass import getpass
from threading import Thread

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.clients.poplib import POP3
from saslwrap.protocols.pop3 import POP3AuthServer
from saslwrap.sync import authenticate_socket

ANSWERS = {
    b"STAT": b"+OK 1 51\r\n",
    b"RETR": b"+OK\r\nFrom: bob@example.com\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n",
    b"QUIT": b"+OK bye\r\n",
}


def main(host: str, port: int, user: str, password: str) -> None:
    client = POP3(host, port, timeout=10)
    client.authenticate_sasl(DigestMD5Client(user, password, service="pop", host=host))
    print(client.sock)  # it is sealed, and names the cipher
    number, _ = client.stat()
    for message in range(number):
        print(client.retr(message + 1)[1])
    client.quit()


def make_login() -> POP3AuthServer:
    def secret(username: str, realm: str) -> str | None:
        return "s3cret" if username == "alice" else None

    def make_mechanism() -> DigestMD5Server:
        return DigestMD5Server(secret, service="pop", host="localhost", realms=["localhost"])

    return POP3AuthServer({"DIGEST-MD5": make_mechanism})


def serve_mail(listener: socket.socket) -> None:
    """Serve one client, who has one message."""
    sock, _ = listener.accept()
    sock.sendall(b"+OK ready\r\n")
    with authenticate_socket(sock, make_login()) as sealed, sealed.makefile("rb") as lines:
        for line in lines:
            sealed.sendall(ANSWERS.get(line[:4], b"-ERR what?\r\n"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with socket.create_server(("localhost", 0)) as listener:
                server = Thread(target=serve_mail, args=(listener,))
                server.start()
                main("localhost", listener.getsockname()[1], "alice", "s3cret")
                server.join()
        case [host, port, user] if port.isdecimal():
            main(host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
