"""Sessions of saslwrap's anyio shell with OpenLDAP's slapd, for `test_slapd*.py`.

What slapd does beyond the notes in `slapd.py` (2.5.13, Cyrus SASL 2.1.28):

- A client that chooses 3des is refused in good form, other (80), and the connection can be used on.
- A name inside Latin-1 is accepted by the per-string rule and all in UTF-8, not as gsasl has it.
- An authzid has the form `u:name` or `dn:...`. The rootdn may take any; others only their own.
- A Bind on a sealed connection travels under the old layer; the new one starts behind the success,
  its sequence numbers from 0. A Bind without a layer leaves the old one in force. A Bind that is
  refused leaves it too, and the connection anonymous.
- A Bind abandons a search that is under way; the entries that were sent until then come first.
- Cyrus takes 29 (rc4, des) or 20 (auth-int) octets off our maxbuf; of a maxbuf that leaves nothing
  it takes no notice, and sends frames of any length.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from saslwrap import DigestMD5Client, SecurityProperties
from saslwrap.anyio import authenticate
from saslwrap.protocols.ldap import LDAPBind
from tests.peers.directory import (
    ALICE,
    GENERATED_DN,
    NEEDLE,
    Credentials,
    generated_dn,
    generated_value,
)
from tests.peers.ldap_client import ONE_LEVEL, LDAPClient, search_request
from tests.peers.slapd import Slapd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from saslwrap.mechanisms.digest_md5.credentials import HashEncoding
    from tests.peers.wiretap import Wiretap

DEFAULT = SecurityProperties()
INTEGRITY = SecurityProperties(min_ssf=1, max_ssf=1)
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)
PROTECTIONS = {
    "rc4": (SecurityProperties(ciphers=("rc4",)), 128),
    "rc4-56": (SecurityProperties(ciphers=("rc4-56",), min_ssf=56), 56),
    "des": (SecurityProperties(ciphers=("des",), min_ssf=55), 55),
    "rc4-40": (SecurityProperties(ciphers=("rc4-40",), min_ssf=40), 40),
    "auth-int": (INTEGRITY, 1),
    "auth": (NO_LAYER, 0),
}
REFUSED = "the server refused DIGEST-MD5: "
WRONG = Credentials("alice", "wr0ng-Pa55")

EVERY_ENTRY = {generated_dn(number): generated_value(number) for number in range(10_000)}

SEARCH_DONE = bytes.fromhex("65 07  0a 01 00  04 00  04 00")
"""The end of a result: searchResDone, success."""


class Server(Protocol):
    """Where slapd is, or what stands before it."""

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


def bind(
    user: Credentials = ALICE,
    *,
    properties: SecurityProperties = DEFAULT,
    message_id: int = 1,
    realm: str | None = None,
    authzid: str | None = None,
    hash_encoding: HashEncoding = "auto",
) -> LDAPBind:
    mechanism = DigestMD5Client(
        user.username,
        user.password,
        service="ldap",
        host=Slapd.host,
        realm=realm,
        authzid=authzid,
        properties=properties,
        hash_encoding=hash_encoding,
    )
    return LDAPBind(mechanism, message_id)


async def connect(server: Server) -> SocketStream:
    return await anyio.connect_tcp(server.address, server.port)


@asynccontextmanager
async def session(server: Server, exchange: LDAPBind | None = None) -> AsyncIterator[LDAPClient]:
    """A client that is logged in: as Alice under rc4, if nothing is said."""
    async with (
        await connect(server) as tcp,
        await authenticate(tcp, exchange or bind()) as stream,
    ):
        yield LDAPClient(stream)


async def complete(tap: Wiretap) -> None:
    """Wait until the connections through the wiretap are closed, and their recordings complete."""
    await to_thread.run_sync(tap.wait_closed)


def every_entry(message_id: int) -> bytes:
    """The request for the values of all generated entries."""
    return search_request(message_id, GENERATED_DN, scope=ONE_LEVEL, attributes=["description"])


def generated_values(result: bytearray) -> list[str]:
    """The values of the generated entries in a result, which need not be decoded for that."""
    return [value.decode() for value in re.findall(rb"%b \d{5}" % NEEDLE.encode(), result)]
