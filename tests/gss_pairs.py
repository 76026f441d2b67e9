"""Both ends of a GSS login, connected in memory: what the tests of Kerberos and of NTLM share.

NTLM needs nothing but `write_ntlm_users`; Kerberos needs a realm, and a ticket of Alice's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from saslwrap import (
    GSSAPIClient,
    GSSAPIServer,
    GSSSPNEGOClient,
    GSSSPNEGOServer,
    SecurityProperties,
)
from saslwrap.testing import ContextPair, MechanismPair, connect_mechanisms
from saslwrap.testing.checks.leaks import kept_by, reachable
from tests.peers.directory import ALICE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

NTLM_DOMAIN = "EXAMPLE"
NTLM_USERNAME: Final = rf"{NTLM_DOMAIN}\{ALICE.username}"
PLACE: Final[dict[str, Any]] = {"service": "ldap", "host": "localhost"}

SEALED: Final = SecurityProperties()
SIGNED: Final = SecurityProperties(min_ssf=1, max_ssf=1)
PLAIN: Final = SecurityProperties(min_ssf=0, max_ssf=0)

#: What each name of a protection stands for: the mechanism, what is asked for, and what comes.
PROTECTIONS: Final[dict[str, tuple[str, SecurityProperties, int]]] = {
    "gssapi-256": ("GSSAPI", SEALED, 256),
    "gssapi-1": ("GSSAPI", SIGNED, 1),
    "gssapi-0": ("GSSAPI", PLAIN, 0),
    "spnego-256": ("GSS-SPNEGO", SEALED, 256),
    "spnego-0": ("GSS-SPNEGO", PLAIN, 0),
    "ntlm-128": ("NTLM", SEALED, 128),
}
KERBEROS: Final = tuple(name for name in PROTECTIONS if not name.startswith("ntlm"))
LAYERS: Final = tuple(name for name, (_, _, ssf) in PROTECTIONS.items() if ssf)

Options = dict[str, Any]


def write_ntlm_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers of this process know Alice of NTLM's domain, and nobody else."""
    users = folder / "ntlm-users"
    users.write_text(f"{NTLM_DOMAIN}:{ALICE.username}:{ALICE.password}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))


def leave_ntlm_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and let there be no realm and no ticket, whatever the machine has."""
    write_ntlm_users(folder, monkeypatch)
    nowhere = folder / "krb5.conf"
    nowhere.write_text("[libdefaults]\ndns_lookup_kdc = false\ndns_lookup_realm = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(nowhere))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{folder / 'no-cache'}")
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{folder / 'no-keytab'}")
    monkeypatch.delenv("LM_COMPAT_LEVEL", raising=False)


def gss_pair(
    protection: str = "gssapi-256",
    *,
    client: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    **both: Any,
) -> MechanismPair:
    """Make both sides of a login; no step is taken yet. Options are those of the classes."""
    name, properties, _ = PROTECTIONS[protection]
    common: Options = {**PLACE, "properties": properties, **both}
    at_client, at_server = {**common, **(client or {})}, {**common, **(server or {})}
    if name == "GSSAPI":
        return MechanismPair(GSSAPIClient(**at_client), GSSAPIServer(**at_server))
    if name == "NTLM":
        at_client = {"username": NTLM_USERNAME, "password": ALICE.password, **at_client}
        at_server = {"ntlm": True, **at_server}
    return MechanismPair(GSSSPNEGOClient(**at_client), GSSSPNEGOServer(**at_server))


def logged_in(protection: str = "gssapi-256", **options: Any) -> MechanismPair:
    """Make both sides, and let them log in."""
    pair = gss_pair(protection, **options)
    connect_mechanisms(*pair)
    return pair


def contexts_of(pair: MechanismPair) -> ContextPair:
    """Give what a login with a layer left behind."""
    assert pair.client.context is not None
    assert pair.server.context is not None
    return ContextPair(pair.client.context, pair.server.context)


def gss_contexts(protection: str = "gssapi-256", **options: Any) -> ContextPair:
    """Log in, and give both contexts."""
    return contexts_of(logged_in(protection, **options))


def check_both_ways(contexts: ContextPair, *messages: bytes) -> None:
    """Let each end unseal what the other one sealed."""
    for sender, receiver in (contexts, contexts[::-1]):
        for message in messages or (b"a message", b"", b"another one"):
            assert receiver.unseal(sender.seal(message)) == message


def holding(secret: str, *roots: object) -> list[object]:
    """Give what of `roots` holds a secret: as text, as octets, or as NTLM's hash of it."""
    from spnego._ntlm_raw.crypto import ntowfv1

    forms = (secret.encode(), secret.encode("utf-16-le"), ntowfv1(secret))
    return [
        one
        for one in reachable(*roots)
        if (isinstance(one, str) and secret in one)
        or (isinstance(one, bytes | bytearray) and any(form in one for form in forms))
    ]


def tracebacks_of(error: BaseException) -> list[object]:
    """Give what an error keeps alive; the frames of the tests are left out."""
    return kept_by(error, ("tests.", "_pytest"))
