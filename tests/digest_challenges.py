"""What the tests of DIGEST-MD5's client share."""

from __future__ import annotations

from typing import Any

from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from tests.vectors.reference import Login

LOGIN = Login()

ANYTHING = SecurityProperties(min_ssf=0, ciphers=CIPHER_NAMES)

AUTH_ONLY = SecurityProperties(min_ssf=0, max_ssf=0)

JDK_ORDER = ("3des", "rc4", "des", "rc4-56", "rc4-40")


def make(**changes: Any) -> DigestMD5Client:
    arguments: dict[str, Any] = {
        "username": LOGIN.username,
        "password": LOGIN.password,
        "service": "ldap",
        "host": "localhost",
        "generate_cnonce": lambda: LOGIN.cnonce,
    }
    return DigestMD5Client(**arguments | changes)


def answer(client: DigestMD5Client, challenge: bytes) -> dict[str, bytes]:
    """The response's directives; each stands once."""
    response = client.step(challenge)
    assert response is not None
    directives = parse_directives(response, 4096)
    return {name: directives.required(name) for name in directives}


def said(challenge: bytes = LOGIN.challenge(), **changes: Any) -> dict[str, bytes]:
    return answer(make(**changes), challenge)
