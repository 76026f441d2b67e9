"""Two ends of one login, connected in memory: mechanisms, contexts, layers.

Every pair is made by a real login; nothing in it is a stand-in. By the name of a protection it is
one with DIGEST-MD5, and with a `seed` the nonces are the same each time, and so is every octet that
is sealed: for golden tests only. Other mechanisms come as a `MechanismPair`:

    context_pair(MechanismPair(GSSAPIClient(...), GSSAPIServer(...)))
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from saslwrap.context import SecurityContext
from saslwrap.errors import UsageError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import CIPHER_NAMES, SecurityProperties

__all__ = [
    "DEFAULT_MAXBUF",
    "HOST",
    "PASSWORD",
    "PROTECTIONS",
    "REALM",
    "USERNAME",
    "ContextPair",
    "LayerPair",
    "MechanismPair",
    "connect_mechanisms",
    "context_pair",
    "get_secret",
    "layer_pair",
    "mechanism_pair",
    "properties_for",
]

USERNAME = "alice"
PASSWORD = "s3cret-Pa55"  # noqa: S105 - nobody's
REALM = "example.com"
HOST = "localhost"

#: What either side can receive, in octets, unless it is said.
DEFAULT_MAXBUF = 65536

#: Every layer of DIGEST-MD5: auth-int, and auth-conf by the name of its cipher.
PROTECTIONS = ("auth-int", *CIPHER_NAMES)
_NAMES: Final = ", ".join(PROTECTIONS)


class MechanismPair(NamedTuple):
    """Both sides of a login."""

    client: ClientMechanism
    server: ServerMechanism


class ContextPair(NamedTuple):
    """Both ends' contexts: what one seals the other unseals."""

    client: SecurityContext
    server: SecurityContext


class LayerPair(NamedTuple):
    """Both ends' layers."""

    client: SecurityLayer
    server: SecurityLayer


def properties_for(
    protection: str | SecurityProperties, *, max_buffer: int = 65536
) -> SecurityProperties:
    """Ask for exactly one protection, or for what properties say, with another maxbuf.

    :param protection: `"auth"`, `"auth-int"`, or the name of a cipher of auth-conf; or properties
    :raises UsageError: it is none of these
    """
    if isinstance(protection, SecurityProperties):
        return replace(protection, max_buffer=max_buffer)
    if protection not in ("auth", *PROTECTIONS):
        raise UsageError(f"protection is one of auth, {_NAMES}, or properties; not {protection!r}")
    if protection in ("auth", "auth-int"):
        ssf = int(protection == "auth-int")
        return SecurityProperties(min_ssf=ssf, max_ssf=ssf, max_buffer=max_buffer)
    return SecurityProperties(min_ssf=2, ciphers=(protection,), max_buffer=max_buffer)


def get_secret(username: str, realm: str) -> str | None:
    """Know `USERNAME` of `REALM` and nobody else: the user table of every pair."""
    return PASSWORD if (username, realm) == (USERNAME, REALM) else None


def mechanism_pair(
    protection: str | SecurityProperties = "rc4",
    *,
    offer: str | SecurityProperties | None = None,
    client_maxbuf: int = DEFAULT_MAXBUF,
    server_maxbuf: int = DEFAULT_MAXBUF,
    authzid: str | None = None,
    service: str = "ldap",
    seed: int | None = None,
) -> MechanismPair:
    """Make both sides of a DIGEST-MD5 login; no step is taken yet.

    :param protection: what the client wants: `"auth"`, one of `PROTECTIONS`, or properties
    :param offer: what the server offers, None for the same
    :param client_maxbuf: what the client can receive, in octets
    :param server_maxbuf: what the server can receive, in octets
    :param authzid: on whose behalf the client logs in, None for itself
    :param service: IANA service name
    :param seed: makes the nonces the same each time
    """
    offer = protection if offer is None else offer
    return MechanismPair(
        DigestMD5Client(
            USERNAME,
            PASSWORD,
            service=service,
            host=HOST,
            authzid=authzid,
            properties=properties_for(protection, max_buffer=client_maxbuf),
            generate_cnonce=_nonces(seed, "client"),
        ),
        DigestMD5Server(
            get_secret,
            service=service,
            host=HOST,
            realms=[REALM],
            properties=properties_for(offer, max_buffer=server_maxbuf),
            generate_nonce=_nonces(seed, "server"),
        ),
    )


def connect_mechanisms(client: ClientMechanism, server: ServerMechanism) -> None:
    """Let two mechanisms log in to each other, until both are complete.

    :raises SASLError: what either side raised
    """
    to_server = client.step(None)
    while not (client.complete and server.complete):
        to_client = server.step(to_server)
        to_server = None if to_client is None else client.step(to_client)


def context_pair(
    protection: str | SecurityProperties | MechanismPair = "rc4",
    *,
    client_maxbuf: int = DEFAULT_MAXBUF,
    server_maxbuf: int = DEFAULT_MAXBUF,
    seed: int | None = None,
) -> ContextPair:
    """Log in and give both contexts.

    :param protection: one of `PROTECTIONS`, or properties; or both sides of a login of any
        mechanism, which have their own maxbuf
    :param client_maxbuf: what the client can receive, in octets
    :param server_maxbuf: what the server can receive, in octets
    :param seed: makes every sealed octet the same each time
    :raises UsageError: the login brings no layer; or a ready pair is to get a maxbuf or a seed,
        was used before, or is none
    :raises SASLError: what either side raised
    """
    if isinstance(protection, str | SecurityProperties):
        pair = mechanism_pair(
            protection, client_maxbuf=client_maxbuf, server_maxbuf=server_maxbuf, seed=seed
        )
    else:
        _leave_as_it_is(client_maxbuf, server_maxbuf, seed)
        pair = _both_sides(protection)
    return _contexts_of(pair)


def _both_sides(pair: object) -> MechanismPair:
    match pair:
        case (ClientMechanism() as client, ServerMechanism() as server):
            if client.complete or server.complete:
                raise UsageError("a mechanism logs in once: make both sides of the pair anew")
            return MechanismPair(client, server)
    raise UsageError(
        f"a pair is made by one of {_NAMES}, by properties, or by both sides of a login, "
        f"MechanismPair(client, server); not by {type(pair).__name__}"
    )


def _leave_as_it_is(client_maxbuf: int, server_maxbuf: int, seed: int | None) -> None:
    if (client_maxbuf, server_maxbuf, seed) != (DEFAULT_MAXBUF, DEFAULT_MAXBUF, None):
        raise UsageError(
            "a ready pair has its own maxbuf and nonces: give client_maxbuf, server_maxbuf and "
            "seed to mechanism_pair, or their like to the mechanisms"
        )


def _contexts_of(pair: MechanismPair) -> ContextPair:
    client, server = pair
    connect_mechanisms(client, server)
    if client.context is None or server.context is None:
        raise UsageError(
            f"this login with {client.name} brings no layer; ask for one, with DIGEST-MD5 by one "
            f"of {_NAMES}"
        )
    return ContextPair(client.context, server.context)


def layer_pair(
    protection: str | SecurityProperties | MechanismPair = "rc4",
    *,
    client_maxbuf: int = DEFAULT_MAXBUF,
    server_maxbuf: int = DEFAULT_MAXBUF,
    seed: int | None = None,
) -> LayerPair:
    """Log in and give both layers; as `context_pair`."""
    contexts = context_pair(
        protection, client_maxbuf=client_maxbuf, server_maxbuf=server_maxbuf, seed=seed
    )
    return LayerPair(SecurityLayer(contexts.client), SecurityLayer(contexts.server))


def _nonces(seed: int | None, side: str) -> Callable[[], str]:
    if seed is None:
        return secrets.token_urlsafe
    source = random.Random(f"{side} {seed}")  # noqa: S311 - repeatable is what it is for
    return lambda: source.randbytes(24).hex()
