"""The checks that we export, on GSS: Kerberos between ourselves, and NTLM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from saslwrap.testing import check_exchange, check_mechanism_pair, check_security_context
from tests.gss_pairs import LAYERS, PROTECTIONS, gss_contexts, gss_pair, write_ntlm_users
from tests.peers.directory import ALICE
from tests.peers.kdc import Realm
from tests.test_testing_checks_exchange import Wrap, imap, imap_ir, ldap

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("spnego")

WRONG = "an0ther-Pa55"


@pytest.fixture(autouse=True)
def _credentials(alice_ticket: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a login needs: a ticket, NTLM's users."""
    write_ntlm_users(tmp_path, monkeypatch)


@pytest.mark.parametrize("protection", LAYERS)
def test_the_contexts(protection: str) -> None:
    check_security_context(partial(gss_contexts, protection))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_mechanisms(protection: str) -> None:
    wrong = {"username": ALICE.username, "password": WRONG}
    if protection.startswith("ntlm"):
        wrong = {"password": WRONG}
    check_mechanism_pair(
        partial(gss_pair, protection),
        make_refused=partial(gss_pair, protection, client=wrong),
        secrets=[ALICE.password, WRONG],
        samples=32,
    )


@pytest.mark.parametrize(
    ("wrap", "protection"),
    [
        (ldap, "gssapi-256"),
        (ldap, "spnego-256"),
        (ldap, "ntlm-128"),
        (imap, "gssapi-256"),
        (imap_ir, "ntlm-128"),
    ],
)
def test_the_exchanges(wrap: Wrap, protection: str) -> None:
    check_exchange(lambda: wrap(*gss_pair(protection)), samples=32)
