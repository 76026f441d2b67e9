"""Client libraries as they are released, each under our layer, behind one face: for faults on it.

A client logs in and reads what the server has; it says what came, or fails in its library's way.
"""

from __future__ import annotations

import asyncio
import imaplib
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import ldap3
from aioimaplib import aioimaplib
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

from saslwrap import DigestMD5Client
from saslwrap.clients import aioimaplib as for_aioimaplib
from saslwrap.clients import anyldap as for_anyldap
from saslwrap.clients import badldap as for_badldap
from saslwrap.clients import imaplib as for_imaplib
from saslwrap.clients import ldap3 as for_ldap3
from saslwrap.testing import IMAPServer, LDAPServer
from saslwrap.testing.pairs import HOST

ROOT = "dc=example,dc=com"
USER, PASSWORD = "alice", "s3cret-Pa55"
SECRETS = [f"hidden {number}" for number in range(3)]

PATIENCE = 20


class Client(ABC):
    """One connection.

    :cvar errors: what the library raises where our layer failed, with our error in the chain or,
        if `only_words`, its words
    :cvar ended: what it raises where the server ended the connection, for any reason
    :cvar afterwards: what it says where nobody waited when the layer failed
    """

    errors: ClassVar[tuple[type[Exception], ...]]
    only_words: ClassVar[bool] = False
    ended: ClassVar[tuple[type[Exception], ...]]
    afterwards: ClassVar[str | None] = None
    service: ClassVar[str] = "ldap"

    @classmethod
    def mechanism(cls) -> DigestMD5Client:
        return DigestMD5Client(USER, PASSWORD, service=cls.service, host=HOST)

    @classmethod
    @abstractmethod
    async def connect(cls, port: int) -> Self:
        """Connect and log in."""

    @abstractmethod
    async def read(self) -> list[str]:
        """Read `SECRETS`."""

    async def again(self) -> None:
        """Log in anew, as the library has it, after the connection failed."""
        raise NotImplementedError

    @abstractmethod
    async def close(self) -> None: ...

    @classmethod
    def server(cls) -> LDAPServer | IMAPServer:
        entries = {f"cn=n{n},{ROOT}": {"sn": [secret]} for n, secret in enumerate(SECRETS)}
        root = {"objectClass": ["domain"], "dc": ["example"]}
        return LDAPServer({ROOT: root, **entries}, {USER: PASSWORD}, host=HOST)


class Ldap3(Client):
    errors = (LDAPSocketReceiveError, LDAPSocketSendError)
    ended = (*errors, LDAPSessionTerminatedByServerError)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, port: int) -> Self:
        server = ldap3.Server(HOST, port=port, get_info=ldap3.NONE)
        connection = ldap3.Connection(server, receive_timeout=PATIENCE)
        await asyncio.to_thread(for_ldap3.authenticate, connection, cls.mechanism)
        return cls(connection)

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


class AnyldapObject(Client):
    """The face of python-ldap."""

    errors = ended = (ldap.SERVER_DOWN,)
    only_words = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, port: int) -> Self:
        connection = for_anyldap.initialize(f"ldap://{HOST}:{port}", cls.mechanism)
        return cls(await connection.__aenter__())

    async def read(self) -> list[str]:
        found = await self._connection.search_s(ROOT, ldap.SCOPE_SUBTREE, "(sn=hidden*)", ["sn"])
        return sorted(entry["sn"][0].decode() for _, entry in found)

    async def again(self) -> None:
        """The next request does."""

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


class AnyldapClient(Client):
    errors = (LDAPClientConnectionLostException,)
    ended = (*errors, ConnectionDone)
    afterwards = "Connection lost"

    def __init__(self, connection: Any, client: Any) -> None:
        self._connection, self._client = connection, client

    @classmethod
    async def connect(cls, port: int) -> Self:
        connection = await for_anyldap.connect(HOST, port, cls.mechanism())
        return cls(connection, await connection.__aenter__())

    async def read(self) -> list[str]:
        found: Any = await LDAPEntry(self._client, ROOT).search_async(filterText="(sn=hidden*)")
        return sorted(value.decode() for entry in found for value in entry["sn"])

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


class Badldap(Client):
    errors = (OSError,)  # ours, where a frame was wrong
    ended = (Exception,)  # "Connection closed!"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, port: int) -> Self:
        target = MSLDAPTarget("127.0.0.1", port, timeout=PATIENCE)
        return cls(await for_badldap.connect(target, cls.mechanism))

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


class IMAPClient(Client):
    service = "imap"

    @classmethod
    def server(cls) -> IMAPServer:
        messages = [f"Subject: {secret}\r\n\r\n".encode() for secret in SECRETS]
        return IMAPServer({"INBOX": messages}, {USER: PASSWORD}, host=HOST)


class Imaplib(IMAPClient):
    errors = ended = (imaplib.IMAP4.abort,)

    def __init__(self, client: for_imaplib.IMAP4) -> None:
        self._client = client

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(await asyncio.to_thread(cls._connect, port))

    @classmethod
    def _connect(cls, port: int) -> for_imaplib.IMAP4:
        client = for_imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE)
        try:
            client.authenticate_sasl(cls.mechanism())
        except BaseException:
            assert client.state == "LOGOUT"
            raise
        return client

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

    async def close(self) -> None:
        self._client.shutdown()


class Aioimaplib(IMAPClient):
    errors = ended = (aioimaplib.Abort,)
    only_words = True  # of a command; a login's error has a cause
    afterwards = "command SELECT illegal in state LOGOUT"

    def __init__(self, client: aioimaplib.IMAP4) -> None:
        self._client = client

    @classmethod
    async def connect(cls, port: int) -> Self:
        client = aioimaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE)
        await client.wait_hello_from_server()
        try:
            await for_aioimaplib.authenticate(client, cls.mechanism())
        except BaseException:
            assert client.get_state() == "LOGOUT"
            client.protocol.transport.abort()
            raise
        return cls(client)

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

    async def close(self) -> None:
        self._client.protocol.transport.abort()
        await asyncio.sleep(0)


CLIENTS: dict[str, type[Client]] = {
    "ldap3": Ldap3,
    "anyldap": AnyldapObject,
    "anyldap's client": AnyldapClient,
    "badldap": Badldap,
    "imaplib": Imaplib,
    "aioimaplib": Aioimaplib,
}

RECONNECTING = [name for name, kind in CLIENTS.items() if kind.again is not Client.again]
"""Those that log in anew in the same object."""
