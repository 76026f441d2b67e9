from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from saslwrap import errors
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
    SecurityStatus,
    TruncatedStreamError,
    UnacceptableSuccessError,
    UsageError,
)

TREE: dict[type[SASLError], tuple[type[BaseException], ...]] = {
    SASLError: (Exception,),
    UsageError: (SASLError,),
    ContextBusyError: (UsageError,),
    MechanismUnavailableError: (SASLError,),
    NegotiationError: (SASLError,),
    AuthenticationError: (SASLError,),
    MutualAuthenticationError: (AuthenticationError,),
    ProtocolError: (SASLError, ConnectionError),
    UnacceptableSuccessError: (NegotiationError, ProtocolError),
    MalformedMessageError: (ProtocolError,),
    FrameTooLargeError: (ProtocolError,),
    TruncatedStreamError: (ProtocolError,),
    IntegrityError: (SASLError, ConnectionError),
    OutOfSequenceError: (IntegrityError,),
}

WIRE_FAULTS = {
    ProtocolError,
    UnacceptableSuccessError,
    MalformedMessageError,
    FrameTooLargeError,
    TruncatedStreamError,
    IntegrityError,
    OutOfSequenceError,
}

# winerror.h
STATUS = {
    SASLError: 0x80090304,  # SEC_E_INTERNAL_ERROR
    UsageError: 0x80090302,  # SEC_E_UNSUPPORTED_FUNCTION
    ContextBusyError: 0x80090302,
    MechanismUnavailableError: 0x80090305,  # SEC_E_SECPKG_NOT_FOUND
    NegotiationError: 0x80090331,  # SEC_E_ALGORITHM_MISMATCH
    AuthenticationError: 0x8009030C,  # SEC_E_LOGON_DENIED
    MutualAuthenticationError: 0x80090363,  # SEC_E_MUTUAL_AUTH_FAILED
    ProtocolError: 0x80090308,  # SEC_E_INVALID_TOKEN
    UnacceptableSuccessError: 0x80090331,
    MalformedMessageError: 0x80090308,
    FrameTooLargeError: 0x80090308,
    TruncatedStreamError: 0x80090318,  # SEC_E_INCOMPLETE_MESSAGE
    IntegrityError: 0x8009030F,  # SEC_E_MESSAGE_ALTERED
    OutOfSequenceError: 0x80090310,  # SEC_E_OUT_OF_SEQUENCE
}

WINERROR = {
    "SEC_E_OK": 0,
    "SEC_I_CONTINUE_NEEDED": 0x00090312,
    "SEC_E_INSUFFICIENT_MEMORY": 0x80090300,
    "SEC_E_INVALID_HANDLE": 0x80090301,
    "SEC_E_UNSUPPORTED_FUNCTION": 0x80090302,
    "SEC_E_TARGET_UNKNOWN": 0x80090303,
    "SEC_E_INTERNAL_ERROR": 0x80090304,
    "SEC_E_SECPKG_NOT_FOUND": 0x80090305,
    "SEC_E_INVALID_TOKEN": 0x80090308,
    "SEC_E_QOP_NOT_SUPPORTED": 0x8009030A,
    "SEC_E_LOGON_DENIED": 0x8009030C,
    "SEC_E_NO_CREDENTIALS": 0x8009030E,
    "SEC_E_MESSAGE_ALTERED": 0x8009030F,
    "SEC_E_OUT_OF_SEQUENCE": 0x80090310,
    "SEC_E_CONTEXT_EXPIRED": 0x80090317,
    "SEC_E_INCOMPLETE_MESSAGE": 0x80090318,
    "SEC_E_BUFFER_TOO_SMALL": 0x80090321,
    "SEC_E_ALGORITHM_MISMATCH": 0x80090331,
    "SEC_E_SECURITY_QOS_FAILED": 0x80090332,
    "SEC_E_CRYPTO_SYSTEM_INVALID": 0x80090337,
    "SEC_E_MUTUAL_AUTH_FAILED": 0x80090363,
}


def sample(kind: type[SASLError]) -> SASLError:
    if kind is FrameTooLargeError:
        return FrameTooLargeError(70000, 65536, "; a hint")
    return kind("what happened")


def again(error: SASLError) -> SASLError:
    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert isinstance(restored, SASLError)
    return restored


every_error = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


@every_error
def test_each_error_has_the_parents_of_the_design(kind: type[SASLError]) -> None:
    assert kind.__bases__ == TREE[kind]


def test_the_tree_has_no_other_error() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    assert {kind for kind in public if issubclass(kind, BaseException)} == set(TREE)


@every_error
def test_wire_faults_alone_are_connection_errors(kind: type[SASLError]) -> None:
    assert issubclass(kind, ConnectionError) == (kind in WIRE_FAULTS)


@every_error
def test_each_error_stands_for_its_sspi_code(kind: type[SASLError]) -> None:
    assert isinstance(sample(kind).status, SecurityStatus)
    assert sample(kind).status == STATUS[kind]


def test_the_sspi_codes_are_those_of_winerror() -> None:
    assert {status.name: status.value for status in SecurityStatus} == WINERROR


@every_error
def test_fresh_keeps_type_text_and_status(kind: type[SASLError]) -> None:
    error = sample(kind)
    fresh = error.fresh()
    assert fresh is not error
    assert type(fresh) is kind
    assert str(fresh) == str(error)
    assert fresh.args == error.args
    assert fresh.status == error.status


def test_fresh_keeps_attributes() -> None:
    fresh = FrameTooLargeError(70000, 65536, "; a hint").fresh()
    assert (fresh.announced, fresh.limit) == (70000, 65536)
    expired = UsageError("closed")
    expired.status = SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert expired.fresh().status == SecurityStatus.SEC_E_CONTEXT_EXPIRED


@every_error
def test_fresh_drops_traceback_cause_and_context(kind: type[SASLError]) -> None:
    """The guard: a stored failure must not carry the frames of its first raise to a later one."""
    try:
        try:
            raise ValueError("inner")
        except ValueError as inner:
            raise sample(kind) from inner
    except SASLError as error:
        fresh, old = error.fresh(), (error.__traceback__, error.__cause__, error.__context__)
    assert None not in old
    assert fresh.__traceback__ is None
    assert fresh.__cause__ is None
    assert fresh.__context__ is None


@every_error
def test_fresh_drops_notes(kind: type[SASLError]) -> None:
    """The guard: what one caller noted on its copy is not told to the next."""
    error = sample(kind)
    error.add_note("seen by the first caller")
    assert not hasattr(error.fresh(), "__notes__")
    assert error.__notes__ == ["seen by the first caller"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, again])
@every_error
def test_errors_can_be_copied_and_pickled(
    kind: type[SASLError], duplicate: Callable[[SASLError], SASLError]
) -> None:
    error = sample(kind)
    twin = duplicate(error)
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_a_too_large_frame_names_both_numbers() -> None:
    assert str(FrameTooLargeError(70000, 65536)) == (
        "the peer announced a frame of 70000 octets, our maxbuf is 65536"
    )
    assert str(FrameTooLargeError(70000, 65536, "; a hint")).endswith("65536; a hint")


def test_what_is_wrong_inside_a_token_has_a_text_that_names_no_cause() -> None:
    """The guard: MAC, padding and form fail alike; the sequence number is public anyway."""
    assert str(IntegrityError()) == "a protected message was altered or forged"
    assert str(OutOfSequenceError()) == (
        "a protected message is out of sequence: lost, replayed or reordered"
    )


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("1", int, "int, not str"),
        (True, int, "int, not bool"),
        (False, int | float, r"int \| float, not bool"),
        (True, int | None, r"int \| None, not bool"),
        (0, bool, "bool, not int"),
        (None, bool, "bool, not NoneType"),
        (1, bool | None, r"bool \| None, not int"),
        (5, Callable | None, "Callable.*, not int"),
    ],
)
def test_an_argument_of_another_kind(value: object, kind: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"^name is .*{words}$"):
        errors.require_kind("name", value, kind)
    with pytest.raises(UsageError, match=r"^name is another, not"):
        errors.require_kind("name", value, kind, "another")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, int), (0.5, int | float), (True, bool), (False, bool | None), (None, bool | int | None)],
)
def test_an_argument_of_its_kind(value: object, kind: Any) -> None:
    errors.require_kind("name", value, kind)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("plain", "plain"),
        (" two\r\nlines\t\x00here ", "two lines here"),
        ("\x1b[31mred", "[31mred"),
        ("\u202e\N{HEBREW LETTER ALEF}", "\N{HEBREW LETTER ALEF}"),
        (200 * "x", 200 * "x"),
        (201 * "x", 200 * "x"),
    ],
)
def test_a_foreign_text_becomes_one_printable_line(text: str, line: str) -> None:
    """The guard: a peer's text cannot forge a line of a log, nor fill it."""
    assert errors.one_line(text) == line


@pytest.mark.parametrize(
    ("value", "options", "complaint"),
    [
        ("7", {}, "size is a whole number, not str"),
        (True, {}, "size is a whole number, not bool"),
        (1.0, {"least": 1}, "size is a whole number from 1, not float"),
        (0, {"least": 1}, "size is a whole number from 1, not 0"),
        (8, {"least": 0, "most": 7}, "size is a whole number from 0 to 7, not 8"),
        (-0.5, {"least": 0, "kind": int | float}, "size is a number from 0, not -0.5"),
        (math.nan, {"kind": int | float}, "size is a number, not nan"),
        (int, {}, "size is a whole number, not the class int"),
    ],
)
def test_what_is_no_number_or_out_of_its_range_is_refused(
    value: object, options: dict[str, Any], complaint: str
) -> None:
    """The guard: it is said where the number is given, and the range is the remedy."""
    with pytest.raises(UsageError, match=f"^{complaint}$"):
        errors.require_number("size", value, **options)


def test_a_number_in_its_range_is_taken_and_so_are_its_ends() -> None:
    for value in (0, 3, 7):
        errors.require_number("bit", value, 0, 7)
    for seconds in (0, 0.5, math.inf):
        errors.require_number("seconds", seconds, 0, kind=int | float)


async def make_later() -> None:
    raise AssertionError


class MakesLater:
    async def __call__(self) -> None:
        raise AssertionError


class Needy:
    def __init__(self, argument: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (None, "make is a function, not NoneType"),
        (5, "make is a function, not int"),
        (make_later, "make is a function, not an async one"),
        (MakesLater(), "make is a function, not an async one"),
        (Needy, "make is called without arguments, and cannot be; .* needs: lambda: 5"),
        (lambda argument: argument, "make is called without arguments, and cannot be; .*"),
    ],
)
def test_what_makes_nothing_at_once_is_refused_uncalled(given: object, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"^{complaint}$"):
        errors.require_maker("make", given, "a function", "lambda: 5")


def test_what_makes_something_is_taken_uncalled() -> None:
    def fail(argument: int = 5, *rest: int) -> None:
        raise AssertionError

    for make in (fail, partial(Needy, 5), dict, MakesLater):
        errors.require_maker("make", make, "a function", "lambda: 5")
