"""Makes a corpus small: few and short inputs that together do all that the many did.

What an input does is which steps from line to line it takes in the package, and what comes of it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import saslwrap
from tests.fuzz.target import Target

#: A step in the package, or the name of an error.
Deed: TypeAlias = tuple[CodeType, int, int] | str

PACKAGE = str(Path(saslwrap.__file__).parent)


def deeds(target: Target, data: bytes) -> set[Deed]:
    """What one input does."""
    done: set[Deed] = set()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        code, place = frame.f_code, 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal place
            if event == "line":
                done.add((code, place, frame.f_lineno))
                place = frame.f_lineno
            return step

        return step if code.co_filename.startswith(PACKAGE) else None

    former = sys.gettrace()
    sys.settrace(enter)
    try:
        error = target.run(data)
    finally:
        sys.settrace(former)
    return done | {type(error).__name__}


def worth_keeping(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Choose inputs that together do all that all do: from the shortest on, what is new."""
    kept: list[bytes] = []
    known: set[Deed] = set()
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        if new := deeds(target, data) - known:
            known |= new
            kept.append(data)
    return kept


def name_of(data: bytes) -> str:
    """The name of a file of the corpus: its contents'."""
    return hashlib.sha256(data).hexdigest()[:16]


def minimise(target: Target, inputs: Iterable[bytes]) -> int:
    """Put what is worth keeping in place of the corpus, regressions apart; say how many it is."""
    kept = worth_keeping(target, inputs)
    target.folder.mkdir(parents=True, exist_ok=True)
    for path in target.corpus():
        if not path.name.startswith("regression-"):
            path.unlink()
    for data in kept:
        (target.folder / name_of(data)).write_bytes(data)
    return len(kept)
