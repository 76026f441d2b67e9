"""A login protocol of our own, and a way to speak it, or any other, over each shell.

The exchange shows how an outsider adds one. Every message is a length of 4 octets, big-endian, then
one octet of kind and a body:

    C: @ mechanism [NUL initial response]
    S: + challenge      C: + response      (as often as needed; always present, perhaps empty)
    S: . [data]         success; an empty body is no data
    S: - text           refused; another login may follow
    C: *                abort, in place of a response; the server answers with a refusal

The layer starts with the first octet after the success, in both directions.

A `Shell` runs conversations from the test's own thread. All shells look the same from there, so one
test runs over each of them: what waits in an event loop does so in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from saslwrap import (
    AuthenticationError,
    ClientMechanism,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    ServerMechanism,
)
from saslwrap.exchange import Event, Exchange, Send, transport_survives

if TYPE_CHECKING:
    from saslwrap.exchange import Script

T = TypeVar("T")

# The exchange.

BEGIN, MORE, ABORT, SUCCESS, REFUSED = b"@", b"+", b"*", b".", b"-"
LIMIT = 8192

Reply: TypeAlias = Generator[Event, None, bytes | None]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return (len(body) + 1).to_bytes(4, "big") + kind + body


class _Plain(Exchange):
    """What both halves share."""

    def _measure(self, buffer: bytearray) -> int | None:
        if len(buffer) < 4:
            return None
        if not 0 < (length := int.from_bytes(buffer[:4], "big")) <= LIMIT:
            raise ProtocolError(f"a message of {length} octets during the login, not 1 to {LIMIT}")
        return 4 + length

    def _next(self) -> Generator[Event, None, tuple[bytes, bytes]]:
        received = yield from self._message()
        return received[4:5], received[5:]


class PlainLogin(_Plain):
    """The client's half."""

    def __init__(self, mechanism: ClientMechanism) -> None:
        super().__init__(mechanism)
        self._client = mechanism
        self._challenged = False  # and the server waits for our answer

    def _run(self) -> Script:
        initial = yield from self._ask_mechanism(None)
        name = self._client.name.encode()
        yield Send(message(BEGIN, name if initial is None else name + b"\0" + initial))
        kind, body = yield from self._next()
        while kind == MORE:
            reply = yield from self._answer(body)
            yield Send(message(MORE, reply or b""))
            kind, body = yield from self._next()
        if kind == REFUSED:
            raise AuthenticationError(f"the server refused: {body.decode(errors='replace')}")
        if kind != SUCCESS:
            raise ProtocolError(f"the server sent a message of kind {kind!r}")
        yield from self._conclude(body)

    def _answer(self, challenge: bytes) -> Reply:
        self._challenged = True
        try:
            reply = yield from self._ask_mechanism(challenge)
        except SASLError as error:
            if not transport_survives(error):
                raise
            refusal = error
        else:
            self._challenged = False
            return reply
        yield Send(self._abort_message())
        yield from self._aborted()
        raise refusal

    def _conclude(self, data: bytes) -> Script:
        reply = (yield from self._ask_mechanism(data)) if data else None
        if not self._client.complete:
            raise MutualAuthenticationError("success, and no proof that the server is the server")
        if reply:
            raise ProtocolError("success, and the mechanism still has something to say")

    def _abort_message(self) -> bytes:
        return message(ABORT) if self._challenged else b""

    def _aborted(self) -> Script:
        kind, _ = yield from self._next()
        if kind == MORE and not self._challenged:
            self._challenged = True
            yield Send(self._abort_message())
            kind, _ = yield from self._next()
        if kind != REFUSED:
            raise ProtocolError("the server does not let us abort the login")


class PlainLoginServer(_Plain):
    """The server's half.

    :param mechanisms: factories by name
    :param proof_with_success: else the last message of the mechanism goes as a challenge, which the
        client answers with nothing, as in IMAP
    """

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        *,
        proof_with_success: bool = True,
    ) -> None:
        super().__init__(None)
        self._mechanisms = dict(mechanisms)
        self._proof_with_success = proof_with_success
        self._unanswered = False

    def _run(self) -> Script:
        question = yield from self._begin()
        reply = yield from self._ask(question)
        while not (self._mechanism and self._mechanism.complete):
            reply = yield from self._ask((yield from self._challenge(reply)))
        if reply is not None and not self._proof_with_success:
            if (yield from self._challenge(reply)):
                yield from self._refuse(ProtocolError("an answer to the server's proof"))
            reply = None
        yield self._say(SUCCESS, reply)

    def _begin(self) -> Reply:
        kind, body = yield from self._from_client()
        name, separator, initial = body.partition(b"\0")
        make = self._mechanisms.get(name.decode("ascii", "replace"))
        if kind != BEGIN:
            yield from self._refuse(ProtocolError("the client did not begin a login"))
        elif make is None:
            yield from self._refuse(NegotiationError(f"there is {', '.join(self._mechanisms)}"))
        else:
            self._set_mechanism(make())
        return initial if separator else None

    def _challenge(self, challenge: bytes | None) -> Generator[Event, None, bytes]:
        yield self._say(MORE, challenge)
        kind, body = yield from self._from_client()
        if kind == ABORT:
            yield from self._refuse(AuthenticationError("the client aborted the login"))
        if kind != MORE:
            yield from self._refuse(ProtocolError(f"the client sent a message of kind {kind!r}"))
        return body

    def _ask(self, question: bytes | None) -> Reply:
        try:
            return (yield from self._ask_mechanism(question))
        except SASLError as error:
            failure = error
        yield from self._refuse(failure)
        return None

    def _from_client(self) -> Generator[Event, None, tuple[bytes, bytes]]:
        received = yield from self._next()
        self._unanswered = True
        return received

    def _say(self, kind: bytes, body: bytes | None = None) -> Send:
        self._unanswered = False
        return Send(message(kind, body or b""))

    def _refuse(self, error: SASLError) -> Script:
        secret = isinstance(error, AuthenticationError)
        yield self._say(REFUSED, b"no" if secret else str(error).encode())
        raise error

    def _abort_message(self) -> bytes:
        return self._say(REFUSED).data if self._unanswered else b""

    def _aborted(self) -> Script:
        yield from ()
