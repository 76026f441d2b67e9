"""LDAP's Bind, both halves: a login that ldapsearch and slapd 2.5 had on the wire (auth-int)."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from saslwrap.errors import AuthenticationError, ProtocolError
from saslwrap.exchange import Done, Event, Exchange, NeedData, Send
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import Message, ResultCode, result
from tests.ldap_binds import sent
from tests.played import Feed, PlayedClient, PlayedServer, crank, failure, feed

__all__ = ["feed"]

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
