from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from saslwrap.asyncio import SASLTransport, start_sasl
from saslwrap.asyncio.wire import Wire
from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.testing import PROTECTIONS, context_pair
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

__all__ = ["loops", "problems"]

pytestmark = on_both_loops

both_kinds = pytest.mark.parametrize(
    "kind", [pytest.param(Recorder, id="protocol"), pytest.param(BufferedRecorder, id="buffered")]
)
over_what = pytest.mark.parametrize("over", ["tcp", "tls"])


def wire_of(transport: SASLTransport) -> Wire:
    return transport._wire


@pytest.fixture
def tls_or_tcp(over: str, tls: TLSContexts) -> TLSContexts | None:
    return tls if over == "tls" else None


# data


@both_kinds
@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_data_of_any_size_goes_both_ways(kind: type[AnyRecorder], protection: str) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol, protection)
    for size in (1, 999, 1000, 1001, 65536, 150_000):
        data = bytes(i % 251 for i in range(size))
        transport.write(data)
        assert await peer.receive(size) == data
        await peer.send(data)
        await protocol.got(data)
        protocol.data.clear()
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events.strip("d") == "el"


@both_kinds
async def test_what_was_received_past_the_login_comes_first(kind: type[AnyRecorder]) -> None:
    contexts = context_pair()
    plain_transport, streams = await plain()
    peer, protocol = Peer(streams, contexts.server), kind()
    wire = peer.seal(b"one", b"two", b"three")
    start_sasl(plain_transport, protocol, contexts.client, received=wire[:-3])
    assert not protocol.data, "called back before start_sasl returned"
    await protocol.got(b"onetwo")
    await peer.send_raw(wire[-3:])
    await protocol.got(b"onetwothree")
    await peer.close()
    assert await protocol.lost() is None


async def test_the_old_protocol_hears_nothing_more() -> None:
    transport, streams = await plain()
    former = transport.get_protocol()
    assert isinstance(former, Recorder)
    contexts, protocol = context_pair(), Recorder()
    start_sasl(transport, protocol, contexts.client)
    await Peer(streams, contexts.server).send(b"x")
    await protocol.got(b"x")
    transport.close()
    await protocol.lost()
    assert former.events == "m"
    assert "m" not in protocol.events


async def test_frames_are_delivered_one_by_one() -> None:
    protocol = Recorder()
    _, peer = await upgraded(protocol)
    await peer.send(b"one", b"two", b"three")
    await protocol.got(b"onetwothree")
    assert protocol.chunks == [b"one", b"two", b"three"]


class Chunks(asyncio.StreamReaderProtocol):
    """asyncio's own, with a look at what it is given."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)
        self.chunks: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        super().data_received(data)


async def test_a_stream_reader_gets_frames_together() -> None:
    contexts, protocol = context_pair(), Chunks()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    wire = peer.seal(b"one", b"two", *[bytes(1000)] * 20)
    transport = start_sasl(below, protocol, contexts.client, received=wire[:-3])
    assert await protocol.reader.readexactly(19_006) == b"onetwo" + bytes(19_000)
    assert [len(chunk) for chunk in protocol.chunks] == [17_006, 2000]
    with transport.one_by_one():
        await peer.send_raw(wire[-3:] + peer.seal(b"one", b"two"))
        assert await protocol.reader.readexactly(1000) == bytes(1000)
        await turns()
        assert len(protocol.chunks[2:]) == 1
    assert await protocol.reader.readexactly(6) == b"onetwo"
    assert protocol.chunks[3:] == [b"onetwo"]


async def test_a_stream_reader_gets_what_precedes_a_failure() -> None:
    contexts, protocol = context_pair(), Chunks()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    wire = peer.seal(b"good ", b"too") + altered(peer) + peer.seal(b"behind")
    start_sasl(below, protocol, contexts.client, received=wire)
    with pytest.raises(IntegrityError):
        await protocol.reader.read()
    assert protocol.chunks == [b"good too"]


async def test_write_takes_any_buffer_and_nothing_of_nothing() -> None:
    transport, peer = await upgraded(Recorder())
    for data in (b"", bytearray(b"ab"), memoryview(b"cd"), memoryview(b"efgh").cast("I")):
        transport.write(data)
    transport.writelines([b"ij", bytearray(b"k"), memoryview(b"l"), b""])
    transport.writelines([])
    assert await peer.receive(12) == b"abcdefghijkl"
    with pytest.raises(TypeError):
        transport.write("text")  # type: ignore[arg-type]


async def test_writelines_seals_once() -> None:
    transport, peer = await upgraded(Recorder(), "auth-int")
    transport.writelines([b"a"] * 100)
    transport.close()
    async with asyncio.timeout(10):
        assert len(await peer.reader.read()) == 4 + 100 + 16


# the ends


async def test_write_eof_leaves_the_other_direction_open() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    assert transport.can_write_eof()
    transport.write(b"last words")
    transport.write_eof()
    transport.write_eof()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"x")
    assert await peer.end() == b"last words"
    await peer.send(b"answer")
    await protocol.got(b"answer")
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events == "del"


async def test_a_protocol_that_keeps_open_at_eof_still_writes() -> None:
    protocol = Recorder()
    protocol.keep_open = True
    transport, peer = await upgraded(protocol)
    await peer.send(b"question")
    peer.writer.write_eof()
    await protocol.until(lambda: "e" in protocol.events)
    transport.pause_reading()  # and on, which reads the end once more below
    transport.resume_reading()
    await turns()
    transport.write(b"answer")
    transport.close()
    assert await peer.end() == b"answer"
    assert await protocol.lost() is None
    assert protocol.events == "del"


@over_what
async def test_close_sends_what_is_queued(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.write(bytes(1_000_000))
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert not transport.is_reading()
    transport.write(b"never")
    assert await peer.end() == bytes(1_000_000)
    peer.writer.close()
    assert await protocol.lost() is None
    transport.write(b"never")
    transport.abort()
    assert transport.get_extra_info("sasl") is wire_of(transport).layer.context


@over_what
async def test_nothing_is_delivered_after_close(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.close
    await peer.send(b"one", b"two", b"three")
    await protocol.until(lambda: protocol.data)
    await peer.send(b"four")
    peer.writer.close()
    await protocol.lost()  # TLS may find fault with the fourth
    assert protocol.events == "dl"


@over_what
async def test_abort_drops_what_is_queued(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    transport.write(bytes(10_000_000))
    transport.abort()
    transport.abort()
    assert await protocol.lost() is None
    assert protocol.events.replace("p", "") == "l"


async def test_abort_in_a_callback_ends_the_burst() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.abort
    await peer.send(b"one", b"two")
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_the_keys_are_dropped_with_the_connection() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    context = transport.get_extra_info("sasl")
    await peer.close()
    await protocol.lost()
    with pytest.raises(UsageError, match="closed"):
        context.seal(b"x")


async def test_closing_the_transport_below_ends_it_too() -> None:
    protocol = Recorder()
    transport, _ = await upgraded(protocol)
    wire_of(transport).transport.close()
    assert await protocol.lost() is None


async def test_closing_the_transport_below_does_not_wait_for_an_application_that_pauses() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two")
    await protocol.got(b"one")
    wire_of(transport).transport.close()
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_closing_the_transport_below_in_mid_frame_is_truncation() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    await peer.send_raw(peer.seal(b"whole") + peer.seal(b"cut off")[:-1])
    await protocol.got(b"whole")
    wire_of(transport).transport.close()
    assert isinstance(await protocol.lost(), TruncatedStreamError)


# what it tells


async def test_it_tells_about_itself_and_what_is_below() -> None:
    protocol = Recorder()
    contexts = context_pair("3des")
    transport, peer = await upgraded(protocol, contexts)
    assert transport.get_extra_info("sasl") is contexts.client
    assert transport.get_extra_info("peername") == peer.writer.get_extra_info("sockname")
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", 7) == 7
    assert transport.get_protocol() is protocol
    assert transport.is_reading()
    assert not transport.is_closing()
    assert repr(transport).startswith("<SASLTransport <SecurityLayer over <SecurityContext DIGEST")


# flow control, outbound


async def test_write_limits_are_those_of_the_transport_below() -> None:
    transport, _ = await upgraded(Recorder())
    transport.set_write_buffer_limits(high=2000, low=1000)
    assert transport.get_write_buffer_limits() == (1000, 2000)
    assert wire_of(transport).transport.get_write_buffer_limits() == (1000, 2000)
    assert transport.get_write_buffer_size() == 0


@over_what
async def test_a_fast_writer_is_paused_and_resumed(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.set_write_buffer_limits(high=100_000, low=10_000)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    written = 0
    while "p" not in protocol.events:
        transport.write(bytes(10_000))
        written += 10_000
        assert written < 20_000_000
        await turns(2)
    assert transport.get_write_buffer_size() > 100_000 or tls_or_tcp
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await peer.receive(written) == bytes(written)
    await protocol.until(lambda: protocol.events == "pr")
    transport.close()
    peer.writer.close()
    assert await protocol.lost() is None


# flow control, inbound


@over_what
async def test_a_slow_reader_stops_a_fast_writer(tls_or_tcp: TLSContexts | None) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while sent < 50_000_000:
            await peer.send(bytes(50_000))
            sent += 50_000

    task = asyncio.create_task(flood())
    before = -1
    while before != sent:
        before = sent
        await turns(200)
    assert sent < 5_000_000
    assert len(wire_of(transport).layer._decoder._buffer) <= 600_000
    assert not protocol.data
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    await protocol.got(bytes(sent + 50_000))
    assert not wire_of(transport).layer._decoder._buffer


@both_kinds
async def test_pausing_in_mid_burst_stops_the_burst(kind: type[AnyRecorder]) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two", b"three")
    expected = b""
    for word in (b"one", b"two", b"three"):
        expected += word
        await protocol.got(expected)
        await turns()
        assert protocol.data == expected
        transport.resume_reading()
    await peer.close()
    assert await protocol.lost() is None


async def test_a_buffered_protocol_pauses_inside_a_frame() -> None:
    protocol = BufferedRecorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(bytes(2500), b"next")
    for chunk in (1000, 2000, 2500, 2504):
        await protocol.until_size(chunk)
        await turns()
        assert len(protocol.data) == chunk
        transport.resume_reading()
    await turns()
    assert protocol.chunks[-2:] == [bytes(500), b"next"]


async def test_resuming_in_the_callback_goes_on_at_once() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)

    def blink() -> None:
        transport.pause_reading()
        transport.resume_reading()

    protocol.on_data = blink
    await peer.send(*[b"x"] * 50)
    await protocol.got(b"x" * 50)
    await peer.send(b"y")
    await protocol.got(b"x" * 50 + b"y")


async def test_pausing_again_before_the_resume_took_effect() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    transport.pause_reading()
    await peer.send(b"x")
    transport.resume_reading()
    transport.pause_reading()
    await turns()
    assert not protocol.data
    transport.resume_reading()
    await protocol.got(b"x")


async def test_a_transport_that_was_paused_stays_paused() -> None:
    contexts, protocol = context_pair(), Recorder()
    below, streams = await plain()
    peer = Peer(streams, contexts.server)
    below.pause_reading()
    transport = start_sasl(below, protocol, contexts.client, received=peer.seal(b"one"))
    assert not transport.is_reading()
    await peer.send(b"two")
    await turns()
    assert not protocol.data
    transport.resume_reading()
    await protocol.got(b"onetwo")


@over_what
async def test_the_end_waits_for_an_application_that_pauses(
    tls_or_tcp: TLSContexts | None,
) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.pause_reading
    peer.writer.write(peer.seal(*[b"x"] * 10))
    peer.writer.close()
    for count in range(1, 11):
        await protocol.until_size(count)
        await turns()
        assert protocol.events == "d" * count
        transport.resume_reading()
    assert await protocol.lost() is None
    assert protocol.events == "d" * 10 + "el"


@over_what
async def test_an_application_that_pauses_at_the_end_can_close(
    tls_or_tcp: TLSContexts | None,
) -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol, tls=tls_or_tcp)
    protocol.on_data = transport.pause_reading
    peer.writer.write(peer.seal(b"one", b"two"))
    peer.writer.close()
    await protocol.got(b"one")
    await turns()
    transport.close()
    assert await protocol.lost() is None
    assert protocol.events == "dl"


async def test_a_broken_connection_does_not_wait_for_an_application_that_pauses() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    protocol.on_data = transport.pause_reading
    await peer.send(b"one", b"two")
    await protocol.got(b"one")
    reset(peer.writer)
    while "l" not in protocol.events:  # writing finds out
        transport.write(b"x")
        await turns()
    assert isinstance(await protocol.lost(), OSError)
    transport.resume_reading()
    await turns()
    assert protocol.data == b"one"


async def test_data_that_comes_while_data_is_delivered_waits_its_turn() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)

    def more() -> None:  # as of a transport in memory, whose peer answers in the same call
        if protocol.data == b"one":
            wire_of(transport).data_received(peer.seal(b"three"))
            assert protocol.data == b"one"

    protocol.on_data = more
    await peer.send(b"one", b"two")
    await protocol.got(b"onetwothree")


# set_protocol


@both_kinds
async def test_another_protocol_takes_over_in_mid_burst(kind: type[AnyRecorder]) -> None:
    first, second = Recorder(), kind()
    transport, peer = await upgraded(first)
    first.on_data = lambda: transport.set_protocol(second)
    await peer.send(b"for the first", b"for the second")
    await second.got(b"for the second")
    assert transport.get_protocol() is second
    await peer.close()
    assert await second.lost() is None
    assert first.events == "d"


@both_kinds
async def test_another_protocol_takes_over_in_mid_frame(kind: type[AnyRecorder]) -> None:
    first, second = BufferedRecorder(), kind()
    transport, peer = await upgraded(first)
    first.on_data = lambda: transport.set_protocol(second)
    await peer.send(b"1" * 1000 + b"2" * 1500)
    await second.got(b"2" * 1500)
    await peer.close()
    assert await second.lost() is None
    assert first.events == "d"
    assert first.data == b"1" * 1000


async def test_a_protocol_of_another_kind_is_refused() -> None:
    transport, _ = await upgraded(Recorder())
    with pytest.raises(UsageError, match="BufferedProtocol"):
        transport.set_protocol(asyncio.BaseProtocol())


# errors of the layer


def altered(peer: Peer) -> bytes:
    frame = bytearray(peer.seal(b"altered"))
    frame[6] ^= 1
    return bytes(frame)


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


# errors of the application


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


# what is refused


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


# TLS below


@both_kinds
async def test_a_layer_over_tls(kind: type[AnyRecorder], tls: TLSContexts) -> None:
    protocol = kind()
    transport, peer = await upgraded(protocol, tls=tls)
    for size in (1, 20_000, 300_000):
        transport.write(bytes(size))
        assert await peer.receive(size) == bytes(size)
        await peer.send(bytes(size))
        await protocol.got(bytes(size))
        protocol.data.clear()
    assert transport.get_extra_info("cipher")
    await peer.close()
    assert await protocol.lost() is None
    transport.close()
    assert transport.get_extra_info("sslcontext") is tls.client


async def test_tls_cannot_be_half_closed(tls: TLSContexts) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    transport, peer = await upgraded(protocol, tls=tls)
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        transport.write_eof()
    transport.write(b"still open")
    assert await peer.receive(10) == b"still open"
    await peer.close()
    assert await protocol.lost() is None
    assert protocol.events == "el"


# a login under the layer


async def test_a_rebind_frame_by_frame() -> None:
    protocol = Recorder()
    transport, peer = await upgraded(protocol)
    anew = context_pair("3des")
    renewed = Peer((peer.reader, peer.writer), anew.server)

    def switch() -> None:
        if protocol.data == b"success":
            transport.rebind(anew.client)

    protocol.on_data = switch
    with transport.one_by_one():
        await peer.send_raw(peer.seal(b"success") + renewed.seal(b"under ", b"the new"))
        await protocol.until(lambda: protocol.data)
        await turns()
        assert protocol.data == b"success"
        assert not transport.is_reading()
    await protocol.got(b"successunder the new")
    assert transport.get_extra_info("sasl") is anew.client
    transport.write(b"answer")
    assert await renewed.receive(6) == b"answer"


async def test_a_rebind_with_data_of_the_old_layer_breaks_the_connection() -> None:
    protocol = Recorder()
    transport, _ = await upgraded(protocol)
    with pytest.raises(ProtocolError, match="old layer"):
        transport.rebind(context_pair().client, trailing_data=b"x")
    error = await protocol.lost()
    assert isinstance(error, ProtocolError)
    with pytest.raises(ProtocolError, match="old layer"):
        transport.write(b"x")
