"""The anyio shell: a byte stream over a layer, and the driver that runs a login over a stream.

    async with await anyio.connect_tcp(host, 389) as tcp:
        stream = await authenticate(tcp, LDAPBind(mechanism))
        await stream.send(request)

It runs on asyncio, uvloop and trio. A `SASLStream` is a plain `anyio.abc.ByteStream`. One task may
send and one receive; a second of either kind gets `BusyResourceError`.

Sending seals first and then awaits one thing, the transport's `send`; for a large item, batch by
batch. Sealing spends a sequence number, so if that await fails or is cancelled the peer may lack a
part of a frame, and the stream is broken for writing, loudly; reading goes on. Receiving awaits one
thing too, the transport's `receive`, and takes nothing out of the layer before it: a cancelled
`receive` loses nothing.

A failure inside the layer closes the transport forcefully and comes as `BrokenResourceError` with
the `SASLError` as its `__cause__`. `EndOfStream` is an end at a frame's border; SASL has no closing
message, so whoever can cut the connection can cut it there: the protocol above has to know when it
is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    ResourceGuard,
    TypedAttributeSet,
    aclose_forcefully,
    to_thread,
    typed_attribute,
)
from anyio.abc import (
    AnyByteStream,
    AsyncResource,
    ByteStream,
)
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled
from anyio.streams.tls import TLSAttribute

from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import SASLError, UsageError, half_made_too
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step, check_kind
from saslwrap.layer import ClearLayer, Layer, SecurityLayer, next_layer
from saslwrap.mechanisms.channel_binding import channel_info
from saslwrap.properties import MAX_MAXBUF, QOP, ChannelInfo, StreamSizes

__all__ = ["SASLAttribute", "SASLStream", "authenticate", "close_at_once"]


class SASLAttribute(TypedAttributeSet):
    """What `stream.extra()` tells about the last login that succeeded, and its layer.

    Without a layer `context` is None, `ssf` is 0; `qop`, `cipher` and `stream_sizes` are absent.
    After a rebind that brought no layer these are still the old layer's, and `mechanism` with them.
    """

    #: IANA name of the mechanism
    mechanism: str = typed_attribute()
    #: quality of protection
    qop: QOP = typed_attribute()
    #: strength of the layer, as Cyrus SASL counts it
    ssf: int = typed_attribute()
    #: name of the cipher, None under integrity only
    cipher: str | None = typed_attribute()
    #: who authenticated
    authcid: str | None = typed_attribute()
    #: on whose behalf, None where that was not said
    authzid: str | None = typed_attribute()
    #: sizes of the layer's messages
    stream_sizes: StreamSizes = typed_attribute()
    #: the security context
    context: SecurityContext | None = typed_attribute()


class SASLStream(ByteStream):
    """A byte stream over a transport and a security layer.

    :param transport: the stream below; this one owns it from now on
    :param context: the context of a completed login, None for a stream without a layer (yet)
    :param received: octets that were read from the transport past the login's end: ciphertext, with
        a context
    :raises UsageError: the context is closed, or has a layer already
    """

    def __init__(
        self,
        transport: AnyByteStream,
        context: SecurityContext | None,
        *,
        received: bytes = b"",
    ) -> None:
        self._transport: Final = transport
        self._layer: Layer = ClearLayer() if context is None else SecurityLayer(context)
        self._layer.receive_data(received)
        self._login: dict[Any, Callable[[], Any]] = {}
        self._sending: Final = ResourceGuard("sending to")
        self._receiving: Final = ResourceGuard("receiving from")
        self._half_sent = False
        self._cut = False
        self._given_away = False
        self._eof_sent = False
        self._closed = False

    async def send(self, item: Buffer) -> None:
        """Seal `item` and send it, all of it; any buffer will do.

        :raises BrokenResourceError: the layer failed, or an earlier `send` did not end well
        :raises ClosedResourceError: after `aclose` or `send_eof`
        :raises BusyResourceError: another task is sending
        """
        try:
            with self._sending:
                await checkpoint_if_cancelled()
                await self._send(item)
        finally:
            item = b""  # no traceback is to show it

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive 1 to `max_bytes` octets of plaintext.

        :raises EndOfStream: the peer closed, at a frame's border
        :raises BrokenResourceError: the layer failed; the transport is closed then
        :raises ClosedResourceError: after `aclose`
        :raises BusyResourceError: another task is receiving
        """
        with self._receiving:
            await checkpoint_if_cancelled()
            return await self._receive(max_bytes)

    async def send_eof(self) -> None:
        """Close the sending direction, in the transport: SASL has no message for it."""
        with self._sending:
            await checkpoint_if_cancelled()
            if self._closed:
                raise ClosedResourceError
            self._raise_fault()
            if not self._eof_sent:
                await self._transport.send_eof()
                self._eof_sent = True

    async def aclose(self) -> None:
        """Close the transport and drop the keys."""
        if self._given_away:
            return
        self._closed = True
        if self._layer.context is not None:
            self._layer.context.close()
        await self._transport.aclose()

    def unwrap(self) -> tuple[AnyByteStream, Layer]:
        """Give away transport and layer, both alive; this stream is closed then, they are not.

        What was received and not read is in the layer: `layer.read()` for what is decoded with it,
        `layer.unread()` for what is not.

        :raises BusyResourceError: a task is sending or receiving
        :raises ClosedResourceError: after `aclose`
        :raises BrokenResourceError: an earlier `send` did not end well
        """
        with self._sending, self._receiving:
            self._check_writable()
            self._closed = self._given_away = True
            return self._transport, self._layer

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What the transport tells, and `SASLAttribute`."""
        context = self._layer.context
        attributes: dict[Any, Callable[[], Any]] = {
            **self._transport.extra_attributes,
            **self._login,
            SASLAttribute.context: lambda: context,
            SASLAttribute.ssf: lambda: 0 if context is None else context.ssf,
        }
        if context is not None:
            attributes |= {
                SASLAttribute.mechanism: lambda: context.mechanism,
                SASLAttribute.qop: lambda: context.qop,
                SASLAttribute.cipher: lambda: context.cipher,
                SASLAttribute.stream_sizes: lambda: context.stream_sizes,
            }
        return attributes

    @half_made_too
    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<SASLStream {self._layer!r}{state}>"

    async def _send(self, item: Buffer) -> None:
        try:
            self._check_writable()
            if self._eof_sent:
                raise ClosedResourceError
            for batch in self._layer.batches(item):
                await self._send_batch(batch)
        finally:
            item = batch = b""

    async def _send_batch(self, batch: Buffer) -> None:
        try:
            frames = self._layer.send_data(batch)
        except UsageError:
            raise
        except SASLError as error:
            await self._break(error)
        finally:
            batch = b""
        if not frames:
            return await checkpoint()
        try:
            await self._transport.send(b"".join(frames))
        except BaseException as error:
            self._half_sent = self._layer.context is not None
            frames.clear()  # they are plaintext, without a layer
            self._explain(error)
            raise

    def _check_writable(self) -> None:
        if self._closed:
            raise ClosedResourceError
        if self._half_sent:
            raise BrokenResourceError(
                "an earlier send was cancelled or failed after its data was sealed, so the peer "
                "misses a part of the sequence; close this connection and open a new one"
            )

    async def _receive(self, max_bytes: int) -> bytes:
        waited = False
        while not (data := await self._read(max_bytes)):
            if self._layer.at_eof:
                raise EndOfStream
            if self._cut:  # trio would report an end, the next time
                raise BrokenResourceError("the connection broke")
            waited = True
            try:
                chunk = await self._transport.receive()
            except EndOfStream:
                self._layer.receive_eof()
            except (BrokenResourceError, ClosedResourceError) as error:
                self._cut = isinstance(error, BrokenResourceError)
                self._explain(error)
                raise
            else:
                self._layer.receive_data(chunk)
        if not waited:
            await cancel_shielded_checkpoint()
        return data

    async def _read(self, max_bytes: int) -> bytes:
        if self._closed:
            raise ClosedResourceError
        try:
            return self._layer.read(max_bytes)
        except UsageError:
            raise
        except SASLError as error:
            await self._break(error)

    async def _break(self, error: SASLError) -> NoReturn:
        await close_at_once(self._transport)
        raise BrokenResourceError(str(error)) from error

    def _explain(self, error: BaseException) -> None:
        """Tell a task that waited, if so it was: the other one broke the layer, and closed."""
        if isinstance(error, BrokenResourceError | ClosedResourceError):
            self._raise_fault()

    def _raise_fault(self) -> None:
        context = self._layer.context
        if context is not None and (fault := context.fault) is not None:
            raise BrokenResourceError(str(fault)) from fault

    async def _authenticate(self, exchange: Exchange, received: bytes) -> None:
        check_kind(exchange, Exchange)
        with self._sending, self._receiving:
            self._check_writable()
            exchange.begin(received)
            try:
                exchange.bind_channel(_channel_info(self._transport))
                await self._drive(exchange)
                self._install(exchange)
                if (more := exchange.follow_up()) is not None:
                    await self._drive(more)
                    self._layer.push_back(more.trailing_data)
                if self._closed:  # by another task, while a step was in its thread
                    raise ClosedResourceError
            except BaseException as error:
                if exchange.leaves_usable(error):
                    self._layer.push_back(exchange.trailing_data)
                else:
                    exchange.abandon()
                    await close_at_once(self)
                raise

    async def _drive(self, exchange: Exchange) -> None:
        while True:
            match exchange.advance():
                case Send(data):
                    await self._send(data)
                case NeedData():
                    try:
                        exchange.receive_data(await self._receive(MAX_MAXBUF))
                    except EndOfStream:
                        exchange.receive_eof()
                case Step():
                    if exchange.may_block:
                        await to_thread.run_sync(exchange.step, abandon_on_cancel=True)
                    else:
                        exchange.step()
                case Done():
                    return

    def _install(self, exchange: Exchange) -> None:
        self._layer = next_layer(self._layer, exchange.context, exchange.trailing_data)
        name = exchange.mechanism and exchange.mechanism.name
        authcid, authzid = exchange.authcid, exchange.authzid
        self._login = {
            SASLAttribute.mechanism: lambda: name,
            SASLAttribute.authcid: lambda: authcid,
            SASLAttribute.authzid: lambda: authzid,
        }


async def close_at_once(stream: AsyncResource) -> None:
    """Close without waiting, cancelled or not; what went wrong before is what counts."""
    with CancelScope(shield=True), suppress(Exception):
        await aclose_forcefully(stream)


def _channel_info(transport: AnyByteStream) -> ChannelInfo:
    try:
        return channel_info(transport.extra(TLSAttribute.ssl_object, None))
    except AttributeError:  # uvloop's socket, of a peer that is gone already
        return ChannelInfo()


async def authenticate(
    transport: AnyByteStream, exchange: Exchange, *, received: bytes = b""
) -> SASLStream:
    """Log in, or be logged in to, over a stream; return the stream to go on with.

    On a `SASLStream` it is a rebind: the login travels under the layer in force, then the new layer
    replaces it in the same object. A login without a layer leaves the old one in force.

    After a login that was refused in good form `transport` is usable, in its previous layer
    (`exchange.trailing_data` has what was read past the refusal from a plain transport). After
    anything else it is closed: a peer that broke the protocol or did not prove itself, a
    cancellation, a time-out. A step that blocks is left to its thread then, which on asyncio and
    uvloop the interpreter waits for when it exits (`saslwrap.asyncio` and trio do not).

    :param exchange: how the application protocol carries the login, such as `LDAPBind(mechanism)`
    :param received: octets of the login that were read from `transport` already
    :raises AuthenticationError: the login was refused, or the peer did not prove itself
    :raises NegotiationError: policy and offer do not meet
    :raises ProtocolError: the peer broke the protocol, or closed the connection
    :raises UsageError: the exchange, or its mechanism, was used before
    :raises BrokenResourceError: the transport broke
    """
    stream = transport if isinstance(transport, SASLStream) else SASLStream(transport, None)
    await stream._authenticate(exchange, received)
    return stream
