"""GSSAPI and GSS-SPNEGO over TLS: no layer unless it is asked for, and a login bound to TLS.

What slapd does (2.5.13, Cyrus SASL 2.1.28, MIT 1.20.1): with `sasl-cbinding tls-endpoint` it holds
a client's binding against its own certificate, and refuses another one as it refuses any ticket.
A login without a binding passes, as MIT's acceptor has it. Without that line it compares nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    aclose_forcefully,
    create_task_group,
    create_tcp_listener,
    to_thread,
)
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

from saslwrap import AuthenticationError, GSSAPIServer, GSSSPNEGOServer, SecurityProperties
from saslwrap.anyio import authenticate
from saslwrap.mechanisms.channel_binding import tls_server_end_point
from saslwrap.protocols.ldap import LDAPBindServer
from tests.certificate import CERTIFICATE, KEY, write_certificate
from tests.peers.directory import ALICE, LARGE_DN, LARGE_VALUES
from tests.peers.gss_client import MECHANISMS, bind
from tests.peers.ldap_client import ONE_LEVEL
from tests.peers.ldap_session import client_over
from tests.peers.slapd import Slapd
from tests.peers.support import LOOPBACK
from tests.peers.talks import AnyioTalk, SocketTalk, StreamsTalk, Talk

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import ByteStream, TaskGroup


pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.usefixtures("alice_ticket"),
    pytest.mark.parametrize("mechanism", MECHANISMS),
]

PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is its own issuer, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        write_certificate(folder, Slapd.host)
        return cls(folder / CERTIFICATE, folder / KEY)

    @property
    def of_server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    @property
    def of_client(self) -> ssl.SSLContext:
        """It trusts the certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    @property
    def binding(self) -> bytes | None:
        return tls_server_end_point(ssl.PEM_cert_to_DER_cert(self.certificate.read_text()))


@pytest.fixture(scope="module")
def certificate(bound_slapd: Slapd) -> Certificate:
    """The one that slapd has."""
    return Certificate(bound_slapd.certificate, bound_slapd.key)


# The shells over TLS.


async def over_anyio(port: int, context: ssl.SSLContext) -> Talk:
    return AnyioTalk(await connect_tls(port, context))


async def connect_tls(port: int, context: ssl.SSLContext) -> TLSStream:
    return await anyio.connect_tcp(
        LOOPBACK,
        port,
        ssl_context=context,
        tls_hostname=Slapd.host,
        tls_standard_compatible=False,
    )


async def over_streams(port: int, context: ssl.SSLContext) -> Talk:
    connected = await asyncio.open_connection(
        LOOPBACK, port, ssl=context, server_hostname=Slapd.host
    )
    return StreamsTalk(*connected)


async def over_socket(port: int, context: ssl.SSLContext) -> Talk:
    def connect() -> ssl.SSLSocket:
        tcp = socket.create_connection((LOOPBACK, port), PATIENCE)
        return context.wrap_socket(tcp, server_hostname=Slapd.host)

    return SocketTalk(await to_thread.run_sync(connect))


Connect = Callable[[int, ssl.SSLContext], Awaitable[Talk]]


@asynccontextmanager
async def connected(connect: Connect, port: int, trusted: Certificate) -> AsyncIterator[Talk]:
    talk = await connect(port, trusted.of_client)
    try:
        yield talk
    finally:
        await talk.aclose()


UVLOOP = ("asyncio", {"use_uvloop": True})
every_shell = pytest.mark.parametrize(
    ("connect", "anyio_backend"),
    [
        pytest.param(over_anyio, ("asyncio", {}), id="anyio-asyncio"),
        pytest.param(over_anyio, UVLOOP, id="anyio-uvloop"),
        pytest.param(over_anyio, ("trio", {}), id="anyio-trio"),
        pytest.param(over_streams, ("asyncio", {}), id="streams-asyncio"),
        pytest.param(over_streams, UVLOOP, id="streams-uvloop"),
        pytest.param(over_socket, ("asyncio", {}), id="socket"),
    ],
    indirect=["anyio_backend"],
)


@every_shell
@pytest.mark.parametrize(
    ("require_layer", "ssf"), [(None, 0), (False, 0), (True, 256)], ids=["unset", "no", "yes"]
)
async def test_a_layer_over_tls_only_if_it_is_required(
    bound_slapd: Slapd,
    certificate: Certificate,
    mechanism: str,
    connect: Connect,
    require_layer: bool | None,
    ssf: int,
) -> None:
    server = bound_slapd
    seen = len(server.log.read_text())
    properties = SecurityProperties(require_layer=require_layer)
    async with connected(connect, server.tls_port, certificate) as talk:
        await talk.authenticate(bind(mechanism, properties=properties))
        assert (talk.context.ssf if talk.context else 0) == ssf
        client = client_over(talk)
        assert await client.who_am_i() == ALICE.dn
        assert (await client.search(LARGE_DN, scope=ONE_LEVEL)).values() == LARGE_VALUES
    told = f'BIND dn="{ALICE.dn}" mech={mechanism} bind_ssf={ssf} ssf=256'
    assert told in server.log.read_text()[seen:]


# Somebody in between.


@asynccontextmanager
async def serving(
    certificate: Certificate, serve: Callable[[TLSStream], Awaitable[None]]
) -> AsyncIterator[int]:
    """Serve TLS connections on a port of one's own."""
    async with (
        await create_tcp_listener(local_host=LOOPBACK) as tcp,
        create_task_group() as tasks,
    ):
        listener = TLSListener(tcp, certificate.of_server, standard_compatible=False)
        tasks.start_soon(partial(listener.serve, serve))
        yield tcp.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def in_between(port: int, trusted: Certificate) -> Callable[[TLSStream], Awaitable[None]]:
    """Pass on what a client says inside TLS, in a TLS connection of one's own to the server."""

    async def pump(source: ByteStream, sink: ByteStream, tasks: TaskGroup) -> None:
        with suppress(EndOfStream, BrokenResourceError):
            while True:
                await sink.send(await source.receive())
        tasks.cancel_scope.cancel()

    async def serve(client: TLSStream) -> None:
        async with (
            closing(client),
            closing(await connect_tls(port, trusted.of_client)) as server,
            create_task_group() as tasks,
        ):
            tasks.start_soon(pump, client, server, tasks)
            tasks.start_soon(pump, server, client, tasks)

    return serve


@asynccontextmanager
async def closing(stream: TLSStream) -> AsyncIterator[TLSStream]:
    try:
        yield stream
    finally:
        await aclose_forcefully(stream)


@every_shell
async def test_who_stands_in_between_with_another_certificate_is_found_out(
    bound_slapd: Slapd,
    certificate: Certificate,
    tmp_path: Path,
    mechanism: str,
    connect: Connect,
) -> None:
    other = Certificate.make(tmp_path)
    between = in_between(bound_slapd.tls_port, certificate)
    async with serving(other, between) as port, connected(connect, port, other) as talk:
        with pytest.raises(AuthenticationError, match=r"invalidCredentials \(49\), .*accept_sec"):
            await talk.authenticate(bind(mechanism))
    # It was the certificate, not the detour.
    async with serving(certificate, between) as port, connected(connect, port, certificate) as talk:
        await talk.authenticate(bind(mechanism))
        assert await client_over(talk).who_am_i() == ALICE.dn


@every_shell
async def test_our_server_says_what_it_found(
    certificate: Certificate, tmp_path: Path, mechanism: str, connect: Connect
) -> None:
    """As above, with our own server behind TLS, which has to be told its certificate."""
    other = Certificate.make(tmp_path)
    outcomes: list[Any] = []

    async def log_in(stream: TLSStream) -> None:
        server = make_server(mechanism, certificate.binding)
        async with closing(stream):
            try:
                await authenticate(stream, LDAPBindServer({mechanism: lambda: server}))
            except AuthenticationError as error:
                outcomes.append(str(error))
            else:
                outcomes.append(server.authcid)
            with suppress(EndOfStream, BrokenResourceError):
                await stream.receive()  # until the client has read it all

    async with serving(other, log_in) as port, connected(connect, port, other) as talk:
        with pytest.raises(AuthenticationError, match=r"invalidCredentials \(49\)"):
            await talk.authenticate(bind(mechanism))
    async with serving(certificate, log_in) as port, connected(connect, port, certificate) as talk:
        await talk.authenticate(bind(mechanism))
        assert talk.context is None
    refusal, principal = outcomes
    assert refusal.startswith(
        "the login is bound to another TLS connection (tls-server-end-point): somebody stands "
        "between client and server"
    )
    assert principal == "alice@EXAMPLE.COM"


def make_server(mechanism: str, binding: bytes | None) -> GSSAPIServer | GSSSPNEGOServer:
    kind = GSSAPIServer if mechanism == "GSSAPI" else GSSSPNEGOServer
    return kind(service="ldap", host=Slapd.host, tls_server_end_point=binding)
