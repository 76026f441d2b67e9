from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    TypedAttributeLookupError,
    create_task_group,
    from_thread,
)
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.errors import (
    AuthenticationError,
    FrameTooLargeError,
    IntegrityError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Event as ExchangeEvent
from saslwrap.exchange import Exchange, Send
from saslwrap.properties import ChannelInfo, SecurityProperties
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import PROTECTIONS, mechanism_pair
from saslwrap.testing.faults import SEGMENTATIONS, AtOnce, FaultyStream, segmentation
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, MechanismPair, get_secret
from saslwrap.testing.streams import MemoryStream, memory_stream_pair, stream_pair
from saslwrap.testing.tasks import run_both, settle
from tests.conftest import TLSContexts, exchange_pair, log_in, logged_in, talk, tcp_pair
from tests.support import ToyExchange, ToyMechanism

pytestmark = pytest.mark.anyio


def wrong_password(protection: str = "rc4") -> MechanismPair:
    _, server = mechanism_pair(protection)
    client = DigestMD5Client(USERNAME, "a guess", service="ldap", host=HOST)
    return MechanismPair(client, server)


def slow_pair(
    look_up: Callable[[str, str], str | None], *, may_block: bool = True
) -> MechanismPair:
    server = DigestMD5Server(
        look_up, service="ldap", host=HOST, realms=[REALM], may_block=may_block
    )
    return MechanismPair(mechanism_pair().client, server)


# Success


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_login_gives_sealed_streams(protection: str) -> None:
    client_end, server_end = memory_stream_pair()
    client, server = await logged_in(client_end, server_end, protection)
    await talk(client, server)
    await client.send(b"marker")
    assert (b"marker" in await server_end.receive()) is (protection == "auth-int")
    for stream in (client, server):
        assert stream.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
        assert stream.extra(SASLAttribute.authcid) == USERNAME
        assert stream.extra(SASLAttribute.authzid) is None
        assert stream.extra(SASLAttribute.ssf) > 0


async def test_a_login_without_a_layer_gives_plain_streams() -> None:
    client_end, server_end = memory_stream_pair()
    client, server = await logged_in(client_end, server_end, "auth")
    await talk(client, server)
    await client.send(b"as it is")
    assert await server_end.receive() == b"as it is"
    for stream in (client, server):
        assert stream.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
        assert stream.extra(SASLAttribute.authcid) == USERNAME
        assert stream.extra(SASLAttribute.ssf) == 0
        assert stream.extra(SASLAttribute.context) is None
        with pytest.raises(TypedAttributeLookupError):
            stream.extra(SASLAttribute.qop)


@pytest.mark.parametrize("name", SEGMENTATIONS)
async def test_a_login_under_any_segmentation(name: str) -> None:
    client_end, server_end = memory_stream_pair()
    client, server = await logged_in(
        FaultyStream(client_end, receiving=segmentation(name, 1)),
        FaultyStream(server_end, receiving=segmentation(name, 2), sending=segmentation(name, 3)),
    )
    await client.send(b"x")
    assert await server.receive() == b"x"


async def test_a_login_over_tcp() -> None:
    client, server = await logged_in(*await tcp_pair())
    await talk(client, server)
    await client.aclose()
    await server.aclose()


@pytest.mark.parametrize("octets", [1, 5, 22])
async def test_what_was_received_of_the_login_already(octets: int) -> None:
    client_end, server_end = memory_stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair())

    async def serve() -> SASLStream:
        begin = await server_end.receive(octets)
        return await authenticate(server_end, server_half, received=begin)

    client, server = await run_both(partial(authenticate, client_end, client_half), serve)
    assert isinstance(client, SASLStream)
    assert isinstance(server, SASLStream)
    await talk(client, server)


async def test_data_right_behind_the_success_is_sealed_data() -> None:
    client_end, server_end = memory_stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair())

    async def greet() -> SASLStream:
        server = await authenticate(server_end, server_half)
        await server.send(b"unsolicited")
        return server

    at_once = FaultyStream(client_end, receiving=AtOnce(turns=20))
    client, server = await run_both(partial(authenticate, at_once, client_half), greet)
    assert isinstance(client, SASLStream)
    assert client_half.trailing_data
    assert await client.receive() == b"unsolicited"
    assert isinstance(server, SASLStream)
    await server.aclose()


class Pipelines(LDAPBindServer):
    """Sends something with its success."""

    def __init__(self, mechanism: DigestMD5Server, text: bytes) -> None:
        super().__init__({"DIGEST-MD5": lambda: mechanism})
        self._text = text

    def advance(self) -> ExchangeEvent:
        event = super().advance()
        if isinstance(event, Send) and self.result_code != 14:
            return Send(event.data + self._text)
        return event


async def test_plaintext_right_behind_the_success_fails_in_the_layer() -> None:
    client_end, server_end = memory_stream_pair()
    mechanisms = mechanism_pair()
    assert isinstance(mechanisms.server, DigestMD5Server)
    client, _ = await run_both(
        partial(authenticate, client_end, LDAPBind(mechanisms.client)),
        partial(authenticate, server_end, Pipelines(mechanisms.server, b"* injected\r\n")),
    )
    assert isinstance(client, SASLStream)
    with pytest.raises(BrokenResourceError, match="cleartext") as caught:
        await client.receive()
    assert isinstance(caught.value.__cause__, FrameTooLargeError)
    assert client_end.closed


async def test_data_right_behind_a_success_without_a_layer_is_data() -> None:
    client_end, server_end = memory_stream_pair()
    mechanisms = mechanism_pair("auth")
    assert isinstance(mechanisms.server, DigestMD5Server)
    client, _ = await run_both(
        partial(authenticate, client_end, LDAPBind(mechanisms.client)),
        partial(authenticate, server_end, Pipelines(mechanisms.server, b"hello")),
    )
    assert isinstance(client, SASLStream)
    assert await client.receive() == b"hello"


# TLS below


async def tls_pair(tls: TLSContexts) -> tuple[TLSStream, TLSStream]:
    client_end, server_end = memory_stream_pair()
    client, server = await run_both(
        partial(TLSStream.wrap, client_end, hostname=HOST, ssl_context=tls.client),
        partial(TLSStream.wrap, server_end, server_side=True, ssl_context=tls.server),
    )
    assert isinstance(client, TLSStream)
    assert isinstance(server, TLSStream)
    return client, server


async def test_no_layer_is_asked_for_over_tls(tls: TLSContexts) -> None:
    seen: list[ChannelInfo] = []

    class Watches(LDAPBind):
        def bind_channel(self, info: ChannelInfo) -> None:
            seen.append(info)
            super().bind_channel(info)

    def mechanisms(require_layer: bool | None) -> MechanismPair:
        properties = SecurityProperties(require_layer=require_layer)
        return MechanismPair(
            DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST, properties=properties),
            DigestMD5Server(
                get_secret, service="ldap", host=HOST, realms=[REALM], properties=properties
            ),
        )

    for require_layer, ssf in ((None, 0), (True, 128)):
        client_end, server_end = await tls_pair(tls)
        pair = mechanisms(require_layer)
        _, server_half = exchange_pair(pair)
        client, server = await run_both(
            partial(authenticate, client_end, Watches(pair.client)),
            partial(authenticate, server_end, server_half),
        )
        assert isinstance(client, SASLStream)
        assert isinstance(server, SASLStream)
        assert client.extra(SASLAttribute.ssf) == server.extra(SASLAttribute.ssf) == ssf
        await talk(client, server)
    assert [info.external_ssf for info in seen] == [256, 256]


async def test_without_tls_the_channel_gives_nothing() -> None:
    transport, _ = memory_stream_pair()

    class Stops(LDAPBind):
        def bind_channel(self, info: ChannelInfo) -> None:
            assert info.external_ssf == 0
            raise UsageError("seen")

    with pytest.raises(UsageError, match="seen"):
        await authenticate(transport, Stops(mechanism_pair().client))
    assert not transport.closed


# Rebind


async def test_a_rebind_travels_under_the_old_layer_and_brings_a_new_one() -> None:
    client_end, server_end = memory_stream_pair()
    wire: list[bytes] = []

    class Listens(FaultyStream):
        async def send(self, item: bytes) -> None:
            wire.append(item)
            await super().send(item)

    client, server = stream_pair("3des", transports=(Listens(client_end), Listens(server_end)))
    old = client.extra(SASLAttribute.context)
    assert old is not None
    assert await logged_in(client, server, "rc4") == (client, server)
    assert wire
    assert not any(b"DIGEST-MD5" in item or b"rspauth" in item for item in wire)
    new = client.extra(SASLAttribute.context)
    assert new is not None
    assert new is not old
    assert client.extra(SASLAttribute.cipher) == "rc4"
    with pytest.raises(UsageError, match="closed"):
        old.seal(b"x")
    await talk(client, server)


async def test_a_rebind_without_a_layer_leaves_the_old_one_in_force() -> None:
    client, server = stream_pair()
    old = client.extra(SASLAttribute.context)
    await talk(client, server)
    await logged_in(client, server, "auth")
    assert client.extra(SASLAttribute.context) is old
    assert client.extra(SASLAttribute.authcid) == USERNAME
    await talk(client, server)


@pytest.mark.parametrize("protection", ["auth", "rc4"])
async def test_a_refused_rebind_leaves_the_old_layer_and_its_counters(protection: str) -> None:
    client, server = stream_pair(protection)
    old = client.extra(SASLAttribute.context)
    await talk(client, server)
    for _ in range(2):
        for outcome in await log_in(client, server, wrong_password()):
            assert type(outcome) is AuthenticationError
        assert client.extra(SASLAttribute.context) is old
        await talk(client, server)
    await logged_in(client, server)
    await talk(client, server)


async def test_data_in_the_old_layer_behind_the_success_is_refused() -> None:
    client_end, server_end = memory_stream_pair()
    client, server = stream_pair(transports=(client_end, server_end))
    mechanisms = mechanism_pair()
    assert isinstance(mechanisms.server, DigestMD5Server)
    at_client, _ = await run_both(
        partial(authenticate, client, LDAPBind(mechanisms.client)),
        partial(authenticate, server, Pipelines(mechanisms.server, b"too early")),
    )
    assert type(at_client) is ProtocolError
    assert client_end.closed
    with pytest.raises(ClosedResourceError):
        await client.receive()


async def test_a_layer_that_fails_during_a_rebind_breaks_the_stream() -> None:
    client_end, server_end = memory_stream_pair()
    client, _ = stream_pair(transports=(client_end, server_end))
    client_half, _ = exchange_pair(mechanism_pair())

    async def forge() -> None:
        await server_end.receive()
        await server_end.send(b"\0\0\0\x20" + bytes(32))

    outcome, _ = await run_both(partial(authenticate, client, client_half), forge)
    assert isinstance(outcome, BrokenResourceError)
    assert isinstance(outcome.__cause__, IntegrityError)
    assert client_end.closed


async def test_a_closed_or_a_busy_stream_cannot_log_in() -> None:
    client, server = stream_pair()
    client_half, _ = exchange_pair(mechanism_pair())
    async with create_task_group() as tasks:
        tasks.start_soon(client.receive)
        await settle()
        with pytest.raises(BusyResourceError):
            await authenticate(client, client_half)
        tasks.cancel_scope.cancel()
    await talk(client, server)
    await client.aclose()
    with pytest.raises(ClosedResourceError):
        await authenticate(client, client_half)


async def test_nobody_else_sends_or_receives_during_a_login() -> None:
    client, server = stream_pair()
    client_half, _ = exchange_pair(mechanism_pair())
    async with create_task_group() as tasks:
        tasks.start_soon(authenticate, client, client_half)
        await settle()
        with pytest.raises(BusyResourceError):
            await client.send(b"x")
        with pytest.raises(BusyResourceError):
            await client.receive()
        tasks.cancel_scope.cancel()
    await server.aclose()


# Threads


async def test_a_mechanism_that_may_block_steps_in_a_thread() -> None:
    threads: list[int] = []

    async def ask_store(username: str) -> str | None:
        await checkpoint()
        threads.append(threading.get_ident())
        return PASSWORD if username == USERNAME else None

    def look_up(username: str, realm: str) -> str | None:
        threads.append(threading.get_ident())
        return from_thread.run(ask_store, username)

    await talk(*await logged_in(*memory_stream_pair(), slow_pair(look_up)))
    here = threading.get_ident()
    assert threads[0] != here
    assert threads[1] == here


async def test_a_mechanism_that_does_not_block_steps_here() -> None:
    threads: list[int] = []

    def look_up(username: str, realm: str) -> str | None:
        threads.append(threading.get_ident())
        return PASSWORD

    await logged_in(*memory_stream_pair(), slow_pair(look_up, may_block=False))
    assert threads == [threading.get_ident()]


async def test_a_thread_is_abandoned_on_cancellation() -> None:
    entered, leave, left = Event(), threading.Event(), threading.Event()

    def look_up(username: str, realm: str) -> str | None:
        from_thread.run_sync(entered.set)
        leave.wait(20)
        left.set()
        return PASSWORD

    client_end, server_end = memory_stream_pair()
    client_half, server_half = exchange_pair(slow_pair(look_up))

    async def client() -> None:
        with pytest.raises(TruncatedStreamError):
            await authenticate(client_end, client_half)

    async with create_task_group() as tasks:
        tasks.start_soon(client)
        with CancelScope() as scope:
            async with create_task_group() as server_tasks:
                server_tasks.start_soon(authenticate, server_end, server_half)
                await entered.wait()
                scope.cancel()
        assert scope.cancelled_caught
        assert server_end.closed
        assert not left.is_set()
    leave.set()
    assert left.wait(20)


class Waits(DigestMD5Client):
    """Lets the test do something while it checks the server's proof, in a thread."""

    may_block = True
    meanwhile: Callable[[], Any]

    def _step(self, message: bytes | None) -> bytes | None:
        reply = super()._step(message)
        if self.complete:
            from_thread.run(self.meanwhile)
        return reply


async def test_a_stream_that_was_closed_during_its_login_stays_closed() -> None:
    client_end, server_end = memory_stream_pair()
    mechanism = Waits(USERNAME, PASSWORD, service="ldap", host=HOST)
    client, server = SASLStream(client_end, None), SASLStream(server_end, None)
    mechanism.meanwhile = client.aclose
    outcome, _ = await log_in(client, server, MechanismPair(mechanism, mechanism_pair().server))
    assert isinstance(outcome, ClosedResourceError), outcome
    assert mechanism.context is not None
    with pytest.raises(UsageError, match="closed"):
        mechanism.context.seal(b"x")


# Failure


async def test_a_refused_login_leaves_the_transport_usable() -> None:
    client_end, server_end = memory_stream_pair()
    for _ in range(2):
        for outcome in await log_in(client_end, server_end, wrong_password()):
            assert type(outcome) is AuthenticationError
    await talk(client_end, server_end)
    await talk(*await logged_in(client_end, server_end))


async def test_what_came_behind_a_refusal_can_be_read() -> None:
    client_end, server_end = memory_stream_pair()
    pair = wrong_password()
    assert isinstance(pair.server, DigestMD5Server)
    stream, exchange = SASLStream(client_end, None), LDAPBind(pair.client)
    outcome, _ = await run_both(
        partial(authenticate, stream, exchange),
        partial(authenticate, server_end, Pipelines(pair.server, b"next")),
    )
    assert type(outcome) is AuthenticationError
    assert exchange.trailing_data == b"next"
    assert await stream.receive() == b"next"


def toy(*script: Any) -> ToyExchange:
    return ToyExchange(ToyMechanism(*script))


FAILURES: dict[str, tuple[Callable[[], Exchange], bytes, type[Exception], bool]] = {
    "refused": (toy, b"NO\n", AuthenticationError, True),
    "not proved": (toy, b"OK\n", MutualAuthenticationError, False),
    "line too long": (toy, b"x" * 17, ProtocolError, False),
    "cut off": (toy, b"O", TruncatedStreamError, False),
    "refused by us": (partial(toy, NegotiationError("no")), b"+\n", NegotiationError, True),
    "our misuse": (partial(toy, UsageError("no")), b"+\n", UsageError, True),
    "integrity": (partial(toy, IntegrityError()), b"+\n", IntegrityError, False),
    "foreign": (partial(toy, KeyError("bug")), b"+\n", KeyError, False),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("sealed", [False, True])
async def test_what_a_failure_does_to_the_transport(name: str, sealed: bool) -> None:
    make, answer, error, survives = FAILURES[name]
    client_end, server_end = memory_stream_pair()
    client, server = stream_pair("rc4" if sealed else "auth", transports=(client_end, server_end))

    async def serve() -> None:
        assert await server.receive() == b"AUTH toy\n"
        await server.send(answer)
        if name == "cut off":
            await server.send_eof()

    outcome, served = await run_both(partial(authenticate, client, make()), serve)
    assert served is None
    assert type(outcome) is error
    assert client_end.closed is not survives
    if survives:
        await talk(client, server)
    else:
        with pytest.raises(ClosedResourceError):
            await client.send(b"x")
        with pytest.raises(EndOfStream):
            await server.receive()


async def test_a_transport_that_breaks_during_the_login() -> None:
    client_end, server_end = memory_stream_pair()
    await server_end.aclose()
    with pytest.raises(BrokenResourceError) as caught:
        await authenticate(client_end, toy())
    assert not isinstance(caught.value.__cause__, SASLError)
    assert client_end.closed


async def test_a_cancelled_login_closes_the_transport() -> None:
    client_end, _ = memory_stream_pair()
    with CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(authenticate, client_end, toy())
            await settle()
            scope.cancel()
    assert client_end.closed


class ClosesBadly(MemoryStream):
    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            raise BrokenResourceError("the closing handshake failed")


async def test_a_close_that_fails_does_not_hide_why_the_login_failed() -> None:
    client_end, server_end = memory_stream_pair()
    client_end.__class__ = ClosesBadly
    await server_end.send(b"OK\n")
    with pytest.raises(MutualAuthenticationError):
        await authenticate(client_end, toy())


async def test_the_stream_keeps_no_mechanism_and_so_no_password() -> None:
    pair = mechanism_pair()
    there = weakref.ref(pair.client)
    client, _ = await logged_in(*memory_stream_pair(), pair)
    del pair
    gc.collect()
    assert there() is None
    assert client.extra(SASLAttribute.mechanism) == "DIGEST-MD5"
