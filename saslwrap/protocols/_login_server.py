"""A login in challenges and responses that are base64 in lines: the server's half.

A subclass has the protocol's words: how a command is taken apart, what is answered before the
login, and the `Answers` in which a login ends.
"""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
    one_line,
    require_kind,
)
from saslwrap.exchange import Event, Script, Send, check_kind
from saslwrap.mechanism import ServerMechanism
from saslwrap.protocols._factories import factories_by_name
from saslwrap.protocols._lines import Lines

__all__ = ["Answers", "LineLoginServer", "verb_of"]


@dataclass(frozen=True, slots=True)
class Answers:
    """How a protocol's answers begin: a status, and perhaps a code.

    :ivar unknown: a mechanism, or a first message, that we do not have
    :ivar weak: what the client protects is less than our policy
    :ivar broken: a message is none
    :ivar farewell: the connection ends
    """

    success: str
    failed: str
    weak: str
    unknown: str
    broken: str
    cancelled: str
    given_up: str
    unavailable: str
    bug: str
    farewell: str


def verb_of(line: str) -> tuple[str, list[str]]:
    """Take a command apart: `AUTH MECHANISM message`, of which there may be less."""
    verb, _, argument = line.partition(" ")
    name, _, initial = argument.partition(" ")
    return verb.upper(), [name, initial] if initial else [name]


class LineLoginServer(Lines):
    """The server's half, from the first command that the application leaves to it."""

    #: How many commands may come before the login.
    COMMAND_LIMIT: ClassVar[int] = 10

    _peer = "client"
    _ANSWERS: ClassVar[Answers]
    #: The command that begins a login.
    _VERB: ClassVar[str] = "AUTH"

    #: What the client sends in place of a response to give up.
    _CANCEL: ClassVar[bytes] = b"*"

    #: What a challenge begins with.
    _CHALLENGE: ClassVar[bytes] = b"+ "

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        initial_response: bool = True,
    ) -> None:
        super().__init__(None)
        self._factories: Final = factories_by_name(mechanisms)
        require_kind("initial_response", initial_response, bool)
        self._initial_response = initial_response
        self._unanswered = False  # a command
        self._challenging = False  # and the client has to speak
        self._succeeded = False

    def abort(self) -> bytes:
        """Refuse the login, as `Exchange.abort`; not once the client was told of success."""
        if self._succeeded:
            raise UsageError("the client was told of success; there is nothing to abort")
        return super().abort()

    def _run(self) -> Script:
        reply = yield from self._ask((yield from self._begin()))
        while not (self._mechanism and self._mechanism.complete):
            reply = yield from self._ask((yield from self._challenge(reply)))
        yield from self._succeed(reply)

    def _succeed(self, proof: bytes | None) -> Script:
        """Say success; the mechanism's last message, if it has one, is a challenge before."""
        if proof is not None and (yield from self._challenge(proof)):
            text = "the client sent a message where the mechanism was at its end"
            raise (yield from self._told(ProtocolError(text)))
        self._succeeded = True
        yield self._result(self._ANSWERS.success, "authenticated")

    def _begin(self) -> Generator[Event, None, bytes | None]:
        """Get to the command that begins a login, and give its first message."""
        for _ in range(self.COMMAND_LIMIT + 1):
            verb, words = yield from self._command()
            self._unanswered = True
            if verb == self._VERB:
                return (yield from self._choose(*words))
            yield from self._serve(verb, words)
        yield self._result(self._ANSWERS.farewell, "too many commands before a login")
        raise ProtocolError(f"the client sent {self.COMMAND_LIMIT + 1} commands and no login")

    def _command(self) -> Generator[Event, None, tuple[str, list[str]]]:
        """Get a command: its name in upper case, and what follows."""
        return verb_of((yield from self._line()).decode("ascii", "replace"))

    @abstractmethod
    def _serve(self, verb: str, words: list[str]) -> Script:
        """Answer a command that comes before the login."""

    def _leave(self, verb: str) -> TruncatedStreamError:
        return TruncatedStreamError(f"the client left before it logged in ({verb})")

    def _choose(
        self, name: str, initial: str | None = None
    ) -> Generator[Event, None, bytes | None]:
        if (make := self._factories.get(name.upper())) is None:
            offer = ", ".join(self._factories) or "no mechanism"
            unknown = f"the client asked for {one_line(name) or 'nothing'}; there is {offer}"
            raise (yield from self._refuse(self._ANSWERS.unknown, NegotiationError(unknown)))
        if initial is not None and not self._initial_response:
            uncalled = "the client sent an initial response, which was not offered"
            raise (yield from self._told(ProtocolError(uncalled)))
        message = None if initial is None else (yield from self._first(initial))
        try:
            mechanism = make()
            check_kind(mechanism, ServerMechanism)
            self._set_mechanism(mechanism)
        except SASLError as error:
            failure = error
        else:
            return message
        raise (yield from self._told(failure))

    def _first(self, initial: str) -> Generator[Event, None, bytes]:
        return (yield from self._decoded(b"" if initial == "=" else initial.encode()))

    def _challenge(self, message: bytes | None) -> Generator[Event, None, bytes]:
        self._challenging = True
        yield Send(self._written(message or b"") + b"\r\n")
        response = yield from self._response()
        self._challenging = False
        if response == self._CANCEL:
            given_up = AuthenticationError("the client aborted the login")
            raise (yield from self._refuse(self._ANSWERS.cancelled, given_up))
        return (yield from self._decoded(response))

    def _written(self, message: bytes) -> bytes:
        return self._CHALLENGE + b64encode(message)

    def _response(self) -> Generator[Event, None, bytes]:
        return (yield from self._line())

    def _tell(self, refusal: SASLError) -> Script:
        answers = self._ANSWERS
        match refusal:
            case AuthenticationError() | IntegrityError():
                yield self._result(answers.failed, "authentication failed")
            case NegotiationError():
                yield self._result(answers.weak, str(refusal))
            case ProtocolError():
                yield self._result(answers.broken, str(refusal))
            case MechanismUnavailableError():
                yield self._result(answers.unavailable, "not available here")
            case _:
                yield self._result(answers.bug, "internal error")

    def _refuse(self, status: str, error: SASLError) -> Generator[Event, None, SASLError]:
        yield self._result(status, str(error))
        return error

    def _result(self, status: str, text: str, before: str = "") -> Send:
        """End what the client asked for; `before` are whole lines."""
        line = before + self._result_line(status, one_line(text)) + "\r\n"
        return self._answered(line.encode("ascii", "replace"))

    def _answered(self, data: bytes) -> Send:
        self._unanswered = self._challenging = False
        return Send(data)

    def _result_line(self, status: str, text: str) -> str:
        return f"{status} {text}"

    def _abort_message(self) -> bytes:
        if not self._unanswered or self._challenging:
            return b""
        return self._result(self._ANSWERS.given_up, "given up").data

    def _aborted(self) -> Script:
        if self._challenging:
            yield from self._response()
            yield self._result(self._ANSWERS.given_up, "given up")
