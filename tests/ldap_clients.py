"""What the tests of LDAP's client libraries share: a directory behind a wiretap, and a login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from saslwrap import ClientMechanism, DigestMD5Client
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST
from tests.bad_servers import Strong
from tests.peers.wiretap import Wiretap

ROOT = "dc=example,dc=com"
PASSWORD = "s3cret-Pa55"
NUMBER = 1000
ENTRIES: dict[str, dict[str, list[str | bytes]]] = {
    ROOT: {"objectClass": ["domain"], "dc": ["example"]},
    **{
        f"cn=n{number},{ROOT}": {"objectClass": ["person"], "cn": [f"n{number}"], "sn": ["hidden"]}
        for number in range(NUMBER)
    },
}


def mechanism(password: str = PASSWORD, **options: Any) -> DigestMD5Client:
    return DigestMD5Client("alice", password, service="ldap", host=HOST, **options)


def candidates() -> list[ClientMechanism]:
    """One that no server here has, and one that they have."""
    return [Strong("alice", PASSWORD, service="ldap", host=HOST), mechanism()]


#: What was made in place of a mechanism; and each client's error, from where it was made.
NO_MECHANISMS: list[Any] = [None, [], DigestMD5Client, [DigestMD5Client], PASSWORD]
TO_MAKE = r"make_mechanism has to make one mechanism or more: lambda: GSSAPIClient"


def make_server(**options: Any) -> LDAPServer:
    return LDAPServer(ENTRIES, {"alice": PASSWORD}, host=HOST, writable=True, **options)


@pytest.fixture
def tap() -> Iterator[Wiretap]:
    """A server with `NUMBER` entries below `ROOT`, whose wire is recorded."""
    with make_server().in_thread() as server, Wiretap("127.0.0.1", server.port) as tap:
        yield tap


def in_clear(tap: Wiretap) -> bytes:
    """What went over the wire, both ways; once the connection is closed."""
    tap.wait_closed()
    return tap.client_to_server + tap.server_to_client
