"""A DIGEST-MD5 peer in a few lines, from RFC 2831 section 2.1 and `hashlib` alone.

It shares nothing with the package, so what it agrees on is not agreed with itself. Its messages can
be bent directive by directive, for peers that are odd, wrong or hostile.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: A directive as it is written, None without it, several where it is repeated.
Raw: TypeAlias = str | bytes | Sequence[str | bytes] | None


def write(directives: Mapping[str, Raw]) -> bytes:
    """Write a message of raw directives; `_` in a name stands for `-`."""
    parts = []
    for name, raw in directives.items():
        for one in [raw] if raw is None or isinstance(raw, str | bytes) else raw:
            if one is not None:
                value = one if isinstance(one, bytes) else one.encode()
                parts.append(name.replace("_", "-").encode() + b"=" + value)
    return b",".join(parts)


def latin_1_or_utf_8(text: str) -> bytes:
    """What a string is hashed as under charset=utf-8 (RFC 2831 section 8)."""
    return text.encode("latin-1" if all(ord(char) < 256 for char in text) else "utf-8")


def _md5(*parts: bytes) -> bytes:
    return hashlib.md5(b":".join(parts)).digest()


def session_key(urp: bytes, nonce: bytes, cnonce: bytes, authzid: bytes | None) -> bytes:
    """H(A1)."""
    return _md5(urp, nonce, cnonce, *([] if authzid is None else [authzid]))


def request_digest(
    key: bytes, method: bytes, nonce: bytes, nc: bytes, cnonce: bytes, qop: bytes, uri: bytes
) -> bytes:
    """The client's proof for the method `AUTHENTICATE`, the server's for an empty one."""
    a2 = _md5(method, uri, *([b"0" * 32] if qop.lower() != b"auth" else []))
    return _md5(key.hex().encode(), nonce, nc, cnonce, qop, a2.hex().encode()).hex().encode()


@dataclass(frozen=True, kw_only=True)
class Login:
    """One login: what is said, and what follows from it.

    :param hashed: username, realm and password as octets, where they are hashed in another way
    """

    username: str = "alice"
    realm: str | None = "example.com"
    password: str = "s3cret-Pa55"
    hashed: tuple[bytes, bytes, bytes] | None = None
    nonce: str = "N0nce"
    cnonce: str = "Cn0nce"
    nc: str = "00000001"
    qop: str = "auth-conf"
    cipher: str | None = "rc4"
    uri: str = "ldap/localhost"
    authzid: str | None = None

    @property
    def urp(self) -> bytes:
        names = self.username, self.realm or "", self.password
        return _md5(*(self.hashed or map(latin_1_or_utf_8, names)))

    @property
    def session_key(self) -> bytes:
        authzid = None if self.authzid is None else self.authzid.encode()
        return session_key(self.urp, self.nonce.encode(), self.cnonce.encode(), authzid)

    @property
    def response(self) -> str:
        return self._value("AUTHENTICATE")

    @property
    def rspauth(self) -> str:
        return self._value("")

    def _value(self, method: str) -> str:
        said = self.nonce, self.nc, self.cnonce, self.qop, self.uri
        octets = [part.encode() for part in said]
        return request_digest(self.session_key, method.encode(), *octets).decode()

    @property
    def keys(self) -> dict[str, bytes]:
        """Kic, Kis, Kcc and Kcs (RFC 2831 sections 2.3 and 2.4)."""
        root = self.session_key[: {"rc4-40": 5, "rc4-56": 7}.get(self.cipher or "", 16)]
        to = b"Digest session key to ", self.session_key
        cut = b"Digest H(A1) to ", root
        return {
            name: hashlib.md5(key + text + direction + b" key magic constant").digest()
            for name, (text, key), direction in [
                ("Kic", to, b"client-to-server signing"),
                ("Kis", to, b"server-to-client signing"),
                ("Kcc", cut, b"client-to-server sealing"),
                ("Kcs", cut, b"server-to-client sealing"),
            ]
        }

    def challenge(self, **changes: Raw) -> bytes:
        """The server's offer: everything."""
        directives: dict[str, Raw] = {
            "realm": None if self.realm is None else f'"{self.realm}"',
            "nonce": f'"{self.nonce}"',
            "qop": '"auth,auth-int,auth-conf"',
            "cipher": '"rc4-40,rc4-56,rc4,des,3des"',
            "maxbuf": "65536",
            "charset": "utf-8",
            "algorithm": "md5-sess",
        }
        return write(directives | changes)

    def message(self, **changes: Raw) -> bytes:
        """The client's choice and proof."""
        directives: dict[str, Raw] = {
            "username": f'"{self.username}"',
            "realm": None if self.realm is None else f'"{self.realm}"',
            "nonce": f'"{self.nonce}"',
            "cnonce": f'"{self.cnonce}"',
            "nc": self.nc,
            "qop": self.qop,
            "cipher": self.cipher,
            "maxbuf": None,
            "digest_uri": f'"{self.uri}"',
            "response": self.response,
            "charset": "utf-8",
            "authzid": None if self.authzid is None else f'"{self.authzid}"',
        }
        return write(directives | changes)

    @property
    def proof(self) -> bytes:
        """The server's last message."""
        return b"rspauth=" + self.rspauth.encode()


def mac(key: bytes, number: int, message: bytes) -> bytes:
    """MAC(Ki, number, message) without type and number (RFC 2831 section 2.3)."""
    return hmac.digest(key, number.to_bytes(4, "big") + message, "md5")[:10]
