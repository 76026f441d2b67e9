"""Where clients that others wrote have to work under a layer: slapd and Samba, by each login.

The work is the same for each client: 1,000 entries in pages, an entry added, changed, compared and
deleted, and the question who one is. Nothing of it may show on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from saslwrap import ClientMechanism, DigestMD5Client, GSSAPIClient, SecurityProperties
from tests.peers import directory, samba, samba_login
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.slapd import Slapd
from tests.peers.wiretap import Wiretap

if TYPE_CHECKING:
    from pathlib import Path

NUMBER = 1000
PAGE = 100
LARGE = [f"{number} {NEEDLE * 50}" for number in range(100)]
"""Values of an attribute that is longer than any frame; each as long as Samba takes them."""


@dataclass(slots=True)
class Bed:
    """A server behind a wiretap, and how Alice logs in there.

    :ivar many: the base of the search, and its filter, for `NUMBER` entries
    :ivar work: below which Alice may do as she likes
    :ivar kind: the object class of entries there
    :ivar identity: what "Who am I?" says; Samba 4.17 does not know the question
    """

    tap: Wiretap
    make_mechanism: Callable[[], ClientMechanism]
    ssf: int
    many: tuple[str, str]
    work: str
    kind: str
    identity: str | None
    host: str = field(default="localhost", init=False)
    name: str = field(default_factory=lambda: f"made-by-a-client-{uuid4()}", init=False)

    @property
    def port(self) -> int:
        return self.tap.port

    @property
    def new_dn(self) -> str:
        return f"cn={self.name},{self.work}"

    def check_wire(self, *, named: bool = True) -> None:
        """Nothing of the work may be seen, if the layer seals; else all of it is.

        :param named: whether the entry of one's own was part of the work
        """
        self.tap.wait_closed()
        wire = self.tap.client_to_server + self.tap.server_to_client
        assert len(wire) > NUMBER * len(NEEDLE)
        for needle in [NEEDLE, self.name][: 1 + named]:
            assert (needle.encode() in wire) is (self.ssf == 1)


_DIGEST = partial(DigestMD5Client, *(ALICE.username, ALICE.password), service="ldap")
_RC4 = partial(_DIGEST, host=Slapd.host)
_INTEGRITY = partial(_RC4, properties=SecurityProperties(min_ssf=1, max_ssf=1))
_GSSAPI = partial(GSSAPIClient, service="ldap", host=Slapd.host)

LOGINS: dict[str, tuple[str, Callable[[], ClientMechanism], int]] = {
    "slapd-rc4": ("slapd", _RC4, 128),
    "slapd-auth-int": ("slapd", _INTEGRITY, 1),
    "slapd-gssapi": ("gss_slapd", _GSSAPI, 256),
    **{
        f"samba-{name}": ("samba", one.mechanism, one.ssf)
        for name, one in samba_login.LOGINS.items()
    },
}


@pytest.fixture(params=LOGINS.values(), ids=list(LOGINS))
def bed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bed]:
    name, make_mechanism, ssf = request.param
    server = request.getfixturevalue(name)
    if name == "samba":
        samba.enter(server, monkeypatch, tmp_path / "ccache")
    elif name == "gss_slapd":
        request.getfixturevalue("alice_ticket")
    with Wiretap(server.address, server.port) as tap:
        yield _bed(tap, make_mechanism, ssf, in_domain=name == "samba")


def _bed(
    tap: Wiretap, make_mechanism: Callable[[], ClientMechanism], ssf: int, *, in_domain: bool
) -> Bed:
    if in_domain:
        many, work = (samba.SMALL_DN, "(cn=small-00*)"), samba.WORK_DN
        return Bed(tap, make_mechanism, ssf, many, work, "contact", None)
    many, work = (directory.GENERATED_DN, "(cn=entry-00*)"), directory.GENERATED_DN
    return Bed(tap, make_mechanism, ssf, many, work, "device", f"dn:{ALICE.dn}")
