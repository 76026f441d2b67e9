"""ManageSieve's AUTHENTICATE (RFC 5804 section 2.1), both halves, without I/O.

    C: AUTHENTICATE "DIGEST-MD5"            (perhaps with a first message, "" empty)
    S: {9}                                  (base64 in a string, as every message)
       challenge
    C: "response"
    S: OK (SASL "rspauth") "authenticated"

The mechanism's last message travels with the success. The layer starts behind the CRLF of the OK,
and behind the client's last string. Then the server speaks first: with a layer it says its
capabilities again, under it, without being asked. Both halves see to that in their `follow_up`,
before the application gets the stream. The client asks all the same, because Cyrus keeps silent.

A login is given up by the string "*" in place of a response; the server answers NO.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from saslwrap.errors import MalformedMessageError, ProtocolError, UsageError, one_line, require_kind
from saslwrap.exchange import Event, Exchange, Script, Send
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.protocols._follow_up import FollowUp
from saslwrap.protocols._login import LineLogin
from saslwrap.protocols._login_server import Answers, LineLoginServer
from saslwrap.protocols._strings import QUOTED_LIMIT, Strings, Word, literal, quoted, string

__all__ = ["SieveAuthenticate", "SieveAuthenticateServer"]

_NONE: Final[Mapping[str, str | None]] = MappingProxyType({})


class SieveAuthenticate(LineLogin, Strings):
    """The client's half. The server's greeting, its capabilities, has been read before.

    :param mechanism: a new one; a mechanism is used once
    :param initial_response: whether a first message of the mechanism travels with the command, and
        saves a round trip. Every server takes it
    :raises UsageError: the mechanism is none of a client

    :ivar status: OK or NO, once the server has said so
    :ivar code: the response code of that, as AUTH-TOO-WEAK; None without
    :ivar text: the server's words, as one printable line
    :ivar capabilities: what the server said under the layer that it can do: names in upper case,
        None for one without a value. None without a layer: the greeting's are in force then
    """

    _SUCCESS = "OK"
    _CANCEL = b'"*"'
    _TOO_WEAK = frozenset({"AUTH-TOO-WEAK", "ENCRYPT-NEEDED"})

    def __init__(self, mechanism: ClientMechanism, *, initial_response: bool = True) -> None:
        super().__init__(mechanism, initial_response)
        self._proof: bytes | None = None
        self.capabilities: Mapping[str, str | None] | None = None

    def follow_up(self) -> Exchange | None:
        """Give what reads the capabilities, under the layer."""
        return None if self.context is None else _Capabilities(self)

    def _command(self) -> bytes:
        return b'AUTHENTICATE "%b"' % self._client.name.encode()

    def _initial(self, message: bytes) -> bytes:
        return self._written(message)

    def _written(self, message: bytes) -> bytes:
        return string(b64encode(message), plus=b"+")

    def _answer(self) -> Generator[Event, None, bytes | None]:
        words = yield from self._words()
        match words:
            case [bytes(message)]:
                return (yield from self._hear_challenge(message))
            case [str(status), *rest] if status.upper() in ("OK", "NO", "BYE"):
                code, text = _result(rest)
            case _:
                raise ProtocolError(
                    f"the server sent {_shown(words)} during the login; a challenge or its result "
                    "was due. Read the greeting before a login starts"
                )
        if status.upper() == "BYE":
            raise ProtocolError(f"the server ends the connection: {text!r}")
        self._hear_end(status.upper(), _name(code), text)
        if code[:1] == ["SASL"]:
            self._proof = yield from self._decoded(_value(code))
        return None

    def _conclude(self) -> Script:
        if self._proof is not None:
            yield from self._prove(self._proof)
        self._require_complete()


class _Capabilities(FollowUp, Strings):
    """What a client asks behind a login.

    Not every server says its capabilities unasked (Cyrus only where it is set so). So they are
    asked for, and a NOOP behind that shows when all is said: whether that is one list or two.
    """

    #: How many lines there may be.
    LIMIT: ClassVar[int] = 1000

    _TAG: ClassVar[bytes] = b"after login"

    _peer = "server"

    def __init__(self, login: SieveAuthenticate) -> None:
        super().__init__()
        self._login = login

    def _run(self) -> Script:
        yield Send(b'CAPABILITY\r\nNOOP "%b"\r\n' % self._TAG)
        found: dict[str, str | None] = {}
        for _ in range(self.LIMIT):
            match (yield from self._words()):
                case [bytes(name)]:
                    found[_text(name).upper()] = None
                case [bytes(name), bytes(value)]:
                    found[_text(name).upper()] = _text(value)
                case [str(status), *rest] if self._is_last(status.upper(), rest):
                    return
                case [str(status), *_] if status.upper() == "OK":
                    self._login.capabilities, found = MappingProxyType(found), {}
                case words:
                    raise ProtocolError(f"the server sent {_shown(words)} among its capabilities")
        raise ProtocolError(f"the server sent more than {self.LIMIT} lines of capabilities")

    def _is_last(self, status: str, rest: Sequence[Word]) -> bool:
        """Whether NOOP is answered; a server from before RFC 5804 does not know it."""
        unknown = status == "NO" and self._login.capabilities is not None
        return unknown or (status == "OK" and _result(rest)[0] == ["TAG", self._TAG])


class SieveAuthenticateServer(LineLoginServer, Strings):
    """The server's half: from the first command behind the greeting, which is the application's.

    Until AUTHENTICATE comes, CAPABILITY and NOOP are answered, and other commands are refused with
    NO; at most ten of them (`COMMAND_LIMIT`). Every refusal is answered before it is raised, so
    that the connection can be used on where `transport_survives` says so:

    ==========================================  ===========  ===============
    what came                                   answer       error
    ==========================================  ===========  ===============
    a mechanism that we do not have             NO           Negotiation
    `"*"` in place of a response                NO           Authentication
    no base64, no string, no command            NO           Protocol
    too many commands                           BYE          Protocol
    a line or a literal too long; a SASL frame  none         Protocol
    LOGOUT: the client left                     OK           TruncatedStream
    ==========================================  ===========  ===============

    Wrong credentials are answered by NO and no further word, so that an unknown user looks like a
    wrong password; a policy that is not met by `NO (AUTH-TOO-WEAK)`; what is not the client's fault
    by `NO (TRYLATER)`.

    :param mechanisms: factories by IANA name
    :param capabilities: what the server can do, in text: `{"SIEVE": "fileinto", "VERSION": "1.0"}`,
        None for a name without a value. SASL is added
    :param announce: whether they are said again under a layer, unasked, as RFC 5804 wants. Cyrus'
        clients ask for them, and lose what arrives together with the OK: False is for them
    :ivar greeting: the capabilities as octets, and OK: what a client is to hear first, and again
        under the layer
    :raises UsageError: a name that SASL does not allow, what makes no mechanism, or a capability
        that is SASL, said twice, no text, or more than a line of it
    """

    _VERB = "AUTHENTICATE"
    _CANCEL = b"*"
    _ANSWERS = Answers(
        success="OK",
        failed="NO",
        weak="NO (AUTH-TOO-WEAK)",
        unknown="NO",
        broken="NO",
        cancelled="NO",
        given_up="NO (TRYLATER)",
        unavailable="NO (TRYLATER)",
        bug="NO (TRYLATER)",
        farewell="BYE",
    )

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        *,
        capabilities: Mapping[str, str | None] = _NONE,
        announce: bool = True,
    ) -> None:
        super().__init__(mechanisms)
        require_kind("announce", announce, bool)
        self._announce = announce
        lines = [
            *_capability_lines(capabilities),
            f'"SASL" {quoted(" ".join(self._factories))}',
            'OK "ready"',
        ]
        self.greeting: bytes = "".join(f"{line}\r\n" for line in lines).encode()

    def follow_up(self) -> Exchange | None:
        """Give what says the capabilities again, under the layer."""
        return _Greeting(self.greeting) if self.context and self._announce else None

    def _command(self) -> Generator[Event, None, tuple[str, list[str]]]:
        match (yield from self._words()):
            case [str(verb), *words] if verb.upper() != self._VERB or _strings(words):
                return verb.upper(), [_text(word) for word in words]
        text = "the client sent a line that is no command"
        raise (yield from self._told(MalformedMessageError(text)))

    def _serve(self, verb: str, words: list[str]) -> Script:
        match verb:
            case "CAPABILITY":
                yield self._answered(self.greeting)
            case "NOOP":
                tag = b" (TAG %b)" % string(words[0].encode()) if words else b""
                yield self._answered(b'OK%b "done"\r\n' % tag)
            case "LOGOUT":
                yield self._result("OK", "bye")
                raise self._leave(verb)
            case _:
                yield self._result("NO", "log in first")

    def _first(self, initial: str) -> Generator[Event, None, bytes]:
        return (yield from self._decoded(initial.encode()))

    def _written(self, message: bytes) -> bytes:
        return literal(b64encode(message))  # a quoted one is not heard by Cyrus' sivtest

    def _response(self) -> Generator[Event, None, bytes]:
        match (yield from self._words()):
            case [bytes(response)]:
                return response
        text = "the client sent a line where a string was due"
        raise (yield from self._told(MalformedMessageError(text)))

    def _succeed(self, proof: bytes | None) -> Script:
        self._succeeded = True
        code = "" if proof is None else f" (SASL {string(b64encode(proof)).decode()})"
        yield self._result(f"{self._ANSWERS.success}{code}", "authenticated")

    def _result_line(self, status: str, text: str) -> str:
        return f"{status} {quoted(text)}"


def _capability_lines(capabilities: Mapping[str, str | None]) -> Iterator[str]:
    """Write what an application gave; refuse what would be heard as something else."""
    wanted = "a mapping of names to texts, {'SIEVE': 'fileinto'}"
    require_kind("capabilities", capabilities, Mapping, wanted)
    said = {"SASL"}
    for name, value in capabilities.items():
        texts = [name] if value is None else [name, value]
        for text in texts:
            require_kind(f"what is in capabilities[{name!r}]", text, str)
            if not text.isprintable() or len(text.encode()) > QUOTED_LIMIT:
                raise UsageError(
                    f"a capability is one line of at most {QUOTED_LIMIT} octets, not {text[:80]!r}"
                )
        if not name or name.upper() in said:
            raise UsageError(
                f"capabilities has {name!r}, which is empty or said twice; SASL is added by itself"
            )
        said.add(name.upper())
        yield " ".join(map(quoted, texts))


class _Greeting(FollowUp):
    """What a server says behind a login."""

    def __init__(self, greeting: bytes) -> None:
        super().__init__()
        self._greeting = greeting

    def _run(self) -> Script:
        yield Send(self._greeting)

    def _measure(self, buffer: bytearray) -> int | None:
        return None


def _result(rest: Sequence[Word]) -> tuple[list[Word], str]:
    """Take apart what follows a status: the response code's words, and the text."""
    code: list[Word] = []
    if rest[:1] == ["("] and ")" in rest:
        end = rest.index(")")
        code, rest = list(rest[1:end]), rest[end + 1 :]
    if code and isinstance(code[0], str):
        code[0] = code[0].upper()
    return code, one_line(" ".join(map(_text, rest)))


def _name(code: Sequence[Word]) -> str | None:
    return one_line(_text(code[0])) if code else None


def _value(code: Sequence[Word]) -> bytes:
    match code:
        case [_, bytes(value)]:
            return value
    raise MalformedMessageError("the server sent a SASL code without a string")


def _strings(words: Sequence[Word]) -> bool:
    return 1 <= len(words) <= 2 and all(isinstance(word, bytes) for word in words)


def _text(word: Word) -> str:
    return word if isinstance(word, str) else word.decode(errors="replace")


def _shown(words: Sequence[Word]) -> str:
    return repr(one_line(" ".join(map(_text, words))))
