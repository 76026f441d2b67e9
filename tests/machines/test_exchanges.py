"""Both halves of a login over a protocol, and somebody who has the octets between them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from saslwrap import (
    ClientMechanism,
    Done,
    Exchange,
    NeedData,
    SASLError,
    Send,
    ServerMechanism,
    Step,
    UsageError,
)
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from tests.machines.direction import alter, amounts, kinds, other, places, sides
from tests.machines.logins import DIGEST_MD5, check_agreement

Halves = tuple[Exchange, Exchange]
MakeHalves = Callable[[ClientMechanism, Callable[[], ServerMechanism]], Halves]

EVERYTHING = 1 << 20


def ldap(client: ClientMechanism, make_server: Callable[[], ServerMechanism]) -> Halves:
    return LDAPBind(client), LDAPBindServer({"DIGEST-MD5": make_server})


def imap(client: ClientMechanism, make_server: Callable[[], ServerMechanism]) -> Halves:
    server = IMAPAuthenticateServer({"DIGEST-MD5": make_server})
    return IMAPAuthenticate(client, initial_response=True), server


def pop3(client: ClientMechanism, make_server: Callable[[], ServerMechanism]) -> Halves:
    return POP3Auth(client), POP3AuthServer({"DIGEST-MD5": make_server})


def sieve(client: ClientMechanism, make_server: Callable[[], ServerMechanism]) -> Halves:
    return SieveAuthenticate(client), SieveAuthenticateServer({"DIGEST-MD5": make_server})


def smtp(client: ClientMechanism, make_server: Callable[[], ServerMechanism]) -> Halves:
    return SMTPAuth(client), SMTPAuthServer({"DIGEST-MD5": make_server})


class ExchangeMachine(RuleBasedStateMachine):
    """Any cut, any octet, any moment to give up: a login, or an error that stays."""

    def __init__(self, make: MakeHalves) -> None:
        super().__init__()
        self.make = make

    @initialize(
        protection=st.sampled_from(sorted(DIGEST_MD5)),
        honest=st.booleans(),
        frame=st.binary(max_size=40),
    )
    def begin(self, protection: str, honest: bool, frame: bytes) -> None:
        pair = DIGEST_MD5[protection](honest)
        client, server = self.make(pair.client, lambda: pair.server)
        self.honest = honest
        self.halves = {"client": client, "server": server}
        self.under_way = {"client": bytearray(), "server": bytearray()}  # to that side
        self.frame = frame  # what each side sends as soon as the login is done
        self.arrived = {"client": 0, "server": 0}
        self.faults: dict[str, SASLError | None] = {"client": None, "server": None}
        self.done: set[str] = set()
        self.untouched = True

    @rule(side=sides)
    def crank(self, side: str) -> None:
        """Do what a half says is next; after a message, what is next then."""
        if side in self.done:
            return
        try:
            event = self.halves[side].advance()
        except SASLError as error:
            fault, self.faults[side] = self.faults[side], error
            self.judge(fault, error)
        else:
            assert self.faults[side] is None
            self.do(side, event)

    def do(self, side: str, event: object) -> None:
        match event:
            case Send(data):
                assert data
                self.under_way[other(side)] += data
                self.crank(side)
            case Step():
                self.halves[side].step()
            case Done():
                self.done.add(side)
                self.under_way[other(side)] += self.frame
            case NeedData():
                assert self.halves[side].advance() == event

    def judge(self, fault: SASLError | None, error: SASLError) -> None:
        assert not isinstance(error, UsageError)
        assert error.__cause__ is None
        assert fault is None or (type(error), str(error)) == (type(fault), str(fault))

    @rule(side=sides, count=amounts)
    def deliver(self, side: str, count: int) -> None:
        data = bytes(self.under_way[side][:count])
        del self.under_way[side][:count]
        self.arrived[side] += len(data)
        self.halves[side].receive_data(data)

    @rule(side=sides, kind=kinds, at=places, much=amounts)
    def tamper(self, side: str, kind: str, at: int, much: int) -> None:
        before = bytes(self.under_way[side])
        alter(self.under_way[side], kind, at, much)
        self.untouched &= before == self.under_way[side]

    @rule(side=sides, junk=st.binary(min_size=1, max_size=60))
    def inject(self, side: str, junk: bytes) -> None:
        self.under_way[side] += junk
        self.untouched = False

    @rule(side=sides)
    def end(self, side: str) -> None:
        self.halves[side].receive_eof()
        self.untouched = False

    @rule(side=sides)
    def give_up(self, side: str) -> None:
        with suppress(UsageError):  # it is over already
            self.under_way[other(side)] += self.halves[side].abort()
            self.untouched = False

    @rule(side=sides)
    def step_out_of_turn(self, side: str) -> None:
        with suppress(UsageError):  # a half whose step is due takes it
            self.halves[side].step()

    @rule(turns=st.integers(1, 30))
    def go_on(self, turns: int) -> None:
        """Let both go on, with all that is under way; stop where one of them is done."""
        done = set(self.done)
        for _ in range(turns):
            for side in ("client", "server"):
                self.deliver(side, EVERYTHING)
                self.crank(side)
                if self.done != done:
                    return

    @invariant()
    def nobody_gets_in_without_the_password(self) -> None:
        for half in getattr(self, "done", set()):
            assert self.honest
            assert self.halves[half].authcid == "alice"

    @invariant()
    def there_is_no_context_before_the_end(self) -> None:
        for side, half in getattr(self, "halves", {}).items():
            if side not in self.done:
                with pytest.raises(UsageError):
                    _ = half.context

    @invariant()
    def nothing_is_kept_that_did_not_arrive(self) -> None:
        for side, half in getattr(self, "halves", {}).items():
            assert len(half.trailing_data) <= self.arrived[side]

    def teardown(self) -> None:
        if not hasattr(self, "halves"):
            return
        if self.untouched:
            for _ in range(3):
                self.go_on(30)
            assert not self.honest or self.done == {"client", "server"}
            for side in self.done:
                self.deliver(side, EVERYTHING)
                assert self.halves[side].trailing_data == self.frame
        if self.done == {"client", "server"}:
            client, server = self.halves["client"], self.halves["server"]
            assert check_agreement(client.context, server.context) or not self.untouched


@pytest.mark.parametrize("make", [ldap, imap, pop3, sieve, smtp])
def test_a_login_over(make: MakeHalves) -> None:
    machine = cast("Any", partial(ExchangeMachine, make))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
