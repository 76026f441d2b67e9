"""What the contestants need around them, started when a row first asks, and ended together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

__all__ = ["Stable"]


class Closable(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)


class Stable:
    """Keeps what was started, for the next row that asks for the same.

    :ivar folder: for what they compile and write
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Closable] = {}
        self._stack = ExitStack()

    def get(self, start: Callable[..., C], *arguments: str) -> C:
        """Give what `start(folder, *arguments)` gave the first time."""
        key = (start, *arguments)
        if key not in self._kept:
            self._kept[key] = self._stack.enter_context(closing(start(self.folder, *arguments)))
        return cast("C", self._kept[key])

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(TemporaryDirectory(prefix="bench-"))
        self.folder = Path(folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
