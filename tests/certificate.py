"""A certificate that signs itself: nobody trusts it but who is told to."""

from __future__ import annotations

import datetime
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from saslwrap.testing.pairs import HOST

__all__ = ["TLSContexts", "tls_contexts", "write_certificate"]

CERTIFICATE = "certificate.pem"
KEY = "key.pem"


@dataclass(frozen=True)
class TLSContexts:
    client: ssl.SSLContext
    server: ssl.SSLContext
    certificate: bytes


def write_certificate(folder: Path, host: str = HOST) -> None:
    """Write CERTIFICATE and KEY into a folder, for a day.

    Where it looks for `localhost`, OpenLDAP's client wants the name of the machine.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    names = dict.fromkeys((host, socket.gethostname(), socket.getfqdn()))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .sign(private, hashes.SHA256())
    )
    (folder / CERTIFICATE).write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / KEY).write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def tls_contexts(folder: Path) -> TLSContexts:
    """The contexts of both sides, by the certificate in a folder."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    text = (folder / CERTIFICATE).read_text()
    client = ssl.create_default_context(cadata=text)
    return TLSContexts(client, server, ssl.PEM_cert_to_DER_cert(text))
