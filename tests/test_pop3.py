from __future__ import annotations

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    NegotiationError,
    ProtocolError,
    SASLError,
)
from saslwrap.exchange import Done, Send
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from tests.played import (
    AT_ONCE,
    Feed,
    PlayedClient,
    PlayedServer,
    challenge,
    crank,
    failure,
    feed,
    feed_whole,
    line,
    refused,
    say,
    serving,
    started,
)

__all__ = ["feed"]


# The client


def test_a_whole_login(feed: Feed) -> None:
    exchange = POP3Auth(PlayedClient((None, None, False), (b"c", b"r", False), (b"p", None, True)))
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, challenge(b"c")) == say(b"r")
    assert feed(exchange, challenge(b"p")) == Send(b"\r\n")
    assert feed(exchange, b"+OK Mailbox locked\r\n") == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("+OK", None, "Mailbox locked")
    assert (exchange.authcid, exchange.context, exchange.trailing_data) == ("alice", None, b"")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("-ERR", "refused PLAYED: -ERR$"),
        ("-ERR because", "refused PLAYED: -ERR, 'because'$"),
        ("-ERR [AUTH] wrong", r"-ERR \[AUTH\], 'wrong'$"),
        ("-ERR [sys/temp]", r"-ERR \[SYS/TEMP\]$"),
        ("-ERR [broken", r"-ERR, '\[broken'$"),
        ("-ERR a \x1b[2J", r"-ERR, 'a \[2J'$"),
    ],
)
def test_refusals(feed: Feed, said: str, text: str) -> None:
    exchange = started(POP3Auth, AT_ONCE)
    with pytest.raises(AuthenticationError):
        feed(exchange, line(said))
    failure(exchange, AuthenticationError, text, survives=True)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"\r\n", ProtocolError, "sent '' during"),
        (b"+ok\r\n", ProtocolError, r"sent '\+ok' during"),
        (b"+OKAY\r\n", ProtocolError, r"a challenge, \+OK or -ERR was due"),
        (b"* OK\r\n", ProtocolError, "was due"),
        (b"+OK\n", MalformedMessageError, "without CRLF"),
        (b"+OK \0\r\n", MalformedMessageError, "CR or NUL inside"),
        (b"+ Y2g\r\n", MalformedMessageError, "no base64"),
        (b"+ \xff\r\n", MalformedMessageError, "no base64"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started(POP3Auth, (None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


# The server


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("capa", "+OK\r\nSASL PLAYED\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n."),
        ("USER alice", "-ERR use AUTH"),
        ("STLS", "-ERR use AUTH"),
        ("", "-ERR use AUTH"),
        ("\xe9", "-ERR use AUTH"),
    ],
)
def test_commands_before_the_login(feed: Feed, command: str, answer: str) -> None:
    exchange = serving(POP3AuthServer, (None, None, True))
    for _ in range(POP3AuthServer.COMMAND_LIMIT):
        assert feed(exchange, line(command)) == Send(line(answer))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"+OK authenticated\r\n")


def test_no_mechanism_at_all() -> None:
    exchange = POP3AuthServer({})
    offer = b"+OK\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n.\r\n"
    assert feed_whole(exchange, b"CAPA\r\n") == Send(offer)


def test_several_mechanisms() -> None:
    exchange = POP3AuthServer({"ONE": PlayedServer, "two": PlayedServer})
    offer = b"+OK\r\nSASL ONE TWO\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n.\r\n"
    assert feed_whole(exchange, b"CAPA\r\n") == Send(offer)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        ("AUTH OTHER", NegotiationError, "asked for OTHER; there is PLAYED$"),
        ("AUTH", NegotiationError, "asked for nothing"),
        ("AUTH PLAYED Y2g", MalformedMessageError, "no base64"),
        ("NO\0OP", MalformedMessageError, "NUL inside"),
    ],
)
def test_what_is_refused_in_place_of_a_login(
    feed: Feed, wire: str, kind: type[SASLError], text: str
) -> None:
    exchange = serving(POP3AuthServer)
    refused(exchange, feed(exchange, line(wire)), "-ERR the client ", kind, text)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"*\r\n", AuthenticationError, "client aborted"),
        (b"Y2g\r\n", MalformedMessageError, "no base64"),
        (b"bW9yZQ==\r\n", ProtocolError, "at its end"),
    ],
)
def test_what_is_refused_in_place_of_a_response(
    feed: Feed, wire: bytes, kind: type[SASLError], text: str
) -> None:
    exchange = serving(POP3AuthServer, (None, b"c", True))
    feed(exchange, b"AUTH PLAYED\r\n")
    refused(exchange, feed(exchange, wire), "-ERR the client ", kind, text)


# Both
