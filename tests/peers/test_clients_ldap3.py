"""ldap3 from its released wheel, under our layer: real work on slapd and on Samba."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saslwrap.clients.ldap3 import authenticate
from tests.peers.client_beds import LARGE, NUMBER, PAGE
from tests.peers.client_beds import bed as bed
from tests.peers.directory import NEEDLE

if TYPE_CHECKING:
    from tests.peers.client_beds import Bed

ldap3 = pytest.importorskip("ldap3")

pytestmark = pytest.mark.timeout(300)


def test_real_work(bed: Bed) -> None:
    server = ldap3.Server(bed.host, port=bed.port, get_info=ldap3.NONE)
    connection = ldap3.Connection(server, raise_exceptions=True, receive_timeout=60)
    authenticate(connection, bed.make_mechanism)
    assert connection.socket.context.ssf == bed.ssf
    if bed.identity:
        assert connection.extend.standard.who_am_i() == bed.identity

    base, matching = bed.many
    paged = connection.extend.standard.paged_search(
        base, matching, attributes=["description"], paged_size=PAGE, generator=True
    )
    found = {entry["dn"]: entry["attributes"]["description"] for entry in paged}
    assert len(found) == NUMBER
    assert all(NEEDLE in value[0] for value in found.values())

    connection.add(bed.new_dn, bed.kind, {"description": NEEDLE})
    connection.modify(bed.new_dn, {"description": [(ldap3.MODIFY_REPLACE, LARGE)]})
    assert connection.compare(bed.new_dn, "description", LARGE[-1])
    connection.search(bed.new_dn, "(cn=*)", ldap3.BASE, attributes=["description"])
    assert sorted(connection.response[0]["attributes"]["description"]) == sorted(LARGE)
    connection.delete(bed.new_dn)
    with pytest.raises(ldap3.core.exceptions.LDAPNoSuchObjectResult):
        connection.delete(bed.new_dn)
    connection.unbind()
    bed.check_wire()
