"""smtplib and aiosmtplib. They send a mail, and read what the server can do."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

import aiosmtplib

from saslwrap.clients import aiosmtplib as for_aiosmtplib
from saslwrap.clients import smtplib as for_smtplib
from saslwrap.testing.pairs import HOST
from tests.raw_server import serving
from tests.released_clients.client import ADDRESS, PATIENCE, SECRETS, Client
from tests.smtp_servers import MailRoom
from tests.test_clients_smtplib import NAME, RECIPIENT, SENDER, TEXT


class SMTPClient(Client):
    service = "smtp"

    @classmethod
    @contextmanager
    def serve(cls) -> Iterator[int]:
        """Of each mail there is in the end all that was sent, or nothing."""
        room = MailRoom(extra=b"".join(b"250-%s\r\n" % secret.encode() for secret in SECRETS))
        with serving(room) as port:
            yield port
        assert {mail.content for mail in room.mails} <= {b"", TEXT}


def _secrets(answer: str) -> list[str]:
    return re.findall("^hidden .*$", answer, re.MULTILINE)


class Smtplib(SMTPClient):
    errors = ended = (smtplib.SMTPServerDisconnected,)

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._client = for_smtplib.SMTP(local_hostname=NAME, timeout=PATIENCE)

    async def log_in(self) -> None:
        assert self._client.sock is None
        await asyncio.to_thread(self._log_in)

    again = log_in

    def _log_in(self) -> None:
        self._client.connect(ADDRESS, self._port)
        try:
            self._client.authenticate_sasl(self.mechanism())
        except BaseException:
            assert self._client.sock is None
            raise

    async def read(self) -> list[str]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[str]:
        try:
            assert self._client.sendmail(SENDER, RECIPIENT, TEXT) == {}
            return _secrets(self._client.ehlo()[1].decode())
        except smtplib.SMTPServerDisconnected:
            assert self._client.sock is None
            raise

    async def leave(self) -> None:
        await asyncio.to_thread(self._client.quit)

    async def close(self) -> None:
        self._client.close()


class Aiosmtplib(SMTPClient):
    errors = ended = (aiosmtplib.SMTPServerDisconnected,)
    afterwards = ("Connection lost", "Server not connected")

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._client = aiosmtplib.SMTP(
            hostname=HOST, port=port, local_hostname=NAME, timeout=PATIENCE
        )

    async def log_in(self) -> None:
        assert not self._client.is_connected
        await self._client.connect()
        try:
            await for_aiosmtplib.authenticate(self._client, self.mechanism())
        except BaseException:
            assert not self._client.is_connected
            raise

    again = log_in

    async def read(self) -> list[str]:
        try:
            refused, _ = await self._client.sendmail(SENDER, RECIPIENT, TEXT)
            assert refused == {}
            return _secrets((await self._client.ehlo()).message)
        except aiosmtplib.SMTPServerDisconnected:
            assert not self._client.is_connected
            raise

    async def leave(self) -> None:
        await self._client.quit()

    async def close(self) -> None:
        self._client.close()
        await asyncio.sleep(0)
