"""Where the payload is copied in our own code, line by line.

A large message goes through, and each line of the package that makes the process' memory peak by as
much is named, with how often it does: what a cipher returns counts as well as what we join or cut.
`tracemalloc` sees all that Python's allocator gives, which is where `bytes` come from.
"""

from __future__ import annotations

import linecache
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import saslwrap
from saslwrap.testing import layer_pair
from saslwrap.testing.pairs import LayerPair

__all__ = ["copies_of", "inbound", "outbound"]

SIZE = 4_000_000
_PACKAGE = str(Path(saslwrap.__file__).parent)


class _Watch:
    """Holds each line against the memory before it."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._before = 0
        self._line: tuple[str, int] | None = None

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        ours = frame.f_code.co_filename.startswith(_PACKAGE)
        self._judge()
        there = frame.f_back if event == "return" else frame
        if there is not None and there.f_code.co_filename.startswith(_PACKAGE):
            self._line = (there.f_code.co_filename, there.f_lineno)
        else:
            self._line = None
        return self.trace if ours else None

    def _judge(self) -> None:
        current, peak = tracemalloc.get_traced_memory()
        if (times := round((peak - self._before) / SIZE)) and self._line:
            file, number = self._line
            source = linecache.getline(file, number).strip()
            name = f"{Path(file).relative_to(_PACKAGE).as_posix()}: {source}"
            self.found[name] = self.found.get(name, 0) + times
        tracemalloc.reset_peak()
        self._before = current


def copies_of(call: Callable[[], object]) -> dict[str, int]:
    """Name the lines that allocate as much as the payload within `call`, and how many times."""
    watch, former = _Watch(), sys.gettrace()
    tracemalloc.start()
    try:
        sys.settrace(watch.trace)
        call()
    finally:
        sys.settrace(former)
        tracemalloc.stop()
    return watch.found


def _pair(protection: str) -> LayerPair:
    return layer_pair(protection, client_maxbuf=0xFFFFFF, server_maxbuf=0xFFFFFF)


def outbound(protection: str) -> dict[str, int]:
    """What `send_data` copies; the shell then joins once."""
    layer, message = _pair(protection).client, bytes(SIZE)
    return copies_of(lambda: layer.send_data(message))


def inbound(protection: str) -> dict[str, int]:
    """What `receive_data` and `read` copy."""
    client, server = _pair(protection)
    wire = b"".join(server.send_data(bytes(SIZE)))

    def take() -> None:
        client.receive_data(wire)
        client.read(SIZE)

    return copies_of(take)
