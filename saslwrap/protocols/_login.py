"""A login in challenges and responses that are base64 in lines: the client's half.

IMAP, POP3, SMTP and ManageSieve differ in the words around it. A subclass says how its command is
written, and hears in `_answer` what the server says.
"""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import Generator
from typing import ClassVar

from saslwrap.errors import AuthenticationError, ProtocolError, SASLError, require_kind
from saslwrap.exchange import Event, Script, Send, check_kind, transport_survives
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols._lines import Lines
from saslwrap.protocols._refusals import too_weak

__all__ = ["LineLogin"]


class LineLogin(Lines):
    """The client's half; `status`, `code` and `text` are what the server said of the end."""

    #: The longest command, CRLF included; a first message that does not fit waits. None: no limit.
    _COMMAND_LIMIT: ClassVar[int | None] = None

    #: What gives the login up, in place of a response.
    _CANCEL: ClassVar[bytes] = b"*"

    #: The status that is success.
    _SUCCESS: ClassVar[str]

    #: Codes, or statuses, of a server that wants more protection.
    _TOO_WEAK: ClassVar[frozenset[str]] = frozenset()

    _peer = "server"

    def __init__(self, mechanism: ClientMechanism, initial_response: bool) -> None:
        check_kind(mechanism, ClientMechanism)
        super().__init__(mechanism)
        self._client = mechanism
        require_kind("initial_response", initial_response, bool)
        self._initial_response = initial_response
        self._due = False  # an answer of the server's
        self._challenged = False  # and the server waits for us
        self.status: str | None = None
        self.code: str | None = None
        self.text: str = ""

    def _run(self) -> Script:
        waiting = yield from self._ask(None)
        command = self._command()
        if waiting is not None and self._fits(early := command + b" " + self._initial(waiting)):
            command, waiting = early, None
        challenge = yield from self._say(command)
        if waiting is not None and challenge is not None:
            if challenge:
                raise ProtocolError(f"the server began; with {self._client.name} the client does")
            challenge = yield from self._say(self._written(waiting))
        while challenge is not None:
            reply = yield from self._ask(challenge)
            challenge = yield from self._say(self._written(reply or b""))
        if self.status != self._SUCCESS:
            raise self._refused()
        yield from self._conclude()

    @abstractmethod
    def _command(self) -> bytes:
        """Write the command that begins a login, without a first message."""

    @abstractmethod
    def _answer(self) -> Generator[Event, None, bytes | None]:
        """Hear the server's next challenge, or None: it has ended the login."""

    def _conclude(self) -> Script:
        """Take the server's success."""
        yield from ()
        self._require_complete()

    def _initial(self, message: bytes) -> bytes:
        return b64encode(message) or b"="

    def _written(self, message: bytes) -> bytes:
        return b64encode(message)

    def _fits(self, command: bytes) -> bool:
        limit = self._COMMAND_LIMIT
        return self._initial_response and (limit is None or len(command) + 2 <= limit)

    def _say(self, line: bytes) -> Generator[Event, None, bytes | None]:
        self._due, self._challenged = True, False
        yield Send(line + b"\r\n")
        return (yield from self._answer())

    def _hear_challenge(self, message: bytes) -> Generator[Event, None, bytes]:
        self._due, self._challenged = False, True
        return (yield from self._decoded(message))

    def _hear_end(self, status: str, code: str | None, text: str) -> None:
        self._due = False
        self.status, self.code, self.text = status, code, text

    def _refused(self) -> SASLError:
        code = f" [{self.code}]" if self.code else ""
        outcome = f"{self.status}{code}" + (f", {self.text!r}" if self.text else "")
        if {self.status, self.code} & self._TOO_WEAK:
            return too_weak(self._client.name, outcome, self._channel)
        return AuthenticationError(f"the server refused {self._client.name}: {outcome}")

    def _tell(self, refusal: SASLError) -> Script:
        if transport_survives(refusal):
            yield from self._settle()

    def _settle(self) -> Script:
        """Hear the answer that is due; give up if the server then waits for us, and hear that."""
        if self._due:
            yield from self._answer()
        if self._challenged:
            yield from self._say(self._CANCEL)
        if self._challenged or self.status == self._SUCCESS:
            answer = "a challenge" if self._challenged else self._SUCCESS
            raise ProtocolError(f"the server answered {answer} to a login that was given up")

    def _abort_message(self) -> bytes:
        if not self._challenged:
            return b""
        self._due, self._challenged = True, False
        return self._CANCEL + b"\r\n"

    def _aborted(self) -> Script:
        yield from self._settle()
