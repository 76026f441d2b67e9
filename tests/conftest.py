"""What the tests of several modules share: the backends of anyio, connections, logins."""

from __future__ import annotations

import importlib.util
import socket
from functools import partial
from typing import Any

import pytest
from anyio import connect_tcp, create_tcp_listener
from anyio.abc import AnyByteStream, SocketAttribute, SocketListener, SocketStream

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import StreamPair, authenticated_streams
from saslwrap.testing.pairs import MechanismPair, mechanism_pair
from saslwrap.testing.tasks import run_both
from tests.certificate import TLSContexts as TLSContexts
from tests.certificate import tls_contexts, write_certificate
from tests.peers.kdc import alice_ticket as alice_ticket
from tests.peers.kdc import krb5_environment as krb5_environment
from tests.peers.kdc import realm as realm

pytest_plugins = ["saslwrap.testing.plugin"]

no_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop does not run here"
)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=no_uvloop),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def tcp_pair() -> tuple[SocketStream, SocketStream]:
    """Connect two ends on the loopback, with small buffers: back-pressure comes soon."""
    async with await create_tcp_listener(local_host="127.0.0.1") as multi:
        listener = multi.listeners[0]
        assert isinstance(listener, SocketListener)
        client = await connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
        server = await listener.accept()
    for stream in (client, server):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            raw_socket = stream.extra(SocketAttribute.raw_socket)
            raw_socket.setsockopt(socket.SOL_SOCKET, option, 65536)
    return client, server


def exchange_pair(mechanisms: MechanismPair) -> tuple[LDAPBind, LDAPBindServer]:
    """Both halves of an LDAP bind."""
    client, server = mechanisms
    return LDAPBind(client), LDAPBindServer({"DIGEST-MD5": lambda: server})


async def log_in(
    client: AnyByteStream, server: AnyByteStream, mechanisms: MechanismPair | str = "rc4"
) -> tuple[SASLStream | Exception, SASLStream | Exception]:
    """Authenticate both ends; give what came of each."""
    if isinstance(mechanisms, str):
        mechanisms = mechanism_pair(mechanisms)
    client_half, server_half = exchange_pair(mechanisms)
    return await run_both(
        partial(authenticate, client, client_half), partial(authenticate, server, server_half)
    )


async def logged_in(
    client: AnyByteStream, server: AnyByteStream, mechanisms: MechanismPair | str = "rc4"
) -> StreamPair:
    """Authenticate both ends, which has to succeed."""
    if isinstance(mechanisms, str):
        mechanisms = mechanism_pair(mechanisms)
    return await authenticated_streams(*exchange_pair(mechanisms), transports=(client, server))


async def talk(client: AnyByteStream, server: AnyByteStream) -> None:
    """Show that both directions work."""
    for sender, receiver in ((client, server), (server, client)):
        await sender.send(b"are you there?")
        assert await receiver.receive() == b"are you there?"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSContexts:
    """A certificate that nobody but the test trusts."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder)
    return tls_contexts(folder)
