"""The security layer: a context and its framing together, plaintext above, wire bytes below.

    application         SecurityLayer                                 transport

    plaintext   ->  send_data   ->  [length, token, length, token ...]  -> send
    plaintext   <-  read  <-  (unseal)  <-  FrameDecoder  <-  receive_data  <- receive

It does no I/O, so that every shell is thin, and it can be driven octet by octet. Outbound, data
is split at the maximum message and each piece is sealed at once: what `send_data` returns has spent
its sequence numbers and must reach the peer, all of it and in this order; if it cannot, the
connection is broken for writing. Inbound, taking in and unsealing are apart. `receive_data` only
stores and never raises for what the peer sent; `read` unseals one frame when it is asked for more.
Two things follow. An error comes in stream order, after the plaintext that preceded it. And a
reader that pauses piles up no plaintext: the ciphertext waits here and, when the shell stops
reading, in the peer.

The first failure kills both directions, by the context's latch. Later input is dropped.

Two threads may share a layer, one that sends and one that receives and reads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Final, NoReturn, TypeAlias, overload

from saslwrap.context import Buffer, Octets, SecurityContext, octets
from saslwrap.errors import (
    ContextBusyError,
    ProtocolError,
    SASLError,
    UsageError,
    half_made_too,
    require_number,
)
from saslwrap.framing import LENGTH_OCTETS, FrameDecoder
from saslwrap.properties import MAX_MAXBUF

__all__ = ["ClearLayer", "Layer", "SecurityLayer", "next_layer"]

#: A frame without plaintext is legal (Cyrus and the JDK decode it to nothing) but no peer has a
#: reason to send many, and they keep a reader busy for nothing.
MAX_EMPTY_FRAMES = 32

#: How many frames a shell sends at a time.
BATCH_FRAMES = 64


def _cut(data: Buffer, step: int) -> Iterable[Octets]:
    """Cut data into pieces of `step` octets, without a copy: at least one, maybe empty."""
    if type(data) is bytes and len(data) <= step:
        return (data,)
    view = octets(data)
    return (view[start : start + step] for start in range(0, max(len(view), 1), step))


class SecurityLayer:
    """Seals and frames outbound data; takes frames apart and unseals inbound data.

    :param context: the context of the completed login; the layer is then its only user
    :raises UsageError: it is none, is closed, or has a layer already
    :raises SASLError: it has failed
    """

    __slots__ = (
        "_decoder",
        "_empty_frames",
        "_offset",
        "_plaintext",
        "_reading",
        "_sending",
        "context",
    )

    def __init__(self, context: SecurityContext) -> None:
        if not isinstance(context, SecurityContext):
            raise UsageError(
                "a layer takes a SecurityContext, the `context` of a mechanism that is complete; "
                f"this is {type(context).__name__}. Where it is None the login brought no layer: "
                "go on without one"
            )
        context.claim()
        self.context: Final = context
        self._decoder = FrameDecoder(context.local_maxbuf)
        self._plaintext = b""  # of the frame that is being read, from _offset on
        self._offset = 0
        self._empty_frames = 0
        self._sending: Final = threading.Lock()
        self._reading: Final = threading.Lock()

    def batches(self, data: Buffer) -> Iterable[Buffer]:
        """Cut data into what is to be sealed and sent at a time: at least one, maybe empty.

        A peer with a small maxbuf makes many frames of little data. Taken batch by batch they need
        little memory, and others have their turn in between.
        """
        try:
            return _cut(data, BATCH_FRAMES * self.context.stream_sizes.maximum_message)
        except BaseException as error:
            del data  # as in send_data
            raise error.with_traceback(None)  # noqa: B904 - it is the same one

    def send_data(self, data: Buffer) -> list[Buffer]:
        """Seal `data` into frames: `[length, token, length, token ...]`, `[]` for nothing.

        All of it has to be sent, in this order. Data over the maximum message is split.

        :raises ContextBusyError: another `send_data` is at work
        :raises UsageError: the context is closed
        :raises SASLError: the layer has failed
        """
        if not self._sending.acquire(False):
            data = b""
            raise ContextBusyError("another send_data is at work on this layer; serialise them")
        frames: list[Buffer] = []
        spent = False
        try:
            for piece in _cut(data, self.context.stream_sizes.maximum_message):
                if len(piece):
                    token = self.context.seal(piece)
                    spent = True
                    frames += len(token).to_bytes(LENGTH_OCTETS, "big"), token
                else:
                    self.context.check()
            return frames
        except BaseException as error:
            data = piece = token = b""  # no traceback is to show what was to be sent
            frames.clear()
            error.__traceback__ = None
            if not spent:
                raise error
            # what is sealed is lost, and with it a part of the sequence
            reason = error if isinstance(error, SASLError) else type(error).__name__
            fault = self.context.fail(SASLError(f"sealing stopped between two frames: {reason}"))
            if isinstance(error, SASLError):
                raise fault from None
            raise error
        finally:
            self._sending.release()

    def receive_data(self, data: Buffer) -> None:
        """Take in octets from the transport. Never raises for what they are: `read` does."""
        if self.context.alive:
            self._decoder.receive_data(data)

    def receive_eof(self) -> None:
        """Take in that the transport ended."""
        self._decoder.receive_eof()

    def read(self, max_bytes: int = 65536) -> bytes:
        """Return 1 to `max_bytes` octets of plaintext; `b""` if input is needed, or at the end.

        Unseals one frame at most (frames without plaintext apart). Tell the two meanings of `b""`
        apart by `at_eof`.

        :raises IntegrityError: the next frame does not authenticate
        :raises ProtocolError: the next frame breaks the framing, or is cut off
        :raises ContextBusyError: another `read` is at work
        :raises UsageError: the context is closed, or `max_bytes` is no whole number from 1
        """
        if type(max_bytes) is not int or max_bytes < 1:  # else it costs, and reads are many
            require_number("max_bytes", max_bytes, 1)
        if not self._reading.acquire(False):
            raise ContextBusyError("another read is at work on this layer; serialise them")
        try:
            if self._offset == len(self._plaintext):
                self._plaintext, self._offset = b"", 0
                message = self._next_message()
                if len(message) <= max_bytes:
                    return message
                self._plaintext = message
            return self._take(max_bytes)
        finally:
            self._reading.release()

    def read_many(self, enough: int = 16384) -> bytes:
        """Return the plaintext of frames that have arrived, whole and joined; else as `read`.

        For a reader to whom borders of frames mean nothing, and who knows that no login ends in
        here: another layer's frames would be taken for this one's. An error waits behind the
        plaintext that precedes it, for the next call.

        :param enough: octets after which no further frame is unsealed
        """
        piece = self.read(MAX_MAXBUF)
        if not piece or len(piece) >= enough or not self._decoder.holds:
            return piece
        pieces, size = [piece], len(piece)
        try:
            while size < enough and (piece := self.read(MAX_MAXBUF)):
                pieces.append(piece)
                size += len(piece)
        except SASLError:
            pass  # the next call has it again: a failure is latched, a refusal took nothing
        except BaseException:
            self.push_back(b"".join(pieces))
            raise
        return b"".join(pieces)

    @property
    def ended(self) -> bool:
        """Whether `receive_eof` was called."""
        return self._decoder.ended

    @property
    def at_eof(self) -> bool:
        """Whether the input ended cleanly, at a frame's border, and everything was read.

        SASL has no closing message: whoever can cut the connection can cut it here.
        """
        return (
            self._decoder.at_eof
            and self._offset == len(self._plaintext)
            and not self.context.failed
        )

    @property
    def pending(self) -> int:
        """Octets of plaintext that are unsealed and not read yet."""
        return len(self._plaintext) - self._offset

    def unread(self) -> bytes:
        """Take out the octets that are not unsealed yet, for a layer that replaces this one."""
        return self._decoder.clear()

    def push_back(self, plaintext: Buffer) -> None:
        """Put plaintext back in front, to be read again."""
        try:
            self._plaintext = octets(plaintext).tobytes() + self._plaintext[self._offset :]
            self._offset = 0
        except BaseException as error:
            del plaintext
            raise error.with_traceback(None)  # noqa: B904 - it is the same one

    def _take(self, max_bytes: int) -> bytes:
        start, self._offset = self._offset, min(self._offset + max_bytes, len(self._plaintext))
        return self._plaintext[start : self._offset]

    def _next_message(self) -> bytes:
        self.context.check()
        try:
            while (token := self._decoder.next_token()) is not None:
                message = self.context.unseal(token)
                self._decoder.consume()
                if message:
                    self._empty_frames = 0
                    return message
                self._empty_frames += 1
                if self._empty_frames > MAX_EMPTY_FRAMES:
                    raise ProtocolError(
                        f"the peer sent over {MAX_EMPTY_FRAMES} frames without content in a row"
                    )
        except UsageError:  # someone else unseals, or closed the context: nothing was consumed
            self._decoder.release()
            raise
        except SASLError as error:
            self.context.fail(error)
            self._decoder.discard()
        self.context.check()  # raises what failed just now, out of the frames that saw it
        return b""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a security layer is one connection's; it cannot be copied or pickled")

    @half_made_too
    def __repr__(self) -> str:
        return f"<SecurityLayer over {self.context!r}>"


class ClearLayer:
    """No layer, with the face of one: what a shell works with before a login, and under qop=auth.

    :ivar ended: whether `receive_eof` was called
    """

    __slots__ = ("_buffer", "ended")

    context: Final = None

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.ended: bool = False

    def batches(self, data: Buffer) -> Iterator[Buffer]:
        """Give `data` as it is."""
        yield data

    def send_data(self, data: Buffer) -> list[Buffer]:
        """Return `data` as it is, `[]` for nothing."""
        try:
            view = octets(data)
            return [view] if len(view) else []
        except BaseException as error:
            del data
            raise error.with_traceback(None)  # noqa: B904 - it is the same one

    def receive_data(self, data: Buffer) -> None:
        """Take in octets from the transport."""
        self._buffer += octets(data)

    def receive_eof(self) -> None:
        """Take in that the transport ended."""
        self.ended = True

    def read(self, max_bytes: int = 65536) -> bytes:
        """Return 1 to `max_bytes` octets; `b""` if input is needed, or at the end.

        :raises UsageError: `max_bytes` is no whole number from 1
        """
        if type(max_bytes) is not int or max_bytes < 1:
            require_number("max_bytes", max_bytes, 1)
        data = bytes(memoryview(self._buffer)[:max_bytes])
        del self._buffer[:max_bytes]
        return data

    def read_many(self, enough: int = 16384) -> bytes:
        """Return up to `enough` octets: as `read`, since nothing marks them off."""
        return self.read(enough)

    @property
    def at_eof(self) -> bool:
        """Whether the input ended and everything was read."""
        return self.ended and not self._buffer

    @property
    def pending(self) -> int:
        """Octets that were not read yet."""
        return len(self._buffer)

    def unread(self) -> bytes:
        """Take out the octets that were not read."""
        return self.read(len(self._buffer) or 1)

    def push_back(self, plaintext: Buffer) -> None:
        """Put octets back in front, to be read again."""
        try:
            self._buffer[:0] = octets(plaintext)
        except BaseException as error:
            del plaintext
            raise error.with_traceback(None)  # noqa: B904 - it is the same one

    def __repr__(self) -> str:
        return "<ClearLayer>"


Layer: TypeAlias = SecurityLayer | ClearLayer


@overload
def next_layer(layer: Layer, context: SecurityContext, trailing_data: bytes) -> SecurityLayer: ...


@overload
def next_layer(layer: Layer, context: SecurityContext | None, trailing_data: bytes) -> Layer: ...


def next_layer(layer: Layer, context: SecurityContext | None, trailing_data: bytes) -> Layer:
    """Switch, after a login under `layer`: what follows, both ways, is under the layer returned.

    Without a context the old layer stays in force (RFC 4422 section 3.8).

    :param trailing_data: what was read of `layer` past the login's end
    :raises ProtocolError: that is data in the old layer, where the new one had to begin
    :raises UsageError: the context is closed, or has a layer already
    """
    if context is None:
        layer.push_back(trailing_data)
        return layer
    replacement = SecurityLayer(context)
    if layer.context is not None:
        if trailing_data or layer.pending:
            error = ProtocolError("the peer sent data in the old layer after the login")
            raise layer.context.fail(error)
        layer.context.close()
    replacement.receive_data(trailing_data)
    replacement.receive_data(layer.unread())
    if layer.ended:
        replacement.receive_eof()
    return replacement
