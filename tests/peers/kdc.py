"""A realm for our own tests: everybody in it, and tickets to try things with.

Observed with MIT Kerberos 1.20.1:

- No option bounds how long a KDC is waited for. One that accepts and never answers costs 25 s.
- RC4 keys need `allow_rc4` (Debian's patch for CVE-2025-3576; upstream since 1.21).
- A cache of type FILE holds the difference to the KDC's clock in its header, and a client applies
  it to every time it writes or checks: `set_clock_offset` makes a client whose clock is wrong.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from saslwrap.testing import realm as realms
from saslwrap.testing.realm import TicketError as TicketError
from tests.peers.directory import ALICE, Credentials
from tests.peers.support import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOB = Credentials("bob", "another-Pa55")
USERS = (ALICE, BOB)
SERVICES = ("host", "imap", "ldap", "libvirt", "lmtp", "pop", "sieve", "svn")

_CACHE_VERSION = b"\x05\x04"
_DELTA_TIME = 1


class Realm(realms.Realm):
    """Alice and Bob's realm.

    `enctypes`, strongest first, are all that the realm has keys for and all that it permits.
    """

    def __init__(
        self,
        *,
        name: str = "EXAMPLE.COM",
        ticket_lifetime: str = "10h",
        enctypes: tuple[str, ...] = (),
        clockskew: int = 300,
    ) -> None:
        listed = " ".join(enctypes)
        permitted = ("permitted_enctypes", "default_tkt_enctypes", "default_tgs_enctypes")
        super().__init__(
            {user.username: user.password for user in USERS},
            name=name,
            services=SERVICES,
            libdefaults={
                "ticket_lifetime": ticket_lifetime,
                "clockskew": str(clockskew),
                "allow_weak_crypto": "true",
                "allow_rc4": "true",
                **(dict.fromkeys(permitted, listed) if enctypes else {}),
            },
        )
        self.enctypes = enctypes
        if enctypes:
            keys = " ".join(f"{enctype}:normal" for enctype in enctypes)
            self._kdc_settings = {"supported_enctypes": keys}

    def get_service_ticket(self, service: str, *, cache: Path) -> None:
        """Add a ticket for a service to the ticket-granting ticket in `cache`."""
        self._get_ticket("kvno", self.service(service), cache=cache)

    def expired_ticket(self, user: Credentials = ALICE, *, cache: Path) -> None:
        """Write a ticket to `cache` that a client takes for expired at once.

        It has one second to live, and for the client a minute has passed.
        """
        self.kinit(user.username, user.password, "-l", "1s", cache=cache)
        set_clock_offset(cache, 60)


@pytest.fixture(scope="session")
def realm() -> Iterator[Realm]:
    """A Kerberos realm, one for the whole run. It touches nothing of the test process."""
    require_program(*Realm.programs)
    with Realm() as realm:
        yield realm


@pytest.fixture
def krb5_environment(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The test process lives in the realm for the length of a test, with no ticket yet."""
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'ccache'}")
    return realm


@pytest.fixture
def alice_ticket(krb5_environment: Realm, tmp_path: Path) -> Realm:
    """The same, and the test process has a ticket of Alice's in `KRB5CCNAME`."""
    krb5_environment.kinit(ALICE.username, ALICE.password, cache=tmp_path / "ccache")
    return krb5_environment


def set_clock_offset(cache: Path, seconds: int) -> None:
    """Let the clock of whoever uses `cache` be ahead of the real one, or behind.

    Beyond `Realm.clockskew` the KDC refuses a request for another ticket and, if the clock is
    ahead, a service the ticket that is here already: both with KRB_AP_ERR_SKEW. With a clock behind
    it, or past its end, the client itself takes a ticket for "not yet valid" or "expired".
    """
    # Version 4 of the format: the header's length, then fields of tag, length and value.
    wire = cache.read_bytes()
    assert wire.startswith(_CACHE_VERSION), "not a FILE cache of version 4"
    (length,) = struct.unpack_from(">H", wire, 2)
    field = struct.pack(">HHii", _DELTA_TIME, 8, seconds, 0)
    header = _CACHE_VERSION + struct.pack(">H", len(field)) + field
    cache.write_bytes(header + wire[4 + length :])
