"""Logins to an LDAP server over Kerberos, and what they leave on the wire (RFC 4121)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from saslwrap import GSSAPIClient, GSSSPNEGOClient, SecurityProperties
from saslwrap.anyio import authenticate
from saslwrap.protocols.ldap import LDAPBind
from tests.peers.frames import split_frames
from tests.peers.ldap_client import LDAPClient
from tests.peers.ldap_wire import split_login
from tests.peers.slapd import Slapd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.peers.wiretap import Wiretap

MECHANISMS = ("GSSAPI", "GSS-SPNEGO")
LOGIN_MESSAGES = {"GSSAPI": 3, "GSS-SPNEGO": 1}
"""How many messages of a login go in each direction, in clear."""

DEFAULT = SecurityProperties()
INTEGRITY = SecurityProperties(min_ssf=1, max_ssf=1)
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)

SEALED_OVERHEAD = 60
SIGNED_OVERHEAD = 28
"""Octets of a token beside its message, with the keys of AES256-SHA1."""

Server: TypeAlias = "Slapd | Wiretap"


def bind(
    mechanism: str = "GSSAPI",
    *,
    properties: SecurityProperties = DEFAULT,
    message_id: int = 1,
    **options: Any,
) -> LDAPBind:
    """A login with the ticket that the environment has, unless `options` say otherwise."""
    kind = GSSAPIClient if mechanism == "GSSAPI" else GSSSPNEGOClient
    client = kind(service="ldap", host=Slapd.host, properties=properties, **options)
    return LDAPBind(client, message_id)


@asynccontextmanager
async def session(server: Server, exchange: LDAPBind) -> AsyncIterator[LDAPClient]:
    """A client that is logged in."""
    async with (
        await anyio.connect_tcp(server.address, server.port) as tcp,
        await authenticate(tcp, exchange) as stream,
    ):
        yield LDAPClient(stream)


@dataclass(frozen=True, slots=True)
class Token:
    """A wrap token (RFC 4121 section 4.2.6.2)."""

    wire: bytes

    def __post_init__(self) -> None:
        assert self.wire.startswith(b"\5\4")
        assert self.wire[3] == 0xFF

    def __len__(self) -> int:
        return len(self.wire)

    @property
    def by_server(self) -> bool:
        return bool(self.wire[2] & 1)

    @property
    def sealed(self) -> bool:
        return bool(self.wire[2] & 2)

    @property
    def number(self) -> int:
        """The sequence number, which starts anywhere."""
        return int.from_bytes(self.wire[8:16], "big")


def split(wire: bytes, mechanism: str) -> tuple[bytes, bytes]:
    """What one direction has on the wire: the login, and what is behind it."""
    return split_login(wire, LOGIN_MESSAGES[mechanism])


def tokens(wire: bytes, mechanism: str) -> list[Token]:
    """The tokens behind the login."""
    return [Token(token) for token in split_frames(split(wire, mechanism)[1])]


def runs(found: Iterable[Token]) -> list[int]:
    """How many tokens in a row have one number after the other: each context is a run."""
    lengths: list[int] = []
    expected = None
    for token in found:
        if token.number == expected:
            lengths[-1] += 1
        else:
            lengths.append(1)
        expected = token.number + 1
    return lengths
