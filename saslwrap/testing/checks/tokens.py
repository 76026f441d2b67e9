"""What an attacker may do to tokens, and what a security context owes then: rules of its contract.

An attack is a function that lets whatever is genuine pass, and gives the token that has to be
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Final, TypeAlias

from saslwrap.context import SecurityContext
from saslwrap.errors import FrameTooLargeError, IntegrityError, OutOfSequenceError, SASLError
from saslwrap.properties import QOP
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.checks.words import caught, expect, flipped, same_again

__all__ = ["RULES", "MakeContexts", "Rule"]

#: Logs in, and gives both ends' contexts.
MakeContexts: TypeAlias = Callable[[], tuple[SecurityContext, SecurityContext]]

#: Takes what logs in.
Rule: TypeAlias = Callable[[MakeContexts], None]

_Attack: TypeAlias = Callable[[SecurityContext, SecurityContext], bytes]

_CHECKS: Final = ("saslwrap.testing.checks.",)


def _message(*ends: SecurityContext) -> bytes:
    """A message that either end can seal, and that is easily told from other octets."""
    most = min(end.stream_sizes.maximum_message for end in ends)
    return b"what nobody may read on its way"[:most]


def _sealed(sender: SecurityContext, other: SecurityContext) -> bytes:
    return sender.seal(_message(sender, other))


def _refused(receiver: SecurityContext, token: bytes, what: str) -> IntegrityError:
    """Deliver a token that has to be refused, and give the error."""
    try:
        receiver.unseal(token)
    except IntegrityError as error:
        refusal = error
    else:
        raise AssertionError(f"{what} was accepted")
    expect(receiver.failed and not receiver.alive, f"the context lives on after {what}")
    return refusal


# The attacks. `a` sealed, `b` unseals.


def _flip_first(a: SecurityContext, b: SecurityContext) -> bytes:
    return flipped(_sealed(a, b), 0)


def _flip_last(a: SecurityContext, b: SecurityContext) -> bytes:
    token = _sealed(a, b)
    return flipped(token, len(token) - 1)


def _flip_middle(a: SecurityContext, b: SecurityContext) -> bytes:
    token = _sealed(a, b)
    return flipped(token, len(token) // 2)


def _replay(a: SecurityContext, b: SecurityContext) -> bytes:
    token = _sealed(a, b)
    b.unseal(token)
    return token


def _late_replay(a: SecurityContext, b: SecurityContext) -> bytes:
    token = _replay(a, b)
    b.unseal(_sealed(a, b))
    return token


def _skip_first(a: SecurityContext, b: SecurityContext) -> bytes:
    _sealed(a, b)
    return _sealed(a, b)


def _skip(a: SecurityContext, b: SecurityContext) -> bytes:
    b.unseal(_sealed(a, b))
    return _skip_first(a, b)


def _reflect(a: SecurityContext, b: SecurityContext) -> bytes:
    return _sealed(b, a)


def _reflect_later(a: SecurityContext, b: SecurityContext) -> bytes:
    b.unseal(_sealed(a, b))
    a.unseal(_sealed(b, a))
    return _sealed(b, a)


_ATTACKS: Final[tuple[_Attack, ...]] = (
    _flip_first,
    _flip_middle,
    _flip_last,
    _replay,
    _skip_first,
)


# The rules


def _concealed(make: MakeContexts) -> None:
    """Two equal messages have different tokens, and under confidentiality no four octets show."""
    a, b = make()
    message = _message(a, b)
    first, second = a.seal(message), a.seal(message)
    expect(first != second, "two equal messages have the same token")
    if a.qop is QOP.AUTH_CONF:
        parts = [message[at : at + 4] for at in range(len(message) - 3)]
        shown = [part for part in parts if part in first + second]
        expect(not shown, f"{shown} can be read in a token")


def _altered(make: MakeContexts) -> None:
    """A token with a flipped bit, whatever its octet, cut short or made longer is refused: with one
    type and one text for all, but for OutOfSequenceError, whose cause is public.
    """
    errors = set()
    for what, alter in _alterations(len(_sealed(*make()))):
        a, b = make()
        token = alter(_sealed(a, b))
        if len(token) <= b.local_maxbuf:
            error = _refused(b, token, what)
            if not isinstance(error, OutOfSequenceError):
                errors.add(repr(error))
    expect(len(errors) < 2, f"the errors tell causes apart: {sorted(errors)}")


def _alterations(length: int) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    for place in range(length):
        yield f"a token with a bit of octet {place} flipped", partial(flipped, place=place)
        yield f"a token of which {place} octets are left", itemgetter(slice(place))
    yield "a token and an octet more", lambda token: token + b"\0"
    yield "an octet and a token", lambda token: b"\0" + token
    yield "a token and itself again", lambda token: token + token


def _replayed(make: MakeContexts) -> None:
    """A token that comes again, at once or later, is refused."""
    for attack in (_replay, _late_replay):
        a, b = make()
        _refused(b, attack(a, b), "a replayed token")


def _skipped(make: MakeContexts) -> None:
    """A token whose predecessor did not come is refused, and with it whatever was swapped."""
    for attack in (_skip_first, _skip):
        a, b = make()
        _refused(b, attack(a, b), "a token behind a gap")


def _swapped(make: MakeContexts) -> None:
    """Of two tokens that were swapped neither is accepted."""
    a, b = make()
    first, second = _sealed(a, b), _sealed(a, b)
    _refused(b, second, "the second token before the first")
    caught(SASLError, lambda: b.unseal(first))


def _reflected(make: MakeContexts) -> None:
    """A token that comes back to its sender is refused."""
    for attack in (_reflect, _reflect_later):
        a, b = make()
        _refused(b, attack(a, b), "a token of its own")


def _foreign(make: MakeContexts) -> None:
    """A token of another login is refused."""
    (other, _), (_, b) = make(), make()
    _refused(b, _sealed(other, b), "a token of another login")


def _too_long(make: MakeContexts) -> None:
    """A token over `local_maxbuf` is refused with FrameTooLargeError, and that is a failure."""
    _, b = make()
    caught(FrameTooLargeError, lambda: b.unseal(bytes(b.local_maxbuf + 1)))
    expect(b.failed, "the context lives on")


def _sticky(make: MakeContexts) -> None:
    """A refusal kills both directions: one type and one text from then on, in new objects."""
    for attack in _ATTACKS:
        a, b = make()
        error = _refused(b, attack(a, b), "a forged token")
        genuine = _sealed(a, b)
        for call in (b.unseal, b.seal, b.unseal, b.seal):
            same_again(error, caught(SASLError, partial(call, genuine)))
        b.close()
        same_again(error, caught(SASLError, partial(b.seal, genuine)))


def _silent(make: MakeContexts) -> None:
    """A refusal has no cause and no context, and shows no plaintext, in a traceback neither."""
    for attack in _ATTACKS:
        a, b = make()
        error, plaintext = _refused(b, attack(a, b), "a forged token"), _message(a, b)
        expect(error.__cause__ is None and error.__context__ is None, "it has a cause or a context")
        expect(len(plaintext) < 4 or not shows(plaintext, error.args, vars(error)), "its text")
        if a.qop is QOP.AUTH_CONF and len(plaintext) > 3:  # else it is in the token, in clear
            shown = shows(plaintext, *kept_by(error, _CHECKS))
            expect(not shown, "its traceback keeps the plaintext")


#: The rules, in the order in which they are tried.
RULES: Final[tuple[Rule, ...]] = (
    _concealed,
    _altered,
    _replayed,
    _skipped,
    _swapped,
    _reflected,
    _foreign,
    _too_long,
    _sticky,
    _silent,
)
