"""A login over a transport whose protocol is somebody else's, as client libraries have them.

    before       transport  <->  Protocol
    the login    transport  <->  Bridge
    after        transport  <->  Wire  <->  SASLTransport  <->  Protocol

The bridge takes the protocol's place and hears what it would: data, flow control, the end. What it
holds when it leaves is the protocol's next data; and the end, if it came, is told then. Flow
control goes on to the protocol at once: a transport that paused it before the login may resume it
meanwhile, and does not say so again.
"""

from __future__ import annotations

import asyncio
from typing import Final

from saslwrap.asyncio.drive import drive
from saslwrap.asyncio.transport import has_layer, slide_under
from saslwrap.context import Buffer
from saslwrap.errors import UsageError, require_kind
from saslwrap.exchange import Exchange, check_kind
from saslwrap.mechanisms.channel_binding import channel_info

__all__ = ["authenticate_transport"]


async def authenticate_transport(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    exchange: Exchange,
    *,
    received: Buffer = b"",
) -> asyncio.Transport:
    """Log in over a transport that a protocol has; give the transport for it to go on with.

    That is a `SASLTransport`, or the same one if the login brought no layer. What is written to the
    old one below a layer would go out in clear, and nothing refuses it. The protocol hears of
    nothing but flow control while the login runs, and `connection_made` is not called again: tell
    it its transport.

    After a login that was refused in good form the protocol has its transport back, in clear. After
    anything else the transport is aborted: a peer that broke the protocol or did not prove itself,
    a cancellation.

    :param transport: a connected transport of asyncio or uvloop, over TLS too
    :param protocol: the one that the transport has
    :param exchange: how the application protocol carries the login
    :param received: octets of the login that the protocol was given already
    :raises AuthenticationError: the login was refused, or the peer did not prove itself
    :raises NegotiationError: policy and offer do not meet
    :raises ProtocolError: the peer broke the protocol, or closed the connection
    :raises UsageError: the transport is closing, or has a layer already; the exchange, or its
        mechanism, was used before; the protocol is of another kind
    :raises OSError: the transport broke
    """
    require_kind("protocol", protocol, asyncio.Protocol, "an asyncio.Protocol")
    if has_layer(transport) or transport.is_closing():
        raise UsageError("the transport has a security layer, or is closing; connect anew")
    check_kind(exchange, Exchange)
    exchange.begin(received)
    bridge = _Bridge(transport, protocol)
    rest = b""
    try:
        exchange.bind_channel(channel_info(transport.get_extra_info("ssl_object")))
        await drive(bridge, exchange, bridge.read)
        rest = bridge.switch(exchange)
        if (more := exchange.follow_up()) is not None:
            await drive(bridge, more, bridge.read)
            rest = more.trailing_data
    except BaseException as error:
        if exchange.leaves_usable(error):
            rest = exchange.trailing_data
        else:
            exchange.abandon()
            bridge.abort()
        raise
    finally:
        bridge.leave(rest)
    return bridge.transport


class _Bridge(asyncio.Protocol):
    """Has the transport while a login runs. It reads one chunk at a time, as it is asked."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self.transport = transport
        self._protocol: Final = protocol
        self._received = bytearray()
        self._ended = False
        self._end: tuple[Exception | None] | None = None
        self._news: Final = asyncio.Event()
        self._writable: Final = asyncio.Event()
        self._writable.set()
        self._was_reading = transport.is_reading()
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        self._ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end = (exc,)
        self._writable.set()
        self.eof_received()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._writable.set()
        self._protocol.resume_writing()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    async def read(self) -> bytes:
        """Give what came, `b""` at the end.

        :raises OSError: the connection broke
        """
        self._resume()
        while not (self._received or self._ended):
            self._news.clear()
            await self._news.wait()
        if not self._received and self._end and self._end[0]:
            raise self._end[0]
        return self._take()

    def switch(self, exchange: Exchange) -> bytes:
        """Put the layer below; give what follows the login in clear, where there is none."""
        rest = exchange.trailing_data + self._take()
        if exchange.context is None:
            return rest
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was lost during the login")
        self.transport = slide_under(
            self.transport, self, exchange.context, rest, queue_is_ours=True
        )
        return b""

    def leave(self, rest: bytes) -> None:
        """Give the transport back to the protocol, with all that was held back."""
        rest += self._take()
        self.transport.set_protocol(self._protocol)
        if rest:
            self._protocol.data_received(rest)
        if self._end is not None:
            self._protocol.connection_lost(*self._end)
        elif self._was_reading:
            self._resume()

    def abort(self) -> None:
        """Close at once; what came is nobody's."""
        self._received.clear()
        self.transport.abort()

    def _resume(self) -> None:
        if not self.transport.is_closing():  # uvloop would complain
            self.transport.resume_reading()

    def _take(self) -> bytes:
        data = bytes(self._received)
        self._received.clear()
        return data
