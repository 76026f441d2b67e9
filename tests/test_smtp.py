from __future__ import annotations

from collections.abc import Sequence

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
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, transport_survives
from saslwrap.properties import ChannelInfo
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from saslwrap.testing.pairs import PROTECTIONS, mechanism_pair
from tests.test_imap import AT_ONCE, LOCAL_REFUSALS, converse, line, say
from tests.test_ldap import (
    Feed,
    PlayedClient,
    PlayedServer,
    Turn,
    crank,
    failure,
    feed,
    feed_whole,
)

__all__ = ["feed"]

LIMIT = 98304


def challenge(message: bytes) -> bytes:
    return line("334", message=message)


def started(*turns: Turn) -> SMTPAuth:
    """A client that has sent its command and waits for the answer."""
    exchange = SMTPAuth(PlayedClient(*turns))
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    return exchange


def serving(*turns: Turn) -> SMTPAuthServer:
    mechanism = PlayedServer(*turns)
    exchange = SMTPAuthServer({"PLAYED": lambda: mechanism}, hostname="mx.example.com")
    assert crank(exchange) == NeedData()
    return exchange


# The client


def test_a_whole_login(feed: Feed) -> None:
    exchange = SMTPAuth(PlayedClient((None, None, False), (b"c", b"r", False), (b"p", None, True)))
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, challenge(b"c")) == say(b"r")
    assert feed(exchange, challenge(b"p")) == Send(b"\r\n")
    assert feed(exchange, b"235-2.7.0 welcome,\r\n235 2.7.0 alice\r\n") == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("235", "2.7.0", "alice")
    assert (exchange.authcid, exchange.context, exchange.trailing_data) == ("alice", None, b"")


@pytest.mark.parametrize(("initial", "word"), [(b"token", " dG9rZW4="), (b"", " ="), (None, "")])
def test_an_initial_response(initial: bytes | None, word: str) -> None:
    exchange = SMTPAuth(PlayedClient((None, initial, True)))
    assert crank(exchange) == Send(f"AUTH PLAYED{word}\r\n".encode())


@pytest.mark.parametrize(("length", "early"), [(372, True), (373, False)])
def test_an_initial_response_that_is_too_long_waits(feed: Feed, length: int, early: bool) -> None:
    initial = bytes(length)
    exchange = SMTPAuth(PlayedClient((None, initial, True)))
    command = crank(exchange)
    assert isinstance(command, Send)
    assert command == Send(line("AUTH PLAYED", message=initial) if early else b"AUTH PLAYED\r\n")
    assert len(command.data) <= 512
    if not early:
        assert feed(exchange, b"334 \r\n") == say(initial)
    assert feed(exchange, b"235\r\n") == Done()


def test_without_initial_response_the_first_message_waits(feed: Feed) -> None:
    exchange = SMTPAuth(PlayedClient(AT_ONCE), initial_response=False)
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, b"334\r\n") == say(b"token")


def test_what_follows_the_reply_is_left_over() -> None:
    exchange = started(AT_ONCE)
    exchange.receive_data(b"235 ok\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


def test_success_without_proof() -> None:
    exchange = started((None, None, False))
    exchange.receive_data(b"235 2.7.0 come in\r\n")
    failure(exchange, MutualAuthenticationError, "PLAYED is not complete", survives=False)


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
        ("538 5.7.11 x", NegotiationError, "more protection"),
        ("500 5.7.9 x", NegotiationError, "more protection"),
    ],
)
def test_refusals(feed: Feed, said: str, kind: type[SASLError], text: str) -> None:
    exchange = started(AT_ONCE)
    with pytest.raises(kind):
        feed_whole(exchange, line(said))
    failure(exchange, kind, text, survives=True)


def test_too_little_protection_over_tls() -> None:
    exchange = SMTPAuth(PlayedClient(AT_ONCE))
    exchange.bind_channel(ChannelInfo(external_ssf=256))
    assert isinstance(crank(exchange), Send)
    exchange.receive_data(b"534 5.7.9 x\r\n")
    failure(exchange, NegotiationError, "does not count this TLS", survives=True)


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
        (b"\0", ProtocolError, "looks like a SASL frame"),
        (b"\x16", ProtocolError, "no text"),
        (b"2" * LIMIT, ProtocolError, f"a line over {LIMIT} octets"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started((None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


def test_the_server_hangs_up() -> None:
    exchange = started(AT_ONCE)
    exchange.receive_data(b"235-ok\r\n")
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


@pytest.mark.parametrize("refusal", LOCAL_REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_our_refusal_is_told_to_the_server(refusal: SASLError) -> None:
    exchange = started((None, None, False), (b"offer", refusal, False))
    assert feed_whole(exchange, challenge(b"offer")) == Send(b"*\r\n")
    exchange.receive_data(b"501 5.7.0 cancelled\r\n")
    failure(exchange, type(refusal), str(refusal), survives=True)


# The server


@pytest.mark.parametrize(("word", "initial"), [("", None), (" =", b""), (" dG9rZW4=", b"token")])
def test_the_initial_response_may_be_absent_empty_or_there(
    feed: Feed, word: str, initial: bytes | None
) -> None:
    exchange = serving((initial, None, True))
    assert feed(exchange, line(f"auth played{word}")) == Send(b"235 2.7.0 authenticated\r\n")
    assert crank(exchange) == Done()


def test_a_last_message_is_a_challenge_that_nothing_answers(feed: Feed) -> None:
    exchange = serving((None, b"", False), (b"r", b"proof", True))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"334 \r\n")
    assert feed(exchange, line(message=b"r")) == Send(challenge(b"proof"))
    exchange.receive_data(b"\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Send(b"235 2.7.0 authenticated\r\n")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


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
    exchange = serving((None, None, True))
    for _ in range(SMTPAuthServer.COMMAND_LIMIT):
        assert feed(exchange, line(command)) == Send(line(answer))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"235 2.7.0 authenticated\r\n")


def test_no_mechanism_at_all() -> None:
    offer = b"250-localhost\r\n250 ENHANCEDSTATUSCODES\r\n"
    assert feed_whole(SMTPAuthServer({}), b"EHLO me\r\n") == Send(offer)


def test_there_is_an_end_to_commands_without_a_login() -> None:
    exchange = serving()
    exchange.receive_data(b"NOOP\r\n" * 11)
    for _ in range(11):
        assert crank(exchange) == Send(b"250 2.0.0 OK\r\n")
    assert crank(exchange) == Send(b"421 4.7.0 too many commands before a login\r\n")
    failure(exchange, ProtocolError, "11 commands and no login", survives=False)


def test_the_client_leaves(feed: Feed) -> None:
    exchange = serving()
    assert feed(exchange, b"QUIT\r\n") == Send(b"221 2.0.0 bye\r\n")
    failure(exchange, TruncatedStreamError, "QUIT", survives=False)


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
    exchange = serving()
    event = feed(exchange, line(wire))
    assert isinstance(event, Send)
    assert event.data.startswith(answer.encode())
    failure(exchange, kind, text, survives=kind is NegotiationError)


@pytest.mark.parametrize(
    ("wire", "answer", "kind", "text"),
    [
        (b"*\r\n", b"501 5.7.0 ", AuthenticationError, "client aborted"),
        (b"Y2g\r\n", b"501 5.5.2 ", MalformedMessageError, "no base64"),
        (b"bW9yZQ==\r\n", b"501 5.5.2 ", ProtocolError, "at its end"),
    ],
)
def test_what_is_refused_in_place_of_a_response(
    feed: Feed, wire: bytes, answer: bytes, kind: type[SASLError], text: str
) -> None:
    exchange = serving((None, b"c", True))
    feed(exchange, b"AUTH PLAYED\r\n")
    event = feed(exchange, wire)
    assert isinstance(event, Send)
    assert event.data.startswith(answer)
    failure(exchange, kind, text, survives=kind is AuthenticationError)


FAILED = "535 5.7.8 authentication failed"


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (AuthenticationError("no such user: mallory"), FAILED),
        (AuthenticationError("wrong password"), FAILED),
        (IntegrityError(), FAILED),
        (NegotiationError("too\r\nweak é"), "534 5.7.9 too weak ?"),
        (MalformedMessageError("no nonce"), "501 5.5.2 no nonce"),
        (MechanismUnavailableError("pip install it"), "454 4.7.0 not available here"),
        (UsageError("max_ssf"), "454 4.7.0 internal error"),
    ],
)
def test_the_mechanism_s_errors_are_answered(feed: Feed, error: SASLError, answer: str) -> None:
    exchange = serving((None, error, False))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(line(answer))
    failure(exchange, type(error), str(error), survives=transport_survives(error))


def test_the_server_aborts_while_a_response_is_due(feed: Feed) -> None:
    exchange = serving((None, b"c", False))
    feed(exchange, b"AUTH PLAYED\r\n")
    assert exchange.abort() == b""
    assert feed(exchange, b"cg==\r\n") == Send(b"454 4.7.0 given up\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Both


@given(st.lists(st.integers(1, 40), max_size=40), st.booleans())
def test_our_halves_understand_each_other_in_any_pieces(pieces: list[int], early: bool) -> None:
    client = SMTPAuth(
        PlayedClient((None, b"x", False), (b"c" * 300, b"r", False), (b"e", None, True)),
        initial_response=early,
    )
    turns: list[Turn] = [(b"x", b"c" * 300, False), (b"r", b"e", True)]
    mechanism = PlayedServer(*([] if early else [(None, b"", False)]), *turns)
    server = SMTPAuthServer({"PLAYED": lambda: mechanism})
    assert converse(client, server, pieces) == [Done(), Done()]


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("pieces", [[], [1] * 2000], ids=["whole", "octets"])
def test_every_protection_of_digest_md5(protection: str, pieces: Sequence[int]) -> None:
    pair = mechanism_pair(protection, service="smtp")
    client = SMTPAuth(pair.client)
    server = SMTPAuthServer({"DIGEST-MD5": lambda: pair.server})
    assert converse(client, server, pieces) == [Done(), Done()]
    assert client.context is not None
    assert server.context is not None
    assert server.context.unseal(client.context.seal(b"EHLO me")) == b"EHLO me"
