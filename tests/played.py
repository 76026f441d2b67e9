"""Mechanisms that play a part, and how a test turns the crank of an exchange."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MechanismUnavailableError,
    NegotiationError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import Event, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.properties import ChannelInfo, SecurityProperties

#: What a mechanism is to be given, what it then does, and whether it is complete thereafter.
Turn: TypeAlias = tuple[bytes | None, bytes | BaseException | None, bool]


class Played(Mechanism):
    """A mechanism that plays its turns, and fails the test if it is given anything else."""

    def __init__(self, *turns: Turn) -> None:
        super().__init__()
        self.turns = list(turns)

    def _step(self, message: bytes | None) -> bytes | None:
        expected, reply, complete = self.turns.pop(0)
        assert message == expected
        if isinstance(reply, BaseException):
            raise reply
        if complete:
            self.authcid, self.authzid = "alice", "bob"
            self._finish(None)
        return reply

    @property
    def channel(self) -> ChannelInfo:
        return self._channel


class PlayedClient(Played, ClientMechanism):
    name: ClassVar[str] = "PLAYED"

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return 0


class PlayedServer(Played, ServerMechanism):
    name: ClassVar[str] = "PLAYED"


E = TypeVar("E", bound=Exchange)

Feed: TypeAlias = Callable[[Exchange, bytes], Event]


def crank(exchange: Exchange) -> Event:
    """Turn until the driver would have to do something else than run the mechanism."""
    while isinstance(event := exchange.advance(), Step):
        exchange.step()
    return event


def feed_whole(exchange: Exchange, data: bytes) -> Event:
    exchange.receive_data(data)
    return crank(exchange)


def feed_octets(exchange: Exchange, data: bytes) -> Event:
    for octet in data[:-1]:
        exchange.receive_data(bytes([octet]))
        assert crank(exchange) == NeedData()
    exchange.receive_data(data[-1:])
    return crank(exchange)


@pytest.fixture(params=[feed_whole, feed_octets], ids=["whole", "octets"])
def feed(request: pytest.FixtureRequest) -> Feed:
    chosen: Feed = request.param
    return chosen


def started(client: Callable[..., E], *turns: Turn, **options: Any) -> E:
    """A client that has sent its command and waits for the answer."""
    exchange = client(PlayedClient(*turns), **options)
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    return exchange


def serving(server: Callable[..., E], *turns: Turn, **options: Any) -> E:
    """A server that waits for a command."""
    mechanism = PlayedServer(*turns)
    exchange = server({"PLAYED": lambda: mechanism}, **options)
    assert crank(exchange) == NeedData()
    return exchange


def failure(exchange: Exchange, kind: type[SASLError], text: str, *, survives: bool) -> None:
    """The exchange has failed like this, and stays so."""
    for _ in range(2):
        with pytest.raises(kind, match=text) as caught:
            crank(exchange)
        assert type(caught.value) is kind
        assert transport_survives(caught.value) is survives
    with pytest.raises(UsageError):
        _ = exchange.context


def refused(
    exchange: Exchange, event: Event, answer: str, kind: type[SASLError], text: str
) -> None:
    """A server has answered so, and failed so; a client that broke no rule may go on."""
    assert isinstance(event, Send)
    assert event.data.startswith(answer.encode())
    failure(exchange, kind, text, survives=kind in (AuthenticationError, NegotiationError))


def converse(
    client: Exchange,
    server: Exchange,
    pieces: Sequence[int],
    stop_before: bytes = b"\xff",
) -> list[Event]:
    """Let them talk, in pieces of these sizes, until neither has anything to say."""
    sizes = iter(pieces)
    last: list[Event] = [NeedData(), NeedData()]
    ends: list[tuple[Exchange, Exchange]] = [(client, server), (server, client)]
    for _ in range(20):
        for index, (end, other) in enumerate(ends):
            while isinstance(event := crank(end), Send):
                data = event.data
                if data.startswith(stop_before):
                    return last
                while data:
                    size = next(sizes, len(data))
                    other.receive_data(data[:size])
                    data = data[size:]
            last[index] = event
    return last


# Protocols of lines

AT_ONCE: Turn = (None, b"token", True)

#: Octets of the longest line before a login.
LINE_LIMIT = 98304

#: What our mechanism refuses, and the server has to be told.
LOCAL_REFUSALS: Sequence[SASLError] = [
    NegotiationError("the offer is too weak"),
    MechanismUnavailableError("no cipher"),
    AuthenticationError("no ticket"),
]


def line(*words: str, message: bytes | None = None) -> bytes:
    """A line; the message, in base64, is its last word."""
    encoded = [] if message is None else [b64encode(message).decode()]
    return " ".join([*words, *encoded]).encode() + b"\r\n"


def challenge(message: bytes) -> bytes:
    return line("+", message=message)


def say(message: bytes) -> Send:
    return Send(line(message=message))
