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
from collections.abc import Callable, Generator, Mapping
from typing import Final

from saslwrap.errors import MalformedMessageError, ProtocolError, UsageError, one_line, require_kind
from saslwrap.exchange import Event, Script
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.protocols._login import LineLogin
from saslwrap.protocols._login_server import Answers, LineLoginServer, verb_of

__all__ = ["IMAPAuthenticate", "IMAPAuthenticateServer"]

_TAG: Final = re.compile(r"[!#$&',-\[\]-z|}~]+")
_COMMAND: Final = re.compile(rf"({_TAG.pattern}) ([^ ]+(?: .*)?)")
_RESULT: Final = re.compile(rf"({_TAG.pattern}) (OK|NO|BAD)(?: (.*))?", re.IGNORECASE)
_CODE: Final = re.compile(r"\[([^\] ]+)(?: ([^\]]*))?\](.*)")


class IMAPAuthenticate(LineLogin):
    """The client's half. The greeting may have been read before, and need not have been.

    :param mechanism: a new one; a mechanism is used once
    :param tag: of the command; another one for each command of a connection
    :param initial_response: whether the server has the capability SASL-IR: a first message of the
        mechanism then travels with the command, and saves a round trip
    :raises UsageError: the tag is none, or the mechanism none of a client

    :ivar status: OK, NO or BAD, once the server has said so
    :ivar code: the response code of that, as AUTHENTICATIONFAILED (RFC 5530); None without
    :ivar text: the server's words, as one printable line
    :ivar capabilities: what the server said at the end of the login that it can do, in upper case.
        None if it did not say, and always with a layer: what came before that came in clear, so the
        client has to ask again (RFC 3501 section 6.2.2)
    """

    #: How many untagged responses may come before an answer.
    UNTAGGED_LIMIT = 100

    _SUCCESS = "OK"
    _TOO_WEAK = frozenset({"PRIVACYREQUIRED"})

    def __init__(
        self, mechanism: ClientMechanism, *, tag: str = "A1", initial_response: bool = False
    ) -> None:
        super().__init__(mechanism, initial_response)
        require_kind("tag", tag, str)
        if not _TAG.fullmatch(tag):
            raise UsageError(f"tag={tag!r} is not a tag: letters and digits, as 'A1'")
        self._tag = tag
        self.capabilities: tuple[str, ...] | None = None

    def _command(self) -> bytes:
        return f"{self._tag} AUTHENTICATE {self._client.name}".encode()

    def _answer(self) -> Generator[Event, None, bytes | None]:
        for _ in range(self.UNTAGGED_LIMIT + 1):
            line = yield from self._line()
            if line.startswith(b"* "):
                self._hear_untagged(line[2:].decode(errors="replace"))
            elif line == b"+" or line.startswith(b"+ "):
                self.capabilities = None  # of a server that did not know us yet
                return (yield from self._hear_challenge(line[2:]))
            else:
                self._hear_result(line.decode(errors="replace"))
                return None
        raise ProtocolError(
            f"the server sent more than {self.UNTAGGED_LIMIT} untagged responses and no answer"
        )

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
        self._hear_end(match[2].upper(), *self._hear_text(match[3] or ""))

    def _conclude(self) -> Script:
        yield from super()._conclude()
        if self._client.context is not None:
            self.capabilities = None


class IMAPAuthenticateServer(LineLoginServer):
    """The server's half: from the first command behind the greeting, which is the application's.

    Until AUTHENTICATE comes, CAPABILITY and NOOP are answered, LOGIN is refused with NO and other
    commands with BAD; at most ten of them (`COMMAND_LIMIT`). Every refusal is answered before it is
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
    :raises UsageError: a name that SASL does not allow, or what makes no mechanism
    """

    _VERB = "AUTHENTICATE"
    _ANSWERS = Answers(
        success="OK",
        failed="NO [AUTHENTICATIONFAILED]",
        weak="NO [PRIVACYREQUIRED]",
        unknown="NO",
        broken="BAD",
        cancelled="BAD",
        given_up="NO",
        unavailable="NO [UNAVAILABLE]",
        bug="NO [SERVERBUG]",
        farewell="BYE",
    )

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        *,
        initial_response: bool = True,
    ) -> None:
        super().__init__(mechanisms, initial_response)
        self.tag: str = ""

    def _command(self) -> Generator[Event, None, tuple[str, list[str]]]:
        self.tag = ""
        line = yield from self._line()
        match = _COMMAND.fullmatch(line.decode("ascii", "replace"))
        if match is None:
            text = "the client sent a line that is no command"
            raise (yield from self._told(MalformedMessageError(text)))
        self.tag = match[1]
        return verb_of(match[2])

    def _serve(self, verb: str, words: list[str]) -> Script:
        match verb:
            case "CAPABILITY":
                yield self._result("OK", "completed", f"* CAPABILITY {self._offer()}\r\n")
            case "NOOP":
                yield self._result("OK", "completed")
            case "LOGOUT":
                yield self._result("OK", "completed", "* BYE logging out\r\n")
                raise self._leave(verb)
            case "LOGIN":
                yield self._result("NO [PRIVACYREQUIRED]", "use AUTHENTICATE")
            case _:
                yield self._result("BAD", "log in first")

    def _offer(self) -> str:
        known = "IMAP4rev1 SASL-IR" if self._initial_response else "IMAP4rev1"
        return " ".join([known, "LOGINDISABLED", *(f"AUTH={name}" for name in self._factories)])

    def _result_line(self, status: str, text: str) -> str:
        tag = "*" if status == "BYE" else self.tag or "*"
        return f"{tag} {status} {text}"
