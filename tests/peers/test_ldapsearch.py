"""OpenLDAP's `ldapsearch` and `ldapwhoami` against our own server: the client side of the peer.

What the two have agreed on is read from what passed the wiretap, not from what either says.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from saslwrap import SecurityProperties
from saslwrap.testing import LDAPServer
from tests.peers.directory import (
    ALICE,
    BASE_DN,
    CYRILLIC,
    GENERATED_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    LATIN,
    NEEDLE,
    REALM,
    USERS,
    Credentials,
    directory_entries,
    generated_value,
    large_dn,
    large_value,
)
from tests.peers.frames import split_frames
from tests.peers.protections import OF_CYRUS
from tests.peers.slapd import ldapsearch
from tests.peers.support import LOOPBACK, program, require_program, require_sasl_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.peers.wiretap import Wiretap, WiretapFactory

SEALED = [name for name, ssf in OF_CYRUS.items() if ssf > 1]
ANY = SecurityProperties(min_ssf=0, ciphers=("rc4", "rc4-56", "des", "rc4-40"))
ENTRIES = 10_000

SIZE_LIMIT_EXCEEDED, STRONGER_AUTH_REQUIRED = 4, 8
NO_SUCH_OBJECT, INVALID_CREDENTIALS = 32, 49
UNWILLING_TO_PERFORM = 53
# As a process's status: LDAP_LOCAL_ERROR is -2, LDAP_AUTH_UNKNOWN is -6.
GIVEN_UP_BY_THE_CLIENT = {254, 250}


@pytest.fixture(autouse=True)
def _ldapsearch() -> None:
    require_program("ldapsearch")
    require_sasl_plugin("digestmd5")


def make_server(properties: SecurityProperties = ANY, *, generated: int = 0) -> LDAPServer:
    users = {user.username: user.password for user in USERS}
    return LDAPServer(directory_entries(generated), users, realm=REALM, properties=properties)


@pytest.fixture(scope="module")
def server() -> Iterator[LDAPServer]:
    with make_server(generated=ENTRIES).in_thread() as running:
        yield running


@pytest.fixture
def tap(server: LDAPServer, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(LOOPBACK, server.port)


def exactly(name: str) -> str:
    return f"minssf={OF_CYRUS[name]},maxssf={OF_CYRUS[name]}"


def url_of(tap: Wiretap) -> str:
    return f"ldap://{tap.host}:{tap.port}"


def tokens_from_server(tap: Wiretap) -> list[bytes]:
    tap.wait_closed()
    wire = tap.server_to_client
    return list(split_frames(wire[wire.index(b"rspauth=") + len("rspauth=") + 32 :]))


def tokens_from_client(tap: Wiretap) -> list[bytes]:
    tap.wait_closed()
    wire = tap.client_to_server
    return list(split_frames(wire[wire.index(b"response=") + len("response=") + 32 :]))


@pytest.mark.parametrize("name", OF_CYRUS)
def test_each_strength(tap: Wiretap, name: str) -> None:
    done = ldapsearch(url_of(tap), "(cn=LARGE-3)", security=exactly(name))
    assert done.returncode == 0, done.stderr
    assert f"SASL SSF: {OF_CYRUS[name]}\n".encode() in done.stderr
    assert large_value(3).encode() in done.stdout
    if name != "auth":
        assert tokens_from_server(tap)
        assert tokens_from_client(tap)


@pytest.mark.parametrize("name", SEALED)
def test_no_plaintext_after_the_switch(tap: Wiretap, name: str) -> None:
    done = ldapsearch(url_of(tap), "(cn=large-*)", security=exactly(name))
    assert done.stdout.count(NEEDLE.encode()) > LARGE_ENTRIES
    answers, requests = b"".join(tokens_from_server(tap)), b"".join(tokens_from_client(tap))
    for text in (NEEDLE, "description", "large", "dc=example"):
        assert text.encode() not in answers
        assert text.encode() not in requests


def test_integrity_shows_what_it_protects(tap: Wiretap) -> None:
    ldapsearch(url_of(tap), "(cn=large-3)", security=exactly("auth-int"))
    assert NEEDLE.encode() in b"".join(tokens_from_server(tap))


@pytest.mark.parametrize("name", ["rc4", "des", "auth-int"])
def test_an_entry_over_the_clients_maxbuf(tap: Wiretap, name: str) -> None:
    security = f"{exactly(name)},maxbufsize=2048"
    done = ldapsearch(url_of(tap), "-s", "base", base=large_dn(0), security=security)
    assert done.returncode == 0, done.stderr
    assert large_value(0).encode() in done.stdout
    lengths = [len(token) for token in tokens_from_server(tap)]
    assert len(lengths) > 2
    assert max(lengths) <= 2048


def test_every_generated_entry(tap: Wiretap) -> None:
    done = ldapsearch(url_of(tap), "(description=*)", "description", base=GENERATED_DN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"dn: ") == ENTRIES
    for number in (0, ENTRIES - 1):
        assert f"description: {generated_value(number)}\n".encode() in done.stdout
    tokens = tokens_from_server(tap)
    assert len(tokens) < 100
    assert NEEDLE.encode() not in b"".join(tokens)


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@pytest.mark.parametrize("name", ["rc4", "auth-int"])
def test_each_user(server: LDAPServer, user: Credentials, name: str) -> None:
    done = ldapsearch(server.url, "-s", "base", credentials=user, security=exactly(name))
    assert done.returncode == 0, done.stderr
    assert BASE_DN.encode() in done.stdout


def test_wrong_password(server: LDAPServer) -> None:
    done = ldapsearch(server.url, password="wrong")
    assert done.returncode == INVALID_CREDENTIALS


@pytest.mark.parametrize("user", [LATIN, CYRILLIC], ids=lambda user: ascii(user.username))
def test_wrong_password_beyond_ascii(server: LDAPServer, user: Credentials) -> None:
    done = ldapsearch(server.url, credentials=user, password="fälsch")
    assert done.returncode == INVALID_CREDENTIALS


def test_an_unknown_user_looks_the_same(server: LDAPServer) -> None:
    wrong = ldapsearch(server.url, password="wrong")
    unknown = ldapsearch(server.url, credentials=Credentials("nobody", ALICE.password))
    assert (unknown.returncode, unknown.stderr) == (wrong.returncode, wrong.stderr)


@pytest.mark.parametrize(
    ("properties", "security"),
    [
        (SecurityProperties(min_ssf=1, max_ssf=1), "minssf=56"),
        (SecurityProperties(ciphers=("rc4",)), "minssf=129,maxssf=256"),
        (SecurityProperties(ciphers=("rc4",)), "maxssf=1"),
        (SecurityProperties(min_ssf=0, max_ssf=0), "minssf=1"),
    ],
    ids=["integrity only", "more than there is", "less than we take", "no layer"],
)
def test_policies_that_do_not_meet(properties: SecurityProperties, security: str) -> None:
    with make_server(properties).in_thread() as server:
        done = ldapsearch(server.url, security=security)
        assert done.returncode in GIVEN_UP_BY_THE_CLIENT
        assert b"SASL SSF" not in done.stderr
        assert b"dn:" not in done.stdout


def test_size_limit(server: LDAPServer) -> None:
    done = ldapsearch(server.url, "-z", "7", base=GENERATED_DN)
    assert done.returncode == SIZE_LIMIT_EXCEEDED
    assert done.stdout.count(b"dn: ") == 7


def test_no_such_entry(server: LDAPServer) -> None:
    done = ldapsearch(server.url, base=f"cn=nothing,{LARGE_DN}")
    assert done.returncode == NO_SUCH_OBJECT
    assert f"Matched DN: {LARGE_DN}".encode() in done.stderr


@pytest.mark.parametrize(
    ("search_filter", "names"),
    [
        ("(&(cn=large-*)(!(cn=*-0)))", ["cn"]),
        ("(|(cn=large-1)(cn=LARGE-2))", ["*", "+"]),
        ("(cn>=large-7)", []),
        ("(cn:caseExactMatch:=large-1)", []),
    ],
    ids=["and not", "or", "greater or equal", "extensible"],
)
def test_filters(server: LDAPServer, search_filter: str, names: list[str]) -> None:
    number = {"&": LARGE_ENTRIES - 1, "|": 2, "c": 1}[search_filter[1]]
    done = ldapsearch(server.url, search_filter, *names, base=LARGE_DN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"dn: ") == (0 if ":" in search_filter else number)


# Without ldapsearch's own login


def run(server: LDAPServer, name: str, *arguments: str, text: str = "") -> CompletedProcess[bytes]:
    return subprocess.run(
        [program(name), "-N", "-H", server.url, *arguments],
        input=text.encode(),
        capture_output=True,
        env={**os.environ, "LDAPNOINIT": "1"},
        timeout=60,
        check=False,
    )


def digest(user: Credentials) -> list[str]:
    return ["-Y", "DIGEST-MD5", "-U", user.username, "-w", user.password]


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
def test_ldapwhoami(server: LDAPServer, user: Credentials) -> None:
    done = run(server, "ldapwhoami", *digest(user))
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"u:{user.username}\n"


def test_ldapwhoami_on_behalf_of_someone(server: LDAPServer) -> None:
    done = run(server, "ldapwhoami", *digest(ALICE), "-X", "u:bob")
    assert done.stdout == b"u:bob\n"


def test_the_client_finds_the_mechanism_by_itself(server: LDAPServer) -> None:
    done = run(server, "ldapwhoami", "-U", ALICE.username, "-w", ALICE.password)
    assert done.returncode == 0, done.stderr
    assert b"SASL/DIGEST-MD5 authentication started" in done.stderr


@pytest.mark.parametrize("login", [["-x"], ["-x", "-D", ALICE.dn, "-w", ALICE.password]])
def test_a_simple_bind_is_refused(server: LDAPServer, login: list[str]) -> None:
    assert run(server, "ldapwhoami", *login).returncode == STRONGER_AUTH_REQUIRED


def test_what_would_change_an_entry_is_refused(server: LDAPServer) -> None:
    done = run(server, "ldapdelete", *digest(ALICE), large_dn(0))
    assert done.returncode == UNWILLING_TO_PERFORM


@pytest.mark.parametrize(("value", "outcome"), [("LARGE-0", 6), ("large-1", 5)])
def test_ldapcompare(server: LDAPServer, value: str, outcome: int) -> None:
    done = run(server, "ldapcompare", *digest(ALICE), large_dn(0), f"cn:{value}")
    assert done.returncode == outcome


LDIF = f"""\
dn: cn=new,{BASE_DN}
changetype: add
objectClass: person
cn: new
sn: one

dn: cn=new,{BASE_DN}
changetype: modify
add: sn
sn: two
-
delete: sn
sn: ONE
-
replace: description
description: changed
"""


def test_ldapmodify_where_that_is_allowed() -> None:
    users = {ALICE.username: ALICE.password}
    entries = {BASE_DN: {"dc": ["example"]}}
    with LDAPServer(entries, users, realm=REALM, writable=True).in_thread() as server:
        done = run(server, "ldapmodify", *digest(ALICE), text=LDIF)
        assert done.returncode == 0, done.stderr
        assert server.entries[f"cn=new,{BASE_DN}"] == {
            "objectClass": [b"person"],
            "cn": [b"new"],
            "sn": [b"two"],
            "description": [b"changed"],
        }
        assert run(server, "ldapdelete", *digest(ALICE), f"cn=new,{BASE_DN}").returncode == 0
        assert list(server.entries) == [BASE_DN]


def test_start_tls_is_refused(server: LDAPServer) -> None:
    done = run(server, "ldapwhoami", "-ZZ", *digest(ALICE))
    assert done.returncode != 0
    assert b"unknown extended operation" in done.stderr
