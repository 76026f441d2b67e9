"""SecurityLayer: what arrives, in any pieces, and is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.layer import ClearLayer, SecurityLayer
from tests.layer_reads import (
    FORGED,
    NO_SIZES,
    THREE,
    TWO,
    StopsAt,
    assert_dead,
    failure,
    joined,
    received,
)
from tests.support import (
    ToySealer,
    ToyUnsealer,
    drain,
    frame,
    frames,
    make_context,
    make_layer,
    tokens,
)


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


@pytest.mark.parametrize("size", NO_SIZES)
@pytest.mark.parametrize("begun", [False, True])
def test_a_read_of_no_size_is_refused_and_takes_nothing(begun: bool, size: Any) -> None:
    layer = make_layer()
    layer.receive_data(frames(b"hello"))
    expected = [b"h", b"ello"] if begun else [b"hello"]
    got = [layer.read(1)] if begun else []
    with pytest.raises(UsageError, match=f" from 1, not ({size}|{type(size).__name__})$"):
        layer.read(size)
    assert [*got, layer.read()] == expected


class Size(int):
    pass


def test_a_size_may_be_of_an_int_s_own_kind() -> None:
    layer = make_layer()
    layer.receive_data(frames(b"hello"))
    assert layer.read(Size(2)) == b"he"
    with pytest.raises(UsageError, match=r"not 0$"):
        layer.read(Size(0))


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
