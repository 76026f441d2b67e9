"""Exchanges: failure, giving up, and what becomes of the transport."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    NegotiationError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import (
    Done,
    Exchange,
    NeedData,
    Script,
    Send,
    Step,
    check_kind,
    transport_survives,
)
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from tests.played_exchanges import failure, run, started
from tests.support import ToyExchange, ToyMechanism, make_context


def test_a_refusal_is_final() -> None:
    exchange = started()
    exchange.receive_data(b"NO\n")
    errors = [failure(exchange.advance) for _ in range(3)]
    assert {(type(error), str(error)) for error in errors} == {
        (AuthenticationError, "the server says NO")
    }
    assert len({id(error) for error in errors}) == 3
    assert {(error.__cause__, error.__context__) for error in errors} == {(None, None)}


def test_what_a_caller_does_to_the_error_does_not_reach_later_ones() -> None:
    exchange = started()
    exchange.receive_data(b"NO\n")
    error = failure(exchange.advance)
    error.args = ("changed",)
    error.add_note("a note")
    again = failure(exchange.advance)
    assert str(again) == "the server says NO"
    assert not hasattr(again, "__notes__")


def test_the_first_failure_stays() -> None:
    exchange = started()
    exchange.receive_data(b"x" * 16)
    first = str(failure(exchange.advance))
    exchange.receive_data(b"y" * 17)
    assert str(failure(exchange.advance)) == first


class Buggy(ToyExchange):
    """A login whose parser breaks after the mechanism was satisfied."""

    def _measure(self, buffer: bytearray) -> int | None:
        if buffer.startswith(b"?"):
            raise self.error
        return super()._measure(buffer)

    error: BaseException = ZeroDivisionError("a bug")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), MemoryError(), KeyboardInterrupt()])
def test_an_exception_inside_the_login_never_ends_in_done(error: BaseException) -> None:
    """The guard: fails closed. Without the success line there is no success."""
    exchange = Buggy(ToyMechanism(b"answer", context=make_context()))
    exchange.error = error
    exchange.receive_data(b"+c\n?")
    with pytest.raises(type(error)):
        run(exchange)
    for _ in range(2):
        again = failure(exchange.advance)
        assert "interrupted" in str(again)
        assert again.__cause__ is None
        assert again.__context__ is None
        assert not transport_survives(again)


def test_the_repr_shows_the_state() -> None:
    exchange = started()
    assert repr(exchange) == "<ToyExchange under way>"
    exchange.receive_data(b"+c\nOK\n")
    run(exchange)
    assert repr(exchange) == "<ToyExchange done>"


def test_an_exchange_cannot_be_copied() -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.copy(started())


def test_an_aborted_login_waits_for_the_peer_and_then_fails() -> None:
    exchange = started()
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    assert exchange.abort() == b"*\n"
    with pytest.raises(UsageError):
        exchange.step()
    assert [exchange.advance(), exchange.advance()] == [NeedData(), NeedData()]
    exchange.receive_data(b"NO\nrest")
    for _ in range(2):
        error = failure(exchange.advance)
        assert type(error) is AuthenticationError
        assert "aborted on our side" in str(error)
        assert transport_survives(error)
    assert exchange.trailing_data == b"rest"
    with pytest.raises(UsageError):
        exchange.context  # noqa: B018


def test_a_complete_mechanism_does_not_rescue_an_aborted_login() -> None:
    """The guard: even `OK`, as the answer to an abort, is no success."""
    exchange = started(ToyMechanism(b"answer", context=make_context()))
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    exchange.step()
    exchange.abort()
    exchange.receive_data(b"OK\n")
    assert type(failure(exchange.advance)) is AuthenticationError


def test_the_end_after_an_abort_is_truncation() -> None:
    exchange = started()
    exchange.abort()
    exchange.receive_eof()
    assert type(failure(exchange.advance)) is TruncatedStreamError


def fail(exchange: ToyExchange) -> None:
    exchange.receive_data(b"NO\n")
    failure(exchange.advance)


def fail_unseen(exchange: ToyExchange) -> None:
    exchange.receive_data(b"x" * 16)


def succeed(exchange: ToyExchange) -> None:
    exchange.receive_data(b"+c\nOK\n")
    run(exchange)


@pytest.mark.parametrize("end", [fail, fail_unseen, succeed])
def test_a_login_that_is_over_cannot_be_aborted(end: Callable[[ToyExchange], None]) -> None:
    exchange = started()
    end(exchange)
    with pytest.raises(UsageError, match="the login is over"):
        exchange.abort()


def test_a_login_is_aborted_once() -> None:
    exchange = started()
    assert exchange.abort() == b"*\n"
    with pytest.raises(UsageError, match="the login is over"):
        exchange.abort()
    exchange.receive_data(b"NO\n")
    assert type(failure(exchange.advance)) is AuthenticationError


def test_a_login_can_be_aborted_before_it_began() -> None:
    exchange = ToyExchange(ToyMechanism(b"answer"))
    exchange.abort()
    exchange.receive_data(b"NO\n")
    assert type(failure(exchange.advance)) is AuthenticationError


@pytest.mark.parametrize(
    ("error", "survives"),
    [
        (UsageError("x"), True),
        (ContextBusyError("x"), True),
        (MechanismUnavailableError("x"), True),
        (NegotiationError("x"), True),
        (AuthenticationError("x"), True),
        (MutualAuthenticationError("x"), False),
        (ProtocolError("x"), False),
        (MalformedMessageError("x"), False),
        (FrameTooLargeError(2, 1), False),
        (TruncatedStreamError("x"), False),
        (IntegrityError(), False),
        (OutOfSequenceError(), False),
        (KeyboardInterrupt(), False),
        (ValueError("x"), False),
        (OSError("x"), False),
        (SASLError("an earlier step was interrupted"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_failure_means_for_the_transport(error: BaseException, survives: bool) -> None:
    assert transport_survives(error) is survives


class Telling(ToyExchange):
    """Makes its mechanism's refusal known, and holds a success against it."""

    def _run(self) -> Script:
        answer = yield from self._ask(None)
        yield Send(answer or b"nothing")
        yield from self._message()
        self._require_complete()

    def _tell(self, refusal: SASLError) -> Script:
        yield Send(b"sorry: " + str(refusal).encode())


class Mute(Telling):
    _tell = Exchange._tell


def test_a_refusal_of_ours_is_told_before_it_is_raised() -> None:
    exchange = Telling(ToyMechanism(NegotiationError("too weak")))
    assert exchange.advance() == Step()
    exchange.step()
    assert exchange.advance() == Send(b"sorry: too weak")
    assert str(failure(exchange.advance)) == "too weak"


def test_a_protocol_without_words_for_it_just_raises() -> None:
    exchange = Mute(ToyMechanism(NegotiationError("too weak")))
    assert exchange.advance() == Step()
    exchange.step()
    assert str(failure(exchange.advance)) == "too weak"


def test_a_success_needs_a_mechanism_that_is_complete() -> None:
    exchange = Telling(ToyMechanism(b"one", b"two"))
    exchange.advance()
    exchange.step()
    assert exchange.advance() == Send(b"one")
    exchange.receive_data(b"OK\n")
    error = failure(exchange.advance)
    assert type(error) is MutualAuthenticationError
    assert "TOY is not complete" in str(error)
    with pytest.raises(MutualAuthenticationError, match="None is not complete"):
        ToyExchange(None)._require_complete()


def test_most_logins_have_nothing_to_say_afterwards() -> None:
    exchange = started()
    exchange.receive_data(b"+c\nOK\n")
    assert run_on(exchange) == Done()
    assert exchange.follow_up() is None


def run_on(exchange: Exchange) -> object:
    while not isinstance(event := exchange.advance(), Done):
        if event == Step():
            exchange.step()
    return event


def test_abandoned_it_fails_and_its_mechanism_with_it() -> None:
    mechanism = ToyMechanism(b"answer")
    exchange = started(mechanism)
    exchange.abandon()
    error = failure(exchange.advance)
    assert str(error) == "the login was interrupted; connect anew"
    assert not transport_survives(error)
    assert "given up" in str(failure(lambda: mechanism.step(b"c")))


def test_abandoned_after_a_failure_it_keeps_that() -> None:
    exchange = started()
    exchange.receive_data(b"NO\n")
    first = failure(exchange.advance)
    exchange.abandon()
    assert str(failure(exchange.advance)) == str(first) == "the server says NO"


def test_abandoned_after_success_it_takes_the_context_along() -> None:
    context = make_context()
    exchange = started(ToyMechanism(b"answer", context=context))
    exchange.receive_data(b"+c\nOK\n")
    run_on(exchange)
    exchange.abandon()
    assert not context.alive


@pytest.mark.parametrize("done", [False, True])
def test_what_leaves_the_transport_usable(done: bool) -> None:
    exchange = started(ToyMechanism(b"answer"))
    if done:
        exchange.receive_data(b"+c\nOK\n")
        run_on(exchange)
    assert exchange.leaves_usable(AuthenticationError("no")) is not done
    assert not exchange.leaves_usable(ProtocolError("what?"))
    assert not exchange.leaves_usable(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            ToyExchange(None),
            ClientMechanism,
            "a ClientMechanism, as DigestMD5Client(...) makes, not a ToyExchange",
        ),
        (
            ToyMechanism(),
            ServerMechanism,
            "a ServerMechanism, as DigestMD5Server(...) makes, not a ToyMechanism",
        ),
        (
            ToyExchange,
            Exchange,
            "an Exchange, as LDAPBind(mechanism) makes, not the class ToyExchange",
        ),
    ],
)
def test_what_cannot_log_in_is_refused_by_its_kind(
    given: object, kind: type[object], message: str
) -> None:
    with pytest.raises(UsageError) as info:
        check_kind(given, kind)
    assert str(info.value) == f"the login takes {message}"


def test_what_can_log_in_is_taken() -> None:
    check_kind(ToyMechanism(), ClientMechanism)
    check_kind(ToyExchange(None), Exchange)
