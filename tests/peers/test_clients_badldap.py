"""badldap from its released wheel, under our layer: real work on slapd and on Samba.

It has no call for a comparison, and takes a `description` for one value. Its pages are as large as
its size limit, which slapd takes for the limit of all pages: there the only page is that large.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from saslwrap import GSSAPIClient, GSSSPNEGOClient
from saslwrap.clients.badldap import connect
from tests.peers.client_beds import LARGE, LOGINS, NUMBER, PAGE
from tests.peers.client_beds import bed as bed
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.slapd import Slapd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.client_beds import Bed
    from tests.peers.wiretap import WiretapFactory

badldap = pytest.importorskip("badldap.connection")
client = pytest.importorskip("badldap.client")

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]


async def work(outcome: Any) -> None:
    _, error = await outcome
    assert error is None


async def entries(found: AsyncIterator[Any]) -> dict[str, Any]:
    entries = {}
    async for entry, error in found:
        assert error is None
        entries[entry["objectName"]] = entry["attributes"]["description"]
    return entries


async def test_real_work(bed: Bed) -> None:
    target = badldap.MSLDAPTarget("127.0.0.1", bed.port, timeout=60)
    connection = await connect(target, bed.make_mechanism)
    if bed.identity:
        assert await connection.whoami() == (bed.identity, None)
    (base, matching), size = bed.many, NUMBER if bed.kind == "device" else PAGE
    attributes = [b"description"]
    found = await entries(connection.pagedsearch(base, matching, attributes, size_limit=size))
    assert len(found) == NUMBER
    assert all(NEEDLE in value for value in found.values())

    await work(connection.add(bed.new_dn, {"objectClass": [bed.kind], "description": NEEDLE}))
    await work(connection.modify(bed.new_dn, {"description": [("replace", [LARGE[7]])]}))
    found = await entries(connection.search(bed.new_dn, "(cn=*)", attributes))
    assert list(found.values()) == [LARGE[7]]
    await work(connection.delete(bed.new_dn))
    _, error = await connection.delete(bed.new_dn)
    assert error.resultname == "noSuchObject"
    await connection.disconnect()
    bed.check_wire()


@pytest.mark.parametrize(
    "bed",
    [LOGINS["samba-gssapi-sealed"], LOGINS["samba-spnego-ntlm"]],
    indirect=True,
    ids=["gssapi", "ntlm"],
)
async def test_the_high_level_client(bed: Bed) -> None:
    """It is for Active Directory, whose naming context it looks for."""
    target = badldap.MSLDAPTarget("127.0.0.1", bed.port, timeout=60)
    connection = await connect(target, bed.make_mechanism)
    high = client.MSLDAPClient(target, connection.credential, connection=connection)
    await work(high.connect())
    user, error = await high.get_user("alice")
    assert error is None
    assert user.sAMAccountName == "alice"
    await high.disconnect()


@pytest.mark.parametrize("make", [GSSAPIClient, GSSSPNEGOClient])
@pytest.mark.usefixtures("alice_ticket")
async def test_a_login_is_bound_to_tls(
    bound_slapd: Slapd, wiretap: WiretapFactory, make: type[GSSAPIClient]
) -> None:
    """The server holds the binding against its certificate."""
    tap = wiretap(bound_slapd.address, bound_slapd.tls_port)
    tls = badldap.UniProto.CLIENT_SSL_TCP
    target = badldap.MSLDAPTarget(tap.address, tap.port, tls, timeout=60)
    connection = await connect(target, lambda: make(service="ldap", host=Slapd.host))
    assert await connection.whoami() == (f"dn:{ALICE.dn}", None)
    await connection.disconnect()  # which does not wait for the end of TLS
    await asyncio.to_thread(tap.wait_closed)
