"""The check has to find what it is for: each planted defect breaks the rule that is about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap import DigestMD5Client
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.properties import ChannelInfo
from saslwrap.testing import (
    PROTECTIONS,
    MechanismPair,
    check_mechanism_pair,
    mechanism_pair,
)
from saslwrap.testing.checks import mechanism as rules
from saslwrap.testing.checks import threads
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME
from tests.sound import PASSWORD as TOY_PASSWORD
from tests.sound import SoundClient, SoundServer, proof

WRONG = "an0ther-Pa55"


def make_pair(
    client: type[SoundClient] = SoundClient, server: type[SoundServer] = SoundServer
) -> MechanismPair:
    return MechanismPair(client(), server())


def make_refused(
    client: type[SoundClient] = SoundClient, server: type[SoundServer] = SoundServer
) -> MechanismPair:
    return MechanismPair(client(WRONG), server())


# Defects of clients


class WaitsForNothing(SoundClient):
    def _step(self, message: bytes | None) -> bytes | None:
        if message is None:
            raise ProtocolError("the server has to speak first")
        return super()._step(message)


class SealsAlone(SoundClient):
    def finish(self, ours: bytes, theirs: bytes) -> None:
        self._finish(None)


class HasOtherKeys(SoundClient):
    def finish(self, ours: bytes, theirs: bytes) -> None:
        super().finish(theirs, theirs)


class ActsForAnother(SoundClient):
    authzid = "bob"


class HasAContextEarly(SoundClient):
    @property
    def context(self) -> SecurityContext | None:
        return self._context


class ForgivesMessages(SoundClient):
    def step(self, message: Buffer | None) -> bytes | None:
        return b"" if self.complete else super().step(message)


class CannotBeAsked(SoundClient):
    """It falls over what is no challenge."""

    def respond(self, challenge: bytes) -> bytes:
        int(challenge.split()[0])
        return super().respond(challenge)


class TrustsTheServer(SoundClient):
    def verify(self, message: bytes | None) -> None:
        self.finish(b"client", b"server")


class TriesAgain(SoundClient):
    """A failure does not last."""

    def step(self, message: Buffer | None) -> bytes | None:
        if self._fault is not None:
            self._fault, self.challenge = None, b""
        return super().step(message)


class BindsLate(SoundClient):
    def bind_channel(self, info: ChannelInfo) -> None:
        return


class NeverBinds(SoundClient):
    def bind_channel(self, info: ChannelInfo) -> None:
        raise UsageError("no channel here")


class CannotBeAbandoned(SoundClient):
    def abandon(self) -> None:
        return


class KeepsItsContext(SoundClient):
    def abandon(self) -> None:
        self._fault = self._fault or SASLError("given up")


class LetsSteppersIn(SoundClient):
    def step(self, message: Buffer | None) -> bytes | None:
        return self._guarded_step(message)


class QueuesSteppers(SoundClient):
    def step(self, message: Buffer | None) -> bytes | None:
        while True:
            with contextlib.suppress(ContextBusyError):
                return super().step(message)
            time.sleep(0.001)


class IsCopied(SoundClient):
    def __reduce__(self) -> Any:
        return object, ()


class ShowsItsPassword(SoundClient):
    def __repr__(self) -> str:
        return f"<{self.password}>"


class SaysItsPassword(SoundClient):
    def verify(self, message: bytes | None) -> None:
        try:
            super().verify(message)
        except SASLError:
            raise AuthenticationError(f"{self.password} did not work") from None


# Defects of servers


class KnowsNoName(SoundServer):
    def check(self, message: bytes) -> bytes:
        reply = super().check(message)
        self.authcid = None
        return reply


class LetsAnybodyIn(SoundServer):
    def check(self, message: bytes) -> bytes:
        self.authcid = "somebody"
        self.finish(b"server", b"client")
        return self.proof(b"server")


class IgnoresNames(SoundServer):
    def check(self, message: bytes) -> bytes:
        return super().check(b"alice " + message[6:])


class ServesAll(SoundServer):
    """It refuses, and then is complete."""

    def check(self, message: bytes) -> bytes:
        self._complete = True
        return super().check(message)


class RefusesAsABreach(SoundServer):
    def check(self, message: bytes) -> bytes:
        try:
            return super().check(message)
        except AuthenticationError:
            raise ProtocolError("wrong password") from None


class FallsOver(SoundServer):
    def check(self, message: bytes) -> bytes:
        name, given = message.split(b" ")
        return super().check(name + b" " + given)


class TakesNothing(SoundServer):
    def _step(self, message: bytes | None) -> bytes | None:
        if self.challenge and message is None:
            raise KeyError("no message")
        return super()._step(message)


class NegotiatesInClear(SoundServer):
    """The strength can be changed on the way: no proof covers it."""

    def proof(self, side: bytes) -> bytes:
        return unproven(self, side)


class NegotiatingClient(SoundClient):
    def respond(self, challenge: bytes) -> bytes:
        number, _, ssf = challenge.partition(b" ")
        return super().respond(number + (b" 128" if ssf == b"128" else b" 112"))

    def proof(self, side: bytes) -> bytes:
        return unproven(self, side)


def unproven(side: SoundClient | SoundServer, who: bytes) -> bytes:
    return proof(side.password, who, side.challenge.split()[0])


Defect = tuple[type[SoundClient], type[SoundServer], str]

DEFECTS: list[Defect] = [
    (WaitsForNothing, SoundServer, "The login completes"),
    (SealsAlone, SoundServer, "both come to the same"),
    (HasOtherKeys, SoundServer, "both come to the same"),
    (SoundClient, KnowsNoName, "who logged in"),
    (ActsForAnother, SoundServer, "on whose behalf"),
    (HasAContextEarly, SoundServer, "as long as a side is not complete"),
    (ForgivesMessages, SoundServer, "A message after completion"),
    (CannotBeAsked, SoundServer, "with a flipped bit"),
    (SoundClient, FallsOver, "is refused for good"),
    (TriesAgain, SoundServer, "is refused for good"),
    (SoundClient, TakesNothing, "A message that is lost"),
    (NegotiatingClient, NegotiatesInClear, "with a flipped bit"),
    (TrustsTheServer, SoundServer, "of another login"),
    (SoundClient, LetsAnybodyIn, "of another login"),
    (SoundClient, RefusesAsABreach, "Wrong credentials end"),
    (SoundClient, ServesAll, "the server does not complete"),
    (BindsLate, SoundServer, "then that is a UsageError"),
    (NeverBinds, SoundServer, "can be bound before"),
    (CannotBeAbandoned, SoundServer, "ends a side for good"),
    (KeepsItsContext, SoundServer, "its context too"),
    (LetsSteppersIn, SoundServer, "A second step"),
    (QueuesSteppers, SoundServer, "A second step"),
    (IsCopied, SoundServer, "neither be copied"),
    (ShowsItsPassword, SoundServer, "No secret shows"),
    (SaysItsPassword, SoundServer, "No secret shows"),
]


def check(client: type[SoundClient], server: type[SoundServer]) -> None:
    check_mechanism_pair(
        lambda: make_pair(client, server),
        make_refused=lambda: make_refused(client, server),
        secrets=[TOY_PASSWORD, WRONG],
    )


def test_a_sound_mechanism_passes() -> None:
    check(SoundClient, SoundServer)


def test_what_does_no_harm_passes() -> None:
    """A server that does not look at all that it gets, where nothing is decided by it."""
    check(SoundClient, IgnoresNames)


@pytest.mark.parametrize(
    ("client", "server", "rule"),
    [pytest.param(*defect, id=f"{defect[0].__name__}-{defect[1].__name__}") for defect in DEFECTS],
)
def test_a_planted_defect_is_found_by_its_rule(
    client: type[SoundClient],
    server: type[SoundServer],
    rule: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.2)
    with pytest.raises(AssertionError, match=rf"^rule: .*({rule})"):
        check(client, server)


def test_a_login_that_does_not_end_is_found() -> None:
    class Talks(SoundClient):
        def _step(self, message: bytes | None) -> bytes | None:
            return b"and another thing"

    class Listens(SoundServer):
        def _step(self, message: bytes | None) -> bytes | None:
            return b"indeed"

    with pytest.raises(AssertionError, match="the login does not end"):
        check(Talks, Listens)


def test_a_rule_can_be_left_out() -> None:
    pair: Callable[[], tuple[ClientMechanism, ServerMechanism]] = lambda: make_pair(BindsLate)  # noqa: E731
    check_mechanism_pair(pair, leave_out=["bound_late"])


def test_a_name_that_is_no_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="the rules are completes, names, "):
        check_mechanism_pair(make_pair, leave_out=["bound"])


def test_every_rule_has_its_words() -> None:
    assert len({rule.__doc__ for rule in rules.RULES}) == len(rules.RULES)
    assert all(rule.__doc__ for rule in rules.RULES)


# Ours


@pytest.mark.parametrize("protection", ["auth", *PROTECTIONS])
def test_digest_md5(protection: str) -> None:
    def make_refused() -> tuple[ClientMechanism, ServerMechanism]:
        client, server = mechanism_pair(protection)
        assert isinstance(client, DigestMD5Client)
        wrong = DigestMD5Client(
            USERNAME, WRONG, service="ldap", host=HOST, properties=client.properties
        )
        return wrong, server

    check_mechanism_pair(
        lambda: mechanism_pair(protection),
        make_refused=make_refused,
        secrets=[PASSWORD, WRONG],
        samples=1000,
    )
