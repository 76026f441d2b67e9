"""A certificate for HOST that signs itself: nobody trusts it but who is told to."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from saslwrap.testing.pairs import HOST

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
    (folder / CERTIFICATE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / KEY).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def tls_contexts(folder: Path) -> TLSContexts:
    """The contexts of both sides, by the certificate in a folder."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    text = (folder / CERTIFICATE).read_text()
    client = ssl.create_default_context(cadata=text)
    return TLSContexts(client, server, ssl.PEM_cert_to_DER_cert(text))
