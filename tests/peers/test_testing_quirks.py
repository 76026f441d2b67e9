"""The habits of real servers under Kerberos logins; and OpenLDAP's client on servers with any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap import GSSAPIClient, GSSSPNEGOClient, NegotiationError, SecurityProperties
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import LDAPServer
from saslwrap.testing.quirks import CYRUS, JDK, MICROSOFT, Quirks
from tests.ldap_bed import WHO_AM_I, Client, connected
from tests.peers.directory import ALICE, BASE_DN, REALM
from tests.peers.slapd import ldapsearch
from tests.peers.support import require_program, require_sasl_plugin

if TYPE_CHECKING:
    from tests.conftest import TLSContexts

NAMES = ("GSSAPI", "GSS-SPNEGO")
KINDS: dict[str, type[GSSAPIClient | GSSSPNEGOClient]] = {
    "GSSAPI": GSSAPIClient,
    "GSS-SPNEGO": GSSSPNEGOClient,
}
QUIRKS = {"MICROSOFT": MICROSOFT, "CYRUS": CYRUS, "JDK": JDK}


async def log_in(client: Client, name: str, properties: SecurityProperties) -> int:
    mechanism = KINDS[name](service="ldap", host="localhost", properties=properties)
    stream = await authenticate(client.stream, LDAPBind(mechanism))
    ssf: int = stream.extra(SASLAttribute.ssf)
    return ssf


@pytest.mark.anyio
@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("quirks", QUIRKS)
@pytest.mark.parametrize("name", NAMES)
async def test_our_client_copes(name: str, quirks: str) -> None:
    pytest.importorskip("spnego")
    async with connected(LDAPServer({}, mechanisms=NAMES, quirks=QUIRKS[quirks])) as client:
        assert await log_in(client, name, SecurityProperties()) == 256
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice@EXAMPLE.COM"


@pytest.mark.anyio
@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("name", NAMES)
async def test_no_layer_over_tls(name: str, tls: TLSContexts) -> None:
    pytest.importorskip("spnego")
    server = LDAPServer({}, mechanisms=NAMES, tls=tls.server, quirks=MICROSOFT)
    async with connected(server) as client:
        await client.start_tls(tls.client)
        with pytest.raises(NegotiationError, match="Active Directory takes no layer over TLS"):
            await log_in(client, name, SecurityProperties(require_layer=True))
        assert await log_in(client, name, SecurityProperties()) == 0
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:alice@EXAMPLE.COM"


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("quirks", QUIRKS)
@pytest.mark.parametrize("mechanism", ["DIGEST-MD5", *NAMES])
def test_ldapsearch_copes(mechanism: str, quirks: str) -> None:
    pytest.importorskip("spnego")
    require_program("ldapsearch")
    require_sasl_plugin("gssapiv2")
    server = LDAPServer(
        {BASE_DN: {"dc": ["example"]}},
        {ALICE.username: ALICE.password},
        realm=REALM,
        mechanisms=[mechanism],
        quirks=QUIRKS[quirks],
    )
    with server.in_thread() as running:
        done = ldapsearch(running.url, "-s", "base", mechanism=mechanism)
    assert done.returncode == 0, done.stderr
    assert BASE_DN.encode() in done.stdout


@pytest.mark.parametrize(
    "quirks",
    [Quirks(quoted=("algorithm",)), Quirks(realms=()), Quirks(realms=(REALM, "other.example"))],
    ids=["quoted algorithm", "no realm", "several realms"],
)
def test_what_else_ldapsearch_takes(quirks: Quirks) -> None:
    require_program("ldapsearch")
    require_sasl_plugin("digestmd5")
    users = {ALICE.username: ALICE.password}
    server = LDAPServer({BASE_DN: {"dc": ["example"]}}, users, quirks=quirks)
    with server.in_thread() as running:
        done = ldapsearch(running.url, "-R", REALM, "-s", "base")
    assert done.returncode == 0, done.stderr
