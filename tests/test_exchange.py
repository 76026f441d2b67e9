"""Exchanges: the crank, who logs in with what, steps, limits."""

from __future__ import annotations

import tracemalloc
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap.errors import (
    AuthenticationError,
    MutualAuthenticationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
)
from saslwrap.exchange import Done, Exchange, NeedData, Script, Send, Step, transport_survives
from saslwrap.properties import ChannelInfo
from tests.played_exchanges import failure, run, started
from tests.support import PATIENCE, ToyExchange, ToyMechanism, at_work, make_context


def test_a_login_goes_through() -> None:
    context = make_context()
    mechanism = ToyMechanism(b"one", b"", None, context=context)
    exchange = ToyExchange(mechanism)
    assert run(exchange, b"+c1\n", b"+\n", b"+c3\n", b"OK\n") == [b"AUTH toy\n", b"one\n", b"\n"]
    assert mechanism.messages == [b"c1", b"", b"c3"]
    assert exchange.context is context
    assert exchange.trailing_data == b""


def test_the_crank_says_what_is_due() -> None:
    exchange = started(ToyMechanism(b"answer"))
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    exchange.step()
    assert exchange.advance() == Send(b"answer\n")
    assert exchange.advance() == NeedData()
    exchange.receive_data(b"OK\n")
    assert exchange.advance() == Done()


def test_a_second_step_does_not_disturb_the_one_at_work() -> None:
    """The guard: a driver that steps twice keeps the login, and the mechanism sees one message."""
    mechanism = ToyMechanism(b"answer")
    exchange = started(mechanism)
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    with at_work(mechanism, exchange.step) as future:
        with pytest.raises(UsageError, match="only once"):
            exchange.step()
        assert exchange.advance() == Step()
    future.result(PATIENCE)
    assert exchange.advance() == Send(b"answer\n")
    assert mechanism.messages == [b"c"]


def test_what_comes_too_early_is_judged_when_its_turn_has_come() -> None:
    exchange = ToyExchange(ToyMechanism(b"answer"))
    exchange.receive_data(b"x" * 16)
    assert exchange.advance() == Send(b"AUTH toy\n")
    assert type(failure(exchange.advance)) is ProtocolError


def test_an_answer_is_repeated_until_it_is_done() -> None:
    exchange = started()
    assert exchange.advance() == NeedData()
    exchange.receive_data(b"+c")
    assert [exchange.advance(), exchange.advance()] == [NeedData(), NeedData()]
    exchange.receive_data(b"\n")
    assert [exchange.advance(), exchange.advance()] == [Step(), Step()]
    exchange.step()
    assert exchange.advance() == Send(b"answer\n")
    exchange.receive_data(b"OK\n")
    assert [exchange.advance(), exchange.advance()] == [Done(), Done()]


WIRE = b"+c1\n+c2\nOK\n"


@given(st.lists(st.integers(0, len(WIRE)), max_size=8).map(sorted))
@settings(deadline=None)
def test_any_segmentation_gives_the_same_login(cuts: list[int]) -> None:
    pieces = [WIRE[i:j] for i, j in zip([0, *cuts], [*cuts, len(WIRE)], strict=True)]
    mechanism = ToyMechanism(b"one", b"two")
    assert run(ToyExchange(mechanism), *pieces) == [b"AUTH toy\n", b"one\n", b"two\n"]
    assert mechanism.messages == [b"c1", b"c2"]


def test_octet_by_octet() -> None:
    exchange = ToyExchange(ToyMechanism(b"one", b"two"))
    pieces = [bytes([octet]) for octet in WIRE]
    assert run(exchange, *pieces) == [b"AUTH toy\n", b"one\n", b"two\n"]


def test_input_may_come_before_it_is_asked_for() -> None:
    exchange = ToyExchange(ToyMechanism(b"one", b"two"))
    exchange.receive_data(WIRE)
    assert run(exchange) == [b"AUTH toy\n", b"one\n", b"two\n"]


@pytest.mark.parametrize(
    "message",
    [
        bytearray(b"+abc\nOK\n"),
        memoryview(b"+abc\nOK\n"),
        memoryview(b"+abc\nOK\n").cast("I"),
        array("H", b"+abc\nOK\n"),
        pytest.param(
            memoryview(b"\nKO\ncba+")[::-1],
        ),
    ],
    ids=["bytearray", "memoryview", "items of four", "array", "strided"],
)
def test_any_buffer_comes_in(message: Any) -> None:
    exchange = started(ToyMechanism(b"answer"))
    exchange.receive_data(message)
    assert run(exchange) == [b"answer\n"]


@pytest.mark.parametrize("layer", [True, False], ids=["layer", "no layer"])
def test_what_follows_the_login_is_left_over(layer: bool) -> None:
    """The guard: what arrived with the success, or after, is ciphertext and is kept, whole."""
    context = make_context() if layer else None
    exchange = started(ToyMechanism(b"answer", context=context))
    exchange.receive_data(b"+c\nOK\n\x00\x00\x00")
    run(exchange)
    assert exchange.context is context
    assert exchange.trailing_data == b"\x00\x00\x00"
    exchange.receive_data(b"\x0d" + bytes(100))
    assert exchange.advance() == Done()
    assert exchange.trailing_data == b"\x00\x00\x00\x0d" + bytes(100)


def test_events_are_values_and_show_no_data() -> None:
    assert Send(b"x") == Send(b"x")
    assert (NeedData(), Step(), Done()) == (NeedData(), Step(), Done())
    assert "s3cret" not in repr(Send(b"s3cret"))


class Counted(ToyExchange):
    """A login of messages whose first octet is the length of the rest, known ahead of it."""

    def _run(self) -> Script:
        message = yield from self._message()
        yield Send(message)

    def _measure(self, buffer: bytearray) -> int | None:
        return buffer[0] + 1 if buffer else None


def test_a_message_of_known_length_is_awaited_whole() -> None:
    """The guard: a length that is known early does not let half a message through."""
    exchange = Counted(ToyMechanism())
    for octet in b"\x05hell":
        assert exchange.advance() == NeedData()
        exchange.receive_data(bytes([octet]))
    assert exchange.advance() == NeedData()
    exchange.receive_data(b"o!")
    assert exchange.advance() == Send(b"\x05hello")
    assert exchange.trailing_data == b"!"


def test_the_mechanism_stands_behind_the_face() -> None:
    mechanism = ToyMechanism(b"answer")
    mechanism.authzid = "bob"
    mechanism.may_block = True
    exchange = ToyExchange(mechanism)
    assert exchange.mechanism is mechanism
    assert exchange.may_block
    assert (exchange.authcid, exchange.authzid) == ("alice", "bob")


def test_a_server_without_a_mechanism_yet_knows_nobody() -> None:
    exchange = ToyExchange(None)
    assert exchange.mechanism is None
    assert not exchange.may_block
    assert exchange.authcid is None
    assert exchange.authzid is None
    with pytest.raises(UsageError):
        exchange.context  # noqa: B018 - the access is what raises
    exchange.receive_data(b"OK\n")
    with pytest.raises(MutualAuthenticationError):
        run(exchange)


def test_there_is_no_context_before_done() -> None:
    """The guard: a layer is not installed before the success was read, complete or not."""
    exchange = started(ToyMechanism(b"answer", context=make_context()))
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    exchange.step()
    assert exchange.mechanism
    assert exchange.mechanism.complete
    with pytest.raises(UsageError, match=r"before advance\(\) returned Done"):
        exchange.context  # noqa: B018


def test_an_exchange_begins_with_what_was_read_before() -> None:
    exchange = ToyExchange(ToyMechanism(b"answer"))
    exchange.begin(b"+c\nOK")
    assert exchange.trailing_data == b"+c\nOK"
    assert exchange.advance() == Send(b"AUTH toy\n")
    assert exchange.advance() == Step()


def test_an_exchange_begins_once() -> None:
    exchange = ToyExchange(ToyMechanism(b"answer"))
    exchange.advance()
    with pytest.raises(UsageError, match="an exchange is one login's: make a new one"):
        exchange.begin(b"OK\n")
    assert exchange.trailing_data == b""


def test_the_channel_reaches_the_mechanism() -> None:
    mechanism, info = ToyMechanism(b"x"), ChannelInfo(128, b"binding")
    ToyExchange(mechanism).bind_channel(info)
    assert mechanism._channel == info


@pytest.mark.parametrize("mechanism", [ToyMechanism(), None], ids=["known", "chosen later"])
def test_the_channel_is_told_by_its_own_kind(mechanism: ToyMechanism | None) -> None:
    info: Any = None
    with pytest.raises(UsageError, match=r"^info is ChannelInfo, not NoneType$"):
        ToyExchange(mechanism).bind_channel(info)


@pytest.mark.parametrize("info", [ChannelInfo(128), None])
def test_the_channel_reaches_a_mechanism_that_is_chosen_later(info: ChannelInfo | None) -> None:
    exchange, mechanism = ToyExchange(None), ToyMechanism(b"x")
    if info:
        exchange.bind_channel(info)
    exchange._set_mechanism(mechanism)
    assert exchange.mechanism is mechanism
    assert mechanism._channel == (info or ChannelInfo())


def test_a_step_that_was_not_asked_for_is_misuse() -> None:
    mechanism = ToyMechanism(b"answer")
    exchange = ToyExchange(mechanism)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"answers a Step of advance\(\), and only once"):
            exchange.step()
        exchange.advance()
    assert mechanism.messages == []
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    exchange.step()
    with pytest.raises(UsageError):
        exchange.step()
    assert exchange.advance() == Send(b"answer\n")


@pytest.mark.parametrize("error", [AuthenticationError("refused"), ProtocolError("no parse")])
def test_what_the_mechanism_finds_wrong_comes_out_of_advance(error: SASLError) -> None:
    exchange = started(ToyMechanism(error))
    exchange.receive_data(b"+c\nOK\n")
    assert exchange.advance() == Step()
    exchange.step()
    errors = [failure(exchange.advance) for _ in range(3)]
    assert {(type(again), str(again)) for again in errors} == {(type(error), str(error))}
    assert len({id(again) for again in [error, *errors]}) == 4
    assert {(again.__cause__, again.__context__) for again in errors} == {(None, None)}


def test_an_interrupted_step_ends_the_login() -> None:
    """The guard: no stale answer goes out in place of the one that was never made."""
    exchange = started(ToyMechanism(b"first", KeyboardInterrupt()))
    exchange.receive_data(b"+c1\n+c2\n")
    assert exchange.advance() == Step()
    exchange.step()
    assert exchange.advance() == Send(b"first\n")
    assert exchange.advance() == Step()
    with pytest.raises(KeyboardInterrupt):
        exchange.step()
    error = failure(exchange.advance)
    assert "interrupted" in str(error)
    assert not transport_survives(error)


def test_while_a_step_is_at_work_the_answer_stays_step() -> None:
    """The guard: a driver that turns the crank while a KDC is asked sends nothing stale."""
    seen: list[object] = []

    class Slow(ToyMechanism):
        def _step(self, message: bytes | None) -> bytes | None:
            seen.append(exchange.advance())
            return super()._step(message)

    exchange = started(Slow(b"answer"))
    exchange.receive_data(b"+c\n")
    assert exchange.advance() == Step()
    exchange.step()
    assert seen == [Step()]


def test_success_before_the_mechanism_is_satisfied_is_no_success() -> None:
    exchange = started()
    exchange.receive_data(b"OK\n")
    assert type(failure(exchange.advance)) is MutualAuthenticationError
    with pytest.raises(UsageError):
        exchange.context  # noqa: B018


@pytest.mark.parametrize("pieces", [[b"x" * 16], [b"x"] * 16, [b"+c\n" + b"x" * 16], [b"x" * 1000]])
def test_a_line_over_the_limit_ends_the_login(pieces: list[bytes]) -> None:
    exchange = started()
    with pytest.raises(ProtocolError, match="a line over 16 octets"):
        run(exchange, *pieces)
    assert type(failure(exchange.advance)) is ProtocolError


def test_a_line_of_the_limit_passes() -> None:
    mechanism = ToyMechanism(b"answer")
    run(ToyExchange(mechanism), b"+" + b"c" * 14 + b"\n", b"OK\n")
    assert mechanism.messages == [b"c" * 14]


def test_an_oversized_line_is_not_kept() -> None:
    """The guard: nobody fills our memory before the login."""
    exchange = started()
    exchange.receive_data(b"x" * 100000)
    assert exchange.trailing_data == b""


def test_a_limit_is_judged_at_once_and_taking_in_never_raises() -> None:
    exchange = started()
    for _ in range(15):
        exchange.receive_data(b"x")
        assert exchange.advance() == NeedData()
    exchange.receive_data(b"x")
    assert repr(exchange) == "<ToyExchange failed>"


def grown_by(exchange: Exchange) -> int:
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(64):
            exchange.receive_data(chunk)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_input_over_the_limit_leaves_memory_flat() -> None:
    assert grown_by(started()) < 100000


def test_input_after_a_failure_leaves_memory_flat() -> None:
    exchange = started(ToyMechanism(b"answer"))
    exchange.receive_data(b"NO\n")
    failure(exchange.advance)
    assert grown_by(exchange) < 100000


@pytest.mark.parametrize("arrived", [b"", b"+", b"+c1", b"+c1\n", b"+c1\nO"])
def test_the_end_during_the_login_is_truncation(arrived: bytes) -> None:
    exchange = started()
    exchange.receive_data(arrived)
    exchange.receive_eof()
    with pytest.raises(TruncatedStreamError, match="closed the connection during the login"):
        run(exchange)
    assert type(failure(exchange.advance)) is TruncatedStreamError


def test_the_end_right_after_success_is_a_success() -> None:
    exchange = started()
    exchange.receive_data(b"+c\nOK\n")
    exchange.receive_eof()
    assert run(exchange) == [b"answer\n"]
