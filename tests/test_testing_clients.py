"""Client libraries that others wrote, unmodified, against `LDAPServer`: with their own logins."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from saslwrap import SecurityProperties
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST
from tests.conftest import TLSContexts

ldap3 = pytest.importorskip("ldap3")
ldap = pytest.importorskip("anyldap.ldap")

ROOT = "dc=example,dc=com"
PASSWORD = "s3cret-Pa55"
NUMBER = 250
ENTRIES: dict[str, dict[str, list[str | bytes]]] = {
    ROOT: {"objectClass": ["domain"], "dc": ["example"]},
    **{
        f"cn=n{number},{ROOT}": {"objectClass": ["person"], "cn": [f"n{number}"], "sn": ["hidden"]}
        for number in range(NUMBER)
    },
}
PEOPLE = "(objectClass=person)"
ANY_LAYER = SecurityProperties(min_ssf=0)


def make_server(**options: Any) -> LDAPServer:
    """It is in a realm of its own name: anyldap takes the realm for the host."""
    return LDAPServer(ENTRIES, {"alice": PASSWORD}, host=HOST, realm=HOST, **options)


# ldap3


@pytest.fixture
def tls_server(tls: TLSContexts) -> Iterator[LDAPServer]:
    with make_server(tls=tls.server).in_thread() as server:
        yield server


def ldap3_connection(port: int, *signing: str, **options: Any) -> Any:
    server = ldap3.Server(HOST, port=port, get_info=ldap3.ALL, **options)
    return ldap3.Connection(
        server,
        authentication=ldap3.SASL,
        sasl_mechanism=ldap3.DIGEST_MD5,
        sasl_credentials=(None, "alice", PASSWORD, None, *signing),
        raise_exceptions=True,
    )


def use_ldap3(connection: Any) -> None:
    """What one does with a directory: look something up, read a lot of it, ask who one is."""
    assert connection.search(ROOT, "(cn=N7)", attributes=["cn", "sn"])
    (entry,) = connection.entries
    assert (entry.entry_dn, entry.sn.value) == (f"cn=n7,{ROOT}", "hidden")
    paged = connection.extend.standard.paged_search(ROOT, PEOPLE, paged_size=100, generator=True)
    assert len({found["dn"] for found in paged}) == NUMBER
    assert connection.extend.standard.who_am_i() == "u:alice"
    with pytest.raises(ldap3.core.exceptions.LDAPUnwillingToPerformResult):
        connection.delete(f"cn=n7,{ROOT}")


@pytest.mark.filterwarnings("ignore:ssl.match_hostname:DeprecationWarning")  # ldap3 calls it
def test_ldap3_over_tls(tls: TLSContexts, tls_server: LDAPServer) -> None:
    trust = ldap3.Tls(
        validate=ssl.CERT_REQUIRED, ca_certs_data=ssl.DER_cert_to_PEM_cert(tls.certificate)
    )
    connection = ldap3_connection(tls_server.port, tls=trust)
    assert connection.start_tls()
    assert connection.bind()
    use_ldap3(connection)
    assert "GSSAPI" not in connection.server.info.supported_sasl_mechanisms
    connection.unbind()


@pytest.mark.parametrize("signing", [(), ("sign",)], ids=["auth", "auth-int"])
def test_ldap3_with_its_own_login(signing: tuple[str, ...]) -> None:
    with make_server(properties=ANY_LAYER).in_thread() as server:
        connection = ldap3_connection(server.port, *signing)
        assert connection.bind()
        use_ldap3(connection)
        connection.unbind()


def test_ldap3_is_refused_what_protects_too_little() -> None:
    with make_server().in_thread() as server:
        connection = ldap3_connection(server.port)
        with pytest.raises(ldap3.core.exceptions.LDAPStrongerAuthRequiredResult):
            connection.bind()
        connection.unbind()


# anyldap


@pytest.mark.anyio
async def test_anyldap_over_tls(tls: TLSContexts) -> None:
    async with (
        make_server(tls=tls.server) as server,
        ldap.initialize(server.url, ssl_context=tls.client) as connection,
    ):
        await connection.start_tls_s()
        await bind_anyldap(connection)
        await use_anyldap(connection)


@pytest.mark.anyio
async def test_anyldap_with_its_own_login() -> None:
    async with (
        make_server(properties=ANY_LAYER) as server,
        ldap.initialize(server.url) as connection,
    ):
        await bind_anyldap(connection)
        await use_anyldap(connection)


async def bind_anyldap(connection: Any) -> None:
    await connection.sasl_interactive_bind_s("", ldap.sasl.digest_md5("alice", PASSWORD))


async def use_anyldap(connection: Any) -> None:
    (found,) = await connection.search_s(ROOT, ldap.SCOPE_SUBTREE, "(cn=N7)", ["sn"])
    assert found == (f"cn=n7,{ROOT}", {"sn": [b"hidden"]})
    assert await connection.whoami_s() == "u:alice"
    control = ldap.controls.SimplePagedResultsControl(True, size=100, cookie="")
    names: set[str] = set()
    while True:
        number = await connection.search_ext(
            ROOT, ldap.SCOPE_SUBTREE, PEOPLE, serverctrls=[control]
        )
        _, entries, _, (answer,) = await connection.result3(number)
        names.update(name for name, _ in entries)
        if not answer.cookie:
            break
        control.cookie = answer.cookie
    assert len(names) == NUMBER
    with pytest.raises(ldap.UNWILLING_TO_PERFORM):
        await connection.delete_s(f"cn=n7,{ROOT}")
