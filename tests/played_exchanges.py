"""What the tests of exchanges share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from saslwrap.errors import SASLError
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step
from tests.support import ToyExchange, ToyMechanism


def failure(call: Callable[[], object]) -> SASLError:
    with pytest.raises(SASLError) as info:
        call()
    return info.value


def run(exchange: Exchange, *pieces: bytes) -> list[bytes]:
    """Turn the crank as a driver does, with these arrivals, and collect what is sent."""
    arrivals, sent = iter(pieces), []
    while True:
        match exchange.advance():
            case Send(data):
                sent.append(data)
            case NeedData():
                exchange.receive_data(next(arrivals))
            case Step():
                exchange.step()
            case Done():
                return sent


def started(mechanism: ToyMechanism | None = None) -> ToyExchange:
    """Give a login whose first message is out, and which waits."""
    exchange = ToyExchange(mechanism or ToyMechanism(b"answer"))
    assert exchange.advance() == Send(b"AUTH toy\n")
    assert exchange.advance() == NeedData()
    return exchange
