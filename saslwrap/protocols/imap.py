"""IMAP's AUTHENTICATE (RFC 3501 and RFC 9051 section 6.2.2), both halves, without I/O.

    C: A1 AUTHENTICATE DIGEST-MD5       (with SASL-IR, RFC 4959, perhaps a first message, `=` empty)
    S: + challenge                      (base64, as every message; an empty one is an empty line)
    C: response
    S: + rspauth
    C:                                  (nothing to say is an empty line, too)
    S: A1 OK

A success carries no data: what a server says last is a challenge, answered with an empty line. The
layer starts behind that line, and behind the CRLF of the tagged OK.

A login is given up by the line `*` in place of a response; the server answers a tagged BAD.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Mapping
from typing import ClassVar, Final

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
    one_line,
)
from saslwrap.exchange import Event, Exchange, Script, Send, transport_survives
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.protocols._texts import STRONGER, STRONGER_OVER_TLS

__all__ = ["IMAPAuthenticate", "IMAPAuthenticateServer"]

_TAG: Final = re.compile(r"[!#$&',-\[\]-z|}~]+")
_COMMAND: Final = re.compile(rf"({_TAG.pattern}) ([^ ]+)(?: (.*))?")
_RESULT: Final = re.compile(rf"({_TAG.pattern}) (OK|NO|BAD)(?: (.*))?", re.IGNORECASE)
_CODE: Final = re.compile(r"\[([^\] ]+)(?: ([^\]]*))?\](.*)")

_FRAME: Final = "what looks like a SASL frame: it is in the layer already (cyrus-imapd issue 6454)"


class _Authenticate(Exchange):
    """What both halves share: lines."""

    #: The longest line before the login is done, in octets: 64 KiB in base64, and some more.
    LINE_LIMIT: ClassVar[int] = 98304

    _peer: ClassVar[str]

    def __init__(self, mechanism: Mechanism | None) -> None:
        super().__init__(mechanism)
        self._searched = 0  # octets of the buffer, without an end of line

    def _measure(self, buffer: bytearray) -> int | None:
        if buffer and buffer[0] < 0x20 and buffer[0] not in b"\r\n":
            what = "what is no text" if buffer[0] else _FRAME
            raise ProtocolError(f"the {self._peer} sent {what}; a line of the login was due")
        end = buffer.find(b"\n", self._searched, self.LINE_LIMIT)
        if end < 0 and len(buffer) >= self.LINE_LIMIT:
            raise ProtocolError(f"the {self._peer} sent a line over {self.LINE_LIMIT} octets")
        self._searched = len(buffer) if end < 0 else end
        return None if end < 0 else end + 1

    def _line(self) -> Generator[Event, None, bytes]:
        line = yield from self._message()
        self._searched = 0
        if not line.endswith(b"\r\n") or b"\0" in line or b"\r" in line[:-2]:
            text = f"the {self._peer} sent a line without CRLF, or with CR or NUL inside"
            raise (yield from self._told(MalformedMessageError(text)))
        return line[:-2]

    def _decoded(self, message: bytes) -> Generator[Event, None, bytes]:
        try:
            return b64decode(message, validate=True)
        except ValueError:
            error = MalformedMessageError(f"the {self._peer} sent a message that is no base64")
        raise (yield from self._told(error))

    def _told(self, error: SASLError) -> Generator[Event, None, SASLError]:
        yield from self._tell(error)
        return error


class IMAPAuthenticate(_Authenticate):
    """The client's half. The greeting may have been read before, and need not have been.

    :param mechanism: a new one; a mechanism is used once
    :param tag: of the command; another one for each command of a connection
    :param initial_response: whether the server has the capability SASL-IR: a first message of the
        mechanism then travels with the command, and saves a round trip
    :raises UsageError: the tag is none

    :ivar status: OK, NO or BAD, once the server has said so
    :ivar code: the response code of that, as AUTHENTICATIONFAILED (RFC 5530); None without
    :ivar text: the server's words, as one printable line
    :ivar capabilities: what the server said at the end of the login that it can do, in upper case.
        None if it did not say, and always with a layer: what came before that came in clear, so the
        client has to ask again (RFC 3501 section 6.2.2)
    """

    _peer = "server"

    def __init__(
        self, mechanism: ClientMechanism, *, tag: str = "A1", initial_response: bool = False
    ) -> None:
        super().__init__(mechanism)
        if not _TAG.fullmatch(tag):
            raise UsageError(f"tag={tag!r} is not a tag: letters and digits, as 'A1'")
        self._client = mechanism
        self._tag = tag
        self._initial_response = initial_response
        self._due = False  # an answer of the server's
        self._challenged = False  # and the server waits for us
        self.status: str | None = None
        self.code: str | None = None
        self.text: str = ""
        self.capabilities: tuple[str, ...] | None = None

    def _run(self) -> Script:
        command = f"{self._tag} AUTHENTICATE {self._client.name}".encode()
        waiting = yield from self._ask(None)
        if self._initial_response and waiting is not None:
            command, waiting = command + b" " + (b64encode(waiting) or b"="), None
        challenge = yield from self._say(command)
        if waiting is not None and challenge is not None:
            if challenge:
                raise ProtocolError(f"the server began; with {self._client.name} the client does")
            challenge = yield from self._say(b64encode(waiting))
        while challenge is not None:
            reply = yield from self._ask(challenge)
            challenge = yield from self._say(b64encode(reply or b""))
        if self.status != "OK":
            raise self._refused()
        self._require_complete()
        if self._client.context is not None:
            self.capabilities = None

    def _say(self, line: bytes) -> Generator[Event, None, bytes | None]:
        self._due, self._challenged = True, False
        yield Send(line + b"\r\n")
        return (yield from self._answer())

    def _answer(self) -> Generator[Event, None, bytes | None]:
        """Hear the server's next challenge, or None: it has ended the login."""
        while True:
            line = yield from self._line()
            if line.startswith(b"* "):
                self._hear_untagged(line[2:].decode(errors="replace"))
            elif line == b"+" or line.startswith(b"+ "):
                self._due, self._challenged = False, True
                self.capabilities = None  # of a server that did not know us yet
                return (yield from self._decoded(line[2:]))
            else:
                self._hear_result(line.decode(errors="replace"))
                return None

    def _hear_untagged(self, response: str) -> None:
        name, _, more = response.partition(" ")
        match name.upper():
            case "CAPABILITY":
                self.capabilities = tuple(more.upper().split())
            case "OK" | "NO" | "BAD":
                self._hear_text(more)
            case "BYE":
                raise ProtocolError(f"the server ends the connection: {self._hear_text(more)[1]!r}")
            case _ if response.endswith("}"):
                raise ProtocolError("the server sent a literal during the login")

    def _hear_text(self, text: str) -> tuple[str | None, str]:
        """Take a response code and a text apart; hear capabilities, which may be in the code."""
        if not (match := _CODE.fullmatch(text)):
            return None, one_line(text)
        code = match[1].upper()
        if code == "CAPABILITY":
            self.capabilities = tuple((match[2] or "").upper().split())
        return one_line(code), one_line(match[3])

    def _hear_result(self, line: str) -> None:
        match = _RESULT.fullmatch(line)
        if match is None or match[1] != self._tag:
            raise ProtocolError(
                f"the server sent {one_line(line)!r} during the login; a challenge or the result "
                f"of {self._tag} was due. Finish what was asked before a login starts"
            )
        self._due, self.status = False, match[2].upper()
        self.code, self.text = self._hear_text(match[3] or "")

    def _refused(self) -> SASLError:
        code = f" [{self.code}]" if self.code else ""
        outcome = f"{self.status}{code}" + (f", {self.text!r}" if self.text else "")
        if self.code == "PRIVACYREQUIRED":
            over_tls = self._channel is not None and self._channel.external_ssf > 0
            return NegotiationError(
                f"the server wants more protection than {self._client.name} was to give: "
                f"{outcome}; {STRONGER_OVER_TLS if over_tls else STRONGER}"
            )
        return AuthenticationError(f"the server refused {self._client.name}: {outcome}")

    def _tell(self, refusal: SASLError) -> Script:
        if transport_survives(refusal):
            yield from self._settle()

    def _settle(self) -> Script:
        """Hear the answer that is due; give up if the server then waits for us, and hear that."""
        if self._due:
            yield from self._answer()
        if self._challenged:
            yield from self._say(b"*")
        if self._challenged or self.status == "OK":
            answer = "a challenge" if self._challenged else "OK"
            raise ProtocolError(f"the server answered {answer} to a login that was given up")

    def _abort_message(self) -> bytes:
        if not self._challenged:
            return b""
        self._due, self._challenged = True, False
        return b"*\r\n"

    def _aborted(self) -> Script:
        yield from self._settle()


class IMAPAuthenticateServer(_Authenticate):
    """The server's half: from the first command behind the greeting, which is the application's.

    Until AUTHENTICATE comes, CAPABILITY and NOOP are answered, LOGIN is refused with NO and other
    commands with BAD; at most `COMMAND_LIMIT` of them. Every refusal is answered before it is
    raised, so that the connection can be used on where `transport_survives` says so:

    ==========================================  =====================  ===============
    what came                                   answer                 error
    ==========================================  =====================  ===============
    a mechanism that we do not have             NO                     Negotiation
    `*` in place of a response                  BAD                    Authentication
    no base64; a message behind the last one    BAD                    Protocol
    an initial response, unasked                BAD                    Protocol
    no command, or CR or NUL in one             BAD, perhaps untagged  Protocol
    too many commands                           BYE                    Protocol
    a line too long; a SASL frame; TLS          none                   Protocol
    LOGOUT: the client left                     BYE, then OK           TruncatedStream
    ==========================================  =====================  ===============

    What a mechanism finds wrong is answered with the codes of RFC 5530: wrong credentials by
    AUTHENTICATIONFAILED and no further word, so that an unknown user looks like a wrong password; a
    policy that is not met by PRIVACYREQUIRED; a mechanism that is unavailable by UNAVAILABLE; a
    broken message by BAD; anything else by SERVERBUG.

    The OK names no capabilities. Those of the application are its own to say, and where there is a
    layer, clients have to ask for them again under it.

    :param mechanisms: factories by IANA name
    :param initial_response: whether a message in the command is taken (SASL-IR, RFC 4959)
    :ivar tag: of the last command, empty before the first
    """

    #: How many commands may come before AUTHENTICATE.
    COMMAND_LIMIT: ClassVar[int] = 10

    _peer = "client"

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        *,
        initial_response: bool = True,
    ) -> None:
        super().__init__(None)
        self._factories: Final = {name.upper(): make for name, make in mechanisms.items()}
        self._initial_response = initial_response
        self._unanswered = False  # a command
        self._challenging = False  # and the client has to speak
        self._succeeded = False
        self.tag: str = ""

    def abort(self) -> bytes:
        """Refuse the login, as `Exchange.abort`; not once the client was told of success."""
        if self._succeeded:
            raise UsageError("the client was told of success; there is nothing to abort")
        return super().abort()

    def _run(self) -> Script:
        reply = yield from self._ask((yield from self._begin()))
        while not (self._mechanism and self._mechanism.complete):
            reply = yield from self._ask((yield from self._challenge(reply)))
        if reply is not None and (yield from self._challenge(reply)):
            text = "the client sent a message where the mechanism was at its end"
            raise (yield from self._told(ProtocolError(text)))
        self._succeeded = True
        yield self._result("OK", "authenticated")

    def _begin(self) -> Generator[Event, None, bytes | None]:
        """Get to AUTHENTICATE, and give its initial response."""
        for _ in range(self.COMMAND_LIMIT + 1):
            name, argument = yield from self._command()
            if name == "AUTHENTICATE":
                return (yield from self._choose(*argument.partition(" ")[::2]))
            yield from self._serve(name)
        yield Send(b"* BYE too many commands before a login\r\n")
        raise ProtocolError(f"the client sent {self.COMMAND_LIMIT + 1} commands and no login")

    def _command(self) -> Generator[Event, None, tuple[str, str]]:
        self.tag = ""
        line = yield from self._line()
        match = _COMMAND.fullmatch(line.decode("ascii", "replace"))
        if match is None:
            text = "the client sent a line that is no command"
            raise (yield from self._told(MalformedMessageError(text)))
        self.tag, self._unanswered = match[1], True
        return match[2].upper(), match[3] or ""

    def _serve(self, name: str) -> Script:
        match name:
            case "CAPABILITY":
                yield self._result("OK", "completed", f"* CAPABILITY {self._offer()}\r\n")
            case "NOOP":
                yield self._result("OK", "completed")
            case "LOGOUT":
                yield self._result("OK", "completed", "* BYE logging out\r\n")
                raise TruncatedStreamError("the client left before it logged in (LOGOUT)")
            case "LOGIN":
                yield self._result("NO [PRIVACYREQUIRED]", "use AUTHENTICATE")
            case _:
                yield self._result("BAD", "log in first")

    def _offer(self) -> str:
        known = "IMAP4rev1 SASL-IR" if self._initial_response else "IMAP4rev1"
        return " ".join([known, "LOGINDISABLED", *(f"AUTH={name}" for name in self._factories)])

    def _choose(self, name: str, initial: str) -> Generator[Event, None, bytes | None]:
        if (make := self._factories.get(name.upper())) is None:
            offer = ", ".join(self._factories) or "no mechanism"
            unknown = f"the client asked for {one_line(name) or 'nothing'}; there is {offer}"
            raise (yield from self._refuse("NO", NegotiationError(unknown)))
        if initial and not self._initial_response:
            uncalled = "the client sent an initial response; SASL-IR was not offered"
            raise (yield from self._told(ProtocolError(uncalled)))
        message = yield from self._decoded(b"" if initial == "=" else initial.encode())
        try:
            self._set_mechanism(make())
        except SASLError as error:
            failure = error
        else:
            return message if initial else None
        raise (yield from self._told(failure))

    def _challenge(self, message: bytes | None) -> Generator[Event, None, bytes]:
        self._challenging = True
        yield Send(b"+ " + b64encode(message or b"") + b"\r\n")
        response = yield from self._line()
        self._challenging = False
        if response == b"*":
            given_up = AuthenticationError("the client aborted the login")
            raise (yield from self._refuse("BAD", given_up))
        return (yield from self._decoded(response))

    def _tell(self, refusal: SASLError) -> Script:
        match refusal:
            case AuthenticationError() | IntegrityError():
                yield self._result("NO [AUTHENTICATIONFAILED]", "authentication failed")
            case NegotiationError():
                yield self._result("NO [PRIVACYREQUIRED]", str(refusal))
            case ProtocolError():
                yield self._result("BAD", str(refusal))
            case MechanismUnavailableError():
                yield self._result("NO [UNAVAILABLE]", "not available here")
            case _:
                yield self._result("NO [SERVERBUG]", "internal error")

    def _refuse(self, status: str, error: SASLError) -> Generator[Event, None, SASLError]:
        yield self._result(status, str(error))
        return error

    def _result(self, status: str, text: str, before: str = "") -> Send:
        self._unanswered = self._challenging = False
        line = f"{before}{self.tag or '*'} {status} {one_line(text)}\r\n"
        return Send(line.encode("ascii", "replace"))

    def _abort_message(self) -> bytes:
        if not self._unanswered or self._challenging:
            return b""
        return self._result("NO", "given up").data

    def _aborted(self) -> Script:
        if self._challenging:
            yield from self._line()
            yield self._result("NO", "given up")
