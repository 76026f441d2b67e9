from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.layer import SecurityLayer
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.testing.pairs import mechanism_pair
from tests.peers.shells import PATIENCE, Shell
from tests.played import (
    AT_ONCE,
    LINE_LIMIT,
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
    refused,
    say,
    serving,
    started,
)

__all__ = ["feed"]


# A whole login, as RFC 2831 section 4 has it (without the trailing LF of its rspauth).

CHALLENGE = (
    b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,'
    b"charset=utf-8"
)
RESPONSE = (
    b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",'
    b'nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",'
    b"response=d388dad90d4bbd760a152321f2143af7,qop=auth"
)
RSPAUTH = b"rspauth=ea40f60335c427b5527b84dbabcdfffd"
WIRE_CHALLENGE = (
    b"+ cmVhbG09ImVsd29vZC5pbm5vc29mdC5jb20iLG5vbmNlPSJPQTZNRzl0RVFHbTJoaCIscW9wPSJhdXRoIixh"
    b"bGdvcml0aG09bWQ1LXNlc3MsY2hhcnNldD11dGYtOA==\r\n"
)
WIRE_RESPONSE = (
    b"Y2hhcnNldD11dGYtOCx1c2VybmFtZT0iY2hyaXMiLHJlYWxtPSJlbHdvb2QuaW5ub3NvZnQuY29tIixub25jZT0i"
    b"T0E2TUc5dEVRR20yaGgiLG5jPTAwMDAwMDAxLGNub25jZT0iT0E2TUhYaDZWcVRyUmsiLGRpZ2VzdC11cmk9Imlt"
    b"YXAvZWx3b29kLmlubm9zb2Z0LmNvbSIscmVzcG9uc2U9ZDM4OGRhZDkwZDRiYmQ3NjBhMTUyMzIxZjIxNDNhZjcs"
    b"cW9wPWF1dGg=\r\n"
)
WIRE_RSPAUTH = b"+ cnNwYXV0aD1lYTQwZjYwMzM1YzQyN2I1NTI3Yjg0ZGJhYmNkZmZmZA==\r\n"


class DigestClient(PlayedClient):
    name = "DIGEST-MD5"


def test_the_login_of_rfc_2831_at_the_client(feed: Feed) -> None:
    turns: list[Turn] = [
        (None, None, False),
        (CHALLENGE, RESPONSE, False),
        (RSPAUTH, None, True),
    ]
    exchange = IMAPAuthenticate(DigestClient(*turns), tag="a")
    assert crank(exchange) == Send(b"a AUTHENTICATE DIGEST-MD5\r\n")
    assert feed(exchange, WIRE_CHALLENGE) == Send(WIRE_RESPONSE)
    assert feed(exchange, WIRE_RSPAUTH) == Send(b"\r\n")
    assert feed(exchange, b"a OK User logged in\r\n") == Done()
    assert (exchange.authcid, exchange.authzid, exchange.context) == ("alice", "bob", None)
    assert (exchange.status, exchange.code, exchange.text) == ("OK", None, "User logged in")
    assert (exchange.trailing_data, exchange.capabilities) == (b"", None)


def test_the_login_of_rfc_2831_at_the_server(feed: Feed) -> None:
    mechanism = PlayedServer((None, CHALLENGE, False), (RESPONSE, RSPAUTH, True))
    exchange = IMAPAuthenticateServer({"DIGEST-MD5": lambda: mechanism})
    assert feed(exchange, b"a AUTHENTICATE DIGEST-MD5\r\n") == Send(WIRE_CHALLENGE)
    assert feed(exchange, WIRE_RESPONSE) == Send(WIRE_RSPAUTH)
    with pytest.raises(UsageError):
        _ = exchange.context
    assert feed(exchange, b"\r\n") == Send(b"a OK authenticated\r\n")
    assert crank(exchange) == Done()
    assert (exchange.authcid, exchange.authzid, exchange.context) == ("alice", "bob", None)
    assert (exchange.tag, exchange.mechanism) == ("a", mechanism)


# The client


def test_a_first_message_that_waits_meets_a_challenge() -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE)
    exchange.receive_data(challenge(b"me first"))
    failure(
        exchange, ProtocolError, "the server began; with PLAYED the client does", survives=False
    )


def test_a_first_message_that_waits_is_refused_unheard() -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE)
    exchange.receive_data(b"A1 NO no such mechanism\r\n")
    failure(exchange, AuthenticationError, "NO, 'no such mechanism'", survives=True)


@pytest.mark.parametrize("wire", [b"+\r\n", b"+ \r\n"])
@pytest.mark.parametrize("reply", [b"", None])
def test_empty_messages(feed: Feed, wire: bytes, reply: bytes | None) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False), (b"", reply, True))
    assert feed(exchange, wire) == Send(b"\r\n")


def test_a_response_in_clear_behind_the_ok_is_left_over() -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE, initial_response=True)
    exchange.receive_data(b"A1 OK done\r\n* OK in clear\r\n")
    assert crank(exchange) == Done()
    assert exchange.trailing_data == b"* OK in clear\r\n"


def test_untagged_responses_are_heard_in_between() -> None:
    exchange = started(IMAPAuthenticate, (None, None, False), (b"c", b"r", True))
    said = b"* OK ready\r\n* CAPABILITY IMAP4rev1 AUTH=X\r\n* NO [ALERT] soon\r\n* 3 EXISTS\r\n"
    assert feed_whole(exchange, said + challenge(b"c")) == say(b"r")
    assert feed_whole(exchange, b"* BAD hm\r\n*  \r\nA1 ok\r\n") == Done()
    assert exchange.status == "OK"


@pytest.mark.parametrize(
    ("said", "capabilities"),
    [
        (b"* CAPABILITY IMAP4rev1 Idle\r\nA1 OK done\r\n", ("IMAP4REV1", "IDLE")),
        (b"* OK [capability A b] hello\r\nA1 OK\r\n", ("A", "B")),
        (b"A1 OK [CAPABILITY IMAP4rev1 IDLE] done\r\n", ("IMAP4REV1", "IDLE")),
        (b"A1 OK [CAPABILITY] done\r\n", ()),
        (b"* NO [CAPABILITY X] soon\r\nA1 OK done\r\n", ("X",)),
        (b"* BAD [CAPABILITY Y] what\r\nA1 OK done\r\n", ("Y",)),
        (b"A1 OK done\r\n", None),
    ],
)
def test_capabilities_of_a_login_without_a_layer(
    said: bytes, capabilities: tuple[str, ...] | None
) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False), (b"c", b"r", True))
    feed_whole(exchange, b"* CAPABILITY OLD\r\n" + challenge(b"c"))
    assert exchange.capabilities is None
    assert feed_whole(exchange, said) == Done()
    assert exchange.capabilities == capabilities


def test_a_challenge_to_a_complete_mechanism() -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE, initial_response=True)
    exchange.receive_data(b"+ \r\n")
    failure(exchange, ProtocolError, "after PLAYED was complete", survives=False)


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ("NO", AuthenticationError, "refused PLAYED: NO$"),
        ("no because", AuthenticationError, "refused PLAYED: NO, 'because'$"),
        ("NO [UNAVAILABLE] db", AuthenticationError, r"NO \[UNAVAILABLE\], 'db'$"),
        ("NO [authenticationfailed] x", AuthenticationError, r"NO \[AUTHENTICATIONFAILED\], 'x'$"),
        ("NO [CONTACTADMIN]", AuthenticationError, r"NO \[CONTACTADMIN\]$"),
        ("NO [BADCHARSET (A B)] x", AuthenticationError, r"NO \[BADCHARSET\], 'x'$"),
        ("NO [broken", AuthenticationError, r"NO, '\[broken'$"),
        ("NO a \x1b[2J\u202e b", AuthenticationError, r"NO, 'a \[2J b'$"),
        ("NO " + "x" * 500, AuthenticationError, "NO, 'x{200}'$"),
        ("BAD what?", AuthenticationError, r"refused PLAYED: BAD, 'what\?'$"),
        ("NO [PRIVACYREQUIRED] x", NegotiationError, "more protection.*'x'; raise min_ssf.*TLS$"),
    ],
)
def test_refusals(feed: Feed, said: str, kind: type[SASLError], text: str) -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE, initial_response=True)
    with pytest.raises(kind):
        feed(exchange, line("A1", said))
    failure(exchange, kind, text, survives=True)


def test_before_the_first_line_nothing_is_known() -> None:
    assert IMAPAuthenticateServer({}).tag == ""
    client = IMAPAuthenticate(PlayedClient())
    assert (client.status, client.code, client.text) == (None, None, "")
    assert client.capabilities is None


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"A2 OK done\r\n", ProtocolError, "sent 'A2 OK done' .* the result of A1 was due"),
        (b"A1 PREAUTH\r\n", ProtocolError, "sent 'A1 PREAUTH'"),
        (b"A1\r\n", ProtocolError, "was due"),
        (b"\r\n", ProtocolError, "sent ''"),
        (b"*\r\n", ProtocolError, r"sent '\*'"),
        (b"+Y2g=\r\n", ProtocolError, r"sent '\+Y2g='"),
        (b"HTTP/1.1 400 Bad\xff Request\r\n", ProtocolError, "HTTP/1.1 400 Bad\ufffd Request"),
        (b" A1 OK done\r\n", ProtocolError, "sent 'A1 OK done'"),
        (b"\n", MalformedMessageError, "without CRLF"),
        (b"* OK hello\r\n\n", MalformedMessageError, "without CRLF"),
        (b"A1 OK done\r\r\n", MalformedMessageError, "CR or NUL inside"),
        (b"\n" + 100_000 * b"x", MalformedMessageError, "without CRLF"),
        (b"A1 OK done\n", MalformedMessageError, "without CRLF"),
        (b"A1 OK\rdone\r\n", MalformedMessageError, "CR or NUL inside"),
        (b"A1 OK \0done\r\n", MalformedMessageError, "CR or NUL inside"),
        (b"+ Y2g\r\n", MalformedMessageError, "no base64"),
        (b"+ Y2g==\r\n", MalformedMessageError, "no base64"),
        (b"+ Y2g= \r\n", MalformedMessageError, "no base64"),
        (b"+ go ahead\r\n", MalformedMessageError, "no base64"),
        (b"+ \xff\r\n", MalformedMessageError, "no base64"),
        (b"* 1 FETCH {5}\r\n", ProtocolError, "a literal during the login"),
        (b"* BYE [X] try\tlater\r\n", ProtocolError, "ends the connection: 'try later'$"),
        (b"* BYE g\xfcnther\r\n", ProtocolError, "ends the connection: 'g\ufffdnther'$"),
    ],
)
def test_what_a_server_must_not_say(wire: bytes, kind: type[SASLError], text: str) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False))
    exchange.receive_data(wire)
    failure(exchange, kind, text, survives=False)


def test_the_success_inside_the_layer_freezes_nobody() -> None:
    """cyrus-imapd issue 6454: there is no end of line to wait for."""
    pair = mechanism_pair("rc4", service="imap")
    client = IMAPAuthenticate(pair.client)
    server = IMAPAuthenticateServer({"DIGEST-MD5": lambda: pair.server})
    converse(client, server, [], stop_before=b"A1 OK")
    assert pair.server.context
    sealed = b"".join(SecurityLayer(pair.server.context).send_data(b"A1 OK done\r\n"))
    client.receive_data(sealed[:1])
    failure(client, ProtocolError, "a SASL frame: it is in the layer already", survives=False)


@pytest.mark.parametrize("tag", ["", "a b", "a+", "é", "a\r\n", "(a", "a\\", "a*"])
def test_no_tag(tag: str) -> None:
    with pytest.raises(UsageError, match="not a tag"):
        IMAPAuthenticate(PlayedClient(), tag=tag)


def cancelling() -> IMAPAuthenticate:
    """A client whose mechanism has refused what the server offers, and that has said so."""
    exchange = started(
        IMAPAuthenticate, (None, None, False), (b"offer", NegotiationError("no way"), False)
    )
    assert feed_whole(exchange, challenge(b"offer")) == Send(b"*\r\n")
    return exchange


# Limits


def test_a_line_of_the_limit_itself_is_allowed(feed: Feed) -> None:
    room = (LINE_LIMIT - len("+ \r\n")) // 4 * 3
    assert room > 65536
    exchange = started(IMAPAuthenticate, (None, None, False), (bytes(room), b"r", True))
    assert feed(exchange, challenge(bytes(room))) == say(b"r")
    exactly = IMAPAuthenticateServer({})
    assert isinstance(feed_whole(exactly, b"a " + b"x" * (LINE_LIMIT - 4) + b"\r\n"), Send)


@pytest.mark.parametrize("at_server", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_a_longer_line_is_judged_before_it_ends(at_server: bool, ended: bool) -> None:
    exchange = IMAPAuthenticateServer({}) if at_server else started(IMAPAuthenticate, AT_ONCE)
    assert crank(exchange) == NeedData()
    exchange.receive_data(b"x" * (LINE_LIMIT - 1))
    assert crank(exchange) == NeedData()
    exchange.receive_data(b"x\r\n" if ended else b"x")
    failure(exchange, ProtocolError, f"a line over {LINE_LIMIT} octets", survives=False)
    assert exchange.trailing_data == b""


def test_untagged_responses_have_a_limit(feed: Feed) -> None:
    untagged = b"* OK wait\r\n" * IMAPAuthenticate.UNTAGGED_LIMIT
    exchange = started(IMAPAuthenticate, (None, None, False), (b"c", b"r", True))
    assert feed(exchange, untagged + challenge(b"c")) == say(b"r")
    exchange.receive_data(untagged)
    assert crank(exchange) == NeedData()
    exchange.receive_data(b"* 3 EXISTS\r\n")
    failure(exchange, ProtocolError, "more than 100 untagged responses", survives=False)


def test_untagged_responses_have_a_limit_behind_our_refusal() -> None:
    exchange = cancelling()
    exchange.receive_data(b"* 3 EXISTS\r\n" * 101)
    failure(exchange, ProtocolError, "more than 100 untagged responses", survives=False)


# The client gives up


def test_an_untagged_response_before_the_answer_to_our_refusal() -> None:
    exchange = cancelling()
    exchange.receive_data(b"* OK wait\r\nA1 NO\r\n")
    failure(exchange, NegotiationError, "no way", survives=True)


def test_our_refusal_before_the_first_word_is_nobody_s_business() -> None:
    exchange = IMAPAuthenticate(PlayedClient((None, NegotiationError("no way"), False)))
    failure(exchange, NegotiationError, "no way", survives=True)


@pytest.mark.parametrize("error", [ProtocolError("what"), MutualAuthenticationError("who?")])
def test_after_a_fault_of_the_server_s_there_is_nothing_to_say(error: SASLError) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False), (b"offer", error, False))
    exchange.receive_data(challenge(b"offer"))
    failure(exchange, type(error), str(error), survives=False)


def test_a_farewell_in_answer_to_our_refusal() -> None:
    exchange = cancelling()
    exchange.receive_data(b"* BYE\r\n")
    failure(exchange, ProtocolError, "ends the connection: ''", survives=False)


def test_abort_before_anything_was_sent() -> None:
    exchange = IMAPAuthenticate(PlayedClient(AT_ONCE))
    assert exchange.advance() == Step()
    assert exchange.abort() == b""
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_while_the_server_waits_for_us(feed: Feed) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False))
    exchange.receive_data(challenge(b"offer"))
    assert exchange.advance() == Step()
    assert exchange.abort() == b"*\r\n"
    assert crank(exchange) == NeedData()
    with pytest.raises(AuthenticationError):
        feed(exchange, b"A1 BAD cancelled\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_while_an_answer_is_due_waits_for_it(feed: Feed) -> None:
    exchange = started(IMAPAuthenticate, (None, None, False))
    exchange.receive_data(b"+ b2Zm")
    assert exchange.abort() == b""
    assert crank(exchange) == NeedData()
    assert feed(exchange, b"ZXI=\r\n") == Send(b"*\r\n")
    exchange.receive_data(b"A1 BAD cancelled\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


def test_abort_while_our_refusal_is_told() -> None:
    exchange = cancelling()
    assert exchange.abort() == b""
    exchange.receive_data(b"A1 BAD cancelled\r\n")
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


@pytest.mark.parametrize(
    ("answer", "kind", "survives"),
    [(b"A1 NO\r\n", AuthenticationError, True), (b"A1 OK\r\n", ProtocolError, False)],
)
def test_abort_when_the_login_is_at_its_end(
    answer: bytes, kind: type[SASLError], survives: bool
) -> None:
    exchange = started(IMAPAuthenticate, AT_ONCE, initial_response=True)
    assert exchange.abort() == b""
    exchange.receive_data(answer)
    failure(exchange, kind, "aborted on our side|given up", survives=survives)


# The server

LOGIN = b"A1 AUTHENTICATE PLAYED\r\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (
            "CAPABILITY",
            "* CAPABILITY IMAP4rev1 SASL-IR LOGINDISABLED AUTH=PLAYED\r\nx OK completed",
        ),
        ("noop", "x OK completed"),
        ("LOGIN a b", "x NO [PRIVACYREQUIRED] use AUTHENTICATE"),
        ("LOGIN {3}", "x NO [PRIVACYREQUIRED] use AUTHENTICATE"),
        ("SELECT inbox", "x BAD log in first"),
        ("X-1 \xe9", "x BAD log in first"),
    ],
)
def test_commands_before_the_login(feed: Feed, command: str, answer: str) -> None:
    exchange = serving(IMAPAuthenticateServer, (None, None, True))
    for _ in range(IMAPAuthenticateServer.COMMAND_LIMIT):
        assert feed(exchange, line("x", command)) == Send(line(answer))
        assert crank(exchange) == NeedData()
    assert feed(exchange, LOGIN) == Send(b"A1 OK authenticated\r\n")


@pytest.mark.parametrize(
    ("wire", "answer", "kind", "text"),
    [
        ("x AUTHENTICATE OTHER", "x NO the client asked for", NegotiationError, "is PLAYED$"),
        ("x AUTHENTICATE", "x NO the client asked for nothing", NegotiationError, "nothing"),
        ("x AUTHENTICATE PLAYED Y2g", "x BAD ", MalformedMessageError, "no base64"),
        ("x AUTHENTICATE PLAYED \xe9", "x BAD ", MalformedMessageError, "no base64"),
        ("x", "* BAD ", MalformedMessageError, "no command"),
        ("", "* BAD ", MalformedMessageError, "no command"),
        ("(x NOOP", "* BAD ", MalformedMessageError, "no command"),
        ("x NO\0OP", "* BAD ", MalformedMessageError, "NUL inside"),
    ],
)
def test_what_is_refused_in_place_of_a_login(
    feed: Feed, wire: str, answer: str, kind: type[SASLError], text: str
) -> None:
    exchange = serving(IMAPAuthenticateServer)
    assert feed(exchange, b"old NOOP\r\n") == Send(b"old OK completed\r\n")
    refused(exchange, feed(exchange, line(wire)), answer, kind, text)


def test_what_is_no_command_has_no_tag() -> None:
    exchange = serving(IMAPAuthenticateServer)
    assert feed_whole(exchange, b"old NOOP\r\n") == Send(b"old OK completed\r\n")
    assert exchange.tag == "old"
    assert feed_whole(exchange, b"x\r\n") == Send(
        b"* BAD the client sent a line that is no command\r\n"
    )
    assert exchange.tag == ""


def test_no_mechanism_at_all() -> None:
    exchange = IMAPAuthenticateServer({}, initial_response=False)
    offer = b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nx OK completed\r\n"
    assert feed_whole(exchange, b"x CAPABILITY\r\n") == Send(offer)
    assert isinstance(feed_whole(exchange, LOGIN), Send)
    failure(exchange, NegotiationError, "there is no mechanism", survives=True)


def test_an_initial_response_that_was_not_called_for(feed: Feed) -> None:
    exchange = IMAPAuthenticateServer({"PLAYED": PlayedServer}, initial_response=False)
    text = "the client sent an initial response, which was not offered"
    assert feed(exchange, b"x AUTHENTICATE PLAYED =\r\n") == Send(f"x BAD {text}\r\n".encode())
    failure(exchange, ProtocolError, f"^{text}$", survives=False)


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        (b"*\r\n", AuthenticationError, "client aborted"),
        (b"=\r\n", MalformedMessageError, "no base64"),
        (b"Y2g\r\n", MalformedMessageError, "no base64"),
        (b"Y\0g=\r\n", MalformedMessageError, "NUL inside"),
        (b"Y2g=\n", MalformedMessageError, "without CRLF"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_what_is_refused_in_place_of_a_response(
    feed: Feed, complete: bool, wire: bytes, kind: type[SASLError], text: str
) -> None:
    exchange = serving(IMAPAuthenticateServer, (None, b"c", complete))
    feed(exchange, LOGIN)
    refused(exchange, feed(exchange, wire), "A1 BAD the client ", kind, text)


def test_a_message_behind_the_mechanism_s_last_one(feed: Feed) -> None:
    exchange = serving(IMAPAuthenticateServer, (None, b"proof", True))
    feed(exchange, LOGIN)
    event = feed(exchange, line(message=b"more"))
    assert event == Send(b"A1 BAD the client sent a message where the mechanism was at its end\r\n")
    failure(exchange, ProtocolError, "at its end", survives=False)


@pytest.mark.parametrize(("octet", "text"), [(0, "a SASL frame"), (0x16, "no text")])
def test_a_client_that_speaks_something_else_is_not_answered(octet: int, text: str) -> None:
    exchange = serving(IMAPAuthenticateServer)
    exchange.receive_data(bytes([octet]))
    failure(exchange, ProtocolError, text, survives=False)


@pytest.mark.parametrize("responses", [[], [line(message=b"r")]])
def test_the_server_aborts_while_the_client_waits(responses: list[bytes]) -> None:
    exchange = serving(IMAPAuthenticateServer, (None, b"c", False), (b"r", b"", True))
    exchange.receive_data(LOGIN)
    for response in responses:
        assert crank(exchange) == Send(challenge(b"c"))
        exchange.receive_data(response)
    assert exchange.advance() == Step()
    assert exchange.abort() == b"A1 NO given up\r\n"
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


@pytest.mark.parametrize("before", [b"", b"x NOOP\r\n"])
def test_the_server_aborts_before_a_login(before: bytes) -> None:
    exchange = serving(IMAPAuthenticateServer)
    feed_whole(exchange, before)
    assert exchange.abort() == b""
    failure(exchange, AuthenticationError, "aborted on our side", survives=True)


# Both


def digest(protection: str, tag: str = "A1") -> tuple[IMAPAuthenticate, IMAPAuthenticateServer]:
    pair = mechanism_pair(protection, service="imap")
    factories = {"DIGEST-MD5": lambda: pair.server}
    return IMAPAuthenticate(pair.client, tag=tag), IMAPAuthenticateServer(factories)


def test_a_layer_leaves_no_capabilities() -> None:
    client, server = digest("rc4")
    converse(client, server, [], stop_before=b"A1 OK")
    client.receive_data(b"* CAPABILITY X\r\nA1 OK [CAPABILITY Y] done\r\n")
    assert crank(client) == Done()
    assert client.capabilities is None


def test_a_refused_login_leaves_both_ends_in_step_for_the_next() -> None:
    refusing = PlayedServer((None, b"c", False), (b"r", AuthenticationError("wrong"), False))
    client = IMAPAuthenticate(PlayedClient((None, None, False), (b"c", b"r", False)))
    server = IMAPAuthenticateServer({"PLAYED": lambda: refusing})
    converse(client, server, [], stop_before=b"A1 NO")
    client.receive_data(b"A1 NO [AUTHENTICATIONFAILED] authentication failed\r\n")
    failure(server, AuthenticationError, "wrong", survives=True)
    failure(client, AuthenticationError, r"NO \[AUTHENTICATIONFAILED\]", survives=True)
    assert (client.trailing_data, server.trailing_data) == (b"", b"")
    assert converse(*digest("rc4", tag="A2"), []) == [Done(), Done()]


# Over the shells


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("server_kind", Shell.KINDS)
@pytest.mark.parametrize("client_kind", Shell.KINDS)
def test_every_shell_talks_with_every_shell(
    client_kind: str, server_kind: str, pool: ThreadPoolExecutor
) -> None:
    data = random.Random(7).randbytes(100_000)
    with Shell(client_kind) as ours, Shell(server_kind) as theirs:
        listener = theirs.listen()
        client = ours.connect(listener.getsockname()[1])
        server = theirs.accept(listener)
        login, serving = digest("rc4")
        logged_in = pool.submit(server.authenticate, serving)
        assert client.authenticate(login)
        assert logged_in.result(PATIENCE)
        received = pool.submit(server.receive_exactly, len(data))
        client.send(data)
        assert received.result(PATIENCE) == data
        server.send(b"back")
        assert client.receive_exactly(4) == b"back"


@pytest.mark.parametrize("kind", Shell.KINDS)
def test_a_second_login_after_a_refused_one_over(kind: str, pool: ThreadPoolExecutor) -> None:
    with Shell(kind) as shell, Shell("socket") as theirs:
        listener = theirs.listen()
        client = shell.connect(listener.getsockname()[1])
        server = theirs.accept(listener)
        factory = partial(PlayedServer, (None, AuthenticationError("no"), False))
        refusing = IMAPAuthenticateServer({"PLAYED": factory})
        refused = pool.submit(server.authenticate, refusing)
        with pytest.raises(AuthenticationError, match="AUTHENTICATIONFAILED"):
            client.authenticate(IMAPAuthenticate(PlayedClient((None, None, False))))
        assert isinstance(refused.exception(PATIENCE), AuthenticationError)
        login, serving = digest("auth-int", tag="A2")
        logged_in = pool.submit(server.authenticate, serving)
        assert client.authenticate(login)
        assert logged_in.result(PATIENCE)
