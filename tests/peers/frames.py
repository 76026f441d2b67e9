"""Frames that a wiretap has recorded, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def split_frames(wire: bytes) -> Iterator[bytes]:
    """The token of each frame, to the last octet: there is nothing beside them."""
    at = 0
    while at < len(wire):
        start = at + 4
        at = start + int.from_bytes(wire[at:start], "big")
        assert start < at <= len(wire), f"no frame ends at {at} of {len(wire)} octets"
        yield wire[start:at]


def frame_lengths(wire: bytes) -> list[int]:
    """The lengths of the tokens."""
    return [len(token) for token in split_frames(wire)]
