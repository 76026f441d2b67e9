"""LDAP's Bind, the client's half."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UnacceptableSuccessError,
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.properties import ChannelInfo, SecurityProperties
from saslwrap.protocols import ldap
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import encode, notice_of_disconnection, result
from tests.ldap_binds import ABORT, FIRST_FRAME, bind_request, bind_response, started
from tests.played import Feed, PlayedClient, Turn, crank, failure, feed, feed_whole

__all__ = ["feed"]


def test_what_follows_the_success_at_once_is_the_layer_s() -> None:
    exchange = started((None, None, False), (b"proof", None, True))
    exchange.receive_data(bind_response(1, 0, b"proof") + FIRST_FRAME)
    assert crank(exchange) == Done()
    assert exchange.trailing_data == FIRST_FRAME


@pytest.mark.parametrize("initial", [None, b"", b"token"])
def test_the_initial_response_may_be_absent_empty_or_there(initial: bytes | None) -> None:
    exchange = LDAPBind(PlayedClient((None, initial, True)))
    assert crank(exchange) == Send(bind_request(1, initial))


@pytest.mark.parametrize("challenge", [None, b""])
def test_an_absent_challenge_is_an_empty_one(feed: Feed, challenge: bytes | None) -> None:
    exchange = started((None, None, False), (b"", b"reply", True))
    assert feed(exchange, bind_response(1, 14, challenge)) == Send(bind_request(2, b"reply"))


@pytest.mark.parametrize("complete", [True, False])
def test_nothing_to_say_to_a_challenge_is_an_empty_response(feed: Feed, complete: bool) -> None:
    exchange = started((None, b"x", False), (b"rspauth", None, complete))
    assert feed(exchange, bind_response(1, 14, b"rspauth")) == Send(bind_request(2, b""))


def test_a_proof_in_a_challenge_is_followed_by_a_bare_success(feed: Feed) -> None:
    exchange = started((None, b"x", False), (b"rspauth", None, True))
    feed(exchange, bind_response(1, 14, b"rspauth"))
    assert feed(exchange, bind_response(2, 0)) == Done()


@pytest.mark.parametrize("credentials", [None, b""])
def test_a_complete_mechanism_is_not_bothered_with_empty_credentials(
    feed: Feed, credentials: bytes | None
) -> None:
    exchange = started((None, b"x", True))
    assert feed(exchange, bind_response(1, 0, credentials)) == Done()


def test_an_incomplete_mechanism_gets_empty_credentials(feed: Feed) -> None:
    exchange = started((None, b"x", False), (b"", None, True))
    assert feed(exchange, bind_response(1, 0, b"")) == Done()


def test_a_last_empty_word_of_the_mechanism_is_not_missed(feed: Feed) -> None:
    exchange = started((None, b"x", False), (b"proof", b"", True))
    assert feed(exchange, bind_response(1, 0, b"proof")) == Done()


@pytest.mark.parametrize("turns", [[], [(b"more", None, False)]])
def test_success_without_proof(feed: Feed, turns: list[Turn]) -> None:
    exchange = started((None, b"x", False), *turns)
    exchange.receive_data(bind_response(1, 0, b"more" if turns else None))
    failure(exchange, MutualAuthenticationError, "PLAYED is not complete", survives=False)


def test_success_with_a_message_that_is_not_due() -> None:
    exchange = started((None, b"x", True))
    exchange.receive_data(bind_response(1, 0, b"more"))
    failure(exchange, ProtocolError, "after PLAYED was complete", survives=False)


def test_success_before_the_mechanism_said_its_last_word() -> None:
    exchange = started((None, b"x", False), (b"proof", b"last word", True))
    exchange.receive_data(bind_response(1, 0, b"proof"))
    failure(exchange, ProtocolError, "success before PLAYED ended", survives=False)


def test_a_challenge_to_a_complete_mechanism() -> None:
    exchange = started((None, b"x", True))
    exchange.receive_data(bind_response(1, 14))
    failure(exchange, ProtocolError, "after PLAYED was complete", survives=False)


def test_the_server_did_not_prove_itself() -> None:
    refusal = MutualAuthenticationError("the server's rspauth is wrong")
    exchange = started((None, b"x", False), (b"proof", refusal, False))
    exchange.receive_data(bind_response(1, 0, b"proof"))
    failure(exchange, MutualAuthenticationError, "rspauth is wrong", survives=False)


def test_a_success_that_our_policy_refuses_leaves_no_usable_connection() -> None:
    refusal = NegotiationError("only integrity was negotiated")
    exchange = started((None, b"x", False), (b"proof", refusal, False))
    exchange.receive_data(bind_response(1, 0, b"proof"))
    text = "reported success, which PLAYED refuses: only integrity was negotiated"
    failure(exchange, UnacceptableSuccessError, text, survives=False)


def test_the_error_of_such_a_success_is_found_where_it_was_at_first() -> None:
    assert ldap.UnacceptableSuccessError is UnacceptableSuccessError


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (49, AuthenticationError, r"refused PLAYED: invalidCredentials \(49\), 'because'$"),
        (51, AuthenticationError, r"busy \(51\), 'because'"),
        (52, AuthenticationError, r"unavailable \(52\), 'because'"),
        (2, AuthenticationError, r"protocolError \(2\), 'because'"),
        (4096, AuthenticationError, r"result code 4096, 'because'"),
        (7, NegotiationError, r"not support PLAYED: authMethodNotSupported \(7\), 'because'"),
        (8, NegotiationError, r"strongerAuthRequired \(8\), 'because'; raise min_ssf.*TLS"),
        (13, NegotiationError, r"confidentialityRequired \(13\).*require_layer=True"),
        (48, NegotiationError, r"inappropriateAuthentication \(48\).*raise min_ssf"),
        (53, AuthenticationError, r"unwillingToPerform \(53\), 'because'$"),
    ],
)
def test_refusals(feed: Feed, code: int, kind: type[SASLError], text: str) -> None:
    exchange = started((None, b"x", False))
    with pytest.raises(kind):
        feed(exchange, bind_response(1, code, text="because"))
    failure(exchange, kind, text, survives=True)
    assert exchange.result_code == code


@pytest.mark.parametrize(
    ("code", "require_layer", "remedy"),
    [
        (8, None, "it does not count this TLS: connect without it"),
        (13, None, "it does not count this TLS: connect without it"),
        (48, None, "it does not count this TLS: connect without it"),
        (48, True, "Active Directory takes no layer over TLS: leave require_layer unset"),
        (53, None, "Active Directory takes no layer over TLS: leave require_layer unset"),
    ],
)
def test_refusals_over_tls(code: int, require_layer: bool | None, remedy: str) -> None:
    mechanism = PlayedClient((None, b"x", False))
    mechanism.properties = SecurityProperties(require_layer=require_layer)
    exchange = LDAPBind(mechanism)
    exchange.bind_channel(ChannelInfo(external_ssf=256))
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    exchange.receive_data(bind_response(1, code, text="because"))
    failure(exchange, NegotiationError, remedy, survives=True)


@pytest.mark.parametrize(
    ("external_ssf", "remedy"), [(0, "raise min_ssf"), (1, "does not count this TLS")]
)
def test_the_remedy_goes_by_the_channel(external_ssf: int, remedy: str) -> None:
    exchange = LDAPBind(PlayedClient((None, b"x", False)))
    exchange.bind_channel(ChannelInfo(external_ssf))
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    exchange.receive_data(bind_response(1, 8))
    failure(exchange, NegotiationError, remedy, survives=True)


@pytest.mark.parametrize(
    ("diagnostic", "shown"),
    [
        (b"", r"invalidCredentials \(49\)$"),
        (b"80090308: LdapErr,\r\n data 52e\0", r", '80090308: LdapErr, data 52e'$"),
        ("na\xefve \u202e\x1b[2J".encode(), r", 'naïve \[2J'$"),
        (b"\xff", ", '\ufffd'$"),
        (b"x" * 5000, ", 'x{200}'$"),
    ],
)
def test_the_server_s_text_is_cleaned(diagnostic: bytes, shown: str) -> None:
    exchange = started((None, b"x", False))
    value = {"resultCode": 49, "matchedDN": b"", "diagnosticMessage": diagnostic}
    exchange.receive_data(encode(1, "bindResponse", value))
    failure(exchange, AuthenticationError, shown, survives=True)


@pytest.mark.parametrize(
    ("pdu", "text"),
    [
        (bind_response(2, 14, b"c"), "bindResponse with message id 2 .* bindResponse with 1 was"),
        (bind_response(0, 14, b"c"), "message id 0"),
        (encode(1, "searchResDone", result(0)), "searchResDone with message id 1"),
        (encode(1, "extendedResp", result(0)), "extendedResp with message id 1"),
        (encode(0, "extendedResp", result(0, responseName=b"1.2")), "extendedResp with .* id 0"),
        (encode(0, "extendedResp", result(0)), "extendedResp with message id 0"),
        (
            encode(1, "extendedResp", result(0, responseName=b"1.3.6.1.4.1.1466.20036")),
            "extendedResp with message id 1",
        ),
        (bytes.fromhex("30050201016600"), "unknown operation with message id 1"),
        (notice_of_disconnection(52, "bye\n"), r"ends the connection: unavailable \(52\), 'bye'$"),
    ],
)
def test_anything_else_in_place_of_the_response(pdu: bytes, text: str) -> None:
    exchange = started((None, b"x", False))
    exchange.receive_data(pdu)
    failure(exchange, ProtocolError, text, survives=False)


def test_a_malformed_response() -> None:
    exchange = started((None, b"x", False))
    exchange.receive_data(bytes.fromhex("3003020101"))
    failure(exchange, MalformedMessageError, "5 octets", survives=False)


@pytest.mark.parametrize("head", ["3083040000", "3084ffffffff", "3080", "48545450"])
def test_a_response_is_judged_by_its_first_octets(head: str) -> None:
    exchange = started((None, b"x", False))
    exchange.receive_data(bytes.fromhex(head))
    failure(exchange, ProtocolError, "262143|text", survives=False)


def test_the_limit_itself_is_allowed() -> None:
    challenge = b"c" * (262143 - 25)
    pdu = bind_response(1, 14, challenge)
    assert len(pdu) == LDAPBind.PDU_LIMIT == 262143
    exchange = started((None, None, False), (challenge, b"reply", True))
    assert feed_whole(exchange, pdu) == Send(bind_request(2, b"reply"))


def test_the_server_hangs_up() -> None:
    exchange = started((None, b"x", False))
    exchange.receive_data(bind_response(1, 0)[:-1])
    assert crank(exchange) == NeedData()
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


def test_message_ids_go_on_from_the_given_one() -> None:
    exchange = started((None, b"x", False), (b"c", b"r", True), message_id=41)
    assert exchange.next_message_id == 42
    exchange.receive_data(bind_response(41, 14, b"c"))
    assert crank(exchange) == Send(bind_request(42, b"r"))
    exchange.receive_data(bind_response(42, 0))
    assert crank(exchange) == Done()
    assert exchange.next_message_id == 43


def test_message_ids_start_anew_after_the_last() -> None:
    assert started((None, b"x", False), message_id=2147483647).next_message_id == 1


@pytest.mark.parametrize("message_id", [0, -1, 2147483648])
def test_a_message_id_out_of_range(message_id: int) -> None:
    with pytest.raises(UsageError, match=rf"from 1 to 2147483647, not {message_id}$"):
        LDAPBind(PlayedClient(), message_id)


LOCAL_REFUSALS: Sequence[SASLError] = [
    NegotiationError("the offer is too weak"),
    MechanismUnavailableError("no cipher"),
    UsageError("contradiction"),
]


@pytest.mark.parametrize("refusal", LOCAL_REFUSALS, ids=lambda refusal: type(refusal).__name__)
@pytest.mark.parametrize("code", [7, 49, 2])
def test_our_refusal_is_told_to_the_server(feed: Feed, refusal: SASLError, code: int) -> None:
    exchange = started((None, None, False), (b"offer", refusal, False))
    assert feed(exchange, bind_response(1, 14, b"offer")) == Send(ABORT)
    assert crank(exchange) == NeedData()
    with pytest.raises(type(refusal)):
        feed(exchange, bind_response(2, code))
    failure(exchange, type(refusal), str(refusal), survives=True)
    assert exchange.next_message_id == 3


def test_our_refusal_before_the_first_word_is_nobody_s_business() -> None:
    exchange = LDAPBind(PlayedClient((None, NegotiationError("no way"), False)))
    failure(exchange, NegotiationError, "no way", survives=True)
    assert exchange.next_message_id == 1


@pytest.mark.parametrize(
    "error", [ProtocolError("gibberish"), IntegrityError(), MutualAuthenticationError("who?")]
)
def test_after_a_fault_of_the_server_s_there_is_nothing_to_say(error: SASLError) -> None:
    exchange = started((None, None, False), (b"offer", error, False))
    exchange.receive_data(bind_response(1, 14, b"offer"))
    failure(exchange, type(error), str(error), survives=False)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (bind_response(2, 0), r"answered success \(0\) to a login that was given up"),
        (bind_response(2, 14), r"answered saslBindInProgress \(14\) to a login that was given up"),
        (bind_response(1, 7), "message id 1"),
        (notice_of_disconnection(52), r"ends the connection: unavailable \(52\)$"),
    ],
)
def test_a_wrong_answer_to_our_abort(answer: bytes, text: str) -> None:
    exchange = started((None, None, False), (b"offer", NegotiationError("no way"), False))
    exchange.receive_data(bind_response(1, 14, b"offer"))
    assert crank(exchange) == Send(ABORT)
    exchange.receive_data(answer)
    failure(exchange, ProtocolError, text, survives=False)


def at_the_step(*, code: int) -> LDAPBind:
    exchange = started((None, None, False), (b"offer", b"reply", False))
    exchange.receive_data(bind_response(1, code, b"offer"))
    assert exchange.advance() == Step()
    return exchange


def test_abort_while_the_server_waits_for_us(feed: Feed) -> None:
    exchange = at_the_step(code=14)
    assert exchange.abort() == ABORT
    assert crank(exchange) == NeedData()
    with pytest.raises(AuthenticationError):
        feed(exchange, bind_response(2, 7))
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_before_anything_was_sent() -> None:
    exchange = LDAPBind(PlayedClient((None, b"x", False)))
    assert exchange.advance() == Step()
    assert exchange.abort() == b""
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_while_a_response_is_due_waits_for_it(feed: Feed) -> None:
    """RFC 4511 section 4.2.1: nothing is sent between a request and its response."""
    exchange = started((None, None, False))
    assert exchange.abort() == b""
    assert crank(exchange) == NeedData()
    assert feed(exchange, bind_response(1, 14, b"offer")) == Send(ABORT)
    assert crank(exchange) == NeedData()
    with pytest.raises(AuthenticationError):
        feed(exchange, bind_response(2, 7))
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_while_a_refusal_is_due() -> None:
    exchange = started((None, None, False))
    assert exchange.abort() == b""
    exchange.receive_data(bind_response(1, 49))
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_after_the_server_s_success_is_too_late() -> None:
    exchange = at_the_step(code=0)
    assert exchange.abort() == b""
    failure(exchange, ProtocolError, "success .* given up", survives=False)


def test_abort_while_our_refusal_is_told() -> None:
    exchange = started((None, None, False), (b"offer", NegotiationError("no way"), False))
    exchange.receive_data(bind_response(1, 14, b"offer"))
    assert crank(exchange) == Send(ABORT)
    assert exchange.abort() == b""
    exchange.receive_data(bind_response(2, 7))
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_a_server_that_answers_two_aborts_with_challenges() -> None:
    exchange = at_the_step(code=14)
    assert exchange.abort() == ABORT
    exchange.receive_data(bind_response(2, 14, b"stay"))
    assert crank(exchange) == Send(bind_request(3, None, ""))
    exchange.receive_data(bind_response(3, 14, b"stay"))
    failure(exchange, ProtocolError, "given up", survives=False)
