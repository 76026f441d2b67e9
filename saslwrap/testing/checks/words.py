"""What the checks share: how rules are chosen and held, and the words that rules are made of.

A rule is a function whose docstring says what holds. It raises `AssertionError`, or whatever a call
raised that should not have; `hold` makes one sentence of both.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from saslwrap.errors import SASLError, UsageError, require_kind

__all__: list[str] = []

E = TypeVar("E", bound=BaseException)
R = TypeVar("R", bound=Callable[..., Any])


def _name_of(rule: Callable[..., Any]) -> str:
    """Name a rule, as `leave_out` does."""
    return rule.__name__.lstrip("_")


def require_several(name: str, texts: Collection[str]) -> None:
    """Refuse one text in place of several, which would be taken letter by letter.

    :raises UsageError: it is one; the text does not show it
    """
    if isinstance(texts, str | bytes):
        raise UsageError(f"{name} takes several texts: {name}=[...], not {type(texts).__name__}")
    require_kind(name, texts, Collection, "a list of texts")
    for text in texts:
        require_kind(f"each of {name}", text, str)


def chosen(rules: Sequence[R], leave_out: Collection[str]) -> list[R]:
    """Give the rules but those that are left out by name.

    :raises UsageError: one of the names is no rule's, or there is a single string
    """
    require_several("leave_out", leave_out)
    names = [_name_of(rule) for rule in rules]
    if unknown := sorted(set(leave_out) - set(names)):
        raise UsageError(f"leave_out names {unknown}; the rules are {', '.join(names)}")
    return [rule for rule in rules if _name_of(rule) not in leave_out]


def require_pairs(name: str, make: object, *kinds: type[object]) -> None:
    """Refuse what gives no such pairs, before a rule is blamed for it.

    :raises UsageError: it is no function, or the pair that it gave now is none of these kinds
    """
    wanted = " and ".join(f"a {kind.__name__}" for kind in kinds)
    require_kind(name, make, Callable, f"a function that gives {wanted}")
    pair = cast(Callable[[], object], make)()
    if not isinstance(pair, tuple) or len(pair) != len(kinds):
        raise UsageError(f"{name} gives {wanted}, in a tuple, not {type(pair).__name__}")
    for made, kind in zip(pair, kinds, strict=True):
        require_kind(f"what {name} gives", made, kind)


def broken(rule: Callable[..., Any], error: BaseException) -> AssertionError:
    """Say that a rule does not hold, in its words, and what happened instead."""
    words = " ".join((rule.__doc__ or _name_of(rule)).split())
    told = str(error) if isinstance(error, AssertionError) else repr(error)
    return AssertionError(f"rule: {words} Instead: {told}")


def hold(rule: Callable[..., None], *arguments: Any) -> None:
    """Hold a rule, which has to return.

    :raises AssertionError: it does not
    """
    try:
        rule(*arguments)
    except Exception as error:
        raise broken(rule, error) from error


@contextmanager
def raises(kind: type[Exception]) -> Iterator[None]:
    """Expect that the block raises."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def caught(kind: type[E], call: Callable[[], object]) -> E:
    """Give what `call` raises, as it is."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def expect(condition: object, text: str) -> None:
    """Expect a condition, else say `text`."""
    if not condition:
        raise AssertionError(text)


def same_again(error: SASLError, again: SASLError) -> None:
    """Expect a failure to be the one before, in an object of its own."""
    expect(type(again) is type(error), f"first {error!r}, then {again!r}")
    expect(str(again) == str(error), f"first {str(error)!r}, then {str(again)!r}")
    expect(again is not error, "the same object was raised again")


def not_copied(original: object) -> None:
    """Expect that something can neither be copied nor pickled."""
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with raises(TypeError):
            way(original)


def places(length: int, most: int) -> range:
    """Give places in `length` octets: each one, or at most `most`, evenly spread."""
    return range(0, length, max(1, -(-length // most)))


def flipped(octets: bytes, place: int) -> bytes:
    """Flip one bit, another one in each of eight octets."""
    return octets[:place] + bytes([octets[place] ^ 1 << place % 8]) + octets[place + 1 :]
