from __future__ import annotations

import copy
import pickle
import traceback
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    IntegrityError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanism import ClientMechanism, ServerMechanism, choose_mechanism
from saslwrap.properties import ChannelInfo, SecurityProperties
from tests.support import PATIENCE, ToyMechanism, at_work, make_context


def failure(call: Callable[[], object]) -> SASLError:
    with pytest.raises(SASLError) as info:
        call()
    return info.value


def test_messages_go_through_in_order() -> None:
    mechanism = ToyMechanism(b"one", b"", None)
    assert [mechanism.step(b"1"), mechanism.step(b"2"), mechanism.step(b"3")] == [b"one", b"", None]
    assert mechanism.messages == [b"1", b"2", b"3"]
    assert mechanism.complete


def test_no_message_and_an_empty_one_are_different() -> None:
    mechanism = ToyMechanism(None, b"", b"")
    assert mechanism.step(None) is None
    assert mechanism.step(b"") == b""
    assert mechanism.messages == [None, b""]


@pytest.mark.parametrize(
    "message",
    [
        b"abcd",
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"a_b_c_d_")[::2],
        memoryview(b"abcd").cast("I"),
        array("H", b"abcd"),
    ],
    ids=["bytes", "bytearray", "memoryview", "strided", "items of four", "array"],
)
def test_any_buffer_becomes_bytes(message: Any) -> None:
    mechanism = ToyMechanism(None)
    mechanism.step(message)
    assert mechanism.messages == [b"abcd"]
    assert type(mechanism.messages[0]) is bytes


@pytest.mark.parametrize("message", ["text", 5, 2**40, [1, 2], ()])
def test_what_is_no_buffer_is_refused_and_spends_nothing(message: Any) -> None:
    """The guard: five zeros, of a caller's `step(5)`, are not blamed on the peer."""
    mechanism = ToyMechanism(b"one")
    with pytest.raises(TypeError, match="a bytes-like object is required"):
        mechanism.step(message)
    mechanism.bind_channel(ChannelInfo())
    assert mechanism.step(b"1") == b"one"
    assert mechanism.messages == [b"1"]


def test_a_mechanism_starts_knowing_nothing() -> None:
    mechanism = ToyMechanism(b"x")
    assert not mechanism.complete
    assert not mechanism.may_block
    assert mechanism.authzid is None
    assert ServerMechanism.authcid is None


@pytest.mark.parametrize("context", [None, make_context()], ids=["no layer", "layer"])
def test_the_context_stands_there_after_completion(context: Any) -> None:
    mechanism = ToyMechanism(b"x", None, context=context)
    mechanism.step(None)
    with pytest.raises(UsageError, match="TOY has no context before it is complete"):
        mechanism.context  # noqa: B018 - the access is what raises
    mechanism.step(b"")
    assert mechanism.context is context


def test_a_failed_mechanism_never_has_a_context() -> None:
    """The guard: nobody installs a layer after a login that failed."""
    mechanism = ToyMechanism(AuthenticationError("refused"), context=make_context())
    failure(lambda: mechanism.step(None))
    assert not mechanism.complete
    with pytest.raises(UsageError):
        mechanism.context  # noqa: B018


def test_a_message_after_completion_is_the_peers_fault() -> None:
    mechanism = ToyMechanism(None)
    mechanism.step(None)
    for _ in range(2):
        error = failure(lambda: mechanism.step(b"more"))
        assert type(error) is ProtocolError
        assert str(error) == "the peer sent a message after TOY was complete"
    assert mechanism.messages == [None]


@pytest.mark.parametrize(
    "error", [ProtocolError("no parse"), AuthenticationError("refused"), NegotiationError("weak")]
)
def test_a_failed_step_is_final(error: SASLError) -> None:
    mechanism = ToyMechanism(error, b"never")
    errors = [failure(lambda: mechanism.step(b"x")) for _ in range(3)]
    assert {(type(again), str(again)) for again in errors} == {(type(error), str(error))}
    assert len({id(again) for again in [error, *errors]}) == 4
    assert mechanism.messages == [b"x"]


def test_a_failed_step_leaves_without_its_cause_and_frames() -> None:
    """The guard: the frames of `_step` hold the password; no traceback leads there."""
    inner = IntegrityError()
    inner.__cause__ = inner.__context__ = ValueError("detail")
    mechanism = ToyMechanism(inner)
    for _ in range(2):
        error = failure(lambda: mechanism.step(b"x"))
        assert error.__cause__ is None
        assert error.__context__ is None
        assert "_step" not in [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def test_what_a_caller_does_to_the_error_does_not_reach_later_ones() -> None:
    mechanism = ToyMechanism(ProtocolError("no parse"))
    error = failure(lambda: mechanism.step(b"x"))
    error.args = ("changed",)
    error.add_note("a note")
    again = failure(lambda: mechanism.step(b"x"))
    assert str(again) == "no parse"
    assert not hasattr(again, "__notes__")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_an_interrupted_step_is_final(interrupt: type[BaseException]) -> None:
    """The guard: a login that stopped half-way does not go on."""
    mechanism = ToyMechanism(interrupt("half-way"), b"never")
    with pytest.raises(interrupt, match="half-way"):
        mechanism.step(b"x")
    for _ in range(2):
        error = failure(lambda: mechanism.step(b"x"))
        assert type(error) is SASLError
        assert str(error) == "an earlier step of TOY was interrupted; start anew"
    assert mechanism.messages == [b"x"]


def test_a_second_step_in_another_thread_is_refused_at_once() -> None:
    """The guard: two steps at the same time would make two contexts with the same keys."""
    mechanism = ToyMechanism(b"one", b"two")
    with at_work(mechanism, lambda: mechanism.step(b"1")) as future:
        error = failure(lambda: mechanism.step(b"2"))
        assert type(error) is ContextBusyError
        assert not future.done()
    assert future.result(PATIENCE) == b"one"
    assert mechanism.step(b"2") == b"two"
    assert mechanism.messages == [b"1", b"2"]


def test_what_a_step_brings_after_the_login_was_given_up_is_dropped() -> None:
    """The guard: a thread that comes too late leaves no keys behind."""
    context = make_context()
    mechanism = ToyMechanism(b"proof", context=context)
    mechanism.on_call = mechanism.abandon
    for message in (b"x", b"y"):
        error = failure(lambda: mechanism.step(message))  # noqa: B023
        assert str(error) == "the login with TOY was given up; start anew"
    assert not context.alive
    assert mechanism.messages == [b"x"]


def test_the_channel_is_told_before_the_first_step() -> None:
    mechanism, info = ToyMechanism(b"x", b"y"), ChannelInfo(256, b"binding")
    mechanism.bind_channel(info)
    assert mechanism._channel == info
    mechanism.step(None)
    with pytest.raises(UsageError, match="make a new one"):
        mechanism.bind_channel(ChannelInfo())
    assert mechanism._channel == info


def test_a_failed_first_step_is_a_step_too() -> None:
    mechanism = ToyMechanism(ProtocolError("no parse"))
    failure(lambda: mechanism.step(None))
    with pytest.raises(UsageError):
        mechanism.bind_channel(ChannelInfo())


@pytest.mark.parametrize("info", [None, 256, ChannelInfo])
def test_the_channel_is_told_by_its_own_kind(info: Any) -> None:
    mechanism = ToyMechanism(b"x")
    with pytest.raises(UsageError, match=r"^info is ChannelInfo, not "):
        mechanism.bind_channel(info)
    mechanism.bind_channel(ChannelInfo())


@pytest.mark.parametrize("kind", [ClientMechanism, ServerMechanism])
def test_a_mechanism_has_to_be_written(kind: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        kind()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_mechanism_cannot_be_copied_or_pickled(
    duplicate: Callable[[ClientMechanism], object],
) -> None:
    """The guard: a nonce is used once."""
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(ToyMechanism())


def test_the_repr_shows_the_state() -> None:
    mechanism = ToyMechanism(b"x", None)
    assert repr(mechanism) == "<ToyMechanism incomplete>"
    mechanism.step(None)
    mechanism.step(None)
    assert repr(mechanism) == "<ToyMechanism complete>"
    failure(lambda: mechanism.step(None))
    assert repr(mechanism) == "<ToyMechanism failed>"


# -- choosing


def kind(mechanism_name: str, ssf: int | None) -> type[ToyMechanism]:
    class Chosen(ToyMechanism):
        name = mechanism_name
        best = ssf

    return Chosen


STRONG, STRONG_TOO = kind("GSSAPI", 256), kind("GSS-SPNEGO", 256)
WEAKER, UNABLE = kind("DIGEST-MD5", 128), kind("PLAIN", None)
EVERY = ["PLAIN", "DIGEST-MD5", "GSSAPI", "GSS-SPNEGO"]


@pytest.mark.parametrize(
    ("offered", "candidates", "chosen"),
    [
        (EVERY, [WEAKER, STRONG], STRONG),
        (EVERY, [STRONG, WEAKER], STRONG),
        (EVERY, [STRONG, STRONG_TOO], STRONG),
        (EVERY, [STRONG_TOO, STRONG], STRONG_TOO),
        (EVERY, [UNABLE, WEAKER], WEAKER),
        (["DIGEST-MD5"], [STRONG, WEAKER], WEAKER),
        (["digest-md5"], [WEAKER], WEAKER),
        (["Gssapi", "digest-md5"], [WEAKER, STRONG], STRONG),
        (EVERY, [kind("gssapi", 0)], "gssapi"),
    ],
)
def test_the_strongest_is_chosen_and_the_first_of_equals(
    offered: list[str], candidates: list[type[ToyMechanism]], chosen: object
) -> None:
    found = choose_mechanism(offered, candidates)
    assert chosen in (found, found.name)


def test_an_ssf_of_nothing_is_still_a_choice() -> None:
    assert choose_mechanism(["PLAIN"], [kind("PLAIN", 0)]).name == "PLAIN"


def test_mechanisms_and_iterators_can_be_candidates() -> None:
    mechanism = WEAKER()
    assert choose_mechanism(iter(EVERY), iter([mechanism])) is mechanism


def test_properties_and_channel_are_passed_on() -> None:
    asked = []

    class Asked(ToyMechanism):
        @classmethod
        def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
            asked.append((properties, external_ssf))
            return 1

    properties = SecurityProperties(min_ssf=1)
    choose_mechanism(["TOY"], [Asked], properties, external_ssf=256)
    choose_mechanism(["TOY"], [Asked])
    assert asked == [(properties, 256), (SecurityProperties(), 0)]


def test_no_mechanism_that_was_not_offered_or_cannot_reach_it_is_chosen() -> None:
    """The guard: a stripped offer ends in an error, not in something weaker."""
    with pytest.raises(NegotiationError) as info:
        choose_mechanism(["PLAIN", "CRAM-MD5"], [UNABLE, WEAKER])
    assert str(info.value).startswith(
        "the server offers PLAIN, CRAM-MD5; wanted: PLAIN with an SSF of 112 to 256, DIGEST-MD5 "
        "with an SSF of 112 to 256. Add a mechanism"
    )


def test_one_string_is_not_a_list_of_names() -> None:
    with pytest.raises(UsageError, match=r"offered\.split\(\)"):
        choose_mechanism("DIGEST-MD5", [WEAKER])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offered": None}, "^offered is a list of names, not NoneType$"),
        ({"offered": [b"DIGEST-MD5"]}, "^a name of offered is str, not bytes$"),
        ({"offered": b"PLAIN DIGEST-MD5"}, "^a name of offered is str, not int$"),
        ({"candidates": WEAKER}, "^candidates is a list of .*, not the class Chosen$"),
        ({"candidates": WEAKER()}, "^candidates is a list of .*, not Chosen$"),
        ({"candidates": ["DIGEST-MD5"]}, "^a candidate is a client's .*, not str$"),
        (
            {"candidates": [WEAKER, ServerMechanism]},
            "^a candidate .*, not the class Server",
        ),
        ({"candidates": [lambda: WEAKER()]}, "^a candidate is .*, not function$"),
        ({"properties": {}}, "^properties is SecurityProperties or None, not dict$"),
        ({"external_ssf": True}, "^external_ssf is a whole number from 0, not bool$"),
        ({"external_ssf": -1}, "^external_ssf is a whole number from 0, not -1$"),
        ({"external_ssf": None}, "^external_ssf is a whole number from 0, not NoneType$"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(changes: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"offered": EVERY, "candidates": [WEAKER]}
    with pytest.raises(UsageError, match=text):
        choose_mechanism(**arguments | changes)


def test_nothing_offered_and_nothing_wanted_is_said() -> None:
    with pytest.raises(NegotiationError, match="offers no mechanism; wanted: none"):
        choose_mechanism([], [])


def test_properties_that_contradict_the_channel_are_named() -> None:
    """A layer is forbidden, and no TLS is there that could stand for it."""
    without = SecurityProperties(require_layer=False)
    with pytest.raises(NegotiationError, match="with what cannot be had: require_layer=False"):
        choose_mechanism(["PLAIN"], [WEAKER], without)


def test_no_layer_is_called_so() -> None:
    nothing = SecurityProperties(min_ssf=0, max_ssf=0)
    with pytest.raises(NegotiationError, match="wanted: DIGEST-MD5 with no layer"):
        choose_mechanism(["PLAIN"], [WEAKER], nothing)


def test_the_server_s_names_are_printable_and_short_in_the_text() -> None:
    with pytest.raises(NegotiationError) as info:
        choose_mechanism(["\x1b[2J\r\n", "X" * 100_000], [])
    assert "?[2J??" in str(info.value)
    assert str(info.value).isprintable()
    assert len(str(info.value)) < 500
