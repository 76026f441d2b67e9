"""The check has to find what it is for: each planted defect breaks the rule that is about it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from saslwrap.context import Buffer, Octets, SecurityContext, octets
from saslwrap.errors import (
    ContextBusyError,
    IntegrityError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.properties import QOP, Sizes
from saslwrap.testing import (
    PROTECTIONS,
    ContextPair,
    check_security_context,
    context_pair,
    mechanism_pair,
)
from saslwrap.testing.checks import threads
from saslwrap.testing.checks.context import RULES
from tests.sound import MAXIMUM, OVERHEAD, Sealer, Unsealer, broken_rule, names_of
from tests.sound import sound_contexts as make_pair
from tests.support import ToySealer, ToyUnsealer, make_context

# Defects of sealers and unsealers


class SealsInClear(Sealer):
    def mask(self, number: int, octets: bytes) -> bytes:
        return octets


class OpensClear(Unsealer):
    mask = SealsInClear.mask


class SealsAlike(Sealer):
    def seal(self, message: Octets) -> bytes:
        self.number = 0
        return super().seal(message)


class OpensAlike(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        self.number = 0
        return super().unseal(token)


class Swells(Sealer):
    def seal(self, message: Octets) -> bytes:
        return super().seal(message) + bytes(len(message) > 50)


class OpensSwollen(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        return super().unseal(token[:-1] if len(token) > 58 else token)


class LosesEmptyMessages(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        return super().unseal(token) or b"?"


class ReturnsABuffer(Unsealer):
    def unseal(self, token: Octets) -> Any:
        return bytearray(super().unseal(token))


class WorksInPlace(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        message = super().unseal(token)
        memory = memoryview(token)
        if not memory.readonly:
            memory[4:-4] = message
        return message


class IgnoresTheLastOctet(Unsealer):
    def check(self, head: bytes, plaintext: bytes, checksum: bytes) -> None:
        super().check(head, plaintext, checksum[:-1] + self.checksum(head, plaintext)[-1:])


class IgnoresWhatFollows(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        return super().unseal(token[:-1] if token[-1] == 0 and len(token) == 40 else token)


class TellsCausesApart(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        if len(token) < OVERHEAD:
            raise IntegrityError("a token that is too short")
        return super().unseal(token)


class FailsOtherwise(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        if len(token) < OVERHEAD:
            raise ProtocolError("a token that is too short")
        return super().unseal(token)


class Breaks(Unsealer):
    def unseal(self, token: Octets) -> bytes:
        return super().unseal(token) if len(token) else b"" + token[0].to_bytes(1, "big")


class TakesAnyNumber(Unsealer):
    def check_number(self, head: bytes) -> None:
        self.number = int.from_bytes(head, "big")


class TakesLaterNumbers(Unsealer):
    def check_number(self, head: bytes) -> None:
        self.number = max(self.number, int.from_bytes(head, "big"))
        super().check_number(head)


class TakesTheLastAgain(Unsealer):
    def check_number(self, head: bytes) -> None:
        if self.number and int.from_bytes(head, "big") == self.number - 1:
            self.number -= 1
        super().check_number(head)


class SealsBothWaysAlike(Sealer):
    def __init__(self, salt: str) -> None:
        super().__init__(salt.split()[1])


class OpensBothWaysAlike(Unsealer):
    def __init__(self, salt: str) -> None:
        super().__init__(salt.split()[1])


class SealsAllLoginsAlike(Sealer):
    def __init__(self, salt: str) -> None:
        super().__init__(salt.split()[0])


class OpensAllLoginsAlike(Unsealer):
    def __init__(self, salt: str) -> None:
        super().__init__(salt.split()[0])


class TellsThePlaintext(Unsealer):
    def check(self, head: bytes, plaintext: bytes, checksum: bytes) -> None:
        if checksum != self.checksum(head, plaintext):
            error = IntegrityError()
            error.add_note("no notes get out")
            error.__dict__["plaintext"] = plaintext
            raise error


class SaysThePlaintext(Unsealer):
    def check_number(self, head: bytes) -> None:
        return

    def check(self, head: bytes, plaintext: bytes, checksum: bytes) -> None:
        if checksum != self.checksum(head, plaintext):
            raise IntegrityError(f"bad: {plaintext.decode('latin-1')}")


# Defects of contexts


class CutsLongMessages(SecurityContext):
    def seal(self, message: Buffer) -> bytes:
        return super().seal(bytes(message)[:MAXIMUM])


class FailsOverLongMessages(SecurityContext):
    def seal(self, message: Buffer) -> bytes:
        if len(message) > MAXIMUM:
            self.fail(UsageError("too long"))
        return super().seal(message)


class TakesOctetsOnly(SecurityContext):
    def seal(self, message: Buffer) -> bytes:
        if isinstance(message, memoryview) and not message.contiguous:
            raise UsageError("contiguous octets only")
        return super().seal(message)


class CountsItems(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        return super().unseal(bytes(list(token)) if memoryview(token).itemsize > 1 else token)


class LetsSealersIn(SecurityContext):
    def seal(self, message: Buffer) -> bytes:
        return self._seal(memoryview(bytes(message)))


class BypassesItsSealer(SecurityContext):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kept = self._sealer

    def seal(self, message: Buffer) -> bytes:
        if self.kept is None or len(message) > MAXIMUM:
            return super().seal(message)
        return self.kept.seal(octets(message))


class Queues(SecurityContext):
    def _until_free(self, call: Callable[[Buffer], bytes], data: Buffer) -> bytes:
        while True:
            with contextlib.suppress(ContextBusyError):
                return call(data)
            time.sleep(0.001)


class QueuesSealers(Queues):
    def seal(self, message: Buffer) -> bytes:
        return self._until_free(super().seal, message)


class QueuesUnsealers(Queues):
    def unseal(self, token: Buffer) -> bytes:
        return self._until_free(super().unseal, token)


class OneLockForBoth(SecurityContext):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        object.__setattr__(self, "_unsealing", self._sealing)


class ClosesWithAFailure(SecurityContext):
    def close(self) -> None:
        self._fault = self._fault or SASLError("closed")
        super().close()


class StaysOpen(SecurityContext):
    def close(self) -> None:
        return


class IsCopied(SecurityContext):
    def __reduce__(self) -> Any:
        return object, ()


class TakesLongTokens(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        return super().unseal(bytes(token)[: self.local_maxbuf])


class LivesOn(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        kept = self._sealer, self._unsealer
        try:
            return super().unseal(token)
        except SASLError:
            self._sealer, self._unsealer = kept
            raise


class SealsOn(SecurityContext):
    @property
    def alive(self) -> bool:
        return super().alive and not self.failed

    def fail(self, error: SASLError) -> SASLError:
        sealer = self._sealer
        fault = super().fail(error)
        self._sealer = sealer
        return fault


class OpensOn(SecurityContext):
    @property
    def alive(self) -> bool:
        return super().alive and not self.failed

    def fail(self, error: SASLError) -> SASLError:
        unsealer = self._unsealer
        fault = super().fail(error)
        self._unsealer = unsealer
        return fault


class FailsOtherwiseLater(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        self.check_alive()
        return super().unseal(token)

    def check_alive(self) -> None:
        if self.failed:
            raise SASLError("it is dead")


class RaisesTheSame(SecurityContext):
    @property
    def fault(self) -> SASLError | None:
        return self._fault


class HasACause(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        try:
            return super().unseal(token)
        except IntegrityError as error:
            raise error from ValueError("padding")


class LetsGoOfThePlaintext(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        opened = getattr(self._unsealer, "mask", lambda *_: b"")(0, bytes(token)[4:-4])
        try:
            return super().unseal(token)
        finally:
            del token, opened


class LeavesThePlaintext(SecurityContext):
    def unseal(self, token: Buffer) -> bytes:
        mask = getattr(self._unsealer, "mask", lambda *_: b"")
        opened = mask(getattr(self._unsealer, "number", 0), bytes(token)[4:-4])
        message = super().unseal(token)
        del opened
        return message


Options: TypeAlias = dict[str, Any]

DEFECTS: list[tuple[str, Options, str]] = [
    ("clear", {"sealer": SealsInClear, "unsealer": OpensClear}, "concealed"),
    ("alike", {"sealer": SealsAlike, "unsealer": OpensAlike}, "concealed"),
    ("swells", {"sealer": Swells, "unsealer": OpensSwollen}, "sizes"),
    ("over maxbuf", {"peer_maxbuf": MAXIMUM}, "sizes"),
    ("no layer", {"qop": QOP.AUTH}, "described"),
    ("ssf", {"ssf": 1}, "described"),
    ("cipher", {"cipher": None}, "described"),
    ("no cipher", {"qop": QOP.AUTH_INT, "ssf": 1}, "described"),
    ("blocks", {"sizes": Sizes(4096, 8, 8, OVERHEAD)}, "described"),
    ("maxbuf", {"peer_maxbuf": 1001}, "described"),
    ("empty", {"unsealer": LosesEmptyMessages}, "round_trip"),
    ("bytearray", {"unsealer": ReturnsABuffer}, "any_buffer"),
    ("in place", {"unsealer": WorksInPlace}, "any_buffer"),
    ("octets only", {"context": TakesOctetsOnly}, "any_buffer"),
    ("items", {"context": CountsItems}, "any_buffer"),
    ("cuts", {"context": CutsLongMessages}, "over_the_maximum"),
    ("latches", {"context": FailsOverLongMessages}, "over_the_maximum"),
    ("lets in", {"context": LetsSealersIn}, "two_sealers"),
    ("bypasses", {"context": BypassesItsSealer}, "two_sealers"),
    ("queues sealers", {"context": QueuesSealers}, "two_sealers"),
    ("queues unsealers", {"context": QueuesUnsealers}, "two_unsealers"),
    ("one lock", {"context": OneLockForBoth}, "two_sealers"),
    ("fails closed", {"context": ClosesWithAFailure}, "closed"),
    ("stays open", {"context": StaysOpen}, "closed"),
    ("copied", {"context": IsCopied}, "copied"),
    ("last octet", {"unsealer": IgnoresTheLastOctet}, "altered"),
    ("what follows", {"unsealer": IgnoresWhatFollows}, "altered"),
    ("causes", {"unsealer": TellsCausesApart}, "altered"),
    ("another error", {"unsealer": FailsOtherwise}, "altered"),
    ("a foreign error", {"unsealer": Breaks}, "altered"),
    ("any number", {"unsealer": TakesAnyNumber}, "replayed"),
    ("later numbers", {"unsealer": TakesLaterNumbers}, "skipped"),
    ("the last again", {"unsealer": TakesTheLastAgain}, "replayed"),
    (
        "reflection",
        {"sealer": SealsBothWaysAlike, "unsealer": OpensBothWaysAlike},
        "reflected",
    ),
    (
        "another login",
        {"sealer": SealsAllLoginsAlike, "unsealer": OpensAllLoginsAlike},
        "foreign",
    ),
    ("long tokens", {"context": TakesLongTokens}, "too_long"),
    ("lives on", {"context": LivesOn}, "altered"),
    ("fails otherwise", {"context": FailsOtherwiseLater}, "sticky"),
    ("same object", {"context": RaisesTheSame}, "sticky"),
    ("opens on", {"context": OpensOn}, "swapped"),
    ("seals on", {"context": SealsOn}, "sticky"),
    ("cause", {"context": HasACause}, "silent"),
    ("told", {"unsealer": TellsThePlaintext}, "silent"),
    ("said", {"unsealer": SaysThePlaintext}, "altered"),
    ("kept", {"context": LeavesThePlaintext}, "silent"),
]


def test_a_sound_context_passes() -> None:
    check_security_context(make_pair)


def test_the_control_of_the_traceback_passes() -> None:
    """A frame that has let go of the plaintext is no offence."""
    check_security_context(lambda: make_pair(context=LetsGoOfThePlaintext))


@pytest.mark.parametrize(
    ("options", "rule"),
    [pytest.param(options, rule, id=name) for name, options, rule in DEFECTS],
)
def test_a_planted_defect_is_found_by_its_rule(
    options: Options, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.2)
    with pytest.raises(AssertionError) as caught:
        check_security_context(lambda: make_pair(**options))
    assert broken_rule(caught.value, RULES) == rule


def test_every_rule_finds_a_defect() -> None:
    assert {rule for *_, rule in DEFECTS} == names_of(RULES)


def test_ends_that_differ_are_found() -> None:
    def make() -> tuple[SecurityContext, SecurityContext]:
        return make_pair().client, make_pair(ssf=112).server

    with pytest.raises(AssertionError, match="Both ends say the same"):
        check_security_context(make)


def test_both_ends_are_looked_at() -> None:
    def make() -> tuple[SecurityContext, SecurityContext]:
        sound, defect = make_pair(), make_pair(context=IsCopied)
        return sound.client, _joined(sound, defect)

    def _joined(sound: ContextPair, defect: ContextPair) -> SecurityContext:
        defect.server._sealer, defect.server._unsealer = (
            sound.server._sealer,
            sound.server._unsealer,
        )
        return defect.server

    with pytest.raises(AssertionError, match="neither be copied"):
        check_security_context(make)


def test_a_rule_can_be_left_out() -> None:
    """The toys of the other tests know no directions and no logins."""

    def toys() -> tuple[SecurityContext, SecurityContext]:
        return make_context(ToySealer(), ToyUnsealer()), make_context(ToySealer(), ToyUnsealer())

    check_security_context(toys, leave_out=["reflected", "foreign"])
    with pytest.raises(AssertionError, match="back to its sender"):
        check_security_context(toys, leave_out=["foreign"])


@pytest.mark.parametrize(
    ("leave_out", "text"),
    [
        (["round_trips"], "the rules are described, round_trip, "),
        ("reflected", r"^leave_out takes several texts: leave_out=\[...\], not str$"),
    ],
)
def test_what_names_no_rules_is_refused(leave_out: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check_security_context(make_pair, leave_out=leave_out)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_pair(), "^make_pair is a function that gives a SecurityContext and .*, not "),
        (lambda: None, "^make_pair gives a SecurityContext and .*, in a tuple, not NoneType$"),
        (lambda: make_pair()[:1], "in a tuple, not tuple$"),
        (lambda: (make_pair()[0], 1), "^what make_pair gives is SecurityContext, not int$"),
        (mechanism_pair, "^what make_pair gives is SecurityContext, not DigestMD5Client$"),
    ],
)
def test_what_gives_no_contexts_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_security_context(make)


# Ours


@pytest.mark.parametrize("maxbufs", [(65536, 65536), (64, 100), (1 << 20, 41)], ids=str)
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_contexts_of_digest_md5(protection: str, maxbufs: tuple[int, int]) -> None:
    client_maxbuf, server_maxbuf = maxbufs
    check_security_context(
        lambda: context_pair(protection, client_maxbuf=client_maxbuf, server_maxbuf=server_maxbuf)
    )
