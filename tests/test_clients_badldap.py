"""badldap, unmodified, under our layer: `tests/peers/test_clients_badldap.py` has real servers."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from saslwrap import (
    AuthenticationError,
    ChannelInfo,
    DigestMD5Client,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.clients.badldap import connect
from saslwrap.mechanisms.channel_binding import tls_server_end_point
from saslwrap.protocols.ldap_login import DowngradeError
from saslwrap.protocols.ldap_messages import ResultCode, encode, result
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
from tests.peers.support import free_port
from tests.peers.wiretap import Wiretap
from tests.raw_server import Serve, serving
from tests.test_shells_support import turns

__all__ = ["tap"]

badldap = pytest.importorskip("badldap.connection")
exceptions = pytest.importorskip("badldap.commons.exceptions")
client = pytest.importorskip("badldap.client")
unissl = pytest.importorskip("asysocks.unicomm.common.unissl")

pytestmark = pytest.mark.asyncio


def target(port: int, timeout: int = 20) -> Any:
    return badldap.MSLDAPTarget("127.0.0.1", port, timeout=timeout)


@asynccontextmanager
async def connected(port: int, make: Callable[[], Any] = mechanism) -> AsyncIterator[Any]:
    connection = await connect(target(port), make)
    try:
        yield connection
    finally:
        await connection.disconnect()


async def names(connection: Any, matching: str, search: str = "search") -> list[str]:
    found = []
    async for entry, error in getattr(connection, search)(ROOT, matching, [b"sn"], size_limit=100):
        if error is not None:
            raise error
        found.append(entry["objectName"])
    return found


async def succeed(outcome: Any) -> None:
    _, error = await outcome
    if error is not None:
        raise error


async def test_work_under_the_layer(tap: Wiretap) -> None:
    async with connected(tap.port) as connection:
        assert await connection.whoami() == ("u:alice", None)
        assert len(await names(connection, "(sn=hidden)", "pagedsearch")) == NUMBER
        name = f"cn=n1,{ROOT}"
        await succeed(connection.modify(name, {"description": [("replace", ["hidden" * 30_000])]}))
        assert await names(connection, f"(description={'hidden' * 30_000})") == [name]
        await succeed(connection.add(f"cn=new,{ROOT}", {"objectClass": ["person"], "sn": "x"}))
        await succeed(connection.delete(f"cn=new,{ROOT}"))
        with pytest.raises(exceptions.LDAPDeleteException):
            await succeed(connection.delete(f"cn=new,{ROOT}"))
    assert b"rspauth" in in_clear(tap)
    assert b"hidden" not in in_clear(tap)
    assert ROOT.encode() not in in_clear(tap)


async def test_message_ids_go_on_behind_the_login(tap: Wiretap) -> None:
    async with connected(tap.port) as connection:
        assert connection.message_id == 3
    async with connected(tap.port, lambda: [mechanism()]) as connection:
        assert connection.message_id == 5
        assert await names(connection, "(cn=n7)") == [f"cn=n7,{ROOT}"]


async def test_a_connection_that_was_opened_again_is_silent_until_it_is_bound(
    tap: Wiretap,
) -> None:
    async with connected(tap.port) as connection:
        with pytest.raises(UsageError, match="one bind"):
            await connection.bind()
        await connection.disconnect()
        await succeed(connection.connect())
        with pytest.raises(UsageError, match="in clear: call bind"):
            await succeed(connection.delete(f"cn=hidden,{ROOT}"))
        await succeed(connection.bind())
        assert await names(connection, "(cn=n7)") == [f"cn=n7,{ROOT}"]
    assert b"hidden" not in in_clear(tap)
    assert len(tap.recordings) == 2


async def test_a_connection_that_was_lost(tap: Wiretap) -> None:
    async with connected(tap.port) as connection:
        tap.close()
        with pytest.raises(Exception, match=r"(?i)ended|closed|running|reset|broken|lost"):
            await names(connection, "(cn=n7)")
        with pytest.raises(OSError, match=r"(?i)ended|reset|broken|lost"):
            await succeed(connection.delete(f"cn=n1,{ROOT}"))


async def test_starttls(tap: Wiretap) -> None:
    async with connected(tap.port) as connection:
        with pytest.raises(UsageError, match="StartTLS"):
            await succeed(connection.starttls())
        assert await names(connection, "(cn=n7)")


class Bound(DigestMD5Client):
    """Remembers what it was told of the channel below."""

    channel: ChannelInfo

    def bind_channel(self, info: ChannelInfo) -> None:
        self.channel = info
        super().bind_channel(info)


def secure_target(port: int, *, timeout: int = 20, **trust: Any) -> Any:
    return badldap.MSLDAPTarget(
        "127.0.0.1",
        port,
        badldap.UniProto.CLIENT_SSL_TCP,
        timeout=timeout,
        hostname=HOST,
        ssl_ctx=unissl.UniSSL(verify=True, **trust),
    )


@pytest.fixture
def certificate(tls: TLSContexts, tmp_path: Path) -> str:
    """Where the certificate of `tls` is, for a target that trusts it."""
    path = tmp_path / "certificate.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(tls.certificate))
    return str(path)


async def test_over_tls_a_login_is_bound_and_asks_for_no_layer(
    tls: TLSContexts, certificate: str
) -> None:
    made = [Bound("alice", PASSWORD, service="ldap", host=HOST) for _ in range(2)]
    mechanisms = iter(made)
    with make_server(tls=tls.server, tls_at_once=True).in_thread() as server:
        where = secure_target(server.port, cacert=certificate)
        connection = await connect(where, lambda: next(mechanisms))
        assert await connection.whoami() == ("u:alice", None)
        await connection.disconnect()
        await succeed(connection.connect())
        await succeed(connection.bind())
        assert await names(connection, "(cn=n7)") == [f"cn=n7,{ROOT}"]
        await connection.disconnect()
    for one in made:
        assert one.context is None
        assert one.channel.tls_server_end_point == tls_server_end_point(tls.certificate)


async def test_a_certificate_that_nobody_trusts(tls: TLSContexts) -> None:
    with (
        make_server(tls=tls.server, tls_at_once=True).in_thread() as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        await connect(secure_target(server.port), mechanism)


async def test_a_server_that_is_silent_about_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError):
        await connect(secure_target(listener.getsockname()[1], timeout=1), mechanism)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections be made in the time that it takes the server to say something."""
    connect_at_once = asyncio.open_connection

    async def open_connection(*arguments: Any, **options: Any) -> Any:
        reader, writer = await connect_at_once(*arguments, **options)
        while not reader._buffer:  # type: ignore[attr-defined]
            await turns()
        return reader, writer

    monkeypatch.setattr(asyncio, "open_connection", open_connection)


@contextmanager
def injecting(tls: TLSContexts) -> Iterator[tuple[int, list[int]]]:
    """Speak for a server before its TLS begins; give its port, and what it hears first."""
    heard: list[int] = []

    def serve(sock: socket.socket) -> None:
        sock.sendall(encode(1, "bindResponse", result(ResultCode.invalidCredentials)))
        heard.extend(sock.recv(1, socket.MSG_PEEK))
        with tls.server.wrap_socket(sock, server_side=True) as server:
            server.recv(65536)

    with serving(serve) as port:
        yield port, heard


@pytest.mark.usefixtures("patient")
async def test_what_came_before_tls_is_not_taken_for_what_comes_inside(
    tls: TLSContexts, certificate: str
) -> None:
    with injecting(tls) as (port, heard), pytest.raises(ProtocolError, match="where TLS was to"):
        await connect(secure_target(port, cacert=certificate), mechanism)
    assert heard == []


async def test_a_reconnect_without_tls_is_at_its_end(
    tls: TLSContexts, certificate: str, request: pytest.FixtureRequest
) -> None:
    with make_server(tls=tls.server, tls_at_once=True).in_thread() as server:
        connection = await connect(secure_target(server.port, cacert=certificate), mechanism)
        await connection.disconnect()
    request.getfixturevalue("patient")
    with injecting(tls) as (connection.target.port, heard):
        with pytest.raises(ProtocolError, match="where TLS was to begin"):
            await succeed(connection.connect())
        with pytest.raises(OSError, match=r"(?i)closed|lost|reset"):
            await succeed(connection.bind())
        await connection.disconnect()
    assert heard == []


async def test_a_wrong_password(tap: Wiretap) -> None:
    with pytest.raises(exceptions.LDAPBindException, match="invalidCredentials") as caught:
        await connect(target(tap.port), lambda: mechanism("wrong"))
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert b"hidden" not in in_clear(tap)


async def test_a_policy_that_cannot_be_met(tap: Wiretap) -> None:
    strong = SecurityProperties(min_ssf=256)
    with pytest.raises(exceptions.LDAPBindException, match="256") as caught:
        await connect(target(tap.port), lambda: mechanism(properties=strong))
    assert isinstance(caught.value.__cause__, NegotiationError)


async def test_a_list_of_mechanisms_that_lies() -> None:

    with (
        serving(lying_list) as port,
        pytest.raises(exceptions.LDAPBindException, match="X-STRONG") as caught,
    ):
        await connect(target(port), candidates)
    assert isinstance(caught.value.__cause__, DowngradeError)


@each_bad_login
async def test_a_login_that_breaks_the_protocol(login: Serve, words: str) -> None:
    with serving(login) as port, pytest.raises(ProtocolError, match=words):
        await connect(target(port), mechanism)


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect(target(free_port()), mechanism)


async def test_a_server_that_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(TimeoutError),
    ):
        await connect(target(listener.getsockname()[1], timeout=1), mechanism)


@each_unusual
async def test_frames_as_they_come(behave: Behaviour) -> None:
    with serving(behaving(behave)) as port:
        async with connected(port) as connection:
            assert await names(connection, "(sn=*)") == [DN]


@each_forbidden
async def test_a_frame_that_is_wrong(behave: Behaviour, words: str) -> None:
    with serving(behaving(behave)) as port:
        async with connected(port) as connection:
            with pytest.raises(SASLError, match=words):
                await names(connection, "(sn=*)")
            with pytest.raises(SASLError, match=words):
                await succeed(connection.delete(DN))


async def test_a_mechanism_is_made_for_each_login() -> None:
    with pytest.raises(UsageError, match="lambda"):
        await connect(target(1), mechanism())  # type: ignore[arg-type]


@pytest.mark.parametrize("made", NO_MECHANISMS, ids=repr)
async def test_what_makes_no_mechanism(made: Any, tap: Wiretap) -> None:
    with pytest.raises(UsageError, match=TO_MAKE):
        await connect(target(tap.port), lambda: made)


async def test_nothing_of_badldaps_gets_around_the_network() -> None:
    """What the hook stands on, in badldap's own source."""
    source = inspect.getsource(badldap.MSLDAPClientConnection)
    assert source.count("self.network.write(") == 1
    assert source.count("self.network.read(") == 1
    assert "writer" not in source
    assert "reader" not in source
    after_the_task = inspect.getsource(badldap.MSLDAPClientConnection.connect).split("create_task")
    assert "await" not in after_the_task[1]
