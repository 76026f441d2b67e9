"""Let anyldap work with a server that demands sealing, by python-ldap's calls and by its own.

Run it as it is, and it starts a server of its own. With

    anyldap_sealed.py HOST PORT USER

it asks for the password.
"""

import sys
from getpass import getpass
from typing import Any

import anyio
from anyldap import ldap
from anyldap.protocols.ldap.ldapsyntax import LDAPEntry

from saslwrap import DigestMD5Client
from saslwrap.clients.anyldap import connect, initialize
from saslwrap.testing import LDAPServer

BASE = "dc=example,dc=com"
ENTRIES = {
    BASE: {"objectClass": ["domain"], "dc": ["example"]},
    f"cn=bob,{BASE}": {"objectClass": ["person"], "cn": ["bob"], "sn": ["Builder"]},
}


async def main(host: str, port: int, user: str, password: str) -> None:
    def mechanism() -> DigestMD5Client:
        # Against Active Directory: GSSSPNEGOClient(service="ldap", host=host)
        return DigestMD5Client(user, password, service="ldap", host=host)

    async with initialize(f"ldap://{host}:{port}", mechanism) as connection:
        print("the server knows us as", await connection.whoami_s())
        print(await connection.search_s(BASE, ldap.SCOPE_SUBTREE, "(cn=bob)", ["cn", "sn"]))

    login = mechanism()
    async with await connect(host, port, login) as client:
        print(login.context)
        found: Any = await LDAPEntry(client, BASE).search_async(filterText="(cn=bob)")
        print([entry.dn.getText() for entry in found])


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with LDAPServer(ENTRIES, users={"alice": "s3cret"}).in_thread() as server:
                anyio.run(main, "localhost", server.port, "alice", "s3cret")
        case [host, port, user] if port.isdecimal():
            anyio.run(main, host, int(port), user, getpass())
        case _:
            sys.exit(__doc__)
