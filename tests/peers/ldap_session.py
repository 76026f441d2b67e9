"""The client of `ldap_client.py` over any shell; and what the tests of slapd do with it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from anyio import EndOfStream

from tests.peers.directory import LARGE_DN
from tests.peers.ldap_client import ONE_LEVEL, LDAPClient

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from saslwrap.protocols.ldap import LDAPBind
    from tests.peers.shells import Shell
    from tests.peers.talks import Talk


class _Stream:
    """What `LDAPClient` needs of a stream."""

    def __init__(self, talk: Talk) -> None:
        self.send = talk.send
        self._receive = talk.receive

    async def receive(self) -> bytes:
        if data := await self._receive():
            return data
        raise EndOfStream


def client_over(talk: Talk) -> LDAPClient:
    return LDAPClient(cast("ByteStream", _Stream(talk)))


class LDAPSession:
    """A connection to slapd, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self._client = client_over(self.conversation.talk)
        self._run = shell.run

    def log_in(self, exchange: LDAPBind) -> None:
        self.conversation.authenticate(exchange)

    def large_values(self) -> dict[str, str]:
        async def search() -> dict[str, str]:
            return (await self._client.search(LARGE_DN, scope=ONE_LEVEL)).values()

        return self._run(search)

    def who_am_i(self) -> str:
        return self._run(self._client.who_am_i)

    def unbind(self) -> None:
        """Say goodbye; the server closes the connection, and so do we."""
        self._run(self._client.unbind)
        assert self.conversation.receive() == b""
        self.conversation.close()
