"""A certificate for HOST that signs itself: nobody trusts it but who is told to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from saslwrap.testing.pairs import HOST
from tests.peers import slapd

__all__ = ["TLSContexts", "tls_contexts", "write_certificate"]

CERTIFICATE = "certificate.pem"
KEY = "key.pem"


@dataclass(frozen=True)
class TLSContexts:
    client: ssl.SSLContext
    server: ssl.SSLContext
    certificate: bytes


def write_certificate(folder: Path) -> None:
    """Make one in a folder, for a day."""
    slapd.write_certificate(folder / CERTIFICATE, folder / KEY, host=HOST)


def tls_contexts(folder: Path) -> TLSContexts:
    """The contexts of both sides, by the certificate in a folder."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    text = (folder / CERTIFICATE).read_text()
    client = ssl.create_default_context(cadata=text)
    return TLSContexts(client, server, ssl.PEM_cert_to_DER_cert(text))
