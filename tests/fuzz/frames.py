"""The frame decoder and the security layer, under a stream that is bent and cut.

What the decoder gives is held against a reading of the whole stream at once; what the layer
delivers against what the peer sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.framing import FrameDecoder
from saslwrap.layer import MAX_EMPTY_FRAMES, SecurityLayer
from saslwrap.testing.pairs import PROTECTIONS
from tests.attacks.support import frame, victim
from tests.fuzz.reader import Reader, cut
from tests.fuzz.target import Target, same_error

MAXBUF = 300
MOST_FRAMES = 48


def whole_stream(stream: bytes, limit: int, *, eof: bool) -> tuple[list[bytes], str, bytes]:
    """Read a whole stream: its tokens, what is wrong behind them, and what is left."""
    tokens: list[bytes] = []
    while len(stream) >= 4:
        length = int.from_bytes(stream[:4], "big")
        if not 0 < length <= limit:
            return tokens, "FrameTooLargeError" if length else "ProtocolError", stream
        if len(stream) < 4 + length:
            break
        tokens.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return tokens, "TruncatedStreamError" if eof and stream else "", stream


def decode_frames(data: bytes) -> None:
    """Cut a stream into pieces, and into tokens."""
    reader = Reader(data)
    limit, eof, sizes = reader.number(2), reader.flag(), reader.sizes()
    stream = reader.rest()
    decoder = FrameDecoder(limit)
    tokens: list[bytes] = []
    fault: SASLError | None = None
    for piece in cut(stream, sizes):
        decoder.receive_data(piece)
        fault = fault or take_tokens(decoder, tokens)
    if eof:
        decoder.receive_eof()
        fault = fault or take_tokens(decoder, tokens)
    expected = whole_stream(stream, limit, eof=eof)
    assert (decoder.at_eof, decoder.ended) == (eof and not expected[2], eof)
    found = tokens, type(fault).__name__ if fault else "", decoder.clear()
    assert found == expected, (found, expected)
    if isinstance(fault, FrameTooLargeError):
        assert fault.limit == limit < fault.announced
    if fault:
        raise fault


def take_tokens(decoder: FrameDecoder, tokens: list[bytes]) -> SASLError | None:
    """Take the tokens that are whole; give what is wrong then."""
    try:
        while (token := decoder.next_token()) is not None:
            tokens.append(bytes(token))
            decoder.consume()
    except SASLError as error:
        decoder.release()
        return error
    return None


def bent_stream(reader: Reader, frames: list[bytes]) -> Iterator[bytes]:
    """What an attacker makes of a peer's frames."""
    for number, genuine in enumerate(frames):
        match reader.number() % 8:
            case 1:
                yield reader.edited(genuine)
            case 2:
                yield reader.octets()
            case 3:
                yield genuine + genuine
            case 4:
                yield frames[reader.number() % (number + 1)]
            case 5:
                yield b""
            case _:
                yield genuine


def read_layer(data: bytes) -> None:
    """Stand between two layers; the first error is the last word."""
    reader = Reader(data)
    protection = reader.one_of(PROTECTIONS)
    peer = victim(protection, maxbuf=MAXBUF, is_client=True)
    layer = victim(protection, maxbuf=MAXBUF)
    eof, sizes, max_bytes = reader.flag(), reader.sizes(), reader.number() + 1
    lengths = reader.octets()[:MOST_FRAMES]
    messages = [bytes([length]) * length for length in lengths]
    frames = [frame(peer.context.seal(message)) for message in messages]
    stream = b"".join(bent_stream(reader, frames)) + reader.rest()
    delivered, fault = feed(layer, cut(stream, sizes), max_bytes, eof=eof)
    judge(layer, b"".join(messages), delivered, fault)
    if stream == b"".join(frames):
        assert bool(fault) == (bytes(MAX_EMPTY_FRAMES + 1) in lengths), fault
        assert fault or delivered == b"".join(messages), "something right was lost"
    if fault:
        raise fault
    _, wrong, rest = whole_stream(stream, MAXBUF, eof=eof)
    assert (wrong, rest) == ("", layer.unread()), "a frame that is wrong passed"


def feed(
    layer: SecurityLayer, pieces: Iterable[bytes], max_bytes: int, *, eof: bool
) -> tuple[bytes, SASLError | None]:
    """Let pieces arrive, and read what there is; give that, and what is wrong."""
    delivered = bytearray()
    fault: SASLError | None = None
    for piece in pieces:
        layer.receive_data(piece)
        fault = fault or read_all(layer, delivered, max_bytes)
        assert layer.pending == 0
    if eof:
        layer.receive_eof()
        fault = fault or read_all(layer, delivered, max_bytes)
        assert layer.at_eof == (not fault)
    return bytes(delivered), fault


def read_all(layer: SecurityLayer, delivered: bytearray, max_bytes: int) -> SASLError | None:
    """Read all there is, `max_bytes` at a time; give what is wrong then."""
    try:
        while octets := layer.read(max_bytes):
            assert len(octets) <= max_bytes
            delivered += octets
    except SASLError as error:
        return error
    return None


def judge(layer: SecurityLayer, sealed: bytes, delivered: bytes, fault: SASLError | None) -> None:
    """Hold what came out of a layer: nothing but what was sealed, in order; nothing after."""
    assert sealed.startswith(delivered), "something was delivered that the peer did not seal"
    assert layer.context.failed == bool(fault)
    if fault is None:
        return
    assert layer.unread() == b""
    assert not layer.at_eof
    layer.receive_data(b"\0\0\0\1x")
    assert layer.unread() == b"", "a layer that failed keeps what arrives"
    for call in (layer.read, lambda: layer.send_data(b"x"), lambda: layer.context.seal(b"")):
        same_error(call, fault)


def frame_seeds() -> Iterator[bytes]:
    """Whole frames, in pieces and at once; a header alone; each way to be wrong."""
    frames = b"\0\0\0\3abc" + b"\0\0\0\1x" + b"\0\0\1\0" + bytes(256)
    for sizes in (bytes(3), b"\1\1\1", b"\5\4\1"):
        yield b"\1\0" + b"\1" + sizes + frames
    for stream in (b"\0\0\1\1", b"\0\0\0\0", b"HTTP", b"0\x84\0\0", b"\0\0\0\3ab", b"\0\0"):
        yield b"\1\0" + b"\1" + bytes(3) + stream


def layer_seeds() -> Iterator[bytes]:
    """Each protection, untouched and bent; too many frames without content."""
    for number in range(len(PROTECTIONS)):
        head = bytes([number, 1, 0, 0, 0, 50])
        yield head + b"\3\5\0\7" + b"\0\0\0"
        yield head + b"\3\5\1\7" + b"\0\3\0"
        yield head + b"\3\5\1\7" + b"\0\5\0"
        yield head + b"\3\5\1\7" + b"\0\1\1\0\6\1z\1\0"
        yield head + bytes([MAX_EMPTY_FRAMES + 1]) + bytes(MAX_EMPTY_FRAMES + 1)
        yield head + b"\2\5\5" + b"\0\2\4\0\0\7x" + b"\0\0\1"


TARGETS = (
    Target(
        "frame-decoder",
        decode_frames,
        {
            FrameTooLargeError: "a length over our maxbuf, judged on its fourth octet",
            ProtocolError: "a frame of length 0",
            TruncatedStreamError: "the end of the stream inside a frame",
        },
        frame_seeds,
        1024,
    ),
    Target(
        "layer-read",
        read_layer,
        {
            FrameTooLargeError: "as of the frame decoder",
            ProtocolError: "a frame of length 0; more frames without content than anybody needs",
            TruncatedStreamError: "as of the frame decoder",
            IntegrityError: "a frame that the peer did not seal",
            OutOfSequenceError: "a frame of the peer's that was repeated, dropped or moved",
        },
        layer_seeds,
        1024,
    ),
)
