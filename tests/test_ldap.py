from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from saslwrap.exchange import Done, Event, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.mechanism import ServerMechanism
from saslwrap.properties import ChannelInfo, SecurityProperties
from saslwrap.protocols import ldap
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import (
    Message,
    ResultCode,
    decode,
    encode,
    notice_of_disconnection,
    result,
)
from tests.played import (
    Feed,
    Played,
    PlayedClient,
    PlayedServer,
    Turn,
    crank,
    failure,
    feed,
    feed_whole,
)

__all__ = ["feed"]


def sent(event: Event) -> Message:
    assert isinstance(event, Send)
    return decode(event.data)


def bind_request(
    message_id: int, credentials: bytes | None = None, mechanism: str = "PLAYED", **changes: Any
) -> bytes:
    sasl = {"mechanism": mechanism.encode()}
    if credentials is not None:
        sasl["credentials"] = credentials
    value = {"version": 3, "name": b"", "authentication": ("sasl", sasl), **changes}
    return encode(message_id, "bindRequest", value)


def bind_response(
    message_id: int, code: int, credentials: bytes | None = None, text: str = ""
) -> bytes:
    more = {} if credentials is None else {"serverSaslCreds": credentials}
    return encode(message_id, "bindResponse", result(code, text, **more))


def started(*turns: Turn, message_id: int = 1) -> LDAPBind:
    """A client that has sent its first request and waits for the response."""
    exchange = LDAPBind(PlayedClient(*turns), message_id)
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    return exchange


# A whole login that ldapsearch and slapd 2.5 had on the wire: DIGEST-MD5, qop=auth-int.

CHALLENGE = (
    b'nonce="Voj4JzXRxsY9SeYSUApcNKXMzYedBrJGWnLNFEwCKys=",realm="example.com",'
    b'qop="auth,auth-int,auth-conf",cipher="rc4-40,rc4-56,rc4,des,3des",maxbuf=65536,'
    b"charset=utf-8,algorithm=md5-sess"
)
RESPONSE = (
    b'username="alice",realm="example.com",nonce="Voj4JzXRxsY9SeYSUApcNKXMzYedBrJGWnLNFEwCKys=",'
    b'cnonce="ekax/RGZHowWlAIlQtR7RRVNNhzAJa4rWqpebMMB8KU=",nc=00000001,qop=auth-int,'
    b'maxbuf=16777215,digest-uri="ldap/vm",response=52e4446fe1a981239373753022d44cfa'
)
RSPAUTH = b"rspauth=3faefe0bb6d62624f1cbbdbd53878f3b"

WIRE_START = bytes.fromhex("301802010160130201030400a30c040a4449474553542d4d4435")
WIRE_CHALLENGE = (
    bytes.fromhex("3081e40201016181de0a010e0400041c")
    + b"SASL(0): successful result: "
    + bytes.fromhex("8781b8")
    + CHALLENGE
)
WIRE_RESPONSE = (
    bytes.fromhex("308201160201026082010f0201030400a3820106040a4449474553542d4d44350481f7")
    + RESPONSE
)
WIRE_SUCCESS = bytes.fromhex("303602010261310a0100040004008728") + RSPAUTH
FIRST_FRAME = bytes.fromhex("0000001e300c02010365070a0100040004000a7c63b4329e8adb652f000100000001")


class DigestClient(PlayedClient):
    name = "DIGEST-MD5"


class DigestServer(PlayedServer):
    name = "DIGEST-MD5"


def test_a_captured_login_replayed_to_the_client(feed: Feed) -> None:
    mechanism = DigestClient(
        (None, None, False), (CHALLENGE, RESPONSE, False), (RSPAUTH, None, True)
    )
    exchange = LDAPBind(mechanism)
    assert crank(exchange) == Send(WIRE_START)
    assert feed(exchange, WIRE_CHALLENGE) == Send(WIRE_RESPONSE)
    assert feed(exchange, WIRE_SUCCESS) == Done()
    assert crank(exchange) == Done()
    assert exchange.next_message_id == 3  # as ldapsearch's search has it
    assert (exchange.authcid, exchange.authzid, exchange.context) == ("alice", "bob", None)
    assert exchange.trailing_data == b""


def test_a_captured_login_replayed_to_the_server(feed: Feed) -> None:
    mechanism = DigestServer((None, CHALLENGE, False), (RESPONSE, RSPAUTH, True))
    exchange = LDAPBindServer({"DIGEST-MD5": lambda: mechanism})
    assert sent(feed(exchange, WIRE_START)) == Message(
        1, "bindResponse", result(14, serverSaslCreds=CHALLENGE)
    )
    assert feed(exchange, WIRE_RESPONSE) == Send(WIRE_SUCCESS)
    assert crank(exchange) == Done()
    assert (exchange.authcid, exchange.authzid, exchange.context) == ("alice", "bob", None)
    assert exchange.mechanism is mechanism


# The client


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
    with pytest.raises(UsageError, match=rf"message_id={message_id} is not in 1..2147483647"):
        LDAPBind(PlayedClient(), message_id)


# The client gives up

LOCAL_REFUSALS: Sequence[SASLError] = [
    NegotiationError("the offer is too weak"),
    MechanismUnavailableError("no cipher"),
    UsageError("contradiction"),
]
ABORT = bind_request(2, None, "")


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


# The server


def serving(*turns: Turn) -> LDAPBindServer:
    mechanism = PlayedServer(*turns)
    exchange = LDAPBindServer({"PLAYED": lambda: mechanism})
    assert crank(exchange) == NeedData()
    return exchange


def answer(exchange: Exchange, event: Event) -> tuple[int, dict[str, Any]]:
    """What the server sent, without the empty fields."""
    message = sent(event)
    assert message.operation == "bindResponse"
    value = {key: field for key, field in message.value.items() if field != b""}
    assert isinstance(exchange, LDAPBindServer)
    assert (exchange.message_id, exchange.result_code) == (message.message_id, value["resultCode"])
    return message.message_id, value


def test_before_the_first_message_nothing_is_known() -> None:
    client, server = LDAPBind(PlayedClient()), LDAPBindServer({})
    assert (client.result_code, server.result_code) == (None, None)
    assert (server.message_id, server.bind_name) == (0, b"")


def test_a_login_of_three_steps_on_the_server(feed: Feed) -> None:
    exchange = serving((None, b"", False), (b"one", b"two", False), (b"three", b"end", True))
    assert sent(feed(exchange, bind_request(5))).value == result(14, serverSaslCreds=b"")
    event = feed(exchange, bind_request(6, b"one", name=b"cn=x"))
    assert sent(event).value == result(14, serverSaslCreds=b"two")
    assert (exchange.message_id, exchange.bind_name) == (6, b"cn=x")
    assert feed(exchange, bind_request(7, b"three")) == Send(bind_response(7, 0, b"end"))
    exchange.receive_data(FIRST_FRAME[:1])
    with pytest.raises(UsageError):
        _ = exchange.context
    assert crank(exchange) == Done()
    assert exchange.context is None
    assert exchange.trailing_data == FIRST_FRAME[:1]


@pytest.mark.parametrize("initial", [None, b"", b"token"])
@pytest.mark.parametrize("final", [None, b"", b"token"])
def test_the_first_and_the_last_credentials_may_be_absent_empty_or_there(
    feed: Feed, initial: bytes | None, final: bytes | None
) -> None:
    exchange = serving((initial, final, True))
    assert feed(exchange, bind_request(1, initial)) == Send(bind_response(1, 0, final))
    assert crank(exchange) == Done()


@pytest.mark.parametrize("response", [None, b""])
def test_an_absent_response_to_a_challenge_is_an_empty_one(
    feed: Feed, response: bytes | None
) -> None:
    exchange = serving((None, b"proof", False), (b"", None, True))
    feed(exchange, bind_request(1))
    assert feed(exchange, bind_request(2, response)) == Send(bind_response(2, 0))


def test_a_challenge_may_be_absent() -> None:
    exchange = serving((b"x", None, False))
    assert feed_whole(exchange, bind_request(1, b"x")) == Send(bind_response(1, 14))


@pytest.mark.parametrize(("offered", "asked"), [("PLAYED", "played"), ("played", "PLAYED")])
def test_names_of_mechanisms_have_no_case(offered: str, asked: str) -> None:
    mechanism = PlayedServer((None, b"c", False), (b"r", None, True))
    exchange = LDAPBindServer({offered: lambda: mechanism})
    feed_whole(exchange, bind_request(1, None, asked))
    assert feed_whole(exchange, bind_request(2, b"r", "PLAYED")) == Send(bind_response(2, 0))


def test_the_channel_is_bound_to_the_mechanism_that_was_asked_for() -> None:
    mechanism = PlayedServer((None, None, True))
    exchange = LDAPBindServer({"PLAYED": lambda: mechanism})
    exchange.bind_channel(ChannelInfo(external_ssf=256))
    assert exchange.mechanism is None
    feed_whole(exchange, bind_request(1))
    assert mechanism.channel == ChannelInfo(external_ssf=256)


def test_another_mechanism_starts_the_login_anew(feed: Feed) -> None:
    made: list[Played] = []

    def make(*turns: Turn) -> Callable[[], ServerMechanism]:
        def factory() -> ServerMechanism:
            made.append(mechanism := PlayedServer(*turns))
            return mechanism

        return factory

    exchange = LDAPBindServer(
        {"ONE": make((None, b"1", False)), "TWO": make((b"first", b"2", False))}
    )
    assert feed(exchange, bind_request(1, None, "ONE")) == Send(bind_response(1, 14, b"1"))
    assert feed(exchange, bind_request(2, b"first", "TWO")) == Send(bind_response(2, 14, b"2"))
    assert feed(exchange, bind_request(3, None, "ONE")) == Send(bind_response(3, 14, b"1"))
    assert len(made) == 3
    assert exchange.mechanism is made[2]


SIMPLE = ("simple", b"secret")


@pytest.mark.parametrize(
    ("request_", "code", "told", "kind", "text"),
    [
        (
            bind_request(9, authentication=SIMPLE),
            8,
            "SASL is required",
            AuthenticationError,
            "simple bind",
        ),
        (
            bytes.fromhex("300c 020109 6007 020103 0400 8a00"),
            7,
            "",
            NegotiationError,
            "unknown authentication choice",
        ),
        (
            bind_request(9, mechanism="other\n"),
            7,
            "there is PLAYED",
            NegotiationError,
            "asked for OTHER; there is PLAYED$",
        ),
        (
            bind_request(9, mechanism="\xe4"),
            7,
            "there is PLAYED",
            NegotiationError,
            "asked for \ufffd\ufffd; there is PLAYED$",
        ),
        (bind_request(9, version=2), 2, "LDAP version 2 is not 3", ProtocolError, "version 2"),
        (
            bind_request(9, version=2, authentication=SIMPLE),
            2,
            "LDAP version 2 is not 3",
            ProtocolError,
            "version 2",
        ),
        (
            encode(
                9,
                "bindRequest",
                {"version": 3, "name": b"", "authentication": SIMPLE},
                [{"controlType": b"1.2", "criticality": True}],
            ),
            12,
            "",
            NegotiationError,
            "critical control",
        ),
    ],
)
@pytest.mark.parametrize("under_way", [False, True])
def test_the_server_answers_before_it_refuses(
    feed: Feed,
    under_way: bool,
    request_: bytes,
    code: int,
    told: str,
    kind: type[SASLError],
    text: str,
) -> None:
    exchange = serving((None, b"c", False))
    if under_way:
        feed(exchange, bind_request(1))
    expected: dict[str, Any] = {"resultCode": code}
    if told:
        expected["diagnosticMessage"] = told.encode()
    assert answer(exchange, feed(exchange, request_)) == (9, expected)
    failure(exchange, kind, text, survives=kind is not ProtocolError)


def test_all_that_there_is_is_named_to_who_asks_for_something_else() -> None:
    exchange = LDAPBindServer({"PLAYED": PlayedServer, "OTHER": PlayedServer})
    assert crank(exchange) == NeedData()
    exchange.receive_data(bind_request(1, mechanism="THIRD"))
    assert crank(exchange) == Send(bind_response(1, 7, text="there is PLAYED, OTHER"))


def test_controls_that_are_not_critical_are_ignored() -> None:
    exchange = serving((None, None, True))
    value = {"version": 3, "name": b"", "authentication": ("sasl", {"mechanism": b"PLAYED"})}
    request = encode(1, "bindRequest", value, [{"controlType": b"1.2"}])
    assert feed_whole(exchange, request) == Send(bind_response(1, 0))


def test_the_client_aborts(feed: Feed) -> None:
    exchange = serving((None, b"c", False))
    feed(exchange, bind_request(1))
    assert feed(exchange, ABORT) == Send(bind_response(2, 7))
    failure(exchange, AuthenticationError, "client aborted", survives=True)


def test_no_mechanism_at_all_is_nothing_to_abort() -> None:
    exchange = LDAPBindServer({})
    event = feed_whole(exchange, bind_request(1, None, ""))
    assert event == Send(bind_response(1, 7, text="there is no mechanism"))
    failure(exchange, NegotiationError, "asked for nothing; there is no mechanism", survives=True)


@pytest.mark.parametrize(
    ("pdu", "kind", "text"),
    [
        (encode(1, "unbindRequest", None), TruncatedStreamError, "client left"),
        (encode(1, "abandonRequest", 0), ProtocolError, "abandonRequest with message id 1"),
        (encode(1, "extendedReq", {"requestName": b"1.2"}), ProtocolError, "extendedReq"),
        (bytes.fromhex("30050201016600"), ProtocolError, "unknown operation"),
        (bind_response(1, 0), ProtocolError, "bindResponse"),
        (bind_request(0), ProtocolError, "message id 0"),
        (bytes.fromhex("3003020101"), MalformedMessageError, "5 octets"),
        (bytes.fromhex("3084ffffffff"), ProtocolError, "262143"),
        (bytes.fromhex("160301"), ProtocolError, "TLS"),
    ],
)
@pytest.mark.parametrize("under_way", [False, True])
def test_what_the_server_does_not_answer(
    under_way: bool, pdu: bytes, kind: type[SASLError], text: str
) -> None:
    exchange = serving((None, b"c", False))
    if under_way:
        feed_whole(exchange, bind_request(1))
        assert crank(exchange) == NeedData()
    exchange.receive_data(pdu)
    failure(exchange, kind, text, survives=False)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (AuthenticationError("no such user: mallory"), 49, b""),
        (AuthenticationError("wrong password"), 49, b""),
        (MutualAuthenticationError("who?"), 49, b""),
        (IntegrityError(), 49, b""),
        (NegotiationError("too\nweak"), 8, b"too weak"),
        (ProtocolError("a second response"), 2, b"a second response"),
        (MalformedMessageError("no nonce"), 2, b"no nonce"),
        (MechanismUnavailableError("pip install it"), 7, b""),
        (UsageError("max_ssf"), 80, b""),
    ],
)
@pytest.mark.parametrize("where", ["first step", "later step", "factory"])
def test_the_mechanism_s_errors_are_answered(
    feed: Feed, where: str, error: SASLError, code: int, told: bytes
) -> None:
    if where == "factory":

        def factory() -> ServerMechanism:
            raise error

        exchange = LDAPBindServer({"PLAYED": factory})
    elif where == "first step":
        exchange = serving((None, error, False))
    else:
        exchange = serving((None, b"c", False), (b"r", error, False))
        feed(exchange, bind_request(1))
    request = bind_request(2, b"r") if where == "later step" else bind_request(2)
    expected = {"resultCode": code} | ({"diagnosticMessage": told} if told else {})
    assert answer(exchange, feed(exchange, request)) == (2, expected)
    failure(exchange, type(error), str(error), survives=transport_survives(error))


def test_a_foreign_error_of_a_factory_comes_out() -> None:
    def factory() -> ServerMechanism:
        raise LookupError("database")

    exchange = LDAPBindServer({"PLAYED": factory})
    exchange.receive_data(bind_request(1))
    with pytest.raises(LookupError, match="database"):
        crank(exchange)


def test_a_foreign_error_of_a_mechanism_comes_out() -> None:
    exchange = serving((None, LookupError("database"), False))
    exchange.receive_data(bind_request(1))
    with pytest.raises(LookupError, match="database"):
        crank(exchange)


def test_the_server_aborts_while_the_client_waits() -> None:
    exchange = serving((None, b"c", False))
    exchange.receive_data(bind_request(1))
    assert exchange.advance() == Step()
    assert exchange.abort() == bind_response(1, 53)
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


@pytest.mark.parametrize("under_way", [False, True])
def test_the_server_aborts_while_nobody_waits(under_way: bool) -> None:
    exchange = serving((None, b"c", False))
    if under_way:
        feed_whole(exchange, bind_request(1))
    assert exchange.abort() == b""
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Both


def converse(client: LDAPBind, server: LDAPBindServer, pieces: Sequence[int]) -> list[Event]:
    """Let them talk, in pieces of these sizes, until neither has anything to say."""
    sizes = iter(pieces)
    last: list[Event] = [NeedData(), NeedData()]
    ends: list[tuple[Exchange, Exchange]] = [(client, server), (server, client)]
    for _ in range(20):
        for index, (end, other) in enumerate(ends):
            while isinstance(event := crank(end), Send):
                data = event.data
                while data:
                    size = next(sizes, len(data))
                    other.receive_data(data[:size])
                    data = data[size:]
            last[index] = event
    return last


@given(st.lists(st.integers(1, 40), max_size=40))
def test_our_halves_understand_each_other_in_any_pieces(pieces: list[int]) -> None:
    client = LDAPBind(
        PlayedClient(
            (None, None, False), (b"c" * 300, b"r", False), (b"", b"", False), (b"e", None, True)
        )
    )
    mechanism = PlayedServer((None, b"c" * 300, False), (b"r", None, False), (b"", b"e", True))
    server = LDAPBindServer({"PLAYED": lambda: mechanism})
    assert converse(client, server, pieces) == [Done(), Done()]
    assert (client.next_message_id, server.message_id) == (4, 3)
    assert client.result_code == server.result_code == ResultCode.success


def test_a_refused_login_leaves_both_ends_in_step_for_the_next() -> None:
    wrong = PlayedServer((None, b"c", False), (b"r", AuthenticationError("wrong"), False))
    right = PlayedServer((b"x", None, True))
    client: LDAPBind = LDAPBind(PlayedClient((None, None, False), (b"c", b"r", False)))
    server = LDAPBindServer({"PLAYED": lambda: wrong})
    for _ in range(2):
        server.receive_data(event.data) if isinstance(event := crank(client), Send) else None
        client.receive_data(event.data) if isinstance(event := crank(server), Send) else None
    failure(client, AuthenticationError, "invalidCredentials", survives=True)
    failure(server, AuthenticationError, "wrong", survives=True)
    client = LDAPBind(PlayedClient((None, b"x", True)), client.next_message_id)
    server = LDAPBindServer({"PLAYED": lambda: right})
    assert converse(client, server, []) == [Done(), Done()]
    assert server.message_id == 3


def test_a_subclass_may_set_another_limit() -> None:
    class Small(LDAPBindServer):
        PDU_LIMIT = 40

    exchange = Small({})
    assert crank(exchange) == NeedData()
    exchange.receive_data(b"\x30\x27")
    failure(exchange, ProtocolError, "of 41 octets; the limit is 40", survives=False)
