"""The contract of both halves of an exchange, as a check that runs.

    check_exchange(make_pair)

`make_pair` gives the client's and the server's half of a new login, with real mechanisms. They talk
to each other in memory: cut into any pieces, broken off at any octet, aborted at any point.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from typing import Final, TypeAlias, TypeVar

from saslwrap.errors import MutualAuthenticationError, ProtocolError, SASLError, UsageError
from saslwrap.exchange import Exchange
from saslwrap.testing.checks.context import expect_agreement
from saslwrap.testing.checks.halves import (
    FOLLOWING,
    Aborting,
    Deaf,
    Disturbed,
    Doubting,
    Eager,
    Hasty,
    Mishearing,
    Stepping,
    Unsatisfied,
)
from saslwrap.testing.checks.talk import Cut, Half, Talk, at_once, octet_by_octet
from saslwrap.testing.checks.words import (
    caught,
    chosen,
    expect,
    hold,
    not_copied,
    places,
    raises,
    require_pairs,
)

__all__ = ["RULES", "MakeExchanges", "check_exchange"]

H = TypeVar("H", bound=Half)

#: Gives the client's and the server's half of a new login.
MakeExchanges: TypeAlias = Callable[[], tuple[Exchange, Exchange]]

_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class _Setting:
    """What the rules work with; the words are those of `check_exchange`."""

    make: MakeExchanges
    make_refused: MakeExchanges | None
    samples: int
    limit: int

    def talk(self, cut: Cut = at_once) -> Talk:
        """Give a login that goes through."""
        client, server = map(Half, self.make())
        talk = Talk(client, server, cut)
        expect(talk.complete, f"it did not: {talk!r}")
        return talk

    def with_one(
        self, side: int, wrap: Callable[[Exchange], H], *, hang_up: bool = False
    ) -> tuple[H, Talk]:
        """Give one half, wrapped, and a login with it: 0 the client's, 1 the server's."""
        exchanges = self.make()
        half, other = wrap(exchanges[side]), Half(exchanges[1 - side])
        talk = Talk(other, half, hang_up=hang_up) if side else Talk(half, other, hang_up=hang_up)
        return half, talk

    def sides(self) -> Iterator[tuple[int, Half]]:
        """Give both sides, and what a half went through in a login."""
        talk = self.talk()
        yield from enumerate((talk.client, talk.server))


_Rule: TypeAlias = Callable[[_Setting], None]


def check_exchange(
    make_pair: MakeExchanges,
    *,
    make_refused: MakeExchanges | None = None,
    samples: int = 64,
    limit: int = 1 << 20,
    leave_out: Collection[str] = (),
) -> None:
    """Hold both halves of an exchange against their contract.

    :param make_pair: gives the client's and the server's half of a new login that succeeds. It is
        called some hundreds of times
    :param make_refused: the same, of a login that the server refuses
    :param samples: at how many octets a login is broken off and altered, at most
    :param limit: octets that a half may store of a message that does not end
    :param leave_out: rules that cannot hold, by name. A wrong name is answered with all there are
    :raises AssertionError: a rule does not hold
    :raises UsageError: `leave_out` names no rule, or `make_pair` gives no exchanges
    """
    require_pairs("make_pair", make_pair, Exchange, Exchange)
    setting = _Setting(make_pair, make_refused, samples, limit)
    for rule in chosen(RULES, leave_out):
        hold(rule, setting)


# The rules


def _completes(setting: _Setting) -> None:
    """The login completes, both halves come to the same, and no octet is left."""
    talk = setting.talk()
    expect_agreement(talk.client.context, talk.server.context)
    for half in (talk.client, talk.server):
        left = half.exchange.trailing_data
        expect(not left, f"{left!r} is left to {half!r}")


def _segments(setting: _Setting) -> None:
    """It completes however the octets are cut: each apart, or in any pieces."""
    source = random.Random(0)  # noqa: S311 - repeatable on purpose
    cuts: list[Cut] = [octet_by_octet, *[partial(_pieces, source)] * 16]
    for cut in cuts:
        talk = setting.talk(cut)
        expect_agreement(talk.client.context, talk.server.context)


def _pieces(source: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        length = source.randint(1, 20)
        yield data[:length]
        data = data[length:]


def _trailing(setting: _Setting) -> None:
    """What follows the login is left in `trailing_data`, octet for octet, however it is cut."""
    for cut in (at_once, octet_by_octet):
        client, server = map(Eager, setting.make())
        talk = Talk(client, server, cut)
        for half in (talk.client, talk.server):
            kept = half.exchange.trailing_data
            expect(half.done and kept == FOLLOWING, f"{half!r} has {kept!r}")


def _patient(setting: _Setting) -> None:
    """`advance` says the same until it is done, and is done for ever."""
    for side, _ in setting.sides():
        _, talk = setting.with_one(side, Doubting)
        expect(talk.complete, f"{talk!r}")


def _out_of_turn(setting: _Setting) -> None:
    """A step that nobody asked for, or a second one, is a UsageError, and does no harm."""
    for side, _ in setting.sides():
        _, talk = setting.with_one(side, Stepping)
        expect(talk.complete, f"{talk!r}")
        expect_agreement(talk.client.context, talk.server.context)


def _early(setting: _Setting) -> None:
    """`context` is a UsageError before it is done."""
    for side, _ in setting.sides():
        setting.with_one(side, Hasty)


def _unproven(setting: _Setting) -> None:
    """Success without a complete mechanism is a MutualAuthenticationError; no server says so."""
    client, _ = setting.with_one(0, Unsatisfied, hang_up=True)
    expect(isinstance(client.error, MutualAuthenticationError), f"{client!r}")
    _, talk = setting.with_one(1, Unsatisfied, hang_up=True)
    expect(not talk.client.done and not talk.server.done, f"{talk!r}")


def _cut_off(setting: _Setting) -> None:
    """A connection that ends during the login, at whatever octet, is a ProtocolError, for good."""
    for side, whole in setting.sides():
        for hears in places(whole.heard, setting.samples):
            half, _ = setting.with_one(side, partial(Deaf, hears=hears))
            if half.missed:  # else this login was shorter
                expect(isinstance(half.error, ProtocolError), f"{half!r} after {hears} octets")
                half.stays_failed()


def _endless(setting: _Setting) -> None:
    """A message without an end is refused before it is stored, and nothing is stored after that."""
    starts: list[int | bytes] = [0, 1, -1, *_heads(setting.limit)]
    for side, whole in setting.sides():
        for at, start, octet in product(range(whole.deliveries), starts, b"A\0\xff"):
            noise = partial(_flood, start, octet, setting.limit)
            setting.with_one(side, partial(Disturbed, at=at, noise=noise), hang_up=True)


def _heads(limit: int) -> Iterator[bytes]:
    """Give beginnings of messages that announce too much: BER's, and four octets of length."""
    for length in (2 * limit, 0x7FFFFFFF):
        yield b"\x30\x84" + length.to_bytes(4, "big")
        yield length.to_bytes(4, "big")


def _flood(start: int | bytes, octet: int, limit: int, half: Half, data: bytes) -> None:
    stored = data[:start] if isinstance(start, int) else start
    half.take(stored)
    chunk, fed = bytes([octet]) * _CHUNK, 0
    while not half.over:
        expect(fed <= limit, f"it took {fed} octets of {stored[:8]!r} and more")
        half.take(chunk)
        fed += _CHUNK
    for _ in range(0 if half.done else 1 + limit // _CHUNK):
        half.take(chunk)
    kept = len(half.exchange.trailing_data)
    expect(half.done or kept <= limit, f"{half!r} keeps {kept} octets")


def _noisy(setting: _Setting) -> None:
    """Random octets in place of any message are never anything but a SASLError, for good."""
    for side, whole in setting.sides():
        for seed in range(setting.samples):
            noise = partial(_random_octets, random.Random(seed))  # noqa: S311 - repeatable
            disturbed = partial(Disturbed, at=seed % whole.deliveries, noise=noise)
            half, _ = setting.with_one(side, disturbed, hang_up=True)
            expect(half.error, f"{half!r}")
            half.stays_failed()


def _random_octets(source: random.Random, half: Half, data: bytes) -> None:
    half.take(source.randbytes(source.randint(1, 2 * len(data))))


def _altered(setting: _Setting) -> None:
    """With a bit flipped, in any octet, the login fails for good, or both halves still agree."""
    for side, whole in setting.sides():
        for place in places(whole.heard, setting.samples):
            half, talk = setting.with_one(side, partial(Mishearing, place=place), hang_up=True)
            half.stays_failed()
            if talk.complete:
                expect_agreement(talk.client.context, talk.server.context)


def _aborted(setting: _Setting) -> None:
    """A login that is aborted, wherever, fails; where the transport survives, the peer knows of it,
    or what a client says next is the application's; and nothing else is on the wire.
    """
    for side in (0, 1):
        for after in count():
            half, talk = setting.with_one(side, partial(Aborting, after=after))
            if half.done:
                break
            with raises(UsageError):
                half.exchange.abort()
            if talk.begun:
                _known_to_both(talk, half)


def _known_to_both(talk: Talk, half: Half) -> None:
    expect(half.error, f"{talk!r}")
    if half.leaves:
        return
    client, server = talk.client, talk.server
    other = server if half is client else client
    expect(server.unheard or (other.error and not other.leaves), f"{talk!r}")
    expect(not client.unheard, f"{bytes(client.unheard)!r} comes too late for {client!r}")
    for one in (client, server):
        left = one.exchange.trailing_data
        expect(not left, f"{left!r} is left to {one!r}")


def _refused(setting: _Setting) -> None:
    """A login that the server refuses fails at both, the transport survives, no octet is left."""
    if setting.make_refused is not None:
        client, server = map(Half, setting.make_refused())
        talk = Talk(client, server)
        for half in (talk.client, talk.server):
            expect(half.error and not half.leaves, f"{talk!r}")
            _known_to_both(talk, half)
            half.stays_failed()


def _abandoned(setting: _Setting) -> None:
    """abandon() ends an exchange without a word, before the login and after it; its context too."""
    for exchange in setting.make():
        exchange.abandon()
        caught(SASLError, exchange.advance)
    talk = setting.talk()
    for half in (talk.client, talk.server):
        context = half.context
        half.exchange.abandon()
        caught(SASLError, half.exchange.advance)
        expect(context is None or not context.alive, f"{context!r} lives on")


def _copied(setting: _Setting) -> None:
    """An exchange can neither be copied nor pickled."""
    for exchange in setting.make():
        not_copied(exchange)


#: The rules, in the order in which they are tried.
RULES: Final[tuple[_Rule, ...]] = (
    _completes,
    _segments,
    _trailing,
    _patient,
    _out_of_turn,
    _early,
    _unproven,
    _cut_off,
    _endless,
    _noisy,
    _altered,
    _aborted,
    _refused,
    _abandoned,
    _copied,
)
