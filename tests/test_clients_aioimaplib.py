"""aioimaplib under our layer: `tests/peers/test_clients_imap.py` has Cyrus."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aioimaplib import aioimaplib

from saslwrap import (
    AuthenticationError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.asyncio import SASLTransport
from saslwrap.clients.aioimaplib import authenticate
from saslwrap.testing import CYRUS_IMAP, IMAPServer
from tests import imap_servers as servers
from tests.imap_bed import ANY_LAYER, MAILBOXES, PASSWORD, USERS
from tests.imap_clients import make_mechanism
from tests.peers.imap_wire import behind_the_login, frame_lengths
from tests.peers.wiretap import Direction, Wiretap
from tests.raw_server import Serve, serving
from tests.support import ToyMechanism

pytestmark = pytest.mark.asyncio


@pytest.fixture
def server() -> Iterator[IMAPServer]:
    with IMAPServer(MAILBOXES, USERS, properties=ANY_LAYER).in_thread() as running:
        yield running


@asynccontextmanager
async def connect(port: int, patience: float = 30) -> AsyncIterator[aioimaplib.IMAP4]:
    """A client that has heard the hello; nothing of it is left running."""
    client = aioimaplib.IMAP4("127.0.0.1", port, timeout=patience)
    await client.wait_hello_from_server()
    try:
        yield client
    finally:
        client.protocol.transport.abort()
        await asyncio.sleep(0)


async def test_the_state_is_as_after_a_login_of_its_own(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        before = client.protocol.tagnum
        await authenticate(client, make_mechanism())
        assert client.get_state() == "AUTH"
        assert client.protocol.tagnum == before + 2  # of the login, and of CAPABILITY
        assert isinstance(client.protocol.transport, SASLTransport)
        assert not client.has_capability("LOGINDISABLED")
        assert client.has_capability("IDLE")
        assert (await client.select("INBOX")).result == "OK"
        assert (await client.logout()).result == "OK"


async def test_what_it_is_built_on_is_there(server: IMAPServer) -> None:
    """Public attributes, but of no documented contract: another version may lack them."""
    async with connect(server.port) as client:
        protocol = client.protocol
        assert issubclass(type(protocol), asyncio.Protocol)
        assert protocol.transport.get_protocol() is protocol
        assert (protocol.state, protocol.incomplete_line) == ("NONAUTH", b"")
        assert (protocol.pending_sync_command, protocol.pending_async_commands) == (None, {})
        assert isinstance(protocol.state_condition, asyncio.Condition)
        assert isinstance(protocol.idle_queue, asyncio.Queue)
        assert isinstance(protocol.capabilities, set)
        assert inspect.iscoroutinefunction(protocol.capability)
        assert protocol.new_tag().isalnum()
        assert list(inspect.signature(aioimaplib.Command.close).parameters) == [
            "self",
            "line",
            "result",
        ]
        assert (aioimaplib.NONAUTH, aioimaplib.AUTH, aioimaplib.LOGOUT) == (
            "NONAUTH",
            "AUTH",
            "LOGOUT",
        )


async def test_something_else_than_a_client() -> None:
    with pytest.raises(UsageError, match=r"takes an aioimaplib\.IMAP4"):
        await authenticate(object(), make_mechanism())


async def test_a_login_without_a_layer(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        await authenticate(client, make_mechanism(properties=SecurityProperties(0, 0)))
        assert not isinstance(client.protocol.transport, SASLTransport)
        assert (await client.select("INBOX")).result == "OK"


async def test_a_login_after_those_that_were_refused(server: IMAPServer) -> None:
    with Wiretap("127.0.0.1", server.port) as tap:
        async with connect(tap.port) as client:
            with pytest.raises(aioimaplib.Error, match="refused DIGEST-MD5: NO") as refused:
                await authenticate(client, make_mechanism(password="wrong"))
            assert isinstance(refused.value.__cause__, AuthenticationError)
            with pytest.raises(aioimaplib.Error, match="the server offers") as unmet:
                await authenticate(client, make_mechanism(properties=SecurityProperties(200)))
            assert isinstance(unmet.value.__cause__, NegotiationError)
            assert client.get_state() == "NONAUTH"
            assert (await client.noop()).result == "OK"
            await authenticate(client, make_mechanism())
            assert (await client.select("INBOX")).result == "OK"
            assert (await client.logout()).result == "OK"
        await asyncio.to_thread(tap.wait_closed)
        assert PASSWORD.encode() not in tap.client_to_server
        assert b" LOGIN " not in tap.client_to_server
        assert frame_lengths(behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER))


async def test_what_a_mechanism_misses_is_raised_as_it_is(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        with pytest.raises(MechanismUnavailableError, match="install it"):
            await authenticate(client, ToyMechanism(MechanismUnavailableError("install it")))
        await authenticate(client, make_mechanism())


async def test_a_time_out_of_the_system_s_is_a_lost_connection(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        with pytest.raises(aioimaplib.Abort, match="no route"):
            await authenticate(client, ToyMechanism(TimeoutError("no route")))
        assert client.get_state() == "LOGOUT"


async def test_a_second_login(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        await authenticate(client, make_mechanism())
        with pytest.raises(UsageError, match="this client is in AUTH"):
            await authenticate(client, make_mechanism())
        assert (await client.noop()).result == "OK"


async def test_a_login_while_a_command_is_under_way(server: IMAPServer) -> None:
    async with connect(server.port) as client:
        noop = asyncio.create_task(client.noop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="commands are under way"):
            await authenticate(client, make_mechanism())
        assert (await noop).result == "OK"
        await authenticate(client, make_mechanism())


# servers that do what they must not


def silent(sock: socket.socket) -> None:
    servers.greet(sock)
    servers.wait(sock)


async def test_a_login_that_is_never_answered() -> None:
    with serving(silent) as port:
        async with connect(port) as client:
            client.timeout = 0.05
            with pytest.raises(TimeoutError):
                await authenticate(client, make_mechanism())
            await check_dead(client)


async def check_dead(client: aioimaplib.IMAP4) -> None:
    """It sends nothing more."""
    assert client.get_state() == "LOGOUT"
    assert client.protocol.transport.is_closing()
    with pytest.raises(aioimaplib.Abort, match="illegal in state LOGOUT"):
        await client.select("INBOX")


@pytest.mark.parametrize("case", servers.BAD_LOGINS)
async def test_a_login_that_cannot_be_good(case: str) -> None:
    serve, words = servers.BAD_LOGINS[case]
    with serving(serve) as port:
        async with connect(port) as client:
            with pytest.raises(aioimaplib.Error, match=words) as caught:
                await authenticate(client, make_mechanism())
            await check_dead(client)
    cause = caught.value.__cause__
    assert isinstance(cause, SASLError)
    assert isinstance(caught.value, aioimaplib.Abort) is isinstance(cause, ProtocolError)


async def test_success_under_the_layer_freezes_nothing() -> None:
    with IMAPServer(MAILBOXES, USERS, quirks=CYRUS_IMAP).in_thread() as server:
        async with connect(server.port) as client:
            with pytest.raises(aioimaplib.Abort, match="6454"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


@pytest.mark.parametrize("case", servers.FORBIDDEN)
async def test_what_no_client_may_accept(case: str) -> None:
    serve, words = servers.FORBIDDEN[case]
    with serving(serve) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            if case == "replayed":  # found out with the answer to CAPABILITY, or behind it
                client.protocol.conn_lost_cb = (lost := asyncio.Queue[Exception]()).put_nowait
                await asyncio.wait({asyncio.create_task(authenticate(client, make_mechanism()))})
                assert words in str(await asyncio.wait_for(lost.get(), 30))
            else:
                with pytest.raises(aioimaplib.Abort, match=words) as caught:
                    await authenticate(client, make_mechanism())
                assert isinstance(caught.value.__cause__, SASLError)
            await check_dead(client)
        await asyncio.to_thread(tap.wait_closed)
        sent = behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER)
        assert frame_lengths(sent)
        assert b"CAPABILITY" not in sent


async def test_a_server_that_calls_the_client_logged_in() -> None:
    with serving(servers.preauth) as port:
        async with connect(port) as client:
            with pytest.raises(UsageError, match="this client is in AUTH"):
                await authenticate(client, make_mechanism())


def failing_at(command: bytes, reply: Callable[[bytes], bytes]) -> Serve:
    """Serve well up to a command; answer that, and break the layer then."""

    def serve(sock: socket.socket) -> None:
        sealed = servers.log_in(sock)
        servers.answer(sealed, b"* CAPABILITY IMAP4rev1 IDLE\r\n")
        while True:
            tag, words = servers.command(sealed)
            if words.startswith(command):
                break
            sealed.sendall(tag + b" OK done\r\n")
        sealed.sendall(reply(tag))
        sock.sendall(b"\0\0\0\x20" + b"x" * 32)
        servers.wait(sock)

    return serve


async def test_a_command_does_not_wait_for_a_connection_that_is_gone() -> None:
    lost: list[Exception | None] = []
    with serving(failing_at(b"NOOP", lambda tag: b"* OK one moment\r\n")) as port:
        async with connect(port, patience=1000) as client:
            client.protocol.conn_lost_cb = lost.append
            await authenticate(client, make_mechanism())
            response = await client.noop()
            assert response.result == "KO"
            assert b"altered or forged" in response.lines[-1]
            await check_dead(client)
    assert [type(error).__name__ for error in lost] == ["IntegrityError"]


async def test_idle_does_not_wait_for_a_connection_that_is_gone() -> None:
    with serving(failing_at(b"IDLE", lambda tag: b"+ idling\r\n")) as port:
        async with connect(port, patience=1000) as client:
            await authenticate(client, make_mechanism())
            await client.select("INBOX")
            idle = asyncio.create_task(client.idle())
            assert await client.wait_server_push() == aioimaplib.STOP_WAIT_SERVER_PUSH
            assert (await idle).result == "KO"
            await check_dead(client)


async def test_a_command_that_is_sent_before_the_client_hears_that_the_layer_failed(
    server: IMAPServer,
) -> None:
    async with connect(server.port) as client:
        await authenticate(client, make_mechanism())
        context = client.protocol.transport.get_extra_info("sasl")
        with pytest.raises(SASLError) as failed:
            context.unseal(bytes(40))
        with pytest.raises(aioimaplib.Abort) as caught:
            await client.select("INBOX")
        assert str(caught.value) == str(caught.value.__cause__) == str(failed.value)
        await asyncio.sleep(0.01)
        await check_dead(client)
