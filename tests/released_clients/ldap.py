"""ldap3, both faces of anyldap, and badldap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ldap3
from anyldap import ldap
from anyldap.protocols.ldap.ldapclient import LDAPClientConnectionLostException
from anyldap.protocols.ldap.ldapsyntax import LDAPEntry
from anyldap.runtime import ConnectionDone
from badldap.connection import MSLDAPTarget
from ldap3.core.exceptions import (
    LDAPSessionTerminatedByServerError,
    LDAPSocketReceiveError,
    LDAPSocketSendError,
)

from saslwrap.clients import anyldap as for_anyldap
from saslwrap.clients import badldap as for_badldap
from saslwrap.clients import ldap3 as for_ldap3
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME
from tests.released_clients.client import ADDRESS, PATIENCE, SECRETS, Client

ROOT = "dc=example,dc=com"


class LDAPClient(Client):
    service = "ldap"

    @classmethod
    @contextmanager
    def serve(cls) -> Iterator[int]:
        entries = {f"cn=n{n},{ROOT}": {"sn": [secret]} for n, secret in enumerate(SECRETS)}
        root = {"objectClass": ["domain"], "dc": ["example"]}
        server = LDAPServer({ROOT: root, **entries}, {USERNAME: PASSWORD}, host=HOST)
        with server.in_thread():
            yield server.port

    async def leave(self) -> None:
        """An unbind has no answer: who says it closes."""
        await self.close()


class Ldap3(LDAPClient):
    errors = (LDAPSocketReceiveError, LDAPSocketSendError)
    ended = (*errors, LDAPSessionTerminatedByServerError)

    def __init__(self, port: int) -> None:
        super().__init__(port)
        server = ldap3.Server(HOST, port=port, get_info=ldap3.NONE)
        self._connection: Any = ldap3.Connection(server, receive_timeout=PATIENCE)

    async def log_in(self) -> None:
        await asyncio.to_thread(for_ldap3.authenticate, self._connection, self.mechanism)

    async def read(self) -> list[str]:
        search = self._connection.search
        await asyncio.to_thread(search, ROOT, "(sn=hidden*)", attributes=["sn"])
        return sorted(entry.sn.value for entry in self._connection.entries)

    async def again(self) -> None:
        assert self._connection.closed
        assert not self._connection.bound
        await asyncio.to_thread(self._connection.bind)

    async def close(self) -> None:
        self._connection.strategy.close()


class AnyldapObject(LDAPClient):
    """The face of python-ldap."""

    errors = ended = (ldap.SERVER_DOWN,)
    only_words = True

    async def log_in(self) -> None:
        uri = f"ldap://{HOST}:{self._port}"
        self._connection = await for_anyldap.initialize(uri, self.mechanism).__aenter__()

    async def read(self) -> list[str]:
        found = await self._connection.search_s(ROOT, ldap.SCOPE_SUBTREE, "(sn=hidden*)", ["sn"])
        return sorted(entry["sn"][0].decode() for _, entry in found)

    async def again(self) -> None:
        """The next request does."""

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


class AnyldapClient(LDAPClient):
    errors = (LDAPClientConnectionLostException,)
    ended = (*errors, ConnectionDone)
    afterwards = ("Connection lost",)

    async def log_in(self) -> None:
        self._connection = await for_anyldap.connect(HOST, self._port, self.mechanism())
        self._client = await self._connection.__aenter__()

    async def read(self) -> list[str]:
        found: Any = await LDAPEntry(self._client, ROOT).search_async(filterText="(sn=hidden*)")
        return sorted(value.decode() for entry in found for value in entry["sn"])

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


class Badldap(LDAPClient):
    errors = (OSError,)  # ours, where a frame was wrong
    ended = (Exception,)  # "Connection closed!"

    async def log_in(self) -> None:
        target = MSLDAPTarget(ADDRESS, self._port, timeout=PATIENCE)
        self._connection = await for_badldap.connect(target, self.mechanism)

    async def read(self) -> list[str]:
        values = []
        async for entry, error in self._connection.search(ROOT, "(sn=hidden*)", [b"sn"]):
            if error is not None:
                raise error
            values.append(entry["attributes"]["sn"])
        return sorted(values)

    async def again(self) -> None:
        await self._connection.disconnect()
        for step in (self._connection.connect, self._connection.bind):
            assert await step() == (True, None)

    async def close(self) -> None:
        await self._connection.disconnect()
