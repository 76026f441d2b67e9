"""What the logins of IMAP, POP3, SMTP and ManageSieve have in common, each in its own words.

What is one protocol's alone stands in its own file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
from saslwrap.exchange import Done, Send, transport_survives
from saslwrap.mechanism import ServerMechanism
from saslwrap.properties import ChannelInfo
from saslwrap.protocols._login import LineLogin
from saslwrap.protocols._login_server import LineLoginServer
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from saslwrap.testing.pairs import PROTECTIONS, mechanism_pair
from tests.played import (
    AT_ONCE,
    LINE_LIMIT,
    LOCAL_REFUSALS,
    Feed,
    PlayedClient,
    PlayedServer,
    Turn,
    challenge,
    converse,
    crank,
    failure,
    feed,
    feed_whole,
    line,
    serving,
    started,
)

__all__ = ["feed"]


def as_line(message: bytes) -> bytes:
    return line(message=message)


def as_string(message: bytes) -> bytes:
    return b'"%b"\r\n' % b64encode(message)


@dataclass(frozen=True)
class Words:
    """How one protocol says what all of them have to say; texts without CRLF.

    :ivar login: the command that begins a login
    :ivar challenge: how a server writes one
    :ivar empty: an empty challenge, as short as it may be
    :ivar response: how a client writes one
    :ivar cancel: the response that gives the login up, and a server's answer
    :ivar success: what a server says, and how the text of an error shows its status
    :ivar authenticated: our server's success
    :ivar failed: our server's answers, by what the mechanism refused
    :ivar given_up: its answer to a login that it aborts
    :ivar idle: a command before the login, and its answer; how the last of too many is answered
    :ivar leave: the command to leave, and its answer
    """

    client: Callable[..., LineLogin]
    server: Callable[..., LineLoginServer]
    service: str
    login: str
    challenge: Callable[[bytes], bytes]
    empty: bytes
    response: Callable[[bytes], bytes]
    cancel: tuple[str, str]
    success: tuple[str, str]
    authenticated: str
    failed: Mapping[type[SASLError], str]
    given_up: str
    idle: tuple[str, str]
    too_many: str
    leave: tuple[str, str]

    def started(self, *turns: Turn) -> LineLogin:
        return started(self.client, *turns)

    def serving(self, *turns: Turn) -> LineLoginServer:
        return serving(self.server, *turns)


IMAP = Words(
    client=partial(IMAPAuthenticate, tag="t.7", initial_response=True),
    server=IMAPAuthenticateServer,
    service="imap",
    login="t.7 AUTHENTICATE PLAYED",
    challenge=challenge,
    empty=b"+\r\n",
    response=as_line,
    cancel=("*", "t.7 BAD cancelled"),
    success=("t.7 OK", "OK"),
    authenticated="t.7 OK authenticated",
    failed={
        AuthenticationError: "t.7 NO [AUTHENTICATIONFAILED] authentication failed",
        NegotiationError: 't.7 NO [PRIVACYREQUIRED] too "weak" ?',
        ProtocolError: "t.7 BAD no nonce",
        MechanismUnavailableError: "t.7 NO [UNAVAILABLE] not available here",
        UsageError: "t.7 NO [SERVERBUG] internal error",
    },
    given_up="t.7 NO given up",
    idle=("t.7 NOOP", "t.7 OK completed"),
    too_many="* BYE too many commands before a login",
    leave=("t.7 LOGOUT", "* BYE logging out\r\nt.7 OK completed"),
)
POP3 = Words(
    client=POP3Auth,
    server=POP3AuthServer,
    service="pop",
    login="AUTH PLAYED",
    challenge=challenge,
    empty=b"+\r\n",
    response=as_line,
    cancel=("*", "-ERR cancelled"),
    success=("+OK", r"\+OK"),
    authenticated="+OK authenticated",
    failed={
        AuthenticationError: "-ERR [AUTH] authentication failed",
        NegotiationError: '-ERR too "weak" ?',
        ProtocolError: "-ERR no nonce",
        MechanismUnavailableError: "-ERR [SYS/TEMP] not available here",
        UsageError: "-ERR [SYS/TEMP] internal error",
    },
    given_up="-ERR [SYS/TEMP] given up",
    idle=("USER x", "-ERR use AUTH"),
    too_many="-ERR too many commands before a login",
    leave=("QUIT", "+OK bye"),
)
SMTP = Words(
    client=SMTPAuth,
    server=SMTPAuthServer,
    service="smtp",
    login="AUTH PLAYED",
    challenge=lambda message: line("334", message=message),
    empty=b"334\r\n",
    response=as_line,
    cancel=("*", "501 5.7.0 cancelled"),
    success=("235", "235"),
    authenticated="235 2.7.0 authenticated",
    failed={
        AuthenticationError: "535 5.7.8 authentication failed",
        NegotiationError: '534 5.7.9 too "weak" ?',
        ProtocolError: "501 5.5.2 no nonce",
        MechanismUnavailableError: "454 4.7.0 not available here",
        UsageError: "454 4.7.0 internal error",
    },
    given_up="454 4.7.0 given up",
    idle=("NOOP", "250 2.0.0 OK"),
    too_many="421 4.7.0 too many commands before a login",
    leave=("QUIT", "221 2.0.0 bye"),
)
SIEVE = Words(
    client=SieveAuthenticate,
    server=SieveAuthenticateServer,
    service="sieve",
    login='AUTHENTICATE "PLAYED"',
    challenge=as_string,
    empty=b'""\r\n',
    response=as_string,
    cancel=('"*"', 'NO "cancelled"'),
    success=("OK", "OK"),
    authenticated='OK "authenticated"',
    failed={
        AuthenticationError: 'NO "authentication failed"',
        NegotiationError: 'NO (AUTH-TOO-WEAK) "too \\"weak\\" ?"',
        ProtocolError: 'NO "no nonce"',
        MechanismUnavailableError: 'NO (TRYLATER) "not available here"',
        UsageError: 'NO (TRYLATER) "internal error"',
    },
    given_up='NO (TRYLATER) "given up"',
    idle=("NOOP", 'OK "done"'),
    too_many='BYE "too many commands before a login"',
    leave=("LOGOUT", 'OK "bye"'),
)


def in_words_of(**protocols: Words) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("words", protocols.values(), ids=protocols)


in_lines = in_words_of(imap=IMAP, pop3=POP3, smtp=SMTP)
everywhere = in_words_of(imap=IMAP, pop3=POP3, smtp=SMTP, sieve=SIEVE)


# The client


@in_lines
@pytest.mark.parametrize(("initial", "word"), [(b"token", " dG9rZW4="), (b"", " ="), (None, "")])
def test_an_initial_response(words: Words, initial: bytes | None, word: str) -> None:
    exchange = words.client(PlayedClient((None, initial, True)))
    assert crank(exchange) == Send(line(words.login + word))


@pytest.mark.parametrize(("words", "limit"), [(POP3, 255), (SMTP, 512)], ids=["pop3", "smtp"])
@pytest.mark.parametrize("over", [0, 1])
def test_an_initial_response_that_is_too_long_waits(
    feed: Feed, words: Words, limit: int, over: int
) -> None:
    """To the octet: base64 comes in fours, so the mechanism's name has the length that is left."""
    room = limit + over - len(b"AUTH  \r\n")
    client, initial = named("X" * (4 + room % 4)), bytes(3 * (room // 4 - 1))
    exchange = words.client(client((None, initial, True)))
    command = crank(exchange)
    assert isinstance(command, Send)
    early = line(f"AUTH {client.name}", message=initial)
    assert len(early) == limit + over
    assert command.data == (line(f"AUTH {client.name}") if over else early)
    if over:
        assert feed(exchange, words.challenge(b"")) == Send(words.response(initial))
    assert feed(exchange, line(words.success[0])) == Done()


def named(mechanism: str) -> type[PlayedClient]:
    class Named(PlayedClient):
        name = mechanism

    return Named


@everywhere
@pytest.mark.parametrize("initial", [b"token", b""])
def test_without_initial_response_the_first_message_waits(
    feed: Feed, words: Words, initial: bytes
) -> None:
    exchange = words.client(PlayedClient((None, initial, True)), initial_response=False)
    assert crank(exchange) == Send(line(words.login))
    assert feed(exchange, words.empty) == Send(words.response(initial))
    assert feed(exchange, line(words.success[0])) == Done()


@everywhere
def test_what_follows_the_success_is_left_over(words: Words) -> None:
    exchange = words.started(AT_ONCE)
    exchange.receive_data(line(words.success[0]) + b"\0\0\0\x10sealed")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


@everywhere
@pytest.mark.parametrize("turns", [[], [(b"more", b"r", False)]])
def test_success_without_proof(words: Words, turns: Sequence[Turn]) -> None:
    exchange = words.started((None, None, False), *turns)
    if turns:
        feed_whole(exchange, words.challenge(b"more"))
    exchange.receive_data(line(words.success[0]))
    failure(exchange, MutualAuthenticationError, "PLAYED is not complete", survives=False)


@everywhere
@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (
            b"\0",
            "^the server sent what looks like a SASL frame: it is in the layer already "
            r"\(cyrus-imapd issue 6454\); a line of the login was due$",
        ),
        (b"\x16", "no text"),
        (b"2" * LINE_LIMIT, f"a line over {LINE_LIMIT} octets"),
    ],
    ids=["frame", "TLS", "long"],
)
def test_what_is_no_line_of_a_login(words: Words, wire: bytes, text: str) -> None:
    exchange = words.started((None, None, False))
    exchange.receive_data(wire)
    failure(exchange, ProtocolError, text, survives=False)


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (IMAP, "t.7 NO [PRIVACYREQUIRED] x"),
        (SMTP, "534 5.7.9 x"),
        (SIEVE, 'NO (AUTH-TOO-WEAK) "x"'),
    ],
    ids=["imap", "smtp", "sieve"],
)
@pytest.mark.parametrize(
    ("external_ssf", "remedy"),
    [
        (0, "raise min_ssf, set require_layer=True, or use TLS"),
        (
            1,
            "it does not count this TLS: connect without it, for a layer; where a server takes "
            "both, require_layer=True gives both",
        ),
    ],
    ids=["clear", "tls"],
)
def test_the_remedy_for_too_little_protection_goes_by_the_channel(
    words: Words, refusal: str, external_ssf: int, remedy: str
) -> None:
    exchange = words.client(PlayedClient(AT_ONCE))
    exchange.bind_channel(ChannelInfo(external_ssf))
    assert isinstance(crank(exchange), Send)
    exchange.receive_data(line(refusal))
    failure(exchange, NegotiationError, f", 'x'; {remedy}$", survives=True)


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (IMAP, b"t.7 NO a\xfc\r\n"),
        (POP3, b"-ERR a\xfc\r\n"),
        (SMTP, b"535 a\xfc\r\n"),
        (SIEVE, b'NO "a\xfc"\r\n'),
    ],
    ids=["imap", "pop3", "smtp", "sieve"],
)
def test_a_text_that_is_no_utf8(words: Words, refusal: bytes) -> None:
    exchange = words.started(AT_ONCE)
    exchange.receive_data(refusal)
    failure(exchange, AuthenticationError, ", 'a\ufffd'$", survives=True)


@everywhere
def test_the_server_hangs_up(words: Words) -> None:
    exchange = words.started(AT_ONCE)
    exchange.receive_data(line(words.success[0])[:-1])
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


def cancelling(words: Words, refusal: SASLError) -> LineLogin:
    """A client whose mechanism has refused what the server offers, and that has said so."""
    exchange = words.started((None, None, False), (b"offer", refusal, False))
    assert feed_whole(exchange, words.challenge(b"offer")) == Send(line(words.cancel[0]))
    return exchange


@everywhere
@pytest.mark.parametrize("refusal", LOCAL_REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_our_refusal_is_told_to_the_server(words: Words, refusal: SASLError) -> None:
    exchange = cancelling(words, refusal)
    exchange.receive_data(line(words.cancel[1]))
    failure(exchange, type(refusal), str(refusal), survives=True)


@everywhere
def test_a_success_in_answer_to_our_refusal(words: Words) -> None:
    exchange = cancelling(words, NegotiationError("no way"))
    exchange.receive_data(line(words.success[0]))
    failure(exchange, ProtocolError, f"answered {words.success[1]} to a login", survives=False)


@everywhere
def test_a_challenge_in_answer_to_our_refusal(words: Words) -> None:
    exchange = cancelling(words, NegotiationError("no way"))
    exchange.receive_data(words.empty)
    failure(exchange, ProtocolError, "answered a challenge to a login", survives=False)


# The server


@everywhere
def test_what_there_is_in_place_of_an_unknown_mechanism(words: Words) -> None:
    exchange = words.server({"ONE": PlayedServer, "two": PlayedServer})
    assert isinstance(feed_whole(exchange, line(words.login)), Send)
    text = "the client asked for PLAYED; there is ONE, TWO$"
    failure(exchange, NegotiationError, text, survives=True)


@in_lines
@pytest.mark.parametrize(("word", "initial"), [("", None), (" =", b""), (" dG9rZW4=", b"token")])
def test_the_initial_response_may_be_absent_empty_or_there(
    feed: Feed, words: Words, word: str, initial: bytes | None
) -> None:
    exchange = words.serving((initial, None, True))
    assert feed(exchange, line(words.login.lower() + word)) == Send(line(words.authenticated))
    assert crank(exchange) == Done()


@in_lines
@pytest.mark.parametrize("first", [None, b""])
@pytest.mark.parametrize("last", [b"", b"proof"])
def test_a_last_message_is_a_challenge_that_nothing_answers(
    feed: Feed, words: Words, first: bytes | None, last: bytes
) -> None:
    exchange = words.serving((None, first, False), (b"r", last, True))
    assert feed(exchange, line(words.login)) == Send(words.challenge(b""))
    assert feed(exchange, words.response(b"r")) == Send(words.challenge(last))
    exchange.receive_data(b"\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Send(line(words.authenticated))
    with pytest.raises(UsageError, match="told of success"):
        exchange.abort()
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


@everywhere
def test_there_is_an_end_to_commands_without_a_login(words: Words) -> None:
    command, answer = words.idle
    exchange = words.serving()
    exchange.receive_data(line(command) * 11)
    for _ in range(11):
        assert crank(exchange) == Send(line(answer))
    assert crank(exchange) == Send(line(words.too_many))
    failure(exchange, ProtocolError, "11 commands and no login", survives=False)


@everywhere
def test_the_client_leaves(feed: Feed, words: Words) -> None:
    command, answer = words.leave
    exchange = words.serving()
    assert feed(exchange, line(command)) == Send(line(answer))
    failure(exchange, TruncatedStreamError, command.split()[-1], survives=False)


@everywhere
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AuthenticationError("no such user: mallory"), AuthenticationError),
        (AuthenticationError("wrong password"), AuthenticationError),
        (MutualAuthenticationError("who?"), AuthenticationError),
        (IntegrityError(), AuthenticationError),
        (NegotiationError('too\r\n"weak" é'), NegotiationError),
        (MalformedMessageError("no nonce"), ProtocolError),
        (MechanismUnavailableError("pip install it"), MechanismUnavailableError),
        (UsageError("max_ssf"), UsageError),
    ],
)
@pytest.mark.parametrize("where", ["first step", "later step", "factory"])
def test_the_mechanism_s_errors_are_answered(
    feed: Feed, words: Words, where: str, error: SASLError, kind: type[SASLError]
) -> None:
    def factory() -> ServerMechanism:
        if where == "factory":
            raise error
        return PlayedServer(*turns)

    later = where == "later step"
    turns: list[Turn] = [(None, b"c", False)] * later + [(b"r" if later else None, error, False)]
    exchange = words.server({"PLAYED": factory})
    if later:
        feed(exchange, line(words.login))
    last = words.response(b"r") if later else line(words.login)
    assert feed(exchange, last) == Send(line(words.failed[kind]))
    failure(exchange, type(error), str(error), survives=transport_survives(error))


@everywhere
@pytest.mark.parametrize("cancelled", [False, True])
def test_the_server_aborts_while_a_response_is_due(
    feed: Feed, words: Words, cancelled: bool
) -> None:
    exchange = words.serving((None, b"c", False))
    feed(exchange, line(words.login))
    assert exchange.abort() == b""
    response = line(words.cancel[0]) if cancelled else words.response(b"r")
    assert feed(exchange, response) == Send(line(words.given_up))
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Both


@everywhere
@given(
    st.lists(st.integers(1, 40), max_size=40),
    st.booleans(),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
def test_our_halves_understand_each_other_in_any_pieces(
    words: Words, pieces: list[int], early: bool, challenge: int, response: int
) -> None:
    c, r = bytes(challenge), bytes(response)
    client = words.client(
        PlayedClient((None, b"x", False), (c, r, False), (c, None, True)), initial_response=early
    )
    turns: list[Turn] = [(b"x", c, False), (r, c, True)]
    mechanism = PlayedServer(*([] if early else [(None, b"", False)]), *turns)
    server = words.server({"PLAYED": lambda: mechanism})
    assert converse(client, server, pieces) == [Done(), Done()]


@everywhere
@pytest.mark.parametrize("protection", [*PROTECTIONS, "auth"])
@pytest.mark.parametrize("pieces", [[], [1] * 2000], ids=["whole", "octets"])
def test_every_protection_of_digest_md5(
    words: Words, protection: str, pieces: Sequence[int]
) -> None:
    pair = mechanism_pair(protection, service=words.service)
    client = words.client(pair.client)
    server = words.server({"DIGEST-MD5": lambda: pair.server})
    assert converse(client, server, pieces) == [Done(), Done()]
    assert (client.trailing_data, server.trailing_data) == (b"", b"")
    ours, theirs = client.context, server.context
    if protection == "auth":
        assert (ours, theirs) == (None, None)
        return
    assert ours is not None
    assert theirs is not None
    assert theirs.unseal(ours.seal(b"to the server")) == b"to the server"
    assert ours.unseal(theirs.seal(b"to the client")) == b"to the client"
