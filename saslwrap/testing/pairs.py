"""Two ends of one login, connected in memory: mechanisms, contexts, layers.

Every pair is made by a real DIGEST-MD5 login; nothing in it is a stand-in. With a `seed` the nonces
are the same each time, and so is every octet that is sealed: for golden tests only.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import NamedTuple

from saslwrap.context import SecurityContext
from saslwrap.errors import UsageError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import CIPHER_NAMES, SecurityProperties

__all__ = [
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

#: Every layer of DIGEST-MD5: auth-int, and auth-conf by the name of its cipher.
PROTECTIONS = ("auth-int", *CIPHER_NAMES)


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


def properties_for(protection: str, *, max_buffer: int = 65536) -> SecurityProperties:
    """Ask for exactly one protection.

    :param protection: `"auth"`, `"auth-int"`, or the name of a cipher of auth-conf
    """
    if protection in ("auth", "auth-int"):
        ssf = int(protection == "auth-int")
        return SecurityProperties(min_ssf=ssf, max_ssf=ssf, max_buffer=max_buffer)
    return SecurityProperties(min_ssf=2, ciphers=(protection,), max_buffer=max_buffer)


def get_secret(username: str, realm: str) -> str | None:
    """Know `USERNAME` of `REALM` and nobody else: the user table of every pair."""
    return PASSWORD if (username, realm) == (USERNAME, REALM) else None


def mechanism_pair(
    protection: str = "rc4",
    *,
    client_maxbuf: int = 65536,
    server_maxbuf: int = 65536,
    service: str = "ldap",
    seed: int | None = None,
) -> MechanismPair:
    """Make both sides of a DIGEST-MD5 login; no step is taken yet."""
    return MechanismPair(
        DigestMD5Client(
            USERNAME,
            PASSWORD,
            service=service,
            host=HOST,
            properties=properties_for(protection, max_buffer=client_maxbuf),
            generate_cnonce=_nonces(seed, "client"),
        ),
        DigestMD5Server(
            get_secret,
            service=service,
            host=HOST,
            realms=[REALM],
            properties=properties_for(protection, max_buffer=server_maxbuf),
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
    protection: str = "rc4",
    *,
    client_maxbuf: int = 65536,
    server_maxbuf: int = 65536,
    seed: int | None = None,
) -> ContextPair:
    """Log in and give both contexts.

    :param protection: one of `PROTECTIONS`
    :param client_maxbuf: what the client can receive, in octets
    :param server_maxbuf: what the server can receive, in octets
    """
    client, server = mechanism_pair(
        protection, client_maxbuf=client_maxbuf, server_maxbuf=server_maxbuf, seed=seed
    )
    connect_mechanisms(client, server)
    if client.context is None or server.context is None:
        raise UsageError(f"{protection!r} brings no layer; take one of {', '.join(PROTECTIONS)}")
    return ContextPair(client.context, server.context)


def layer_pair(
    protection: str = "rc4",
    *,
    client_maxbuf: int = 65536,
    server_maxbuf: int = 65536,
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
