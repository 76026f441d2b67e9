"""`open_connection` and `start_server`, and what 500 of them leave behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from saslwrap.asyncio import SASLTransport, authenticate_streams, open_connection, start_server
from saslwrap.asyncio.wire import Wire
from saslwrap.context import SecurityContext
from saslwrap.errors import AuthenticationError, SASLError
from saslwrap.exchange import Exchange
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import mechanism_pair
from saslwrap.testing.pairs import PASSWORD
from tests.asyncio_streams import WRONG_PASSWORD, log_in, talk, within, wrong_password
from tests.measure.memory import FILE_DESCRIPTORS, open_files
from tests.support import reset_at_close
from tests.test_shells_support import (
    ADDRESS,
    PATIENCE,
    Problems,
    Streams,
    loops,
    on_both_loops,
    problems,
    reset,
    turns,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


def server_exchange() -> Exchange:
    return LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair().server})


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, SASLError):
        pass
    finally:
        writer.close()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_a_server_and_its_client() -> None:
    async with await start_server(echo, ADDRESS, 0, make_exchange=server_exchange) as server:
        for _ in range(2):
            exchange = LDAPBind(mechanism_pair().client)
            reader, writer = await within(
                open_connection(ADDRESS, port_of(server), exchange=exchange)
            )
            writer.write(bytes(100_000))
            writer.write_eof()
            assert await within(reader.read()) == bytes(100_000)
            writer.close()
            await within(writer.wait_closed())


async def test_a_servers_callback_can_be_a_plain_function() -> None:
    served: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set_result((reader, writer))

    async with await start_server(callback, ADDRESS, 0, make_exchange=server_exchange) as server:
        client = await within(
            open_connection(
                ADDRESS, port_of(server), exchange=LDAPBind(mechanism_pair().client), limit=500
            )
        )
        at_server = await within(served)
        await talk(client, at_server)
        for _, writer in (client, at_server):
            writer.close()
            await within(writer.wait_closed())


async def test_a_server_forgets_a_login_that_is_over() -> None:
    """The connection may last for days: nothing keeps the exchange, and the mechanism with it."""
    logins: list[weakref.ref[Exchange]] = []

    def noted_exchange() -> Exchange:
        exchange = server_exchange()
        logins.append(weakref.ref(exchange))
        return exchange

    async with await start_server(echo, ADDRESS, 0, make_exchange=noted_exchange) as server:
        reader, writer = await within(
            open_connection(ADDRESS, port_of(server), exchange=LDAPBind(mechanism_pair().client))
        )
        writer.write(b"hello")
        assert await within(reader.readexactly(5)) == b"hello"
        gc.collect()
        assert [login() for login in logins] == [None]
        writer.close()
        await within(writer.wait_closed())


async def test_a_login_that_fails_closes_both_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with await start_server(echo, ADDRESS, 0, make_exchange=server_exchange) as server:
        with pytest.raises(AuthenticationError):
            await within(
                open_connection(ADDRESS, port_of(server), exchange=LDAPBind(wrong_password()))
            )
        await turns(100)
    (record,) = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert f"login from ('{ADDRESS}', " in record.getMessage()
    for secret in (WRONG_PASSWORD, PASSWORD):
        assert secret not in record.getMessage()


async def test_a_client_that_cannot_connect() -> None:
    async with await start_server(echo, ADDRESS, 0, make_exchange=server_exchange) as server:
        port = port_of(server)
    with pytest.raises(ConnectionRefusedError):
        await within(open_connection(ADDRESS, port, exchange=LDAPBind(wrong_password())))


async def test_a_server_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with await start_server(
        echo, ADDRESS, 0, make_exchange=server_exchange, authenticate_timeout=0.01
    ) as server:
        reader, writer = await asyncio.open_connection(ADDRESS, port_of(server))
        assert await within(reader.read()) == b""
        writer.close()
        await within(writer.wait_closed())
    assert caplog.messages[-1].endswith("failed: TimeoutError")


async def test_failed_logins_can_be_handled() -> None:
    failures: asyncio.Queue[tuple[Exception, asyncio.StreamWriter]] = asyncio.Queue()

    async def handle(error: Exception, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go away")
        await failures.put((error, writer))

    async with await start_server(
        echo, ADDRESS, 0, make_exchange=server_exchange, handle_error=handle
    ) as server:
        reader, writer = await asyncio.open_connection(ADDRESS, port_of(server))
        refusal = asyncio.create_task(log_in(reader, writer, LDAPBind(wrong_password())))
        error, at_server = await within(failures.get())
        assert type(error) is AuthenticationError
        with suppress(AuthenticationError):
            await within(refusal)
        assert await within(reader.read()) in (b"", b"go away")
        assert at_server.is_closing()
        writer.close()
        await within(writer.wait_closed())


class ServerBugError(Exception):
    pass


def buggy_exchange() -> Exchange:
    raise ServerBugError


async def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with await start_server(echo, ADDRESS, 0, make_exchange=buggy_exchange) as server:
        reader, writer = await asyncio.open_connection(ADDRESS, port_of(server))
        assert await within(reader.read()) == b""
        writer.close()
        await within(writer.wait_closed())
    (record,) = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[0] is ServerBugError


async def test_a_client_that_is_gone_before_it_is_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with await start_server(echo, ADDRESS, 0, make_exchange=server_exchange) as server:
        with socket.create_connection((ADDRESS, port_of(server))) as gone:
            reset_at_close(gone)
        while not caplog.records:
            await turns()
    assert caplog.messages[-1].startswith("login from ")


async def test_a_handler_that_raises_leaves_no_connection_behind(problems: Problems) -> None:
    async def handle(error: Exception, writer: asyncio.StreamWriter) -> None:
        raise ServerBugError

    async with await start_server(
        echo, ADDRESS, 0, make_exchange=buggy_exchange, handle_error=handle
    ) as server:
        reader, writer = await asyncio.open_connection(ADDRESS, port_of(server))
        assert await within(reader.read()) == b""
        writer.close()
        await within(writer.wait_closed())
    while not problems:
        await turns()
        gc.collect()
    assert type(problems.pop()["exception"]) is ServerBugError


async def test_a_server_whose_task_is_cancelled_during_a_login(problems: Problems) -> None:
    tasks: list[asyncio.Task[Any]] = []

    def noting_exchange() -> Exchange:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        return server_exchange()

    async with await start_server(echo, ADDRESS, 0, make_exchange=noting_exchange) as server:
        reader, writer = await asyncio.open_connection(ADDRESS, port_of(server))
        while not tasks:
            await turns()
        tasks[0].cancel()
        assert await within(reader.read()) == b""
        writer.close()
        await within(writer.wait_closed())
    await turns()
    for problem in problems[:]:  # asyncio's own, until 3.11: its callback does not expect it
        if isinstance(problem["exception"], asyncio.CancelledError):
            problems.remove(problem)


def count_of(*kinds: type[object]) -> int:
    return sum(isinstance(thing, kinds) for thing in gc.get_objects())


class Visit:
    """A client that connects, logs in and talks; its connection is dropped where chance says."""

    def __init__(self, port: int, source: random.Random) -> None:
        self.port = port
        self.source = source
        self.writers: list[asyncio.StreamWriter] = []

    async def run(self) -> None:
        task = asyncio.create_task(self.live())
        for _ in range(self.source.randrange(60)):
            await asyncio.sleep(0)
        self.drop(task)
        await asyncio.wait([task])
        for writer in self.writers:
            writer.close()
        if not task.cancelled():
            error = task.exception()
            assert isinstance(error, SASLError | OSError | asyncio.IncompleteReadError), error

    async def live(self) -> None:
        reader, writer = await asyncio.open_connection(ADDRESS, self.port)
        self.writers.append(writer)
        mechanism = wrong_password() if self.chance(0.1) else mechanism_pair().client
        if self.chance(0.1):
            writer.write(b"\x30\x05no login")
        reader, writer = await authenticate_streams(reader, writer, LDAPBind(mechanism))
        self.writers.append(writer)
        while True:
            data = bytes(self.source.randrange(1, 50_000))
            writer.write(data)
            await writer.drain()
            await reader.readexactly(len(data))

    def drop(self, task: asyncio.Task[None]) -> None:
        ways: list[Callable[[], object]] = [task.cancel]
        if self.writers:
            ways += self.close, self.abort, self.reset
        self.source.choice(ways)()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    def reset(self) -> None:
        if not self.writers[0].is_closing():
            reset(self.writers[0])

    def chance(self, probability: float) -> bool:
        return self.source.random() < probability


@pytest.mark.skipif(not FILE_DESCRIPTORS.exists(), reason="descriptors cannot be counted here")
async def test_500_connections_dropped_at_random_points_leave_nothing_behind() -> None:
    kinds = (SASLTransport, Wire, SecurityContext, Exchange, ClientMechanism, asyncio.StreamWriter)
    gc.collect()
    await asyncio.to_thread(lambda: None)
    files, objects = open_files(), count_of(*kinds)
    source = random.Random(4242)
    served: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        await echo(reader, writer)

    server = await start_server(serve, ADDRESS, 0, make_exchange=server_exchange)
    for _ in range(25):
        await asyncio.gather(*(Visit(port_of(server), source).run() for _ in range(20)))
    server.close()
    this = asyncio.current_task()
    async with asyncio.timeout(PATIENCE):
        while others := asyncio.all_tasks() - {this}:
            await asyncio.wait(others)
    assert len(served) > 50, "few got past the login"
    served.clear()
    await turns(50)
    gc.collect()
    await turns()
    gc.collect()
    assert open_files() <= files
    assert count_of(*kinds) <= objects
