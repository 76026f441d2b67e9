"""The ciphers of auth-conf (RFC 2831 section 2.4): their strength, and whether OpenSSL has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4, TripleDES
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.modes import CBC

from saslwrap.errors import MechanismUnavailableError

__all__ = ["CIPHERS", "CipherSpec", "available", "require_md5"]


@dataclass(frozen=True, slots=True)
class CipherSpec:
    """One cipher.

    :param ssf: strength as Cyrus SASL counts it
    :param key_octets: how much of H(A1) enters the sealing keys: n in RFC 2831 section 2.4
    :param des_keys: how many 56-bit keys a block cipher takes, 0 for RC4
    """

    name: str
    ssf: int
    key_octets: int
    des_keys: int = 0

    @property
    def block_size(self) -> int:
        """Octets of a block, 1 for RC4."""
        return 8 if self.des_keys else 1

    def encryptor(self, key: bytes) -> CipherContext:
        """Start sealing under Kcc or Kcs. The state lasts as long as the connection."""
        return self._cipher(key).encryptor()

    def decryptor(self, key: bytes) -> CipherContext:
        """Start unsealing under Kcc or Kcs."""
        return self._cipher(key).decryptor()

    def _cipher(self, key: bytes) -> Cipher[CBC | None]:
        if not self.des_keys:
            return Cipher(ARC4(key), mode=None)
        # EDE with k1,k2,k1, and DES as k1,k1,k1; the IV overlaps the second key, as it must
        first, last = key[:7], key[7 * (self.des_keys - 1) : 7 * self.des_keys]
        triple = expand_des_key(first) + expand_des_key(last) + expand_des_key(first)
        return Cipher(TripleDES(triple), CBC(key[8:16]))


#: By name. RFC 2831 section 2.1.1; rc4 first for its strength, Cyrus counts des as 55.
CIPHERS = {
    spec.name: spec
    for spec in (
        CipherSpec("rc4", 128, 16),
        CipherSpec("3des", 112, 16, des_keys=2),
        CipherSpec("rc4-56", 56, 7),
        CipherSpec("des", 55, 16, des_keys=1),
        CipherSpec("rc4-40", 40, 5),
    )
}


def expand_des_key(key: bytes) -> bytes:
    """Spread 7 octets over 8: 7 bits each in the upper bits, odd parity in the lowest."""
    bits = int.from_bytes(key, "big")
    septets = ((bits >> shift) & 0x7F for shift in range(49, -1, -7))
    return bytes(septet << 1 | (septet.bit_count() + 1) % 2 for septet in septets)


@cache
def _works(spec: CipherSpec) -> bool:
    try:
        spec.encryptor(bytes(range(16)))
    except UnsupportedAlgorithm:
        return False
    return True


def available(names: Iterable[str]) -> list[CipherSpec]:
    """Those of the named ciphers that OpenSSL has here, in the same order."""
    return [CIPHERS[name] for name in names if _works(CIPHERS[name])]


def require_md5() -> None:
    """Make sure that OpenSSL has MD5 and HMAC-MD5, which everything here rests on.

    :raises MechanismUnavailableError: it has not
    """
    try:
        hashlib.md5(b"")
        hmac.HMAC(b"", hashes.MD5())
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        return
    raise MechanismUnavailableError(
        "DIGEST-MD5 needs MD5, which OpenSSL has switched off here (FIPS mode?); allow it in "
        "OpenSSL's configuration, or use GSSAPI"
    )
