"""A hostile peer of DIGEST-MD5, a man in the middle, and their victims.

A hostile peer is a handful of directives. It knows the password, and its proofs are right for what
it says: what stops it is nothing but the check under attack. The man in the middle knows nothing;
he rewrites what the hash does not cover (RFC 6331): the offer, the chosen cipher, maxbuf.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, Literal, TypeAlias

import pytest

from saslwrap.errors import SASLError, UsageError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.attacks.support import drain

Role = Literal["client", "server"]
both_roles = pytest.mark.parametrize("role", ["client", "server"])

#: A value to be quoted; octets as they are; several; none.
Raw: TypeAlias = str | bytes | Sequence[str | bytes] | None
Said: TypeAlias = dict[str, Raw]

NONCE, CNONCE = "N0nce", "Cn0nce"
QOPS = ("auth", "auth-int", "auth-conf")
WEAK = ("rc4-56", "des", "rc4-40")

ANYTHING = SecurityProperties(min_ssf=0, ciphers=CIPHER_NAMES)
STRICT = SecurityProperties(ciphers=CIPHER_NAMES)  # every cipher is named: the minimum decides
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)

OFFER: Said = {
    "realm": REALM,
    "nonce": NONCE,
    "qop": "auth,auth-int,auth-conf",
    "cipher": "rc4,3des,rc4-56,des,rc4-40",
    "maxbuf": b"65536",
    "charset": b"utf-8",
    "algorithm": b"md5-sess",
}
CHOICE: Said = {
    "username": USERNAME,
    "realm": REALM,
    "nonce": NONCE,
    "cnonce": CNONCE,
    "nc": b"00000001",
    "qop": b"auth-conf",
    "cipher": b"rc4",
    "digest_uri": f"ldap/{HOST}",
    "charset": b"utf-8",
}
AUTH: Said = {"qop": b"auth", "cipher": None}
INT: Said = {"qop": b"auth-int", "cipher": None}


# ---------------------------------------------------------------- what a peer says


def write(directives: Mapping[str, Raw]) -> bytes:
    """Write a message; `_` in a name stands for `-`."""
    return b",".join(
        name.replace("_", "-").encode() + b"=" + (one if isinstance(one, bytes) else quoted(one))
        for name, raw in directives.items()
        for one in ([raw] if isinstance(raw, str | bytes) else raw or ())
    )


def quoted(text: str) -> bytes:
    return b'"%b"' % re.sub(r'(["\\])', r"\\\1", text).encode()


def challenge(**changes: Raw) -> bytes:
    """A server's offer: everything, but for the changes."""
    return write(OFFER | changes)


def response(hashed: Said | None = None, /, **changes: Raw) -> bytes:
    """A client's choice with the right proof for it.

    :param hashed: what is hashed in place of what is said
    """
    said = CHOICE | changes
    return write({"response": digest("AUTHENTICATE", said | (hashed or {}))} | said)


def proof(**changes: Raw) -> bytes:
    """The server's right proof for a choice."""
    return b"rspauth=" + digest("", CHOICE | changes)


def digest(method: str, said: Mapping[str, Raw]) -> bytes:
    """What is proven with, straight from RFC 2831 section 2.1.2.1."""

    def value(name: str, default: bytes = b"") -> bytes:
        raw = said.get(name) or default
        assert isinstance(raw, str | bytes)
        return raw if isinstance(raw, bytes) else raw.encode()

    def h(*parts: bytes) -> bytes:
        return hashlib.md5(b":".join(parts)).digest()

    nonce, cnonce, qop = value("nonce"), value("cnonce"), value("qop", b"auth")
    authzid = [value("authzid")] if said.get("authzid") is not None else []
    zeros = [b"0" * 32] if qop.lower() != b"auth" else []
    a1 = h(h(value("username"), value("realm"), PASSWORD.encode()), nonce, cnonce, *authzid)
    a2 = h(method.encode(), value("digest_uri"), *zeros)
    key = a1.hex().encode()
    return h(key, nonce, value("nc"), cnonce, qop, a2.hex().encode()).hex().encode()


def heard(message: bytes) -> dict[str, str]:
    """What one of ours said, unquoted."""
    found = re.findall(rb'([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",]*))(?:,|$)', message)
    return {
        name.decode().replace("-", "_"): re.sub(r"\\(.)", r"\1", (inner or plain).decode())
        for name, inner, plain in found
    }


def rewritten(message: bytes, **changes: Raw) -> bytes:
    """What a man in the middle makes of a message of ours."""
    return write(heard(message) | changes)


# ---------------------------------------------------------------- the victims


def our_client(properties: SecurityProperties = ANYTHING, /, **changes: Any) -> DigestMD5Client:
    arguments: dict[str, Any] = {
        "username": USERNAME,
        "password": PASSWORD,
        "service": "ldap",
        "host": HOST,
        "generate_cnonce": lambda: CNONCE,
    }
    return DigestMD5Client(properties=properties, **arguments | changes)


def our_server(properties: SecurityProperties = ANYTHING, /, **changes: Any) -> DigestMD5Server:
    arguments: dict[str, Any] = {
        "get_secret": get_secret,
        "service": "ldap",
        "host": HOST,
        "realms": [REALM],
        "generate_nonce": lambda: NONCE,
    }
    return DigestMD5Server(properties=properties, **arguments | changes)


def victim(role: Role, properties: SecurityProperties = ANYTHING) -> Mechanism:
    """Ours, at the point where the peer's first message of substance is due."""
    side = our_client(properties) if role == "client" else our_server(properties)
    side.step(None)
    return side


def hostile(role: Role, **changes: Raw) -> bytes:
    """The message of substance to attack `role` with."""
    return challenge(**changes) if role == "client" else response(**changes)


def told(side: Mechanism, message: bytes | None) -> bytes:
    """Step, and have an answer."""
    answer = side.step(message)
    assert answer is not None
    return answer


def refusal(
    side: Mechanism, message: bytes | None, kind: type[SASLError], text: str | None = None
) -> str:
    """The message is refused, with this type of error, for good. Give the text."""
    with pytest.raises(SASLError, match=text) as caught:
        side.step(message)
    assert type(caught.value) is kind
    assert not side.complete
    with pytest.raises(UsageError):
        _ = side.context
    if isinstance(side, DigestMD5Server):
        assert (side.authcid, side.authzid, side.realm) == (None, None, None)
    for later in (challenge(), response(), proof(), None):
        with pytest.raises(kind):
            side.step(later)
    return str(caught.value)


def accepted(side: Mechanism, message: bytes) -> SecurityLayer | None:
    """The message is accepted, the login ends well."""
    answer = told(side, message)
    if isinstance(side, DigestMD5Client):
        side.step(proof(**heard(answer)))
    assert side.complete
    return None if side.context is None else SecurityLayer(side.context)


Rewrite: TypeAlias = Callable[[bytes], bytes]


def rewriting(**changes: Raw) -> Rewrite:
    return lambda message: rewritten(message, **changes)


def log_in(
    client: Mechanism, server: Mechanism, *, offer: Rewrite = bytes, choice: Rewrite = bytes
) -> None:
    """Let two of ours log in, with a man between them."""
    answer = told(client, offer(told(server, client.step(None))))
    client.step(server.step(choice(answer)))


def layers(client: Mechanism, server: Mechanism) -> tuple[SecurityLayer, SecurityLayer]:
    assert client.context
    assert server.context
    return SecurityLayer(client.context), SecurityLayer(server.context)


def delivered(sender: SecurityLayer, receiver: SecurityLayer, message: bytes) -> bytes:
    """Send a message; give what arrives."""
    for frame in sender.send_data(message):
        receiver.receive_data(frame)
    return drain(receiver)


# ---------------------------------------------------------------- what there is to offer


def subsets(names: Sequence[str]) -> list[str | None]:
    """All of them, as a directive has them, None for none."""
    return [
        ",".join(part) or None for n in range(len(names) + 1) for part in combinations(names, n)
    ]


EVERY_OFFER = list(product(subsets(QOPS), subsets(CIPHER_NAMES)))
