"""A Kerberos realm that gave one ticket, and is gone.

What is left of it is in memory, for the fuzzer ends its process without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.gss_pairs import PLACE
from tests.peers.directory import ALICE
from tests.peers.gss_bed import require_gss
from tests.peers.kdc import Realm
from tests.peers.support import require_program

#: Who Alice is, to a service.
PRINCIPAL: Final = f"{ALICE.username}@EXAMPLE.COM"


def require_realm() -> None:
    """Skip the test where there is no Kerberos."""
    require_gss()
    require_program(*Realm.programs)


@cache
def environment() -> dict[str, str]:
    """What a process needs to live in a realm that is gone, with a ticket of Alice's."""
    with Realm(enctypes=("aes256-cts-hmac-sha1-96",)) as realm:
        tickets = realm.folder / "ccache"
        realm.kinit(ALICE.username, ALICE.password, cache=tickets)
        realm.get_service_ticket(PLACE["service"], cache=tickets)
        return {
            "KRB5_CONFIG": in_memory(realm.folder / "krb5.conf"),
            "KRB5_KTNAME": in_memory(realm.keytab),
            "KRB5CCNAME": in_memory(tickets),
            "KRB5RCACHETYPE": "none",
        }


def in_memory(path: Path) -> str:
    """Copy a file to where it is gone with the process."""
    file = os.memfd_create(path.name)
    os.write(file, path.read_bytes())
    return f"/proc/self/fd/{file}"


@contextmanager
def in_realm() -> Iterator[None]:
    """Let this process live there for the length of a `with`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield
