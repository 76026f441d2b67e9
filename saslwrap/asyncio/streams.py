"""The asyncio shell for `StreamReader` and `StreamWriter`: a pair goes in, a sealed pair comes out.

What makes it harder than it looks, and what is done about each:

*   The old reader has read ahead. It is told that the stream has ended and then read to that end,
    which gives all it holds at once; that goes into the layer before anything else does.
*   An old writer that is collected closes its transport. The old pair is kept alive for as long as
    the transport is.
*   An old writer that is written to would send in clear. It is retired: see `writer`.
*   `old_writer.wait_closed()` waits for its protocol to hear of the connection's end. The old
    protocol is told, after the new one.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

from saslwrap._serving import check_serving
from saslwrap.asyncio.drive import drive
from saslwrap.asyncio.reader import SASLStreamReader, ended, is_awaited, take
from saslwrap.asyncio.transport import SASLTransport, has_layer, slide_under
from saslwrap.asyncio.writer import SASLStreamWriter, retire
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import ContextBusyError, SASLError, UsageError, require_kind, require_number
from saslwrap.exchange import Exchange, check_kind
from saslwrap.mechanisms.channel_binding import channel_info

__all__ = ["authenticate_streams", "open_connection", "start_sasl_streams", "start_server"]

logger: Final = logging.getLogger("saslwrap.asyncio")

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ErrorHandler: TypeAlias = Callable[[Exception, asyncio.StreamWriter], Awaitable[None] | None]

#: The default of asyncio's own streams, in octets.
LIMIT = 65536


async def start_sasl_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: SecurityContext,
    *,
    received: Buffer = b"",
    limit: int = LIMIT,
) -> Streams:
    """Put a security layer under a pair of streams and return the pair to go on with.

    The old pair is at its end: nothing comes from its reader, and whatever would send by its writer
    is a `UsageError`, but its `close` and `wait_closed` work. The transport below is not guarded:
    what is written to that, by `writer.transport` of the old pair too, goes out in clear. What the
    reader had read ahead is not lost: it is the layer's.

    :param received: octets that were read from `reader` past the login's end: ciphertext
    :param limit: of the new reader, as in `asyncio.open_connection`
    :raises UsageError: the transport is closing, has a layer already, or has plaintext queued; the
        context is closed, or has a layer already; the limit is no number from 1
    """
    _check_limit(limit)
    return await _slide_under(reader, writer, context, received, limit)


async def _slide_under(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: SecurityContext,
    received: Buffer,
    limit: int,
    *,
    queue_is_ours: bool = False,
) -> Streams:
    if (broken := reader.exception()) is not None:
        raise broken
    loop = asyncio.get_running_loop()
    former = writer.transport.get_protocol()
    new_reader = SASLStreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(new_reader, loop=loop)
    transport = cast("asyncio.Transport", writer.transport)  # which typeshed tells half of
    sealed = slide_under(transport, protocol, context, received, queue_is_ours=queue_is_ours)
    retire(writer, sealed)
    wire = sealed._wire
    sealed.pause_reading()
    wire.former.append(former)
    wire.kept += reader, writer
    protocol.connection_made(sealed)  # ours, and new: it has not heard of a connection yet
    if getattr(former, "_paused", False):  # asyncio's own: the transport will resume this one
        protocol.pause_writing()
    if ended(reader):
        wire.layer.receive_data(await reader.read())
        wire.layer.receive_eof()
    else:
        reader.feed_eof()
        wire.layer.receive_data(await reader.read())
    sealed.resume_reading()
    return new_reader, SASLStreamWriter(sealed, protocol, new_reader, loop)


async def authenticate_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    exchange: Exchange,
    *,
    received: Buffer = b"",
    limit: int = LIMIT,
) -> Streams:
    """Log in, or be logged in to, over a pair of streams; return the pair to go on with.

    It is the same pair if the login brought no layer, and on a sealed pair, where the login travels
    under the layer in force and the new layer replaces it (a rebind). Otherwise the old pair is at
    its end, as after `start_sasl_streams`.

    After a login that was refused in good form the pair is usable, in its previous layer. After
    anything else its transport is aborted: a peer that broke the protocol or did not prove itself,
    a cancellation.

    :param exchange: how the application protocol carries the login, such as `LDAPBind(mechanism)`
    :param received: octets of the login that were read from `reader` already
    :param limit: of the new reader, in octets
    :raises AuthenticationError: the login was refused, or the peer did not prove itself
    :raises NegotiationError: policy and offer do not meet
    :raises ProtocolError: the peer broke the protocol, or closed the connection
    :raises UsageError: the exchange, or its mechanism, was used before; the pair is below a layer,
        a login having returned another one to go on with; the limit is no number from 1
    :raises ContextBusyError: another task waits for `reader`
    :raises OSError: the transport broke
    """
    check_kind(exchange, Exchange)
    _check_limit(limit)
    _check_free(reader, writer)
    exchange.begin(received)
    try:
        exchange.bind_channel(channel_info(writer.get_extra_info("ssl_object")))
        pair = await _log_in(reader, writer, exchange, limit)
        if (more := exchange.follow_up()) is not None:
            await drive(pair[1], more, lambda: pair[0].read(LIMIT))
            await _give_back(pair[0], more.trailing_data)
        return pair
    except BaseException as error:
        if exchange.leaves_usable(error):
            await _give_back(reader, exchange.trailing_data)
        else:
            exchange.abandon()
            writer.transport.abort()
        raise


def _check_limit(limit: int) -> None:
    require_number("limit", limit, 1)


def _check_free(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse a pair over which a login could only break the connection."""
    transport = writer.transport
    if has_layer(transport) and not isinstance(transport, SASLTransport):
        raise UsageError("the pair is below a security layer; go on with the one that was returned")
    if is_awaited(reader):
        raise ContextBusyError("another task waits for this reader; log in when it is done")


async def _log_in(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: Exchange, limit: int
) -> Streams:
    transport = writer.transport
    if isinstance(transport, SASLTransport):
        await _log_in_again(reader, writer, transport, exchange)
        return reader, writer
    await drive(writer, exchange, lambda: reader.read(LIMIT))
    context, rest = exchange.context, exchange.trailing_data
    if context is None:
        await _give_back(reader, rest)
        return reader, writer
    if transport.is_closing():  # TLS was closed behind the success, or another task closes
        raise ConnectionResetError("the connection was lost during the login")
    return await _slide_under(reader, writer, context, rest, limit, queue_is_ours=True)


async def _log_in_again(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    transport: SASLTransport,
    exchange: Exchange,
) -> None:
    """Log in under a layer. Frame by frame: only the login knows which the new layer's first is."""

    async def read() -> bytes:
        if data := await take(reader):
            return data
        transport.resume_reading()
        return await reader.read(LIMIT)

    with transport.one_by_one():
        await drive(writer, exchange, read)
        if exchange.context is None:
            await _give_back(reader, exchange.trailing_data)
        else:
            rest = exchange.trailing_data + await take(reader)
            transport.rebind(exchange.context, trailing_data=rest)


async def _give_back(reader: asyncio.StreamReader, data: bytes) -> None:
    """Put octets back in front. After the end a reader takes none: `trailing_data` has them."""
    if data and not ended(reader):
        reader.feed_data(data + await take(reader))


async def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    exchange: Exchange,
    limit: int = LIMIT,
    **options: Any,
) -> Streams:
    """Connect and log in: `asyncio.open_connection` with a login. A failed one closes.

    :param exchange: how the application protocol carries the login
    :param limit: of the reader, in octets
    :param options: as `loop.create_connection` takes them
    :raises SASLError: as `authenticate_streams`
    :raises OSError: the connection cannot be made
    """
    check_kind(exchange, Exchange)
    _check_limit(limit)
    reader, writer = await asyncio.open_connection(host, port, limit=limit, **options)
    try:
        return await authenticate_streams(reader, writer, exchange, limit=limit)
    except BaseException:
        writer.transport.abort()
        raise


def _log_error(error: Exception, writer: asyncio.StreamWriter) -> None:
    peer: object = "a peer"
    with suppress(AttributeError):  # uvloop, of one that was gone before it was accepted
        peer = writer.get_extra_info("peername")
    if isinstance(error, SASLError | OSError):  # a TimeoutError is one
        logger.warning("login from %s failed: %s", peer, str(error) or type(error).__name__)
    else:
        logger.error("login from %s failed", peer, exc_info=error)


async def start_server(
    client_connected_cb: Callable[..., Any],
    host: str | None = None,
    port: int | None = None,
    *,
    make_exchange: Callable[[], Exchange],
    authenticate_timeout: float | None = 30,
    handle_error: ErrorHandler | None = None,
    pass_exchange: bool = False,
    limit: int = LIMIT,
    **options: Any,
) -> asyncio.Server:
    """Serve: `asyncio.start_server` with a login before `client_connected_cb` is called.

    :param client_connected_cb: called with reader and writer
    :param make_exchange: makes the server's exchange of one login
    :param pass_exchange: whether `client_connected_cb` gets the exchange too, as its third
        argument: it knows who logged in, `authcid` and `authzid`
    :param authenticate_timeout: seconds that a login may take, None for no limit
    :param handle_error: called with the exception of a failed login and its writer, which is closed
        afterwards; a plain function or an async one. Without it the failure is logged
    :param limit: of the readers, in octets
    :param options: as `loop.create_server` takes them
    :raises UsageError: one of these is of another kind, or out of its range
    :raises OSError: the address cannot be listened at
    """
    require_kind("client_connected_cb", client_connected_cb, Callable, "a function")
    check_serving(make_exchange, authenticate_timeout, handle_error)
    _check_limit(limit)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(authenticate_timeout):
                exchange = make_exchange()
                streams = await authenticate_streams(reader, writer, exchange, limit=limit)
        except Exception as error:
            try:
                await _call(handle_error or _log_error, error, writer)
            finally:
                writer.transport.abort()
            return
        arguments = (*streams, exchange) if pass_exchange else streams
        del exchange  # the login, with all that it took: the connection may last for days
        await _call(client_connected_cb, *arguments)

    return await asyncio.start_server(connected, host, port, limit=limit, **options)


async def _call(function: Callable[..., Any], *arguments: object) -> None:
    """Call what may be a plain function or an async one."""
    if inspect.isawaitable(result := function(*arguments)):
        await result
