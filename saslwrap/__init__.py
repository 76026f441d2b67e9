"""A SASL security layer between a stream and the application.

Floors 0 to 2 and the mechanisms stand here. Shells, protocols, testing and the rest are imported by
name: `saslwrap.anyio`, `saslwrap.protocols.ldap`, `saslwrap.testing`.
"""

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
    UsageError,
)
from saslwrap.exchange import (
    Done,
    Event,
    Exchange,
    NeedData,
    Send,
    Step,
    transport_survives,
)
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ClientMechanism, ServerMechanism, choose_mechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Secret, DigestMD5Server
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from saslwrap.properties import QOP, ChannelInfo, SecurityProperties, Sizes, StreamSizes

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
    "UsageError",
    "__version__",
    "choose_mechanism",
    "transport_survives",
]
