"""The two primitives that rc4 cannot do without, alone: HMAC-MD5 and RC4 of `cryptography`.

What a token has beside its message is left out: its sequence number, type and MAC are neither
hashed, encrypted nor put together.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.hashes import MD5
from cryptography.hazmat.primitives.hmac import HMAC

from tests.bench.cost import Contestant, repeated

__all__ = ["Primitives", "primitive_calls"]


class Primitives:
    """Of one direction."""

    def __init__(self) -> None:
        self._keyed = HMAC(bytes(16), MD5())
        self._update = Cipher(ARC4(bytes(16)), mode=None).encryptor().update

    def run(self, message: bytes) -> bytes:
        """Hash and encrypt a message."""
        mac = self._keyed.copy()
        mac.update(message)
        mac.finalize()
        return self._update(message)


def primitive_calls(size: int) -> dict[str, Contestant]:
    """The same, be it for `seal` or for `unseal`."""
    contestant = repeated(Primitives().run, bytes(size))
    return {"seal": contestant, "unseal": contestant}
