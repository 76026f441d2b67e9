"""DIGEST-MD5's messages as octets: the list of directives, and the three kinds of message.

What was read is written again and read again: it has to be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.digest_md5.directives import parse_directives, quote
from saslwrap.mechanisms.digest_md5.messages import (
    CHALLENGE_LIMIT,
    RESPONSE_LIMIT,
    Challenge,
    Response,
    parse_rspauth,
)
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.vectors.reference import Login

#: A maxbuf of more digits is not made a number of.
LONGEST_NUMBER = 10**8

ONCE_IN_CHALLENGE = ("nonce", "qop", "cipher", "maxbuf", "charset", "algorithm", "stale")
ONCE_IN_RESPONSE = (
    *("username", "realm", "nonce", "cnonce", "nc", "qop", "cipher", "maxbuf", "digest-uri"),
    *("response", "charset", "authzid"),
)

LOGIN = Login()
CHALLENGE = LOGIN.challenge()
RESPONSE = LOGIN.message(maxbuf="65536")

#: What peers are known to send, and what they should not.
ODD = (
    b'realm="a",realm="b",nonce="x",algorithm="md5-sess",qop=auth',
    b'  , nonce = "x\\"y\\\\z" ,,algorithm=md5-sess,qop="auth,auth-conf",cipher="3des"',
    b'nonce="x",algorithm=MD5-SESS,stale=true,charset=UTF-8,maxbuf=" 000123"',
    b'username="EXAMPLE\\alice",nonce="x",cnonce="y",nc=00000001',
    b"rspauth=ea40f60335c427b5527b84dbabcdfffd",
    b"rspauth=0,rspauth=1",
    b'a="',
    b"a=b c=d",
)


def read_directives(data: bytes) -> None:
    """Parse a list, against a limit."""
    reader = Reader(data)
    limit = reader.one_of((CHALLENGE_LIMIT, RESPONSE_LIMIT))
    message = reader.rest()
    directives = parse_directives(message, limit)
    assert len(message) < limit, "a message over the limit"
    assert directives
    values = [one.value for directive in directives.values() for one in directive]
    assert sum(map(len, values)) + sum(map(len, directives)) <= len(message)
    for name, found in directives.items():
        assert name == name.lower()
        for value, lenient in found:
            assert len(value) <= len(lenient)
            again = parse_directives(b"x=" + quote(value), 2 * RESPONSE_LIMIT)
            assert again.one("x") == value


def read_message(data: bytes) -> None:
    """Read a challenge, a response or a proof."""
    reader = Reader(data)
    read, genuine = reader.one_of(
        ((read_challenge, CHALLENGE), (read_response, RESPONSE), (read_rspauth, LOGIN.proof))
    )
    read(reader.edited(genuine) if reader.flag() else reader.rest())


def check_once(message: bytes, names: Sequence[str]) -> None:
    """Hold that what may stand once does not stand twice."""
    directives = parse_directives(message, RESPONSE_LIMIT)
    assert all(len(directives.get(name, [])) <= 1 for name in names), "a directive is repeated"


def read_challenge(message: bytes) -> None:
    challenge = Challenge.parse(message)
    check_once(message, ONCE_IN_CHALLENGE)
    assert len(message) < CHALLENGE_LIMIT
    assert challenge.nonce
    assert challenge.qops
    assert 0 <= challenge.maxbuf < LONGEST_NUMBER
    if len(again := challenge.format()) < CHALLENGE_LIMIT:
        assert Challenge.parse(again) == challenge, (challenge, again)


def read_response(message: bytes) -> None:
    response = Response.parse(message)
    check_once(message, ONCE_IN_RESPONSE)
    assert len(message) < RESPONSE_LIMIT
    assert response.username
    assert response.nonce
    assert response.cnonce
    assert response.digest_uri
    assert len(response.nonce_count) == 8
    assert len(response.response) == 32
    assert response.maxbuf is None or 0 <= response.maxbuf < LONGEST_NUMBER
    assert sum(len(field) for field in (response.username, response.nonce)) < len(message)


def read_rspauth(message: bytes) -> None:
    proof = parse_rspauth(message)
    assert proof is None or proof in message.replace(b"\\", b"") or b"\\\\" in message


def directive_seeds() -> Iterator[bytes]:
    """Genuine and odd lists, and one just under and over each limit."""
    for message in (CHALLENGE, RESPONSE, LOGIN.proof, *ODD):
        yield b"\0" + message
    for number, limit in enumerate((CHALLENGE_LIMIT, RESPONSE_LIMIT)):
        for length in (limit - 1, limit):
            yield bytes([number]) + (b'a="' + b"x" * length)[: length - 1] + b'"'


def message_seeds() -> Iterator[bytes]:
    """Each kind: genuine, odd, edited."""
    for kind, message in enumerate((CHALLENGE, RESPONSE, LOGIN.proof)):
        for raw in (message, *ODD):
            yield bytes([kind, 0]) + raw
        yield bytes([kind, 1, 1, 0, 10, 3]) + b"abc" + b"\2"


TARGETS = (
    Target(
        "digest-directives",
        read_directives,
        {MalformedMessageError: "a list that breaks the grammar, or is over the limit"},
        directive_seeds,
        RESPONSE_LIMIT + 64,
    ),
    Target(
        "digest-messages",
        read_message,
        {MalformedMessageError: "a message that breaks the grammar or a directive's own rule"},
        message_seeds,
        RESPONSE_LIMIT + 64,
    ),
)
