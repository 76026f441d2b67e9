"""Send a mail with aiosmtplib, under a layer.

Run it as it is, and it starts a server of its own. With

    aiosmtplib_sealed.py HOST PORT USER

it asks for the password.
"""

import asyncio
import sys
from email.message import EmailMessage
from getpass import getpass

import aiosmtplib

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.asyncio import authenticate_streams
from saslwrap.clients.aiosmtplib import authenticate
from saslwrap.protocols.smtp import SMTPAuthServer


async def main(host: str, port: int, user: str, password: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "alice@example.com", user, "hello"
    message.set_content("How are you?\n")
    async with aiosmtplib.SMTP(hostname=host, port=port, timeout=10) as client:
        await authenticate(client, DigestMD5Client(user, password, service="smtp", host=host))
        print(client.transport)  # it is sealed, and names the cipher
        print(await client.send_message(message))  # nobody was refused


def make_login() -> SMTPAuthServer:
    def secret(username: str, realm: str) -> str | None:
        return "s3cret" if username == "alice" else None

    def make_mechanism() -> DigestMD5Server:
        return DigestMD5Server(secret, service="smtp", host="localhost", realms=["localhost"])

    return SMTPAuthServer({"DIGEST-MD5": make_mechanism})


async def take_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client, as a mail server would that keeps nothing."""
    writer.write(b"220 localhost ESMTP\r\n")
    reader, writer = await authenticate_streams(reader, writer, make_login())
    async for line in reader:
        if line.startswith(b"DATA"):
            writer.write(b"354 go ahead\r\n")
            await reader.readuntil(b"\r\n.\r\n")
        if line.startswith(b"QUIT"):
            break
        writer.write(b"250 OK\r\n")
    writer.write(b"221 bye\r\n")
    writer.close()


async def with_a_server_of_our_own() -> None:
    async with await asyncio.start_server(take_mail, "localhost", 0) as server:
        await main("localhost", server.sockets[0].getsockname()[1], "alice", "s3cret")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            asyncio.run(with_a_server_of_our_own())
        case [host, port, user] if port.isdecimal():
            asyncio.run(main(host, int(port), user, getpass()))
        case _:
            sys.exit(__doc__)
