"""What is given for logins to come is judged when it is given, not at the first client's."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    TCPConnectable,
    connect_tcp,
    create_task_group,
    create_tcp_listener,
    fail_after,
)
from anyio.abc import SocketAttribute

from saslwrap.anyio import SASLConnectable, SASLListener
from saslwrap.asyncio import (
    authenticate_streams,
    open_connection,
    start_sasl_streams,
    start_server,
)
from saslwrap.errors import ProtocolError, UsageError
from saslwrap.exchange import Exchange
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import context_pair, mechanism_pair
from tests.test_shells_support import ADDRESS, PATIENCE, turns

NO_LOGIN = b"GET / HTTP/1.1\r\n\r\n"


def bind_server() -> LDAPBindServer:
    return LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair().server})


async def never() -> Exchange:
    raise AssertionError


class AsyncMaker:
    async def __call__(self) -> Exchange:
        raise AssertionError


MAKERS: dict[str, tuple[object, str]] = {
    "None": (None, "makes an exchange, anew for each login, not NoneType"),
    "an exchange": (bind_server(), "makes an exchange, anew for each login, not LDAPBindServer"),
    "a class": (LDAPBindServer, "called without arguments.*lambda: LDAPBindServer"),
    "needs arguments": (lambda mechanisms: mechanisms, "called without arguments"),
    "async": (never, "a plain function .*, not an async one"),
    "async in part": (partial(never), "a plain function .*, not an async one"),
    "async object": (AsyncMaker(), "a plain function .*, not an async one"),
}

OPTIONS: dict[str, tuple[dict[str, object], str]] = {
    f"make_exchange: {name}": ({"make_exchange": make}, f"make_exchange is .*{words}")
    for name, (make, words) in MAKERS.items()
}
OPTIONS |= {
    f"authenticate_timeout: {value!r}": (
        {"authenticate_timeout": value},
        f"authenticate_timeout is a number of seconds above 0, or None for no limit, not {words}",
    )
    for value, words in [(math.nan, "nan"), ("30", "str"), (0, "0"), (-0.5, "-0.5"), (True, "bool")]
}
OPTIONS["handle_error"] = {"handle_error": "x"}, "handle_error is a function, or None.*, not str"


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.asyncio
async def test_a_server_of_asyncio_s(option: str) -> None:
    given, words = OPTIONS[option]
    options: dict[str, Any] = {"make_exchange": bind_server, **given}
    with pytest.raises(UsageError, match=f"^{words}"):
        await start_server(lambda reader, writer: None, ADDRESS, 0, **options)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.anyio
async def test_a_listener_of_anyio_s(option: str) -> None:
    given, words = OPTIONS[option]
    options: dict[str, Any] = {"make_exchange": bind_server, **given}
    async with await create_tcp_listener(local_host=ADDRESS) as listener:
        with pytest.raises(UsageError, match=f"^{words}"):
            SASLListener(listener, options.pop("make_exchange"), **options)


@pytest.mark.asyncio
async def test_a_server_without_a_callback() -> None:
    callback: Any = None
    with pytest.raises(UsageError, match=r"^client_connected_cb is a function, not NoneType"):
        await start_server(callback, ADDRESS, 0, make_exchange=bind_server)


@pytest.mark.parametrize("given", [None, "localhost", TCPConnectable], ids=["None", "str", "class"])
def test_what_does_not_listen_or_connect(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^listener is a listener of anyio, not "):
        SASLListener(given, bind_server)
    with pytest.raises(UsageError, match=r"^connectable is a connectable of anyio, not "):
        SASLConnectable(given, lambda: LDAPBind(mechanism_pair().client))


@pytest.mark.parametrize("name", MAKERS)
def test_a_connectable_that_makes_no_exchange(name: str) -> None:
    make, words = MAKERS[name]
    maker: Any = make
    with pytest.raises(UsageError, match=f"^make_exchange is .*{words}"):
        SASLConnectable(TCPConnectable(ADDRESS, 1), maker)


@pytest.mark.parametrize("limit", [0, -1, None, "1", 0.5, True])
@pytest.mark.asyncio
async def test_a_limit_is_judged_before_anything_is_done(limit: Any) -> None:
    """The server would have logged the client in, to no purpose."""
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        there.shutdown(socket.SHUT_WR)  # a login that begins all the same ends at once
        streams = await asyncio.open_connection(sock=here)
        exchange = LDAPBind(mechanism_pair().client)
        for awaitable in (
            authenticate_streams(*streams, exchange, limit=limit),
            start_sasl_streams(*streams, context_pair().client, limit=limit),
            open_connection(ADDRESS, 1, exchange=exchange, limit=limit),
            start_server(lambda *_: None, ADDRESS, 0, make_exchange=bind_server, limit=limit),
        ):
            with pytest.raises(UsageError, match=r"^limit is a whole number from 1, not "):
                await awaitable
        with pytest.raises(BlockingIOError):
            there.recv(1)
        exchange.begin(b"")  # it is unused
        streams[1].close()
        await streams[1].wait_closed()


@pytest.mark.asyncio
async def test_what_is_no_exchange_does_not_connect() -> None:
    exchange: Any = LDAPBind
    with pytest.raises(UsageError, match="takes an Exchange"):
        await open_connection(ADDRESS, 1, exchange=exchange)


# what becomes of a login that failed


@asynccontextmanager
async def served_by_asyncio(**options: Any) -> AsyncIterator[int]:
    async with await start_server(
        lambda reader, writer: writer.close(), ADDRESS, 0, make_exchange=bind_server, **options
    ) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def served_by_anyio(**options: Any) -> AsyncIterator[int]:
    listener = SASLListener(await create_tcp_listener(local_host=ADDRESS), bind_server, **options)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: stream.aclose())
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


SERVED = [served_by_asyncio, served_by_anyio]


async def fail_to_log_in(port: int) -> None:
    """Come as who speaks another protocol, and wait for the end."""
    with fail_after(PATIENCE):
        async with await connect_tcp(ADDRESS, port) as client:
            await client.send(NO_LOGIN)
            with suppress(EndOfStream, BrokenResourceError):
                while await client.receive():
                    pass


class Handled:
    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def plain(self, error: Exception, _: object) -> None:
        self.errors.append(error)

    async def waits(self, error: Exception, _: object) -> None:
        await asyncio.sleep(0)
        self.errors.append(error)

    def gives_an_awaitable(self, error: Exception, _: object) -> Awaitable[None]:
        return self.waits(error, _)


@pytest.mark.parametrize("how", ["plain", "waits", "gives_an_awaitable"])
@pytest.mark.parametrize("serve", SERVED)
@pytest.mark.asyncio
async def test_an_error_handler_may_be_plain_or_async(serve: Callable[..., Any], how: str) -> None:
    """The second client shows that the server bore with the first."""
    handled, problems = Handled(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with serve(handle_error=getattr(handled, how)) as port:
        for _ in range(2):
            await fail_to_log_in(port)
    await turns()
    assert [type(error) for error in handled.errors] == [ProtocolError] * 2
    assert not problems


@pytest.mark.parametrize("serve", SERVED)
@pytest.mark.asyncio
async def test_without_an_error_handler_it_is_logged(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(handle_error=None, authenticate_timeout=None) as port:
        await fail_to_log_in(port)
    (record,) = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert record.levelno == logging.WARNING
    assert "login from " in record.getMessage()
    assert "failed: the peer sends what looks like text" in record.getMessage()
