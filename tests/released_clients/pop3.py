"""poplib."""

from __future__ import annotations

import asyncio
import poplib
from contextlib import AbstractContextManager

from saslwrap import SASLError
from saslwrap.clients import poplib as for_poplib
from tests.pop3_servers import Mailbox
from tests.raw_server import serving
from tests.released_clients.client import ADDRESS, PATIENCE, SECRETS, Client


class Poplib(Client):
    errors = (ConnectionError,)  # ours
    ended = (ConnectionError, poplib.error_proto)
    service = "pop"

    @classmethod
    def serve(cls) -> AbstractContextManager[int]:
        return serving(Mailbox(*(b"Subject: %s\r\n\r\nbody\r\n" % one.encode() for one in SECRETS)))

    async def log_in(self) -> None:
        await asyncio.to_thread(self._log_in)

    def _log_in(self) -> None:
        self._client = for_poplib.POP3(ADDRESS, self._port, timeout=PATIENCE)
        try:
            self._client.authenticate_sasl(self.mechanism())
        except BaseException:
            assert self._client.sock is None
            raise

    async def read(self) -> list[str]:
        try:
            return await asyncio.to_thread(self._read)
        except SASLError:
            assert self._client.sock.fileno() == -1
            raise

    def _read(self) -> list[str]:
        number, _ = self._client.stat()
        messages = [self._client.retr(message + 1)[1] for message in range(number)]
        assert {tuple(message[1:]) for message in messages} == {(b"", b"body")}
        return [message[0].decode().removeprefix("Subject: ") for message in messages]

    async def leave(self) -> None:
        await asyncio.to_thread(self._client.quit)

    async def close(self) -> None:
        self._client.close()
