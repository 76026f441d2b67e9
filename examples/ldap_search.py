"""Log in to a directory with DIGEST-MD5 and read one entry, on asyncio or trio.

Run it as it is, and it starts a directory of its own. With

    ldap_search.py HOST PORT USER DN

it asks for the password.
"""

import sys
from collections.abc import AsyncIterator
from getpass import getpass

import anyio

from saslwrap import DigestMD5Client
from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import Message, decode, encode, measure
from saslwrap.testing import LDAPServer

LIMIT = 1024 * 1024  # the longest message that we take, in octets

ENTRIES = {
    "dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]},
    "uid=alice,dc=example,dc=com": {"objectClass": ["account"], "uid": ["alice"]},
}


async def main(host: str, port: int, user: str, password: str, dn: str) -> None:
    mechanism = DigestMD5Client(user, password, service="ldap", host=host)
    bind = LDAPBind(mechanism)
    async with await anyio.connect_tcp(host, port) as tcp:
        stream = await authenticate(tcp, bind)  # sealed from here on
        print(f"{stream.extra(SASLAttribute.cipher)}, SSF {stream.extra(SASLAttribute.ssf)}")
        await stream.send(encode(bind.next_message_id, "searchRequest", base_search(dn)))
        async for message in messages(stream):
            if message.operation == "searchResEntry":
                show(message)
            elif message.operation == "searchResDone":
                break


def base_search(dn: str) -> dict[str, object]:
    return {
        "baseObject": dn.encode(),
        "scope": 0,
        "derefAliases": 0,
        "sizeLimit": 0,
        "timeLimit": 0,
        "typesOnly": False,
        "filter": ("present", b"objectClass"),
        "attributes": [],
    }


async def messages(stream: SASLStream) -> AsyncIterator[Message]:
    """Cut the plaintext into LDAP messages: they do not follow the frames."""
    buffer = bytearray()
    async for data in stream:
        buffer += data
        while (length := measure(buffer, LIMIT)) is not None and length <= len(buffer):
            yield decode(bytes(buffer[:length]))
            del buffer[:length]


def show(entry: Message) -> None:
    print(entry.value["objectName"].decode())
    for attribute in entry.value["attributes"]:
        for value in attribute["vals"]:
            print(f"  {attribute['type'].decode()}: {value.decode()}")


async def with_a_server_of_our_own() -> None:
    async with LDAPServer(ENTRIES, users={"alice": "s3cret"}) as server:
        await main("localhost", server.port, "alice", "s3cret", "uid=alice,dc=example,dc=com")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            anyio.run(with_a_server_of_our_own)
        case [host, port, user, dn] if port.isdecimal():
            anyio.run(main, host, int(port), user, getpass(), dn)
        case _:
            sys.exit(__doc__)
