from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap.context import SMALL_TOKEN
from saslwrap.errors import FrameTooLargeError, ProtocolError, TruncatedStreamError
from saslwrap.framing import FrameDecoder
from tests.support import frame

MEBIBYTE = 1 << 20


def taken(decoder: FrameDecoder) -> list[bytes]:
    """Take every token that is whole."""
    found = []
    while (token := decoder.next_token()) is not None:
        found.append(bytes(token))
        decoder.consume()
    return found


def viewed(decoder: FrameDecoder) -> bytes | None:
    token = decoder.next_token()
    return None if token is None else bytes(token)


def in_pieces(wire: bytes, *cuts: int) -> list[bytes]:
    borders = [0, *sorted(cuts), len(wire)]
    return [wire[start:end] for start, end in pairwise(borders)]


def decoded(pieces: list[bytes]) -> list[bytes]:
    decoder, found = FrameDecoder(100), []
    for piece in pieces:
        decoder.receive_data(piece)
        found += taken(decoder)
    decoder.receive_eof()
    assert decoder.at_eof
    return found


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Measure the most memory that the block takes beyond what was there before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


THREE = [b"x", b"hello", b"{12 octets}!"]
WIRE = b"".join(map(frame, THREE))


@pytest.mark.parametrize("cut", range(len(frame(b"hello") * 2) + 1))
def test_two_frames_split_anywhere(cut: int) -> None:
    assert decoded(in_pieces(frame(b"hello") * 2, cut)) == [b"hello", b"hello"]


@pytest.mark.parametrize("first", range(len(WIRE) + 1))
def test_three_frames_split_anywhere_twice(first: int) -> None:
    for second in range(first, len(WIRE) + 1):
        assert decoded(in_pieces(WIRE, first, second)) == THREE


def test_octet_by_octet() -> None:
    assert decoded([bytes([octet]) for octet in WIRE]) == THREE


def test_all_at_once() -> None:
    assert decoded([WIRE]) == THREE


def test_a_token_comes_with_its_last_octet_and_not_before() -> None:
    decoder = FrameDecoder(100)
    for octet in frame(b"hello")[:-1]:
        decoder.receive_data(bytes([octet]))
        assert decoder.next_token() is None
    decoder.receive_data(b"o")
    assert viewed(decoder) == b"hello"


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=6), st.data())
@settings(deadline=None)
def test_any_frames_in_any_pieces(tokens: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(map(frame, tokens))
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    assert decoded(in_pieces(wire, *cuts)) == tokens


@pytest.mark.parametrize(
    "make",
    [bytes, bytearray, memoryview, lambda octets: array("B", octets)],
    ids=["bytes", "bytearray", "memoryview", "array"],
)
def test_any_buffer_comes_in(make: Callable[[bytes], Any]) -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(make(WIRE))
    assert taken(decoder) == THREE


def test_a_buffer_that_is_not_contiguous_comes_in() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(memoryview(WIRE[::-1])[::-1])
    assert taken(decoder) == THREE


def test_the_caller_may_use_its_buffer_again() -> None:
    decoder, buffer = FrameDecoder(100), bytearray(frame(b"hello"))
    decoder.receive_data(buffer)
    buffer[:] = bytes(100)
    assert taken(decoder) == [b"hello"]


@pytest.mark.parametrize("length", [101, 0x10000, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF])
def test_a_length_over_the_limit_is_refused_at_its_fourth_octet(length: int) -> None:
    """The guard: four octets are enough to refuse, and three say nothing yet."""
    decoder = FrameDecoder(100)
    for octet in length.to_bytes(4, "big")[:3]:
        decoder.receive_data(bytes([octet]))
        assert decoder.next_token() is None
    decoder.receive_data(length.to_bytes(4, "big")[3:])
    with pytest.raises(FrameTooLargeError) as info:
        decoder.next_token()
    assert (info.value.announced, info.value.limit) == (length, 100)


@pytest.mark.parametrize("length", [1, 99, 100])
def test_a_length_up_to_the_limit_is_taken(length: int) -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(length.to_bytes(4, "big"))
    assert decoder.next_token() is None
    decoder.receive_data(bytes(length))
    assert taken(decoder) == [bytes(length)]


def test_the_greatest_limit_is_judged_too() -> None:
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(b"\x00\xff\xff\xff")
    assert decoder.next_token() is None
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(b"\x01\x00\x00\x00")
    with pytest.raises(FrameTooLargeError):
        decoder.next_token()


def test_a_length_of_zero_is_refused_at_its_fourth_octet() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(bytes(3))
    assert decoder.next_token() is None
    decoder.receive_data(bytes(1))
    with pytest.raises(ProtocolError, match="length 0"):
        decoder.next_token()


@pytest.mark.parametrize(
    ("wire", "hint"),
    [
        (b"* OK", "; its octets read '* OK': the peer seems to speak cleartext"),
        (b"a\tb\n", "'a\\tb\\n': the peer seems to speak cleartext"),
        (b"+OK\r\n", "'+OK\\r'"),
        (b"   ~", "'   ~'"),
        (b"\x30\x84\x00\x00", "30840000 start an LDAP message: the peer seems not to seal"),
        (b"\x30\x0c\x02\x01", "300c0201 start an LDAP message"),
    ],
)
def test_cleartext_gets_a_hint(wire: bytes, hint: str) -> None:
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(wire)
    with pytest.raises(FrameTooLargeError) as info:
        decoder.next_token()
    assert hint in str(info.value)


@pytest.mark.parametrize("wire", [b"\xff\xff\xff\xff", b"abc\x7f", b"abc\x00", b"\x16\x03\x01\x02"])
def test_other_octets_get_no_hint(wire: bytes) -> None:
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(wire)
    with pytest.raises(FrameTooLargeError, match=r"our maxbuf is 16777215$"):
        decoder.next_token()


def test_the_hint_shows_four_octets_and_not_what_follows() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(b"PASS s3cret\r\n")
    with pytest.raises(FrameTooLargeError) as info:
        decoder.next_token()
    assert "'PASS'" in str(info.value)
    assert "s3cret" not in str(info.value)


@pytest.mark.parametrize("good", [b"", frame(b"hello")], ids=["first", "second"])
def test_the_end_at_a_border_is_clean(good: bytes) -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(good)
    assert not decoder.ended
    decoder.receive_eof()
    assert decoder.ended
    assert decoder.at_eof == (not good)
    taken(decoder)
    assert decoder.next_token() is None
    assert decoder.at_eof


@pytest.mark.parametrize("arrived", range(1, len(frame(b"hello"))))
@pytest.mark.parametrize("good", [b"", frame(b"earlier")], ids=["first", "second"])
def test_the_end_inside_a_frame_is_truncation(arrived: int, good: bytes) -> None:
    """The guard: a cut stream never looks like a whole one, not even inside the length."""
    decoder = FrameDecoder(100)
    decoder.receive_data(good + frame(b"hello")[:arrived])
    decoder.receive_eof()
    if good:
        assert viewed(decoder) == b"earlier"
        decoder.consume()
    with pytest.raises(TruncatedStreamError, match=f"{arrived} octets after its start"):
        decoder.next_token()
    assert not decoder.at_eof


def test_without_eof_an_empty_decoder_is_not_at_its_end() -> None:
    assert not FrameDecoder(100).at_eof


def test_a_decoder_holds_what_is_not_consumed() -> None:
    decoder = FrameDecoder(100)
    assert not decoder.holds
    decoder.receive_data(b"\0")
    assert decoder.holds
    decoder.receive_data(b"\0\0\1x")
    decoder.next_token()
    assert decoder.holds
    decoder.consume()
    assert not decoder.holds


def test_a_bad_length_counts_more_than_the_end() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(b"\xff\xff\xff\xff")
    decoder.receive_eof()
    with pytest.raises(FrameTooLargeError):
        decoder.next_token()


@pytest.mark.parametrize("token", [b"hello", bytes(SMALL_TOKEN + 1)], ids=["copied", "viewed"])
def test_a_released_token_is_given_again(token: bytes) -> None:
    """The guard: while a token is viewed nothing can come in behind it."""
    decoder = FrameDecoder(SMALL_TOKEN + 1)
    decoder.receive_data(frame(token))
    assert viewed(decoder) == token
    decoder.release()
    decoder.receive_data(frame(b"more"))
    assert taken(decoder) == [token, b"more"]


def test_clear_gives_back_what_is_not_consumed() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(WIRE)
    decoder.next_token()
    decoder.consume()
    assert decoder.clear() == WIRE[len(frame(THREE[0])) :]
    assert decoder.clear() == b""
    assert decoder.next_token() is None


def test_clear_works_while_a_token_is_viewed() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(WIRE)
    token = decoder.next_token()
    assert decoder.clear() == WIRE
    assert bytes(token or b"") == THREE[0]
    decoder.receive_data(WIRE)


def test_an_announced_length_allocates_nothing() -> None:
    """The guard: 16 MiB announced and then silence costs the peer four octets and us no more."""
    decoder = FrameDecoder(0xFFFFFF)
    with peak() as most:
        decoder.receive_data(b"\x00\xff\xff\xff")
        assert decoder.next_token() is None
        assert most() < 4096


def test_memory_follows_what_has_arrived() -> None:
    """The guard: a dribbling peer gets memory for what it sent, not for what it announced.

    Growing by copying would need twice the octets at once.
    """
    decoder, arrived = FrameDecoder(0xFFFFFF), 0
    with peak() as most:
        decoder.receive_data(b"\x00\xff\xff\xff")
        while arrived < MEBIBYTE:
            decoder.receive_data(bytes(1448))
            arrived += 1448
            assert decoder.next_token() is None
            assert most() < arrived * 1.25 + 8192


def test_many_frames_at_once_are_consumed_without_copying_the_rest() -> None:
    """The guard: linear cost.

    Slicing the rest off for each frame would copy 4 MiB a thousand times, and show as a second
    buffer of the same size; giving memory back needs half of one.
    """
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(frame(bytes(4096)) * 1024)
    with peak() as most:
        count = 0
        while decoder.next_token() is not None:
            decoder.consume()
            count += 1
        assert most() < 4 * MEBIBYTE * 0.75
    assert count == 1024
    assert decoder.clear() == b""


def test_a_token_is_viewed_and_not_copied() -> None:
    decoder = FrameDecoder(0xFFFFFF)
    decoder.receive_data(frame(bytes(MEBIBYTE)))
    with peak() as most:
        assert decoder.next_token() is not None
        decoder.consume()
        assert most() < 4096


def test_consumed_memory_is_given_back() -> None:
    decoder = FrameDecoder(0xFFFFFF)
    with peak():
        decoder.receive_data(frame(bytes(MEBIBYTE)))
        before = tracemalloc.get_traced_memory()[0]
        decoder.next_token()
        decoder.consume()
        assert before - tracemalloc.get_traced_memory()[0] > MEBIBYTE * 0.9


def test_discarded_memory_is_given_back_under_a_token_that_is_viewed() -> None:
    """The guard: a layer that failed keeps nothing of what its peer sent."""
    decoder = FrameDecoder(0xFFFFFF)
    with peak():
        decoder.receive_data(frame(bytes(MEBIBYTE)))
        before = tracemalloc.get_traced_memory()[0]
        decoder.next_token()
        decoder.discard()
        assert before - tracemalloc.get_traced_memory()[0] > MEBIBYTE * 0.9
    assert decoder.clear() == b""
