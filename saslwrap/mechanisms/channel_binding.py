"""What a login is told of the TLS connection below it: its strength, and what ties the two.

A login that is bound to the server's certificate (RFC 5929 section 4) is worthless to somebody who
stands in between with a certificate of his own.
"""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from saslwrap.errors import UsageError
from saslwrap.properties import ChannelInfo

__all__ = ["channel_info", "tls_server_end_point"]

#: Too weak to be used as they are (RFC 5929 section 4.1).
_REPLACED = (hashes.MD5, hashes.SHA1)


def tls_server_end_point(certificate: bytes) -> bytes:
    """Hash a server's certificate as tls-server-end-point does (RFC 5929 section 4).

    :param certificate: in DER (`ssl.PEM_cert_to_DER_cert` makes it of PEM)
    :raises UsageError: it cannot be read, or its signature has no single hash function (Ed25519),
        for which no binding is defined
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        algorithm = parsed.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            "this is no certificate in DER that can be read; ssl.PEM_cert_to_DER_cert makes one "
            "of PEM"
        ) from None
    if algorithm is None:
        raise UsageError("no channel binding is defined for a certificate that is signed like this")
    if isinstance(algorithm, _REPLACED):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return digest.finalize()


def channel_info(tls: ssl.SSLObject | ssl.SSLSocket | None) -> ChannelInfo:
    """Say of a channel what a mechanism has to know. None is a channel without TLS.

    The binding is known to clients only: Python's TLS does not tell a server its own certificate.
    """
    cipher = tls.cipher() if tls is not None else None
    if tls is None or cipher is None:
        return ChannelInfo()
    return ChannelInfo(external_ssf=cipher[2], tls_server_end_point=_binding(tls))


def _binding(tls: ssl.SSLObject | ssl.SSLSocket) -> bytes | None:
    certificate = None if tls.server_side else tls.getpeercert(binary_form=True)
    try:
        return tls_server_end_point(certificate) if certificate else None
    except UsageError:
        return None
