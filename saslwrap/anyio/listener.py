"""Connecting and listening with a login in between: beside anyio's TLS connectable and listener."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from anyio import BrokenResourceError, fail_after
from anyio.abc import (
    AnyByteStream,
    AnyByteStreamConnectable,
    ByteStreamConnectable,
    Listener,
    ObjectStreamConnectable,
    SocketAttribute,
    TaskGroup,
)

from saslwrap._serving import check_maker, check_serving
from saslwrap.anyio.stream import SASLStream, authenticate, close_at_once
from saslwrap.errors import SASLError, require_kind
from saslwrap.exchange import Exchange

__all__ = ["SASLConnectable", "SASLListener"]

logger: Final = logging.getLogger("saslwrap.anyio")


class SASLConnectable(ByteStreamConnectable):
    """Connects, and logs in: beside anyio's `TCPConnectable` and `TLSConnectable`.

    :param connectable: how to connect
    :param make_exchange: makes the exchange of one login
    :raises UsageError: it does not, or the other one does not connect
    """

    def __init__(
        self, connectable: AnyByteStreamConnectable, make_exchange: Callable[[], Exchange]
    ) -> None:
        kinds = ByteStreamConnectable, ObjectStreamConnectable
        require_kind("connectable", connectable, kinds, "a connectable of anyio")
        check_maker(make_exchange)
        self.connectable = connectable
        self.make_exchange = make_exchange

    async def connect(self) -> SASLStream:
        """Connect and log in; the connection is closed if that fails.

        :raises ConnectionFailed: the connection cannot be made
        :raises SASLError: as `authenticate`
        """
        transport = await self.connectable.connect()
        try:
            return await authenticate(transport, self.make_exchange())
        except BaseException:
            await close_at_once(transport)
            raise


def _address(transport: AnyByteStream) -> Any:
    try:
        return transport.extra(SocketAttribute.remote_address, "a peer")
    except Exception:  # uvloop's socket, of a peer that is gone already
        return "a peer"


def _log_error(error: Exception, peer: Any) -> None:
    if isinstance(error, SASLError | TimeoutError | BrokenResourceError):
        logger.warning("login from %s failed: %s", peer, str(error) or type(error).__name__)
    else:
        logger.error("login from %s failed", peer, exc_info=error)


class SASLListener(Listener[SASLStream]):
    """Accepts connections, and lets each log in before the handler sees it.

    :param listener: accepts the connections
    :param make_exchange: makes the server's exchange of one login
    :param authenticate_timeout: seconds that a login may take, None for no limit
    :param handle_error: called with the exception of a failed login and its stream, which is closed
        afterwards, if it is not yet; a plain function or an async one. Without it the failure is
        logged
    :raises UsageError: one of these is of another kind
    """

    def __init__(
        self,
        listener: Listener[Any],
        make_exchange: Callable[[], Exchange],
        *,
        authenticate_timeout: float | None = 30,
        handle_error: Callable[[Exception, AnyByteStream], Awaitable[None] | None] | None = None,
    ) -> None:
        require_kind("listener", listener, Listener, "a listener of anyio")
        check_serving(make_exchange, authenticate_timeout, handle_error)
        self.listener = listener
        self.make_exchange = make_exchange
        self.authenticate_timeout = authenticate_timeout
        self.handle_error = handle_error

    async def serve(
        self, handler: Callable[[SASLStream], Any], task_group: TaskGroup | None = None
    ) -> None:
        """Accept connections and call `handler`, in a task each, with those that logged in."""

        async def log_in(transport: AnyByteStream) -> None:
            peer = _address(transport)
            try:
                with fail_after(self.authenticate_timeout):
                    stream = await authenticate(transport, self.make_exchange())
            except Exception as error:
                try:
                    if self.handle_error is None:
                        _log_error(error, peer)
                    elif inspect.isawaitable(handling := self.handle_error(error, transport)):
                        await handling
                finally:
                    await close_at_once(transport)
            except BaseException:
                await close_at_once(transport)
                raise
            else:
                await handler(stream)

        await self.listener.serve(log_in, task_group)

    async def aclose(self) -> None:
        """Stop listening."""
        await self.listener.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What the listener below tells."""
        return self.listener.extra_attributes
