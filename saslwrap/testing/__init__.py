"""What those need who test a client or a server that seals, and what our own tests run on."""

from saslwrap.testing._processes import StartError
from saslwrap.testing.checks import (
    check_byte_stream,
    check_exchange,
    check_mechanism_pair,
    check_security_context,
)
from saslwrap.testing.faults import (
    SEGMENTATIONS,
    AtOnce,
    Chain,
    Cut,
    Fault,
    FaultyStream,
    FlipBit,
    OneOctet,
    RandomSizes,
    SplitHeaders,
    segmentation,
)
from saslwrap.testing.ldap import LDAPServer
from saslwrap.testing.pairs import (
    PROTECTIONS,
    ContextPair,
    LayerPair,
    MechanismPair,
    connect_mechanisms,
    context_pair,
    layer_pair,
    mechanism_pair,
)
from saslwrap.testing.quirks import CYRUS, JDK, MICROSOFT, STRICT, Quirks
from saslwrap.testing.realm import Realm, TicketError
from saslwrap.testing.sockets import SocketPair, authenticated_sockets
from saslwrap.testing.streams import (
    MemoryStream,
    StreamPair,
    authenticated_streams,
    memory_stream_pair,
    stream_pair,
)

__all__ = [
    "CYRUS",
    "JDK",
    "MICROSOFT",
    "PROTECTIONS",
    "SEGMENTATIONS",
    "STRICT",
    "AtOnce",
    "Chain",
    "ContextPair",
    "Cut",
    "Fault",
    "FaultyStream",
    "FlipBit",
    "LDAPServer",
    "LayerPair",
    "MechanismPair",
    "MemoryStream",
    "OneOctet",
    "Quirks",
    "RandomSizes",
    "Realm",
    "SocketPair",
    "SplitHeaders",
    "StartError",
    "StreamPair",
    "TicketError",
    "authenticated_sockets",
    "authenticated_streams",
    "check_byte_stream",
    "check_exchange",
    "check_mechanism_pair",
    "check_security_context",
    "connect_mechanisms",
    "context_pair",
    "layer_pair",
    "mechanism_pair",
    "memory_stream_pair",
    "segmentation",
    "stream_pair",
]
