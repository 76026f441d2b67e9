"""Let badldap work under a layer that compares what it computes.

Run it as it is, badldap_sealed.py, and it starts a server of its own.
"""

import asyncio
import sys

from badldap.commons.target import MSLDAPTarget

from saslwrap import DigestMD5Client
from saslwrap.clients.badldap import connect
from saslwrap.testing import LDAPServer

BASE = "dc=example,dc=com"
ENTRIES = {
    BASE: {"objectClass": ["domain"], "dc": ["example"]},
    f"cn=bob,{BASE}": {"objectClass": ["person"], "cn": ["bob"], "sn": ["Builder"]},
}


async def main(address: str, port: int, user: str, password: str) -> None:
    def mechanism() -> DigestMD5Client:
        # Against Active Directory: GSSSPNEGOClient(service="ldap", host="dc1.ad.example")
        made.append(DigestMD5Client(user, password, service="ldap", host="localhost"))
        return made[-1]

    made: list[DigestMD5Client] = []
    connection = await connect(MSLDAPTarget(address, port), mechanism)
    print(made[-1].context)
    async for entry, error in connection.pagedsearch(BASE, "(cn=bob)", [b"cn", b"sn"]):
        print(error or entry)
    await connection.disconnect()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with LDAPServer(ENTRIES, users={"alice": "s3cret"}).in_thread() as server:
                asyncio.run(main("127.0.0.1", server.port, "alice", "s3cret"))
        case _:
            sys.exit(__doc__)
