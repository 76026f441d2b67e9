"""Attack list, group F: where the layer starts, through every shell.

Both ends' contexts are known beforehand, by the seed of their nonces: so a hand can put a frame of
the new layer, or anything else, into the very segment that ends the login.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.abc
import pytest

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.asyncio import authenticate_streams, start_sasl, start_sasl_streams
from saslwrap.context import SecurityContext
from saslwrap.errors import AuthenticationError, ContextBusyError, ProtocolError, UsageError
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing import MechanismPair, context_pair, mechanism_pair
from saslwrap.testing.pairs import HOST, USERNAME
from saslwrap.testing.tasks import run_both, settle
from tests.support import exactly as received
from tests.test_shells_adapters import (
    PATIENCE,
    WORLDS,
    BrokenError,
    End,
    Hand,
    Shell,
    anyio_backend,
    exactly,
    in_thread,
    shell,
    socket_pair,
    world,
)

__all__ = ["anyio_backend", "shell", "world"]

pytestmark = pytest.mark.anyio

SEED = 7

#: What no shell may give to its application: LDAP in clear, with an order in it.
CLEAR = b"\x30\x1c\x02\x01\x02\x65\x17obey the man in the middle"

LAST_OF_SERVER = b"rspauth="
LAST_OF_CLIENT = b"response="


def mechanisms() -> MechanismPair:
    """Both sides of a login whose keys are `contexts()`'."""
    return mechanism_pair("rc4", seed=SEED)


def client_exchange() -> Exchange:
    return LDAPBind(mechanisms().client)


def server_exchange() -> Exchange:
    return LDAPBindServer({"DIGEST-MD5": lambda: mechanisms().server})


class Intruder(Hand):
    """A hand that logs in or is logged in to, and puts octets behind the message that ends it."""

    def __init__(self, sock: socket.socket, *, is_client: bool) -> None:
        super().__init__(sock)
        contexts = context_pair("rc4", seed=SEED)
        self.new = contexts.client if is_client else contexts.server
        self.last = LAST_OF_CLIENT if is_client else LAST_OF_SERVER
        self.install(self.new)

    def carry(self, exchange: Exchange, behind: bytes = b"", *, under: Hand | None = None) -> None:
        """Carry a login to its end; `behind` comes in the segment of its last message.

        :param under: whose layer it travels under, in place of none
        """
        while not isinstance(event := exchange.advance(), Done):
            match event:
                case Send(data):
                    message = under.seal(data) if under else data
                    self.sock.sendall(message + behind * (self.last in data))
                case Step():
                    exchange.step()
                case NeedData():
                    exchange.receive_data(under.receive_some() if under else self.sock.recv(65536))
        self.layer.receive_data(exchange.trailing_data)


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """The end's socket and the intruder's, closed in the end."""
    pair = socket_pair()
    yield pair
    pair[1].close()
    await settle()


Sockets = tuple[socket.socket, socket.socket]


async def at_once(end: Callable[[], Awaitable[Any]], hand: Callable[[], Any]) -> Any:
    """Run the end's call and the intruder's, in a thread; give what came of the end's."""
    with anyio.fail_after(PATIENCE):
        outcome, by_hand = await run_both(end, partial(in_thread, hand))
    if isinstance(by_hand, Exception):
        raise by_hand
    return outcome


async def attacked(shell: Shell, sockets: Sockets, behind: Callable[[Intruder], bytes]) -> Any:
    """Log a client in; the intruder puts something behind the success."""
    intruder = Intruder(sockets[1], is_client=False)
    return await at_once(
        partial(shell.authenticated, sockets[0], client_exchange()),
        partial(intruder.carry, server_exchange(), behind(intruder)),
    )


def only(name: str) -> pytest.MarkDecorator:
    """What one shell does in a way of its own."""
    worlds = [world for world in WORLDS if str(world.id).startswith(name)]
    return pytest.mark.parametrize("world", worlds, indirect=True)


async def refuses_cleartext(end: End) -> None:
    """The end gives nothing to its application, but an error that says what is wrong."""
    for _ in range(2):
        with pytest.raises(BrokenError) as caught:
            pytest.fail(f"gave {await end.receive()!r}")
        assert isinstance(caught.value.cause, ProtocolError)
        assert "the peer seems not to seal" in str(caught.value.cause)
    with pytest.raises(BrokenError):
        await end.send(b"a secret")
    await end.close()


async def test_f1_cleartext_between_success_and_first_frame_is_refused(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/anyio/stream.py: self._layer.receive_data(chunk)
    Guard: saslwrap/asyncio/wire.py: self.layer.receive_data(data)
    Guard: saslwrap/sync/socket.py: self._layer.receive_data(chunk)
    """
    intruder = Intruder(sockets[1], is_client=False)
    end = await at_once(
        partial(shell.authenticated, sockets[0], client_exchange()),
        partial(intruder.carry, server_exchange()),
    )
    sockets[1].sendall(CLEAR + intruder.seal(b"the first frame"))
    await refuses_cleartext(end)


async def test_f2_cleartext_read_together_with_the_success_is_refused(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(trailing_data)
    Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)
    """
    end = await attacked(shell, sockets, lambda intruder: CLEAR)
    await refuses_cleartext(end)


async def test_f2_cleartext_before_a_frame_in_the_same_segment_is_refused(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)"""
    end = await attacked(shell, sockets, lambda intruder: CLEAR + intruder.seal(b"a frame"))
    await refuses_cleartext(end)


@only("streams")
async def test_f2_cleartext_that_a_stream_reader_read_ahead_is_refused(sockets: Sockets) -> None:
    """Guard: saslwrap/asyncio/streams.py: reader.feed_eof() wire.layer.receive_data("""
    streams = await asyncio.open_connection(sock=sockets[0])
    sockets[1].sendall(b"the login's end\n" + CLEAR)
    assert await streams[0].readline() == b"the login's end\n"
    reader, writer = await start_sasl_streams(*streams, context_pair().client)
    with pytest.raises(ProtocolError, match="the peer seems not to seal"):
        pytest.fail(f"gave {await reader.read(100)!r}")
    writer.close()


async def test_f3_frame_pipelined_with_the_last_response_is_unsealed(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(trailing_data)
    Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)
    """
    intruder = Intruder(sockets[1], is_client=True)
    end = await at_once(
        partial(shell.authenticated, sockets[0], server_exchange()),
        partial(intruder.carry, client_exchange(), intruder.seal(b"one ", b"two")),
    )
    assert await exactly(end, 7) == b"one two"
    await end.send(b"answer")
    assert await in_thread(partial(intruder.receive, 6)) == b"answer"
    await end.close()


async def test_f3_cleartext_pipelined_with_the_last_response_is_refused(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(trailing_data)
    Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)
    """
    intruder = Intruder(sockets[1], is_client=True)
    end = await at_once(
        partial(shell.authenticated, sockets[0], server_exchange()),
        partial(intruder.carry, client_exchange(), CLEAR),
    )
    await refuses_cleartext(end)


@pytest.mark.parametrize("count", [1, 200])
async def test_f4_frames_right_behind_the_success_are_unsealed(
    shell: Shell, sockets: Sockets, count: int
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(trailing_data)
    Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)
    """
    end = await attacked(shell, sockets, lambda intruder: intruder.seal(*[b"capability"] * count))
    assert await exactly(end, 10 * count) == b"capability" * count
    await end.close()


@pytest.mark.parametrize("cut", range(1, 30, 4))
async def test_f4_frame_behind_the_success_may_be_cut_anywhere(
    shell: Shell, sockets: Sockets, cut: int
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(trailing_data)
    Guard: saslwrap/asyncio/transport.py: layer.receive_data(received)
    """
    intruder = Intruder(sockets[1], is_client=False)
    frame = intruder.seal(b"ten octets")
    end = await at_once(
        partial(shell.authenticated, sockets[0], client_exchange()),
        partial(intruder.carry, server_exchange(), frame[:cut]),
    )
    sockets[1].sendall(frame[cut:])
    assert await exactly(end, 10) == b"ten octets"
    await end.close()


# What the application had queued before the switch goes out before it, or the switch refuses.


@only("streams")
async def test_f5_queue_of_a_stream_writer_goes_out_before_the_login(sockets: Sockets) -> None:
    """Guard: saslwrap/asyncio/drive.py: writer.write(data)"""
    streams = await asyncio.open_connection(sock=sockets[0])
    intruder = Intruder(sockets[1], is_client=False)
    queued = bytes(3_000_000)

    def log_in_behind_the_queue() -> None:
        assert received(sockets[1], len(queued)) == queued
        intruder.carry(server_exchange())

    streams[1].write(queued)
    _, writer = await at_once(
        partial(authenticate_streams, *streams, client_exchange()), log_in_behind_the_queue
    )
    writer.write(b"sealed")
    assert await in_thread(partial(intruder.receive, 6)) == b"sealed"
    writer.close()


@only("streams")
async def test_f5_old_stream_writer_sends_nothing_under_the_layer(sockets: Sockets) -> None:
    """Guard: saslwrap/asyncio/streams.py: retire(writer, sealed)"""
    streams = await asyncio.open_connection(sock=sockets[0])
    intruder = Intruder(sockets[1], is_client=False)
    _, writer = await at_once(
        partial(authenticate_streams, *streams, client_exchange()),
        partial(intruder.carry, server_exchange()),
    )
    with pytest.raises(UsageError, match="in clear"):
        streams[1].write(CLEAR)
    with pytest.raises(UsageError, match="below a security layer"):
        await authenticate_streams(*streams, client_exchange())
    writer.write(b"sealed")
    assert await in_thread(partial(intruder.receive, 6)) == b"sealed"
    writer.close()


@only("protocol")
async def test_f5_queue_of_a_transport_is_not_overtaken(sockets: Sockets) -> None:
    """Guard: saslwrap/asyncio/transport.py: if not queue_is_ours and ("""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=sockets[0])
    transport.write(bytes(3_000_000))
    with pytest.raises(UsageError, match="in clear"):
        start_sasl(transport, protocol, context_pair().client)
    assert transport.get_protocol() is protocol
    transport.abort()


@only("anyio")
async def test_f5_login_of_a_stream_does_not_meet_a_sender(sockets: Sockets) -> None:
    """Guard: saslwrap/anyio/stream.py: _sending, self._receiving: self._check_writable() exch"""
    stream = SASLStream(await anyio.abc.SocketStream.from_socket(sockets[0]), None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, bytes(3_000_000))
        assert await in_thread(partial(received, sockets[1], 1)) == bytes(1)
        with pytest.raises(anyio.BusyResourceError):
            await authenticate(stream, client_exchange())
        assert await in_thread(partial(received, sockets[1], 2_999_999)) == bytes(2_999_999)
    await stream.aclose()


@only("socket")
async def test_f5_login_of_a_socket_does_not_meet_a_sender(sockets: Sockets) -> None:
    """Guard: saslwrap/sync/socket.py: with _only_one(self._sending, "sending to"), _only_one("""
    sockets[0].settimeout(2)
    sock = SASLSocket(sockets[0], None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, partial(sock.sendall, bytes(3_000_000)))
        assert await in_thread(partial(received, sockets[1], 1)) == bytes(1)
        with pytest.raises(ContextBusyError, match="sending"):
            await in_thread(partial(authenticate_socket, sock, client_exchange()))
        assert await in_thread(partial(received, sockets[1], 2_999_999)) == bytes(2_999_999)
    sock.close()


# A login under a layer.


async def rebinding(
    shell: Shell, sockets: Sockets, *, is_client: bool
) -> tuple[End, Hand, Intruder]:
    """A sealed end, the hand of its layer, and the one of the layer to come."""
    old = context_pair("3des")
    end = await shell.wrap(sockets[0], old.client)
    under = Hand(sockets[1], old.server)
    await talk(end, under)
    return end, under, Intruder(sockets[1], is_client=is_client)


async def talk(end: End, hand: Hand) -> None:
    """Show that both directions work, and spend numbers of both."""
    for word in (b"one", b"three"):
        await end.send(word)
        assert await in_thread(partial(hand.receive, len(word))) == word
    hand.sock.sendall(hand.seal(b"two", b"four", b"six"))
    assert await exactly(end, 10) == b"twofoursix"


@pytest.mark.parametrize("role", ["client", "server"])
async def test_f6_rebind_travels_under_the_old_layer_and_the_new_one_starts_at_0(
    shell: Shell, sockets: Sockets, role: str
) -> None:
    """Guard: saslwrap/layer.py: replacement.receive_data(layer.unread())
    Guard: saslwrap/asyncio/wire.py: if self.one_by_one:
    """
    is_client = role == "client"
    end, under, intruder = await rebinding(shell, sockets, is_client=not is_client)
    before = end.context
    ours, theirs = client_exchange(), server_exchange()
    if not is_client:
        ours, theirs = theirs, ours
    outcome = await at_once(
        partial(end.log_in, ours),
        partial(intruder.carry, theirs, intruder.seal(b"in the ", b"new layer"), under=under),
    )
    assert outcome is None
    assert await exactly(end, 16) == b"in the new layer"
    await end.send(b"answer")
    assert await in_thread(partial(intruder.receive, 6)) == b"answer"
    assert end.context is not before
    await talk(end, intruder)
    await end.close()


async def test_f6_frame_of_the_old_layer_behind_the_success_is_refused(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/layer.py: layer.context.close() replacement.receive_data(trailing_data)"""
    end, under, intruder = await rebinding(shell, sockets, is_client=False)
    await at_once(
        partial(end.log_in, client_exchange()),
        partial(intruder.carry, server_exchange(), under=under),
    )
    sockets[1].sendall(under.seal(b"sealed with the old keys"))
    with pytest.raises(BrokenError):
        pytest.fail(f"gave {await end.receive()!r}")
    await end.close()


async def test_f6_failed_rebind_keeps_the_old_layer_and_its_counters(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/anyio/stream.py: if exchange.leaves_usable(error):
    Guard: saslwrap/asyncio/streams.py: if exchange.leaves_usable(error):
    Guard: saslwrap/sync/socket.py: if exchange.leaves_usable(error):
    """
    end, under, intruder = await rebinding(shell, sockets, is_client=False)
    before = end.context
    wrong = DigestMD5Client(USERNAME, "Tr0ub4dor&3", service="ldap", host=HOST)

    def refuse() -> None:
        with pytest.raises(AuthenticationError):
            intruder.carry(server_exchange(), under=under)

    outcome = await at_once(partial(end.log_in, LDAPBind(wrong)), refuse)
    assert isinstance(outcome, AuthenticationError)
    assert end.context is before
    await talk(end, under)
    await end.close()


async def test_f6_rebind_without_a_layer_keeps_the_old_layer_and_its_counters(
    shell: Shell, sockets: Sockets
) -> None:
    """Guard: saslwrap/layer.py: if context is None:"""
    end, under, intruder = await rebinding(shell, sockets, is_client=False)
    before: SecurityContext | None = end.context
    client, server = mechanism_pair("auth")
    outcome = await at_once(
        partial(end.log_in, LDAPBind(client)),
        partial(intruder.carry, LDAPBindServer({"DIGEST-MD5": lambda: server}), under=under),
    )
    assert outcome is None
    assert end.context is before
    await talk(end, under)
    await end.close()
