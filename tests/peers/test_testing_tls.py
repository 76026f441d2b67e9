"""Kerberos logins over the TLS of a server for tests, which can ask that they are bound to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from saslwrap import AuthenticationError, GSSAPIClient, GSSSPNEGOClient
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.mechanisms.channel_binding import tls_server_end_point
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import LDAPServer
from tests.ldap_bed import WHO_AM_I, Client, connected

if TYPE_CHECKING:
    from saslwrap import ChannelInfo
    from tests.conftest import TLSContexts

pytest.importorskip("spnego")

NAMES = ("GSSAPI", "GSS-SPNEGO")
KINDS: dict[str, type[GSSAPIClient | GSSSPNEGOClient]] = {
    "GSSAPI": GSSAPIClient,
    "GSS-SPNEGO": GSSSPNEGOClient,
}

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("alice_ticket"),
    pytest.mark.parametrize("name", NAMES),
]


class Unbound(GSSAPIClient):
    def bind_channel(self, info: ChannelInfo) -> None:
        super().bind_channel(replace(info, tls_server_end_point=None))


class UnboundSPNEGO(GSSSPNEGOClient):
    def bind_channel(self, info: ChannelInfo) -> None:
        super().bind_channel(replace(info, tls_server_end_point=None))


UNBOUND: dict[str, type[GSSAPIClient | GSSSPNEGOClient]] = {
    "GSSAPI": Unbound,
    "GSS-SPNEGO": UnboundSPNEGO,
}


def make_server(tls: TLSContexts, binding: bytes | None) -> LDAPServer:
    return LDAPServer({}, mechanisms=NAMES, tls=tls.server, tls_server_end_point=binding)


def binding_of(tls: TLSContexts) -> bytes:
    return tls_server_end_point(tls.certificate)


async def log_in(client: Client, kind: type[GSSAPIClient | GSSSPNEGOClient]) -> None:
    await authenticate(client.stream, LDAPBind(kind(service="ldap", host="localhost")))


async def test_a_bound_login_passes(tls: TLSContexts, name: str) -> None:
    async with connected(make_server(tls, binding_of(tls))) as client:
        await client.start_tls(tls.client)
        await log_in(client, KINDS[name])
        assert client.stream.extra(SASLAttribute.ssf) == 0
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice@EXAMPLE.COM"


async def test_one_that_is_bound_elsewhere_does_not(tls: TLSContexts, name: str) -> None:
    async with connected(make_server(tls, b"another certificate's hash")) as client:
        await client.start_tls(tls.client)
        with pytest.raises(AuthenticationError, match="invalidCredentials"):
            await log_in(client, KINDS[name])


async def test_one_that_is_not_bound_does_not(tls: TLSContexts, name: str) -> None:
    kind = UNBOUND[name]
    async with connected(make_server(tls, binding_of(tls))) as client:
        await client.start_tls(tls.client)
        with pytest.raises(AuthenticationError, match="invalidCredentials"):
            await log_in(client, kind)
    async with connected(make_server(tls, None)) as client:
        await client.start_tls(tls.client)
        await log_in(client, kind)


async def test_in_clear_there_is_nothing_to_be_bound_to(tls: TLSContexts, name: str) -> None:
    async with connected(make_server(tls, binding_of(tls))) as client:
        await log_in(client, KINDS[name])
        assert client.stream.extra(SASLAttribute.ssf) == 256
