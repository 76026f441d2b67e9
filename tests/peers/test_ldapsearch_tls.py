"""`ldapsearch` over the TLS of our own server, and its searches in pages."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from saslwrap.mechanisms.channel_binding import tls_server_end_point
from saslwrap.testing import LDAPServer
from tests.certificate import CERTIFICATE, KEY, write_certificate
from tests.peers.directory import ALICE, BASE_DN, REALM
from tests.peers.slapd import KERBEROS_MECHANISMS, ldapsearch
from tests.peers.support import LOOPBACK, require_program, require_sasl_plugin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.wiretap import WiretapFactory

INVALID_CREDENTIALS = 49
MECHANISMS = ["DIGEST-MD5", "GSSAPI", "GSS-SPNEGO"]
ENTRIES = {BASE_DN: {"dc": ["example"]}} | {
    f"cn=n{number},{BASE_DN}": {"description": ["hidden"]} for number in range(250)
}
EVERYTHING = ("-s", "sub", "(description=hidden)", "description")


@pytest.fixture(autouse=True)
def _ldapsearch() -> None:
    require_program("ldapsearch")
    require_sasl_plugin("digestmd5")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder, "localhost")
    return folder / CERTIFICATE


def context_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name(KEY))
    return context


def serve(
    certificate: Path, mechanism: str, *, at_once: bool = False, binding: bytes | None = None
) -> LDAPServer:
    if mechanism in KERBEROS_MECHANISMS:
        pytest.importorskip("spnego")
        require_sasl_plugin("gssapiv2")
    return LDAPServer(
        ENTRIES,
        {ALICE.username: ALICE.password},
        realm=REALM,
        mechanisms=[mechanism],
        tls=context_of(certificate),
        tls_at_once=at_once,
        tls_server_end_point=binding,
    )


def trusting(certificate: Path) -> tuple[str, str]:
    return "-o", f"TLS_CACERT={certificate}"


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_start_tls(certificate: Path, mechanism: str, wiretap: WiretapFactory) -> None:
    with serve(certificate, mechanism).in_thread() as server:
        tap = wiretap(LOOPBACK, server.port)
        done = ldapsearch(
            f"ldap://localhost:{tap.port}",
            *("-ZZ", *trusting(certificate), *EVERYTHING),
            mechanism=mechanism,
            security="maxssf=0",
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"description: hidden") == 250
    assert b"hidden" not in tap.server_to_client
    assert mechanism.encode() not in tap.client_to_server


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_tls_at_once(certificate: Path, mechanism: str) -> None:
    with serve(certificate, mechanism, at_once=True).in_thread() as server:
        done = ldapsearch(
            server.url,
            *(*trusting(certificate), *EVERYTHING),
            mechanism=mechanism,
            security="maxssf=0",
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"description: hidden") == 250


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS[1:])
def test_a_login_that_has_to_be_bound(certificate: Path, mechanism: str) -> None:
    binding = tls_server_end_point(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
    with serve(certificate, mechanism, binding=binding).in_thread() as server:
        bound, unbound = (
            ldapsearch(
                server.url,
                *("-ZZ", *trusting(certificate), "-o", f"SASL_CBINDING={kind}", *EVERYTHING),
                mechanism=mechanism,
                security="maxssf=0",
            )
            for kind in ("tls-endpoint", "none")
        )
    assert bound.returncode == 0, bound.stderr
    assert unbound.returncode == INVALID_CREDENTIALS, unbound.stderr


@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_pages_under_a_layer(certificate: Path, mechanism: str, wiretap: WiretapFactory) -> None:
    with serve(certificate, mechanism).in_thread() as server:
        tap = wiretap(LOOPBACK, server.port)
        done = ldapsearch(
            f"ldap://localhost:{tap.port}",
            *("-E", "pr=100/noprompt", *EVERYTHING),
            mechanism=mechanism,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"description: hidden") == 250
    assert b"hidden" not in tap.server_to_client
