"""The check has to find what it is for: each planted defect breaks the rule that is about it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

import pytest

from saslwrap import DigestMD5Client, SecurityContext
from saslwrap.context import Buffer
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Done, Event, Exchange, NeedData, Script, Send
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_login import LDAPLogin
from saslwrap.protocols.ldap_messages import ResultCode, decode, encode, result
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from saslwrap.testing import MechanismPair, check_exchange, mechanism_pair
from saslwrap.testing.checks.exchange import RULES
from saslwrap.testing.pairs import HOST, USERNAME, properties_for
from tests.sound import (
    SoundClient,
    SoundLines,
    SoundLogin,
    SoundLoginServer,
    SoundServer,
    broken_rule,
    names_of,
)

Half = TypeVar("Half", bound=SoundLines)
Halves: TypeAlias = tuple[Exchange, Exchange]


def make_pair(
    client: type[SoundLogin] = SoundLogin,
    server: type[SoundLoginServer] = SoundLoginServer,
    password: str | None = None,
) -> Halves:
    mechanism = SoundClient() if password is None else SoundClient(password)
    return client(mechanism), server(SoundServer())


# Defects of either half


class Hasty(SoundLines):
    """It takes what is there for a whole line."""

    def _measure(self, buffer: bytearray) -> int | None:
        return super()._measure(buffer) or (len(buffer) > 1 and len(buffer)) or None


class Waits(SoundLines):
    """It takes a line when one more octet is there."""

    def _measure(self, buffer: bytearray) -> int | None:
        length = super()._measure(buffer)
        return length if length is None or length < len(buffer) else None


class Boundless(SoundLines):
    LIMIT = 1 << 40


class Hoards(SoundLines):
    """It refuses an endless line, and goes on to store it."""

    def receive_data(self, data: Buffer) -> None:
        super().receive_data(data)
        if self._fault is not None:
            self._buffer += data


class FallsOver(SoundLines):
    def _measure(self, buffer: bytearray) -> int | None:
        if b"\x7f" < buffer[:1] < b"\xff":
            raise UnicodeError
        return super()._measure(buffer)


class WaitsAfterTheEnd(SoundLines):
    def receive_eof(self) -> None:
        return


class EndsWithALine(SoundLines):
    """What the connection's end leaves of a line is one."""

    def receive_eof(self) -> None:
        super().receive_eof()
        self._buffer += b"\n" if self._buffer else b""


class EndsAsARefusal(SoundLines):
    def _message(self) -> Generator[Event, None, bytes]:
        try:
            return (yield from super()._message())
        except TruncatedStreamError:
            raise AuthenticationError("the peer hung up") from None


class Forgives(SoundLines):
    def advance(self) -> Event:
        self._fault = None
        try:
            return super().advance()
        except SASLError as error:
            self._script = self._again()
            raise error.fresh() from None

    def _again(self) -> Script:
        yield from ()
        raise AuthenticationError("not again")


class LosesWhatFollows(SoundLines):
    @property
    def trailing_data(self) -> bytes:
        return bytes(self._buffer).lstrip(b"\0")


class SkipsBeats(SoundLines):
    """Every other answer is another one."""

    beat = False

    def advance(self) -> Event:
        self.beat = not self.beat
        event = super().advance()
        return event if self.beat or not isinstance(event, NeedData) else Send(b"")


class EndsTwice(SoundLines):
    def advance(self) -> Event:
        if self._done:
            raise UsageError("it is done")
        return super().advance()


class StepsAnytime(SoundLines):
    def step(self) -> None:
        if self._question is not None:
            super().step()


class HasAContextEarly(SoundLines):
    @property
    def context(self) -> SecurityContext | None:
        return super().context if self._done else None


class NeverEnds(SoundLines):
    def advance(self) -> Event:
        return Send(b"") if isinstance(event := super().advance(), Done) else event


class CannotBeAbandoned(SoundLines):
    def abandon(self) -> None:
        return


class KeepsItsContext(SoundLines):
    def abandon(self) -> None:
        self._fault = SASLError("given up")


class AbortsTwice(SoundLines):
    def abort(self) -> bytes:
        return b"" if self._aborting else super().abort()


class IsCopied(SoundLines):
    def __reduce__(self) -> Any:
        return object, ()


# Defects of clients


class TrustsSuccess(SoundLogin):
    def _require_complete(self) -> None:
        return


class AbortsInSilence(SoundLogin):
    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Script:
        yield from ()


class AbortsOutOfTurn(SoundLogin):
    def _aborted(self) -> Script:
        yield from ()


class TakesAnySuccess(SoundLogin):
    def conclude(self, line: bytes) -> Script:
        if line.startswith(b"OK ") and self.mechanism is not None:
            self.mechanism._finish(None)
        else:
            yield from super().conclude(line)


class TakesARefusalForABreach(SoundLogin):
    def conclude(self, line: bytes) -> Script:
        if line == b"NO":
            raise ProtocolError("NO")
        yield from super().conclude(line)


# Defects of servers


class SucceedsEarly(SoundLoginServer):
    def _run(self) -> Script:
        yield from self.line()
        yield from self._ask(None)
        self._ask_for = yield from self.challenge(self._reply)
        proof = yield from self._ask(self._ask_for)
        yield Send(b"OK " + (proof or b"") + b"\n")


class RefusesInSilence(SoundLoginServer):
    def _tell(self, refusal: SASLError) -> Script:
        yield from ()


class GivesUpInSilence(SoundLoginServer):
    def _abort_message(self) -> bytes:
        return b""


class FallsOverNames(SoundLoginServer):
    """What looks like a response has to be one."""

    def challenge(self, challenge: bytes | None) -> Generator[Event, None, bytes]:
        response = yield from super().challenge(challenge)
        if response.startswith(b"alice "):
            response.decode("ascii")
        return response


class HearsNoWord(SoundLoginServer):
    """It takes the client's `*` for a response like any other."""

    def challenge(self, challenge: bytes | None) -> Generator[Event, None, bytes]:
        self.asked = False
        yield Send(b"+" + (challenge or b"") + b"\n")
        response = yield from self.line()
        if response == b"*":
            raise IntegrityError
        return response


class AbortsAfterSuccess(SoundLoginServer):
    def abort(self) -> bytes:
        self.succeeded = False
        return super().abort()


#: What is wrong with either half, and the rule that is about it.
SHARED: list[tuple[Any, str]] = [
    (Hasty, "segments"),
    (Waits, "completes"),
    (Boundless, "endless"),
    (Hoards, "endless"),
    (FallsOver, "noisy"),
    (WaitsAfterTheEnd, "cut_off"),
    (EndsWithALine, "cut_off"),
    (EndsAsARefusal, "cut_off"),
    (Forgives, "cut_off"),
    (LosesWhatFollows, "trailing"),
    (SkipsBeats, "patient"),
    (EndsTwice, "patient"),
    (StepsAnytime, "out_of_turn"),
    (HasAContextEarly, "early"),
    (NeverEnds, "completes"),
    (CannotBeAbandoned, "abandoned"),
    (KeepsItsContext, "abandoned"),
    (AbortsTwice, "aborted"),
    (IsCopied, "copied"),
]

CLIENTS: list[tuple[type[SoundLogin], str]] = [
    (TrustsSuccess, "unproven"),
    (AbortsInSilence, "aborted"),
    (AbortsOutOfTurn, "aborted"),
    (TakesAnySuccess, "completes"),
    (TakesARefusalForABreach, "aborted"),
]

SERVERS: list[tuple[type[SoundLoginServer], str]] = [
    (SucceedsEarly, "unproven"),
    (RefusesInSilence, "refused"),
    (GivesUpInSilence, "aborted"),
    (FallsOverNames, "altered"),
    (HearsNoWord, "aborted"),
    (AbortsAfterSuccess, "aborted"),
]


def planted(defect: Any, half: type[Half]) -> type[Half]:
    return type(defect.__name__, (defect, half), {})


DEFECTS: list[tuple[type[SoundLogin], type[SoundLoginServer], str]] = [
    *(
        (type(kind.__name__, (kind, SoundLogin), {}), SoundLoginServer, rule)
        for kind, rule in SHARED
    ),
    *(
        (SoundLogin, type(kind.__name__, (kind, SoundLoginServer), {}), rule)
        for kind, rule in SHARED
    ),
    *((kind, SoundLoginServer, rule) for kind, rule in CLIENTS),
    *((SoundLogin, kind, rule) for kind, rule in SERVERS),
]


def check(
    client: type[SoundLogin] = SoundLogin, server: type[SoundLoginServer] = SoundLoginServer
) -> None:
    check_exchange(
        lambda: make_pair(client, server),
        make_refused=lambda: make_pair(client, server, "wrong"),
    )


def test_a_sound_exchange_passes() -> None:
    check()


@pytest.mark.parametrize(
    ("client", "server", "rule"),
    [pytest.param(*defect, id=f"{defect[0].__name__}-{defect[1].__name__}") for defect in DEFECTS],
)
def test_a_planted_defect_is_found_by_its_rule(
    client: type[SoundLogin], server: type[SoundLoginServer], rule: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        check(client, server)
    assert broken_rule(caught.value, RULES) == rule


def test_every_rule_finds_a_defect() -> None:
    assert {rule for *_, rule in DEFECTS} == names_of(RULES)


def test_halves_that_talk_for_ever_are_found() -> None:
    class Asks(SoundLogin):
        def _run(self) -> Script:
            while True:
                yield Send(b"what?\n")
                yield from self.line()

    class Answers(SoundLoginServer):
        def _run(self) -> Script:
            while True:
                yield from self.line()
                yield Send(b"nothing\n")

    with pytest.raises(AssertionError, match="the login does not end"):
        check(Asks, Answers)


def test_a_half_that_sends_for_ever_is_found() -> None:
    class Sends(SoundLogin):
        def _run(self) -> Script:
            while True:
                yield Send(b"and\n")

    with pytest.raises(AssertionError, match="it neither needs data nor ends"):
        check(Sends)


def test_a_rule_can_be_left_out() -> None:
    check_exchange(
        lambda: make_pair(type("Copied", (IsCopied, SoundLogin), {})), leave_out=["copied"]
    )


def test_what_gives_no_exchanges_is_refused() -> None:
    with pytest.raises(UsageError, match=r"gives is Exchange, not DigestMD5Client$"):
        check_exchange(mechanism_pair)  # type: ignore[arg-type]


def test_a_name_that_is_no_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="the rules are completes, segments, "):
        check_exchange(make_pair, leave_out=["abort"])


# Ours


class DirectoryServer(LDAPBindServer):
    """Answers the question for its mechanisms, then a bind."""

    def _run(self) -> Script:
        message = decode((yield from self._message()))
        if message.operation != "searchRequest":
            raise ProtocolError("the client does not ask")
        names = {"type": b"supportedSASLMechanisms", "vals": [b"DIGEST-MD5"]}
        entry = {"objectName": b"", "attributes": [names]}
        answer = encode(message.message_id, "searchResEntry", entry)
        yield Send(answer + encode(message.message_id, "searchResDone", result(ResultCode.success)))
        yield from super()._run()


Wrap: TypeAlias = Callable[[ClientMechanism, ServerMechanism], Halves]


def ldap(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return LDAPBind(client), LDAPBindServer({server.name: lambda: server})


def ldap_login(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return LDAPLogin([client]), DirectoryServer({server.name: lambda: server})


def imap(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return IMAPAuthenticate(client), IMAPAuthenticateServer({server.name: lambda: server})


def imap_ir(client: ClientMechanism, server: ServerMechanism) -> Halves:
    server_half = IMAPAuthenticateServer({server.name: lambda: server})
    return IMAPAuthenticate(client, initial_response=True), server_half


def pop3(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return POP3Auth(client), POP3AuthServer({server.name: lambda: server})


def sieve(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return SieveAuthenticate(client), SieveAuthenticateServer({server.name: lambda: server})


def smtp(client: ClientMechanism, server: ServerMechanism) -> Halves:
    return SMTPAuth(client), SMTPAuthServer({server.name: lambda: server})


WRAPS: list[Wrap] = [ldap, ldap_login, imap, imap_ir, pop3, sieve, smtp]


def refused_pair(protection: str) -> MechanismPair:
    properties = properties_for(protection)
    wrong = DigestMD5Client(USERNAME, "wrong", service="ldap", host=HOST, properties=properties)
    return MechanismPair(wrong, mechanism_pair(protection).server)


@pytest.mark.parametrize("protection", ["auth", "auth-int", "3des"])
@pytest.mark.parametrize("wrap", WRAPS, ids=lambda wrap: wrap.__name__)
def test_our_exchanges(wrap: Wrap, protection: str) -> None:
    check_exchange(
        lambda: wrap(*mechanism_pair(protection)),
        make_refused=lambda: wrap(*refused_pair(protection)),
        samples=200,
    )
