"""A SASL security layer between a stream and the application.

Floors 0 to 2 and the mechanisms stand here. Shells, protocols, testing and the rest are imported by
name: `saslwrap.anyio`, `saslwrap.protocols.ldap`, `saslwrap.testing`.

What a login needs, mechanisms and exchanges, is loaded when it is first asked for. It takes longer
than all the rest, and a library that logs in only if it is told to should not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from saslwrap._version import __version__
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    NegotiationError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    SecurityStatus,
    TruncatedStreamError,
    UnacceptableSuccessError,
    UsageError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.properties import QOP, ChannelInfo, SecurityProperties, Sizes, StreamSizes

if TYPE_CHECKING:
    from saslwrap.exchange import (
        Done,
        Event,
        Exchange,
        NeedData,
        Send,
        Step,
        transport_survives,
    )
    from saslwrap.mechanism import ClientMechanism, ServerMechanism, choose_mechanism
    from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Secret, DigestMD5Server
    from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
    from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer

__all__ = [
    "QOP",
    "AuthenticationError",
    "Buffer",
    "ChannelInfo",
    "ClientMechanism",
    "ContextBusyError",
    "DigestMD5Client",
    "DigestMD5Secret",
    "DigestMD5Server",
    "Done",
    "Event",
    "Exchange",
    "FrameTooLargeError",
    "GSSAPIClient",
    "GSSAPIServer",
    "GSSSPNEGOClient",
    "GSSSPNEGOServer",
    "IntegrityError",
    "MalformedMessageError",
    "MechanismUnavailableError",
    "MutualAuthenticationError",
    "NeedData",
    "NegotiationError",
    "OutOfSequenceError",
    "ProtocolError",
    "SASLError",
    "SecurityContext",
    "SecurityLayer",
    "SecurityProperties",
    "SecurityStatus",
    "Send",
    "ServerMechanism",
    "Sizes",
    "Step",
    "StreamSizes",
    "TruncatedStreamError",
    "UnacceptableSuccessError",
    "UsageError",
    "__version__",
    "choose_mechanism",
    "transport_survives",
]

_LOGIN = {
    "ClientMechanism": "mechanism",
    "DigestMD5Client": "mechanisms.digest_md5",
    "DigestMD5Secret": "mechanisms.digest_md5",
    "DigestMD5Server": "mechanisms.digest_md5",
    "Done": "exchange",
    "Event": "exchange",
    "Exchange": "exchange",
    "GSSAPIClient": "mechanisms.gssapi",
    "GSSAPIServer": "mechanisms.gssapi",
    "GSSSPNEGOClient": "mechanisms.gss_spnego",
    "GSSSPNEGOServer": "mechanisms.gss_spnego",
    "NeedData": "exchange",
    "Send": "exchange",
    "ServerMechanism": "mechanism",
    "Step": "exchange",
    "choose_mechanism": "mechanism",
    "transport_survives": "exchange",
}

if not TYPE_CHECKING:  # to a checker every name would be there

    def __getattr__(name: str) -> object:
        if name not in _LOGIN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"saslwrap.{_LOGIN[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
