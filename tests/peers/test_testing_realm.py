"""`saslwrap.testing.realm.Realm`, as somebody uses it who tests a client with Kerberos."""

from __future__ import annotations

import os
import socket
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from saslwrap import GSSAPIClient, GSSSPNEGOClient, MechanismUnavailableError, UsageError
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import LDAPServer, Realm, StartError, TicketError
from saslwrap.testing.checks.leaks import kept_by, shows
from tests.peers.ldap_client import LDAPClient
from tests.peers.support import program, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = {"dc=example,dc=com": {"dc": ["example"]}}
PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def own_realm() -> Iterator[Realm]:
    require_program(*Realm.programs)
    with Realm({"alice": PASSWORD}, name="OWN.TEST", services=["ldap"]) as realm:
        yield realm


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("KRB5")}


def who_logs_in(client: GSSAPIClient | GSSSPNEGOClient) -> str:
    async def main() -> str:
        server = LDAPServer(ENTRIES, mechanisms=["GSSAPI", "GSS-SPNEGO"])
        async with server, await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
            stream = await authenticate(tcp, LDAPBind(client))
            assert stream.extra(SASLAttribute.ssf) == 256
            return await LDAPClient(stream).who_am_i()

    return anyio.run(main)


def test_as_the_page_has_it() -> None:
    require_program(*Realm.programs)
    pytest.importorskip("spnego")

    async def main() -> None:
        client = GSSAPIClient("alice", "s3cret", service="ldap", host="localhost")
        async with (
            LDAPServer(ENTRIES, mechanisms=["GSSAPI"]) as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as tcp,
        ):
            stream = await authenticate(tcp, LDAPBind(client))
            assert stream.extra(SASLAttribute.ssf) == 256
            assert stream.extra(SASLAttribute.authcid) == "alice"

    with Realm({"alice": "s3cret"}, services=["ldap"]) as realm, realm.active():
        anyio.run(main)


@pytest.mark.parametrize("kind", [GSSAPIClient, GSSSPNEGOClient])
def test_a_server_in_this_process_is_logged_in_to(
    own_realm: Realm, kind: type[GSSAPIClient | GSSSPNEGOClient]
) -> None:
    pytest.importorskip("spnego")
    with own_realm.active():
        client = kind("alice", PASSWORD, service="ldap", host="localhost")
        assert who_logs_in(client) == "u:alice@OWN.TEST"


def test_a_ticket_for_this_process(own_realm: Realm) -> None:
    pytest.importorskip("spnego")
    own_realm.kinit("alice", PASSWORD)
    with own_realm.active():
        client = GSSAPIClient(service="ldap", host="localhost")
        assert who_logs_in(client) == f"u:{own_realm.principal('alice')}"
        assert client.authcid == "alice@OWN.TEST"


def test_the_environment_is_as_it_was(own_realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_KTNAME", "FILE:elsewhere")
    monkeypatch.delenv("KRB5_CONFIG", raising=False)
    before = variables()

    def fail_inside() -> None:
        with own_realm.active():
            assert variables() == {**before, **own_realm.environment}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert variables() == before


def test_entering_it_changes_nothing_in_this_process() -> None:
    require_program(*Realm.programs)
    before = variables()
    with Realm():
        assert variables() == before


def test_another_user_and_another_service(own_realm: Realm) -> None:
    own_realm.add_principal("carol", 'say "friend"')
    own_realm.add_principal(own_realm.service("imap"))
    own_realm.kinit("carol", 'say "friend"', "-l", "1h", cache=own_realm.folder / "carol")
    own_realm.kinit(own_realm.service("imap"), cache=own_realm.folder / "imap")
    with pytest.raises(TicketError, match="Password incorrect"):
        own_realm.kinit("carol", "friend", cache=own_realm.folder / "carol")
    with pytest.raises(StartError, match="already exists"):
        own_realm.add_principal("carol", "enemy")


def test_another_process(own_realm: Realm) -> None:
    own_realm.kinit("alice", PASSWORD)
    done = subprocess.run(
        [program("klist")],
        env={**os.environ, **own_realm.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "alice@OWN.TEST" in done.stdout


def test_nothing_is_left() -> None:
    require_program(*Realm.programs)
    with Realm() as realm:
        folder, port = realm.folder, realm.port
        assert repr(realm) == f"<Realm EXAMPLE.COM 127.0.0.1:{port}>"
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(UsageError, match="not entered"):
        _ = realm.environment
    with realm:
        assert realm.folder != folder


def test_a_start_that_fails_leaves_nothing_either() -> None:
    require_program(*Realm.programs)
    realm = Realm({"K/M": PASSWORD})
    with pytest.raises(StartError, match=r"-pw \.\.\. K/M") as caught:
        realm.__enter__()
    assert PASSWORD not in str(caught.value)
    assert repr(realm) == "<Realm EXAMPLE.COM not entered>"
    with pytest.raises(UsageError, match="not entered"):
        _ = realm.port


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (("no body", "x"), "no name for a principal"),
        (("alice\nlist_principals", "x"), "a username has control characters"),
        (("alice", "x\nlist_principals"), "the password of 'alice' has control characters"),
        (("alice", ""), "the password of 'alice' is empty"),
        (("alice", b"s3cret"), "the password of 'alice' is a str, not bytes"),
        (("alice", None), "the password of 'alice' is a str, not NoneType"),
        ((5, "s3cret"), "a username is a str, not int"),
    ],
)
def test_users_that_cannot_be(user: tuple[Any, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Realm(dict([user]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"users": ["alice"]}, r"users is passwords by username \(.*\), not list"),
        ({"name": None}, "name is a str, not NoneType"),
        ({"name": "EXAMPLE COM"}, "'EXAMPLE COM' is no name"),
        ({"host": b"localhost"}, "host is a str, not bytes"),
        ({"host": "ldap://localhost"}, "is no host name"),
        ({"services": [5]}, "service is a str, not int"),
        ({"services": ["ldap/localhost"]}, "service is a name such as 'ldap' or 'imap'"),
        ({"services": "ldap"}, r"services takes several names: services=\['ldap'\]"),
        ({"services": None}, "services is Iterable, not NoneType"),
        ({"libdefaults": "x"}, r"libdefaults is values by name \(.*\), not str"),
        ({"libdefaults": {"clockskew": 5}}, r"libdefaults\['clockskew'\] is a str, not int"),
        ({"libdefaults": {"a\nb": "c"}}, "a name in libdefaults has control characters"),
        ({"libdefaults": {"a": "b\n[realms]"}}, r"libdefaults\['a'\] has control characters"),
    ],
)
def test_an_option_of_another_kind(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Realm(**options)


def test_no_refusal_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cret-Pa55"
    users = {"alice": secret}
    wrong: Any = {**users, "bob": 5}
    realm = Realm(users)
    monkeypatch.setattr("saslwrap.testing.realm.find_program", lambda name: None)
    for call in (
        partial(Realm, users, host="ldap://localhost"),
        partial(Realm, wrong),
        partial(realm.add_principal, "no body", secret),
        partial(realm.add_principal, "alice", secret),
        partial(realm.kinit, "alice", secret),
        realm.__enter__,
    ):
        with pytest.raises((UsageError, MechanismUnavailableError)) as caught:
            call()
        assert shows(secret.encode(), *kept_by(caught.value, ("tests.", "_pytest"))) == []


def test_programs_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saslwrap.testing.realm.find_program", lambda name: None)
    with pytest.raises(MechanismUnavailableError, match=r"krb5-kdc .* krb5$") as caught:
        Realm().__enter__()
    assert "krb5kdc, kdb5_util, kadmin.local, kinit cannot be found" in str(caught.value)
