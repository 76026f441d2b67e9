"""Put a layer under an asyncio StreamReader and StreamWriter that are in use already.

A mail-like server greets in clear, then both sides log in and go on sealed, with the same code.

Run it as it is, upgrade_streams.py, and it starts a server of its own.
"""

import asyncio
import sys

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.asyncio import authenticate_streams
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer


def make_server_mechanism() -> DigestMD5Server:
    return DigestMD5Server(
        lambda username, realm: {"alice": "s3cret"}.get(username),
        service="ldap",
        host="localhost",
        realms=["example.com"],
    )


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello, in clear\n")
    exchange = LDAPBindServer({"DIGEST-MD5": make_server_mechanism})
    reader, writer = await authenticate_streams(reader, writer, exchange)
    writer.write(f"hello {exchange.authcid}, sealed\n".encode())
    await writer.drain()
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        print((await reader.readline()).decode(), end="")

        mechanism = DigestMD5Client("alice", "s3cret", service="ldap", host="localhost")
        reader, writer = await authenticate_streams(reader, writer, LDAPBind(mechanism))
        print(writer.get_extra_info("sasl"))
        print((await reader.readline()).decode(), end="")

        writer.write(b"nobody reads this on the wire\n")
        print((await reader.readline()).decode(), end="")
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            asyncio.run(main())
        case _:
            sys.exit(__doc__)
