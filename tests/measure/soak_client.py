"""The client of the soak: the anyio shell on uvloop, over TCP with or without faults.

Each connection is one task, which sends two messages, receives and compares as many octets, and
pauses. One with a harmful fault waits a while first, then talks until it breaks; another takes its
place.
"""

from __future__ import annotations

import random
import tracemalloc
from itertools import count
from math import inf
from multiprocessing.connection import Connection
from typing import Final

import anyio
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    Semaphore,
    connect_tcp,
    create_task_group,
    fail_after,
    move_on_after,
)
from anyio.abc import ByteStream

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.errors import SASLError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing.faults import AfterLogin, FaultyStream, fault
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME, properties_for
from tests.measure.process import questions, raise_file_limit
from tests.measure.soak_plan import (
    ADDRESS,
    HARMLESS,
    LAYERS,
    NUMBER_OCTETS,
    Octets,
    Plan,
    Sample,
    Tally,
    octets_of,
)

__all__ = ["connect"]

#: How many log in at the same time.
AT_ONCE = 100

#: Octets of a message at the most, and of one in sixteen.
SMALL, LARGE = 200, 4000

#: How a connection may end that has a harmful fault.
BROKEN = (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    OSError,
    SASLError,
    TimeoutError,
)


def connect(pipe: Connection, plan: Plan, port: int) -> None:
    """Be the client.

    It tells a sample before the first connection, one when all are there, one each time it is
    asked, and at "end" one when all are closed.
    """
    tracemalloc.start()
    raise_file_limit(plan.files)
    anyio.run(_run, pipe, plan, port, backend_options={"use_uvloop": True})


async def _run(pipe: Connection, plan: Plan, port: int) -> None:
    client = _Client(plan, port)
    pipe.send(Sample.now(client.tally))
    await _connect_all(pipe, plan, client)
    pipe.send(Sample.now(client.tally))


async def _connect_all(pipe: Connection, plan: Plan, client: _Client) -> None:
    async with create_task_group() as healthy, create_task_group() as harmed:
        for place in range(plan.connections):
            name = plan.fault_of(place)
            tasks = healthy if name in HARMLESS else harmed
            tasks.start_soon(client.keep_connected, name)
        await client.all_there.wait()
        pipe.send(Sample.now(client.tally))
        async for question in questions(pipe):
            if question == "end":
                break
            pipe.send(Sample.now(client.tally))
        client.stop.set()
        harmed.cancel_scope.cancel()


class _Client:
    """What the connections share."""

    def __init__(self, plan: Plan, port: int) -> None:
        self.tally: Final = Tally()
        self.stop: Final = Event()
        self.all_there: Final = Event()
        self._plan: Final = plan
        self._port: Final = port
        self._numbers: Final = count()
        self._turns: Final = Semaphore(AT_ONCE)

    async def keep_connected(self, name: str | None) -> None:
        """Have one connection after the other, until all are to stop."""
        while not self.stop.is_set():
            number = next(self._numbers)
            try:
                await self._have_connection(number, name)
            except BROKEN as error:
                if name in HARMLESS:
                    self.tally.unexpected.append(f"{name} {number}: {error!r}")
                else:
                    self.tally.ended(f"{name}: {_cause(error)}")

    async def _have_connection(self, number: int, name: str | None) -> None:
        source = random.Random(number)
        with CancelScope(shield=True):  # a login that is cut short is not one of the faults
            stream = await self._log_in(number, name, source)
        async with stream:
            self.tally.logins += 1
            if self.tally.logins == self._plan.connections:
                self.all_there.set()
            await self.all_there.wait()
            await self._talk(stream, number, name, source)

    async def _log_in(self, number: int, name: str | None, source: random.Random) -> SASLStream:
        async with self._turns:
            transport = await self._connect(number, name, source)
            return await authenticate(transport, LDAPBind(_mechanism(source)))

    async def _connect(self, number: int, name: str | None, source: random.Random) -> ByteStream:
        tcp = await connect_tcp(ADDRESS, self._port)
        if name is None:
            return tcp
        direction = source.choice(("sending", "receiving"))
        return FaultyStream(tcp, **{direction: AfterLogin(fault(name, number))})

    async def _talk(
        self, stream: SASLStream, number: int, name: str | None, source: random.Random
    ) -> None:
        patience = inf
        if name not in HARMLESS:
            patience = self._plan.patience
            await self._pause(source.uniform(0, self._plan.idle))
        await stream.send(number.to_bytes(NUMBER_OCTETS, "big"))
        ours, theirs = octets_of(number)
        while not self.stop.is_set():
            size = source.randint(1, SMALL if source.randrange(16) else LARGE)
            with fail_after(patience):
                await stream.send(ours.take(size))
                await stream.send(ours.take(size))
                await self._receive(stream, 2 * size, theirs)
            await self._pause(source.uniform(0.5, 1.5) * self._plan.pace)

    async def _receive(self, stream: SASLStream, size: int, expected: Octets) -> None:
        while size > 0:
            data = await stream.receive()
            self.tally.compare(data, expected)
            size -= len(data)
        self.tally.messages += 2
        self.tally.wrong += size < 0

    async def _pause(self, seconds: float) -> None:
        with move_on_after(seconds):
            await self.stop.wait()


def _mechanism(source: random.Random) -> DigestMD5Client:
    protection, maxbuf = source.choice(LAYERS)
    return DigestMD5Client(
        USERNAME,
        PASSWORD,
        service="ldap",
        host=HOST,
        properties=properties_for(protection, max_buffer=maxbuf),
    )


def _cause(error: Exception) -> str:
    return type(error.__cause__ or error).__name__
