"""IMAP's AUTHENTICATE, both halves."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from functools import partial

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    TruncatedStreamError,
)
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from tests.fuzz.ldap_messages import credentials
from tests.fuzz.reader import Reader
from tests.fuzz.talk import Login, Talk
from tests.fuzz.target import Target
from tests.fuzz.watched import POLICIES, WatchedClient, WatchedServer

FROM_SERVER = (
    b"* OK ready",
    b"* CAPABILITY IMAP4rev1 AUTH=DIGEST-MD5",
    b"* BYE leaving",
    b"A1 OK [CAPABILITY IMAP4rev1 IDLE] done",
    b"A1 NO [PRIVACYREQUIRED] no",
    b"A1 NO [AUTHENTICATIONFAILED] no",
    b"A1 BAD what",
    b"A2 OK done",
    b"* 1 FETCH (BODY[] {5}",
    b"+",
)
FROM_CLIENT = (
    b"A0 CAPABILITY",
    b"A0 NOOP",
    b"A0 LOGOUT",
    b"A0 LOGIN alice secret",
    b"A0 SELECT INBOX",
    b"A1 AUTHENTICATE DIGEST-MD5 =",
    b"A1 AUTHENTICATE PLAIN",
    b"A1 authenticate digest-md5",
    b"*",
    b"",
)

_SAID_BY_CLIENT = re.compile(rb"((A1 AUTHENTICATE DIGEST-MD5|[A-Za-z0-9+/]*=*|\*)\r\n|)")
_SAID_BY_SERVER = re.compile(
    rb"(\* (CAPABILITY|BYE)( [!-~]+)*\r\n)?(\+ [A-Za-z0-9+/]*=*\r\n|[!-~]+ (OK|NO|BAD) [ -~]*\r\n|)"
)


def check_client(talk: Talk) -> None:
    """Hold that a client says one line at a time, and nothing else."""
    for line in talk.said:
        assert _SAID_BY_CLIENT.fullmatch(line), line


def check_server(talk: Talk) -> None:
    """Hold that no client can put words into a server's mouth."""
    for lines in talk.said:
        assert _SAID_BY_SERVER.fullmatch(lines), lines


def forged_line(lines: Sequence[bytes], before: bytes, reader: Reader, genuine: bytes) -> bytes:
    """A line that a peer might say, edited or not; or a message of the mechanism's."""
    match reader.number() % 5:
        case 0:
            return reader.edited(reader.one_of(lines)) + b"\r\n"
        case 1:
            return before + b64encode(credentials(reader) or b"") + b"\r\n"
        case 2:
            return reader.octets() + reader.one_of((b"\r\n", b"\n", b"\r"))
        case 3:
            return edited_inside(before, reader, genuine)
        case _:
            return reader.one_of(lines) + b"\r\n"


def edited_inside(before: bytes, reader: Reader, line: bytes) -> bytes:
    """The genuine line, with the message in it edited; as it is without one."""
    try:
        message = b64decode(line.removeprefix(before).removesuffix(b"\r\n"), validate=True)
    except ValueError:
        return line
    return before + b64encode(reader.edited(message)) + b"\r\n"


def client_half(policy: SecurityProperties) -> IMAPAuthenticate:
    """Alice's login."""
    return IMAPAuthenticate(WatchedClient(policy, "imap"), initial_response=True)


def server_half(policy: SecurityProperties) -> IMAPAuthenticateServer:
    """A server that knows DIGEST-MD5."""
    return IMAPAuthenticateServer({"DIGEST-MD5": lambda: WatchedServer(policy, "imap")})


def client_login(policy: SecurityProperties) -> Login:
    """The login, with its client attacked."""
    forge = partial(forged_line, FROM_SERVER, b"+ ")
    return Login(partial(client_half, policy), partial(server_half, policy), forge, check_client)


def server_login(policy: SecurityProperties) -> Login:
    """The login, with its server attacked."""
    forge = partial(forged_line, FROM_CLIENT, b"")
    return Login(partial(server_half, policy), partial(client_half, policy), forge, check_server)


def attack_client(data: bytes) -> None:
    reader = Reader(data)
    client_login(reader.one_of(POLICIES)).attack(reader)


def attack_server(data: bytes) -> None:
    reader = Reader(data)
    server_login(reader.one_of(POLICIES)).attack(reader)


def line_seeds(head: bytes, lines: Sequence[bytes], before: bytes) -> Iterator[bytes]:
    """Each line alone, and in front of a login."""
    for line in lines:
        yield head + bytes(3) + b"\0" + line + b"\r\n" + before
    yield head + bytes(3) + b"\0" + (lines[0] + b"\r\n") * 12
    for line in (b"x\n", b"\0\0\0\1x", b"\x16\3\1", b"x\0y\r\n", b"+ ?\r\n", b"A1\r\n"):
        yield head + bytes(3) + b"\0" + line


def client_seeds() -> Iterator[bytes]:
    for number, policy in enumerate(POLICIES):
        yield from client_login(policy).seeds(bytes([number]))
    yield from line_seeds(b"\1", FROM_SERVER, client_login(POLICIES[1]).recording())


def server_seeds() -> Iterator[bytes]:
    for number, policy in enumerate(POLICIES):
        yield from server_login(policy).seeds(bytes([number]))
    yield from line_seeds(b"\1", FROM_CLIENT, server_login(POLICIES[1]).recording())


TARGETS = (
    Target(
        "imap-authenticate",
        attack_client,
        {
            ProtocolError: "no text, a line too long, or another one than was due; BYE; a literal",
            MalformedMessageError: "a line without CRLF, no base64, a challenge not to be read",
            TruncatedStreamError: "the end of the stream during the login",
            AuthenticationError: "a refusal",
            MutualAuthenticationError: "success, or a last message, without the right proof",
            NegotiationError: "an offer that our policy does not take; PRIVACYREQUIRED",
        },
        client_seeds,
        2048,
    ),
    Target(
        "imap-authenticate-server",
        attack_server,
        {
            ProtocolError: "no text, a line too long, too many commands, a message at the end",
            MalformedMessageError: "a line without CRLF, no command, no base64, no response",
            TruncatedStreamError: "the end of the stream, or LOGOUT, before the login",
            AuthenticationError: "a wrong proof, a login given up",
            NegotiationError: "a choice or a mechanism that we do not have",
        },
        server_seeds,
        2048,
    ),
)
