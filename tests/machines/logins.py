"""The logins that the machines try, by name, and what both sides have to agree on in the end."""

from __future__ import annotations

from collections.abc import Callable

from saslwrap import (
    DigestMD5Client,
    IntegrityError,
    ProtocolError,
    SecurityContext,
    SecurityProperties,
)
from saslwrap.testing import PROTECTIONS, MechanismPair
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME, mechanism_pair
from tests.gss_pairs import KERBEROS, gss_pair

#: Makes both sides of a new login; whether its client knows the password is the argument.
MakeLogin = Callable[[bool], MechanismPair]

ANY_LAYER = SecurityProperties(min_ssf=0, ciphers=("rc4", "3des", "rc4-56", "des", "rc4-40"))


def _digest_md5(protection: str) -> MakeLogin:
    def make(honest: bool) -> MechanismPair:
        client, server = mechanism_pair(protection)
        return MechanismPair(client if honest else _impostor(protection), server)

    return make


def _impostor(protection: str) -> DigestMD5Client:
    properties = SecurityProperties(min_ssf=0) if protection == "auth" else ANY_LAYER
    password = PASSWORD + "?"
    return DigestMD5Client(USERNAME, password, service="ldap", host=HOST, properties=properties)


def _ntlm(honest: bool) -> MechanismPair:
    return gss_pair("ntlm-128", client={} if honest else {"password": "guessed"})


def _kerberos(protection: str) -> MakeLogin:
    return lambda honest: gss_pair(protection)


DIGEST_MD5: dict[str, MakeLogin] = {name: _digest_md5(name) for name in ("auth", *PROTECTIONS)}
NTLM: dict[str, MakeLogin] = {"ntlm": _ntlm}
GSS: dict[str, MakeLogin] = {name: _kerberos(name) for name in KERBEROS}


def check_agreement(one: SecurityContext | None, another: SecurityContext | None) -> bool:
    """Try both directions: what is sealed comes out as it was, or not at all. Whether it came.

    What an attacker rewrote in the clear part of a login may leave contexts that do not fit. That
    has to be noticed.
    """
    if one is None or another is None:
        return one is another
    return all([_comes_through(one, another), _comes_through(another, one)])


def _comes_through(sender: SecurityContext, receiver: SecurityContext) -> bool:
    try:
        message = receiver.unseal(sender.seal(b"do we agree?"))
    except (IntegrityError, ProtocolError):
        return False
    assert message == b"do we agree?"
    return True
