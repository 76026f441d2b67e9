"""Logins in lines, both halves of each: IMAP, POP3, SMTP and ManageSieve.

What is attacked is the same in all of them, and so is what has to hold; they differ in their words.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    TruncatedStreamError,
)
from saslwrap.exchange import Exchange, transport_survives
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.properties import SecurityProperties
from saslwrap.protocols._lines import Lines
from saslwrap.protocols._login import LineLogin
from tests.fuzz.ldap_messages import credentials
from tests.fuzz.reader import Reader
from tests.fuzz.recital import RecitalClient, RecitalServer
from tests.fuzz.talk import Login, Talk
from tests.fuzz.target import Allowed, Target
from tests.fuzz.watched import POLICIES, WEAK_OFFER, WatchedClient, WatchedServer

#: What is done with a half whose login is done, with what is left of the input.
Behind: TypeAlias = Callable[[Exchange, Reader], None]

#: The longest input.
LONGEST: Final = 2048

CLIENT_RAISES: Final[Allowed] = {
    ProtocolError: "no text, a line too long, or another one than was due; a farewell",
    MalformedMessageError: "a broken line, no base64, a challenge that cannot be read",
    TruncatedStreamError: "the end of the stream during the login",
    AuthenticationError: "a refusal",
    MutualAuthenticationError: "success, or a last message, without the right proof",
    NegotiationError: "an offer that our policy does not take; a refusal for want of protection",
}
SERVER_RAISES: Final[Allowed] = {
    ProtocolError: "no text, a line too long, too many commands, a message at the end",
    MalformedMessageError: "a broken line, no command, no base64, a response not to be read",
    TruncatedStreamError: "the end of the stream, or a farewell, before the login",
    AuthenticationError: "a wrong proof, a login given up",
    NegotiationError: "a choice or a mechanism that we do not have",
}

#: No line at all, in any of the protocols.
BROKEN: Final = (b"x\n", b"\0\0\0\1x", b"\x16\3\1", b"x\0y\r\n", b"x\ry\r\n")

#: What a client of POP3's or of SMTP's might say of a login, and in it.
AUTH_LINES: Final = (
    b"AUTH",
    b"AUTH DIGEST-MD5 =",
    b"AUTH RECITAL b25l",
    b"AUTH PLAIN",
    b"auth digest-md5",
    b"*",
    b"",
)


@dataclass(frozen=True)
class Case:
    """A login: DIGEST-MD5's under a policy; without one, a recital's, whose client begins.

    :param is_early: whether what it begins with travels with the command
    """

    policy: SecurityProperties | None
    is_early: bool = True

    def client(self, service: str) -> ClientMechanism:
        """Alice's side, or a recital's."""
        return WatchedClient(self.policy, service) if self.policy else RecitalClient()

    def servers(self, service: str) -> Mapping[str, Callable[[], ServerMechanism]]:
        """The other one, by its name."""
        if (policy := self.policy) is None:
            return {RecitalServer.name: RecitalServer}
        return {WatchedServer.name: lambda: WatchedServer(policy, service)}


CASES: Final = (*map(Case, POLICIES), Case(None), Case(None, is_early=False))


def nothing_follows(half: Exchange, reader: Reader) -> None:
    """Hold that the application speaks first."""
    assert half.follow_up() is None


@dataclass(frozen=True)
class Side:
    """One half of a login, and how it speaks.

    :param make: makes it
    :param lines: what such a half might say, without CRLF
    :param says: whether octets are what it may say, all at once
    :param heard: whether octets are all that it may hear in a login that succeeds
    :param write: writes a message of the mechanism's as it stands in a line
    :param written: finds it there; the group that matches is its base64
    """

    make: Callable[[Case], Exchange]
    lines: Sequence[bytes]
    says: Callable[[bytes], object]
    heard: Callable[[bytes], object]
    write: Callable[[bytes], bytes]
    written: re.Pattern[bytes]
    behind: Behind = nothing_follows

    def forge(self, reader: Reader, genuine: bytes) -> bytes:
        """A line that it might say, edited or not; or a message of the mechanism's."""
        match reader.number() % 5:
            case 0:
                return reader.edited(reader.one_of(self.lines)) + b"\r\n"
            case 1:
                return self.write(credentials(reader) or b"") + b"\r\n"
            case 2:
                return reader.octets() + reader.one_of((b"\r\n", b"\n", b"\r"))
            case 3:
                return self._edited_inside(reader, genuine)
            case _:
                return reader.one_of(self.lines) + b"\r\n"

    def _edited_inside(self, reader: Reader, genuine: bytes) -> bytes:
        """The genuine line, with the message in it edited; as it is without one."""
        if (match := self.written.search(genuine)) is None:
            return genuine
        try:
            message = b64decode(match[match.lastindex or 0], validate=True)
        except ValueError:
            return genuine
        return (
            genuine[: match.start()] + self.write(reader.edited(message)) + genuine[match.end() :]
        )

    def check(self, talk: Talk) -> None:
        """Hold what it says, whatever it heard, and what it heard where its login succeeded.

        And that it stores no more than a line; and that where a client says that the transport is
        usable, its server has said no.
        """
        for octets in talk.said:
            assert self.says(octets), octets
        assert talk.stored <= Lines.LINE_LIMIT, f"{talk.stored} octets are stored"
        half, fault = talk.half, talk.fault
        assert fault or not half.mechanism or self.heard(talk.taken), talk.taken
        if isinstance(half, LineLogin) and any(talk.said) and fault and transport_survives(fault):
            assert half.status not in (None, half._SUCCESS), f"{half.status}, and usable: {fault}"


@dataclass(frozen=True)
class Attack:
    """A login of which one side is attacked, from the place of the other."""

    attacked: Side
    peer: Side

    def __call__(self, data: bytes) -> None:
        reader = Reader(data)
        half = self._login(reader.one_of(CASES)).attack(reader)
        self.attacked.behind(half, reader)

    def _login(self, case: Case) -> Login:
        half, peer = (partial(side.make, case) for side in (self.attacked, self.peer))
        return Login(half, peer, self.peer.forge, self.attacked.check)

    def seeds(self) -> Iterator[bytes]:
        """Each case with its login; each line, before it, alone, and over and over; broken ones."""
        for number, case in enumerate(CASES):
            yield from self._login(case).seeds(bytes([number]))
        lenient, strict = b"\1" + bytes(3), bytes(4)
        recording = self._login(CASES[1]).recording()
        weak = self.peer.write(WEAK_OFFER) + b"\r\n"
        for line in self.peer.lines:
            line += b"\r\n"
            yield lenient + b"\0" + line + recording
            yield lenient + b"\1" + flood(line)
            yield strict + b"\0" + line
            yield strict + b"\0" + weak + line
        yield lenient + b"\0" + 12 * (self.peer.lines[0] + b"\r\n") + recording
        for line in BROKEN:
            yield lenient + b"\0" + line
        yield lenient + b"\1" + flood(b"x" * 255)


def flood(octets: bytes) -> bytes:
    """What an attacker between does: the genuine message, and then this, 512 times."""
    return bytes([4, len(octets)]) + octets + b"\x09"


def asked(command: bytes) -> bytes:
    """A pattern of what a client says: its command, a response, or that it gives the login up."""
    return rb"((%b (DIGEST-MD5|RECITAL( b25l)?)|[A-Za-z0-9+/]*=*|\*)\r\n|)" % command


def served(command: bytes) -> bytes:
    """A pattern of what a server hears: ten other commands at the most, its own, and responses."""
    return rb"(?:[^\r\n]*\r\n){0,10}%b [^\r\n]*\r\n(?:[A-Za-z0-9+/]*=*\r\n)+" % command


def plain_side(
    make: Callable[[Case], Exchange],
    lines: Sequence[bytes],
    says: bytes,
    heard: bytes,
    before: bytes = b"",
) -> Side:
    """A side whose messages are the whole of a line, or all behind the same word.

    :param says: as a pattern
    :param heard: as a pattern
    """
    return Side(
        make,
        lines,
        says=re.compile(says).fullmatch,
        heard=re.compile(heard).fullmatch,
        write=lambda message: before + b64encode(message),
        written=re.compile(rb"\A%b([A-Za-z0-9+/]*=*)(?=\r\n\Z)" % re.escape(before)),
    )


def targets(
    name: str, client: Side, server: Side, also: Allowed | None = None
) -> tuple[Target, Target]:
    """Make a protocol's targets: its client attacked, and its server.

    :param also: what its client may raise beside what all may
    """
    at_client, at_server = Attack(client, server), Attack(server, client)
    return (
        Target(name, at_client, {**CLIENT_RAISES, **(also or {})}, at_client.seeds, LONGEST),
        Target(f"{name}-server", at_server, SERVER_RAISES, at_server.seeds, LONGEST),
    )
