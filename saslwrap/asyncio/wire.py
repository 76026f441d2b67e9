"""What has the transport below: octets of the wire come in, plaintext goes up.

The application's life, as it sees it, each line at most once but those in ( )*:

    ( data_received | pause_writing | resume_writing )*  [eof_received]  connection_lost

`connection_made` is never called: it was, by the transport below. `connection_lost` gets the
`SASLError` where the layer failed, after the plaintext of all frames before it was delivered.

`pump` alone delivers, and keeps that order: whatever happened, it is called, and looks what is due
and wanted. Frames are unsealed and delivered one by one; a `StreamReader`, which does not care for
their borders, gets small ones together. `pause_reading` stops both this and the transport below,
so a reader that pauses holds one chunk of ciphertext at the most.

An end has its turn, or none. The peer's comes after all that came before it. After ours, or after a
break, nothing is delivered any more, but its cause. TLS cannot be half closed: there a peer's end
ends the transport below, and an application that pauses hears of it when it resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from saslwrap.asyncio.outbox import Outbox
from saslwrap.errors import SASLError
from saslwrap.layer import SecurityLayer
from saslwrap.properties import MAX_MAXBUF

__all__ = ["AppProtocol", "Wire"]

AppProtocol: TypeAlias = asyncio.Protocol | asyncio.BufferedProtocol


class Wire(asyncio.Protocol):
    """The protocol of the transport below. It has the layer, and calls the protocol above.

    :param above: the transport that stands for it to the protocol above
    :ivar former: protocols that had the transport before, and wait to hear of its end
    :ivar kept: what must not be collected while the transport lives
    :ivar one_by_one: pause after each frame, while a login decides what the next one is under
    :ivar undelivered: how many octets of a frame a `BufferedProtocol` has still to take
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        layer: SecurityLayer,
        protocol: AppProtocol,
        above: asyncio.Transport,
    ) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.transport: Final = transport
        self.outbox: Final = Outbox(transport, self.loop)
        self.layer = layer
        self.protocol = protocol
        self.one_by_one: bool = False
        self.former: list[asyncio.BaseProtocol] = []
        self.kept: list[object] = []
        self.undelivered: int = 0
        self._above: Final = above
        self._paused: bool = not transport.is_reading()
        self._closing: bool = False  # by this side, or it broke: nothing more is delivered
        self._error: Exception | None = None
        self._on_end: Exception | None = None
        self._pumping = self._eof_delivered = False
        self._lost = self._told = False  # below, above

    def start(self) -> None:
        """Take the transport, and deliver soon what the layer has already."""
        self.transport.set_protocol(self)
        self.loop.call_soon(self.pump)

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
        ragged = exc is None and not (self._closing or self.layer.ended) and self._over_tls
        if exc is not None or (self._paused and not (ragged or self.layer.ended)):
            self._error, self._closing = self._error or exc, True
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

    # what the application asks for

    def pause_reading(self) -> None:
        """Deliver nothing more, and read nothing more."""
        self._paused = True
        if not self.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, starting soon with what has arrived."""
        if self._paused:
            self._paused = False
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        self.pump()
        if self.is_reading():
            self.transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return not self._paused and not self.is_closing()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed, here or below."""
        return self._closing or self.transport.is_closing()

    def close(self) -> None:
        """Send what is queued, then close. Once only: TLS would forget its session."""
        self._closing = True
        self.outbox.flush()
        if not self.transport.is_closing():
            self.transport.close()
        self.loop.call_soon(self.pump)

    def abort(self) -> None:
        """Close at once. Not when it is lost: asyncio's own may raise then."""
        self._closing = True
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
                    self.pause_reading()
                self._call(self._deliver, plaintext)
            if self._wanted and self.layer.at_eof and not self._eof_delivered:
                self._eof_delivered = True
                self._call(self._tell_eof)
        finally:
            self._pumping = False
        if self._lost and not self._told and (self._closing or not self._paused):
            self._tell_lost()

    @property
    def _wanted(self) -> bool:
        return not (self._paused or self._closing)

    def _read(self) -> bytes:
        joined = isinstance(self.protocol, asyncio.StreamReaderProtocol) and not self.one_by_one
        try:
            return self.layer.read_many() if joined else self.layer.read(MAX_MAXBUF)
        except SASLError as error:
            self.fail(error)
            return b""

    def _deliver(self, plaintext: bytes) -> None:
        if isinstance(self.protocol, asyncio.Protocol):
            self.protocol.data_received(plaintext)
        else:
            self._fill_buffers(memoryview(plaintext))

    def _fill_buffers(self, rest: memoryview) -> None:
        """Give a `BufferedProtocol` as much as it wants; the rest is delivered later."""
        while rest and (self.one_by_one or self._wanted):
            if isinstance(self.protocol, asyncio.Protocol):  # it took over meanwhile
                break
            buffer = memoryview(self.protocol.get_buffer(len(rest)))
            if not (size := min(len(buffer), len(rest))):
                raise RuntimeError("get_buffer() returned an empty buffer")
            buffer[:size], rest = rest[:size], rest[size:]
            self.undelivered = len(rest)
            self.protocol.buffer_updated(size)
        self.undelivered = 0
        self.layer.push_back(rest)

    def _tell_eof(self) -> None:
        if not self.protocol.eof_received():
            self.close()

    def _tell_lost(self) -> None:
        self._told = self._closing = True
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
                    "transport": self._above,
                    "protocol": self.protocol,
                }
            )
            self.fail(error)
