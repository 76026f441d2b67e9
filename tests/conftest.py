"""What the tests of several modules share: the backends of anyio, connections, logins."""

from __future__ import annotations

import datetime
import importlib.util
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import connect_tcp, create_tcp_listener
from anyio.abc import AnyByteStream, SocketAttribute, SocketListener, SocketStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import StreamPair, authenticated_streams
from saslwrap.testing.pairs import HOST, MechanismPair, mechanism_pair
from saslwrap.testing.tasks import run_both
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


@dataclass(frozen=True)
class TLSContexts:
    client: ssl.SSLContext
    server: ssl.SSLContext
    certificate: bytes


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSContexts:
    """A certificate that nobody but the test trusts."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate_file, key_file)
    client = ssl.create_default_context(cafile=str(certificate_file))
    return TLSContexts(client, server, certificate.public_bytes(serialization.Encoding.DER))
