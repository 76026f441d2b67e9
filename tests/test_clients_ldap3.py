"""ldap3, unmodified, under our layer: `tests/peers/test_clients_ldap3.py` has the real servers."""

from __future__ import annotations

import inspect
import pickle
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.clients.ldap3 import authenticate
from saslwrap.protocols.ldap_login import DowngradeError
from saslwrap.sync import SASLSocket
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

ldap3 = pytest.importorskip("ldap3")
exceptions = pytest.importorskip("ldap3.core.exceptions")

OPENED: list[Any] = []
STRATEGIES = ("SYNC", "SAFE_SYNC", "RESTARTABLE", "SAFE_RESTARTABLE")


def connect(port: int, server: Any = None, **options: Any) -> Any:
    server = server or ldap3.Server(HOST, port=port)
    connection = ldap3.Connection(server, **{"receive_timeout": 20, **options})
    OPENED.append(connection)
    return connection


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().strategy.close()


@pytest.fixture
def connection(tap: Wiretap) -> Any:
    connection = connect(tap.port, raise_exceptions=True)
    authenticate(connection, mechanism)
    return connection


def close(connection: Any, tap: Wiretap) -> None:
    connection.unbind()
    tap.wait_closed()


def cut(connection: Any) -> None:
    """End the connection below, as a server or a router does that lost patience."""
    connection.socket.sock.shutdown(2)


def test_work_under_the_layer(connection: Any, tap: Wiretap) -> None:
    assert connection.bound
    assert connection.user == "alice"
    assert connection.socket.context.ssf == 128
    paged = connection.extend.standard.paged_search(
        ROOT, "(sn=hidden)", attributes=["sn"], paged_size=100, generator=True
    )
    assert len({found["dn"] for found in paged}) == NUMBER
    assert connection.extend.standard.who_am_i() == "u:alice"
    name = f"cn=n1,{ROOT}"
    connection.modify(name, {"sn": [(ldap3.MODIFY_REPLACE, ["hidden too"])]})
    assert connection.compare(name, "sn", "hidden too")
    connection.add(f"cn=new,{ROOT}", "person", {"sn": "hidden"})
    connection.delete(f"cn=new,{ROOT}")
    with pytest.raises(exceptions.LDAPNoSuchObjectResult):
        connection.delete(f"cn=new,{ROOT}")
    close(connection, tap)
    assert b"rspauth" in in_clear(tap)
    assert b"hidden" not in in_clear(tap)
    assert ROOT.encode() not in in_clear(tap)


def test_messages_of_any_size_go_both_ways(tap: Wiretap) -> None:
    """The peer's maxbuf splits what is sent, ours what comes."""
    connection = connect(tap.port)
    small = SecurityProperties(max_buffer=2048)
    authenticate(connection, lambda: mechanism(properties=small))
    value = "x" * 200_000
    assert connection.modify(f"cn=n1,{ROOT}", {"sn": [(ldap3.MODIFY_REPLACE, [value])]})
    assert connection.search(f"cn=n1,{ROOT}", "(sn=*)", attributes=["sn"])
    assert connection.entries[0].sn.value == value
    connection.unbind()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_that_reads_where_it_is_called(strategy: str, tap: Wiretap) -> None:
    connection = connect(tap.port, client_strategy=getattr(ldap3, strategy))
    authenticate(connection, mechanism)
    found = connection.search(ROOT, "(cn=n7)", attributes=["sn"])
    response = found[2] if strategy.startswith("SAFE") else connection.response
    assert response[0]["attributes"]["sn"] == ["hidden"]
    close(connection, tap)
    assert b"hidden" not in in_clear(tap)


@pytest.mark.parametrize("strategy", ["ASYNC", "REUSABLE", "MOCK_SYNC", "LDIF"])
def test_the_others_are_refused(strategy: str) -> None:
    with pytest.raises(UsageError, match=f"{strategy}.* cannot take a layer; SYNC, SAFE_SYNC"):
        authenticate(connect(1, client_strategy=getattr(ldap3, strategy)), mechanism)


def test_message_ids_go_on_behind_the_login(connection: Any) -> None:
    before = connection.server.next_message_id()
    connection.bind(read_server_info=False)
    assert connection.server.next_message_id() == before + 3  # two of the login
    assert connection.search(ROOT, "(cn=n7)")


# a socket that is new


def test_a_restart_logs_in_again(tap: Wiretap) -> None:
    connection = connect(tap.port, client_strategy=ldap3.RESTARTABLE)
    connection.strategy.restartable_sleep_time = 0
    authenticate(connection, mechanism)
    cut(connection)
    assert connection.search(ROOT, "(cn=n7)", attributes=["sn"])
    assert connection.entries[0].sn.value == "hidden"
    close(connection, tap)
    assert len(tap.recordings) == 2
    assert b"hidden" not in in_clear(tap)


def test_a_restart_that_cannot_log_in_sends_nothing(tap: Wiretap) -> None:
    passwords = iter([PASSWORD])
    connection = connect(tap.port, client_strategy=ldap3.RESTARTABLE)
    connection.strategy.restartable_sleep_time = 0
    connection.strategy.restartable_tries = 2
    authenticate(connection, lambda: mechanism(next(passwords, "wrong")))
    cut(connection)
    with pytest.raises(exceptions.LDAPExceptionError):
        connection.search(ROOT, "(sn=hidden)")
    assert not connection.bound
    close(connection, tap)
    assert b"hidden" not in in_clear(tap)


def test_a_connection_that_was_opened_again_is_silent_until_it_is_bound(
    connection: Any, tap: Wiretap
) -> None:
    connection.open()
    with pytest.raises(UsageError, match="searchRequest would go out in clear: call bind"):
        connection.search(ROOT, "(sn=hidden)")
    with pytest.raises(UsageError, match="delRequest would"):
        connection.delete(f"cn=hidden,{ROOT}")
    with pytest.raises(UsageError, match="extendedReq would"):
        connection.extend.standard.who_am_i()
    assert connection.bind()
    assert connection.search(ROOT, "(cn=n7)")
    close(connection, tap)
    assert b"hidden" not in in_clear(tap)


def test_a_connection_that_was_cut_is_closed(connection: Any) -> None:
    cut(connection)
    with pytest.raises(exceptions.LDAPExceptionError):
        connection.search(ROOT, "(cn=n7)")
    assert connection.closed
    assert not connection.bound
    assert connection.bind()
    assert connection.search(ROOT, "(cn=n7)")


def test_a_lazy_connection_logs_in_with_its_first_request(tap: Wiretap) -> None:
    connection = connect(tap.port, lazy=True)
    authenticate(connection, mechanism)
    assert not tap.recordings
    assert connection.search(ROOT, "(cn=n7)")
    close(connection, tap)
    assert b"n7" not in in_clear(tap)


def test_a_block_unbinds_at_its_end(tap: Wiretap) -> None:
    connection = connect(tap.port, auto_bind=ldap3.AUTO_BIND_NONE)
    with connection:
        authenticate(connection, mechanism)
        assert connection.search(ROOT, "(cn=n7)")
    assert connection.closed
    assert not connection.bound


def test_a_new_login_replaces_the_layer(connection: Any) -> None:
    first = connection.socket.context
    assert connection.bind()
    assert connection.socket.context is not first
    assert connection.search(ROOT, "(cn=n7)")


# logins that fail


def test_a_wrong_password(tap: Wiretap) -> None:
    passwords = iter(["wrong", PASSWORD])
    connection = connect(tap.port)
    with pytest.raises(exceptions.LDAPBindError, match="invalidCredentials") as caught:
        authenticate(connection, lambda: mechanism(next(passwords)))
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert "invalidCredentials" in connection.last_error
    assert not connection.bound
    with pytest.raises(UsageError, match="in clear"):
        connection.search(ROOT, "(sn=hidden)")
    assert connection.bind()  # over the same connection
    close(connection, tap)
    assert len(tap.recordings) == 1
    assert b"hidden" not in in_clear(tap)


def test_a_new_login_that_is_refused(tap: Wiretap) -> None:
    """Under the layer of the first one the server takes us for nobody."""
    passwords = iter([PASSWORD, "wrong", PASSWORD])
    connection = connect(tap.port)
    authenticate(connection, lambda: mechanism(next(passwords)))
    with pytest.raises(exceptions.LDAPBindError, match="invalidCredentials"):
        connection.bind()
    assert not connection.bound
    assert not connection.closed
    for request in (
        lambda: connection.search(ROOT, "(cn=n7)"),
        lambda: connection.delete(f"cn=n1,{ROOT}"),
        connection.extend.standard.who_am_i,
    ):
        with pytest.raises(UsageError, match="needs a login that succeeds: call bind"):
            request()
    assert connection.bind()  # over the same connection
    assert connection.extend.standard.who_am_i() == "u:alice"
    close(connection, tap)
    assert len(tap.recordings) == 1
    assert b"hidden" not in in_clear(tap)


def test_a_policy_that_cannot_be_met(tap: Wiretap) -> None:
    strong = SecurityProperties(min_ssf=256)
    with pytest.raises(exceptions.LDAPBindError) as caught:
        authenticate(connect(tap.port), lambda: mechanism(properties=strong))
    assert isinstance(caught.value.__cause__, NegotiationError)


def test_a_list_of_mechanisms_that_lies() -> None:

    with serving(lying_list) as port:
        connection = connect(port)
        with pytest.raises(exceptions.LDAPBindError, match="X-STRONG") as caught:
            authenticate(connection, candidates)
    assert isinstance(caught.value.__cause__, DowngradeError)
    assert connection.closed


def test_the_best_of_several_mechanisms(tap: Wiretap) -> None:
    connection = connect(tap.port)
    authenticate(connection, lambda: [mechanism()])
    before = connection.server.next_message_id()
    connection.bind(read_server_info=False)
    assert connection.server.next_message_id() == before + 5  # two searches, two bindRequests
    connection.unbind()


@each_bad_login
def test_a_login_that_breaks_the_protocol(login: Serve, words: str) -> None:
    with serving(login) as port:
        connection = connect(port)
        with pytest.raises(exceptions.LDAPSocketReceiveError, match=words) as caught:
            authenticate(connection, mechanism)
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert connection.closed
    assert not connection.bound


def test_a_server_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect(listener.getsockname()[1], receive_timeout=1)
        with pytest.raises(exceptions.LDAPSocketReceiveError) as caught:
            authenticate(connection, mechanism)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert connection.closed


# frames that others stumble over


def integrity_only() -> DigestMD5Client:
    """The one layer that ldap3 has of its own, and its holes are in."""
    return mechanism(properties=SecurityProperties(min_ssf=1, max_ssf=1))


each_layer = pytest.mark.parametrize("make", [mechanism, integrity_only], ids=["rc4", "auth-int"])


@each_layer
@each_unusual
def test_frames_as_they_come(behave: Behaviour, make: Callable[[], DigestMD5Client]) -> None:
    with serving(behaving(behave)) as port:
        connection = connect(port, ldap3.Server(HOST, port=port, get_info=ldap3.NONE))
        authenticate(connection, make)
        assert connection.search(ROOT, "(sn=*)", attributes=["sn"])
        assert [entry.entry_dn for entry in connection.entries] == [DN]
        connection.unbind()


@each_layer
@each_forbidden
def test_a_frame_that_is_wrong(
    behave: Behaviour, words: str, make: Callable[[], DigestMD5Client]
) -> None:
    with serving(behaving(behave)) as port:
        connection = connect(port, ldap3.Server(HOST, port=port, get_info=ldap3.NONE))
        authenticate(connection, make)
        with pytest.raises(exceptions.LDAPSocketReceiveError, match=words) as caught:
            connection.search(ROOT, "(sn=*)", attributes=["sn"])
    assert isinstance(caught.value.__context__, SASLError)
    assert connection.closed
    assert not connection.bound


# TLS


@pytest.fixture
def tls_port(tls: TLSContexts) -> Iterator[int]:
    with make_server(tls=tls.server).in_thread() as server:
        yield server.port


def trusting(port: int, tls: TLSContexts, **options: Any) -> Any:
    trust = ldap3.Tls(
        validate=ssl.CERT_REQUIRED, ca_certs_data=ssl.DER_cert_to_PEM_cert(tls.certificate)
    )
    return connect(port, ldap3.Server(HOST, port=port, tls=trust), **options)


@pytest.mark.filterwarnings("ignore:ssl.match_hostname:DeprecationWarning")  # ldap3 calls it
@pytest.mark.parametrize("strategy", [ldap3.SYNC, ldap3.RESTARTABLE])
def test_tls_comes_before_the_login(tls: TLSContexts, tls_port: int, strategy: str) -> None:
    """And no layer is asked for above it; a restart brings TLS back."""
    connection = trusting(tls_port, tls, client_strategy=strategy)
    assert connection.open() is None
    assert connection.start_tls(read_server_info=False)
    authenticate(connection, mechanism)
    assert isinstance(connection.socket, SASLSocket)
    assert connection.socket.context is None
    assert connection.search(ROOT, "(cn=n7)")
    if strategy == ldap3.RESTARTABLE:
        connection.strategy.restartable_sleep_time = 0
        cut(connection)
        assert connection.search(ROOT, "(cn=n7)")
        assert isinstance(connection.socket.sock, ssl.SSLSocket)
    connection.unbind()


def test_tls_under_a_layer(connection: Any) -> None:
    with pytest.raises(UsageError, match="before the login"):
        connection.start_tls()
    assert connection.search(ROOT, "(cn=n7)")


# misuse


def test_other_logins_are_refused(connection: Any, tap: Wiretap) -> None:
    with pytest.raises(UsageError, match="logs in by saslwrap only"):
        connection.rebind(user=f"cn=n1,{ROOT}", password="s3cret")
    with pytest.raises(UsageError, match="controls"):
        connection.do_sasl_bind([("1.2.3", True, None)])
    with pytest.raises(UsageError, match="unbind"):
        authenticate(_bound_by_itself(tap), mechanism)


def _bound_by_itself(tap: Wiretap) -> Any:
    connection = connect(tap.port)
    connection.authentication, connection.bound = ldap3.SASL, True
    return connection


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, mechanism), "ldap3.Connection"),
        ((ldap3.Connection(HOST), mechanism()), "lambda"),
    ],
    ids=["connection", "mechanism"],
)
def test_arguments_of_the_wrong_kind(arguments: tuple[Any, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        authenticate(*arguments)


@pytest.mark.parametrize("made", NO_MECHANISMS, ids=repr)
def test_what_makes_no_mechanism(made: Any, tap: Wiretap) -> None:
    with pytest.raises(UsageError, match=TO_MAKE):
        authenticate(connect(tap.port), lambda: made)


def test_referrals_are_not_followed(connection: Any) -> None:
    """Over a connection that ldap3 makes, and that has no layer."""
    assert not connection.auto_referrals


def test_nothing_secret_is_shown(connection: Any) -> None:
    texts = (repr(connection), str(connection), repr(connection.socket))
    assert not any(PASSWORD in text for text in texts)
    with pytest.raises(TypeError):
        pickle.dumps(connection)


def test_ldap3_still_calls_what_is_replaced() -> None:
    """The hooks, in ldap3's own source: what calls around them would send in clear."""
    connection = connect(1)
    source = inspect.getsource
    assert "self.do_sasl_bind(controls)" in source(type(connection).bind)
    assert "self.open(" in source(type(connection).bind)
    for request in ("search", "add", "delete", "modify", "modify_dn", "compare", "extended"):
        assert "self.send(" in source(getattr(type(connection), request)), request
        assert "strategy.send(" not in source(getattr(type(connection), request)), request
    assert "self.connection.send(" in source(ldap3.strategy.restartable.RestartableStrategy.send)
    assert "self.connection.open(" in source(ldap3.strategy.restartable.RestartableStrategy.send)
    assert "self.connection.bind(" in source(ldap3.strategy.restartable.RestartableStrategy.send)
