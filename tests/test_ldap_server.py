"""LDAP's Bind, the server's half."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, Step, transport_survives
from saslwrap.mechanism import ServerMechanism
from saslwrap.properties import ChannelInfo
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import encode, result
from tests.ldap_binds import ABORT, FIRST_FRAME, answer, bind_request, bind_response, sent
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


def serving(*turns: Turn) -> LDAPBindServer:
    mechanism = PlayedServer(*turns)
    exchange = LDAPBindServer({"PLAYED": lambda: mechanism})
    assert crank(exchange) == NeedData()
    return exchange


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
