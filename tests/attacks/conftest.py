from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.support import primitives
from tests.gss_pairs import write_ntlm_users

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["primitives"]


@pytest.fixture
def ntlm_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NTLM's Alice is known, and there is no Kerberos at all."""
    write_ntlm_users(tmp_path, monkeypatch)
    (tmp_path / "krb5.conf").write_text("[libdefaults]\ndns_lookup_kdc = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{tmp_path / 'no-keytab'}")
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'no-cache'}")


@pytest.fixture
def layers_needs(request: pytest.FixtureRequest, layer: str) -> None:
    """What the layer of `tests.attacks.gss` needs that a test is run with."""
    request.getfixturevalue("ntlm_users" if layer == "ntlm" else "alice_ticket")
