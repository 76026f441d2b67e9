"""SMTP's AUTH (RFC 4954), both halves, without I/O. LMTP carries it the same way (RFC 2033).

    C: AUTH DIGEST-MD5          (perhaps with a first message, `=` empty)
    S: 334 challenge            (base64, as every message; an empty one is `334 `)
    C: response
    S: 334 rspauth
    C:                          (nothing to say is an empty line)
    S: 235 2.7.0 authenticated

A success carries no data: what a server says last is a challenge, answered with an empty line. The
layer starts behind that line, and behind the CRLF of the reply 235. Under it both sides begin anew,
as behind the greeting: the client says EHLO again (section 4).

A login is given up by the line `*` in place of a response; the server answers 501.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final

from saslwrap.errors import ProtocolError, one_line, require_kind
from saslwrap.exchange import Event, Script
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.protocols._login import LineLogin
from saslwrap.protocols._login_server import Answers, LineLoginServer

__all__ = ["SMTPAuth", "SMTPAuthServer"]

_REPLY: Final = re.compile(r"([2-5][0-9]{2})(?:([ -])(.*))?")
_CODE: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: (.*))?")


class SMTPAuth(LineLogin):
    """The client's half. The greeting, and the reply to EHLO or LHLO, have been read before.

    :param mechanism: a new one; a mechanism is used once
    :param initial_response: whether a first message of the mechanism travels with the command, and
        saves a round trip. One that would make the command longer than 512 octets (RFC 5321 section
        4.5.3.1.4) waits for the server's turn
    :raises UsageError: the mechanism is none of a client

    :ivar status: three digits, `235` for success, once the server has said so
    :ivar code: the enhanced status code of that, as `5.7.8` (RFC 3463); None without
    :ivar text: the server's words, as one printable line
    """

    #: How many lines a reply may have.
    REPLY_LIMIT = 100

    _SUCCESS = "235"
    _COMMAND_LIMIT = 512
    _TOO_WEAK = frozenset({"534", "538", "5.7.9", "5.7.11"})

    def __init__(self, mechanism: ClientMechanism, *, initial_response: bool = True) -> None:
        super().__init__(mechanism, initial_response)

    def _command(self) -> bytes:
        return f"AUTH {self._client.name}".encode()

    def _answer(self) -> Generator[Event, None, bytes | None]:
        status, text = yield from self._whole_reply()
        if status == "334":
            return (yield from self._hear_challenge(text.encode()))
        if status == "421":
            raise ProtocolError(f"the server ends the connection: {one_line(text)!r}")
        if status[0] not in "45" and status != self._SUCCESS:
            raise ProtocolError(f"the server sent a reply {status} during the login")
        code = _CODE.fullmatch(text)
        self._hear_end(status, code and code[1], one_line((code[2] or "") if code else text))
        return None

    def _whole_reply(self) -> Generator[Event, None, tuple[str, str]]:
        """Hear a reply: its status, and the text of its last line."""
        first: str | None = None
        for _ in range(self.REPLY_LIMIT):
            line = (yield from self._line()).decode(errors="replace")
            match = _REPLY.fullmatch(line)
            if match is None or first not in (None, match[1]):
                text = f"the server sent {one_line(line)!r} during the login; a reply was due"
                raise ProtocolError(text)
            if match[2] != "-":
                return match[1], match[3] or ""
            first = match[1]
        raise ProtocolError(f"the server sent a reply of more than {self.REPLY_LIMIT} lines")


class SMTPAuthServer(LineLoginServer):
    """The server's half: from the first command behind the greeting, which is the application's.

    Until AUTH comes, EHLO, LHLO, HELO, NOOP and RSET are answered, and other commands are refused
    with 530; at most ten of them (`COMMAND_LIMIT`). An application that takes EHLO itself starts
    behind it. Every refusal is answered before it is raised, so that the connection can be used on
    where `transport_survives` says so:

    ==========================================  ==========  ===============
    what came                                   reply       error
    ==========================================  ==========  ===============
    a mechanism that we do not have             504 5.5.4   Negotiation
    `*` in place of a response                  501 5.7.0   Authentication
    no base64; a message behind the last one    501 5.5.2   Protocol
    CR or NUL in a line                         501 5.5.2   Protocol
    too many commands                           421 4.7.0   Protocol
    a line too long; a SASL frame; TLS          none        Protocol
    QUIT: the client left                       221 2.0.0   TruncatedStream
    ==========================================  ==========  ===============

    What a mechanism finds wrong is answered as section 6 says: wrong credentials by 535 5.7.8 and
    no further word, so that an unknown user looks like a wrong password; a policy that is not met
    by 534 5.7.9; what is not the client's fault by 454 4.7.0.

    :param mechanisms: factories by IANA name
    :param hostname: how the server calls itself when it answers EHLO
    :raises UsageError: a name that SASL does not allow, or what makes no mechanism
    """

    _CHALLENGE = b"334 "
    _ANSWERS = Answers(
        success="235 2.7.0",
        failed="535 5.7.8",
        weak="534 5.7.9",
        unknown="504 5.5.4",
        broken="501 5.5.2",
        cancelled="501 5.7.0",
        given_up="454 4.7.0",
        unavailable="454 4.7.0",
        bug="454 4.7.0",
        farewell="421 4.7.0",
    )

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], ServerMechanism]],
        *,
        hostname: str = "localhost",
    ) -> None:
        super().__init__(mechanisms)
        require_kind("hostname", hostname, str)
        self._hostname = one_line(hostname)

    def _serve(self, verb: str, words: list[str]) -> Script:
        match verb:
            case "EHLO" | "LHLO":
                yield self._answered(f"250-{self._hostname}\r\n250 {self._offer()}\r\n".encode())
            case "HELO":
                yield self._result("250", self._hostname)
            case "NOOP" | "RSET":
                yield self._result("250 2.0.0", "OK")
            case "QUIT":
                yield self._result("221 2.0.0", "bye")
                raise self._leave(verb)
            case _:
                yield self._result("530 5.7.0", "authentication required")

    def _offer(self) -> str:
        """The last line of EHLO's answer."""
        return " ".join(["AUTH", *self._factories]) if self._factories else "ENHANCEDSTATUSCODES"
