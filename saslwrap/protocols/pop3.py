"""POP3's AUTH (RFC 5034), both halves, without I/O.

    C: AUTH DIGEST-MD5          (perhaps with a first message, `=` empty)
    S: + challenge              (base64, as every message; an empty one is `+ `)
    C: response
    S: + rspauth
    C:                          (nothing to say is an empty line)
    S: +OK

A success carries no data: what a server says last is a challenge, answered with an empty line. The
layer starts behind that line, and behind the CRLF of the `+OK`. Under it the client asks for the
capabilities again, and the server forgets what it heard before (section 4).

A login is given up by the line `*` in place of a response; the server answers `-ERR`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final

from saslwrap.errors import ProtocolError, one_line
from saslwrap.exchange import Event, Script
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.protocols._login import LineLogin
from saslwrap.protocols._login_server import Answers, LineLoginServer

__all__ = ["POP3Auth", "POP3AuthServer"]

_RESULT: Final = re.compile(r"(\+OK|-ERR)(?: (?:\[([^\]]+)\] ?)?(.*))?")


class POP3Auth(LineLogin):
    """The client's half. The greeting has been read before.

    :param mechanism: a new one; a mechanism is used once
    :param initial_response: whether a first message of the mechanism travels with the command, and
        saves a round trip. A server that announces SASL in its CAPA takes it. One that would make
        the command longer than 255 octets (RFC 2449 section 4) waits for the server's turn
    :raises UsageError: the mechanism is none of a client

    :ivar status: `+OK` or `-ERR`, once the server has said so
    :ivar code: the response code of that, as AUTH or SYS/TEMP (RFC 3206); None without
    :ivar text: the server's words, as one printable line
    """

    _SUCCESS = "+OK"
    _COMMAND_LIMIT = 255

    def __init__(self, mechanism: ClientMechanism, *, initial_response: bool = True) -> None:
        super().__init__(mechanism, initial_response)

    def _command(self) -> bytes:
        return f"AUTH {self._client.name}".encode()

    def _answer(self) -> Generator[Event, None, bytes | None]:
        line = yield from self._line()
        if line == b"+" or line.startswith(b"+ "):
            return (yield from self._hear_challenge(line[2:]))
        self._hear_result(line.decode(errors="replace"))
        return None

    def _hear_result(self, line: str) -> None:
        if (match := _RESULT.fullmatch(line)) is None:
            raise ProtocolError(
                f"the server sent {one_line(line)!r} during the login; a challenge, +OK or -ERR "
                "was due"
            )
        code = one_line(match[2].upper()) if match[2] else None
        self._hear_end(match[1], code, one_line(match[3] or ""))


class POP3AuthServer(LineLoginServer):
    """The server's half: from the first command behind the greeting, which is the application's.

    Until AUTH comes, CAPA is answered, and other commands are refused with `-ERR`; at most ten of
    them (`COMMAND_LIMIT`). Every refusal is answered with `-ERR` before it is raised, so that the
    connection can be used on where `transport_survives` says so:

    ==========================================  ===============
    what came                                   error
    ==========================================  ===============
    a mechanism that we do not have             Negotiation
    `*` in place of a response                  Authentication
    no base64; a message behind the last one    Protocol
    CR or NUL in a line                         Protocol
    too many commands                           Protocol
    a line too long; a SASL frame; TLS          Protocol; no answer
    QUIT: the client left                       TruncatedStream; answered by `+OK`
    ==========================================  ===============

    Wrong credentials are answered by `-ERR [AUTH]` and no further word, so that an unknown user
    looks like a wrong password; what is not the client's fault by `-ERR [SYS/TEMP]` (RFC 3206).

    What CAPA says is enough for a login. The application says the rest, after it: clients have to
    ask again under the layer.

    :param mechanisms: factories by IANA name
    :raises UsageError: a name that SASL does not allow, or what makes no mechanism
    """

    _ANSWERS = Answers(
        success="+OK",
        failed="-ERR [AUTH]",
        weak="-ERR",
        unknown="-ERR",
        broken="-ERR",
        cancelled="-ERR",
        given_up="-ERR [SYS/TEMP]",
        unavailable="-ERR [SYS/TEMP]",
        bug="-ERR [SYS/TEMP]",
        farewell="-ERR",
    )

    def __init__(self, mechanisms: Mapping[str, Callable[[], ServerMechanism]]) -> None:
        super().__init__(mechanisms)

    def _serve(self, verb: str, words: list[str]) -> Script:
        match verb:
            case "CAPA":
                yield self._answered(f"+OK\r\n{self._offer()}.\r\n".encode())
            case "QUIT":
                yield self._result("+OK", "bye")
                raise self._leave(verb)
            case _:
                yield self._result("-ERR", "use AUTH")

    def _offer(self) -> str:
        sasl = f"SASL {' '.join(self._factories)}\r\n" if self._factories else ""
        return f"{sasl}RESP-CODES\r\nAUTH-RESP-CODE\r\n"
