"""The steps of DIGEST-MD5's mechanisms, fed with messages that were bent where it matters.

A message is raw; or genuine and then edited; or written anew with other directives, and, for the
server, with the right proof for them: an attacker may be a user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
)
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.digest_md5.messages import Response
from saslwrap.properties import ChannelInfo
from tests.fuzz.messages import ODD, ONCE_IN_CHALLENGE, ONCE_IN_RESPONSE
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.watched import LOGINS, POLICIES, WatchedClient, WatchedServer, judge_refusal, proof
from tests.vectors.reference import Raw

MOST_CHANGES = 4

IN_CHALLENGE = ("realm", *ONCE_IN_CHALLENGE, "x")
IN_RESPONSE = (*(name.replace("-", "_") for name in ONCE_IN_RESPONSE), "x")


def changes(reader: Reader, names: Sequence[str]) -> dict[str, Raw]:
    """Other directives: each left out, quoted, as it is, or twice."""
    changed: dict[str, Raw] = {}
    for _ in range(reader.number() % MOST_CHANGES):
        name = reader.one_of(names)
        match reader.number() % 4:
            case 0:
                changed[name] = None
            case 1:
                changed[name] = b'"' + reader.octets() + b'"'
            case 2:
                changed[name] = reader.octets()
            case _:
                changed[name] = [reader.octets(), reader.octets()]
    return changed


def with_right_proof(message: bytes) -> bytes:
    """The same response, proven by one who knows the password, as far as it can be read."""
    try:
        said = Response.parse(message)
    except MalformedMessageError:
        return message
    return message.replace(said.response, proof(said, b"AUTHENTICATE"))


def bent_challenge(reader: Reader) -> bytes | None:
    """A server's offer."""
    match reader.number() % 4:
        case 0:
            return reader.octets()
        case 1:
            return reader.edited(LOGINS[0].challenge())
        case 2:
            return LOGINS[0].challenge(**changes(reader, IN_CHALLENGE))
        case _:
            return None


def bent_rspauth(reader: Reader, client: WatchedClient) -> bytes | None:
    """A server's proof: the right one, or the client's own sent back, and what can be made of them.

    Whoever lacks the password has not got the right one; it stands here so that it can be bent.
    """
    right = proof(client.said, b"") if client.said else b"0" * 32
    match reader.number() % 4:
        case 0:
            return reader.octets()
        case 1:
            return reader.edited(b"rspauth=" + right)
        case 2:
            return reader.octets() + b"rspauth=" + reader.octets() + right + reader.octets()
        case _:
            return b"rspauth=" + (client.said.response if client.said else b"")


def bent_response(reader: Reader) -> bytes | None:
    """A client's choice and proof."""
    login = reader.one_of(LOGINS)
    match reader.number() % 4:
        case 0:
            return reader.octets() if reader.flag() else None
        case 1:
            return reader.edited(login.message())
        case 2:
            return with_right_proof(login.message(**changes(reader, IN_RESPONSE)))
        case _:
            return with_right_proof(reader.edited(login.message(maxbuf="1024")))


def client_step(data: bytes) -> None:
    """Be a client's server: one offer, one proof, and one word too many."""
    reader = Reader(data)
    client = WatchedClient(reader.one_of(POLICIES))
    client.bind_channel(ChannelInfo(external_ssf=reader.one_of((0, 56, 256))))
    if step(client, bent_challenge(reader)) is not None:
        assert client.said is not None
        step(client, bent_rspauth(reader, client))
        assert client.complete
    if reader.more:
        step(client, reader.octets())


def server_step(data: bytes) -> None:
    """Be a server's client: a first message that it ignores, a response, one word too many."""
    reader = Reader(data)
    server = WatchedServer(reader.one_of(POLICIES))
    server.bind_channel(ChannelInfo(external_ssf=reader.one_of((0, 56, 256))))
    assert step(server, reader.one_of((None, b"", reader.octets()))) is not None
    step(server, bent_response(reader))
    assert server.complete
    if reader.more:
        step(server, reader.octets())
        raise AssertionError("a message after the last one")


def step(mechanism: Mechanism, message: bytes | None) -> bytes | None:
    """Take one step; a refusal has to last."""
    was_complete = mechanism.complete
    try:
        return mechanism.step(message)
    except SASLError as error:
        judge_refusal(mechanism, error, was_complete=was_complete)
        raise


def client_seeds() -> Iterator[bytes]:
    """Each policy with the full offer; each kind of offer and of proof."""
    full = b"\1\0"  # untouched
    right = b"\1\0"
    for policy in range(len(POLICIES)):
        for external in range(3):
            head = bytes([policy, external])
            yield head + full + right
            yield head + full + right + b"\1x"
            yield head + full + b"\3"
    head = b"\1\0"
    for message in ODD:
        yield head + b"\0" + bytes([len(message)]) + message
        yield head + full + b"\0" + bytes([len(message)]) + message
    yield head + b"\3" + b"\3"
    yield head + full + b"\2\0\0\0"
    yield head + full + b"\2\2x,\0\2,y"
    yield head + full + b"\1\1\0\x0a\1x\1"
    for name, value in ((2, b"auth"), (3, b"des"), (4, b"17"), (1, b"Cn0nce"), (6, b"md5")):
        change = bytes([name, 2, len(value)]) + value
        yield head + b"\2\1" + change + right


def server_seeds() -> Iterator[bytes]:
    """Each policy with each login; each kind of response."""
    for policy in range(len(POLICIES)):
        for login in range(len(LOGINS)):
            head = bytes([policy, 0, 0, 0, login])
            yield head + b"\1\0"
            yield head + b"\3\0" + b"\1x"
    head = b"\1\0\0\0\0"
    for message in ODD:
        yield head + b"\0\1" + bytes([len(message)]) + message
    yield head + b"\0\0"
    for name, value in enumerate((b"eve", b"x", b"Cn0nce", b"N0nce", b"00000002", b"auth", b"des")):
        yield head + b"\2\1" + bytes([name, 2, len(value)]) + value
    yield head + b"\2\1" + bytes([11, 1, 3]) + b"bob"
    yield head + b"\2\1" + bytes([11, 1, 1]) + b"\xff"
    yield head + b"\2\1" + bytes([7, 2, 2]) + b"17"


TARGETS = (
    Target(
        "digest-client-step",
        client_step,
        {
            MalformedMessageError: "an offer or a proof that cannot be read",
            NegotiationError: "an offer that our policy does not take",
            ProtocolError: "our own cnonce as the server's nonce; a message after completion",
            MutualAuthenticationError: "a proof that is not the right one",
        },
        client_seeds,
        1024,
    ),
    Target(
        "digest-server-step",
        server_step,
        {
            MalformedMessageError: "a response that cannot be read",
            NegotiationError: "a choice that we did not offer, or a maxbuf that holds nothing",
            ProtocolError: "a message after completion",
            AuthenticationError: "a wrong proof, or names that are not ours",
        },
        server_seeds,
        1024,
    ),
)
