"""anyldap from its released wheel, under our layer: real work on slapd and on Samba."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from saslwrap.clients.anyldap import connect, initialize
from tests.peers.client_beds import LARGE, NUMBER, PAGE
from tests.peers.client_beds import bed as bed
from tests.peers.directory import NEEDLE

if TYPE_CHECKING:
    from tests.peers.client_beds import Bed

ldap = pytest.importorskip("anyldap.ldap")
ldapsyntax = pytest.importorskip("anyldap.protocols.ldap.ldapsyntax")

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

VALUES = [value.encode() for value in LARGE]


@pytest.fixture
def anyio_backend() -> str:
    """One is enough here: `tests/test_clients_anyldap.py` runs on all."""
    return "asyncio"


async def pages(connection: Any, base: str, matching: str) -> dict[str, list[bytes]]:
    control = ldap.controls.SimplePagedResultsControl(True, size=PAGE, cookie="")
    found: dict[str, list[bytes]] = {}
    while True:
        number = await connection.search_ext(
            base, ldap.SCOPE_SUBTREE, matching, ["description"], serverctrls=[control]
        )
        _, entries, _, (answer,) = await connection.result3(number)
        found.update((dn, attributes["description"]) for dn, attributes in entries)
        if not answer.cookie:
            return found
        control.cookie = answer.cookie


async def test_real_work(bed: Bed) -> None:
    async with initialize(f"ldap://{bed.host}:{bed.port}", bed.make_mechanism) as connection:
        if bed.identity:
            assert await connection.whoami_s() == bed.identity
        found = await pages(connection, *bed.many)
        assert len(found) == NUMBER
        assert all(NEEDLE.encode() in value for (value,) in found.values())

        new = [("objectClass", [bed.kind.encode()]), ("description", [NEEDLE.encode()])]
        await connection.add_s(bed.new_dn, new)
        await connection.modify_s(bed.new_dn, [(ldap.MOD_REPLACE, "description", VALUES)])
        assert await connection.compare_s(bed.new_dn, "description", VALUES[-1])
        ((_, entry),) = await connection.search_s(bed.new_dn, ldap.SCOPE_BASE, "(cn=*)")
        assert sorted(entry["description"]) == sorted(VALUES)
        await connection.delete_s(bed.new_dn)
        with pytest.raises(ldap.NO_SUCH_OBJECT):
            await connection.delete_s(bed.new_dn)
    bed.check_wire()


async def test_a_client(bed: Bed) -> None:
    async with await connect(bed.host, bed.port, bed.make_mechanism()) as client:
        base, matching = bed.many
        entry = ldapsyntax.LDAPEntry(client, base)
        found = await entry.search_async(filterText=matching, attributes=["description"])
        assert len(found) == NUMBER
    bed.check_wire(named=False)
