"""What a guard is, and the files that guards stand in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Guard"]

ANYIO = "saslwrap/anyio/stream.py"
CIPHERS = "saslwrap/mechanisms/digest_md5/ciphers.py"
CLIENT = "saslwrap/mechanisms/digest_md5/client.py"
CONTEXT = "saslwrap/context.py"
DIRECTIVES = "saslwrap/mechanisms/digest_md5/directives.py"
ERRORS = "saslwrap/errors.py"
EXCHANGE = "saslwrap/exchange.py"
FRAMING = "saslwrap/framing.py"
KEYS = "saslwrap/mechanisms/digest_md5/keys.py"
LAYER = "saslwrap/layer.py"
LDAP = "saslwrap/protocols/ldap.py"
MECHANISM = "saslwrap/mechanism.py"
MESSAGES = "saslwrap/mechanisms/digest_md5/messages.py"
NAMES = "saslwrap/mechanisms/names.py"
NEGOTIATION = "saslwrap/mechanisms/digest_md5/negotiation.py"
PROPERTIES = "saslwrap/properties.py"
SERVER = "saslwrap/mechanisms/digest_md5/server.py"
SYNC = "saslwrap/sync/socket.py"
TOKENS = "saslwrap/mechanisms/digest_md5/context.py"
TRANSPORT = "saslwrap/asyncio/transport.py"
WIRE = "saslwrap/asyncio/wire.py"


@dataclass(frozen=True)
class Guard:
    """Some source that stops an attack, and the source without it."""

    file: str
    source: str
    without: str
