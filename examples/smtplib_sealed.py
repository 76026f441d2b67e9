"""Send a mail with the standard library's smtplib, under a layer.

Run it as it is, and it starts a server of its own. With

    smtplib_sealed.py HOST PORT USER

it asks for the password.
"""

import socket
import sys
from email.message import EmailMessage
from getpass import getpass
from threading import Thread

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.clients.smtplib import SMTP
from saslwrap.protocols.smtp import SMTPAuthServer
from saslwrap.sync import authenticate_socket


def main(host: str, port: int, user: str, password: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "alice@example.com", user, "hello"
    message.set_content("How are you?\n")
    with SMTP(host, port, timeout=10) as client:
        client.authenticate_sasl(DigestMD5Client(user, password, service="smtp", host=host))
        print(client.sock)  # it is sealed, and names the cipher
        print(client.send_message(message))  # nobody was refused


def make_login() -> SMTPAuthServer:
    def secret(username: str, realm: str) -> str | None:
        return "s3cret" if username == "alice" else None

    def make_mechanism() -> DigestMD5Server:
        return DigestMD5Server(secret, service="smtp", host="localhost", realms=["localhost"])

    return SMTPAuthServer({"DIGEST-MD5": make_mechanism})


def take_mail(listener: socket.socket) -> None:
    """Serve one client, as a mail server would that keeps nothing."""
    sock, _ = listener.accept()
    sock.sendall(b"220 localhost ESMTP\r\n")
    with authenticate_socket(sock, make_login()) as sealed, sealed.makefile("rb") as lines:
        for line in lines:
            if line.upper().startswith(b"DATA"):
                sealed.sendall(b"354 go ahead\r\n")
                while lines.readline() not in (b".\r\n", b""):
                    pass
            sealed.sendall(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 OK\r\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with socket.create_server(("localhost", 0)) as listener:
                server = Thread(target=take_mail, args=(listener,))
                server.start()
                main("localhost", listener.getsockname()[1], "alice", "s3cret")
                server.join()
        case [host, port, user] if port.isdecimal():
            main(host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
