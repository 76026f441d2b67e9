"""tls-server-end-point (RFC 5929 section 4.1) of certificates of every kind."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from saslwrap import ChannelInfo
from saslwrap.errors import UsageError
from saslwrap.mechanisms.channel_binding import channel_info, tls_server_end_point

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

RSA_SIGNATURES = bytes.fromhex("06 09 2a864886f70d0101")
"""The OID of RSA's signatures but for its last octet (RFC 8017 appendix A.2.4)."""
WITH_MD5, WITH_SHA1, WITH_SHA256, UNKNOWN = 4, 5, 11, 99


def certificate(
    key: CertificateIssuerPrivateKeyTypes,
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    rsa_padding: padding.PSS | None = None,
) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, algorithm, rsa_padding=rsa_padding)
    )
    return signed.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


ALGORITHMS: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_hash_is_that_of_the_certificate_s_signature(
    ec_key: ec.EllipticCurvePrivateKey, name: str
) -> None:
    der = certificate(ec_key, ALGORITHMS[name])
    assert tls_server_end_point(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rsa(rsa_key: rsa.RSAPrivateKey, name: str) -> None:
    der = certificate(rsa_key, ALGORITHMS[name])
    assert tls_server_end_point(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rsa_pss_has_its_hash_in_parameters(rsa_key: rsa.RSAPrivateKey, name: str) -> None:
    algorithm = ALGORITHMS[name]
    pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    der = certificate(rsa_key, algorithm, pss)
    assert tls_server_end_point(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("algorithm", [WITH_MD5, WITH_SHA1], ids=["md5", "sha1"])
def test_sha256_takes_the_place_of_a_weak_hash(rsa_key: rsa.RSAPrivateKey, algorithm: int) -> None:
    der = signed_with(rsa_key, algorithm)
    assert tls_server_end_point(der) == hashlib.sha256(der).digest()


def signed_with(key: rsa.RSAPrivateKey, algorithm: int) -> bytes:
    """A certificate that says it is signed so: cryptography makes no weak signatures itself."""
    made = certificate(key, hashes.SHA256())
    old = RSA_SIGNATURES + bytes([WITH_SHA256])
    assert made.count(old) == 2
    return made.replace(old, RSA_SIGNATURES + bytes([algorithm]))


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()],
    ids=["ed25519", "ed448"],
)
def test_a_signature_without_a_hash_has_no_binding(
    key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
) -> None:
    with pytest.raises(UsageError, match="no channel binding is defined"):
        tls_server_end_point(certificate(key, None))


def test_an_unknown_signature_has_no_binding(rsa_key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(UsageError):
        tls_server_end_point(signed_with(rsa_key, UNKNOWN))


def test_what_is_no_certificate_has_no_binding(ec_key: ec.EllipticCurvePrivateKey) -> None:
    der = certificate(ec_key, hashes.SHA256())
    pem = ssl.DER_cert_to_PEM_cert(der).encode()
    for garbage in (b"", b"0", b"certificate", bytes(100), der[:-1], der[1:], der + b"0", pem):
        with pytest.raises(UsageError, match="PEM_cert_to_DER_cert"):
            tls_server_end_point(garbage)


# What a driver finds out of a connection.


@pytest.fixture(scope="module")
def connected(
    ec_key: ec.EllipticCurvePrivateKey, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ssl.SSLObject, ssl.SSLObject, bytes]:
    """The client's end and the server's end of a TLS connection in memory, and the certificate.

    The client shows a certificate too, the same.
    """
    der = certificate(ec_key, hashes.SHA384())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ec_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(ssl.DER_cert_to_PEM_cert(der).encode() + key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(path)
    server_context.load_verify_locations(path)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_cert_chain(path)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(downward, upward)
    server = server_context.wrap_bio(upward, downward, server_side=True)
    for end in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client, server, der


def test_a_client_knows_strength_and_binding(
    connected: tuple[ssl.SSLObject, ssl.SSLObject, bytes],
) -> None:
    client, _, der = connected
    assert channel_info(client) == ChannelInfo(
        external_ssf=256, tls_server_end_point=hashlib.sha384(der).digest()
    )


def test_a_server_knows_strength_only(
    connected: tuple[ssl.SSLObject, ssl.SSLObject, bytes],
) -> None:
    """The guard: the certificate that a server sees is its client's, and binds nothing."""
    _, server, der = connected
    assert server.getpeercert(binary_form=True) == der
    assert channel_info(server) == ChannelInfo(external_ssf=256, tls_server_end_point=None)


def test_without_tls_there_is_nothing_to_know() -> None:
    assert channel_info(None) == ChannelInfo(external_ssf=0, tls_server_end_point=None)


def test_tls_before_its_handshake_gives_nothing() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert channel_info(tls) == ChannelInfo()
