"""imaplib and aioimaplib."""

from __future__ import annotations

import asyncio
import imaplib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aioimaplib import aioimaplib

from saslwrap.clients import aioimaplib as for_aioimaplib
from saslwrap.clients import imaplib as for_imaplib
from saslwrap.testing import IMAPServer
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME
from tests.released_clients.client import ADDRESS, PATIENCE, SECRETS, Client


class IMAPClient(Client):
    service = "imap"

    @classmethod
    @contextmanager
    def serve(cls) -> Iterator[int]:
        messages = [f"Subject: {secret}\r\n\r\n".encode() for secret in SECRETS]
        with IMAPServer({"INBOX": messages}, {USERNAME: PASSWORD}, host=HOST).in_thread() as server:
            yield server.port


class Imaplib(IMAPClient):
    errors = ended = (imaplib.IMAP4.abort,)

    async def log_in(self) -> None:
        await asyncio.to_thread(self._log_in)

    def _log_in(self) -> None:
        self._client = for_imaplib.IMAP4(ADDRESS, self._port, timeout=PATIENCE)
        try:
            self._client.authenticate_sasl(self.mechanism())
        except BaseException:
            assert self._client.state == "LOGOUT"
            raise

    async def read(self) -> list[str]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[str]:
        try:
            self._client.select("INBOX", readonly=True)
            _, answers = self._client.fetch("1:*", "(BODY[HEADER])")
        except imaplib.IMAP4.abort:
            assert self._client.state == "LOGOUT"
            raise
        parts: list[Any] = [part for part in answers if isinstance(part, tuple)]
        return [part[1].decode().removeprefix("Subject: ").rstrip() for part in parts]

    async def leave(self) -> None:
        assert (await asyncio.to_thread(self._client.logout))[0] == "BYE"

    async def close(self) -> None:
        self._client.shutdown()


class Aioimaplib(IMAPClient):
    errors = ended = (aioimaplib.Abort,)
    only_words = True  # of a command; a login's error has a cause
    afterwards = ("command SELECT illegal in state LOGOUT",)

    async def log_in(self) -> None:
        self._client = client = aioimaplib.IMAP4(ADDRESS, self._port, timeout=PATIENCE)
        await client.wait_hello_from_server()
        try:
            await for_aioimaplib.authenticate(client, self.mechanism())
        except BaseException:
            assert client.get_state() == "LOGOUT"
            client.protocol.transport.abort()
            raise

    async def read(self) -> list[str]:
        await self._ok(self._client.select("INBOX"))
        lines = await self._ok(self._client.fetch("1:*", "(BODY[HEADER])"))
        return re.findall("Subject: (.*)\r", "".join(bytes(line).decode() for line in lines))

    async def _ok(self, command: Any) -> list[bytes]:
        """Give a command's lines; a connection that failed is told by its result."""
        response = await command
        if response.result != "OK":
            assert self._client.get_state() == "LOGOUT"
            raise aioimaplib.Abort(response.lines[-1].decode())
        return list(response.lines)

    async def leave(self) -> None:
        await self._ok(self._client.logout())

    async def close(self) -> None:
        self._client.protocol.transport.abort()
        await asyncio.sleep(0)
