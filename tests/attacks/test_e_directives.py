"""Attack list, group E: messages too long, directives that stand twice, or that nobody knows."""

from __future__ import annotations

import pytest

from saslwrap.errors import MalformedMessageError, NegotiationError
from saslwrap.testing.pairs import HOST, REALM, properties_for
from tests.attacks.digest_peer import (
    NONCE,
    Role,
    Said,
    accepted,
    both_roles,
    challenge,
    heard,
    hostile,
    our_client,
    proof,
    refusal,
    told,
    victim,
    write,
)

# ---------------------------------------------------------------- E6: sizes


def sized(message: bytes, size: int) -> bytes:
    """Fill a message up, with a directive that nobody knows."""
    return message + b",x=" + b"a" * (size - len(message) - 3)


LIMITS: list[tuple[Role, int]] = [("client", 2048), ("server", 4096)]


@pytest.mark.parametrize(("role", "limit"), LIMITS)
def test_e6_message_just_under_the_limit_is_read(role: Role, limit: int) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:
    Guard: saslwrap/mechanisms/digest_md5/messages.py: RESPONSE_LIMIT = 4096
    """
    assert accepted(victim(role), sized(hostile(role), limit - 1))


@pytest.mark.parametrize("more", [0, 1, 1 << 20])
@pytest.mark.parametrize(("role", "limit"), LIMITS)
def test_e6_message_at_the_limit_is_refused_unread(role: Role, limit: int, more: int) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:
    Guard: saslwrap/mechanisms/digest_md5/messages.py: CHALLENGE_LIMIT = 2048
    """
    for message in (sized(hostile(role), limit + more), b"\0" * (limit + more)):
        refusal(victim(role), message, MalformedMessageError, f"over the limit of {limit - 1}$")


@pytest.mark.parametrize(("size", "fits"), [(2047, True), (2048, False)])
def test_e6_proof_has_the_limit_of_the_challenge(size: int, fits: bool) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:"""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    message = proof() + b"," * (size - len(proof()))
    if fits:
        client.step(message)
        assert client.complete
    else:
        refusal(client, message, MalformedMessageError, "over the limit of 2047$")


def test_e6_challenge_that_makes_our_response_too_long_is_not_answered() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: if len(response) >= RESPONSE_LIMIT:"""
    client = our_client(username="a" * 2300)
    refusal(client, challenge(nonce="n" * 1850), NegotiationError, "4095 are allowed")


# ---------------------------------------------------------------- E7: duplicates

#: What stands in each directive of a message, and another value that is good as well.
TWICE: dict[Role, dict[str, str]] = {
    "client": {
        "nonce": "other",
        "algorithm": "md5-sess",
        "qop": "auth-conf",
        "stale": "true",
        "maxbuf": "4096",
        "charset": "utf-8",
        "cipher": "3des",
    },
    "server": {
        "username": "bob",
        "realm": REALM,
        "nonce": NONCE,
        "cnonce": "other",
        "nc": "00000001",
        "qop": "auth-conf",
        "cipher": "rc4",
        "digest_uri": f"ldap/{HOST}",
        "response": "0" * 32,
        "maxbuf": "4096",
        "charset": "utf-8",
        "authzid": "u:bob",
    },
}
DUPLICATES = [(role, name) for role, names in TWICE.items() for name in names]
WHOLE: Said = {"maxbuf": b"65536", "stale": b"true", "authzid": "u:alice"}


@pytest.mark.parametrize("again", ["the same", "another", "in capitals"])
@pytest.mark.parametrize(("role", "name"), DUPLICATES)
def test_e7_directive_that_stands_twice_is_refused(role: Role, name: str, again: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(values) > 1:
    Guard: saslwrap/mechanisms/digest_md5/directives.py: .decode("latin-1").lower()
    Guard: saslwrap/mechanisms/digest_md5/messages.py: directives.one("stale")
    Guard: saslwrap/mechanisms/digest_md5/messages.py: _filled(directives, "username")
    Guard: saslwrap/mechanisms/digest_md5/messages.py: realm=directives.one("realm"),
    """
    message = hostile(role, **WHOLE)
    value = TWICE[role][name] if again == "another" else heard(message)[name]
    directive = write({name.upper() if again == "in capitals" else name: value})
    for twice in (message + b"," + directive, directive + b"," + message):
        refusal(victim(role), twice, MalformedMessageError, "stands 2 times")


def test_e7_proof_that_stands_twice_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(values) > 1:"""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    refusal(client, proof() + b"," + proof(), MalformedMessageError, "stands 2 times")


# ---------------------------------------------------------------- E15: unknown directives

UNKNOWN: Said = {
    "opaque": ["a", b"b", "a"],
    "domain": "c",
    "x": [b"1", b"1", 'nonce="x",qop="auth"'],
    "nonce2": "other",
    "noncee": "other",
    "auth_param": "",
    "rspauth": [b"0" * 32] * 2,
}


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@both_roles
def test_e15_unknown_directives_are_ignored(role: Role, first: bool) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: directives.setdefault(name, [])"""
    foreign: Said = (
        {"username": "bob", "cnonce": "x"} if role == "client" else {"algorithm": [b"x"] * 2}
    )
    parts = [hostile(role), write(UNKNOWN | foreign)]
    message = b",".join(reversed(parts) if first else parts)
    plain, other = victim(role), victim(role)
    assert told(other, message) == told(plain, hostile(role))
