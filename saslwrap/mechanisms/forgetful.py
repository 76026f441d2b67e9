"""What a call that takes a password, or plaintext, leaves behind where it raises: nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from saslwrap.errors import SASLError

__all__ = ["forgetful"]

P = ParamSpec("P")
T = TypeVar("T")


def forgetful(work: Callable[P, T]) -> Callable[P, T]:
    """Let what a function raises out of the frames that saw its arguments.

    A traceback keeps the local variables of each frame alive, and shows them to a debugger, or to a
    log that has them: a constructor's password by itself, and in the half-made object.
    """

    @wraps(work)
    def forgetting(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except SASLError as error:
            failure: BaseException = error.fresh()
        except BaseException as error:
            failure = error.with_traceback(None)
        del args, kwargs
        try:
            raise failure
        finally:
            del failure  # or it, its traceback and this frame would keep each other alive

    return forgetting
