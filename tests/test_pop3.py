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
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.testing.pairs import PROTECTIONS, mechanism_pair
from tests.test_imap import AT_ONCE, LOCAL_REFUSALS, challenge, converse, line, say
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


def started(*turns: Turn) -> POP3Auth:
    """A client that has sent its command and waits for the answer."""
    exchange = POP3Auth(PlayedClient(*turns))
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    return exchange


def serving(*turns: Turn) -> POP3AuthServer:
    mechanism = PlayedServer(*turns)
    exchange = POP3AuthServer({"PLAYED": lambda: mechanism})
    assert crank(exchange) == NeedData()
    return exchange


# The client


def test_a_whole_login(feed: Feed) -> None:
    exchange = POP3Auth(PlayedClient((None, None, False), (b"c", b"r", False), (b"p", None, True)))
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, challenge(b"c")) == say(b"r")
    assert feed(exchange, challenge(b"p")) == Send(b"\r\n")
    assert feed(exchange, b"+OK Mailbox locked\r\n") == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("+OK", None, "Mailbox locked")
    assert (exchange.authcid, exchange.context, exchange.trailing_data) == ("alice", None, b"")


@pytest.mark.parametrize(("initial", "word"), [(b"token", " dG9rZW4="), (b"", " ="), (None, "")])
def test_an_initial_response(initial: bytes | None, word: str) -> None:
    exchange = POP3Auth(PlayedClient((None, initial, True)))
    assert crank(exchange) == Send(f"AUTH PLAYED{word}\r\n".encode())


@pytest.mark.parametrize(("length", "early"), [(180, True), (181, False)])
def test_an_initial_response_that_is_too_long_waits(feed: Feed, length: int, early: bool) -> None:
    initial = bytes(length)
    exchange = POP3Auth(PlayedClient((None, initial, True)))
    command = crank(exchange)
    assert isinstance(command, Send)
    assert command == Send(line("AUTH PLAYED", message=initial) if early else b"AUTH PLAYED\r\n")
    assert len(command.data) <= 255
    if not early:
        assert feed(exchange, b"+ \r\n") == say(initial)
    assert feed(exchange, b"+OK\r\n") == Done()


def test_without_initial_response_the_first_message_waits(feed: Feed) -> None:
    exchange = POP3Auth(PlayedClient(AT_ONCE), initial_response=False)
    assert crank(exchange) == Send(b"AUTH PLAYED\r\n")
    assert feed(exchange, b"+\r\n") == say(b"token")


def test_what_follows_the_ok_is_left_over() -> None:
    exchange = started(AT_ONCE)
    exchange.receive_data(b"+OK\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


def test_success_without_proof() -> None:
    exchange = started((None, None, False))
    exchange.receive_data(b"+OK ready\r\n")
    failure(exchange, MutualAuthenticationError, "PLAYED is not complete", survives=False)


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
    exchange = started(AT_ONCE)
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
        (b"\0", ProtocolError, "looks like a SASL frame"),
        (b"\x16", ProtocolError, "no text"),
        (b"x" * LIMIT, ProtocolError, f"a line over {LIMIT} octets"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started((None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


def test_the_server_hangs_up() -> None:
    exchange = started(AT_ONCE)
    exchange.receive_data(b"+OK\r")
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


@pytest.mark.parametrize("refusal", LOCAL_REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_our_refusal_is_told_to_the_server(refusal: SASLError) -> None:
    exchange = started((None, None, False), (b"offer", refusal, False))
    assert feed_whole(exchange, challenge(b"offer")) == Send(b"*\r\n")
    exchange.receive_data(b"-ERR cancelled\r\n")
    failure(exchange, type(refusal), str(refusal), survives=True)


@pytest.mark.parametrize(("answer", "word"), [(b"+OK\r\n", r"\+OK"), (b"+ \r\n", "a challenge")])
def test_a_wrong_answer_to_our_refusal(answer: bytes, word: str) -> None:
    exchange = started((None, None, False), (b"offer", NegotiationError("no way"), False))
    assert feed_whole(exchange, challenge(b"offer")) == Send(b"*\r\n")
    exchange.receive_data(answer)
    failure(exchange, ProtocolError, f"answered {word} to a login", survives=False)


# The server


@pytest.mark.parametrize(("word", "initial"), [("", None), (" =", b""), (" dG9rZW4=", b"token")])
def test_the_initial_response_may_be_absent_empty_or_there(
    feed: Feed, word: str, initial: bytes | None
) -> None:
    exchange = serving((initial, None, True))
    assert feed(exchange, line(f"auth played{word}")) == Send(b"+OK authenticated\r\n")
    assert crank(exchange) == Done()


def test_a_last_message_is_a_challenge_that_nothing_answers(feed: Feed) -> None:
    exchange = serving((None, b"", False), (b"r", b"proof", True))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"+ \r\n")
    assert feed(exchange, line(message=b"r")) == Send(challenge(b"proof"))
    exchange.receive_data(b"\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Send(b"+OK authenticated\r\n")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


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
    exchange = serving((None, None, True))
    for _ in range(POP3AuthServer.COMMAND_LIMIT):
        assert feed(exchange, line(command)) == Send(line(answer))
    assert feed(exchange, b"AUTH PLAYED\r\n") == Send(b"+OK authenticated\r\n")


def test_no_mechanism_at_all() -> None:
    exchange = POP3AuthServer({})
    offer = b"+OK\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n.\r\n"
    assert feed_whole(exchange, b"CAPA\r\n") == Send(offer)


def test_there_is_an_end_to_commands_without_a_login() -> None:
    exchange = serving()
    exchange.receive_data(b"USER x\r\n" * 11)
    for _ in range(11):
        assert crank(exchange) == Send(b"-ERR use AUTH\r\n")
    assert crank(exchange) == Send(b"-ERR too many commands before a login\r\n")
    failure(exchange, ProtocolError, "11 commands and no login", survives=False)


def test_the_client_leaves(feed: Feed) -> None:
    exchange = serving()
    assert feed(exchange, b"QUIT\r\n") == Send(b"+OK bye\r\n")
    failure(exchange, TruncatedStreamError, "QUIT", survives=False)


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
    exchange = serving()
    event = feed(exchange, line(wire))
    assert isinstance(event, Send)
    assert event.data.startswith(b"-ERR the client ")
    failure(exchange, kind, text, survives=kind is NegotiationError)


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
    exchange = serving((None, b"c", True))
    feed(exchange, b"AUTH PLAYED\r\n")
    event = feed(exchange, wire)
    assert isinstance(event, Send)
    assert event.data.startswith(b"-ERR the client ")
    failure(exchange, kind, text, survives=kind is AuthenticationError)


FAILED = "-ERR [AUTH] authentication failed"


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (AuthenticationError("no such user: mallory"), FAILED),
        (AuthenticationError("wrong password"), FAILED),
        (IntegrityError(), FAILED),
        (NegotiationError("too\r\nweak é"), "-ERR too weak ?"),
        (MalformedMessageError("no nonce"), "-ERR no nonce"),
        (MechanismUnavailableError("pip install it"), "-ERR [SYS/TEMP] not available here"),
        (UsageError("max_ssf"), "-ERR [SYS/TEMP] internal error"),
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
    assert feed(exchange, b"cg==\r\n") == Send(b"-ERR [SYS/TEMP] given up\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Both


@given(st.lists(st.integers(1, 40), max_size=40), st.booleans())
def test_our_halves_understand_each_other_in_any_pieces(pieces: list[int], early: bool) -> None:
    client = POP3Auth(
        PlayedClient((None, b"x", False), (b"c" * 300, b"r", False), (b"e", None, True)),
        initial_response=early,
    )
    turns: list[Turn] = [(b"x", b"c" * 300, False), (b"r", b"e", True)]
    mechanism = PlayedServer(*([] if early else [(None, b"", False)]), *turns)
    server = POP3AuthServer({"PLAYED": lambda: mechanism})
    assert converse(client, server, pieces) == [Done(), Done()]


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("pieces", [[], [1] * 2000], ids=["whole", "octets"])
def test_every_protection_of_digest_md5(protection: str, pieces: Sequence[int]) -> None:
    pair = mechanism_pair(protection, service="pop")
    client = POP3Auth(pair.client)
    server = POP3AuthServer({"DIGEST-MD5": lambda: pair.server})
    assert converse(client, server, pieces) == [Done(), Done()]
    assert client.context is not None
    assert server.context is not None
    assert server.context.unseal(client.context.seal(b"STAT")) == b"STAT"
