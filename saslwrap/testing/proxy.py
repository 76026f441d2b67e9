"""A TCP proxy on loopback that misbehaves on demand, for clients and servers of any kind.

    with FaultProxy("localhost", 389, to_client=lambda: AfterLogin(Drop(frame=2))) as proxy:
        subprocess.run(f"ldapsearch -H ldap://localhost:{proxy.port} ...", shell=True)

Each direction is read, put through its fault and written, so that there is never more under way
than one read and what the kernel holds: who does not read holds up who sends. The end of one
direction passes on as such, the other one goes on; what breaks one side resets both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Lock,
    connect_tcp,
    create_task_group,
    sleep,
)
from anyio.abc import AnyByteStream

from saslwrap.errors import require_kind, require_number
from saslwrap.testing.faults.base import Fault, Outcome, Whole, claimed
from saslwrap.testing.faults.stream import perform, reset
from saslwrap.testing.loopback import LoopbackServer

__all__ = ["FaultProxy"]

logger: Final = logging.getLogger(__name__)

#: Seconds of what a fault calls a turn of the event loop: a kernel takes its own time.
_TURN: Final = 0.001

#: Makes the fault of one direction of one connection.
MakeFault: TypeAlias = Callable[[], Fault]


class FaultProxy(LoopbackServer):
    """Carries connections to a server, with faults on the way: `async with`, or `in_thread()`.

    A connection ends when both sides have sent their ends, even if a fault keeps that to itself.
    A fault that cannot do its work (a `UsageError`: frames were expected, and other octets came; it
    is another connection's) breaks its connection, and is raised when the proxy ends.

    :param host: where the server is
    :param port: its TCP port
    :param to_server: makes the fault of what a client sends, anew for each connection
    :param to_client: makes the fault of what the server sends
    :raises UsageError: no host, no port, or a fault in place of what makes one
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        to_server: MakeFault = Whole,
        to_client: MakeFault = Whole,
    ) -> None:
        require_kind("host", host, str, "the name or the address of the server")
        require_number("port", port, 1, 65535)
        for name, make in (("to_server", to_server), ("to_client", to_client)):
            maker = f"what makes a fault, such as {name}=lambda: Drop(frame=2)"
            require_kind(name, make, Callable, maker)
        self._server: Final = (host, port)
        self._to_server: Final = to_server
        self._to_client: Final = to_client

    async def serve(self, stream: AnyByteStream) -> None:
        """Carry one connection until both its directions have ended."""
        try:
            to_server, to_client = claimed(
                ("what to_server makes", self._to_server()),
                ("what to_client makes", self._to_client()),
            )
        except Exception as error:
            self._failure = self._failure or error
            await reset(stream)
            return
        try:
            tcp = await connect_tcp(*self._server)
        except OSError as error:
            logger.warning("no connection to %s port %d: %s", *self._server, error)
            await reset(stream)
            return
        client, server = _Side(stream), _Side(tcp)
        async with tcp, create_task_group() as tasks:
            tasks.start_soon(self._carry, client, server, to_server)
            tasks.start_soon(self._carry, server, client, to_client)

    async def _carry(self, source: _Side, sink: _Side, fault: Fault) -> None:
        """Carry one direction; what breaks it breaks the other one too."""
        try:
            await _carry(source, sink, fault)
        except Exception as error:
            self._note(error)
            await reset(source.stream)
            await reset(sink.stream)

    def _note(self, error: Exception) -> None:
        if not isinstance(error, BrokenResourceError | ClosedResourceError):
            self._failure = self._failure or error

    def _where(self) -> str:
        host, port = self._server
        return f"{super()._where()} to {host}:{port}"


class _Side:
    """One end of a connection. Both directions send to it, one of them only what comes back."""

    def __init__(self, stream: AnyByteStream) -> None:
        self.stream: Final = stream
        self._lock: Final = Lock(fast_acquire=True)
        self._eof_sent = False

    async def send(self, data: bytes) -> None:
        async with self._lock:
            if not self._eof_sent:  # what comes back after the end is lost
                await self.stream.send(data)

    async def send_eof(self) -> None:
        async with self._lock:
            self._eof_sent = True
            try:
                await self.stream.send_eof()
            except OSError as error:  # trio's, of a socket that is reset or closed
                raise BrokenResourceError from error


async def _carry(source: _Side, sink: _Side, fault: Fault) -> None:
    """Carry one direction until its source ends: also what nobody gets any more.

    :raises BrokenResourceError: one side broke, or is to break
    """
    source_ended = sink_ended = False
    while not source_ended:
        await sleep(fault.turns * _TURN)
        outcomes, source_ended = await _receive(source, fault)
        end = None if sink_ended else await perform(outcomes, sink.send, source.send)
        if end is not None:
            if end.reset:
                raise BrokenResourceError
            sink_ended = True
            await sink.send_eof()


async def _receive(source: _Side, fault: Fault) -> tuple[Iterator[Outcome], bool]:
    """Give what becomes of what comes next, and whether that was the end."""
    try:
        return fault.apply(await source.stream.receive()), False
    except EndOfStream:
        return fault.finish(), True
