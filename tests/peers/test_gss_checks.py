"""The checks that we export, on GSS: Kerberos between ourselves, and NTLM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from saslwrap.testing import check_security_context
from tests.gss_pairs import LAYERS, gss_contexts, write_ntlm_users
from tests.peers.kdc import Realm

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("spnego")


@pytest.fixture(autouse=True)
def _credentials(alice_ticket: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a login needs: a ticket, NTLM's users."""
    write_ntlm_users(tmp_path, monkeypatch)


@pytest.mark.parametrize("protection", LAYERS)
def test_the_contexts(protection: str) -> None:
    check_security_context(partial(gss_contexts, protection))
