"""What an error, or any object, keeps in memory: for rules that say what may not be there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from traceback import walk_tb
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, Final

__all__ = ["kept_by", "reachable", "shows"]

#: Through these everything reaches everything.
_CODE: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, FrameType)


def reachable(*roots: object) -> list[object]:
    """Give all that lives through `roots`: what a dump of the process would tie to them.

    Code, classes and modules are left out.
    """
    found: dict[int, object] = {}
    pending = list(roots)
    while pending:
        one = pending.pop()
        if id(one) not in found and not isinstance(one, _CODE):
            found[id(one)] = one
            pending += gc.get_referents(one)
    return list(found.values())


def kept_by(error: BaseException, knowing: tuple[str, ...]) -> list[object]:
    """Give what an error, its cause and its context keep alive, local variables and all.

    :param knowing: how the names of modules begin whose frames are left out: those of a test, which
        knows every secret
    """
    kept: list[object] = []
    for one in _chain(error):
        kept += [one.args, vars(one)]
        for frame, _ in walk_tb(one.__traceback__):
            if not frame.f_globals["__name__"].startswith(knowing):
                kept += frame.f_locals.values()
    return kept


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def shows(secret: bytes, *roots: object) -> list[Any]:
    """Give what of `roots` holds a secret, as octets or as text."""
    text = secret.decode("latin-1")
    return [
        one
        for one in reachable(*roots)
        if (isinstance(one, bytes | bytearray) and secret in one)
        or (isinstance(one, str) and text in one)
    ]
