"""The asyncio shell: a security layer under transports and protocols, and under stream pairs."""

from saslwrap.asyncio.login import authenticate_transport
from saslwrap.asyncio.streams import (
    authenticate_streams,
    open_connection,
    start_sasl_streams,
    start_server,
)
from saslwrap.asyncio.transport import SASLTransport, start_sasl

__all__ = [
    "SASLTransport",
    "authenticate_streams",
    "authenticate_transport",
    "open_connection",
    "start_sasl",
    "start_sasl_streams",
    "start_server",
]
