"""Both sides of a login, and somebody who carries the messages between them, or something else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from saslwrap import SASLError, UsageError
from saslwrap.mechanism import Mechanism
from tests.gss_pairs import write_ntlm_users
from tests.machines.direction import alter, amounts, kinds, other, places, sides
from tests.machines.logins import DIGEST_MD5, GSS, NTLM, MakeLogin, check_agreement

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class LoginMachine(RuleBasedStateMachine):
    """Nobody gets in without the password, and no two sides believe in different logins."""

    def __init__(self, make: MakeLogin, *, has_password: bool) -> None:
        super().__init__()
        self.make = make
        self.has_password = has_password

    @initialize(honest=st.booleans())
    def begin(self, honest: bool) -> None:
        self.honest = honest or not self.has_password
        self.sides: dict[str, Mechanism] = dict(self.make(self.honest)._asdict())
        self.inbox: dict[str, bytes | None] = {"client": None, "server": None}
        self.turn = "client"
        self.heard: list[bytes] = []
        self.faults: dict[str, SASLError | None] = {"client": None, "server": None}
        self.untouched = True

    @rule(turns=st.integers(1, 8))
    def carry(self, turns: int) -> None:
        """Hand over what is there, as it is, turn by turn."""
        for _ in range(turns):
            side = self.turn
            if self.sides[side].complete and self.inbox[side] is None:
                break
            self.say(side, self.inbox[side])

    @rule(side=sides, message=st.one_of(st.none(), st.binary(max_size=40)))
    def make_up(self, side: str, message: bytes | None) -> None:
        self.untouched = False
        self.say(side, message)

    @rule(side=sides, kind=kinds, at=places, much=amounts)
    def tamper(self, side: str, kind: str, at: int, much: int) -> None:
        if (message := self.inbox[side]) is not None:
            altered = bytearray(message)
            alter(altered, kind, at, much)
            self.untouched &= altered == message
            self.say(side, bytes(altered))

    @precondition(lambda self: self.heard)
    @rule(side=sides, which=places)
    def repeat(self, side: str, which: int) -> None:
        self.untouched = False
        self.say(side, self.heard[which % len(self.heard)])

    def say(self, side: str, message: bytes | None) -> None:
        """Let a side hear a message, and give its answer to the other one."""
        mechanism, fault = self.sides[side], self.faults[side]
        self.inbox[side], self.turn = None, other(side)
        try:
            reply = mechanism.step(message)
        except SASLError as error:
            self.faults[side] = fault or error
            self.judge(fault, error)
        else:
            assert fault is None
            self.inbox[other(side)] = reply
            self.heard += [reply] if reply is not None else []

    def judge(self, fault: SASLError | None, error: SASLError) -> None:
        assert not isinstance(error, UsageError)
        assert error.__cause__ is None
        assert fault is None or (type(error), str(error)) == (type(fault), str(fault))

    @invariant()
    def nobody_gets_in_without_the_password(self) -> None:
        for mechanism in getattr(self, "sides", {}).values():
            assert self.honest or not mechanism.complete
            assert mechanism.authcid is None or "alice" in mechanism.authcid

    @invariant()
    def there_is_no_context_before_the_end(self) -> None:
        for mechanism in getattr(self, "sides", {}).values():
            if not mechanism.complete:
                with pytest.raises(UsageError):
                    _ = mechanism.context

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        if self.untouched:
            self.carry(8)
        client, server = self.sides["client"], self.sides["server"]
        if self.untouched and self.honest:
            assert client.complete
            assert server.complete
        if client.complete and server.complete and self.faults == dict.fromkeys(self.faults):
            agreed = check_agreement(client.context, server.context)
            assert agreed or not self.untouched


def run(make: MakeLogin, *, has_password: bool, examples: int = 100) -> None:
    machine = partial(LoginMachine, make, has_password=has_password)
    run_state_machine_as_test(
        cast("Any", machine), settings=settings(SETTINGS, max_examples=examples)
    )


@pytest.mark.parametrize("name", DIGEST_MD5)
def test_digest_md5(name: str) -> None:
    run(DIGEST_MD5[name], has_password=True)


def test_ntlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spnego")
    write_ntlm_users(tmp_path, monkeypatch)
    run(NTLM["ntlm"], has_password=True, examples=30)


@pytest.mark.peer
@pytest.mark.usefixtures("alice_ticket")
@pytest.mark.parametrize("name", GSS)
def test_kerberos(name: str) -> None:
    """There is no wrong password here: a client has a ticket or it has none."""
    pytest.importorskip("spnego")
    run(GSS[name], has_password=False, examples=30)
