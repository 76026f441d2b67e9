from __future__ import annotations

import copy
import gc
import mmap
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from saslwrap.context import SecurityContext, octets
from saslwrap.errors import (
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    SecurityStatus,
    UsageError,
)
from tests.support import (
    KEY,
    PATIENCE,
    ToySealer,
    ToyUnsealer,
    at_work,
    make_context,
    nothing,
    tokens,
)

MARKER = b"marker-plaintext-of-ours"


def raiser(error: BaseException) -> Callable[[], object]:
    def raise_it() -> object:
        raise error

    return raise_it


def altered(token: bytes) -> bytes:
    return token[:-1] + bytes([token[-1] ^ 1])


class Both:
    """A context and its toys, so that both directions can be tried with the same words."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sealer, self.unsealer = ToySealer(), ToyUnsealer()
        self.context = make_context(self.sealer, self.unsealer)
        self._tokens = tokens(b"first", b"second", b"third")

    @property
    def toy(self) -> ToySealer | ToyUnsealer:
        return self.sealer if self.kind == "seal" else self.unsealer

    def call(self, index: int = 0) -> bytes:
        if self.kind == "seal":
            return self.context.seal([b"first", b"second", b"third"][index])
        return self.context.unseal(self._tokens[index])

    def result(self, index: int = 0) -> bytes:
        return (self._tokens if self.kind == "seal" else [b"first", b"second", b"third"])[index]


@pytest.fixture(params=["seal", "unseal"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def values_in(error: BaseException) -> Iterator[object]:
    """Give every local of the frames that a debugger would find, the test's own apart."""
    for link in (error, error.__cause__, error.__context__):
        traceback = link.__traceback__ if link else None
        while traceback:
            if traceback.tb_frame.f_code.co_filename != __file__:
                yield from traceback.tb_frame.f_locals.values()
            traceback = traceback.tb_next


def octets_of(value: object) -> bytes:
    try:
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
    except ValueError:  # a memoryview that was released
        return b""


def exposed(error: BaseException, *secrets: bytes) -> list[object]:
    """Give the locals that show one of the secrets, or its mirror image."""
    needles = [*secrets, *(secret[::-1] for secret in secrets)]
    found: list[object] = []
    for value in values_in(error):
        shown = octets_of(value) + repr(value).encode()
        found += [value] if any(needle in shown for needle in needles) else []
    return found


class Caught:
    """An error that was caught, with its traceback still alive."""

    def __init__(self, call: Callable[[], object], kind: type[BaseException]) -> None:
        with pytest.raises(kind) as info:
            call()
        self.error = info.value


def refusals(context: SecurityContext) -> list[BaseException]:
    calls: list[Callable[[], object]] = [
        lambda: context.seal(b"more"),
        lambda: context.unseal(tokens(b"more")[0]),
        context.check,
        lambda: context.seal(b"more"),
    ]
    return [Caught(call, SASLError).error for call in calls]


def test_a_message_comes_back() -> None:
    ours, theirs = make_context(), make_context()
    for message in (b"hello", b"", b"world"):
        assert theirs.unseal(ours.seal(message)) == message


def test_the_attributes_are_what_the_mechanism_said() -> None:
    context = make_context(maximum_message=92, local_maxbuf=500)
    assert (context.mechanism, context.qop, context.ssf, context.cipher) == (
        "TOY",
        "auth-conf",
        128,
        "toy",
    )
    assert context.stream_sizes.maximum_message == 92
    assert context.sizes.security_trailer == 8
    assert (context.local_maxbuf, context.peer_maxbuf) == (500, 100)


def mapped() -> memoryview:
    with tempfile.TemporaryFile() as file:
        file.write(b"abcdefgh")
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 8))


def spread(token: bytes) -> memoryview:
    return memoryview(bytes(octet for known in token for octet in (known, 0)))[::2]


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"abcdefgh",
    "bytearray": lambda: bytearray(b"abcdefgh"),
    "memoryview": lambda: memoryview(b"abcdefgh"),
    "a slice of a memoryview": lambda: memoryview(b"__abcdefgh__")[2:-2],
    "not contiguous": lambda: memoryview(b"a_b_c_d_e_f_g_h_")[::2],
    "backwards": lambda: memoryview(b"hgfedcba")[::-1],
    "items of four octets": lambda: memoryview(b"abcdefgh").cast("I"),
    "two dimensions": lambda: memoryview(b"abcdefgh").cast("B", (2, 4)),
    "signed octets": lambda: memoryview(b"abcdefgh").cast("b"),
    "array of octets": lambda: array("B", b"abcdefgh"),
    "array of shorts": lambda: array("H", b"abcdefgh"),
    "mmap": mapped,
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_any_buffer_goes_into_seal(make: Callable[[], Any]) -> None:
    assert make_context().seal(make()) == tokens(b"abcdefgh")[0]


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_any_buffer_counts_in_octets(make: Callable[[], Any]) -> None:
    """The guard: eight octets in two items are not under a maximum of seven."""
    context = make_context(maximum_message=7)
    with pytest.raises(UsageError, match="a message of 8 octets"):
        context.seal(make())


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda token: array("B", token),
        lambda token: memoryview(token).cast("I"),
        spread,
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "items of four octets", "not contiguous"],
)
def test_any_buffer_goes_into_unseal(make: Callable[[bytes], Any]) -> None:
    assert make_context().unseal(make(tokens(b"abcd")[0])) == b"abcd"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
def test_contiguous_octets_are_viewed_and_not_copied(make: Callable[[bytes], Any]) -> None:
    buffer = make(b"hello")
    assert octets(buffer).obj is memoryview(buffer).obj


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_any_buffer_is_viewed_as_octets(make: Callable[[], Any]) -> None:
    view = octets(make())
    assert (view.format, view.ndim, view.contiguous) == ("B", 1, True)
    assert view.tobytes() == b"abcdefgh"


def test_a_buffer_is_free_again_after_the_call() -> None:
    message, token = bytearray(b"hello"), bytearray(tokens(b"hello")[0])
    context = make_context()
    context.seal(message)
    context.unseal(token)
    message += b"!"
    token += b"!"


def test_text_is_no_buffer_and_spends_nothing() -> None:
    context, text = make_context(), "hello"
    call: Callable[[Any], bytes] = context.seal
    with pytest.raises(TypeError):
        call(text)
    assert context.seal(b"first") == tokens(b"first")[0]


def test_one_sealer_and_one_unsealer_work_at_the_same_time() -> None:
    both = Both("seal")
    with at_work(both.sealer, both.call):
        assert both.context.unseal(tokens(b"inbound")[0]) == b"inbound"
    with at_work(both.unsealer, lambda: both.context.unseal(tokens(b"", b"again")[1])) as future:
        assert both.context.seal(b"second") == both.result(1)
    assert future.result(PATIENCE) == b"again"


def test_a_second_of_a_kind_in_another_thread_is_refused_at_once(both: Both) -> None:
    """The guard: two sealers never share a sequence number or a cipher's state."""
    with at_work(both.toy, both.call) as future:
        with pytest.raises(ContextBusyError, match=f"another {both.kind}er is at work"):
            both.call(1)
        assert not future.done()
    assert future.result(PATIENCE) == both.result()
    assert both.call(1) == both.result(1)
    assert not both.context.failed


@pytest.mark.parametrize("name", ["seal", "seal_in_place", "sign"])
def test_sealing_in_place_and_signing_are_done_by_the_same_sealer(name: str) -> None:
    """The guard: a token in pieces never shares a sequence number with a whole one."""
    sealer = ToySealer()
    context = make_context(sealer, cipher=None)
    with at_work(sealer, lambda: context.seal(b"first")):
        error = Caught(
            lambda: getattr(context, name)(memoryview(bytearray(5))), ContextBusyError
        ).error
        assert "another sealer is at work" in str(error)
    assert context.seal(b"second") == tokens(b"first", b"second")[1]


@pytest.mark.parametrize("name", ["unseal", "unseal_in_place", "verify"])
def test_unsealing_in_place_and_verifying_are_done_by_the_same_unsealer(name: str) -> None:
    unsealer = ToyUnsealer()
    context = make_context(unsealer=unsealer, cipher=None)
    parts = [memoryview(bytearray(8))] * (2 if name == "verify" else 1)
    with at_work(unsealer, lambda: context.unseal(tokens(b"first")[0])):
        error = Caught(lambda: getattr(context, name)(*parts), ContextBusyError).error
        assert "another unsealer is at work" in str(error)
    assert context.unseal(tokens(b"first", b"second")[1]) == b"second"


@pytest.mark.parametrize(
    "view",
    [b"octets", bytearray(4), memoryview(b"abcd").cast("H"), memoryview(b"a_b_")[::2]],
    ids=["bytes", "bytearray", "items of two octets", "not contiguous"],
)
def test_what_cannot_be_signed_is_refused(view: Any) -> None:
    context = make_context(cipher=None)
    calls: list[Callable[[], object]] = [
        lambda: context.sign(view),
        lambda: context.verify(view, memoryview(bytes(8))),
        lambda: context.verify(memoryview(bytes(8)), view),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="takes a memoryview of contiguous octets"):
            call()
    assert not context.failed


def test_a_second_of_a_kind_by_reentrancy_is_refused(both: Both) -> None:
    caught: list[BaseException] = []
    both.toy.on_call = lambda: caught.append(Caught(both.call, ContextBusyError).error)
    assert both.call() == both.result()
    assert len(caught) == 1
    both.toy.on_call = nothing
    assert both.call(1) == both.result(1)


def test_a_context_can_carry_at_least_one_octet() -> None:
    assert make_context(maximum_message=1).seal(b"x") == tokens(b"x")[0]
    with pytest.raises(UsageError, match="maxbuf of 8 octets can carry no message"):
        make_context(maximum_message=0)


def test_a_message_over_the_maximum_is_refused_and_spends_nothing() -> None:
    context = make_context(maximum_message=5)
    with pytest.raises(UsageError, match="6 octets is over the maximum message of 5"):
        context.seal(b"123456")
    assert not context.failed
    assert context.seal(b"12345") == tokens(b"12345")[0]


def test_a_sealer_that_refuses_before_it_spends_does_not_latch() -> None:
    both = Both("seal")
    both.sealer.on_call = raiser(UsageError("the counter would wrap"))
    with pytest.raises(UsageError, match="the counter would wrap"):
        both.call()
    both.sealer.on_call = nothing
    assert both.call() == both.result()


def test_a_token_of_the_local_maxbuf_is_taken_and_one_over_it_latches() -> None:
    token = tokens(bytes(12))[0]
    assert make_context(local_maxbuf=20).unseal(token) == bytes(12)
    context = make_context(local_maxbuf=19)
    with pytest.raises(FrameTooLargeError, match="20 octets, our maxbuf is 19"):
        context.unseal(token)
    assert [type(error) for error in refusals(context)] == [FrameTooLargeError] * 4


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda token: altered(token), IntegrityError),
        (lambda token: token[:4] + b"x" + token[5:], IntegrityError),
        (lambda token: token[:-1], IntegrityError),
        (lambda token: token[:4], IntegrityError),
        (lambda token: tokens(b"", b"second")[1], OutOfSequenceError),
    ],
    ids=["checksum", "message", "cut", "stump", "sequence"],
)
def test_the_first_failure_kills_both_directions_for_good(
    wrong: Callable[[bytes], bytes], kind: type[SASLError]
) -> None:
    """The guard: after one forged token neither a good token nor our own plaintext passes."""
    context, token = make_context(), tokens(b"first")[0]
    first = Caught(lambda: context.unseal(wrong(token)), SASLError).error
    assert type(first) is kind
    assert context.failed
    for error in refusals(context):
        assert type(error) is kind
        assert str(error) == str(first)


def test_every_cause_inside_a_token_looks_the_same() -> None:
    """The guard: a padding oracle needs two answers."""
    token = tokens(b"first")[0]
    shapes = set()
    for wrong in (altered(token), token[:4] + b"x" + token[5:], token[:-1], token[:7]):
        error = Caught(partial(make_context().unseal, wrong), SASLError).error
        shapes.add((type(error), str(error), error.__cause__, error.__context__))
    assert len(shapes) == 1


def test_each_refusal_is_a_new_exception_without_cause_or_context() -> None:
    context = make_context()
    errors = [Caught(lambda: context.unseal(b"forged-token"), SASLError).error]
    errors += refusals(context)
    assert len({id(error) for error in errors}) == len(errors)
    assert {error.__cause__ for error in errors} == {None}
    assert {error.__context__ for error in errors} == {None}


def test_the_cause_of_a_mechanism_error_does_not_leave_the_context() -> None:
    """The guard: `raise IntegrityError from padding_error` in a mechanism tells nobody."""
    unsealer = ToyUnsealer()
    error = IntegrityError()
    error.__cause__ = error.__context__ = ValueError("invalid padding")
    unsealer.on_call = raiser(error)
    context = make_context(unsealer=unsealer)
    first = Caught(lambda: context.unseal(bytes(8)), IntegrityError).error
    for caught in (first, *refusals(context)):
        assert caught.__cause__ is None
        assert caught.__context__ is None


def test_what_a_caller_does_to_the_error_does_not_reach_later_ones() -> None:
    context = make_context()
    first = Caught(lambda: context.unseal(bytes(8)), SASLError).error
    text = str(first)
    first.args = ("told by the caller",)
    first.add_note("a note of the caller")
    for error in refusals(context):
        assert str(error) == text
        assert not hasattr(error, "__notes__")


def test_an_error_dies_with_its_last_handler(both: Both) -> None:
    """The guard: no frame, and no buffer of the caller's, waits for the cycle collector."""
    both.toy.on_call = raiser(IntegrityError())
    gc.disable()
    try:
        try:
            both.call()
        except IntegrityError as error:
            reference = weakref.ref(error)
        assert reference() is None
    finally:
        gc.enable()


def test_a_sealer_that_fails_latches() -> None:
    both = Both("seal")
    both.sealer.on_call = raiser(SASLError("the provider gave up"))
    first = Caught(both.call, SASLError).error
    assert first.__traceback__
    both.sealer.on_call = nothing
    assert {str(error) for error in refusals(both.context)} == {"the provider gave up"}


def test_a_failure_lets_the_other_direction_finish_its_call() -> None:
    both = Both("seal")
    with at_work(both.sealer, both.call) as future, pytest.raises(IntegrityError):
        both.context.unseal(bytes(12))
    assert future.result(PATIENCE) == both.result()
    with pytest.raises(IntegrityError):
        both.call(1)


def test_the_first_of_two_failures_stays() -> None:
    both = Both("seal")
    both.sealer.on_call = nothing
    with at_work(both.sealer, both.call) as future:
        with pytest.raises(OutOfSequenceError):
            both.context.unseal(tokens(b"", b"late")[1])
        both.context.fail(ProtocolError("the later one"))
    future.result(PATIENCE)
    assert {type(error) for error in refusals(both.context)} == {OutOfSequenceError}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_an_interrupted_call_latches_and_the_interrupt_passes(
    both: Both, interrupt: type[BaseException]
) -> None:
    """The guard: a cipher's state that was left half-way is never used again."""
    both.toy.on_call = raiser(interrupt("half-way"))
    with pytest.raises(interrupt, match="half-way"):
        both.call()
    both.toy.on_call = nothing
    assert both.context.failed
    for error in refusals(both.context):
        assert type(error) is SASLError
        assert "interrupted" in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None


def test_an_interrupt_that_is_refused_later_does_not_hide_the_first_failure() -> None:
    both = Both("seal")

    def fail_meanwhile() -> None:
        with pytest.raises(IntegrityError):
            both.context.unseal(bytes(8))
        raise KeyboardInterrupt

    both.sealer.on_call = fail_meanwhile
    with pytest.raises(KeyboardInterrupt):
        both.call()
    assert {type(error) for error in refusals(both.context)} == {IntegrityError}


def test_fail_latches_and_gives_what_to_raise() -> None:
    context = make_context()
    error = ProtocolError("the framing broke")
    fresh = context.fail(error)
    assert fresh is not error
    assert (type(fresh), str(fresh)) == (ProtocolError, "the framing broke")
    assert {str(refusal) for refusal in refusals(context)} == {"the framing broke"}
    assert str(context.fail(ProtocolError("a later one"))) == "the framing broke"


def test_a_closed_context_refuses_and_is_not_failed() -> None:
    context = make_context()
    context.close()
    context.close()
    assert not context.failed
    for error in refusals(context):
        assert type(error) is UsageError
        assert isinstance(error, SASLError)
        assert str(error) == "the security context is closed; log in anew for another"
        assert error.status == SecurityStatus.SEC_E_CONTEXT_EXPIRED


def test_check_passes_while_the_context_lives() -> None:
    make_context().check()


def test_closing_a_failed_context_keeps_its_failure() -> None:
    context = make_context()
    context.fail(ProtocolError("the framing broke"))
    context.close()
    assert {str(error) for error in refusals(context)} == {"the framing broke"}


def test_close_lets_a_call_in_another_thread_finish(both: Both) -> None:
    with at_work(both.toy, both.call) as future:
        both.context.close()
        other = Both("unseal" if both.kind == "seal" else "seal")
        other.context = both.context
        with pytest.raises(UsageError, match="closed"):
            other.call()
        with pytest.raises(ContextBusyError):
            both.call(1)
    assert future.result(PATIENCE) == both.result()
    with pytest.raises(UsageError, match="closed"):
        both.call(1)
    assert not both.context.failed


def close(context: SecurityContext) -> None:
    context.close()


def break_it(context: SecurityContext) -> None:
    with pytest.raises(IntegrityError):
        context.unseal(bytes(8) + b"altered")


@pytest.mark.parametrize(
    "end",
    [
        close,
        pytest.param(
            break_it,
        ),
    ],
)
def test_the_end_of_a_context_drops_its_keys(end: Callable[[SecurityContext], None]) -> None:
    both = Both("seal")
    toys: list[weakref.ref[object]] = [weakref.ref(both.sealer), weakref.ref(both.unsealer)]
    context = both.context
    del both
    end(context)
    gc.collect()
    assert [toy() for toy in toys] == [None, None]


def test_the_walk_over_a_traceback_finds_what_a_careless_raise_shows() -> None:
    token = tokens(MARKER)[0]
    error = Caught(lambda: ToyUnsealer().unseal(memoryview(altered(token))), IntegrityError).error
    assert MARKER in exposed(error, MARKER)
    assert KEY in exposed(error, KEY)


@pytest.mark.parametrize("wrong", [altered, lambda _: tokens(b"", MARKER)[1]])
def test_no_plaintext_or_key_in_the_traceback_of_a_failed_unseal(
    wrong: Callable[[bytes], bytes],
) -> None:
    """The guard: a log or a debugger that shows locals shows neither plaintext nor key.

    The toy's token shows its message mirrored, so the token is left out of what may be found.
    """
    context, token = make_context(), wrong(tokens(MARKER)[0])
    error = Caught(lambda: context.unseal(token), IntegrityError).error
    assert [value for value in exposed(error, MARKER, KEY) if value != token] == []
    again = Caught(lambda: context.unseal(b"later"), IntegrityError).error
    assert exposed(again, MARKER, KEY) == []


def test_the_traceback_of_a_failed_unseal_does_not_lead_to_the_unsealer() -> None:
    """The guard: keys and cipher states are gone although the error is still being handled."""
    unsealer = ToyUnsealer()
    context, reference = make_context(unsealer=unsealer), weakref.ref(unsealer)
    del unsealer
    caught = Caught(lambda: context.unseal(bytes(8)), IntegrityError)
    assert caught.error.__traceback__
    assert not isinstance(reference(), ToyUnsealer)


def test_no_plaintext_or_key_in_the_traceback_of_an_interrupted_unseal() -> None:
    unsealer = ToyUnsealer()
    unsealer.on_call = raiser(KeyboardInterrupt())
    context, token = make_context(unsealer=unsealer), tokens(MARKER)[0]
    error = Caught(lambda: context.unseal(token), KeyboardInterrupt).error
    assert [value for value in exposed(error, MARKER, KEY) if value != token] == []


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, pickle.dumps, lambda context: pickle.dumps(context, protocol=0)],
    ids=["copy", "deepcopy", "pickle", "pickle 0"],
)
def test_a_context_cannot_be_copied_or_pickled(
    duplicate: Callable[[SecurityContext], object],
) -> None:
    """The guard: a copy would use the same keys and sequence numbers twice."""
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(make_context())


def test_the_repr_shows_state_and_strength_and_no_secret() -> None:
    context = make_context()
    context.seal(MARKER)
    assert repr(context) == "<SecurityContext TOY auth-conf toy ssf=128>"
    assert repr(make_context(cipher=None)) == "<SecurityContext TOY auth-int ssf=1>"
    context.close()
    assert repr(context) == "<SecurityContext TOY auth-conf toy ssf=128 closed>"
    context.fail(ProtocolError("x"))
    assert repr(context) == "<SecurityContext TOY auth-conf toy ssf=128 failed>"
