"""What DIGEST-MD5 computes: the response values, and the keys of the layer (RFC 2831, 2.1.2.1).

    URP   = H(username ":" realm ":" password)               16 octets; what a server may store
    H(A1) = H(URP ":" nonce ":" cnonce [":" authzid])        16 octets; the session's root key
    A2    = ["AUTHENTICATE"] ":" digest-uri [":" 32 zeros]   the zeros unless qop=auth
    value = HEX(H(HEX(H(A1)) ":" nonce ":" nc ":" cnonce ":" qop ":" HEX(H(A2))))

H is MD5, on octets throughout; the two A2 give the client's `response` and the server's `rspauth`.
HTTP's md5-sess hashes HEX(URP) instead; do not mix them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import md5

from saslwrap.properties import QOP

__all__ = ["DigestParameters", "DirectionKeys", "KeyPair", "integrity_keys", "sealing_keys"]

NONCE_COUNT = b"00000001"
_ZEROS = b":" + b"0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestParameters:
    """What enters the hashes beside the secret, each as the octets that travel, unescaped."""

    nonce: bytes
    cnonce: bytes
    qop: bytes
    digest_uri: bytes
    authzid: bytes | None = None

    def session_key(self, urp: bytes) -> bytes:
        """H(A1)."""
        parts = [urp, self.nonce, self.cnonce]
        if self.authzid is not None:
            parts.append(self.authzid)
        return _digest(b":".join(parts))

    def response(self, session_key: bytes) -> bytes:
        """What the client proves with, 32 lower-case hex digits."""
        return self._value(session_key, b"AUTHENTICATE:")

    def rspauth(self, session_key: bytes) -> bytes:
        """What the server proves with, 32 lower-case hex digits."""
        return self._value(session_key, b":")

    def _value(self, session_key: bytes, purpose: bytes) -> bytes:
        zeros = b"" if self.qop.lower() == QOP.AUTH.encode() else _ZEROS
        a2 = _hex(purpose + self.digest_uri + zeros)
        key = session_key.hex().encode()
        return _hex(b":".join((key, self.nonce, NONCE_COUNT, self.cnonce, self.qop, a2)))


@dataclass(frozen=True, slots=True)
class DirectionKeys:
    """A key for each direction as one side sees them, 16 octets."""

    outbound: bytes = field(repr=False)
    inbound: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key for each direction, 16 octets."""

    client_to_server: bytes = field(repr=False)
    server_to_client: bytes = field(repr=False)

    def of(self, *, is_client: bool) -> DirectionKeys:
        """See them from one side."""
        if is_client:
            return DirectionKeys(self.client_to_server, self.server_to_client)
        return DirectionKeys(self.server_to_client, self.client_to_server)


def integrity_keys(session_key: bytes) -> KeyPair:
    """Kic and Kis (RFC 2831 section 2.3)."""
    return KeyPair(
        _digest(session_key + b"Digest session key to client-to-server signing key magic constant"),
        _digest(session_key + b"Digest session key to server-to-client signing key magic constant"),
    )


def sealing_keys(session_key: bytes, key_octets: int) -> KeyPair:
    """Kcc and Kcs (RFC 2831 section 2.4); H(A1) is cut, the keys always have 16 octets."""
    root = session_key[:key_octets]
    return KeyPair(
        _digest(root + b"Digest H(A1) to client-to-server sealing key magic constant"),
        _digest(root + b"Digest H(A1) to server-to-client sealing key magic constant"),
    )


def _digest(data: bytes) -> bytes:
    return md5(data).digest()


def _hex(data: bytes) -> bytes:
    return md5(data).hexdigest().encode()
