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
from saslwrap.testing.checks import threads
from saslwrap.testing.checks.mechanism import RULES
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME
from tests.sound import PASSWORD as TOY_PASSWORD
from tests.sound import SoundClient, SoundServer, broken_rule, names_of, proof

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


class CannotBeAskedTwice(SoundClient):
    def verify(self, message: bytes | None) -> None:
        if message == self.challenge:
            raise KeyError("again")
        super().verify(message)


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
        return self._guarded_step(None if message is None else bytes(message))


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


class ReadsAhead(SoundServer):
    """It falls over what is too short."""

    def check(self, message: bytes) -> bytes:
        assert message[5:6] or message[100]
        return super().check(message)


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
    (WaitsForNothing, SoundServer, "completes"),
    (SealsAlone, SoundServer, "completes"),
    (HasOtherKeys, SoundServer, "completes"),
    (SoundClient, KnowsNoName, "names"),
    (ActsForAnother, SoundServer, "names"),
    (HasAContextEarly, SoundServer, "early"),
    (ForgivesMessages, SoundServer, "used_once"),
    (SoundClient, FallsOver, "altered"),
    (TriesAgain, SoundServer, "altered"),
    (SoundClient, ReadsAhead, "cut_short"),
    (CannotBeAskedTwice, SoundServer, "repeated"),
    (SoundClient, TakesNothing, "dropped"),
    (NegotiatingClient, NegotiatesInClear, "altered"),
    (TrustsTheServer, SoundServer, "foreign"),
    (SoundClient, LetsAnybodyIn, "foreign"),
    (SoundClient, RefusesAsABreach, "refused"),
    (SoundClient, ServesAll, "refused"),
    (BindsLate, SoundServer, "bound_late"),
    (NeverBinds, SoundServer, "bound_late"),
    (CannotBeAbandoned, SoundServer, "abandoned"),
    (KeepsItsContext, SoundServer, "abandoned"),
    (LetsSteppersIn, SoundServer, "two_threads"),
    (QueuesSteppers, SoundServer, "two_threads"),
    (IsCopied, SoundServer, "copied"),
    (ShowsItsPassword, SoundServer, "discreet"),
    (SaysItsPassword, SoundServer, "discreet"),
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
    with pytest.raises(AssertionError) as caught:
        check(client, server)
    assert broken_rule(caught.value, RULES) == rule


def test_every_rule_finds_a_defect() -> None:
    assert {rule for *_, rule in DEFECTS} == names_of(RULES)


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


def test_one_secret_in_place_of_several_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match=r"secrets takes several texts: secrets=\[...\], not str$"):
        check_mechanism_pair(mechanism_pair, secrets="s3cret-Pa55")


def test_sides_in_the_wrong_order_are_refused() -> None:
    words = "^what make_pair gives is ClientMechanism, not DigestMD5Server$"
    with pytest.raises(UsageError, match=words):
        check_mechanism_pair(lambda: mechanism_pair()[::-1])  # type: ignore[arg-type, return-value]


def test_a_name_that_is_no_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="the rules are completes, names, "):
        check_mechanism_pair(make_pair, leave_out=["bound"])


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
