"""Log in over a plain blocking socket, as older LDAP and IMAP clients have it.

Run it as it is, and it starts a server of its own. With

    blocking_socket.py HOST PORT USER

it asks for the password.
"""

import socket
import sys
from getpass import getpass

from saslwrap import DigestMD5Client
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import decode, encode
from saslwrap.sync import authenticate_socket
from saslwrap.testing import LDAPServer

WHO_AM_I = {"requestName": b"1.3.6.1.4.1.4203.1.11.3"}


def main(host: str, port: int, user: str, password: str) -> None:
    bind = LDAPBind(DigestMD5Client(user, password, service="ldap", host=host))
    with authenticate_socket(socket.create_connection((host, port), timeout=10), bind) as sock:
        print(sock.context)
        sock.sendall(encode(bind.next_message_id, "extendedReq", WHO_AM_I))
        answer = decode(sock.recv(65536))  # small enough to come in one frame
        print("the server knows us as", answer.value["responseValue"].decode())


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with LDAPServer({}, users={"alice": "s3cret"}).in_thread() as server:
                main("localhost", server.port, "alice", "s3cret")
        case [host, port, user] if port.isdecimal():
            main(host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
