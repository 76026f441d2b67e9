"""Sound toys, in which the tests of the checks plant their defects: a layer, both sides of a login.

They hold every rule and protect nothing: a checksum where a MAC should be.
"""

from __future__ import annotations

import hmac
import itertools
import random
import zlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from saslwrap.context import Octets, SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MutualAuthenticationError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import Event, Exchange, Script, Send, transport_survives
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.properties import QOP, SecurityProperties, Sizes, StreamSizes
from saslwrap.testing import ContextPair

Rules: TypeAlias = Sequence[Callable[..., None]]


def names_of(rules: Rules) -> set[str]:
    """What `leave_out` calls them."""
    return {rule.__name__.lstrip("_") for rule in rules}


def broken_rule(error: AssertionError, rules: Rules) -> str:
    """The rule that did not hold: its words are in the error, and are no other one's."""
    (name,) = names_of(
        [rule for rule in rules if f"rule: {words_of(rule)} Instead: " in str(error)]
    )
    return name


def words_of(rule: Callable[..., None]) -> str:
    return " ".join((rule.__doc__ or "").split())


NAME = b"alice"
PASSWORD = "s3cret-of-alice"

OVERHEAD = 8
MAXIMUM = 100

# The layer: sequence number, message under a mask of it, checksum. Salted, so that directions and
# logins differ.


class Sealer:
    """Seals one direction."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self.number = 0

    def seal(self, message: Octets) -> bytes:
        number, self.number = self.number, self.number + 1
        plaintext = bytes(message)
        head = number.to_bytes(4, "big")
        return head + self.mask(number, plaintext) + self.checksum(head, plaintext)

    def mask(self, number: int, octets: bytes) -> bytes:
        stream = random.Random(f"{self.salt} {number}").randbytes(len(octets))
        return bytes(a ^ b for a, b in zip(octets, stream, strict=True))

    def checksum(self, head: bytes, plaintext: bytes) -> bytes:
        return zlib.crc32(self.salt.encode() + head + plaintext).to_bytes(4, "big")


class Unsealer(Sealer):
    """Opens one direction."""

    def unseal(self, token: Octets) -> bytes:
        head, body, checksum = bytes(token[:4]), bytes(token[4:-4]), bytes(token[-4:])
        self.check_number(head)
        plaintext = self.mask(self.number, body)
        self.check(head, plaintext, checksum)
        self.number += 1
        return plaintext

    def check_number(self, head: bytes) -> None:
        if head != self.number.to_bytes(4, "big"):
            raise OutOfSequenceError

    def check(self, head: bytes, plaintext: bytes, checksum: bytes) -> None:
        if checksum != self.checksum(head, plaintext):
            raise IntegrityError


def sound_context(
    sealer: Sealer,
    unsealer: Unsealer,
    context: type[SecurityContext] = SecurityContext,
    **changes: Any,
) -> SecurityContext:
    arguments: dict[str, Any] = {
        "mechanism": "TOY",
        "qop": QOP.AUTH_CONF,
        "ssf": 128,
        "cipher": "mask",
        "stream_sizes": StreamSizes(4, 4, MAXIMUM, 2, 1),
        "sizes": Sizes(4096, 8, 1, OVERHEAD),
        "local_maxbuf": 1000,
        "peer_maxbuf": MAXIMUM + OVERHEAD,
        **changes,
    }
    return context(sealer, unsealer, **arguments)


logins = itertools.count()


def sound_contexts(
    sealer: type[Sealer] = Sealer, unsealer: type[Unsealer] = Unsealer, **changes: Any
) -> ContextPair:
    """Both ends of a layer with keys of its own."""
    login = next(logins)
    there, back = f"there {login}", f"back {login}"
    return ContextPair(
        sound_context(sealer(there), unsealer(back), **changes),
        sound_context(sealer(back), unsealer(there), **changes),
    )


# The login:  S: number and strength  C: name and proof  S: proof


def proof(password: str, side: bytes, challenge: bytes) -> bytes:
    digest = hmac.new(password.encode(), side + b" " + challenge, "sha256").hexdigest()
    return digest[:16].encode()


class SoundMechanism(Mechanism):
    """What both sides share."""

    name = "TOY"

    def __init__(self, password: str = PASSWORD) -> None:
        super().__init__()
        self.password = password
        self.challenge = b""

    def proof(self, side: bytes) -> bytes:
        return proof(self.password, side, self.challenge)

    def finish(self, ours: bytes, theirs: bytes) -> None:
        ssf = int(self.challenge.split()[1])
        sealer = Sealer(self.proof(b"keys of " + ours).decode())
        unsealer = Unsealer(self.proof(b"keys of " + theirs).decode())
        self._finish(sound_context(sealer, unsealer, ssf=ssf))


class SoundClient(SoundMechanism, ClientMechanism):
    """The client's side."""

    authcid = NAME.decode()

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return 128

    def _step(self, message: bytes | None) -> bytes | None:
        if self.challenge:
            self.verify(message)
        elif message is not None:
            return self.respond(message)
        return None

    def respond(self, challenge: bytes) -> bytes:
        number, _, ssf = challenge.partition(b" ")
        if not number or ssf not in (b"128", b"112"):
            raise MalformedMessageError("that is no challenge")
        self.challenge = challenge
        return NAME + b" " + self.proof(b"client")

    def verify(self, message: bytes | None) -> None:
        if message != self.proof(b"server"):
            raise MutualAuthenticationError("the server did not prove itself")
        self.finish(b"client", b"server")


class SoundServer(SoundMechanism, ServerMechanism):
    """The server's side."""

    def _step(self, message: bytes | None) -> bytes | None:
        if self.challenge:
            return self.check(message or b"")
        self.challenge = b"%d 128" % next(logins)
        return self.challenge

    def check(self, message: bytes) -> bytes:
        name, _, given = message.partition(b" ")
        if name != NAME or given != self.proof(b"client"):
            raise AuthenticationError("wrong name or password")
        self.authcid = name.decode()
        self.finish(b"server", b"client")
        return self.proof(b"server")


# The login, as a protocol of lines carries it:
#
#   C: AUTH      S: +challenge      C: response      S: OK proof, or NO
#
# `*` in place of a response gives up; it is answered with NO.


class SoundLines(Exchange):
    """What both halves share."""

    LIMIT = 100

    def _measure(self, buffer: bytearray) -> int | None:
        length = buffer.find(b"\n", 0, self.LIMIT) + 1
        if not length and len(buffer) >= self.LIMIT:
            raise ProtocolError(f"a line over {self.LIMIT} octets")
        return length or None

    def line(self) -> Generator[Event, None, bytes]:
        return (yield from self._message())[:-1]


class SoundLogin(SoundLines):
    """The client's half."""

    due = False  # an answer of the server's
    challenged = False
    last = b"NO"  # that it has said

    def _run(self) -> Script:
        line = yield from self.say(b"AUTH")
        while line.startswith(b"+"):
            line = yield from self.say((yield from self._ask(line[1:])) or b"")
        yield from self.conclude(line)

    def say(self, line: bytes) -> Generator[Event, None, bytes]:
        self.due, self.challenged = True, False
        yield Send(line + b"\n")
        return (yield from self.hear())

    def hear(self) -> Generator[Event, None, bytes]:
        line = yield from self.line()
        self.due, self.challenged, self.last = False, line.startswith(b"+"), line
        return line

    def conclude(self, line: bytes) -> Script:
        if line == b"NO":
            raise AuthenticationError("the server says NO")
        if not line.startswith(b"OK "):
            raise ProtocolError("the server says neither OK nor NO")
        yield from self._ask_mechanism(line[3:])
        self._require_complete()

    def _tell(self, refusal: SASLError) -> Script:
        if transport_survives(refusal):
            yield from self._aborted()

    def _abort_message(self) -> bytes:
        if not self.challenged:
            return b""
        self.due, self.challenged = True, False
        return b"*\n"

    def _aborted(self) -> Script:
        line = (yield from self.hear()) if self.due else self.last
        if self.challenged:
            line = yield from self.say(b"*")
        if line != b"NO":
            raise ProtocolError("the server does not say NO")


class SoundLoginServer(SoundLines):
    """The server's half."""

    asked = False  # and not answered
    begun = False
    succeeded = False

    def _run(self) -> Script:
        if (yield from self.line()) != b"AUTH":
            raise ProtocolError("the client asks for something else")
        message: bytes | None = None
        self.begun = self.asked = True
        while True:
            reply = yield from self._ask(message)
            if self.mechanism is not None and self.mechanism.complete:
                break
            message = yield from self.challenge(reply)
        self.succeeded = True
        yield Send(b"OK " + (reply or b"") + b"\n")

    def challenge(self, challenge: bytes | None) -> Generator[Event, None, bytes]:
        self.asked = False
        yield Send(b"+" + (challenge or b"") + b"\n")
        response = yield from self.line()
        self.asked = True
        if response == b"*":
            yield Send(b"NO\n")
            raise AuthenticationError("the client gave up")
        return response

    def _tell(self, refusal: SASLError) -> Script:
        yield Send(b"NO\n")

    def abort(self) -> bytes:
        if self.succeeded:
            raise UsageError("the client was told of success")
        return super().abort()

    def _abort_message(self) -> bytes:
        return b"NO\n" if self.asked else b""

    def _aborted(self) -> Script:
        if self.begun and not self.asked:
            yield from self.line()
            yield Send(b"NO\n")
