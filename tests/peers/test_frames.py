from __future__ import annotations

import pytest

from tests.peers.frames import frame_lengths, split_frames

TWO = b"\0\0\0\1a" + b"\0\0\0\2bc"


def test_frames_and_nothing_else() -> None:
    assert list(split_frames(TWO)) == [b"a", b"bc"]
    assert frame_lengths(TWO) == [1, 2]
    assert frame_lengths(b"") == []


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\4abc", b"* OK\r\n"])
def test_what_is_beside_them(rest: bytes) -> None:
    with pytest.raises(AssertionError, match="no frame ends at"):
        frame_lengths(TWO + rest)
