"""Others' DIGEST-MD5 in a process of its own, over loopback, in either role.

A `PeerProcess` plays as many parts as it is asked to, one `Case` each: it logs in, or lets log in,
with the login of `plain_exchange.py`, then sends, echoes, and reports. If it dies, the next case
starts another one. It is told what to do over a control connection: one line each way,
form-encoded. It ends with its standard input, or by its id.

The options of a case that all of them take:

    port            our port: the peer is a client; else it is a server and tells its own
    host, username, password, authzid
    apart           a server gives its proof as a challenge, not with the success
    sends           sizes of what it sends after the login
    pieces          0: a segment each; else all in pieces of this size
    eager           sends in one segment with its last message of the login
    tamper          the number of the frame to alter on its way out

and what all of them report: `authzid` and `maximum`, the longest message that it sends in one
frame; `received`, how many octets, and their `sha256`; or an `error`.
"""

from __future__ import annotations

import hashlib
import select
import socket
import subprocess
from abc import abstractmethod
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import parse_qsl, urlencode

from tests.peers.daemon import Daemon
from tests.peers.support import LOOPBACK, StartError, log_tail, stop_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.peers.directory import Credentials

PATIENCE = 15.0
"""Seconds that a peer may take for a line."""

NEEDLE = b"needle-"
"""Part of every 16 octets of a payload."""


def payload(size: int, position: int = 0) -> bytes:
    """A part of an endless text; the peers make the same."""
    lines = range(position // 16, (position + size) // 16 + 1)
    text = b"".join(b"needle-%08d;" % line for line in lines)
    return text[position % 16 :][:size]


class PeerDiedError(Exception):
    """The peer's process ended within a case."""


class Case:
    """One connection of the peer's."""

    def __init__(self, process: PeerProcess, options: dict[str, str]) -> None:
        self._process = process
        self._control = socket.create_connection((LOOPBACK, process.port), PATIENCE)
        self._lines = self._control.makefile("rb")
        self._control.sendall(urlencode(options).encode() + b"\n")

    def port(self) -> int:
        """Where a server listens."""
        return int(self._line()["port"])

    def result(self) -> Result:
        """What a peer has to say once its connection has ended."""
        return Result(self._line())

    def close(self) -> None:
        self._lines.close()
        self._control.close()

    def _line(self) -> dict[str, str]:
        with suppress(ConnectionError):
            if line := self._lines.readline():
                return dict(parse_qsl(line.decode().strip(), keep_blank_values=True))
        raise PeerDiedError(self._process.last_words())


class Result(dict[str, str]):
    """A peer's report."""

    def check_received(self, data: bytes) -> None:
        """The peer got exactly this, and saw the end, and nothing went wrong."""
        assert "error" not in self, self["error"]
        assert int(self["received"]) == len(data)
        assert self["sha256"] == hashlib.sha256(data).hexdigest()


class PeerProcess(Daemon):
    """A peer, from its start to its end; cases run in it one after the other."""

    max_buffer: ClassVar[str]
    """The option that is the maxbuf it announces."""

    refusal: ClassVar[str]
    """A pattern of what its server says of who is not let in."""

    error: ClassVar[str]
    """Its client's name for a failure."""

    names_charset: ClassVar[bool]
    """Whether its client says that a name is in UTF-8."""

    def __init__(self) -> None:
        super().__init__()
        self._cases: Final = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it."""

    def account(self, user: Credentials) -> dict[str, object]:
        """The options by which it knows a user, as either side."""
        return {"username": user.username, "password": user.password}

    @abstractmethod
    def full_name(self, user: Credentials) -> str:
        """The `authzid` that its server reports."""

    @abstractmethod
    def layer(self, protection: str) -> dict[str, str]:
        """What it reports of one."""

    def server(self, options: Mapping[str, object]) -> tuple[Case, int]:
        """Let the peer listen for one connection; gives its port too."""
        case = self._case({"host": "localhost", **options})
        return case, case.port()

    def client(self, port: int, options: Mapping[str, object]) -> Case:
        """Let the peer connect."""
        return self._case({"port": port, "host": "localhost", **options})

    def end_cases(self) -> None:
        """Close what a test has left open."""
        self._cases.close()

    def last_words(self) -> str:
        status = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                status = self._process.wait(1)
        return f"status {status}\n{log_tail(self.log)}"

    def _case(self, options: Mapping[str, object]) -> Case:
        if self._process is None or self._process.poll() is not None:
            self._start(self._stack)
        given = {name: str(value) for name, value in options.items() if value is not None}
        case = Case(self, given)
        self._cases.callback(case.close)
        return case

    def _start(self, stack: ExitStack) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environ,
            )
        stack.enter_context(process)
        stack.callback(stop_process, process)
        stack.callback(self.end_cases)
        self._process = process
        self._ports = {"control": self._control_port(process)}

    def _control_port(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else b""
        if not line:
            raise StartError(f"{self.command()[0]}: no port\n{self.last_words()}")
        return int(line)
