from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import struct
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from saslwrap.asyncio import (
    SASLTransport,
    authenticate_streams,
    open_connection,
    start_sasl,
    start_sasl_streams,
    start_server,
)
from saslwrap.asyncio.wire import Wire
from saslwrap.context import SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Done, Exchange, Send, Step
from saslwrap.mechanism import ClientMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import encode, result
from saslwrap.testing import MechanismPair, context_pair, mechanism_pair
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.conftest import TLSContexts, exchange_pair
from tests.measure.memory import FILE_DESCRIPTORS, open_files
from tests.test_shells_support import (
    ADDRESS,
    PATIENCE,
    Peer,
    Problems,
    Recorder,
    Streams,
    hold,
    loops,
    on_both_loops,
    problems,
    reset,
    stream_pair,
    turns,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def both(first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    """Await two; give what came of each, results or exceptions."""
    outcomes = await within(asyncio.gather(first, second, return_exceptions=True))
    return outcomes[0], outcomes[1]


async def talk(client: Streams, server: Streams) -> None:
    """Show that both directions work."""
    for (_, writer), (reader, _) in ((client, server), (server, client)):
        writer.write(b"are you there?\n")
        await within(writer.drain())
        assert await within(reader.readline()) == b"are you there?\n"


async def arrived(reader: asyncio.StreamReader) -> None:
    """Wait until a reader has read all ahead that it wants to, the end too."""
    size = -1
    while size != len(reader._buffer):  # type: ignore[attr-defined]
        size = len(reader._buffer)  # type: ignore[attr-defined]
        await turns(100)


async def sealed_streams(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: SecurityContext,
    **options: Any,
) -> Streams:
    """`start_sasl_streams`; the new pair lives as long as the test."""
    return hold(await start_sasl_streams(reader, writer, context, **options))


async def log_in(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    exchange: Exchange,
    **options: Any,
) -> Streams:
    """`authenticate_streams`; the new pair lives as long as the test."""
    return hold(await authenticate_streams(reader, writer, exchange, **options))


def sealed(streams: Streams) -> SASLTransport:
    transport: object = streams[1].transport
    assert isinstance(transport, SASLTransport)
    return transport


async def logged_in(
    client: Streams, server: Streams, mechanisms: MechanismPair | str = "rc4"
) -> tuple[Streams, Streams]:
    """Authenticate both ends, which has to succeed."""
    if isinstance(mechanisms, str):
        mechanisms = mechanism_pair(mechanisms)
    client_half, server_half = exchange_pair(mechanisms)
    at_client, at_server = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert isinstance(at_client, tuple), at_client
    assert isinstance(at_server, tuple), at_server
    return at_client, at_server


# start_sasl_streams


async def test_a_sealed_pair_of_streams() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    new_client = await sealed_streams(*client, contexts.client)
    new_server = await sealed_streams(*server, contexts.server)
    await talk(new_client, new_server)
    for size in (1, 65536, 1_000_000):
        new_client[1].write(bytes(size))
        got, _ = await both(new_server[0].readexactly(size), new_client[1].drain())
        assert got == bytes(size)
    assert new_client[1].get_extra_info("sasl") is contexts.client
    new_client[1].write_eof()
    assert await within(new_server[0].read()) == b""
    new_server[1].write(b"answer")
    new_server[1].close()
    assert await within(new_client[0].read()) == b"answer"
    new_client[1].close()
    for _, writer in (new_client, new_server, client, server):
        await within(writer.wait_closed())


async def test_a_pause_that_outlasts_the_old_pair(tls: TLSContexts) -> None:
    """With a limit of 0 TLS pauses a protocol while nothing is queued."""
    contexts = context_pair()
    client, server = await stream_pair(tls)
    transport, peer = client[1].transport, Peer(server, contexts.server)
    protocol: Any = transport.get_protocol()
    for _ in range(4):  # and resumes it when that is set again
        if not protocol._paused:
            transport.set_write_buffer_limits(0)
    assert protocol._paused
    _, writer = await sealed_streams(*client, contexts.client)
    for message in (b"one", b"two", b"three"):
        writer.write(message)
        assert await peer.receive(len(message)) == message
    transport.set_write_buffer_limits(1)
    await within(writer.drain())


async def test_the_old_reader_is_at_its_end() -> None:
    client, _ = await stream_pair()
    await sealed_streams(*client, context_pair().client)
    assert await client[0].read() == b""


async def test_200000_octets_that_were_read_ahead_are_kept() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    data = random.Random(1).randbytes(200_000)
    wire = b"the login's end\n" + peer.seal(*(data[i : i + 999] for i in range(0, 200_000, 999)))
    peer.writer.write(wire)
    assert await within(client[0].readline()) == b"the login's end\n"
    await arrived(client[0])
    assert len(client[0]._buffer) > 2 * 65536  # type: ignore[attr-defined]
    reader, writer = await sealed_streams(*client, contexts.client)
    assert await within(reader.readexactly(200_000)) == data
    writer.write(b"answer")
    assert await peer.receive(6) == b"answer"


async def test_what_was_received_comes_before_what_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    wire = peer.seal(b"one", b"two", b"three")
    await peer.send_raw(wire[7:-5])
    await arrived(client[0])
    reader, _ = await sealed_streams(*client, contexts.client, received=wire[:7])
    await peer.send_raw(wire[-5:])
    assert await within(reader.readexactly(11)) == b"onetwothree"


async def test_an_end_that_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    await peer.send(b"last ", b"words")
    peer.writer.write_eof()
    await arrived(client[0])
    reader, writer = await sealed_streams(*client, contexts.client)
    assert await within(reader.read()) == b"last words"
    assert reader.at_eof()
    writer.write(b"answer")
    writer.close()
    assert await peer.end() == b"answer"


async def test_an_end_inside_a_frame_that_was_read_ahead() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    await peer.send_raw(peer.seal(b"cut off")[:-1])
    peer.writer.write_eof()
    await arrived(client[0])
    reader, _ = await sealed_streams(*client, contexts.client)
    with pytest.raises(TruncatedStreamError):
        await within(reader.read())


async def test_a_reader_that_broke_is_refused_with_its_error() -> None:
    client, server = await stream_pair()
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(client[0].read())
    with pytest.raises(ConnectionError):
        await sealed_streams(*client, context_pair().client)


async def test_streams_that_cannot_be_upgraded() -> None:
    client, server = await stream_pair()
    new = await sealed_streams(*client, context_pair().client)
    for twice in (client, new):
        with pytest.raises(UsageError, match="rebind"):
            await sealed_streams(*twice, context_pair().client)
    server[1].transport.pause_reading()  # type: ignore[attr-defined]
    server[1].write(bytes(10_000_000))
    with pytest.raises(UsageError, match="in clear"):
        await sealed_streams(*server, context_pair().server)
    server[1].close()
    with pytest.raises(UsageError, match="closing"):
        await sealed_streams(*server, context_pair().server)


async def test_the_old_pair_is_kept_and_its_wait_closed_works() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    waiting = asyncio.create_task(client[1].wait_closed())
    new = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    await turns()
    assert not waiting.done()
    await peer.close()
    new[1].close()
    await within(waiting)
    await within(new[1].wait_closed())


async def test_the_old_wait_closed_tells_how_the_transport_ended() -> None:
    client, server = await stream_pair()
    waiting = asyncio.create_task(client[1].wait_closed())
    await sealed_streams(*client, context_pair().client)
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(waiting)


async def test_an_old_pair_that_nobody_holds_is_not_collected() -> None:
    contexts = context_pair()
    client, server = await stream_pair(held=False)
    peer = Peer(server, contexts.server)
    old = [weakref.ref(stream) for stream in client]
    reader, writer = await start_sasl_streams(*client, contexts.client)
    del client
    await turns()
    gc.collect()
    assert all(ref() for ref in old)
    await peer.send(b"still ")
    await peer.send(b"there")
    assert await within(reader.readexactly(11)) == b"still there"
    writer.close()
    await within(writer.wait_closed())
    await turns()
    gc.collect()
    assert not any(ref() for ref in old)


async def test_a_new_pair_that_nobody_holds_closes_as_any_pair() -> None:
    contexts = context_pair()
    client, server = await stream_pair(held=False)
    peer = Peer(server, contexts.server)
    new = await start_sasl_streams(*client, contexts.client)
    new[1].close()
    del new, client
    assert await peer.end() == b""


async def test_the_new_reader_has_its_limit() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    reader, _ = await sealed_streams(*client, contexts.client, limit=100)
    await Peer(server, contexts.server).send(bytes(200))
    with pytest.raises(asyncio.LimitOverrunError):
        await within(reader.readuntil(b"\n"))


async def test_drain_waits_for_a_slow_peer() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    _, writer = await sealed_streams(*client, contexts.client)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(bytes(10_000_000))
    draining = asyncio.create_task(writer.drain())
    await turns()
    assert not draining.done()
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    got, _ = await both(peer.receive(10_000_000), draining)
    assert got == bytes(10_000_000)


async def test_a_slow_reader_holds_little_and_loses_nothing() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    peer.writer.write(peer.seal(bytes(20_000_000)))
    peer.writer.close()
    await arrived(reader)
    assert len(reader._buffer) < 300_000  # type: ignore[attr-defined]
    assert await within(reader.readexactly(20_000_000)) == bytes(20_000_000)
    assert await within(reader.read()) == b""


async def test_a_slow_reader_over_tls_gets_all_that_came_before_the_end(tls: TLSContexts) -> None:
    contexts = context_pair()
    client, server = await stream_pair(tls)
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    peer.writer.write(peer.seal(bytes(2_000_000)))
    peer.writer.close()
    await arrived(reader)
    assert await within(reader.read()) == bytes(2_000_000)


async def test_a_pending_reader_gets_the_error() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, writer = await sealed_streams(*client, contexts.client)
    waiting = asyncio.create_task(reader.read())
    await turns()
    frame = bytearray(peer.seal(b"altered"))
    frame[5] ^= 1
    await peer.send_raw(bytes(frame))
    with pytest.raises(IntegrityError):
        await within(waiting)
    with pytest.raises(IntegrityError):
        writer.write(b"x")
    with pytest.raises(IntegrityError):
        await within(writer.wait_closed())


READS: dict[str, Callable[[asyncio.StreamReader], Awaitable[bytes]]] = {
    "read": lambda reader: reader.read(),
    "read some": lambda reader: reader.read(100),
    "readexactly": lambda reader: reader.readexactly(10),
    "readuntil": lambda reader: reader.readuntil(b"\n"),
    "readline": lambda reader: reader.readline(),
    "async for": lambda reader: anext(aiter(reader)),
}


@pytest.mark.parametrize("how", READS)
async def test_what_was_good_is_read_before_the_error(how: str) -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, writer = await sealed_streams(*client, contexts.client)
    await peer.send_raw(peer.seal(b"a line\n", b"good") + bytes(4))
    while not writer.is_closing():
        await turns()
    assert await within(reader.readline()) == b"a line\n"
    if how == "read some":
        assert await within(reader.read(100)) == b"good"
    for _ in range(2):
        with pytest.raises(ProtocolError, match="length 0"):
            await within(READS[how](reader))
    with pytest.raises(ProtocolError, match="length 0"):
        await within(writer.drain())
    assert await within(reader.read(0)) == b""


async def test_a_reader_at_a_clean_end_is_as_asyncios() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    peer = Peer(server, contexts.server)
    reader, _ = await sealed_streams(*client, contexts.client)
    await peer.send(b"two\nlines")
    peer.writer.write_eof()
    assert [line async for line in reader] == [b"two\n", b"lines"]
    for read in (reader.readexactly(1), reader.readuntil()):
        with pytest.raises(asyncio.IncompleteReadError):
            await within(read)


async def test_asyncio_still_has_the_private_attribute_that_we_use() -> None:
    """`StreamReader._eof` alone tells an end that was fed from one that was not."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"x")
    assert reader._eof is False  # type: ignore[attr-defined]
    reader.feed_eof()
    assert reader._eof is True  # type: ignore[attr-defined]
    assert not reader.at_eof()


# authenticate_streams


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
async def test_both_roles_log_in(protection: str) -> None:
    client, server = await logged_in(*await stream_pair(), protection)
    assert sealed(client).get_extra_info("sasl").qop == sealed(server).get_extra_info("sasl").qop
    await talk(client, server)


async def test_a_login_without_a_layer_gives_the_same_pair() -> None:
    client, server = await stream_pair()
    assert await logged_in(client, server, "auth") == (client, server)
    await talk(client, server)


async def test_what_follows_a_login_without_a_layer_is_not_lost() -> None:
    client, server = await stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair("auth"))
    login = asyncio.create_task(log_in(*client, client_half))
    behind_the_success(server[1], lambda: server[1].write(b"right behind"))
    await within(log_in(*server, server_half))
    await within(login)
    assert await within(client[0].readexactly(12)) == b"right behind"


def behind_the_success(writer: asyncio.StreamWriter, act: Callable[[], object]) -> None:
    """Act as soon as LDAP's successful bindResponse was written."""
    write = writer.write

    def watch(data: Any) -> None:
        write(data)
        if b"rspauth" in data:
            act()

    writer.write = watch  # type: ignore[method-assign]


async def test_octets_of_the_login_that_were_read_already() -> None:
    client, server = await stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair())
    login = asyncio.create_task(log_in(*client, client_half))
    first = await within(server[0].read(1000))
    at_server, at_client = await both(log_in(*server, server_half, received=first), login)
    await talk(at_client, at_server)


WRONG_PASSWORD = "Tr0ub4dor&3"


def wrong_password() -> DigestMD5Client:
    return DigestMD5Client(USERNAME, WRONG_PASSWORD, service="ldap", host=HOST)


@pytest.mark.parametrize("under_a_layer", [False, True])
async def test_a_refused_login_leaves_both_ends_usable(under_a_layer: bool) -> None:
    client, server = await stream_pair()
    if under_a_layer:
        client, server = await logged_in(client, server, "3des")
    refused = exchange_pair(MechanismPair(wrong_password(), mechanism_pair().server))
    for error in await both(log_in(*client, refused[0]), log_in(*server, refused[1])):
        assert type(error) is AuthenticationError
    await talk(client, server)
    client, server = await logged_in(client, server, "des")
    assert sealed(client).get_extra_info("sasl").cipher == "des"
    await talk(client, server)


async def test_nothing_that_follows_a_refusal_is_lost() -> None:
    client, server = await stream_pair()
    refusal = encode(1, "bindResponse", result(49, "no"))
    server[1].write(refusal + b"one ")
    await arrived(client[0])
    server[1].write(b"two ")
    with pytest.raises(AuthenticationError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    server[1].write(b"three")
    server[1].write_eof()
    assert await within(client[0].read()) == b"one two three"


async def test_what_came_between_a_refusal_and_the_end_is_the_exchanges() -> None:
    client, server = await stream_pair()
    server[1].write(encode(1, "bindResponse", result(49, "no")) + b"bye")
    server[1].write_eof()
    await arrived(client[0])
    exchange = LDAPBind(wrong_password())
    with pytest.raises(AuthenticationError):
        await within(log_in(*client, exchange))
    assert exchange.trailing_data + await within(client[0].read()) == b"bye"


async def test_policies_that_do_not_meet_leave_both_ends_usable() -> None:
    client, server = await stream_pair()
    mechanisms = MechanismPair(mechanism_pair("3des").client, mechanism_pair("auth-int").server)
    client_half, server_half = exchange_pair(mechanisms)
    at_client, at_server = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert type(at_client) is NegotiationError
    assert isinstance(at_server, SASLError)
    await talk(client, server)


BROKEN: dict[str, tuple[bytes, type[SASLError]]] = {
    "no LDAP": (b"* OK ready\r\n", ProtocolError),
    "another operation": (encode(1, "bindResponse", result(14, ""))[:5], TruncatedStreamError),
    "no proof": (encode(1, "bindResponse", result(0, "")), MutualAuthenticationError),
}


@pytest.mark.parametrize("answer", BROKEN)
async def test_a_login_that_breaks_aborts_the_transport(answer: str) -> None:
    client, server = await stream_pair()
    octets, kind = BROKEN[answer]
    server[1].write(octets)
    server[1].write_eof()
    with pytest.raises(kind):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()
    assert len(await within(server[0].read())) < 100, "it went on"


async def test_a_login_whose_connection_breaks() -> None:
    client, server = await stream_pair()
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()


async def test_a_cancelled_login_aborts_the_transport() -> None:
    client, server = await stream_pair()
    login = asyncio.create_task(log_in(*client, LDAPBind(wrong_password())))
    await within(server[0].read(1000))
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    assert client[1].is_closing()
    assert await within(server[0].read()) == b""


async def test_a_reader_that_another_task_reads_from_aborts_the_login() -> None:
    client, _ = await stream_pair()
    rival = asyncio.create_task(client[0].read())
    await turns()
    with pytest.raises(RuntimeError, match="another coroutine"):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()
    assert await within(rival) == b""


async def test_steps_that_may_block_run_in_a_thread() -> None:
    mechanisms = mechanism_pair()
    threads = set()
    for mechanism in mechanisms:
        mechanism.may_block = True
        step = mechanism.step

        def note(message: Any, step: Callable[[Any], Any] = step) -> Any:
            threads.add(threading.current_thread())
            return step(message)

        mechanism.step = note  # type: ignore[method-assign]
    await talk(*await logged_in(*await stream_pair(), mechanisms))
    assert threading.main_thread() not in threads


async def test_a_step_that_is_cancelled_is_abandoned() -> None:
    client, _ = await stream_pair()
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(DigestMD5Client):
        may_block = True

        def step(self, message: Any) -> bytes | None:
            loop.call_soon_threadsafe(entered.set)
            assert leave.wait(PATIENCE)
            return super().step(message)

    slow = Slow(USERNAME, PASSWORD, service="ldap", host=HOST)
    login = asyncio.create_task(log_in(*client, LDAPBind(slow)))
    await within(entered.wait())
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(login)
    assert client[1].is_closing()
    leave.set()


async def test_over_tls_no_layer_is_asked_for(tls: TLSContexts) -> None:
    client, server = await stream_pair(tls)
    mechanism = DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST)
    server_side = mechanism_pair("auth").server
    assert await logged_in(client, server, MechanismPair(mechanism, server_side)) == (
        client,
        server,
    )


def layer_required() -> MechanismPair:
    """Insist on a layer over TLS too."""
    properties = SecurityProperties(require_layer=True)
    return MechanismPair(
        DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST, properties=properties),
        DigestMD5Server(
            get_secret, service="ldap", host=HOST, realms=[REALM], properties=properties
        ),
    )


async def test_over_tls_a_layer_can_be_required(tls: TLSContexts) -> None:
    client, server = await logged_in(*await stream_pair(tls), layer_required())
    assert sealed(client).get_extra_info("cipher")
    await talk(client, server)
    client[1].close()
    assert await within(server[0].read()) == b""
    server[1].close()
    for writer in client[1], server[1]:
        await within(writer.wait_closed())


async def test_tls_that_ends_right_behind_the_success_is_a_lost_connection(
    tls: TLSContexts,
) -> None:
    client, server = await stream_pair(tls)
    client_half, server_half = exchange_pair(layer_required())
    behind_the_success(server[1], server[1].close)
    at_client, _ = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert type(at_client) is ConnectionResetError
    assert client[1].is_closing()


# a login under a layer


async def test_a_rebind_replaces_the_layer_in_the_same_pair() -> None:
    client, server = await logged_in(*await stream_pair(), "3des")
    first = sealed(client).get_extra_info("sasl")
    assert await logged_in(client, server, "rc4") == (client, server)
    await talk(client, server)
    second = sealed(client).get_extra_info("sasl")
    assert (first.cipher, second.cipher) == ("3des", "rc4")
    with pytest.raises(UsageError, match="closed"):
        first.seal(b"x")
    assert await logged_in(client, server, "auth") == (client, server)
    assert sealed(client).get_extra_info("sasl") is second
    await talk(client, server)


class CoalescingServer:
    """The server's end of a rebind, by hand: what follows the success comes in its segment."""

    def __init__(self, peer: Peer, mechanisms: MechanismPair) -> None:
        self.peer = peer
        self.mechanism = mechanisms.server
        self.exchange = LDAPBindServer({"DIGEST-MD5": lambda: mechanisms.server})

    async def serve(self, in_old: bytes, *in_new: bytes) -> Peer | None:
        sent = b""
        while not isinstance(event := self.exchange.advance(), Done):
            if isinstance(event, Send):
                sent += self.peer.seal(event.data)
            elif isinstance(event, Step):
                self.exchange.step()
            else:
                await self.peer.send_raw(sent)
                sent = b""
                self.exchange.receive_data(await self.peer.receive_some())
        if in_old:
            sent += self.peer.seal(in_old)
        renewed = None
        if self.exchange.context is not None:
            renewed = Peer((self.peer.reader, self.peer.writer), self.exchange.context)
            sent += renewed.seal(*in_new)
        await self.peer.send_raw(sent)
        return renewed


@pytest.mark.parametrize("may_block", [False, True])
async def test_frames_of_the_new_layer_right_behind_the_success(may_block: bool) -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    mechanisms.client.may_block = may_block
    renewed, again = await both(
        CoalescingServer(Peer(server, contexts.server), mechanisms).serve(b"", b"one ", b"two"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert isinstance(renewed, Peer), renewed
    assert again == client
    assert await within(client[0].readexactly(7)) == b"one two"
    client[1].write(b"answer")
    assert await renewed.receive(6) == b"answer"


async def test_a_success_that_waits_while_the_login_waits_for_something_else() -> None:
    """The reader holds the success already when it is asked: the next frame is the new layer's."""
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    mechanisms.client.may_block = True
    writer = client[1]
    drain = writer.drain

    async def slow_drain() -> None:
        await drain()
        await turns(200)

    writer.drain = slow_drain  # type: ignore[method-assign]
    renewed, again = await both(
        CoalescingServer(Peer(server, contexts.server), mechanisms).serve(b"", b"one ", b"two"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert again == client
    assert isinstance(renewed, Peer), renewed
    assert await within(client[0].readexactly(7)) == b"one two"


async def test_data_of_the_old_layer_behind_a_success_breaks_the_connection() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    mechanisms = mechanism_pair("rc4")
    seal = peer.seal
    peer.seal = lambda *messages: seal(b"".join(messages) + b"x" * (b"rspauth" in messages[0]))  # type: ignore[method-assign]
    _, error = await both(
        CoalescingServer(peer, mechanisms).serve(b""),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert isinstance(error, ProtocolError)
    assert "old layer" in str(error)
    assert client[1].is_closing()


async def test_data_behind_a_rebind_that_brought_no_layer_is_kept() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("auth")
    peer = Peer(server, contexts.server)
    seal = peer.seal
    peer.seal = lambda *messages: seal(b"".join(messages) + b"x" * (b"rspauth" in messages[0]))  # type: ignore[method-assign]
    await both(
        CoalescingServer(peer, mechanisms).serve(b"yz"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert await within(client[0].readexactly(3)) == b"xyz"


async def test_the_peer_ends_right_behind_the_success_of_a_rebind() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    write = server[1].write

    def write_and_end(data: Any) -> None:
        write(data)
        if hand.exchange.result_code == 0:
            server[1].write_eof()

    server[1].write = write_and_end  # type: ignore[method-assign]
    hand = CoalescingServer(Peer(server, contexts.server), mechanisms)
    _, again = await both(
        hand.serve(b"", b"last words"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert again == client
    assert await within(client[0].read()) == b"last words"


async def test_a_cancelled_rebind_closes() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    login = asyncio.create_task(log_in(*client, LDAPBind(wrong_password())))
    await within(server[0].read(1))
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(login)
    assert client[1].is_closing()


@pytest.mark.parametrize("known", [False, True])
async def test_a_peer_that_left_before_a_rebind(known: bool) -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    server[1].write_eof()
    if known:
        assert await within(client[0].read()) == b""
    with pytest.raises(TruncatedStreamError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()


# open_connection, start_server


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
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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


# the long run


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


async def test_a_protocol_below_streams_is_upgraded_too() -> None:
    """`start_sasl` on the transport of streams: its old protocol is not told, as documented."""
    contexts, protocol = context_pair(), Recorder()
    client, server = await stream_pair()
    start_sasl(client[1].transport, protocol, contexts.client)  # type: ignore[arg-type]
    await Peer(server, contexts.server).send(b"x")
    await protocol.got(b"x")
