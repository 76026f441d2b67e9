"""What is read of a layer, and what a layer says that has failed, for `test_layer*.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from saslwrap.errors import SASLError
from saslwrap.layer import SecurityLayer
from tests.support import drain, frame, frames, make_layer

MEBIBYTE = 1 << 20
TWO = frames(b"hello", b"world!")
THREE = frames(b"a", b"hello", b"")
NO_SIZES = [0, -1, 1.5, math.nan, True, "1", None]
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


class StopsAt:
    """Raises inside the n-th call."""

    def __init__(self, call: int, error: BaseException) -> None:
        self.left, self.error = call, error

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            raise self.error
