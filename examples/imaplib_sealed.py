"""Read the INBOX with the standard library's imaplib, under a layer.

Run it as it is, and it starts a server of its own. With

    imaplib_sealed.py HOST PORT USER

it asks for the password.
"""

import sys
from getpass import getpass

from saslwrap import DigestMD5Client
from saslwrap.clients.imaplib import IMAP4
from saslwrap.testing import IMAPServer

MAILBOXES = {"INBOX": [b"From: bob@example.com\r\nSubject: hello\r\n\r\nHow are you?\r\n"]}


def main(host: str, port: int, user: str, password: str) -> None:
    with IMAP4(host, port, timeout=10) as client:
        client.authenticate_sasl(DigestMD5Client(user, password, service="imap", host=host))
        print(client.socket())  # it is sealed, and names the cipher
        client.select("INBOX", readonly=True)
        _, found = client.search(None, "ALL")
        for number in found[0].decode().split():
            _, message = client.fetch(number, "(BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])")
            print(message)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with IMAPServer(MAILBOXES, users={"alice": "s3cret"}).in_thread() as server:
                main("localhost", server.port, "alice", "s3cret")
        case [host, port, user] if port.isdecimal():
            main(host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
