from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    TCPConnectable,
    connect_tcp,
    create_memory_object_stream,
    create_task_group,
    create_tcp_listener,
    fail_after,
)
from anyio.abc import (
    AnyByteStream,
    ByteStream,
    ByteStreamConnectable,
    Listener,
    SocketAttribute,
    TaskGroup,
)

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.anyio import SASLAttribute, SASLConnectable, SASLListener, SASLStream, authenticate
from saslwrap.errors import AuthenticationError, ProtocolError
from saslwrap.exchange import Exchange
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import mechanism_pair
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME
from saslwrap.testing.streams import MemoryStream, memory_stream_pair
from saslwrap.testing.tasks import run_both, settle
from tests.conftest import talk
from tests.support import ToyExchange, ToyMechanism

pytestmark = pytest.mark.anyio


class MemoryListener(Listener[MemoryStream], ByteStreamConnectable):
    """Accepts connections in memory, which are made by itself."""

    name = object()

    def __init__(self) -> None:
        self._made, self._accepted = create_memory_object_stream[MemoryStream](9)
        self.ends: list[MemoryStream] = []

    async def connect(self) -> MemoryStream:
        client, server = memory_stream_pair()
        self.ends.append(server)
        await self._made.send(server)
        return client

    async def serve(
        self, handler: Callable[[MemoryStream], Any], task_group: TaskGroup | None = None
    ) -> None:
        assert task_group is not None
        with suppress(ClosedResourceError):
            async for stream in self._accepted:
                task_group.start_soon(handler, stream)

    async def aclose(self) -> None:
        self._made.close()
        self._accepted.close()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {self.name: lambda: "in memory"}


def bind() -> LDAPBind:
    return LDAPBind(mechanism_pair().client)


def bind_server() -> LDAPBindServer:
    return LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair().server})


async def echo(stream: SASLStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def check_echo(stream: ByteStream) -> None:
    await stream.send(b"echo")
    assert await stream.receive() == b"echo"
    await stream.aclose()


class Handled:
    """Keeps what `handle_error` was called with."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.was_closed: list[bool] = []
        self.seen = Event()

    async def __call__(self, error: Exception, stream: AnyByteStream) -> None:
        assert isinstance(stream, MemoryStream)
        self.errors.append(error)
        self.was_closed.append(stream.closed)
        self.seen.set()


async def test_over_tcp_whoever_logs_in_gets_to_the_handler() -> None:
    identities: list[tuple[str, str | None]] = []

    async def handle(stream: SASLStream) -> None:
        identities.append(
            (stream.extra(SASLAttribute.mechanism), stream.extra(SASLAttribute.authcid))
        )
        await echo(stream)

    listener = SASLListener(await create_tcp_listener(local_host="127.0.0.1"), bind_server)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        port = listener.extra(SocketAttribute.local_port)
        for _ in range(2):
            await check_echo(
                await SASLConnectable(TCPConnectable("127.0.0.1", port), bind).connect()
            )
        tasks.cancel_scope.cancel()
    assert identities == [("DIGEST-MD5", USERNAME)] * 2


async def test_the_task_group_and_the_attributes_are_passed_on() -> None:
    below = MemoryListener()
    listener = SASLListener(below, bind_server)
    assert listener.extra(MemoryListener.name) == "in memory"
    async with create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        await check_echo(await SASLConnectable(below, bind).connect())
        await listener.aclose()
    with pytest.raises(ClosedResourceError):
        await below.connect()


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", TimeoutError),
        (b"GET / HTTP/1.1\r\n\r\n", ProtocolError),
        (None, ProtocolError),
    ],
)
async def test_bad_clients_are_reported_and_closed_and_good_ones_go_on(
    sent: bytes | None, kind: type[Exception]
) -> None:
    handled, below = Handled(), MemoryListener()
    listener = SASLListener(
        below,
        bind_server,
        authenticate_timeout=0.05 if kind is TimeoutError else 30,
        handle_error=handled,
    )
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        good = await SASLConnectable(below, bind).connect()
        bad = await below.connect()
        await (bad.send_eof() if sent is None else bad.send(sent))
        with fail_after(10):
            await handled.seen.wait()
            with pytest.raises(EndOfStream):
                await bad.receive()
        await check_echo(good)
        await check_echo(await SASLConnectable(below, bind).connect())
        await listener.aclose()
        tasks.cancel_scope.cancel()
    assert [isinstance(error, kind) for error in handled.errors] == [True]
    assert below.ends[1].closed


async def test_a_refused_client_is_closed_after_it_was_reported() -> None:
    handled, below = Handled(), MemoryListener()
    listener = SASLListener(below, bind_server, handle_error=handled)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        client = DigestMD5Client(USERNAME, "a guess", service="ldap", host=HOST)
        with pytest.raises(AuthenticationError):
            await SASLConnectable(below, lambda: LDAPBind(client)).connect()
        await handled.seen.wait()
        await settle()
        tasks.cancel_scope.cancel()
    assert [type(error) for error in handled.errors] == [AuthenticationError]
    assert handled.was_closed == [False]
    assert below.ends[0].closed


def failing_server() -> Exchange:
    def look_up(username: str, realm: str) -> str | None:
        raise LookupError("the database is away")

    return LDAPBindServer(
        {"DIGEST-MD5": lambda: DigestMD5Server(look_up, service="ldap", host=HOST, realms=[REALM])}
    )


@pytest.mark.parametrize(
    ("make_exchange", "level", "text"),
    [
        (bind_server, logging.WARNING, "login from a peer failed: the client left"),
        (failing_server, logging.ERROR, "login from a peer failed"),
    ],
)
async def test_the_default_logs_without_secrets(
    make_exchange: Callable[[], Exchange],
    level: int,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    below = MemoryListener()
    listener = SASLListener(below, make_exchange)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        if make_exchange is bind_server:
            client = await below.connect()
            await client.send(b"0\x84\0\0\0\x05\x02\x01\x01B\0")
            with pytest.raises(EndOfStream):
                await client.receive()
        else:
            with pytest.raises((ProtocolError, BrokenResourceError)):
                await SASLConnectable(below, bind).connect()
        await settle()
        tasks.cancel_scope.cancel()
    records = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert [record.levelno for record in records] == [level]
    assert records[0].getMessage().startswith(text)
    assert (records[0].exc_info is not None) is (level == logging.ERROR)
    assert PASSWORD not in caplog.text
    assert "response=" not in caplog.text


async def test_the_default_names_the_peer_and_the_time_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = SASLListener(
        await create_tcp_listener(local_host="127.0.0.1"), bind_server, authenticate_timeout=0.05
    )
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with await connect_tcp(
            "127.0.0.1", listener.extra(SocketAttribute.local_port)
        ) as silent:
            here = silent.extra(SocketAttribute.local_address)
            with pytest.raises((EndOfStream, BrokenResourceError)):
                await silent.receive()
            await settle()
        tasks.cancel_scope.cancel()
    text = caplog.records[-1].getMessage()
    assert f"{here!r}" in text
    assert "TimeoutError" in text


async def test_an_error_handler_that_fails_is_heard_and_the_client_closed() -> None:
    async def handle_error(error: Exception, stream: AnyByteStream) -> None:
        raise LookupError("the log is full")

    below = MemoryListener()
    listener = SASLListener(below, bind_server, handle_error=handle_error)
    client = await below.connect()
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ExceptionGroup) as caught:
        async with listener, create_task_group() as tasks:
            await listener.serve(echo, tasks)
    assert caught.group_contains(LookupError)
    assert below.ends[0].closed


async def test_logins_under_way_are_closed_with_the_server() -> None:
    below = MemoryListener()
    listener = SASLListener(below, bind_server)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        client = await below.connect()
        await settle()
        assert not below.ends[0].closed
        tasks.cancel_scope.cancel()
    assert below.ends[0].closed
    with pytest.raises(EndOfStream):
        await client.receive()


async def test_an_exchange_that_cannot_be_made_closes_the_client() -> None:
    def make_exchange() -> Exchange:
        raise LookupError("no configuration")

    handled, below = Handled(), MemoryListener()
    listener = SASLListener(below, make_exchange, handle_error=handled)
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo, tasks)
        client = await below.connect()
        with pytest.raises(EndOfStream):
            await client.receive()
        tasks.cancel_scope.cancel()
    assert isinstance(handled.errors[0], LookupError)


class StopError(BaseException):
    pass


async def test_an_interrupt_passes_and_closes_the_client() -> None:
    def make_exchange() -> Exchange:
        raise StopError

    handled, below = Handled(), MemoryListener()
    listener = SASLListener(below, make_exchange, handle_error=handled)
    await below.connect()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with listener, create_task_group() as tasks:
            await listener.serve(echo, tasks)
    assert caught.group_contains(StopError)
    assert handled.errors == []
    assert below.ends[0].closed


# Connecting


async def test_a_connection_whose_login_fails_is_closed() -> None:
    class Connectable(ByteStreamConnectable):
        def __init__(self) -> None:
            self.client, self.server = memory_stream_pair()

        async def connect(self) -> ByteStream:
            return self.client

    refused = Connectable()
    await refused.server.send(b"NO\n")
    with pytest.raises(AuthenticationError):
        await SASLConnectable(refused, lambda: ToyExchange(ToyMechanism())).connect()
    assert refused.client.closed

    def make_exchange() -> Exchange:
        raise LookupError("no configuration")

    unmade = Connectable()
    with pytest.raises(LookupError):
        await SASLConnectable(unmade, make_exchange).connect()
    assert unmade.client.closed

    cancelled = Connectable()
    with CancelScope() as scope:
        scope.cancel()
        await SASLConnectable(cancelled, bind).connect()
    assert cancelled.client.closed


async def test_a_connectable_is_used_again_and_again() -> None:
    below = MemoryListener()
    connectable = SASLConnectable(below, bind)

    async def accept() -> SASLStream:
        await settle()
        return await authenticate(below.ends[-1], bind_server())

    for _ in range(2):
        client, server = await run_both(connectable.connect, accept)
        assert isinstance(client, SASLStream)
        assert isinstance(server, SASLStream)
        await talk(client, server)
    await below.aclose()
