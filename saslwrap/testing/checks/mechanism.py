"""The contract of both sides of a mechanism, as a check that runs.

    check_mechanism_pair(make_pair, secrets=["the password"])

`make_pair` gives both sides of a new login. They talk to each other in memory, and somebody in
between alters what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.properties import ChannelInfo
from saslwrap.testing.checks.context import expect_agreement
from saslwrap.testing.checks.conversation import Login
from saslwrap.testing.checks.threads import Gate, at_once, at_work
from saslwrap.testing.checks.words import (
    caught,
    chosen,
    expect,
    flipped,
    hold,
    not_copied,
    places,
    raises,
    require_pairs,
    require_several,
    same_again,
)

__all__ = ["RULES", "MakeMechanisms", "check_mechanism_pair"]

#: Gives both sides of a new login, of which no step is taken.
MakeMechanisms: TypeAlias = Callable[[], tuple[ClientMechanism, ServerMechanism]]


@dataclass(frozen=True)
class _Setting:
    """What the rules work with; the words are those of `check_mechanism_pair`."""

    make: MakeMechanisms
    make_refused: MakeMechanisms | None
    secrets: Collection[str]
    samples: int

    def messages(self) -> list[bytes | None]:
        """Give the messages of a login."""
        return _completed(Login(*self.make())).messages

    def places(self, message: bytes | None) -> range:
        """Give the places at which a message is disturbed; one that is empty has one."""
        return places(0 if message is None else max(1, len(message)), self.samples)

    def disturbed(self, number: int, change: Callable[[bytes], Sequence[bytes | None]]) -> Login:
        """Give what comes of a login one message of which is changed."""
        return Login(*self.make(), lambda n, sent: change(sent) if n == number else [sent])


_Rule: TypeAlias = Callable[[_Setting], None]


def check_mechanism_pair(
    make_pair: MakeMechanisms,
    *,
    make_refused: MakeMechanisms | None = None,
    secrets: Collection[str] = (),
    samples: int = 64,
    leave_out: Collection[str] = (),
) -> None:
    """Hold both sides of a mechanism against their contract.

    :param make_pair: gives both sides of a new login that succeeds. It is called some hundreds of
        times
    :param make_refused: the same, with a client whose credentials are wrong
    :param secrets: what may not show: the password, for one
    :param samples: at how many places a message is altered and cut, at most
    :param leave_out: rules that cannot hold, by name. A wrong name is answered with all there are
    :raises AssertionError: a rule does not hold
    :raises UsageError: `leave_out` names no rule, `secrets` is one, or `make_pair` gives no
        mechanisms
    """
    require_several("secrets", secrets)
    require_pairs("make_pair", make_pair, ClientMechanism, ServerMechanism)
    setting = _Setting(make_pair, make_refused, secrets, samples)
    for rule in chosen(RULES, leave_out):
        hold(rule, setting)


def _completed(login: Login) -> Login:
    expect(login.error is None, f"{login.hearer!r} refused: {login.error!r}")
    return login


def _agree_or_refuse(login: Login) -> None:
    """Expect of a login that was disturbed that it failed for good, or that both sides agree."""
    if login.error is None:
        expect_agreement(login.client.context, login.server.context)
        return
    same_again(login.error, caught(SASLError, lambda: login.hearer.step(b"x")))
    if not login.hearer.complete:
        with raises(UsageError):
            _ = login.hearer.context


# The rules


def _completes(setting: _Setting) -> None:
    """The login completes whether client or server is asked first, and both come to the same."""
    for server_first in (False, True):
        login = _completed(Login(*setting.make(), server_first=server_first))
        expect_agreement(login.client.context, login.server.context)


def _names(setting: _Setting) -> None:
    """A server that is complete says who logged in, and on whose behalf as the client said it."""
    login = _completed(Login(*setting.make()))
    expect(login.server.authcid, "there is no authcid")
    said, heard = login.client.authzid, login.server.authzid
    expect(said == heard, f"the client's authzid is {said!r}, the server's {heard!r}")


def _early(setting: _Setting) -> None:
    """`context` is a UsageError as long as a side is not complete."""
    sides = setting.make()

    def deliver(number: int, message: bytes) -> Sequence[bytes]:
        for side in sides:
            if not side.complete:
                with raises(UsageError):
                    _ = side.context
        return [message]

    deliver(0, b"")
    _completed(Login(*sides, deliver))


def _used_once(setting: _Setting) -> None:
    """A message after completion is a ProtocolError, each time the same."""
    login = _completed(Login(*setting.make()))
    for side in (login.client, login.server):
        first, again = (caught(ProtocolError, partial(side.step, b"x")) for _ in range(2))
        same_again(first, again)


def _altered(setting: _Setting) -> None:
    """A message with a flipped bit is refused for good, or both sides still come to the same."""
    for number, message in enumerate(setting.messages()):
        for place in setting.places(message):
            _agree_or_refuse(setting.disturbed(number, partial(_flip, place)))


def _flip(place: int, message: bytes) -> list[bytes]:
    return [flipped(message, min(place, len(message) - 1)) if message else b"\0"]


def _cut(place: int, message: bytes) -> list[bytes]:
    return [message[:place]]


def _instead(other: bytes | None, message: bytes) -> list[bytes | None]:
    return [other]


def _cut_short(setting: _Setting) -> None:
    """A message that is cut short is refused for good, or both sides still come to the same."""
    for number, message in enumerate(setting.messages()):
        for place in setting.places(message):
            _agree_or_refuse(setting.disturbed(number, partial(_cut, place)))


def _dropped(setting: _Setting) -> None:
    """A message that is lost is refused for good, or both sides still come to the same."""
    for number, _ in enumerate(setting.messages()):
        _agree_or_refuse(setting.disturbed(number, lambda _: [None]))


def _repeated(setting: _Setting) -> None:
    """A message that comes twice is refused for good, or both sides still come to the same."""
    for number, _ in enumerate(setting.messages()):
        _agree_or_refuse(setting.disturbed(number, lambda sent: [sent, sent]))


def _foreign(setting: _Setting) -> None:
    """With a message of another login in place of the genuine one, never do both sides complete."""
    for number, foreign in enumerate(setting.messages()):
        login = setting.disturbed(number, partial(_instead, foreign))
        same = len(login.messages) > number and login.messages[number] == foreign
        expect(same or login.error, f"message {number} of another login was accepted")
        _agree_or_refuse(login)


def _refused(setting: _Setting) -> None:
    """Wrong credentials end in AuthenticationError, and the server does not complete."""
    if setting.make_refused is not None:
        for server_first in (False, True):
            login = Login(*setting.make_refused(), server_first=server_first)
            expect(isinstance(login.error, AuthenticationError), f"{login.error!r}")
            expect(not login.server.complete, f"{login.server!r} in spite of it")
            _agree_or_refuse(login)


def _bound_late(setting: _Setting) -> None:
    """The channel can be bound before the first step; then that is a UsageError."""
    for side in setting.make():
        side.bind_channel(ChannelInfo())
        side.step(None)
        with raises(UsageError):
            side.bind_channel(ChannelInfo())


def _abandoned(setting: _Setting) -> None:
    """abandon() ends a side for good, before the first step or after the last; its context too."""
    for side in setting.make():
        side.abandon()
        caught(SASLError, partial(side.step, None))
    login = _completed(Login(*setting.make()))
    for side in (login.client, login.server):
        context = side.context
        side.abandon()
        side.abandon()
        caught(SASLError, partial(side.step, b"x"))
        expect(context is None or not context.alive, f"{context!r} lives on")


def _two_threads(setting: _Setting) -> None:
    """A second step gets ContextBusyError while one is at work, and the login goes on."""
    for number in (0, 1):
        sides = setting.make()
        gate = Gate(sides[number]._step)
        vars(sides[number])["_step"] = gate
        with at_work(gate, partial(Login, *sides)) as login, raises(ContextBusyError):
            at_once(partial(sides[number].step, b"x"))
        _completed(login.result())
        expect_agreement(sides[0].context, sides[1].context)


def _copied(setting: _Setting) -> None:
    """A mechanism can neither be copied nor pickled."""
    for side in setting.make():
        not_copied(side)


def _discreet(setting: _Setting) -> None:
    """No secret shows in what a mechanism, its context or an error of theirs says of itself."""
    for login in _logins(setting):
        texts = " ".join(map(_said, (login.client, login.server, login.error)))
        shown = [secret for secret in setting.secrets if secret in texts]
        expect(not shown, f"{len(shown)} of {len(setting.secrets)} in {login.error!r}")


def _logins(setting: _Setting) -> Iterator[Login]:
    """Give logins of all kinds: as they should be, disturbed in each message, refused."""
    yield Login(*setting.make())
    for number, message in enumerate(setting.messages()):
        yield setting.disturbed(number, lambda sent: [sent[: len(sent) // 2]])
        yield setting.disturbed(number, partial(_flip, len(message or b"") // 2))
        yield setting.disturbed(number, lambda sent: [sent, sent])
    if setting.make_refused is not None:
        yield Login(*setting.make_refused())


def _said(one: Mechanism | SASLError | None) -> str:
    if isinstance(one, Mechanism):
        return f"{one!r} {one.context!r}" if one.complete else repr(one)
    return "" if one is None else f"{one} {one!r} {vars(one)}"


#: The rules, in the order in which they are tried.
RULES: Final[tuple[_Rule, ...]] = (
    _completes,
    _names,
    _early,
    _used_once,
    _altered,
    _cut_short,
    _dropped,
    _repeated,
    _foreign,
    _refused,
    _bound_late,
    _abandoned,
    _two_threads,
    _copied,
    _discreet,
)
