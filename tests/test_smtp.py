from __future__ import annotations

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.exchange import Done, Send
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from tests.played import (
    AT_ONCE,
    Feed,
    PlayedClient,
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


def challenge(message: bytes) -> bytes:
    return line("334", message=message)


# The client


def test_a_whole_login(feed: Feed) -> None:
    exchange = SMTPAuth(PlayedClient((None, None, False), (b"c", b"r", False), (b"p", None, True)))
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, challenge(b"c")) == say(b"r")
    assert feed(exchange, challenge(b"p")) == Send(b"\r\n")
    assert feed(exchange, b"235-2.7.0 welcome,\r\n235 2.7.0 alice\r\n") == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("235", "2.7.0", "alice")
    assert (exchange.authcid, exchange.context, exchange.trailing_data) == ("alice", None, b"")


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ("535", AuthenticationError, "refused PLAYED: 535$"),
        ("535 because", AuthenticationError, "refused PLAYED: 535, 'because'$"),
        ("535 5.7.8 wrong", AuthenticationError, r"535 \[5\.7\.8\], 'wrong'$"),
        ("535-5.7.8 a\r\n535 5.7.8", AuthenticationError, r"535 \[5\.7\.8\]$"),
        ("432 4.7.12 change it", AuthenticationError, r"432 \[4\.7\.12\], 'change it'$"),
        ("503 5.5.1 a \x1b[2J", AuthenticationError, r"503 \[5\.5\.1\], 'a \[2J'$"),
        ("534 x", NegotiationError, "more protection than PLAYED .*534, 'x'; raise min_ssf"),
        ("538 x", NegotiationError, "more protection"),
        ("500 5.7.9 x", NegotiationError, "more protection"),
        ("500 5.7.11 x", NegotiationError, "more protection"),
    ],
)
def test_refusals(feed: Feed, said: str, kind: type[SASLError], text: str) -> None:
    exchange = started(SMTPAuth, AT_ONCE)
    with pytest.raises(kind):
        feed_whole(exchange, line(said))
    failure(exchange, kind, text, survives=True)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"\r\n", ProtocolError, "sent '' during"),
        (b"250 ok\r\n", ProtocolError, "a reply 250 during"),
        (b"354 go\r\n", ProtocolError, "a reply 354 during"),
        (b"HTTP/1.1 400\r\n", ProtocolError, "'HTTP/1.1 400' during the login; a reply was due"),
        (b"235ok\r\n", ProtocolError, "'235ok'"),
        (b"235-a\r\n250 b\r\n", ProtocolError, "'250 b'"),
        (b"235-a\r\n" * 100, ProtocolError, "more than 100 lines"),
        (b"421 4.3.2 later\r\n", ProtocolError, "ends the connection: '4.3.2 later'$"),
        (b"235 ok\n", MalformedMessageError, "without CRLF"),
        (b"235 \0\r\n", MalformedMessageError, "CR or NUL inside"),
        (b"334 Y2g\r\n", MalformedMessageError, "no base64"),
        (b"334 \xff\r\n", MalformedMessageError, "no base64"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started(SMTPAuth, (None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


def test_the_server_hangs_up() -> None:
    exchange = started(SMTPAuth, AT_ONCE)
    exchange.receive_data(b"235-ok\r\n")
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


# The server


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("ehlo me", "250-mx.example.com\r\n250 AUTH PLAYED"),
        ("LHLO me", "250-mx.example.com\r\n250 AUTH PLAYED"),
        ("HELO me", "250 mx.example.com"),
        ("NOOP", "250 2.0.0 OK"),
        ("RSET", "250 2.0.0 OK"),
        ("MAIL FROM:<a@example.com>", "530 5.7.0 authentication required"),
        ("", "530 5.7.0 authentication required"),
        ("\xe9", "530 5.7.0 authentication required"),
    ],
)
def test_commands_before_the_login(feed: Feed, command: str, answer: str) -> None:
    exchange = serving(SMTPAuthServer, (None, None, True), hostname="mx.example.com")
    for _ in range(SMTPAuthServer.COMMAND_LIMIT):
        assert feed(exchange, line(command)) == Send(line(answer))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"235 2.7.0 authenticated\r\n")


def test_no_mechanism_at_all() -> None:
    offer = b"250-localhost\r\n250 ENHANCEDSTATUSCODES\r\n"
    assert feed_whole(SMTPAuthServer({}), b"EHLO me\r\n") == Send(offer)


@pytest.mark.parametrize(
    ("wire", "answer", "kind", "text"),
    [
        ("AUTH OTHER", "504 5.5.4 ", NegotiationError, "asked for OTHER; there is PLAYED$"),
        ("AUTH", "504 5.5.4 ", NegotiationError, "asked for nothing"),
        ("AUTH PLAYED Y2g", "501 5.5.2 ", MalformedMessageError, "no base64"),
        ("NO\0OP", "501 5.5.2 ", MalformedMessageError, "NUL inside"),
    ],
)
def test_what_is_refused_in_place_of_a_login(
    feed: Feed, wire: str, answer: str, kind: type[SASLError], text: str
) -> None:
    exchange = serving(SMTPAuthServer)
    refused(exchange, feed(exchange, line(wire)), answer, kind, text)


@pytest.mark.parametrize(
    ("wire", "answer", "kind", "text"),
    [
        (b"*\r\n", "501 5.7.0 ", AuthenticationError, "client aborted"),
        (b"Y2g\r\n", "501 5.5.2 ", MalformedMessageError, "no base64"),
        (b"bW9yZQ==\r\n", "501 5.5.2 ", ProtocolError, "at its end"),
    ],
)
def test_what_is_refused_in_place_of_a_response(
    feed: Feed, wire: bytes, answer: str, kind: type[SASLError], text: str
) -> None:
    exchange = serving(SMTPAuthServer, (None, b"c", True))
    feed(exchange, b"AUTH PLAYED\r\n")
    refused(exchange, feed(exchange, wire), answer, kind, text)


# Both
