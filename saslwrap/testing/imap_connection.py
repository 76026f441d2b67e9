"""One client of `IMAPServer`: its commands as they come in, and all that is more than a question.

A line, and a literal, are judged before they are stored. What is refused is answered, and the
connection goes on; what breaks the protocol ends it, with a BYE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from anyio import CancelScope, EndOfStream, fail_after
from anyio.abc import AnyByteStream

from saslwrap.errors import ProtocolError, one_line
from saslwrap.protocols.imap import IMAPAuthenticateServer
from saslwrap.testing.imap_commands import Command, CommandError, LiteralSize
from saslwrap.testing.imap_session import Session, tagged
from saslwrap.testing.quirky_authenticate import QuirkyAuthenticateServer
from saslwrap.testing.server import Connection, SASLServer

__all__ = ["IMAPConnection"]

#: The longest line, and all lines of a command together, in octets.
_LINE_LIMIT: Final = IMAPAuthenticateServer.LINE_LIMIT

_EXTENSIONS: Final = (
    "SASL-IR",
    "LITERAL+",
    "ID",
    "IDLE",
    "MOVE",
    "NAMESPACE",
    "UIDPLUS",
    "UNSELECT",
)


class IMAPConnection(Connection):
    """One client. It has a session from the start, and may use it once it is logged in.

    :param append_limit: octets that the literals of a command may have, all together
    """

    def __init__(
        self,
        server: SASLServer,
        session: Session,
        transport: AnyByteStream,
        *,
        append_limit: int,
    ) -> None:
        super().__init__(server, transport)
        self._append_limit: Final = append_limit
        self._session: Final = session
        self._tag = "*"
        self._searched = 0  # octets of the buffer, without an end of line
        self._left = False

    async def run(self) -> None:
        """Answer commands until the client leaves."""
        await self._send(f"* OK [CAPABILITY {self._capabilities}] ready\r\n".encode())
        with suppress(EndOfStream):
            while not self._left:
                await self._answer_next()
        await self._stream.aclose()

    async def _answer_next(self) -> None:
        self._tag = "*"
        try:
            await self._answer(await self._next_command())
        except CommandError as error:
            await self._send(f"{self._tag} {error.status} {error}\r\n".encode())

    async def _answer(self, command: Command) -> None:
        if (handle := _HANDLERS.get(command.name)) is not None:
            await handle(self, command)
        else:
            self._require_login()
            await self._send_all(self._session.answer(command))

    def _require_login(self) -> None:
        if self._identity is None:
            raise CommandError("BAD", "log in first")

    def _farewell(self, error: Exception) -> bytes:
        return f"* BYE {one_line(_reason(error))}\r\n".encode("ascii", "replace")

    # reading

    async def _next_command(self) -> Command:
        with fail_after(self._server.idle_timeout):
            command = Command(await self._read_line(_LINE_LIMIT))
            self._tag = command.tag
            room = self._append_limit if self._identity is not None else 0
            while (literal := command.announced) is not None:
                room -= literal.size
                await self._invite(literal, fits=room >= 0)
                octets = await self._read(literal.size)
                command.go_on(octets, await self._read_line(_LINE_LIMIT - len(command.text)))
        return command

    async def _invite(self, literal: LiteralSize, *, fits: bool) -> None:
        """Judge a literal before any of it is stored (RFC 7888 section 4)."""
        if fits and literal.synchronising:
            await self._send(b"+ go ahead\r\n")
        elif literal.synchronising:
            raise CommandError("NO [TOOBIG]", "the literals of this command are too long")
        elif not fits:
            raise ProtocolError("the client sent a literal that is too long, unasked")

    async def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._read_more()
        octets = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return octets

    async def _read_line(self, limit: int) -> bytes:
        while (line := self._take_line(limit)) is None:
            await self._read_more()
        return line

    def _take_line(self, limit: int) -> bytes | None:
        if self._buffer and self._buffer[0] < 0x20 and self._buffer[0] not in b"\r\n":
            raise ProtocolError("the client sent what is no text; a command was due")
        end = self._buffer.find(b"\n", self._searched, limit)
        if end < 0 and len(self._buffer) >= limit:
            raise ProtocolError(f"the client sent a command of over {_LINE_LIMIT} octets")
        self._searched = len(self._buffer) if end < 0 else 0
        if end < 0:
            return None
        line = bytes(memoryview(self._buffer)[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def _read_more(self) -> None:
        if not await self._receive_more():
            raise EndOfStream

    # commands that are more than a question about mailboxes

    @property
    def _capabilities(self) -> str:
        """Mechanisms come before the end: to imtest a `]` behind one is a part of its name."""
        before = ["LOGINDISABLED"] if self._identity is None else []
        if before and self._can_start_tls:
            before.append("STARTTLS")
        logins = (f"AUTH={name}" for name in self._mechanisms)
        limit = f"APPENDLIMIT={self._append_limit}"
        return " ".join(["IMAP4rev1", *before, *logins, *_EXTENSIONS, limit])

    async def _capability(self, command: Command) -> None:
        command.end()
        await self._complete(command, f"* CAPABILITY {self._capabilities}\r\n".encode())

    async def _noop(self, command: Command) -> None:
        command.end()
        await self._complete(command, *self._session.news())

    async def _id(self, command: Command) -> None:
        """Say who we are (RFC 2971); who the client is does not matter."""
        await self._complete(command, b'* ID ("name" "saslwrap")\r\n')

    async def _logout(self, command: Command) -> None:
        command.end()
        self._left = True
        await self._complete(command, b"* BYE logging out\r\n")

    async def _complete(self, command: Command, *untagged: bytes) -> None:
        await self._send_all([*untagged, tagged(command, "OK", f"{command.name} completed")])

    async def _login(self, command: Command) -> None:
        self._require_nobody()
        raise CommandError("NO [PRIVACYREQUIRED]", "use AUTHENTICATE")

    async def _authenticate(self, command: Command) -> None:
        self._require_nobody()
        exchange = QuirkyAuthenticateServer(self._mechanisms, self._server.quirks)
        await self._log_in(exchange, command.text)

    async def _start_tls(self, command: Command) -> None:
        command.end()
        self._require_nobody()
        if not self._can_start_tls:
            raise CommandError("BAD", "TLS cannot be started here")
        await self.start_tls(tagged(command, "OK", "begin TLS"))

    def _require_nobody(self) -> None:
        if self._identity is not None:
            raise CommandError("BAD", "this comes before a login, and you are logged in")

    async def _idle(self, command: Command) -> None:
        """Tell news as it comes (RFC 2177).

        The wait for the client's DONE is cancelled by a change; a cancelled `receive` loses
        nothing. Between the last look for news and the wait there is no other task's turn.
        """
        command.end()
        self._require_login()
        await self._send(b"+ idling\r\n")
        while (line := self._take_line(_LINE_LIMIT)) is None:
            if news := self._session.news():
                await self._send_all(news)
            else:
                await self._wait_for_news()
        if line.strip().upper() != b"DONE":
            raise CommandError("BAD", "DONE was expected")
        await self._complete(command, *self._session.news())

    async def _wait_for_news(self) -> None:
        """Wait for more of the client, or until there is news for it."""
        with (
            fail_after(self._server.idle_timeout),
            CancelScope() as scope,
            self._session.watched(scope.cancel),
        ):
            await self._read_more()


_HANDLERS: Final[Mapping[str, Callable[[IMAPConnection, Command], Awaitable[None]]]] = {
    "AUTHENTICATE": IMAPConnection._authenticate,
    "CAPABILITY": IMAPConnection._capability,
    "ID": IMAPConnection._id,
    "IDLE": IMAPConnection._idle,
    "LOGIN": IMAPConnection._login,
    "LOGOUT": IMAPConnection._logout,
    "NOOP": IMAPConnection._noop,
    "STARTTLS": IMAPConnection._start_tls,
}


def _reason(error: Exception) -> str:
    match error:
        case ProtocolError():
            return str(error)
        case TimeoutError():
            return "the client took too long"
        case _:
            return "the server had to give up"
