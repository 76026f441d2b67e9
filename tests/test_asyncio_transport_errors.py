"""The asyncio transport: errors of the layer and the application, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.asyncio import SASLTransport, start_sasl
from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.testing import context_pair
from tests.asyncio_transports import altered, both_kinds, over_what, tls_or_tcp
from tests.conftest import TLSContexts
from tests.support import ToySealer, make_context
from tests.test_shells_support import (
    PATIENCE,
    AnyRecorder,
    BufferedRecorder,
    Peer,
    Problems,
    Recorder,
    cut,
    loops,
    on_both_loops,
    plain,
    problems,
    reset,
    turns,
    upgraded,
)

__all__ = ["loops", "problems", "tls_or_tcp"]

pytestmark = on_both_loops

FAULTS: dict[str, tuple[Callable[[Peer], bytes], type[SASLError]]] = {
    "altered": (altered, IntegrityError),
    "too long": (lambda peer: b"\xff\xff\xff\xff", FrameTooLargeError),
    "no token": (lambda peer: bytes(4), ProtocolError),
    "cleartext": (lambda peer: b"* BYE see you\r\n", FrameTooLargeError),
}


@over_what
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_comes_after_what_was_good(
    fault: str, tls_or_tcp: TLSContexts | None
) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    make, kind = FAULTS[fault]
    await peer.send_raw(peer.seal(b"good ", b"too") + make(peer) + peer.seal(b"behind"))
    error = await protocol.lost()
    assert type(error) is kind
    assert protocol.data == b"good too"
    assert protocol.events == "ddl"
    assert transport.is_closing()
    for _ in range(2):
        with pytest.raises(kind) as caught:
            transport.write(b"x")
        assert str(caught.value) == str(error)


async def test_an_error_drops_what_is_queued_for_the_peer() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    transport.write(bytes(20_000_000))
    await peer.send_raw(altered(peer))
    assert isinstance(await protocol.lost(), IntegrityError)
    assert transport.get_write_buffer_size() == 0


@over_what
async def test_the_end_inside_a_frame_is_truncation(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    _, peer = await upgraded(protocol, tls=tls_or_tcp)
    peer.writer.write(peer.seal(b"whole") + peer.seal(b"cut off")[:-1])
    peer.writer.close()
    assert isinstance(await protocol.lost(), TruncatedStreamError)
    assert protocol.events == "dl"


async def test_tls_that_is_cut_off_inside_a_frame_is_truncation(tls: TLSContexts) -> None:
    protocol = Recorder()
    _, peer = await upgraded(protocol, tls=tls)
    await peer.send_raw(peer.seal(b"whole") + peer.seal(b"cut off")[:-1])
    await protocol.got(b"whole")
    cut(peer.writer.transport)
    assert isinstance(await protocol.lost(), TruncatedStreamError)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_peer_that_leaves_in_mid_frame_while_writes_are_pending(end: str) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    transport.write(bytes(20_000_000))
    await peer.send_raw(peer.seal(b"whole") + peer.seal(b"cut off")[:-1])
    if end == "close":
        peer.writer.write_eof()
        assert isinstance(await protocol.lost(), TruncatedStreamError)
        assert protocol.data == b"whole"
    else:
        reset(peer.writer)
        assert isinstance(await protocol.lost(), ConnectionError)


async def test_a_sealer_that_fails_ends_the_connection() -> None:
    sealer = ToySealer()
    below, _ = await plain()
    protocol = Recorder()
    transport = start_sasl(below, protocol, make_context(sealer))
    transport.write(b"one")

    def fail() -> None:
        raise SASLError("the numbers are used up")

    sealer.on_call = fail
    for _ in range(2):
        with pytest.raises(SASLError, match="used up"):
            transport.write(b"two")
    error = await protocol.lost()
    assert str(error) == "the numbers are used up"
    assert error is not None
    assert error.__traceback__ is None, "it would hold plaintext"


async def test_a_context_that_was_closed_is_the_callers_mistake() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    transport.get_extra_info("sasl").close()
    with pytest.raises(UsageError, match="closed"):
        transport.write(b"x")
    assert not transport.is_closing()
    await peer.send(b"x")
    assert isinstance(await protocol.lost(), UsageError)


class ApplicationError(Exception):
    pass


def fail() -> None:
    raise ApplicationError


async def told_once(protocol: AnyRecorder, problems: Problems) -> Exception:
    error = await protocol.lost()
    (problem,) = problems
    assert error is not None
    exception: object = problem["exception"]
    assert exception is error
    assert problem["protocol"] is protocol
    assert isinstance(problem["transport"], SASLTransport)
    problems.clear()
    return error


@over_what
@both_kinds
async def test_a_protocol_that_raises_on_data(
    kind: type[AnyRecorder], tls_or_tcp: TLSContexts | None, problems: Problems
) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = fail
    await peer.send(b"one", b"two")
    assert type(await told_once(protocol, problems)) is ApplicationError
    assert protocol.events == "dl"
    transport.write(b"nothing happens")


async def test_a_protocol_that_raises_at_the_end(problems: Problems) -> None:
    protocol = Recorder()
    _, peer = await upgraded(protocol)
    protocol.on_eof = fail
    await peer.close()
    assert type(await told_once(protocol, problems)) is ApplicationError
    assert protocol.events == "el"


async def test_a_protocol_without_a_buffer_to_give(problems: Problems) -> None:
    protocol = BufferedRecorder()
    _, peer = await upgraded(protocol)
    protocol.buffer = bytearray()
    await peer.send(b"x")
    assert "empty buffer" in str(await told_once(protocol, problems))


async def test_a_protocol_that_raises_when_asked_for_a_buffer(problems: Problems) -> None:
    protocol = BufferedRecorder()
    _, peer = await upgraded(protocol)
    del protocol.buffer
    await peer.send(b"x")
    assert type(await told_once(protocol, problems)) is AttributeError


async def test_a_protocol_that_raises_when_told_of_the_end(problems: Problems) -> None:
    class Raises(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ApplicationError

    protocol = Raises()
    _, peer = await upgraded(protocol)
    await peer.close()
    assert await protocol.lost() is None
    (problem,) = problems
    assert type(problem["exception"]) is ApplicationError
    problems.clear()


@over_what
async def test_a_closing_transport_is_refused(tls_or_tcp: TLSContexts | None) -> None:
    transport, _ = await plain(tls_or_tcp)
    for _ in range(2):
        transport.close()
        with pytest.raises(UsageError, match="closing"):
            start_sasl(transport, Recorder(), context_pair().client)


@over_what
async def test_queued_plaintext_is_refused_until_it_is_sent(
    tls_or_tcp: TLSContexts | None,
) -> None:
    transport, streams = await plain(tls_or_tcp)
    contexts, former = context_pair(), transport.get_protocol()
    written = 0
    while not transport.get_write_buffer_size():  # below TLS much is taken before
        transport.write(bytes(1_000_000))
        written += 1_000_000
        assert written < 50_000_000
    with pytest.raises(UsageError, match=r"queued .* in clear; .* get_write_buffer_size\(\) is 0"):
        start_sasl(transport, Recorder(), contexts.client)
    assert transport.get_protocol() is former
    reading = asyncio.create_task(streams[0].readexactly(written))
    async with asyncio.timeout(PATIENCE):
        while transport.get_write_buffer_size():
            await turns()
    start_sasl(transport, Recorder(), contexts.client).write(b"sealed")
    assert await reading == bytes(written)
    assert await Peer(streams, contexts.server).receive(6) == b"sealed"


@pytest.mark.parametrize(
    "given",
    [None, asyncio.Protocol, asyncio.DatagramProtocol(), Recorder],
    ids=["None", "a class", "datagrams", "another class"],
)
async def test_what_takes_no_data_is_refused_and_nothing_is_done(given: Any) -> None:
    transport, streams = await plain()
    former, context = transport.get_protocol(), context_pair().client
    with pytest.raises(UsageError, match=r"protocol is an asyncio\.Protocol or an asyncio\.Buff"):
        start_sasl(transport, given, context)
    assert transport.get_protocol() is former
    context.claim()  # nobody has it yet
    transport.write(b"in clear")
    assert await streams[0].readexactly(8) == b"in clear"


async def test_a_second_layer_is_refused() -> None:
    below, streams = await plain()
    contexts, protocol = context_pair(), Recorder()
    transport = start_sasl(below, protocol, contexts.client)
    for twice in (below, transport):
        with pytest.raises(UsageError, match="rebind"):
            start_sasl(twice, Recorder(), context_pair().client)
    peer = Peer(streams, contexts.server)
    await peer.send(b"still")
    await protocol.got(b"still")
    transport.write(b"sealed")
    assert await peer.receive(6) == b"sealed"
