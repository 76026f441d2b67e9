"""Halves of a login that do not do as a driver does, or do not hear what was sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from saslwrap.errors import UsageError
from saslwrap.exchange import Done, Event, Exchange, Send, Step
from saslwrap.testing.checks.talk import Half
from saslwrap.testing.checks.words import expect, flipped, raises

__all__: list[str] = []

#: What follows a login: a frame's beginning, and what protocols take for theirs.
FOLLOWING: Final = b"\x00\x00\x00\x09\r\n+ 0\x84\r\n"


class Doubting(Half):
    """Asks everything twice."""

    def next_event(self) -> Event:
        """Ask what is to be done."""
        event = super().next_event()
        if not isinstance(event, Send):
            again = super().next_event()
            expect(again == event, f"first {event!r}, then {again!r}")
        return event


class Stepping(Half):
    """Steps at every wrong moment."""

    def next_event(self) -> Event:
        """Ask what is to be done."""
        event = super().next_event()
        if not isinstance(event, Step):
            self._step_in_vain()
        return event

    def step(self) -> None:
        """Run the mechanism."""
        super().step()
        self._step_in_vain()

    def _step_in_vain(self) -> None:
        with raises(UsageError):
            self.exchange.step()


class Hasty(Half):
    """Wants the context before it is there."""

    def next_event(self) -> Event:
        """Ask what is to be done."""
        with raises(UsageError):
            _ = self.exchange.context
        return super().next_event()


class Eager(Half):
    """Sends what follows the login at once."""

    def next_event(self) -> Event:
        """Ask what is to be done."""
        event = super().next_event()
        if isinstance(event, Done):
            self.outbox.extend(FOLLOWING)
        return event


class Unsatisfied(Half):
    """Has a mechanism that never is complete."""

    def step(self) -> None:
        """Run the mechanism."""
        super().step()
        if self.exchange.mechanism is not None:
            self.exchange.mechanism._complete = False


class Aborting(Half):
    """Aborts before its exchange is asked, or when it has said so many things and not all is done.

    What it wants sent is sent; it neither gets what it waits for, nor a step.
    """

    def __init__(self, exchange: Exchange, after: int) -> None:
        super().__init__(exchange)
        self.after: int = after

    def next_event(self) -> Event:
        """Ask what is to be done."""
        if self.after > 0:
            event = super().next_event()
            self.after -= 1
            if self.after or isinstance(event, Done):
                return event
            self.outbox.extend(event.data if isinstance(event, Send) else b"")
        if not self.after:
            self.after = -1
            self._abort()
        return super().next_event()

    def _abort(self) -> None:
        with suppress(UsageError):  # of a server that has told its client of success
            self.outbox.extend(self.exchange.abort())


class Deaf(Half):
    """Hears so many octets; where others were to follow, the connection has ended.

    :ivar missed: whether there were others
    """

    def __init__(self, exchange: Exchange, hears: int) -> None:
        super().__init__(exchange)
        self.hears: int = hears
        self.missed: bool = False

    def hear(self, data: bytes) -> None:
        """Take in what arrives."""
        room, self.hears = self.hears, max(0, self.hears - len(data))
        self.missed = self.missed or room < len(data)
        if room:
            super().hear(data[:room])
        if self.missed and not self.over:
            self.hear_end()


class Mishearing(Half):
    """Hears one octet with a bit flipped."""

    def __init__(self, exchange: Exchange, place: int) -> None:
        super().__init__(exchange)
        self.place = place

    def hear(self, data: bytes) -> None:
        """Take in what arrives."""
        at = self.place - self.heard
        super().hear(flipped(data, at) if 0 <= at < len(data) else data)


class Disturbed(Half):
    """Hears something else in place of its `at`-th delivery, and what comes after."""

    def __init__(self, exchange: Exchange, at: int, noise: Callable[[Half, bytes], None]) -> None:
        super().__init__(exchange)
        self.at = at
        self.noise = noise

    def hear(self, data: bytes) -> None:
        """Take in what arrives."""
        if self.deliveries < self.at:
            super().hear(data)
        elif not self.over:
            self.noise(self, data)
