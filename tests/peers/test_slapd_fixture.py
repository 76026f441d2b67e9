"""The fixture proves itself with OpenLDAP's own client, before our library comes into play."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.peers.directory import (
    ALICE,
    GENERATED_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    NEEDLE,
    USERS,
    Credentials,
    generated_value,
    large_dn,
    large_value,
)
from tests.peers.frames import frame_lengths
from tests.peers.protections import OF_CYRUS
from tests.peers.slapd import Slapd, ldapsearch
from tests.peers.support import StartError, free_port, require_program

if TYPE_CHECKING:
    from tests.peers.wiretap import Wiretap, WiretapFactory

INVALID_CREDENTIALS = 49
OTHER = 80


@pytest.fixture(autouse=True)
def _ldapsearch() -> None:
    require_program("ldapsearch")


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.host, slapd.port)


def exactly(ssf: int) -> str:
    return f"minssf={ssf},maxssf={ssf}"


def url_of(tap: Wiretap) -> str:
    return f"ldap://{tap.host}:{tap.port}"


def sealed_lengths(wire: bytes) -> list[int]:
    """The lengths of the tokens that follow a final bind response."""
    return frame_lengths(wire[wire.index(b"rspauth=") + len("rspauth=") + 32 :])


@pytest.mark.parametrize("ssf", OF_CYRUS.values(), ids=OF_CYRUS)
def test_each_strength(slapd: Slapd, ssf: int) -> None:
    done = ldapsearch(slapd.url, "(cn=large-3)", security=exactly(ssf))
    assert done.returncode == 0, done.stderr
    assert f"SASL SSF: {ssf}\n".encode() in done.stderr
    assert large_value(3).encode() in done.stdout


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
def test_each_user(slapd: Slapd, user: Credentials) -> None:
    done = ldapsearch(slapd.url, "1.1", credentials=user)
    assert done.returncode == 0, done.stderr


def test_wrong_password(slapd: Slapd) -> None:
    assert ldapsearch(slapd.url, password="wrong").returncode == INVALID_CREDENTIALS


def test_unknown_user(slapd: Slapd) -> None:
    nobody = Credentials("nobody", ALICE.password)
    assert ldapsearch(slapd.url, credentials=nobody).returncode == OTHER


def test_every_generated_entry(slapd: Slapd) -> None:
    done = ldapsearch(slapd.url, "(cn=entry-*)", "description", base=GENERATED_DN)
    assert done.stdout.count(b"dn: ") == slapd.entries == 10_000
    assert f"description: {generated_value(9_999)}\n".encode() in done.stdout


@pytest.mark.parametrize(("name", "readable"), [("auth", True), ("auth-int", True), ("rc4", False)])
def test_what_the_wire_shows(tap: Wiretap, name: str, readable: bool) -> None:
    done = ldapsearch(url_of(tap), "(cn=large*)", security=exactly(OF_CYRUS[name]))
    tap.wait_closed()
    assert done.stdout.count(NEEDLE.encode()) > LARGE_ENTRIES
    assert (NEEDLE.encode() in tap.server_to_client) is readable
    assert (b"large" in tap.client_to_server) is readable


def test_challenge(tap: Wiretap) -> None:
    ldapsearch(url_of(tap), "1.1")
    challenge = (
        b',realm="example.com",qop="auth,auth-int,auth-conf"'
        b',cipher="rc4-40,rc4-56,rc4,des,3des",maxbuf=65536,charset=utf-8,algorithm=md5-sess'
    )
    assert challenge in tap.server_to_client


def test_one_frame_for_each_message(tap: Wiretap) -> None:
    done = ldapsearch(url_of(tap), "(cn=large*)", "description", base=LARGE_DN)
    assert done.returncode == 0, done.stderr
    lengths = sealed_lengths(tap.server_to_client)
    assert len(lengths) == LARGE_ENTRIES + 1
    assert len(set(lengths[:-1])) == 1


def test_a_small_maxbuf_cuts_messages_into_frames(tap: Wiretap) -> None:
    done = ldapsearch(url_of(tap), "-s", "base", base=large_dn(0), security="maxbufsize=2048")
    assert done.returncode == 0, done.stderr
    first, second, rest, _ = sealed_lengths(tap.server_to_client)
    assert first == second == 2048 - 13
    assert 0 < rest < first


def test_strict_server_takes_rc4(strict_slapd: Slapd) -> None:
    done = ldapsearch(strict_slapd.url, "1.1")
    assert b"SASL SSF: 128\n" in done.stderr


@pytest.mark.parametrize("ssf", [0, 1, 56])
def test_strict_server_offers_nothing_weaker(strict_slapd: Slapd, ssf: int) -> None:
    done = ldapsearch(strict_slapd.url, "1.1", security=f"maxssf={ssf}")
    assert done.returncode != 0
    assert b"SASL SSF" not in done.stderr


def test_a_taken_port_is_left_alone(slapd: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = iter((slapd.port, free_port()))
    monkeypatch.setattr("tests.peers.daemon.free_port", lambda: next(ports))
    with Slapd() as second:
        assert second.port != slapd.port
        assert ldapsearch(second.url, "1.1").returncode == 0


@pytest.mark.usefixtures("slapd")
def test_a_start_that_fails_says_why() -> None:
    server = Slapd(sasl_secprops="nonsense")
    with pytest.raises(StartError, match="Invalid security properties"):
        server.__enter__()
