"""Two exchanges against each other, on a wire in memory: no clock, no stream, no driver.

A rule puts something else in the place of one `Half`: one that aborts, that hears other octets than
were sent, that does not trust its exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from saslwrap.context import SecurityContext
from saslwrap.errors import SASLError
from saslwrap.exchange import Done, Event, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.testing.checks.words import caught, expect, same_again

__all__: list[str] = []

#: Cuts what is sent into the pieces that arrive.
Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]

#: More than any login takes, of events without input, and of turns.
_MOST: Final = 1000


def at_once(data: bytes) -> list[bytes]:
    """Let everything arrive in one piece."""
    return [data]


def octet_by_octet(data: bytes) -> list[bytes]:
    """Let each octet arrive apart."""
    return [data[n : n + 1] for n in range(len(data))]


class Half:
    """An exchange, which is turned until it needs data, is done, or has failed.

    :ivar done: whether it is done
    :ivar error: what it failed with
    :ivar outbox: what it sent, as far as it is not delivered
    :ivar heard: octets that were delivered to it
    :ivar unheard: octets that came after a failure. A server's application has to answer them; a
        client's does not know what they are
    :ivar deliveries: how often something was
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.done: bool = False
        self.error: SASLError | None = None
        self.outbox: bytearray = bytearray()
        self.heard: int = 0
        self.unheard: bytearray = bytearray()
        self.deliveries: int = 0
        self._ended = False

    @property
    def over(self) -> bool:
        """Whether it is done or has failed."""
        return self.done or self.error is not None

    @property
    def leaves(self) -> bool:
        """Whether its driver closes the connection."""
        return self.error is not None and not transport_survives(self.error)

    @property
    def context(self) -> SecurityContext | None:
        """The context of one that is done."""
        return self.exchange.context

    def turn(self) -> None:
        """Do all that can be done without input."""
        for _ in range(_MOST):
            if self.over or not self._act():
                return
        raise AssertionError("it neither needs data nor ends")

    def _act(self) -> bool:
        """Do one thing; whether there may be more to do."""
        try:
            event = self.next_event()
        except SASLError as error:
            self.error = error
            return False
        match event:
            case Send(data):
                self.outbox += data
            case Step():
                self.step()
            case NeedData():
                expect(not self._ended, "it wants data after the end of the connection")
                return False
            case Done():
                self.done = True
        return True

    def next_event(self) -> Event:
        """Ask what is to be done."""
        return self.exchange.advance()

    def step(self) -> None:
        """Run the mechanism."""
        self.exchange.step()

    def hear(self, data: bytes) -> None:
        """Take in what arrives, and do what can be done now."""
        if self.error is not None:
            self.unheard += data
            return
        self.heard += len(data)
        self.deliveries += 1
        self.take(data)

    def take(self, data: bytes) -> None:
        """Hear octets that nobody sent."""
        self.exchange.receive_data(data)
        self.turn()

    def hear_end(self) -> None:
        """Take in that the connection has ended."""
        self._ended = True
        self.exchange.receive_eof()
        self.turn()

    def stays_failed(self) -> None:
        """Expect that a failure is there to stay."""
        if self.error is not None:
            same_again(self.error, caught(SASLError, self.exchange.advance))

    def __repr__(self) -> str:
        state = "done" if self.done else repr(self.error) if self.error else "waiting"
        return f"<{type(self.exchange).__name__}: {state}>"


class Talk:
    """A login, which ends when nobody has anything to say any more.

    Who closes the connection lets the other one hear that. With `hang_up` both hear it in the end,
    as when a timeout closes a connection on which nothing comes any more.
    """

    def __init__(
        self, client: Half, server: Half, cut: Cut = at_once, *, hang_up: bool = False
    ) -> None:
        self.client = client
        self.server = server
        self._cut = cut
        client.turn()
        server.turn()
        for _ in range(_MOST):
            if not (self._carry(client, server) | self._carry(server, client)):
                break
        else:
            raise AssertionError("the login does not end")
        self._end(hang_up=hang_up)

    def _carry(self, sender: Half, receiver: Half) -> bool:
        data = bytes(sender.outbox)
        sender.outbox.clear()
        for piece in self._cut(data) if data else ():
            receiver.hear(piece)
        return bool(data)

    def _end(self, *, hang_up: bool) -> None:
        """Hang up on whoever waits, where it may: nobody is there, or an application is due."""
        client, server = self.client, self.server
        due = bool(server.unheard) or not self.begun
        for half, other in ((client, server), (server, client)):
            if not half.over and (hang_up or other.leaves or due):
                half.hear_end()
        expect(client.over and server.over, f"somebody waits for ever: {self!r}")

    @property
    def begun(self) -> bool:
        """Whether the server has a login to deal with: else it may wait, and be silent."""
        return self.server.heard > 0 and self.server.exchange.mechanism is not None

    @property
    def complete(self) -> bool:
        """Whether both are done."""
        return self.client.done and self.server.done

    def __repr__(self) -> str:
        return f"{self.client!r}, {self.server!r}"
