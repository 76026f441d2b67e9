"""What the tests of DIGEST-MD5's server share."""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanisms.digest_md5 import DigestMD5Secret, DigestMD5Server
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from tests.vectors.reference import Login

LOGIN = Login()

ANYTHING = SecurityProperties(min_ssf=0, ciphers=CIPHER_NAMES)

INT = Login(qop="auth-int", cipher=None)

AUTH = Login(qop="auth", cipher=None)


def make(login: Login = LOGIN, **changes: Any) -> DigestMD5Server:
    """A server that knows one user, and lets clients choose from everything."""

    def get_secret(username: str, realm: str) -> str | None:
        return login.password if (username, realm) == (login.username, login.realm or "") else None

    arguments: dict[str, Any] = {
        "get_secret": get_secret,
        "service": "ldap",
        "host": "localhost",
        "realms": ["example.com"],
        "properties": ANYTHING,
        "generate_nonce": lambda: login.nonce,
    }
    return DigestMD5Server(**arguments | changes)


def asked(message: bytes = LOGIN.message(), **changes: Any) -> DigestMD5Server:
    """Give a response to a server that has sent its challenge."""
    server = make(**changes)
    server.step(None)
    server.step(message)
    return server


def offered(**changes: Any) -> dict[str, list[bytes]]:
    challenge = make(**changes).step(None)
    assert challenge is not None
    directives = parse_directives(challenge, 2048)
    return {name: directives.all(name) for name in directives}


def refused(
    message: bytes, kind: type[SASLError], text: str | None = None, **changes: Any
) -> SASLError:
    server = make(**changes)
    server.step(None)
    with pytest.raises(kind, match=text) as caught:
        server.step(message)
    assert type(caught.value) is kind
    assert not server.complete
    assert (server.authcid, server.realm, server.authzid) == (None, None, None)
    with pytest.raises(UsageError):
        _ = server.context
    return caught.value


STORED = DigestMD5Secret(LOGIN.urp)

IDENTITIES = [
    ("J\xfcrgen", "m\xfcller", "p\xe4ss"),
    ("J\xfcrgen", "realm", "\u043f\u0430\u0440"),
    ("\u0418\u0432\u0430\u043d", "m\xfcller", "p\xe4ss"),
]
