from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    Event,
    connect_tcp,
    create_task_group,
    fail_after,
    move_on_after,
    sleep,
    sleep_forever,
)
from anyio.abc import AnyByteStream, ByteStream, SocketStream

from saslwrap import DigestMD5Client
from saslwrap.anyio import authenticate
from saslwrap.errors import IntegrityError, UsageError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import (
    After,
    AfterLogin,
    AtOnce,
    Cut,
    Delay,
    Drop,
    Fault,
    FaultProxy,
    LDAPServer,
    MemoryStream,
    OneOctet,
    Outcome,
    Reflect,
    Stop,
    Whole,
    check_byte_stream,
    memory_stream_pair,
)
from saslwrap.testing.faults.stream import reset
from saslwrap.testing.loopback import LoopbackServer
from tests.support import frame

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Echo(LoopbackServer):
    """Says what it hears, and at the end "bye". Keeps what it heard, and how that ended."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[Exception] = []
        self.ended = Event()

    async def serve(self, stream: AnyByteStream) -> None:
        number = len(self.heard)
        self.heard.append(b"")
        try:
            while True:
                data = await stream.receive()
                self.heard[number] += data
                await stream.send(data)
        except EndOfStream as error:
            self.errors.append(error)
            with suppress(BrokenResourceError):
                await stream.send(b"bye")
        except BrokenResourceError as error:
            self.errors.append(error)
        finally:
            await stream.aclose()
            self.ended.set()


@asynccontextmanager
async def connected(
    to_server: Callable[[], Fault] = Whole, to_client: Callable[[], Fault] = Whole
) -> AsyncIterator[tuple[SocketStream, Echo]]:
    """A client's connection through a proxy to an echo."""
    with fail_after(20):
        async with (
            Echo() as echo,
            FaultProxy("127.0.0.1", echo.port, to_server=to_server, to_client=to_client) as proxy,
            await connect_tcp("127.0.0.1", proxy.port) as client,
        ):
            yield client, echo


async def read_all(stream: ByteStream, octets: int = sys.maxsize) -> bytes:
    """Receive so many octets, or up to the end."""
    data = bytearray()
    try:
        while len(data) < octets:
            data += await stream.receive(min(65536, octets - len(data)))
    except EndOfStream:
        assert octets == sys.maxsize, data
    return bytes(data)


async def test_both_directions_pass_and_end_each_for_itself() -> None:
    async with connected(OneOctet, lambda: Delay(0.001)) as (client, echo):
        await client.send(b"hello")
        assert await read_all(client, 5) == b"hello"
        await client.send(b"again")
        await client.send_eof()
        assert await read_all(client) == b"againbye"
        assert echo.heard == [b"helloagain"]


async def test_a_proxy_keeps_the_contract_of_a_stream() -> None:
    class OneClient(LoopbackServer):
        def __init__(self) -> None:
            self.came = Event()

        async def serve(self, stream: AnyByteStream) -> None:
            self.stream = stream
            self.came.set()
            async with stream:
                await sleep_forever()

    async with OneClient() as server, FaultProxy("127.0.0.1", server.port) as proxy:

        async def make_pair() -> tuple[ByteStream, ByteStream]:
            server.came = Event()
            client = await connect_tcp("127.0.0.1", proxy.port)
            await server.came.wait()
            return client, cast(ByteStream, server.stream)

        await check_byte_stream(make_pair, volume=1 << 23)


async def test_what_is_sent_in_a_burst_comes_at_once() -> None:
    async with connected(AtOnce) as (client, _):
        for _ in range(10):
            await client.send(b"x")
        assert await read_all(client, 10) == b"x" * 10


async def test_a_cut_direction_ends_and_the_other_one_goes_on() -> None:
    async with connected(lambda: Cut(3)) as (client, echo):
        await client.send(b"hello")
        assert await read_all(client) == b"helbye"
        assert echo.heard == [b"hel"]
        assert isinstance(echo.errors[0], EndOfStream)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_a_reset_is_one_at_both_ends(direction: str) -> None:
    make: dict[str, Callable[[], Fault]] = {direction: lambda: Cut(3, reset=True)}
    async with connected(**make) as (client, echo):
        await client.send(b"hello")
        with pytest.raises(BrokenResourceError) as caught:
            await read_all(client)
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        await echo.ended.wait()
        assert isinstance(echo.errors[0].__cause__, ConnectionResetError)


async def test_a_reset_of_the_client_passes_on() -> None:
    async with connected() as (client, echo):
        await client.send(b"hello")
        assert await read_all(client, 5) == b"hello"
        await reset(client)
        await echo.ended.wait()
        assert isinstance(echo.errors[0], BrokenResourceError)


class Gone(MemoryStream):
    """As trio's, of a socket that is not connected any more."""

    async def send_eof(self) -> None:
        raise OSError("not connected")


async def test_a_side_that_is_gone_when_the_other_ends_breaks_the_connection_only() -> None:
    async with Echo() as echo, FaultProxy("127.0.0.1", echo.port) as proxy:
        ours, theirs = memory_stream_pair()
        theirs.__class__ = Gone
        await ours.send_eof()
        await proxy.serve(theirs)
        assert theirs.closed


async def test_what_is_stopped_leaves_the_connection_open_though_its_source_ends() -> None:
    async with connected(lambda: Cut(5), lambda: Stop(3)) as (client, echo):
        await client.send(b"hello")
        assert await read_all(client, 3) == b"hel"
        await echo.ended.wait()
        with move_on_after(0.05) as patience:
            await client.receive()
        assert patience.cancelled_caught


async def test_each_connection_has_faults_of_its_own() -> None:
    async with (
        Echo() as echo,
        FaultProxy("127.0.0.1", echo.port, to_client=lambda: Cut(2)) as proxy,
    ):
        for _ in range(3):
            async with await connect_tcp("127.0.0.1", proxy.port) as client:
                await client.send(b"abc")
                assert await read_all(client) == b"ab"


async def test_a_frame_comes_back_from_the_proxy() -> None:
    async with connected(lambda: Reflect(0)) as (client, echo):
        await client.send(frame(b"mine") + frame(b"yours"))
        await client.send_eof()
        received = await read_all(client)
        assert sorted([received[:8], received[8:-3]]) == [frame(b"mine"), frame(b"yours")]
        assert echo.heard == [frame(b"yours")]


async def test_what_comes_back_after_the_end_is_lost() -> None:
    async with connected(lambda: After(1, Reflect(0)), lambda: Cut(0)) as (client, echo):
        await client.send(b"x")
        assert await read_all(client) == b""
        await client.send(frame(b"mine") + frame(b"yours"))
        await client.send_eof()
        await echo.ended.wait()
        assert echo.heard == [b"x" + frame(b"yours")]


class Counting(Whole):
    """No fault; counts."""

    octets = 0

    def apply(self, data: bytes) -> Iterator[Outcome]:
        self.octets += len(data)
        yield data


class Sleeper(LoopbackServer):
    """Reads once, and on when it is woken; counts."""

    def __init__(self) -> None:
        self.woken, self.ended = Event(), Event()
        self.octets = 0

    async def serve(self, stream: AnyByteStream) -> None:
        async with stream:
            self.octets += len(await stream.receive())  # until then anyio reads on, on asyncio
            await self.woken.wait()
            with suppress(EndOfStream):
                while True:
                    self.octets += len(await stream.receive())
            self.ended.set()


async def test_who_does_not_read_holds_up_who_sends() -> None:
    volume, counting = 1 << 25, Counting()
    async with (
        Sleeper() as server,
        FaultProxy("127.0.0.1", server.port, to_server=lambda: counting) as proxy,
        await connect_tcp("127.0.0.1", proxy.port) as client,
        create_task_group() as tasks,
    ):
        tasks.start_soon(send_all, client, bytes(volume))
        before = 0
        while not counting.octets or before < counting.octets:
            before = counting.octets
            await sleep(0.1)
        assert counting.octets < volume / 2
        server.woken.set()
        await server.ended.wait()
        assert server.octets == volume


async def send_all(stream: ByteStream, data: bytes) -> None:
    await stream.send(data)
    await stream.send_eof()


async def test_a_fault_that_cannot_work_is_raised_when_the_proxy_ends() -> None:
    async def send_no_frame() -> None:
        async with connected(Drop) as (client, echo):
            await client.send(b"no frame, this")
            with pytest.raises(BrokenResourceError):
                await read_all(client)
            assert echo.heard == [b""]

    with pytest.raises(UsageError, match="AfterLogin or After"):
        await send_no_frame()


async def test_the_error_of_a_test_is_told_rather_than_the_fault_s() -> None:
    async def fail_both() -> None:
        async with connected(Drop) as (client, _):
            await client.send(b"no frame, this")
            with pytest.raises(BrokenResourceError):
                await read_all(client)
            raise ValueError("the test's own")

    with pytest.raises(ValueError, match="the test's own") as info:
        await fail_both()
    assert any("AfterLogin" in note for note in info.value.__notes__)


async def test_a_maker_that_gives_a_name_is_told_so() -> None:
    async def receive() -> None:
        async with connected(cast("Any", lambda: "replay")) as (client, _):
            with pytest.raises(BrokenResourceError):
                await read_all(client)

    with pytest.raises(UsageError, match=r"what to_server makes is a Fault, .*, not str"):
        await receive()


async def test_a_maker_that_gives_the_same_fault_again_is_told_so() -> None:
    only = AfterLogin(Drop(0))

    async def connect_twice() -> None:
        async with (
            Echo() as echo,
            FaultProxy("127.0.0.1", echo.port, to_client=lambda: only) as proxy,
        ):
            async with await connect_tcp("127.0.0.1", proxy.port) as first:
                await first.send(frame(b"lost") + frame(b"kept"))
                assert await read_all(first, 8) == frame(b"kept")
            async with await connect_tcp("127.0.0.1", proxy.port) as second:
                with pytest.raises(BrokenResourceError), fail_after(10):
                    await read_all(second)

    with pytest.raises(UsageError, match=r"this AfterLogin has one already: .*to_client=lambda: "):
        await connect_twice()


async def test_a_fault_that_cannot_be_made_is_raised_when_the_proxy_ends() -> None:
    async def receive() -> None:
        async with connected(lambda: Cut(1 // 0)) as (client, _):
            with pytest.raises(BrokenResourceError):
                await read_all(client)

    with pytest.raises(ZeroDivisionError):
        await receive()


async def test_nobody_behind_it_is_a_reset() -> None:
    with socket.socket() as nobody:  # bound, so that the port stays free, and not listening
        nobody.bind(("127.0.0.1", 0))
        async with (
            FaultProxy("127.0.0.1", nobody.getsockname()[1]) as proxy,
            await connect_tcp("127.0.0.1", proxy.port) as client,
        ):
            with pytest.raises(BrokenResourceError):
                await read_all(client)


async def test_a_sealed_session_ends_at_its_fault_and_not_before() -> None:
    entries = {"dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]}}
    who_am_i = bytes.fromhex("301e02010377198017") + b"1.3.6.1.4.1.4203.1.11.3"
    async with (
        LDAPServer(entries, users={"alice": "s3cret"}) as server,
        FaultProxy("127.0.0.1", server.port, to_client=lambda: AfterLogin(Drop(1))) as proxy,
        await connect_tcp("127.0.0.1", proxy.port) as tcp,
    ):
        mechanism = DigestMD5Client("alice", "s3cret", service="ldap", host=server.host)
        stream = await authenticate(tcp, LDAPBind(mechanism))
        await stream.send(who_am_i)
        assert b"u:alice" in await stream.receive()
        await stream.send(who_am_i)  # its answer is lost
        await stream.send(who_am_i)
        with pytest.raises(BrokenResourceError) as caught:
            await stream.receive()
        assert isinstance(caught.value.__cause__, IntegrityError)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_says_where_it_stands(anyio_backend: str) -> None:
    proxy = FaultProxy("ldap.example.com", 389)
    assert repr(proxy) == "<FaultProxy not listening>"
    async with proxy:
        assert repr(proxy) == f"<FaultProxy 127.0.0.1:{proxy.port} to ldap.example.com:389>"


def test_blocking_clients_take_it_in_a_thread_and_its_end_ends_them() -> None:
    with Echo().in_thread() as echo:
        with FaultProxy("127.0.0.1", echo.port, to_client=OneOctet).in_thread() as proxy:
            client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
            client.sendall(b"hello")
            with client.makefile("rb") as file:
                assert file.read(5) == b"hello"
        with client:
            assert client.recv(5) == b""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"port": "389"}, "port is a whole number from 1 to 65535, not str"),
        ({"port": 99999}, "port is a whole number from 1 to 65535, not 99999"),
        ({"port": 0}, "port is a whole number from 1 to 65535, not 0"),
        ({"port": True}, "port is a whole number from 1 to 65535, not bool"),
        ({"host": None}, "host is the name or the address of the server, not NoneType"),
        ({"to_client": "replay"}, "to_client is what makes a fault, .*=lambda: .*, not str"),
        ({"to_server": Drop()}, "to_server is what makes a fault, .*=lambda: .*, not Drop"),
    ],
)
def test_what_is_no_place_and_no_maker_is_refused_at_once(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        FaultProxy(**{"host": "localhost", "port": 389, **arguments})
