"""The asyncio shell: a layer slides under a running Transport and Protocol.

    before      transport  <->  Protocol
    after       transport  <->  Wire  <->  SASLTransport  <->  Protocol

`start_sasl` has the shape of `loop.start_tls`: it takes the transport from its protocol, and gives
a new one for the application to use from then on. There is no handshake, so nothing is awaited;
octets that were already read past the login are handed in as `received`. Nothing can keep others
from the transport below, which is not ours: what they write to it goes out in clear.

Outbound, `write` seals at once; what is written in a turn of the loop goes to the transport below
in one buffer, as the turn ends or before (see `outbox`). Write limits, `pause_writing` and `drain`
are those below, in octets of the wire. After the end `write` does nothing, as below; after a layer
failed it raises that.

Inbound, all is the wire's: what the application hears, and in which order, is told in `wire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from saslwrap.asyncio.wire import AppProtocol, Wire
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import ProtocolError, SASLError, UsageError, require_kind
from saslwrap.layer import SecurityLayer, next_layer

__all__ = ["SASLTransport", "has_layer", "slide_under", "start_sasl"]


def start_sasl(
    transport: asyncio.Transport,
    protocol: AppProtocol,
    context: SecurityContext,
    *,
    received: Buffer = b"",
) -> SASLTransport:
    """Slide a security layer between a transport and a protocol (compare `loop.start_tls`).

    :param transport: a connected transport, of asyncio or uvloop, over TLS too; what is written to
        it afterwards would go out in clear, and nothing refuses it
    :param protocol: gets the plaintext; `connection_made` is not called, so tell it its transport
    :param context: of a login that is complete
    :param received: octets that were read past the login's end: ciphertext
    :raises UsageError: the transport is closing, has a layer already, or has plaintext queued; the
        context is closed, or has a layer already; the protocol is of another kind
    """
    return slide_under(transport, protocol, context, received)


def slide_under(
    transport: asyncio.Transport,
    protocol: AppProtocol,
    context: SecurityContext,
    received: Buffer,
    *,
    queue_is_ours: bool = False,
) -> SASLTransport:
    """As `start_sasl`.

    :param queue_is_ours: what is queued is the login's own last message, which goes out first
    """
    _check_protocol(protocol)
    if transport.is_closing():
        raise UsageError("the transport is closing; connect anew")
    if has_layer(transport):
        raise UsageError("the transport has a security layer; its `rebind` takes another one")
    if not queue_is_ours and (queued := transport.get_write_buffer_size()):
        raise UsageError(
            f"{queued} octets are queued in the transport, in clear; wait until its "
            "get_write_buffer_size() is 0 before the layer starts"
        )
    layer = SecurityLayer(context)
    layer.receive_data(received)
    sealed = SASLTransport(transport, layer, protocol)
    sealed._wire.start()
    return sealed


def _check_protocol(protocol: object) -> None:
    wanted = "an asyncio.Protocol or an asyncio.BufferedProtocol"
    require_kind("protocol", protocol, AppProtocol, wanted)


def has_layer(transport: asyncio.BaseTransport) -> bool:
    """Whether it is sealed, or has a layer above that would not see what is written to it."""
    return isinstance(transport, SASLTransport) or isinstance(transport.get_protocol(), Wire)


class SASLTransport(asyncio.Transport):
    """What the application writes to. Made by `start_sasl`.

    `get_extra_info("sasl")` is the security context; all else is the transport's below.
    """

    def __init__(
        self, transport: asyncio.Transport, layer: SecurityLayer, protocol: AppProtocol
    ) -> None:
        super().__init__()
        self._wire: Final = Wire(transport, layer, protocol, above=self)
        self._eof_written = False

    def write(self, data: Buffer) -> None:
        """Seal, and send when this turn of the loop ends, or before.

        :raises SASLError: the layer has failed
        :raises RuntimeError: after `write_eof`, as in any transport
        """
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        wire = self._wire
        if wire.is_closing() and not wire.layer.context.failed:
            return
        try:
            frames = wire.layer.send_data(data)
        except SASLError as error:
            self._end_by(error)
            raise
        finally:
            data = b""  # no traceback is to show it
        if frames:
            wire.outbox.put(b"".join(frames))

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Write them as one."""
        try:
            self.write(b"".join(list_of_data))
        finally:
            list_of_data = ()

    def write_eof(self) -> None:
        """Close the sending direction below; SASL has no message for it."""
        self._wire.outbox.flush()
        self._wire.transport.write_eof()
        self._eof_written = True

    def can_write_eof(self) -> bool:
        """Whether the transport below can."""
        return self._wire.transport.can_write_eof()

    def close(self) -> None:
        """Send what is queued, then close; `connection_lost(None)` follows."""
        self._wire.close()

    def abort(self) -> None:
        """Close at once, and drop what is queued."""
        self._wire.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._wire.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing more, and read nothing more."""
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, starting soon with what has arrived."""
        self._wire.resume_reading()

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return self._wire.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the transport below, in octets of the wire; with 1 no write waits.

        Nor does one with 0, but TLS, of asyncio and of uvloop, pauses a protocol where its limit is
        reached: at 0 while nothing is queued, and `StreamWriter.drain` may wait for ever.
        """
        self._wire.transport.set_write_buffer_limits(high, low)
        self._wire.outbox.limits_changed()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Get the limits of the transport below."""
        return self._wire.transport.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """How much is queued below, in octets of the wire; no write waits any longer."""
        self._wire.outbox.flush()
        return self._wire.transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell about the connection; `"sasl"` is the security context."""
        if name == "sasl":
            return self._wire.layer.context
        return self._wire.transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on.

        :raises UsageError: it is none that takes data
        """
        _check_protocol(protocol)
        self._wire.protocol = cast("AppProtocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Get the protocol that is delivered to."""
        return self._wire.protocol

    def rebind(self, context: SecurityContext, *, trailing_data: bytes = b"") -> None:
        """Replace the layer, after a login under it that brought another (RFC 4422 section 3.8).

        Frames that arrived and are not delivered yet are the new layer's: log in `one_by_one`, so
        that none of them is taken for the old one's.

        :param trailing_data: what was read past the login's end
        :raises ProtocolError: that is data in the old layer, where the new one had to begin
        """
        try:
            if self._wire.undelivered:  # of the frame that a BufferedProtocol is taking
                raise ProtocolError("the peer sent data in the old layer after the login")
            self._wire.layer = next_layer(self._wire.layer, context, trailing_data)
        except SASLError as error:
            self._end_by(error)
            raise
        self._wire.loop.call_soon(self._wire.pump)

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Pause after each frame: while a login under this layer decides what the next is under."""
        self._wire.one_by_one = True
        try:
            yield
        finally:
            self._wire.one_by_one = False
            self.resume_reading()

    def _end_by(self, error: SASLError) -> None:
        """End the connection, unless it is the caller who is at fault."""
        if not isinstance(error, UsageError):
            self._wire.fail(error.fresh())  # the original's traceback holds plaintext

    def __repr__(self) -> str:
        return f"<SASLTransport {self._wire.layer!r} over {self._wire.transport!r}>"
