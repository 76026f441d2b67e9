"""What is said behind a login, under its layer: no login, but carried by a driver like one."""

from __future__ import annotations

from typing import NoReturn

from saslwrap.errors import UsageError
from saslwrap.exchange import Exchange

__all__ = ["FollowUp"]


class FollowUp(Exchange):
    """What `Exchange.follow_up` gives: it has no mechanism, and nobody can abort it."""

    def __init__(self) -> None:
        super().__init__(None)

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> NoReturn:
        raise UsageError("the login is over; there is nothing to abort")
