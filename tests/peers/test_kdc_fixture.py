"""The realm proves itself with the programs of MIT and OpenLDAP, before our library comes in."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.directory import ALICE, GENERATED_DN, LARGE_DN, NEEDLE, Credentials
from tests.peers.kdc import BOB, Realm, TicketError, set_clock_offset
from tests.peers.slapd import Slapd, ldapsearch
from tests.peers.support import StartError, program, require_program, require_sasl_plugin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.wiretap import Wiretap, WiretapFactory

MECHANISMS = ("GSSAPI", "GSS-SPNEGO")
CLOCK_SKEW = "Clock skew too great"
INVALID_CREDENTIALS = 49
MORE_THAN_IS_FORGIVEN = 600


@pytest.fixture(autouse=True)
def _programs() -> None:
    require_program("ldapsearch", *Realm.programs)
    require_sasl_plugin("digestmd5")
    require_sasl_plugin("gssapiv2")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The file that `krb5_environment` makes the default cache."""
    return tmp_path / "ccache"


@pytest.fixture
def gssapi() -> Any:
    return pytest.importorskip("gssapi", exc_type=ImportError)


def who_logs_in(gssapi: Any) -> str:
    """Let a client and a service of this process meet; say whom the service sees."""
    name = gssapi.Name("ldap@localhost", gssapi.NameType.hostbased_service)
    client = gssapi.SecurityContext(name=name, usage="initiate")
    server = gssapi.SecurityContext(usage="accept")
    client.step(server.step(client.step()))
    return str(server.initiator_name)


def klist(cache: Path) -> str:
    command = [program("klist"), "-e", f"FILE:{cache}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize(
    ("mechanism", "security", "ssf"),
    [
        ("GSSAPI", "none", 256),
        ("GSSAPI", "maxssf=1", 1),
        ("GSSAPI", "maxssf=0", 0),
        ("GSS-SPNEGO", "none", 256),
        ("GSS-SPNEGO", "maxssf=1", 256),  # has no way to say "signed and not sealed"
        ("GSS-SPNEGO", "maxssf=0", 0),
    ],
)
def test_each_strength(gss_slapd: Slapd, mechanism: str, security: str, ssf: int) -> None:
    done = ldapsearch(gss_slapd.url, "(uid=alice)", mechanism=mechanism, security=security)
    assert done.returncode == 0, done.stderr
    assert f"SASL SSF: {ssf}\n".encode() in done.stderr
    assert f"dn: {ALICE.dn}\n".encode() in done.stdout


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("security", "readable"), [("none", False), ("maxssf=0", True)])
def test_what_the_wire_shows(
    gss_slapd: Slapd, wiretap: WiretapFactory, mechanism: str, security: str, readable: bool
) -> None:
    tap: Wiretap = wiretap(gss_slapd.host, gss_slapd.port)
    url = f"ldap://{tap.host}:{tap.port}"
    done = ldapsearch(url, base=LARGE_DN, mechanism=mechanism, security=security)
    tap.wait_closed()
    assert NEEDLE.encode() in done.stdout
    assert (NEEDLE.encode() in tap.server_to_client) is readable


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_generated_entry(gss_slapd: Slapd, mechanism: str) -> None:
    done = ldapsearch(gss_slapd.url, "(cn=entry-*)", base=GENERATED_DN, mechanism=mechanism)
    assert done.stdout.count(b"dn: ") == gss_slapd.entries == 10_000


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("user", [ALICE, BOB], ids=lambda user: user.username)
def test_the_server_knows_each_user_by_dn(
    krb5_environment: Realm, gss_slapd: Slapd, cache: Path, user: Credentials, mechanism: str
) -> None:
    krb5_environment.kinit(user.username, user.password, cache=cache)
    seen = len(gss_slapd.log.read_text())
    assert ldapsearch(gss_slapd.url, "1.1", mechanism=mechanism).returncode == 0
    assert f'BIND dn="{user.dn}" mech={mechanism}' in gss_slapd.log.read_text()[seen:]


@pytest.mark.usefixtures("krb5_environment")
def test_no_ticket_no_login(gss_slapd: Slapd) -> None:
    done = ldapsearch(gss_slapd.url, mechanism="GSSAPI")
    assert b"No Kerberos credentials available" in done.stderr


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", ["DIGEST-MD5", *MECHANISMS])
@pytest.mark.parametrize("start_tls", [False, True], ids=["ldaps", "start-tls"])
def test_a_layer_inside_tls(realm: Realm, mechanism: str, start_tls: bool) -> None:
    extra = "sasl-cbinding tls-endpoint\n"
    with Slapd(tls=True, extra_config=extra, environment=realm.environment) as server:
        trust = ("-o", f"TLS_CACERT={server.certificate}", *(("-ZZ",) if start_tls else ()))
        url = server.url if start_tls else server.tls_url
        done = ldapsearch(url, *trust, "(uid=alice)", mechanism=mechanism)
        assert f"dn: {ALICE.dn}\n".encode() in done.stdout, done.stderr
        assert b"data security layer installed" in done.stderr


def test_wrong_password(realm: Realm, cache: Path) -> None:
    with pytest.raises(TicketError, match="Password incorrect"):
        realm.kinit(ALICE.username, "wrong", cache=cache)
    assert not cache.exists()


def test_a_service_takes_its_key_from_the_keytab(realm: Realm, cache: Path) -> None:
    realm.kinit(realm.service("imap"), cache=cache)
    assert "Default principal: imap/localhost@EXAMPLE.COM" in klist(cache)


def test_a_principal_more(realm: Realm, cache: Path) -> None:
    realm.add_principal("carol", 'say "friend"')
    realm.kinit("carol", 'say "friend"', cache=cache)
    with pytest.raises(StartError, match="already exists"):
        realm.add_principal("carol", "again")


@pytest.mark.parametrize(
    "enctype", ["aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192", "arcfour-hmac"]
)
def test_a_realm_of_one_enctype(cache: Path, enctype: str) -> None:
    with Realm(name="OTHER.TEST", ticket_lifetime="1h", enctypes=(enctype,)) as other:
        other.kinit(ALICE.username, ALICE.password, cache=cache)
        other.get_service_ticket("ldap", cache=cache)
    assert "ldap/localhost@OTHER.TEST" in klist(cache)
    assert klist(cache).count(enctype) == 4  # session key and ticket of two tickets


@pytest.mark.usefixtures("alice_ticket")
def test_this_process_lives_in_the_realm(gssapi: Any) -> None:
    assert who_logs_in(gssapi) == "alice@EXAMPLE.COM"


@pytest.mark.usefixtures("krb5_environment")
def test_this_process_has_no_ticket_of_another_test(gssapi: Any) -> None:
    with pytest.raises(gssapi.exceptions.GSSError, match="No Kerberos credentials available"):
        who_logs_in(gssapi)


@pytest.mark.usefixtures("alice_ticket")
def test_this_process_moves_to_another_realm_and_back(
    gssapi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Realm(name="OTHER.TEST") as other, monkeypatch.context() as moved:
        other.kinit(BOB.username, BOB.password, cache=other.folder / "ccache")
        for name, value in other.environment.items():
            moved.setenv(name, value)
        assert who_logs_in(gssapi) == "bob@OTHER.TEST"
    assert who_logs_in(gssapi) == "alice@EXAMPLE.COM"


def test_an_expired_ticket(krb5_environment: Realm, gssapi: Any, cache: Path) -> None:
    krb5_environment.expired_ticket(cache=cache)
    with pytest.raises(gssapi.exceptions.GSSError, match="Ticket expired"):
        who_logs_in(gssapi)


def test_a_postdated_ticket(krb5_environment: Realm, gssapi: Any, cache: Path) -> None:
    krb5_environment.kinit(ALICE.username, ALICE.password, "-s", "1h", cache=cache)
    with pytest.raises(gssapi.exceptions.GSSError, match="Ticket not yet valid"):
        who_logs_in(gssapi)


@pytest.mark.parametrize(("who", "kdc_says_so"), [("kdc", True), ("service", False)])
def test_a_client_whose_clock_is_wrong(
    alice_ticket: Realm, gssapi: Any, cache: Path, who: str, kdc_says_so: bool
) -> None:
    if who == "service":
        alice_ticket.get_service_ticket("ldap", cache=cache)
    set_clock_offset(cache, MORE_THAN_IS_FORGIVEN)
    before = alice_ticket.log.read_text().count(CLOCK_SKEW)
    with pytest.raises(gssapi.exceptions.GSSError, match=CLOCK_SKEW):
        who_logs_in(gssapi)
    assert (alice_ticket.log.read_text().count(CLOCK_SKEW) > before) is kdc_says_so


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_slapd_refuses_a_client_whose_clock_is_wrong(
    alice_ticket: Realm, gss_slapd: Slapd, cache: Path, mechanism: str
) -> None:
    alice_ticket.get_service_ticket("ldap", cache=cache)
    set_clock_offset(cache, MORE_THAN_IS_FORGIVEN)
    done = ldapsearch(gss_slapd.url, mechanism=mechanism)
    assert done.returncode == INVALID_CREDENTIALS
    assert b"gss_accept_sec_context" in done.stderr


def test_nobody_else_gets_the_port(realm: Realm) -> None:
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((realm.address, realm.port))


def test_nothing_is_left() -> None:
    before = dict(os.environ)
    with Realm() as realm:
        folder, pid = realm.folder, int((realm.folder / "kdc.pid").read_text())
        os.kill(pid, 0)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert os.environ == before


def test_a_start_that_fails_says_why() -> None:
    realm = Realm(enctypes=("nonsense",))
    with pytest.raises(StartError, match="kdb5_util: status 1"):
        realm.__enter__()
