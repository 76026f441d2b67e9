"""Wait for mail with aioimaplib, under a layer, and read it.

Run it as it is, and it starts a server of its own. With

    aioimaplib_sealed.py HOST PORT USER

it asks for the password.
"""

import asyncio
import sys
from getpass import getpass

from aioimaplib import aioimaplib

from saslwrap import DigestMD5Client
from saslwrap.clients.aioimaplib import authenticate
from saslwrap.testing import IMAPServer

MESSAGE = b"From: bob@example.com\r\nSubject: hello\r\n\r\nHow are you?\r\n"


async def main(host: str, port: int, user: str, password: str) -> None:
    client = aioimaplib.IMAP4(host, port)
    await client.wait_hello_from_server()
    await authenticate(client, DigestMD5Client(user, password, service="imap", host=host))
    print(client.protocol.transport)  # it is sealed, and names the cipher
    await client.select("INBOX")
    idle = await client.idle_start(timeout=60)
    print(await client.wait_server_push())
    client.idle_done()
    await idle
    print((await client.fetch("*", "(BODY.PEEK[])")).lines[1].decode())
    await client.logout()


async def with_a_server_of_our_own() -> None:
    async with IMAPServer({"INBOX": []}, users={"alice": "s3cret"}) as server:
        mail = asyncio.create_task(mail_now_and_then(server))
        await main("localhost", server.port, "alice", "s3cret")
        mail.cancel()


async def mail_now_and_then(server: IMAPServer) -> None:
    while True:
        await asyncio.sleep(0.5)
        server.deliver("INBOX", MESSAGE)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            asyncio.run(with_a_server_of_our_own())
        case [host, port, user] if port.isdecimal():
            asyncio.run(main(host, int(port), user, getpass()))
        case _:
            sys.exit(__doc__)
