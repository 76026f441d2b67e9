"""Let ldap3 work with a server that demands sealing: its own calls, under a layer of ours.

Run it as it is, and it starts a server of its own. With

    ldap3_sealed.py HOST PORT USER

it asks for the password.
"""

import sys
from getpass import getpass

import ldap3

from saslwrap import DigestMD5Client
from saslwrap.clients.ldap3 import authenticate
from saslwrap.testing import LDAPServer

ENTRIES = {
    "dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]},
    "cn=bob,dc=example,dc=com": {"objectClass": ["person"], "cn": ["bob"], "sn": ["Builder"]},
}


def main(host: str, port: int, user: str, password: str) -> None:
    # Against Active Directory: GSSSPNEGOClient(service="ldap", host=host)
    connection = ldap3.Connection(ldap3.Server(host, port=port), raise_exceptions=True)
    authenticate(connection, lambda: DigestMD5Client(user, password, service="ldap", host=host))
    print(connection.socket.context)
    print("the server knows us as", connection.extend.standard.who_am_i())
    connection.search("dc=example,dc=com", "(objectClass=person)", attributes=["cn", "sn"])
    print(connection.entries)
    connection.unbind()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with LDAPServer(ENTRIES, users={"alice": "s3cret"}).in_thread() as server:
                main("localhost", server.port, "alice", "s3cret")
        case [host, port, user] if port.isdecimal():
            main(host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
