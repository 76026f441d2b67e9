"""What the checks share: the words that rules are made of.

A rule is a function whose docstring says what holds. It raises `AssertionError`, or whatever a call
raised that should not have; `broken` makes one sentence of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__: list[str] = []


def broken(rule: Callable[..., Any], instead: str) -> AssertionError:
    """Say that a rule does not hold, in its words."""
    return AssertionError(f"rule: {rule.__doc__} Instead: {instead}")


@contextmanager
def raises(kind: type[Exception]) -> Iterator[None]:
    """Expect that the block raises."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def expect(condition: object, text: str) -> None:
    """Expect a condition, else say `text`."""
    if not condition:
        raise AssertionError(text)
