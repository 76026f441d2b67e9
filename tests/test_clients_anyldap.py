"""anyldap, unmodified, under our layer: `tests/peers/test_clients_anyldap.py` has real servers."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import anyio
import pytest

from saslwrap import (
    AuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.clients.anyldap import connect, initialize
from saslwrap.protocols.ldap_login import DowngradeError
from saslwrap.testing.pairs import HOST
from tests.bad_servers import (
    DN,
    Behaviour,
    behaving,
    each_bad_login,
    each_forbidden,
    each_unusual,
    lying_list,
)
from tests.conftest import TLSContexts
from tests.ldap_clients import (
    NO_MECHANISMS,
    NUMBER,
    PASSWORD,
    ROOT,
    TO_MAKE,
    candidates,
    in_clear,
    make_server,
    mechanism,
    tap,
)
from tests.peers.wiretap import Wiretap
from tests.raw_server import Serve, serving

__all__ = ["tap"]

ldap = pytest.importorskip("anyldap.ldap")
ldapclient = pytest.importorskip("anyldap.protocols.ldap.ldapclient")
ldaperrors = pytest.importorskip("anyldap.protocols.ldap.ldaperrors")
ldapsyntax = pytest.importorskip("anyldap.protocols.ldap.ldapsyntax")

pytestmark = pytest.mark.anyio


def url(port: int) -> str:
    return f"ldap://{HOST}:{port}"


# the face of python-ldap


async def test_work_under_the_layer(tap: Wiretap) -> None:
    async with initialize(url(tap.port), mechanism) as connection:
        assert await connection.whoami_s() == "u:alice"
        assert len(await search_in_pages(connection, "(sn=hidden)")) == NUMBER
        name = f"cn=n1,{ROOT}"
        await connection.modify_s(name, [(ldap.MOD_REPLACE, "sn", [b"hidden" * 30_000])])
        assert await connection.compare_s(name, "sn", b"hidden" * 30_000)
        await connection.add_s(f"cn=new,{ROOT}", [("objectClass", [b"person"]), ("cn", [b"new"])])
        await connection.delete_s(f"cn=new,{ROOT}")
        with pytest.raises(ldap.NO_SUCH_OBJECT):
            await connection.delete_s(f"cn=new,{ROOT}")
    assert b"rspauth" in in_clear(tap)
    assert b"hidden" not in in_clear(tap)
    assert ROOT.encode() not in in_clear(tap)


async def search_in_pages(connection: Any, matching: str) -> set[str]:
    control = ldap.controls.SimplePagedResultsControl(True, size=100, cookie="")
    names: set[str] = set()
    while True:
        number = await connection.search_ext(
            ROOT, ldap.SCOPE_SUBTREE, matching, serverctrls=[control]
        )
        _, entries, _, (answer,) = await connection.result3(number)
        names.update(name for name, _ in entries)
        if not answer.cookie:
            return names
        control.cookie = answer.cookie


async def look(connection: Any) -> list[str]:
    found = await connection.search_s(ROOT, ldap.SCOPE_SUBTREE, "(cn=n7)", ["sn"])
    return [name for name, _ in found]


async def test_a_connection_that_was_lost_logs_in_again(tap: Wiretap) -> None:
    async with initialize(url(tap.port), mechanism) as connection:
        await look(connection)
        with socket.socket(fileno=socket.dup(connection.fileno())) as below:
            below.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ldap.SERVER_DOWN):
            await look(connection)
        assert await look(connection) == [f"cn=n7,{ROOT}"]
    assert b"hidden" not in in_clear(tap)
    assert len(tap.recordings) == 2


async def test_requests_that_come_at_once_log_in_once(tap: Wiretap) -> None:
    async with initialize(url(tap.port), mechanism) as connection:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(connection.search_ext, ROOT, ldap.SCOPE_BASE)
        assert await look(connection) == [f"cn=n7,{ROOT}"]
    in_clear(tap)
    assert len(tap.recordings) == 1


async def test_a_login_that_was_refused_does_not_stop_the_request_that_waits(tap: Wiretap) -> None:
    passwords = iter(["wrong", PASSWORD])
    async with initialize(url(tap.port), lambda: mechanism(next(passwords))) as connection:

        async def refused() -> None:
            with pytest.raises(ldap.INVALID_CREDENTIALS):
                await look(connection)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refused)
            await anyio.wait_all_tasks_blocked()
            assert await look(connection) == [f"cn=n7,{ROOT}"]
    assert b"hidden" not in in_clear(tap)


async def test_a_wrong_password(tap: Wiretap) -> None:
    passwords = iter(["wrong", PASSWORD])
    async with initialize(url(tap.port), lambda: mechanism(next(passwords))) as connection:
        with pytest.raises(ldap.INVALID_CREDENTIALS) as caught:
            await look(connection)
        assert isinstance(caught.value.__cause__, AuthenticationError)
        assert "invalidCredentials" in caught.value.info
        assert await look(connection) == [f"cn=n7,{ROOT}"]
    assert b"hidden" not in in_clear(tap)


async def test_a_policy_that_cannot_be_met(tap: Wiretap) -> None:
    strong = mechanism(properties=SecurityProperties(min_ssf=256))
    async with initialize(url(tap.port), lambda: strong) as connection:
        with pytest.raises(ldap.INAPPROPRIATE_AUTH) as caught:
            await look(connection)
    assert isinstance(caught.value.__cause__, NegotiationError)


async def test_a_list_of_mechanisms_that_lies() -> None:
    with serving(lying_list) as port:
        async with initialize(url(port), candidates) as connection:
            with pytest.raises(ldap.INAPPROPRIATE_AUTH) as caught:
                await look(connection)
    assert isinstance(caught.value.__cause__, DowngradeError)


@each_bad_login
async def test_a_login_that_breaks_the_protocol(login: Serve, words: str) -> None:
    with serving(login) as port:
        async with initialize(url(port), mechanism) as connection:
            with pytest.raises(ldap.SERVER_DOWN, match=words) as caught:
                await look(connection)
    assert isinstance(caught.value.__cause__, ProtocolError)


async def test_a_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with initialize(url(listener.getsockname()[1]), mechanism) as connection:
            connection.network_timeout = 0.2
            with pytest.raises(ldap.TIMEOUT):
                await look(connection)


@each_unusual
async def test_frames_as_they_come(behave: Behaviour) -> None:
    with serving(behaving(behave)) as port:
        async with initialize(url(port), mechanism) as connection:
            assert await look(connection) == [DN]


@each_forbidden
async def test_a_frame_that_is_wrong(behave: Behaviour, words: str) -> None:
    with serving(behaving(behave)) as port:
        async with initialize(url(port), mechanism) as connection:
            with pytest.raises(ldap.SERVER_DOWN, match=words) as caught:
                await look(connection)
    assert isinstance(caught.value, ldap.LDAPError)


async def test_tls_under_a_layer(tap: Wiretap) -> None:
    async with initialize(url(tap.port), mechanism) as connection:
        assert await look(connection)
        with pytest.raises(UsageError, match="before the login"):
            await connection.start_tls_s()
        assert await look(connection)
        assert not connection.referrals


async def test_tls_at_once(tls: TLSContexts) -> None:
    with make_server(tls=tls.server, tls_at_once=True).in_thread() as server:
        secure = f"ldaps://{HOST}:{server.port}"
        async with initialize(secure, mechanism, ssl_context=tls.client) as connection:
            assert await look(connection)
        async with await connect(HOST, server.port, mechanism(), ssl_context=tls.client) as client:
            assert await ask(client) == [f"cn=n7,{ROOT}"]


async def test_a_mechanism_is_made_for_each_login() -> None:
    with pytest.raises(UsageError, match="lambda"):
        initialize("ldap://localhost", mechanism())  # type: ignore[arg-type]


@pytest.mark.parametrize("made", NO_MECHANISMS, ids=repr)
async def test_what_makes_no_mechanism(made: Any, tap: Wiretap) -> None:
    async with initialize(url(tap.port), lambda: made) as connection:
        with pytest.raises(UsageError, match=TO_MAKE):
            await look(connection)


# LDAPClient


async def ask(client: Any) -> list[str]:
    found = await ldapsyntax.LDAPEntry(client, ROOT).search_async(filterText="(cn=n7)")
    return [str(entry.dn.getText()) for entry in found]


async def test_a_client_under_the_layer(tap: Wiretap) -> None:
    async with await connect(HOST, tap.port, [mechanism()]) as client:
        assert await ask(client) == [f"cn=n7,{ROOT}"]
        with pytest.raises(UsageError, match="before the login"):
            await client.startTLS_async(ssl.create_default_context())
        assert await ask(client) == [f"cn=n7,{ROOT}"]
    assert b"rspauth" in in_clear(tap)
    assert b"hidden" not in in_clear(tap)


async def test_an_error_of_the_application_comes_as_it_is(tap: Wiretap) -> None:
    with pytest.raises(LookupError):
        async with await connect(HOST, tap.port, mechanism()):
            raise LookupError


@each_forbidden
async def test_a_client_hears_what_was_wrong(behave: Behaviour, words: str) -> None:
    with serving(behaving(behave)) as port:
        async with await connect(HOST, port, mechanism()) as client:
            with pytest.raises(ldapclient.LDAPClientConnectionLostException) as caught:
                await ask(client)
            assert isinstance(caught.value.__cause__, SASLError)
            with pytest.raises(SASLError, match=words):
                raise caught.value.__cause__
            with pytest.raises(ldapclient.LDAPClientConnectionLostException):
                await ask(client)


async def test_a_client_with_a_wrong_password(tap: Wiretap) -> None:
    with pytest.raises(ldaperrors.LDAPInvalidCredentials, match="invalidCredentials") as caught:
        await connect(HOST, tap.port, mechanism("wrong"))
    assert isinstance(caught.value.__cause__, AuthenticationError)
    tap.wait_closed()


async def test_a_client_and_a_list_that_lies() -> None:
    with (
        serving(lying_list) as port,
        pytest.raises(ldaperrors.LDAPInappropriateAuthentication) as caught,
    ):
        await connect(HOST, port, candidates())
    assert isinstance(caught.value.__cause__, DowngradeError)


@each_bad_login
async def test_a_client_and_a_login_that_breaks_the_protocol(login: Serve, words: str) -> None:
    with (
        serving(login) as port,
        pytest.raises(ldapclient.LDAPClientConnectionLostException) as caught,
    ):
        await connect(HOST, port, mechanism())
    with pytest.raises(ProtocolError, match=words):
        raise caught.value.__cause__


@pytest.mark.parametrize("given", NO_MECHANISMS, ids=repr)
async def test_a_client_that_is_given_no_mechanism(given: Any) -> None:
    with pytest.raises(UsageError, match="mechanisms takes one mechanism or more, made"):
        await connect(HOST, 1, given)


# the library


def test_the_private_hook_is_still_where_every_stream_comes_from() -> None:
    """What our subclass replaces: the one method that opens a stream, and its one caller."""
    names = {
        name: {*code.co_names}
        for name, method in vars(ldap.ldapobject.SimpleLDAPObject).items()
        if (code := getattr(method, "__code__", None)) is not None
    }
    assert [one for one in names if {"connect_tcp", "connect_unix"} & names[one]] == [
        "_connect_stream"
    ]
    assert [one for one in names if "_connect_stream" in names[one]] == ["_connected"]
    assert "_stream" in names["_connected"]
