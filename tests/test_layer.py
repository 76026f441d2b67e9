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
from saslwrap.errors import (
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.layer import ClearLayer, SecurityLayer, next_layer
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

MEBIBYTE = 1 << 20
TWO = frames(b"hello", b"world!")
THREE = frames(b"a", b"hello", b"")
FORGED = frame(b"\x00\x00\x00\x00forged!!")


def joined(layer: SecurityLayer, data: bytes) -> bytes:
    return b"".join(layer.send_data(data))


def received(pieces: list[bytes]) -> bytes:
    """Feed the pieces, reading all after each, up to a clean end."""
    layer, found = make_layer(), b""
    for piece in pieces:
        layer.receive_data(piece)
        found += drain(layer)
    layer.receive_eof()
    assert layer.read() == b""
    assert layer.at_eof
    return found


def failure(call: Callable[[], object]) -> SASLError:
    with pytest.raises(SASLError) as info:
        call()
    return info.value


def assert_dead(layer: SecurityLayer, kind: type[SASLError], text: str) -> None:
    """Both directions refuse with this type and text, again and again, and nothing comes out."""
    layer.receive_data(frames(b"later"))
    calls: list[Callable[[], object]] = [
        layer.read,
        lambda: layer.send_data(b"more"),
        lambda: layer.send_data(b""),
        lambda: layer.read(1),
    ]
    errors = [failure(call) for call in calls]
    assert {(type(error), str(error)) for error in errors} == {(kind, text)}
    assert {(error.__cause__, error.__context__) for error in errors} == {(None, None)}
    assert len({id(error) for error in errors}) == len(errors)
    assert not layer.at_eof


# -- outbound


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


class StopsAt:
    """Raises inside the n-th call."""

    def __init__(self, call: int, error: BaseException) -> None:
        self.left, self.error = call, error

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            raise self.error


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


# -- inbound: any segmentation


def read_into(found: list[bytes], layer: SecurityLayer) -> None:
    while piece := layer.read():
        found.append(piece)


@pytest.mark.parametrize("cut", range(len(TWO) + 1))
def test_two_frames_split_anywhere(cut: int) -> None:
    assert received([TWO[:cut], TWO[cut:]]) == b"helloworld!"


@pytest.mark.parametrize("first", range(len(THREE) + 1))
def test_three_frames_split_anywhere_twice(first: int) -> None:
    for second in range(first, len(THREE) + 1):
        assert received([THREE[:first], THREE[first:second], THREE[second:]]) == b"ahello"


def test_octet_by_octet() -> None:
    assert received([bytes([octet]) for octet in THREE]) == b"ahello"


def test_all_at_once() -> None:
    assert received([THREE]) == b"ahello"


@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
@settings(deadline=None)
def test_any_frames_in_any_pieces_read_in_any_sizes(
    messages: list[bytes], data: st.DataObject
) -> None:
    wire, layer, found = frames(*messages), make_layer(), b""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        layer.receive_data(wire[start:end])
        while piece := layer.read(size := data.draw(st.integers(1, 60))):
            assert len(piece) <= size
            found += piece
    layer.receive_eof()
    assert layer.at_eof
    assert found == b"".join(messages)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_one_flipped_bit_anywhere_never_passes(messages: list[bytes], data: st.DataObject) -> None:
    """The guard: what is read of an altered stream is a beginning of the truth, then an error."""
    wire = bytearray(frames(*messages))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    layer, found = make_layer(), list[bytes]()
    layer.receive_data(wire)
    layer.receive_eof()
    with pytest.raises((IntegrityError, ProtocolError)):
        read_into(found, layer)
    assert found == messages[: len(found)]
    assert len(found) < len(messages)


@pytest.mark.parametrize(
    "wire",
    [
        frames(b"one") * 2,
        frames(b"", b"two")[len(frames(b"")) :],
        frame(tokens(b"one", b"two")[1]) + frame(tokens(b"one", b"two")[0]),
    ],
    ids=["replayed", "lost", "swapped"],
)
def test_a_frame_out_of_order_ends_the_stream(wire: bytes) -> None:
    layer = make_layer()
    layer.receive_data(wire)
    with pytest.raises(OutOfSequenceError):
        drain(layer)


# -- inbound: reading


def test_a_read_gives_one_frame_at_most() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert [layer.read(), layer.read(), layer.read()] == [b"hello", b"world!", b""]


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (1, [b"h", b"e", b"l", b"l", b"o", b"w", b"o", b"r", b"l", b"d", b"!"]),
        (2, [b"he", b"ll", b"o", b"wo", b"rl", b"d!"]),
        (5, [b"hello", b"world", b"!"]),
        (6, [b"hello", b"world!"]),
    ],
)
def test_a_frame_can_be_read_in_parts(size: int, pieces: list[bytes]) -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert list(iter(lambda: layer.read(size), b"")) == pieces


def test_a_read_unseals_only_what_it_gives() -> None:
    """The guard: a reader that pauses piles up no plaintext."""
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    layer.receive_data(TWO)
    assert unsealer.sequence == 0
    layer.read(2)
    layer.read(3)
    assert unsealer.sequence == 1


# -- inbound: reading many frames


@pytest.mark.parametrize(
    ("enough", "pieces"),
    [
        (1, [b"hello", b"world!", b"a"]),
        (5, [b"hello", b"world!", b"a"]),
        (6, [b"helloworld!", b"a"]),
        (11, [b"helloworld!", b"a"]),
        (12, [b"helloworld!a"]),
        (13, [b"helloworld!a"]),
    ],
)
def test_frames_are_read_together(enough: int, pieces: list[bytes]) -> None:
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    wire = frames(b"hello", b"world!", b"", b"a", b"later")
    layer.receive_data(wire[:-1])
    assert layer.read_many(enough) == pieces[0]
    assert unsealer.sequence == (1 if enough < 6 else 2 if enough < 12 else 4)
    assert list(iter(lambda: layer.read_many(enough), b"")) == pieces[1:]
    layer.receive_data(wire[-1:])
    assert layer.read_many(enough) == b"later"


def test_what_is_left_of_a_frame_is_read_together_with_others() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert layer.read(2) == b"he"
    assert layer.read_many() == b"lloworld!"


@pytest.mark.parametrize("enough", [7, 100])
def test_an_error_behind_frames_that_are_read_together_waits(enough: int) -> None:
    """The guard: the good ones are given, and after them the failure, which is the layer's."""
    layer = make_layer()
    layer.receive_data(frames(b"one", b"two!") + FORGED + frames(b"later"))
    assert layer.read_many(enough) == b"onetwo!"
    assert layer.context.failed == (enough > 7)
    error = failure(layer.read_many)
    assert_dead(layer, OutOfSequenceError, str(error))


@pytest.mark.parametrize("error", [UsageError("not now"), KeyboardInterrupt()])
def test_what_stops_reading_together_takes_nothing_along(error: BaseException) -> None:
    unsealer = ToyUnsealer()
    layer = make_layer(unsealer=unsealer)
    layer.receive_data(frames(b"oh, ", b"hello", b"world!"))
    unsealer.on_call = StopsAt(3, error)
    if isinstance(error, UsageError):
        assert layer.read_many() == b"oh, hello"
        unsealer.sequence = 2
        assert layer.read_many() == b"world!"
    else:
        with pytest.raises(KeyboardInterrupt):
            layer.read_many()
        assert layer.read_many() == b"oh, hello"
        assert "interrupted" in str(failure(layer.read))


def test_sixteen_kib_are_enough_to_be_read_together() -> None:
    layer = make_layer()
    layer.receive_data(frames(*[bytes(64)] * 257))
    assert len(layer.read_many()) == 16384
    assert len(layer.read_many()) == 64


def test_without_a_layer_reading_together_is_reading() -> None:
    layer = ClearLayer()
    layer.receive_data(b"one")
    layer.receive_data(b"two")
    assert layer.read_many(4) == b"onet"
    assert layer.read_many() == b"wo"
    layer.receive_data(bytes(16385))
    assert len(layer.read_many()) == 16384


@pytest.mark.parametrize("context", [None, "context"])
def test_a_layer_takes_a_context_alone(context: Any) -> None:
    with pytest.raises(UsageError, match=rf"this is {type(context).__name__}\."):
        SecurityLayer(context)


def test_a_context_has_one_layer() -> None:
    """The guard: two would share its numbers, and each peer would miss a part of the sequence."""
    context = make_context()
    layer = SecurityLayer(context)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"has a user already.*or log in anew"):
            SecurityLayer(context)
    assert joined(layer, b"hello") + joined(layer, b"world!") == TWO


def test_a_context_whose_layer_is_gone_has_no_other() -> None:
    context = make_context()
    SecurityLayer(context).receive_data(TWO[:20])  # which nobody will find the rest of
    with pytest.raises(UsageError, match="has a user already"):
        SecurityLayer(context)


def test_a_context_that_is_closed_gets_no_layer() -> None:
    context = make_context()
    context.close()
    with pytest.raises(UsageError, match="is closed; log in anew"):
        SecurityLayer(context)


def test_a_context_that_has_failed_gets_no_layer() -> None:
    context = make_context()
    context.fail(ProtocolError("the framing broke"))
    with pytest.raises(ProtocolError, match="the framing broke"):
        SecurityLayer(context)


@pytest.mark.parametrize("size", [0, -1])
def test_a_read_of_nothing_is_refused(size: int) -> None:
    layer = make_layer()
    with pytest.raises(UsageError, match=f"at least 1, not {size}"):
        layer.read(size)
    assert not layer.context.failed


def test_without_input_a_read_gives_nothing_and_is_not_at_the_end() -> None:
    layer = make_layer()
    assert layer.read() == b""
    assert not layer.at_eof


def test_the_end_comes_after_all_was_read() -> None:
    layer = make_layer()
    layer.receive_data(frames(b"hello"))
    layer.receive_eof()
    assert not layer.at_eof
    layer.read(4)
    assert not layer.at_eof
    layer.read(4)
    assert layer.at_eof
    assert layer.read() == b""


def test_writing_goes_on_after_the_peer_ended() -> None:
    layer = make_layer()
    layer.receive_eof()
    assert joined(layer, b"hello") == frames(b"hello")


@pytest.mark.parametrize("arrived", range(1, len(frames(b"hello"))))
def test_the_end_inside_a_frame_is_truncation(arrived: int) -> None:
    """The guard: nothing of a cut frame comes out, and the cut is no clean end."""
    layer = make_layer()
    layer.receive_data(TWO[: len(frames(b"hello"))] + frames(b"", b"hello")[12 : 12 + arrived])
    layer.receive_eof()
    assert layer.read() == b"hello"
    error = failure(layer.read)
    assert type(error) is TruncatedStreamError
    assert_dead(layer, TruncatedStreamError, str(error))


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (FORGED, OutOfSequenceError, "sequence"),
        (b"\x00\x00\x00\x00", ProtocolError, "length 0"),
        (b"\x00\x00\x03\xe9", FrameTooLargeError, "1001 octets, our maxbuf is 1000$"),
        (b"\x80\x00\x00\x00", FrameTooLargeError, "2147483648 octets"),
        (b"\xff\xff\xff\xfc", FrameTooLargeError, "4294967292 octets"),
        (b"\xff\xff\xff\xff", FrameTooLargeError, "4294967295 octets"),
        (b"* OK Dovecot", FrameTooLargeError, "cleartext"),
        (b"\x30\x84\x00\x00\x00\x10", FrameTooLargeError, "LDAP"),
    ],
)
def test_errors_come_in_stream_order(wire: bytes, kind: type[SASLError], text: str) -> None:
    """The guard: good plaintext before a bad frame is readable, whatever follows it is not."""
    layer = make_layer()
    layer.receive_data(TWO + wire + frames(b"", b"", b"", b"after"))
    assert layer.read(3) == b"hel"
    assert joined(layer, b"still fine") == frames(b"still fine")
    assert layer.read() == b"lo"
    assert layer.read() == b"world!"
    with pytest.raises(kind, match=text) as info:
        layer.read()
    assert type(info.value) is kind
    assert_dead(layer, kind, str(info.value))


def test_a_frame_at_the_limit_passes() -> None:
    layer = make_layer(local_maxbuf=20)
    layer.receive_data(frames(bytes(12)))
    assert layer.read() == bytes(12)


def test_plaintext_of_a_good_frame_is_readable_after_the_writer_failed() -> None:
    sealer = ToySealer()
    layer = make_layer(sealer)
    layer.receive_data(TWO)
    assert layer.read(2) == b"he"
    sealer.on_call = StopsAt(1, SASLError("the provider gave up"))
    with pytest.raises(SASLError):
        layer.send_data(b"x")
    assert layer.read() == b"llo"
    assert_dead(layer, SASLError, "the provider gave up")


@pytest.mark.parametrize(
    "wire", [b"", b"\xff", b"\xff\xff\xff\xff", b"* OK Dovecot", FORGED, bytes(5000)]
)
def test_taking_in_never_raises_for_what_the_peer_sent(wire: bytes) -> None:
    layer = make_layer()
    for _ in range(3):
        layer.receive_data(wire)
    layer.receive_eof()
    layer.receive_data(wire)
    layer.receive_eof()


# -- frames without content


def test_a_frame_without_content_is_skipped() -> None:
    layer = make_layer()
    layer.receive_data(frames(b"", b"", b"hello", b""))
    assert layer.read() == b"hello"
    assert layer.read() == b""
    layer.receive_eof()
    assert layer.at_eof


@pytest.mark.parametrize("at_once", [True, False])
def test_frames_without_content_are_bounded(at_once: bool) -> None:
    """The guard: 32 in a row pass, the 33rd ends the stream; also when they come one by one."""
    layer, wire = make_layer(), frames(*[b""] * 33)
    pieces = [wire] if at_once else [wire[i : i + 12] for i in range(0, len(wire), 12)]
    for piece in pieces[:-1]:
        layer.receive_data(piece)
        assert layer.read() == b""
    layer.receive_data(pieces[-1])
    with pytest.raises(ProtocolError, match="over 32 frames without content in a row") as info:
        layer.read()
    assert_dead(layer, ProtocolError, str(info.value))


def test_content_ends_a_row_of_frames_without() -> None:
    layer = make_layer()
    layer.receive_data(frames(*[b""] * 32, b"hello", *[b""] * 32, b"world"))
    assert [layer.read(), layer.read(), layer.read()] == [b"hello", b"world", b""]


# -- two at a time


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


# -- the end


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


# -- plaintext put back


def test_plaintext_put_back_is_read_first() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert layer.read(4) == b"hell"
    layer.push_back(bytearray(b"ell"))
    assert layer.read() == b"ello"
    layer.push_back(b"again")
    assert [layer.read(), layer.read(), layer.read()] == [b"again", b"world!", b""]


def test_plaintext_put_back_comes_before_the_end() -> None:
    layer = make_layer()
    layer.receive_eof()
    layer.push_back(b"rest")
    assert not layer.at_eof
    assert layer.read() == b"rest"
    assert layer.at_eof


def test_plaintext_put_back_is_readable_before_an_error() -> None:
    layer = make_layer()
    layer.receive_data(frames(b"hello") + FORGED)
    layer.push_back(layer.read())
    assert layer.read() == b"hello"
    with pytest.raises(OutOfSequenceError):
        layer.read()


# -- no layer


def test_without_a_layer_data_passes_as_it_is() -> None:
    layer = ClearLayer()
    assert layer.context is None
    assert layer.send_data(b"hello") == [b"hello"]
    assert layer.send_data(b"") == []
    assert layer.read() == b""
    layer.receive_data(b"hello")
    layer.receive_data(bytearray(b" world"))
    assert [layer.read(4), layer.read(), layer.read()] == [b"hell", b"o world", b""]


def test_without_a_layer_the_end_comes_after_all_was_read() -> None:
    layer = ClearLayer()
    assert not layer.at_eof
    layer.receive_data(b"x")
    layer.receive_eof()
    assert not layer.at_eof
    layer.read()
    assert layer.at_eof


def test_without_a_layer_what_was_not_read_can_be_taken_out_or_put_back() -> None:
    layer = ClearLayer()
    assert layer.unread() == b""
    layer.receive_data(b"hello")
    assert layer.read(2) == b"he"
    layer.push_back(b"e")
    assert layer.pending == 4
    assert layer.unread() == b"ello"
    assert layer.read() == b""
    assert layer.pending == 0


@pytest.mark.parametrize("size", [0, -1])
def test_without_a_layer_a_read_of_nothing_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1, not {size}"):
        ClearLayer().read(size)


def test_the_repr_of_no_layer_shows_no_data() -> None:
    layer = ClearLayer()
    layer.receive_data(b"secret")
    assert repr(layer) == "<ClearLayer>"


def test_no_layer_has_the_face_of_a_layer() -> None:
    """The guard: a shell can hold either; a call that one lacks would fail only after a login."""
    face = {name for name in dir(SecurityLayer) if not name.startswith("_")}
    assert {name for name in dir(ClearLayer) if not name.startswith("_")} == face


# -- the switch


@pytest.mark.parametrize("arrived", range(len(TWO) + 1))
@pytest.mark.parametrize("ended", [True, False])
def test_the_first_layer_takes_what_was_read_past_the_login(arrived: int, ended: bool) -> None:
    """The guard: bytes past the success are ciphertext, in order; none is data, none is lost."""
    clear = ClearLayer()
    clear.receive_data(TWO[:arrived])
    trailing = clear.read(3)
    if ended:
        clear.receive_eof()
    layer = next_layer(clear, make_context(), trailing)
    assert clear.read() == b""
    assert layer.ended == ended
    layer.receive_data(TWO[arrived:])
    assert drain(layer) == b"helloworld!"
    assert layer.at_eof == ended


def test_cleartext_after_the_login_is_refused_by_the_layer() -> None:
    """The guard: what an attacker adds after the success is never given to the application."""
    layer = next_layer(ClearLayer(), make_context(), b"* BYE injected\r\n")
    with pytest.raises(FrameTooLargeError, match="cleartext"):
        layer.read()


@pytest.mark.parametrize("old", [ClearLayer(), make_layer()], ids=["no layer", "layer"])
def test_without_a_context_the_old_layer_stays(old: ClearLayer | SecurityLayer) -> None:
    assert next_layer(old, None, b"more") is old
    assert old.read() == b"more"
    assert old.send_data(b"x")


def test_a_new_layer_replaces_the_old_and_closes_it() -> None:
    """The guard: RFC 4422 3.8. The new keys start at 0, and the old ones are not used again."""
    old = make_layer()
    old.receive_data(frames(b"success") + TWO[:20])
    assert old.read() == b"success"
    new = next_layer(old, make_context(), b"")
    new.receive_data(TWO[20:])
    assert drain(new) == b"helloworld!"
    assert joined(new, b"first") == frames(b"first")
    assert not new.ended
    with pytest.raises(UsageError, match="closed"):
        old.send_data(b"x")


@pytest.mark.parametrize(("size", "trailing"), [(7, b"success"), (3, b"")])
def test_data_in_the_old_layer_after_the_login_is_refused(size: int, trailing: bytes) -> None:
    old = make_layer()
    old.receive_data(frames(b"success"))
    assert old.read(size) == b"success"[:size]
    assert old.pending == 7 - size
    with pytest.raises(ProtocolError, match="data in the old layer"):
        next_layer(old, make_context(), trailing)


def test_a_layer_is_not_replaced_by_itself() -> None:
    layer = make_layer()
    with pytest.raises(UsageError, match="has a user already"):
        next_layer(layer, layer.context, b"")
    assert joined(layer, b"hello") + joined(layer, b"world!") == TWO
