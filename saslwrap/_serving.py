"""What a shell is given for logins to come, judged when it is given: not at the first of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from saslwrap.errors import UsageError, require_kind, require_maker

__all__ = ["check_maker", "check_serving"]

_MAKER: Final = "a plain function that makes an exchange, anew for each login"
_SECONDS: Final = "a number of seconds above 0, or None for no limit"


def check_maker(make_exchange: object) -> None:
    """Refuse what makes no exchange. What it makes is judged when it does.

    :raises UsageError: it is no plain function without arguments, such as an exchange itself
    """
    require_maker("make_exchange", make_exchange, _MAKER, "lambda: LDAPBindServer(mechanisms)")


def check_serving(make_exchange: object, authenticate_timeout: Any, handle_error: object) -> None:
    """Refuse what a server could not serve by.

    :raises UsageError: what makes no exchange, a time-out that is no number of seconds above 0, an
        error handler that is no function
    """
    check_maker(make_exchange)
    require_kind("authenticate_timeout", authenticate_timeout, int | float | None, _SECONDS)
    if authenticate_timeout is not None and not authenticate_timeout > 0:
        raise UsageError(f"authenticate_timeout is {_SECONDS}, not {authenticate_timeout}")
    require_kind("handle_error", handle_error, Callable | None, "a function, or None for the log")
