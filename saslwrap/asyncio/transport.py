"""The asyncio shell: a layer slides under a running Transport and Protocol.

    before      transport  <->  Protocol
    after       transport  <->  Wire  <->  SASLTransport  <->  Protocol

`start_sasl` has the shape of `loop.start_tls`: it takes the transport from its protocol, and gives
a new one for the application to use from then on. There is no handshake, so nothing is awaited;
octets that were already read past the login are handed in as `received`.

The application's life, as it sees it, each line at most once but those in ( )*:

    ( data_received | pause_writing | resume_writing )*  [eof_received]  connection_lost

`connection_made` is never called: it was, by the transport below. `connection_lost` gets the
`SASLError` where the layer failed, after the plaintext of all frames before it was delivered.

Outbound, `write` seals at once; what is written in a turn of the loop goes to the transport below
in one buffer, as the turn ends or before (see `outbox`). Write limits, `pause_writing` and `drain`
are those below, in octets of the wire. After the end `write` does nothing, as below; after a layer
failed it raises that.

Inbound, frames are unsealed and delivered one by one; a `StreamReader`, which does not care for
their borders, gets small ones together. `pause_reading` stops both this and the transport below,
so a reader that pauses holds one chunk of ciphertext at the most. TLS cannot be half closed: there
a peer's end ends the transport below, and an application that pauses hears of it when it resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from saslwrap.asyncio.outbox import Outbox
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import ProtocolError, SASLError, UsageError
from saslwrap.layer import SecurityLayer, next_layer
from saslwrap.properties import MAX_MAXBUF

__all__ = ["AppProtocol", "SASLTransport", "Wire", "slide_under", "start_sasl"]

AppProtocol: TypeAlias = asyncio.Protocol | asyncio.BufferedProtocol


def start_sasl(
    transport: asyncio.Transport,
    protocol: AppProtocol,
    context: SecurityContext,
    *,
    received: Buffer = b"",
) -> SASLTransport:
    """Slide a security layer between a transport and a protocol (compare `loop.start_tls`).

    :param transport: a connected transport, of asyncio or uvloop, over TLS too
    :param protocol: gets the plaintext; `connection_made` is not called, so tell it its transport
    :param context: of a login that is complete
    :param received: octets that were read past the login's end: ciphertext
    :raises UsageError: the transport is closing, has a layer already, or has plaintext queued
    """
    return slide_under(transport, protocol, context, received).above


def slide_under(
    transport: asyncio.Transport,
    protocol: AppProtocol,
    context: SecurityContext,
    received: Buffer,
    *,
    queue_is_ours: bool = False,
) -> Wire:
    """As `start_sasl`.

    :param queue_is_ours: what is queued is the login's own last message, which goes out first
    """
    if transport.is_closing():
        raise UsageError("the transport is closing; connect anew")
    if has_layer(transport):
        raise UsageError("the transport has a security layer; its `rebind` takes another one")
    if not queue_is_ours and (queued := transport.get_write_buffer_size()):
        raise UsageError(
            f"{queued} octets are queued in the transport, in clear; wait until its "
            "get_write_buffer_size() is 0 before the layer starts"
        )
    wire = Wire(transport, SecurityLayer(context), protocol)
    wire.layer.receive_data(received)
    transport.set_protocol(wire)
    wire.loop.call_soon(wire.pump)
    return wire


def has_layer(transport: asyncio.Transport) -> bool:
    """Whether it is sealed, or has a layer above that would not see what is written to it."""
    return isinstance(transport, SASLTransport) or isinstance(transport.get_protocol(), Wire)


class Wire(asyncio.Protocol):
    """Faces the transport below, and delivers plaintext above.

    :ivar former: protocols that had the transport before, and wait to hear of its end
    :ivar kept: what must not be collected while the transport lives
    :ivar one_by_one: pause after each frame, while a login decides what the next one is under
    :ivar closing: this side ended the connection, or it broke: nothing more is delivered
    """

    def __init__(
        self, transport: asyncio.Transport, layer: SecurityLayer, protocol: AppProtocol
    ) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.transport: Final = transport
        self.outbox: Final = Outbox(transport, self.loop)
        self.above: Final = SASLTransport(self)
        self.layer = layer
        self.protocol = protocol
        self.paused: bool = not transport.is_reading()
        self.one_by_one: bool = False
        self.closing: bool = False
        self.former: list[asyncio.BaseProtocol] = []
        self.kept: list[object] = []
        self.undelivered: int = 0
        self._error: Exception | None = None
        self._on_end: Exception | None = None
        self._pumping = self._eof_delivered = False
        self._lost = self._told = False  # below, above

    # what the transport calls

    def data_received(self, data: bytes) -> None:
        self.outbox.at_once = True
        self.layer.receive_data(data)
        self.pump()

    def eof_received(self) -> bool:
        """Pass it on in its turn. True: the transport stays open; `_tell_eof` may close it."""
        self.layer.receive_eof()
        self.pump()
        return not self._over_tls  # which cannot be half closed

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on: the peer's end after what came before it, anything else at once."""
        self._lost = True
        ragged = exc is None and not (self.closing or self.layer.ended) and self._over_tls
        if exc is not None or (self.paused and not (ragged or self.layer.ended)):
            self._error, self.closing = self._error or exc, True
        self.layer.receive_eof()
        if ragged:  # uvloop drops what TLS still held, and says nothing: this is no clean end
            self._eof_delivered = True
            self._on_end = ConnectionResetError("TLS ended without its closing message")
        try:
            self.pump()
        finally:
            for protocol in self.former:
                protocol.connection_lost(exc)
            self.former.clear()
            self.kept.clear()

    @property
    def _over_tls(self) -> bool:
        return self.transport.get_extra_info("sslcontext") is not None

    def close(self) -> None:
        """Send what is queued, then close. Once only: TLS would forget its session."""
        self.closing = True
        self.outbox.flush()
        if not self.transport.is_closing():
            self.transport.close()
        self.loop.call_soon(self.pump)

    def abort(self) -> None:
        """Close at once. Not when it is lost: asyncio's own may raise then."""
        self.closing = True
        self.outbox.flush()
        if not self._lost:
            self.transport.abort()
        self.loop.call_soon(self.pump)

    def fail(self, error: Exception) -> None:
        """Close at once; `connection_lost` gets `error`, if it is the first."""
        self._error = self._error or error
        self.abort()

    # what goes up

    def pump(self) -> None:
        """Deliver what is there, while the application wants it."""
        if self._pumping:  # the application is called; what it does makes the transport deliver
            return
        self._pumping = True
        try:
            while self._wanted and (plaintext := self._read()):
                if self.one_by_one:  # the application may resume while it is called
                    self.above.pause_reading()
                self._call(self._deliver, plaintext)
            if self._wanted and self.layer.at_eof and not self._eof_delivered:
                self._eof_delivered = True
                self._call(self._tell_eof)
        finally:
            self._pumping = False
        if self._lost and not self._told and (self.closing or not self.paused):
            self._tell_lost()

    @property
    def _wanted(self) -> bool:
        return not (self.paused or self.closing)

    def _read(self) -> bytes:
        joined = isinstance(self.protocol, asyncio.StreamReaderProtocol) and not self.one_by_one
        try:
            return self.layer.read_many() if joined else self.layer.read(MAX_MAXBUF)
        except SASLError as error:
            self.fail(error)
            return b""

    def _deliver(self, plaintext: bytes) -> None:
        if isinstance(self.protocol, asyncio.Protocol):
            return self.protocol.data_received(plaintext)
        rest = memoryview(plaintext)
        while rest and (self.one_by_one or self._wanted):
            buffer = memoryview(self.protocol.get_buffer(len(rest)))
            if not (size := min(len(buffer), len(rest))):
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:size], rest = rest[:size], rest[size:]
            self.undelivered = len(rest)
            self.protocol.buffer_updated(size)
        self.undelivered = 0
        self.layer.push_back(rest)
        return None

    def _tell_eof(self) -> None:
        if not self.protocol.eof_received():
            self.close()

    def _tell_lost(self) -> None:
        self._told = self.closing = True
        self.layer.context.close()
        self.protocol.connection_lost(self._error or self._on_end)

    def _call(self, deliver: Callable[..., None], *arguments: bytes) -> None:
        """Call the application. What it raises ends the connection, as in any transport."""
        try:
            deliver(*arguments)
        except Exception as error:
            self.loop.call_exception_handler(
                {
                    "message": "Fatal error: a callback of the protocol above the layer failed.",
                    "exception": error,
                    "transport": self.above,
                    "protocol": self.protocol,
                }
            )
            self.fail(error)


class SASLTransport(asyncio.Transport):
    """What the application writes to. Made by `start_sasl`.

    `get_extra_info("sasl")` is the security context; all else is the transport's below.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire: Final = wire
        self._eof_written = False

    def write(self, data: Buffer) -> None:
        """Seal, and send when this turn of the loop ends, or before.

        :raises SASLError: the layer has failed
        :raises RuntimeError: after `write_eof`, as in any transport
        """
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        wire = self._wire
        if self.is_closing() and not wire.layer.context.failed:
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
        list_of_data = [b"".join(list_of_data)]
        self.write(list_of_data.pop())

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
        return self._wire.closing or self._wire.transport.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing more, and read nothing more."""
        self._wire.paused = True
        if not self.is_closing():
            self._wire.transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, starting soon with what has arrived."""
        if self._wire.paused:
            self._wire.paused = False
            self._wire.loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._wire.pump()
        if not self._wire.paused and not self.is_closing():
            self._wire.transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return not self._wire.paused and not self.is_closing()

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
        """Deliver to another protocol from now on."""
        if not isinstance(protocol, AppProtocol):
            raise UsageError("the protocol is an asyncio.Protocol or an asyncio.BufferedProtocol")
        self._wire.protocol = protocol

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
