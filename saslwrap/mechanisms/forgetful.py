"""What a constructor that takes a password leaves behind where it raises: nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from saslwrap.errors import SASLError

__all__ = ["forgetful"]

S = TypeVar("S")
P = ParamSpec("P")


def forgetful(init: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Let what a constructor raises out of the frames that saw its arguments.

    A traceback keeps the local variables of each frame alive, and shows them to a debugger, or to a
    log that has them: the password by itself, and in the half-made object.
    """

    @wraps(init)
    def forgetting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            return init(self, *args, **kwargs)
        except SASLError as error:
            failure: BaseException = error.fresh()
        except BaseException as error:
            failure = error.with_traceback(None)
        del self, args, kwargs
        try:
            raise failure
        finally:
            del failure  # or it, its traceback and this frame would keep each other alive

    return forgetting
