"""SecurityLayer: what is sent, two callers at a time, and the end."""

from __future__ import annotations

import copy
import tracemalloc
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap.context import SMALL_TOKEN, Octets
from saslwrap.errors import ContextBusyError, SASLError, UsageError
from saslwrap.layer import SecurityLayer
from tests.layer_reads import FORGED, MEBIBYTE, TWO, StopsAt, assert_dead, failure, joined
from tests.support import (
    PATIENCE,
    ToySealer,
    ToyUnsealer,
    at_work,
    drain,
    frame,
    frames,
    make_context,
    make_layer,
    tokens,
)


def test_a_write_becomes_a_length_and_a_token() -> None:
    assert make_layer().send_data(b"hello") == [b"\x00\x00\x00\x0d", tokens(b"hello")[0]]


def test_nothing_to_send_gives_nothing_and_spends_nothing() -> None:
    layer = make_layer()
    assert layer.send_data(b"") == []
    assert joined(layer, b"hello") == frames(b"hello")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"abcd", [b"abcd"]),
        (b"abcde", [b"abcd", b"e"]),
        (b"abcdefgh", [b"abcd", b"efgh"]),
        (b"abcdefghi", [b"abcd", b"efgh", b"i"]),
    ],
)
def test_data_is_split_at_the_maximum_message(data: bytes, parts: list[bytes]) -> None:
    pieces = make_layer(maximum_message=4).send_data(data)
    assert len(pieces) == 2 * len(parts)
    assert pieces[1::2] == tokens(*parts)
    assert pieces[::2] == [len(token).to_bytes(4, "big") for token in tokens(*parts)]


@pytest.mark.parametrize("make", [bytes, bytearray], ids=["bytes", "bytearray"])
@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 1000])
def test_data_is_sent_in_batches_of_64_frames(length: int, make: Callable[[bytes], Any]) -> None:
    """Whoever sends gives others their turn in between. Of nothing there is one, which is empty."""
    data = bytes(index % 251 for index in range(length))
    batches = [bytes(batch) for batch in make_layer(maximum_message=4).batches(make(data))]
    assert b"".join(batches) == data
    assert [len(batch) for batch in batches[:-1]] == [256] * (len(batches) - 1)
    assert len(batches) == max(1, -(-length // 256))


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 9))
@settings(deadline=None)
def test_what_is_sent_is_what_arrives(writes: list[bytes], maximum_message: int) -> None:
    ours, theirs = make_layer(maximum_message=maximum_message), make_layer()
    for data in writes:
        theirs.receive_data(joined(ours, data))
    assert drain(theirs) == b"".join(writes)


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: array("B", data),
        lambda data: array("H", data),
        lambda data: memoryview(data).cast("I"),
        lambda data: memoryview(data[::-1])[::-1],
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "shorts", "items of four", "backwards"],
)
def test_any_buffer_can_be_sent(make: Callable[[bytes], Any]) -> None:
    layer = make_layer(maximum_message=3)
    assert joined(layer, make(b"abcdefgh")) == frames(b"abc", b"def", b"gh")


@pytest.mark.parametrize("maximum_message", [0, -3])
def test_a_peer_too_small_for_any_message_is_an_error(maximum_message: int) -> None:
    """The guard: data that cannot be sealed is never dropped in silence."""
    with pytest.raises(SASLError):
        make_layer(maximum_message=maximum_message).send_data(b"data")


@pytest.mark.parametrize("error", [SASLError("the provider gave up"), UsageError("wrapped")])
def test_a_failure_between_two_frames_latches(error: SASLError) -> None:
    """The guard: the first frame's sequence number is spent and lost, so none may follow."""
    sealer = ToySealer()
    layer = make_layer(sealer, maximum_message=4)
    sealer.on_call = StopsAt(2, error)
    first = failure(lambda: layer.send_data(b"abcdefgh"))
    assert layer.context.failed
    assert str(error) in str(first)
    assert not isinstance(first, UsageError)
    assert_dead(layer, type(first), str(first))


def test_what_else_breaks_between_two_frames_is_named_by_its_type_alone() -> None:
    """The guard: the text of a foreign exception may show plaintext; the later refusals do not."""

    class Lost:
        def __len__(self) -> int:
            raise ZeroDivisionError("s3cret")

    sealer, given = ToySealer(), iter([b"first", Lost()])
    layer = make_layer(sealer, maximum_message=4)
    setattr(sealer, "seal", lambda message: next(given))  # noqa: B010 - it lies about its type
    with pytest.raises(ZeroDivisionError):
        layer.send_data(b"abcdefgh")
    assert_dead(layer, SASLError, "sealing stopped between two frames: ZeroDivisionError")


def test_closing_between_two_frames_latches() -> None:
    sealer = ToySealer()
    layer = make_layer(sealer, maximum_message=4)
    sealer.on_call = layer.context.close
    first = failure(lambda: layer.send_data(b"abcdefgh"))
    assert "between two frames" in str(first)
    assert_dead(layer, SASLError, str(first))


def test_a_refusal_before_the_first_frame_does_not_latch() -> None:
    sealer = ToySealer()
    layer = make_layer(sealer, maximum_message=4)
    sealer.on_call = StopsAt(1, UsageError("not now"))
    with pytest.raises(UsageError, match=r"^not now$"):
        layer.send_data(b"abcdefgh")
    assert joined(layer, b"abcd") == frames(b"abcd")


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_write_latches_and_the_interrupt_passes(call: int) -> None:
    sealer = ToySealer()
    layer = make_layer(sealer, maximum_message=4)
    sealer.on_call = StopsAt(call, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        layer.send_data(b"abcdefgh")
    assert "interrupted" in str(failure(lambda: layer.send_data(b"more")))
    assert_dead(layer, SASLError, str(failure(layer.read)))


class InterruptingToken(bytes):
    def __len__(self) -> int:
        raise KeyboardInterrupt


class InterruptedLater(ToySealer):
    def seal(self, message: Octets) -> bytes:
        return InterruptingToken(super().seal(message))


def test_an_interrupt_after_a_frame_was_sealed_latches() -> None:
    """The guard: a sequence number that was spent on a lost frame ends the sending, loudly."""
    layer = make_layer(InterruptedLater())
    with pytest.raises(KeyboardInterrupt):
        layer.send_data(b"abcd")
    assert layer.context.failed


def refused(layer: SecurityLayer) -> bool:
    """Try to read, and forget the refusal with its traceback."""
    try:
        layer.read()
    except ContextBusyError:
        return True
    return False


def test_a_second_writer_in_another_thread_is_refused_at_once() -> None:
    sealer = ToySealer()
    layer = make_layer(sealer, maximum_message=4)
    with at_work(sealer, lambda: layer.send_data(b"abcdef")) as future:
        with pytest.raises(ContextBusyError, match="another send_data"):
            layer.send_data(b"x")
        with pytest.raises(ContextBusyError, match="another send_data"):
            layer.send_data(b"")
    assert future.result(PATIENCE) == make_layer(maximum_message=4).send_data(b"abcdef")
    assert layer.send_data(b"x")[1] == tokens(b"", b"", b"x")[2]


def test_a_second_writer_by_reentrancy_is_refused() -> None:
    """The guard: between two frames of one write no frame of another can be sealed."""
    sealer, caught = ToySealer(), []
    layer = make_layer(sealer, maximum_message=4)
    sealer.on_call = lambda: caught.append(failure(lambda: layer.send_data(b"x")))
    assert joined(layer, b"abcdef") == frames(b"abcd", b"ef")
    assert [type(error) for error in caught] == [ContextBusyError] * 2


def test_a_second_reader_in_another_thread_is_refused_at_once() -> None:
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    layer.receive_data(TWO)
    with (
        at_work(unsealer, layer.read) as future,
        pytest.raises(ContextBusyError, match="another read"),
    ):
        layer.read()
    assert future.result(PATIENCE) == b"hello"
    assert layer.read() == b"world!"


def test_a_second_reader_by_reentrancy_is_refused() -> None:
    unsealer, tried = ToyUnsealer(), list[bool]()
    layer = make_layer(unsealer=unsealer)
    layer.receive_data(TWO)
    unsealer.on_call = lambda: tried.append(refused(layer))
    assert drain(layer) == b"helloworld!"
    assert tried == [True, True]


def test_an_error_kept_inside_the_unsealer_does_not_pin_the_buffer() -> None:
    unsealer, kept = ToyUnsealer(), []
    layer = make_layer(unsealer=unsealer)
    layer.receive_data(TWO)
    unsealer.on_call = lambda: kept.append(failure(layer.read))
    assert drain(layer) == b"helloworld!"
    assert len(kept) == 2


def test_a_reader_and_a_writer_work_at_the_same_time() -> None:
    sealer, unsealer = ToySealer(), ToyUnsealer()
    layer = make_layer(sealer, unsealer)
    layer.receive_data(TWO)
    with at_work(sealer, lambda: layer.send_data(b"out")) as writing:
        assert layer.read() == b"hello"
    assert writing.result(PATIENCE)
    with at_work(unsealer, layer.read) as reading:
        assert layer.send_data(b"out")[1] == tokens(b"", b"out")[1]
    assert reading.result(PATIENCE) == b"world!"


def test_a_frame_refused_for_another_unsealer_stays() -> None:
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    one, two = tokens(b"one", b"two")
    layer.receive_data(frame(two))
    with at_work(unsealer, lambda: layer.context.unseal(one)):
        assert refused(layer)
        layer.receive_data(b"\x00\x00")
    assert layer.read() == b"two"
    assert layer.unread() == b"\x00\x00"


def test_input_is_taken_in_while_a_refusal_is_being_handled() -> None:
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    one, two = tokens(b"one", b"two")
    layer.receive_data(frame(two))
    with at_work(unsealer, lambda: layer.context.unseal(one)):
        error = failure(layer.read)
    assert error.__traceback__
    layer.receive_data(b"x")
    assert layer.read() == b"two"


def test_a_closed_context_closes_both_directions() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert layer.read(2) == b"he"
    layer.context.close()
    assert layer.read() == b"llo"
    for call in (layer.read, lambda: layer.send_data(b"x"), lambda: layer.send_data(b"")):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_the_error_of_the_context_reaches_the_layer() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    error = failure(lambda: layer.context.unseal(FORGED[4:]))
    assert_dead(layer, type(error), str(error))


def test_what_is_not_unsealed_can_be_taken_out_for_a_new_layer() -> None:
    """The guard: bytes that were read past the switch reach the new layer, whole and once."""
    old, new = make_layer(), make_layer()
    old.receive_data(frames(b"old") + TWO[:20])
    assert old.read(1) == b"o"
    new.receive_data(old.unread())
    assert old.unread() == b""
    assert old.read() == b"ld"
    assert old.read() == b""
    new.receive_data(TWO[20:])
    assert drain(new) == b"helloworld!"


def peak_while(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "end",
    [
        lambda layer: failure(lambda: layer.context.unseal(FORGED[4:])),
        pytest.param(
            lambda layer: layer.context.close(),
        ),
    ],
    ids=["failed", "closed"],
)
def test_input_after_the_end_is_dropped(end: Callable[[SecurityLayer], object]) -> None:
    """The guard: a peer cannot fill the memory of a connection that is dead already."""
    layer = make_layer()
    end(layer)
    chunk = bytes(MEBIBYTE)

    def flood() -> None:
        for _ in range(8):
            layer.receive_data(chunk)

    assert peak_while(flood) < 65536
    assert layer.unread() == b""


def test_a_failed_read_gives_its_buffer_back() -> None:
    layer = make_layer()
    layer.receive_data(FORGED + bytes(1000))
    failure(layer.read)
    assert layer.unread() == b""


def test_a_dribbling_peer_costs_what_it_sent() -> None:
    """The guard: each read of an unfinished frame is free, and memory follows what arrived."""
    layer = make_layer(local_maxbuf=0xFFFFFF)

    def dribble() -> None:
        layer.receive_data(b"\x00\xff\xff\xff")
        for _ in range(20000):
            layer.receive_data(b"x")
            assert layer.read() == b""

    assert peak_while(dribble) < 20000 * 1.25 + 8192


def test_small_reads_of_a_large_frame_do_not_copy_the_rest() -> None:
    """The guard: linear cost; slicing the rest off each time would show as a second message."""
    ours = make_layer(maximum_message=MEBIBYTE)
    layer = make_layer(local_maxbuf=0xFFFFFF)
    layer.receive_data(joined(ours, bytes(MEBIBYTE)))
    layer.read(1)
    assert peak_while(lambda: [len(layer.read(65536)) for _ in range(15)]) < MEBIBYTE / 4


def test_a_large_frame_waits_while_another_unseals() -> None:
    """The guard: its view is released, so that more can come in behind it."""
    large, unsealer = bytes(SMALL_TOKEN + 1), ToyUnsealer()
    layer = make_layer(unsealer=unsealer, local_maxbuf=2 * SMALL_TOKEN)
    first, second = tokens(b"first", large)
    layer.receive_data(frame(second))
    with at_work(unsealer, lambda: layer.context.unseal(first)):
        assert type(failure(layer.read)) is ContextBusyError
        layer.receive_data(b"\x00")
    assert drain(layer) == large


@pytest.mark.parametrize("waiting", [b"\x00\x00", b"\xff\xff\xff\xff", FORGED])
def test_a_closed_layer_says_so_whatever_waits_in_it(waiting: bytes) -> None:
    layer = make_layer()
    layer.receive_data(waiting)
    layer.receive_eof()
    layer.context.close()
    for _ in range(2):
        with pytest.raises(UsageError, match="closed"):
            layer.read()


def test_a_layer_cannot_be_copied() -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.copy(make_layer())


def test_the_repr_names_the_context_and_no_plaintext() -> None:
    layer = SecurityLayer(make_context())
    layer.receive_data(frames(b"secret"))
    layer.read(1)
    assert repr(layer) == "<SecurityLayer over <SecurityContext TOY auth-conf toy ssf=128>>"
