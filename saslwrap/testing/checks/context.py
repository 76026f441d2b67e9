"""The contract of a security context, as a check that runs.

    check_security_context(make_pair)

`make_pair` logs in anew and gives both ends' contexts. Each rule is held twice, with the ends the
other way round. What an attacker may do to a token has rules of its own, in `tokens`.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Collection
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

from saslwrap.context import Buffer, Sealer, SecurityContext, Unsealer
from saslwrap.errors import ContextBusyError, UsageError
from saslwrap.properties import QOP, StreamSizes
from saslwrap.testing.checks import tokens
from saslwrap.testing.checks.threads import Gate, at_once, at_work
from saslwrap.testing.checks.tokens import MakeContexts, Rule
from saslwrap.testing.checks.words import (
    caught,
    chosen,
    expect,
    hold,
    not_copied,
    raises,
    require_pairs,
)

__all__ = ["RULES", "check_security_context"]


def check_security_context(make_pair: MakeContexts, *, leave_out: Collection[str] = ()) -> None:
    """Hold both contexts of a login against the contract of a security context.

    :param make_pair: logs in anew and gives both ends' contexts, the keys of which no other login
        has. It is called some hundreds of times
    :param leave_out: rules that cannot hold, by name: `"foreign"` where every login has the same
        keys. A wrong name is answered with all there are
    :raises AssertionError: a rule does not hold
    :raises UsageError: `leave_out` names no rule, or `make_pair` gives no contexts
    """
    require_pairs("make_pair", make_pair, SecurityContext, SecurityContext)
    for rule in chosen(RULES, leave_out):
        hold(rule, make_pair)
        hold(rule, lambda: make_pair()[::-1])


def expect_agreement(a: SecurityContext | None, b: SecurityContext | None) -> None:
    """Expect both ends of a login to have come to the same: no layer, or one that works."""
    if a is None or b is None:
        expect(a is b, f"one end has {a!r}, the other one {b!r}")
        return
    ours, theirs = _terms(a), _terms(b)
    expect(ours == theirs, f"one end has {ours}, the other one {theirs}")
    for sender, receiver in ((a, b), (b, a)):
        expect(receiver.unseal(sender.seal(b"?")) == b"?", "an octet arrived changed")


def _terms(context: SecurityContext) -> tuple[str, str, int, str | None]:
    return context.mechanism, str(context.qop), context.ssf, context.cipher


def _lengths(sizes: StreamSizes) -> list[int]:
    """Nothing, an octet, what lies around the blocks, and what lies around the maximum."""
    block, most = sizes.block_size, sizes.maximum_message
    around = {n * block + more for n in (1, 2, 3) for more in (-1, 0, 1)}
    return sorted(n for n in {0, 1, 1000, most // 2, most - 1, most, *around} if n <= most)


# The rules. `make` logs in; `a` seals, `b` unseals.


def _described(make: MakeContexts) -> None:
    """Both ends say the same of the layer, and what they say fits together."""
    a, b = make()
    expect(_terms(a) == _terms(b), f"one end has {_terms(a)}, the other one {_terms(b)}")
    sealed = a.qop is QOP.AUTH_CONF
    expect(sealed or a.qop is QOP.AUTH_INT, f"the qop is {a.qop!r}")
    expect(a.ssf > 1 if sealed else a.ssf == 1, f"{a.qop} has an SSF of {a.ssf}")
    expect((a.cipher is not None) is sealed, f"{a.qop} has the cipher {a.cipher!r}")
    expect(a.peer_maxbuf <= b.local_maxbuf, f"{a.peer_maxbuf} is more than {b.local_maxbuf}")
    expect(a.stream_sizes.block_size == a.sizes.block_size, "two sizes of a block")
    expect(a.alive and not a.failed and a.fault is None, f"it does not work: {a!r}")


def _round_trip(make: MakeContexts) -> None:
    """What one end seals the other unseals, of any size up to the maximum, both ways in turn."""
    a, b = make()
    for length in _lengths(a.stream_sizes):
        message = random.Random(length).randbytes(length)  # noqa: S311 - repeatable on purpose
        expect(b.unseal(a.seal(message)) == message, f"{length} octets arrived changed")
        expect(a.unseal(b.seal(message[:1])) == message[:1], "the way back is damaged")


def _sizes(make: MakeContexts) -> None:
    """A token is no longer than the sizes say, and than the peer can receive."""
    a, b = make()
    sizes = a.stream_sizes
    more = min(sizes.header + sizes.trailer, a.sizes.security_trailer)
    for length in _lengths(sizes):
        token = a.seal(bytes(length))
        expect(len(token) <= length + more, f"{length} octets became {len(token)}")
        expect(len(token) <= a.peer_maxbuf, f"a token of {len(token)} octets is too long")
        b.unseal(token)


def _over_the_maximum(make: MakeContexts) -> None:
    """A message over the maximum is a UsageError, and the context works on."""
    a, b = make()
    for _ in range(2):
        with raises(UsageError):
            a.seal(bytes(a.stream_sizes.maximum_message + 1))
    expect(not a.failed, "it has failed")
    expect(b.unseal(a.seal(b"x")) == b"x", "the next message arrived changed")


def _any_buffer(make: MakeContexts) -> None:
    """Any buffer goes in, of whatever items, and is left as it was; bytes come out."""
    a, b = make()
    for length in range(8, 12):
        message = b"a message of it"[: min(length, a.stream_sizes.maximum_message)]
        for kind in _BUFFERS:
            token = _unchanged(a.seal, kind(message))
            expect(_unchanged(b.unseal, kind(token)) == message, "a message arrived changed")


def _unchanged(call: Callable[[Any], bytes], buffer: Any) -> bytes:
    before = memoryview(buffer).tobytes()
    result = call(buffer)
    expect(type(result) is bytes, f"{type(result).__name__} came out")
    expect(memoryview(buffer).tobytes() == before, "the caller's buffer was changed")
    return result


def _own_bytes(octets: bytes) -> bytes:
    return bytes(bytearray(octets))


def _every_other(octets: bytes) -> memoryview:
    spread = bytearray(2 * len(octets))
    spread[::2] = octets
    return memoryview(spread)[::2]


def _wide(octets: bytes) -> array[int]:
    items = "B" if len(octets) % 2 else "H" if len(octets) % 4 else "I"
    return array(items, octets)


_BUFFERS: Final[tuple[Callable[[bytes], Any], ...]] = (
    _own_bytes,
    bytearray,
    memoryview,
    _every_other,
    _wide,
)


def _two_sealers(make: MakeContexts) -> None:
    """A second sealer gets ContextBusyError at once; unsealing goes on, and nothing is damaged."""
    a, b = make()
    gate = Gate(cast(Sealer, a._sealer).seal)
    a._sealer = cast(Sealer, SimpleNamespace(seal=gate))
    with at_work(gate, lambda: a.seal(b"1")) as first:
        with raises(ContextBusyError):
            at_once(lambda: a.seal(b"2"))
        token = b.seal(b"b")
        expect(at_once(lambda: a.unseal(token)) == b"b", "the way back is damaged")
    for token, message in ((first.result(), b"1"), (a.seal(b"3"), b"3")):
        expect(b.unseal(token) == message, "a message arrived changed")


def _two_unsealers(make: MakeContexts) -> None:
    """A second unsealer gets ContextBusyError at once; sealing goes on, and nothing is damaged."""
    a, b = make()
    token, following = a.seal(b"1"), a.seal(b"2")
    gate = Gate(cast(Unsealer, b._unsealer).unseal)
    b._unsealer = cast(Unsealer, SimpleNamespace(unseal=gate))
    with at_work(gate, lambda: b.unseal(token)) as first:
        with raises(ContextBusyError):
            at_once(lambda: b.unseal(following))
        expect(a.unseal(at_once(lambda: b.seal(b"b"))) == b"b", "the way back is damaged")
    expect(first.result() == b"1", "the first message arrived changed")
    expect(b.unseal(following) == b"2", "the next message arrived changed")


def _closed(make: MakeContexts) -> None:
    """After close() every call is a UsageError; closing again is none, and it is no failure."""
    a, b = make()
    token = a.seal(b"x")
    b.close()
    b.close()
    calls: tuple[Callable[[Buffer], bytes], ...] = (b.seal, b.unseal)
    for call in calls * 2:
        error = caught(UsageError, partial(call, token))
        expect(not isinstance(error, ContextBusyError), f"{error!r}")
    expect(not b.failed and not b.alive, f"it is {b!r}")


def _copied(make: MakeContexts) -> None:
    """A context can neither be copied nor pickled."""
    for context in make():
        not_copied(context)


#: The rules, in the order in which they are tried.
RULES: Final[tuple[Rule, ...]] = (
    _described,
    _round_trip,
    _sizes,
    _over_the_maximum,
    _any_buffer,
    _two_sealers,
    _two_unsealers,
    _closed,
    _copied,
    *tokens.RULES,
)
