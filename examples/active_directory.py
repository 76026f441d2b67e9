r"""Log in to Active Directory, and read under the layer what it holds.

active_directory.py HOST                          with the tickets of `kinit`, or of Windows
active_directory.py HOST alice@AD.EXAMPLE.COM     with a password, which it asks for
active_directory.py HOST 'DOMAIN\alice'           the same, and NTLM where there is no Kerberos

Run it without anything, and it starts a server of its own, which takes NTLM.
"""

import os
import sys
from getpass import getpass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from saslwrap import GSSAPIClient, GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.protocols.ldap_login import LDAPLogin
from saslwrap.protocols.ldap_messages import decode, encode, measure
from saslwrap.testing import LDAPServer

LIMIT = 1024 * 1024  # the longest message that we take, in octets

ROOT_DSE = {
    "baseObject": b"",
    "scope": 0,
    "derefAliases": 0,
    "sizeLimit": 0,
    "timeLimit": 0,
    "typesOnly": False,
    "filter": ("present", b"objectClass"),
    "attributes": [b"namingContexts"],
}


async def main(host: str, port: int, user: str | None, password: str | None) -> None:
    login = LDAPLogin(
        [
            GSSSPNEGOClient(user, password, service="ldap", host=host),
            GSSAPIClient(user, password, service="ldap", host=host),
        ]
    )
    async with await anyio.connect_tcp(host, port) as tcp:
        stream = await authenticate(tcp, login)  # sealed from here on, and its offer confirmed
        print(stream.extra(SASLAttribute.mechanism), stream.extra(SASLAttribute.cipher))
        await stream.send(encode(login.next_message_id, "searchRequest", ROOT_DSE))
        entry = decode(await first_message(stream))
        for attribute in entry.value["attributes"]:
            print(attribute["type"].decode(), *[value.decode() for value in attribute["vals"]])


async def first_message(stream: SASLStream) -> bytes:
    """Receive until an LDAP message is whole: messages do not follow the frames."""
    data = b""
    while (length := measure(data, LIMIT)) is None or length > len(data):
        data += await stream.receive()
    return data[:length]


async def with_a_server_of_our_own(folder: Path) -> None:
    users = folder / "users"
    users.write_text("LAB:alice:s3cret\n")
    os.environ["NTLM_USER_FILE"] = str(users)  # where pyspnego's server looks

    def make() -> GSSSPNEGOServer:
        return GSSSPNEGOServer(service="ldap", host="localhost", ntlm=True)

    async with LDAPServer({"dc=lab": {"dc": ["lab"]}}, mechanisms={"GSS-SPNEGO": make}) as server:
        await main("localhost", server.port, r"LAB\alice", "s3cret")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            with TemporaryDirectory() as folder:
                anyio.run(with_a_server_of_our_own, Path(folder))
        case [host] if not host.startswith("-"):
            anyio.run(main, host, 389, None, None)
        case [host, user]:
            anyio.run(main, host, 389, user, getpass())
        case _:
            sys.exit(__doc__)
