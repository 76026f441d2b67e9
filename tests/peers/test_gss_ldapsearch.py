"""OpenLDAP's `ldapsearch` logs in to our own server with GSSAPI and GSS-SPNEGO (Cyrus SASL, MIT).

What the two have agreed on is read from what passed the wiretap, not from what either says.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from saslwrap import GSSAPIServer, GSSSPNEGOServer, SecurityProperties
from saslwrap.testing import LDAPServer
from tests.gss_pairs import PLACE, PLAIN, SIGNED
from tests.peers.directory import (
    ALICE,
    BASE_DN,
    GENERATED_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    NEEDLE,
    directory_entries,
    generated_value,
    large_dn,
    large_value,
)
from tests.peers.kdc import BOB
from tests.peers.slapd import ldapsearch
from tests.peers.support import LOOPBACK, program, require_program, require_sasl_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from saslwrap.mechanism import ServerMechanism
    from tests.peers.directory import Credentials
    from tests.peers.kdc import Realm
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytest.importorskip("spnego")

MECHANISMS = ("GSSAPI", "GSS-SPNEGO")
ANY = SecurityProperties(min_ssf=0)
ENTRIES = 10_000
HUGE_DN = f"ou=huge,{BASE_DN}"
HUGE_LENGTH = 1 << 20
HUGE_ENTRIES = 3

STRONGER_AUTH_REQUIRED, INVALID_CREDENTIALS = 8, 49
AUTH_METHOD_NOT_SUPPORTED = 7
# As a process's status: LDAP_LOCAL_ERROR is -2, LDAP_AUTH_UNKNOWN is -6.
GIVEN_UP_BY_THE_CLIENT = {254, 250}


@pytest.fixture(autouse=True)
def _ldapsearch(krb5_environment: Realm) -> None:
    """The programs are here, and both sides live in the realm."""
    require_program("ldapsearch")
    require_sasl_plugin("gssapiv2")


def huge_value(number: int) -> str:
    return f"{NEEDLE}-{number}." * (HUGE_LENGTH // 20)


def make_server(
    properties: SecurityProperties = ANY, *, generated: int = 0, service: str = "ldap"
) -> LDAPServer:
    """A server of large and huge entries, and of as many small ones as are wanted."""
    entries = directory_entries(generated)
    entries[HUGE_DN] = {"objectClass": ["organizationalUnit"], "ou": ["huge"]}
    for number in range(HUGE_ENTRIES):
        entries[f"cn=huge-{number},{HUGE_DN}"] = {"description": [huge_value(number)]}
    place = {**PLACE, "service": service}

    def gssapi() -> ServerMechanism:
        return GSSAPIServer(**place, properties=properties)

    def spnego() -> ServerMechanism:
        return GSSSPNEGOServer(**place, properties=properties)

    return LDAPServer(entries, mechanisms={"GSSAPI": gssapi, "GSS-SPNEGO": spnego})


@pytest.fixture(scope="module")
def server() -> Iterator[LDAPServer]:
    """It finds its keytab in the environment, in each test anew."""
    with make_server(generated=ENTRIES).in_thread() as running:
        yield running


@pytest.fixture
def tap(server: LDAPServer, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(LOOPBACK, server.port)


def url_of(tap: Wiretap) -> str:
    return f"ldap://localhost:{tap.port}"


def search(
    url: str, *arguments: str, mechanism: str, security: str | None = None, base: str = LARGE_DN
) -> CompletedProcess[bytes]:
    return ldapsearch(url, *arguments, base=base, mechanism=mechanism, security=security)


def works(server: LDAPServer) -> bool:
    """Whether the server serves others still."""
    done = search(server.url, mechanism="GSSAPI", base=BASE_DN)
    return done.returncode == 0 and b"dc: example\n" in done.stdout


def frames(wire: bytes) -> list[bytes]:
    """The tokens at the end of what one side sent: the longest run of frames to the last octet."""
    for start in range(len(wire)):
        found, at = [], start
        while at + 4 <= len(wire):
            end = at + 4 + int.from_bytes(wire[at : at + 4], "big")
            if end > len(wire) or end < at + 20:
                break
            found.append(wire[at + 4 : end])
            at = end
        if at == len(wire):
            return found
    return []


CASES = [
    ("GSSAPI", None, 256),
    ("GSSAPI", "minssf=256", 256),
    ("GSSAPI", "minssf=1,maxssf=1", 1),
    ("GSSAPI", "maxssf=1", 1),
    ("GSSAPI", "maxssf=0", 0),
    ("GSS-SPNEGO", None, 256),
    ("GSS-SPNEGO", "minssf=256", 256),
    ("GSS-SPNEGO", "maxssf=1", 256),  # has no way to say "signed and not sealed"
    ("GSS-SPNEGO", "maxssf=0", 0),
]


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize(("mechanism", "security", "ssf"), CASES)
def test_each_strength(tap: Wiretap, mechanism: str, security: str | None, ssf: int) -> None:
    done = search(url_of(tap), mechanism=mechanism, security=security)
    assert done.returncode == 0, done.stderr
    assert f"SASL SSF: {ssf}\n".encode() in done.stderr
    for number in range(LARGE_ENTRIES):
        assert f"dn: {large_dn(number)}\n".encode() in done.stdout
        assert f"description: {large_value(number)}\n".encode() in done.stdout
    tap.wait_closed()
    for wire in (tap.client_to_server, tap.server_to_client):
        assert bool(frames(wire)) is bool(ssf)
    shows = ssf < 2
    assert (NEEDLE.encode() in tap.server_to_client) is shows
    assert (b"ou=large" in tap.client_to_server) is shows


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_generated_entry(server: LDAPServer, mechanism: str) -> None:
    done = search(server.url, "(description=*)", mechanism=mechanism, base=GENERATED_DN)
    assert done.returncode == 0, done.stderr
    values = [line for line in done.stdout.splitlines() if line.startswith(b"description: ")]
    assert values == [f"description: {generated_value(n)}".encode() for n in range(ENTRIES)]


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize(
    ("mechanism", "security"),
    [("GSSAPI", None), ("GSSAPI", "maxssf=1"), ("GSS-SPNEGO", None)],
)
def test_several_megabytes(server: LDAPServer, mechanism: str, security: str | None) -> None:
    done = search(server.url, mechanism=mechanism, security=security, base=HUGE_DN)
    assert done.returncode == 0, done.stderr
    values = re.findall(rb"^description: (.*)$", done.stdout, re.MULTILINE)
    whole = [huge_value(number).encode() for number in range(HUGE_ENTRIES)]
    assert values == whole or pytest.fail("other values arrived", pytrace=False)


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("security", ["maxbufsize=2048", "maxssf=1,maxbufsize=2048"])
def test_the_clients_maximum(tap: Wiretap, security: str) -> None:
    done = search(url_of(tap), mechanism="GSSAPI", security=security)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(NEEDLE.encode()) > LARGE_ENTRIES
    tap.wait_closed()
    lengths = [len(token) for token in frames(tap.server_to_client)]
    assert max(lengths) == 2048


@pytest.mark.usefixtures("alice_ticket")
def test_our_maximum(wiretap: WiretapFactory) -> None:
    """A request that is longer than what we take in one token comes in several."""
    properties = SecurityProperties(max_buffer=1000)
    with make_server(properties).in_thread() as server:
        tap = wiretap(LOOPBACK, server.port)
        long_filter = f"(|(cn=large-1){'(cn=nobody)' * 300})"
        done = search(url_of(tap), long_filter, mechanism="GSSAPI")
        assert done.returncode == 0, done.stderr
        tap.wait_closed()
    lengths = [len(token) for token in frames(tap.client_to_server)]
    assert len(lengths) > 4
    assert 900 < max(lengths) <= 1000


# policies that do not meet


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize(
    ("mechanism", "properties", "security", "says"),
    [
        ("GSS-SPNEGO", SecurityProperties(), "maxssf=0", b"wanted: an SSF of 112 to 256"),
        ("GSS-SPNEGO", PLAIN, None, b"wanted: no layer"),
        ("GSS-SPNEGO", SIGNED, None, b"wanted: an SSF of 1 to 1"),
        ("GSSAPI", SecurityProperties(), "maxssf=0", b"wanted: an SSF of 112 to 256"),
        ("GSSAPI", SecurityProperties(min_ssf=2, max_ssf=255), None, b"wanted: an SSF of 2 to 255"),
    ],
)
def test_a_refusal_of_ours_says_why(
    mechanism: str, properties: SecurityProperties, security: str | None, says: bytes
) -> None:
    with make_server(properties).in_thread() as server:
        done = search(server.url, mechanism=mechanism, security=security)
    assert done.returncode == STRONGER_AUTH_REQUIRED
    assert says in done.stderr
    assert b"dn:" not in done.stdout


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize(
    ("properties", "security"),
    [
        (SecurityProperties(), "maxssf=1"),
        (SIGNED, "minssf=2"),
        (PLAIN, "minssf=1"),
    ],
)
def test_a_client_gives_up_over_our_offer(properties: SecurityProperties, security: str) -> None:
    with make_server(properties).in_thread() as server:
        done = search(server.url, mechanism="GSSAPI", security=security)
        assert done.returncode in GIVEN_UP_BY_THE_CLIENT
        assert b"SASL SSF" not in done.stderr
        assert b"dn:" not in done.stdout


# tickets


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_ticket(
    server: LDAPServer, krb5_environment: Realm, tmp_path: Path, mechanism: str
) -> None:
    done = search(server.url, mechanism=mechanism)
    assert done.returncode in GIVEN_UP_BY_THE_CLIENT
    assert re.search(
        rb"No Kerberos credentials available|No credentials were supplied", done.stderr
    )
    krb5_environment.kinit(ALICE.username, ALICE.password, cache=tmp_path / "ccache")
    assert works(server)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_expired_ticket(
    server: LDAPServer, krb5_environment: Realm, tmp_path: Path, mechanism: str
) -> None:
    krb5_environment.expired_ticket(cache=tmp_path / "ccache")
    done = search(server.url, mechanism=mechanism)
    assert done.returncode in GIVEN_UP_BY_THE_CLIENT
    assert b"expired" in done.stderr
    krb5_environment.kinit(ALICE.username, ALICE.password, cache=tmp_path / "ccache")
    assert works(server)


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_ticket_for_another_service(server: LDAPServer, mechanism: str) -> None:
    with make_server(service="imap").in_thread() as other:
        done = search(other.url, mechanism=mechanism)
        assert done.returncode == INVALID_CREDENTIALS
        assert b"Invalid credentials" in done.stderr
        assert b"additional info" not in done.stderr
        assert b"dn:" not in done.stdout
    assert works(server)


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_server_without_a_key(
    server: LDAPServer, mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("KRB5_KTNAME", f"FILE:{tmp_path / 'none'}")
        done = search(server.url, mechanism=mechanism)
    assert done.returncode == AUTH_METHOD_NOT_SUPPORTED
    assert b"keytab" not in done.stderr, "the client learns how the server is set up"
    assert works(server)


@pytest.mark.usefixtures("alice_ticket")
def test_a_client_that_breaks_off(server: LDAPServer) -> None:
    for _ in range(3):
        done = search(server.url, mechanism="GSSAPI", security="minssf=257,maxssf=300")
        assert done.returncode in GIVEN_UP_BY_THE_CLIENT
    assert works(server)


# who is logged in


def whoami(server: LDAPServer, *arguments: str) -> str:
    done = subprocess.run(
        [program("ldapwhoami"), "-N", "-H", server.url, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "LDAPNOINIT": "1"},
        timeout=60,
        check=True,
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("user", [ALICE, BOB], ids=["alice", "bob"])
def test_who_is_logged_in(
    server: LDAPServer, krb5_environment: Realm, tmp_path: Path, mechanism: str, user: Credentials
) -> None:
    krb5_environment.kinit(user.username, user.password, cache=tmp_path / "ccache")
    assert whoami(server, "-Y", mechanism) == f"u:{user.username}@EXAMPLE.COM"


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("authzid", ["u:bob", "dn:cn=юлия,dc=example,dc=com"])
def test_on_behalf_of_someone(server: LDAPServer, authzid: str) -> None:
    assert whoami(server, "-Y", "GSSAPI", "-X", authzid) == authzid
