from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UnacceptableSuccessError,
    UsageError,
)
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.testing.pairs import mechanism_pair
from tests.played import (
    AT_ONCE,
    LINE_LIMIT,
    Feed,
    PlayedClient,
    PlayedServer,
    Turn,
    converse,
    crank,
    failure,
    feed,
    feed_whole,
    line,
    refused,
    serving,
    started,
)

__all__ = ["feed"]


def quoted(message: bytes) -> bytes:
    return b'"%b"\r\n' % b64encode(message)


def literal(message: bytes, plus: bytes = b"") -> bytes:
    encoded = b64encode(message)
    return b"{%d%b}\r\n%b\r\n" % (len(encoded), plus, encoded)


# The client


@pytest.mark.parametrize("string", [quoted, literal])
def test_a_whole_login(feed: Feed, string: Callable[[bytes], bytes]) -> None:
    turns: list[Turn] = [(None, None, False), (b"c", b"r", False), (b"p", None, True)]
    exchange = SieveAuthenticate(PlayedClient(*turns))
    assert crank(exchange) == Send(b'AUTHENTICATE "PLAYED"\r\n')
    assert feed(exchange, string(b"c")) == Send(quoted(b"r"))
    proof = string(b"p").removesuffix(b"\r\n")
    assert feed(exchange, b'OK (SASL %b) "wel\\"come"\r\n' % proof) == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("OK", "SASL", 'wel"come')
    assert (exchange.authcid, exchange.context, exchange.trailing_data) == ("alice", None, b"")
    assert (exchange.follow_up(), exchange.capabilities) == (None, None)


@pytest.mark.parametrize(
    ("initial", "word"), [(b"token", b' "dG9rZW4="'), (b"", b' ""'), (None, b"")]
)
def test_an_initial_response(initial: bytes | None, word: bytes) -> None:
    exchange = SieveAuthenticate(PlayedClient((None, initial, True)))
    assert crank(exchange) == Send(b'AUTHENTICATE "PLAYED"%b\r\n' % word)


@pytest.mark.parametrize(("length", "is_quoted"), [(768, True), (769, False)])
def test_a_long_message_is_a_literal(feed: Feed, length: int, is_quoted: bool) -> None:
    message = bytes(length)
    exchange = SieveAuthenticate(PlayedClient((None, message, True)))
    string = quoted(message) if is_quoted else literal(message, b"+")
    assert crank(exchange) == Send(b'AUTHENTICATE "PLAYED" ' + string)


def test_what_follows_the_ok_is_left_over() -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    exchange.receive_data(b"OK {2}\r\nhi\r\n\0\0\0\x10sealed")
    assert crank(exchange) == Done()
    assert (exchange.text, exchange.trailing_data) == ("hi", b"\0\0\0\x10sealed")


@pytest.mark.parametrize("said", [b'OK "ready"\r\n', b"OK (TAG {1}\r\nx)\r\n"])
def test_success_without_proof(said: bytes) -> None:
    exchange = started(SieveAuthenticate, (None, None, False))
    exchange.receive_data(said)
    failure(exchange, MutualAuthenticationError, "PLAYED is not complete", survives=False)


@pytest.mark.parametrize(
    ("turn", "kind", "text"),
    [
        ((b"p", NegotiationError("too weak"), False), UnacceptableSuccessError, "too weak"),
        ((b"p", MutualAuthenticationError("who?"), False), MutualAuthenticationError, "who"),
        ((b"p", b"more", False), ProtocolError, "before PLAYED ended"),
        ((b"p", None, False), MutualAuthenticationError, "not complete"),
    ],
)
def test_a_success_that_the_mechanism_does_not_take(
    turn: Turn, kind: type[SASLError], text: str
) -> None:
    exchange = started(SieveAuthenticate, (None, None, False), turn)
    exchange.receive_data(b'OK (SASL "cA==")\r\n')
    failure(exchange, kind, text, survives=False)


def test_given_up_before_the_proof_is_judged() -> None:
    exchange = started(SieveAuthenticate, (None, None, False), (b"p", None, True))
    exchange.receive_data(b'OK (SASL "cA==")\r\n')
    assert exchange.advance() == Step()
    assert exchange.abort() == b""
    text = "answered OK to a login that was given up"
    failure(exchange, ProtocolError, text, survives=False)


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ("NO", AuthenticationError, "refused PLAYED: NO$"),
        ('no "because"', AuthenticationError, "NO, 'because'$"),
        ("NO {3}\r\na\r\n", AuthenticationError, "NO, 'a'$"),
        ('NO (trylater) "db"', AuthenticationError, r"NO \[TRYLATER\], 'db'$"),
        ('NO (AUTH-TOO-WEAK) "x"', NegotiationError, "more protection.*raise min_ssf.*TLS$"),
        ('NO (ENCRYPT-NEEDED) "x"', NegotiationError, "more protection"),
        ('NO (REFERRAL "sieve://b.example")', AuthenticationError, r"NO \[REFERRAL\]$"),
        ('NO "a" "b"', AuthenticationError, "NO, 'a b'$"),
        ('NO ( "a"', AuthenticationError, r"NO, '\( a'$"),
        ('NO "a" )', AuthenticationError, r"NO, 'a \)'$"),
    ],
)
def test_refusals(feed: Feed, said: str, kind: type[SASLError], text: str) -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    with pytest.raises(kind):
        feed(exchange, line(said))
    failure(exchange, kind, text, survives=True)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"\r\n", ProtocolError, "sent '' during"),
        (b'"IMPLEMENTATION" "x"\r\n', ProtocolError, "'IMPLEMENTATION x'.*Read the greeting"),
        (b"HTTP/1.1 400\r\n", ProtocolError, "'HTTP/1.1 400'"),
        (b'OK "a"b\n', MalformedMessageError, "cannot be taken apart"),
        (b'BYE "later"\r\n', ProtocolError, "ends the connection: 'later'$"),
        (b'OK (SASL word) "x"\r\n', MalformedMessageError, "SASL code without a string"),
        (b'OK (SASL "Y2g")\r\n', MalformedMessageError, "no base64"),
        (b"OK\n", MalformedMessageError, "taken apart"),
        (b"OK \0\r\n", MalformedMessageError, "taken apart"),
        (b'"Y2g=\r\n', MalformedMessageError, "taken apart"),
        (b'"Y\\2g="\r\n', MalformedMessageError, "taken apart"),
        (b'"Y2g="  "a"\r\n', MalformedMessageError, "taken apart"),
        (b'"Y2g"\r\n', MalformedMessageError, "no base64"),
        (b"{5}x\r\n", MalformedMessageError, "taken apart"),
        (b"{12345678901}\r\n", MalformedMessageError, "taken apart"),
        (b"{9999999999}\r\n", ProtocolError, f"a literal of 9999999999 octets; .* {LINE_LIMIT}$"),
        (b"OK {98294}\r\n", ProtocolError, "a literal of 98294"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started(SieveAuthenticate, (None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


def test_a_literal_over_the_limit_is_judged_by_its_length_alone() -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    exchange.receive_data(b"OK {98290}\r\n")  # with its CRLF it ends at the limit
    exchange.receive_data(b"x" * 98290)
    assert crank(exchange) == NeedData()
    exchange.receive_data(b"\r\n")
    assert crank(exchange) == Done()
    exchange = started(SieveAuthenticate, AT_ONCE)
    exchange.receive_data(b"OK {98291}\r\n")
    exchange.receive_data(b"x")
    failure(exchange, ProtocolError, "98291", survives=False)
    assert exchange.trailing_data == b""


def test_a_literal_may_look_like_anything(feed: Feed) -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    assert feed(exchange, b'OK (X {5}\r\n{3}\r\n) {8}\r\nNO "x"\r\n\r\n') == Done()
    assert (exchange.status, exchange.code, exchange.text) == ("OK", "X", 'NO "x"')


def test_a_literal_that_looks_like_the_head_of_another(feed: Feed) -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    assert feed(exchange, b"OK {3}\r\n{9}\r\n") == Done()
    assert exchange.text == "{9}"


def test_the_server_hangs_up_inside_a_literal() -> None:
    exchange = started(SieveAuthenticate, AT_ONCE)
    exchange.receive_data(b"OK {5}\r\n")
    exchange.receive_eof()
    failure(exchange, TruncatedStreamError, "during the login", survives=False)


def test_abort_while_the_server_waits_for_us() -> None:
    exchange = started(SieveAuthenticate, (None, None, False))
    exchange.receive_data(quoted(b"offer"))
    exchange.advance()
    assert exchange.abort() == b'"*"\r\n'
    exchange.receive_data(b"NO\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Behind the login


def logged_in(**capabilities: str | None) -> tuple[SieveAuthenticate, SieveAuthenticateServer]:
    pair = mechanism_pair("rc4", service="sieve")
    client = SieveAuthenticate(pair.client)
    factories = {"DIGEST-MD5": lambda: pair.server}
    server = SieveAuthenticateServer(factories, capabilities=capabilities)
    assert converse(client, server, []) == [Done(), Done()]
    return client, server


ASKED = Send(b'CAPABILITY\r\nNOOP "after login"\r\n')
ANSWERED = b'OK (TAG {11}\r\nafter login) "done"\r\n'


def behind(login: Exchange) -> Exchange:
    more = login.follow_up()
    assert more is not None
    return more


def test_both_halves_of_what_is_said_behind_a_login(feed: Feed) -> None:
    client, server = logged_in(SIEVE="fileinto", STARTTLS=None)
    asking, telling = behind(client), behind(server)
    assert crank(telling) == Send(server.greeting)
    assert crank(telling) == Done()
    telling.receive_data(b"what the client says is the application's")
    assert telling.trailing_data
    assert crank(asking) == ASKED
    assert feed(asking, server.greeting) == NeedData()
    assert feed(asking, server.greeting + ANSWERED) == Done()
    offered = {"SIEVE": "fileinto", "STARTTLS": None, "SASL": "DIGEST-MD5"}
    assert client.capabilities == offered
    for half in (asking, telling):
        with pytest.raises(UsageError):
            half.abort()


@pytest.mark.parametrize("answer", [ANSWERED, b'NO "what?"\r\n'])
def test_a_server_that_says_nothing_unasked(feed: Feed, answer: bytes) -> None:
    client, _ = logged_in()
    asking = behind(client)
    assert crank(asking) == ASKED
    feed(asking, b'"sieve" "a"\r\n"X"\r\nOK\r\n')
    asking.receive_data(answer + b"the application's")
    assert crank(asking) == Done()
    assert client.capabilities == {"SIEVE": "a", "X": None}
    assert asking.trailing_data == b"the application's"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"NO\r\n", "sent 'NO' among its capabilities"),
        (b'BYE "x"\r\n', "'BYE x' among"),
        (b'"a" "b" "c"\r\n', "'a b c' among"),
        (b'"X"\r\n' * 1000, "more than 1000 lines"),
        (b"x" * LINE_LIMIT, f"^the server sent a line over {LINE_LIMIT} octets"),
    ],
)
def test_no_capabilities(said: bytes, text: str) -> None:
    asking = behind(logged_in()[0])
    assert crank(asking) == ASKED
    asking.receive_data(said)
    failure(asking, ProtocolError, text, survives=False)


def test_a_server_may_keep_silent_behind_a_login() -> None:
    pair = mechanism_pair("rc4", service="sieve")
    server = SieveAuthenticateServer({"DIGEST-MD5": lambda: pair.server}, announce=False)
    assert converse(SieveAuthenticate(pair.client), server, []) == [Done(), Done()]
    assert server.follow_up() is None


def test_abort_behind_a_login_is_refused() -> None:
    for half in logged_in():
        more = behind(half)
        assert more.abort() == b""
        with pytest.raises(UsageError, match="nothing to abort"):
            more.advance()


# The server


@pytest.mark.parametrize(
    ("word", "initial"),
    [
        (b"", None),
        (b' ""', b""),
        (b' "dG9rZW4="', b"token"),
        (b" {8+}\r\ndG9rZW4=", b"token"),
        (b" " + literal(bytes(2000), b"+")[:-2], bytes(2000)),
    ],
)
def test_the_initial_response_may_be_absent_empty_or_there(
    word: bytes, initial: bytes | None
) -> None:
    exchange = serving(SieveAuthenticateServer, (initial, None, True))
    answer = feed_whole(exchange, b'authenticate "played"%b\r\n' % word)
    assert answer == Send(b'OK "authenticated"\r\n')
    assert crank(exchange) == Done()
    assert exchange.follow_up() is None


@pytest.mark.parametrize("string", [quoted, literal])
def test_the_last_message_comes_with_the_ok(feed: Feed, string: Callable[[bytes], bytes]) -> None:
    exchange = serving(SieveAuthenticateServer, (None, b"", False), (b"r", b"proof", True))
    assert feed(exchange, b'AUTHENTICATE "PLAYED"\r\n') == Send(b"{0}\r\n\r\n")
    exchange.receive_data(string(b"r") + b"\0\0\0\x10sealed")
    assert crank(exchange) == Send(b'OK (SASL "cHJvb2Y=") "authenticated"\r\n')
    with pytest.raises(UsageError, match="told of success"):
        exchange.abort()
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"\0\0\0\x10sealed"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("capability", '"SASL" "PLAYED"\r\nOK "ready"'),
        ("NOOP", 'OK "done"'),
        ('NOOP "a b"', 'OK (TAG "a b") "done"'),
        ('NOOP "a\\"b"', 'OK (TAG {3}\r\na"b) "done"'),
        ("STARTTLS", 'NO "log in first"'),
        ('PUTSCRIPT "a" {3+}\r\nb\r\n', 'NO "log in first"'),
    ],
)
def test_commands_before_the_login(feed: Feed, command: str, answer: str) -> None:
    exchange = serving(SieveAuthenticateServer, (None, None, True))
    for _ in range(SieveAuthenticateServer.COMMAND_LIMIT):
        assert feed(exchange, line(command)) == Send(line(answer))
    assert feed(exchange, b'AUTHENTICATE "PLAYED"\r\n') == Send(b'OK "authenticated"\r\n')


@pytest.mark.parametrize(
    ("length", "said"), [(1024, b'"%b"'), (1025, b"{1025}\r\n%b")], ids=["quoted", "literal"]
)
def test_a_quoted_string_has_at_most_1024_octets(length: int, said: bytes) -> None:
    exchange = serving(SieveAuthenticateServer)
    tag = length * b"x"
    answer = b'OK (TAG %b) "done"\r\n' % (said % tag)
    assert feed_whole(exchange, b"NOOP {%d+}\r\n%b\r\n" % (length, tag)) == Send(answer)


def test_the_greeting_quotes_what_needs_it() -> None:
    server = SieveAuthenticateServer({}, capabilities={"IMPLEMENTATION": 'a "b" \\c', "X": None})
    greeting = b'"IMPLEMENTATION" "a \\"b\\" \\\\c"\r\n"X"\r\n"SASL" ""\r\nOK "ready"\r\n'
    assert server.greeting == greeting


@pytest.mark.parametrize(
    ("capabilities", "message"),
    [
        ({"SIEVE": 'fileinto\r\n"SASL" "PLAIN'}, "one line of at most 1024 octets"),
        ({'X\nOK "ready"': None}, "one line of at most 1024 octets"),
        ({"SIEVE": "\0"}, "one line of at most 1024 octets"),
        ({"SIEVE": "\u00e9" * 513}, "one line of at most 1024 octets"),
        ({"SIEVE": "x" * 1_000_000}, "one line of at most 1024 octets"),
        ({"SASL": "PLAIN"}, "has 'SASL', which is .* said twice; SASL is added by itself"),
        ({"sasl": None}, "has 'sasl'"),
        ({"VERSION": "1.0", "version": "1.0"}, "has 'version'"),
        ({"": "x"}, "has '', which is empty"),
        ({"VERSION": 1}, r"what is in capabilities\['VERSION'\] is str, not int"),
        ({None: None}, r"what is in capabilities\[None\] is str, not NoneType"),
        (["SIEVE"], "capabilities is a mapping of names to texts, {'SIEVE': 'fileinto'}, not list"),
    ],
)
def test_capabilities_that_would_be_heard_as_something_else(
    capabilities: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        SieveAuthenticateServer({}, capabilities=capabilities)
    assert len(str(caught.value)) < 200


def test_a_capability_may_be_as_long_as_a_quoted_string() -> None:
    text = "\u00e9" * 512
    assert (
        f'"SIEVE" "{text}"'
        in SieveAuthenticateServer({}, capabilities={"SIEVE": text}).greeting.decode()
    )


def test_the_greeting_names_all_mechanisms() -> None:
    server = SieveAuthenticateServer({"ONE": PlayedServer, "two": PlayedServer})
    assert b'"SASL" "ONE TWO"\r\n' in server.greeting


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        ('AUTHENTICATE "OTHER"', NegotiationError, "asked for OTHER; there is PLAYED$"),
        ('AUTHENTICATE ""', NegotiationError, "asked for nothing"),
        ('AUTHENTICATE "PLAYED" "Y2g"', MalformedMessageError, "no base64"),
        ('AUTHENTICATE "PLAYED" "="', MalformedMessageError, "no base64"),
        ("AUTHENTICATE PLAYED", MalformedMessageError, "no command"),
        ("AUTHENTICATE", MalformedMessageError, "no command"),
        ('AUTHENTICATE "a" "b" "c"', MalformedMessageError, "no command"),
        ('"NOOP"', MalformedMessageError, "no command"),
        ("", MalformedMessageError, "no command"),
        ("NO\0OP", MalformedMessageError, "taken apart"),
    ],
)
def test_what_is_refused_in_place_of_a_login(
    feed: Feed, wire: str, kind: type[SASLError], text: str
) -> None:
    exchange = serving(SieveAuthenticateServer)
    refused(exchange, feed(exchange, line(wire)), 'NO "the client ', kind, text)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b'"*"\r\n', AuthenticationError, "client aborted"),
        (b"{1+}\r\n*\r\n", AuthenticationError, "client aborted"),
        (b"*\r\n", MalformedMessageError, "where a string was due"),
        (b'"Y2g"\r\n', MalformedMessageError, "no base64"),
        (b'"Y2g=" "Y2g="\r\n', MalformedMessageError, "where a string was due"),
    ],
)
def test_what_is_refused_in_place_of_a_response(
    feed: Feed, wire: bytes, kind: type[SASLError], text: str
) -> None:
    exchange = serving(SieveAuthenticateServer, (None, b"c", False))
    feed(exchange, b'AUTHENTICATE "PLAYED"\r\n')
    refused(exchange, feed(exchange, wire), 'NO "the client ', kind, text)


# Both
