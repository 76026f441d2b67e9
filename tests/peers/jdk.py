"""Peers in a process of their own, over loopback; the first is the JDK (`javax.security.sasl`).

A `PeerProcess` plays as many parts as it is asked to, one `Case` each: it logs in, or lets log in,
with the login of `plain_exchange.py`, then sends, echoes, and reports. If it dies, the next case
starts another one. It is told what to do over a control connection: one line each way,
form-encoded. It ends with its standard input, or by its id.

What the JDK (17) does beyond the notes of others:

- Its server quotes maxbuf, and leaves it out where `javax.security.sasl.maxbuffer` is not set, or
  65536. Without `javax.security.sasl.qop` it leaves qop out: `auth` is meant.
- `javax.security.sasl.strength` binds its client alone. Its server offers all five ciphers, and
  takes rc4-40 although told to be "high".
- Its client sends maxbuf (not quoted) in any case, under `auth` too; cipher is quoted.
- A frame whose MAC is wrong (altered data, MAC or sequence number) is dropped and not counted, so
  the next good one fails as out of sequence. Under 3des and des, what is altered at the end of the
  ciphertext spoils the next frame as well, and two are dropped. An altered last frame is lost, and
  nobody hears of it. A wrong type is an error at once.
- A frame that is too short is no error of SASL's but a NegativeArraySizeException.
- Its server takes a name of a user without asking whether there is one: that is for the
  application's callback, which has to give no password.
"""

from __future__ import annotations

import hashlib
import itertools
import select
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qsl, urlencode

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.properties import CIPHER_NAMES
from saslwrap.testing.pairs import properties_for
from tests.peers import directory
from tests.peers.plain_exchange import REFUSED, SUCCESS, PlainLogin, PlainLoginServer
from tests.peers.support import (
    LOOPBACK,
    StartError,
    log_tail,
    program,
    stop_process,
)
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from tests.peers.shells import Conversation
    from tests.peers.wiretap import Wiretap

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
        self._control = socket.create_connection((LOOPBACK, process.control_port), PATIENCE)
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


class PeerProcess:
    """A peer, from its start to its end; cases run in it one after the other."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._cases: Final = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.control_port = 0

    def command(self) -> Sequence[str]:
        """What starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """What it finds there; None is what we find."""
        return None

    def prepare(self) -> None:
        """Make what it needs, in `folder`."""

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
        return f"status {status}\n{log_tail(self._log)}"

    def _case(self, options: Mapping[str, object]) -> Case:
        if self._process is None or self._process.poll() is not None:
            self._start()
        given = {name: str(value) for name, value in options.items() if value is not None}
        case = Case(self, given)
        self._cases.callback(case.close)
        return case

    def _start(self) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment(),
            )
        self._stack.enter_context(process)
        self._stack.callback(stop_process, process)
        self._process = process
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else b""
        if not line:
            raise StartError(f"{self.command()[0]}: no port\n{self.last_words()}")
        self.control_port = int(line)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="peer-")))
            self.prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_cases()
        self._stack.close()


QOP_OFFER = "javax.security.sasl.qop"
STRENGTH = "javax.security.sasl.strength"
MAX_BUFFER = "javax.security.sasl.maxbuffer"
SEND_MAX_BUFFER = "javax.security.sasl.sendmaxbuffer"
REALMS = "com.sun.security.sasl.digest.realm"
UTF8 = "com.sun.security.sasl.digest.utf8"
"""Properties of the JDK's mechanism: options with these names are handed to it."""


class Jdk(PeerProcess):
    """The JDK: `jdk/Peer.java`, compiled into the folder."""

    programs = ("java", "javac")

    def prepare(self) -> None:
        source = Path(__file__).parent / "jdk" / "Peer.java"
        done = subprocess.run(
            [program("javac"), "-encoding", "UTF-8", "-Xlint:all", "-d", self.folder, source],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode or done.stderr:
            raise StartError(f"javac: {done.stderr.decode(errors='replace')}")

    def command(self) -> Sequence[str]:
        tuning = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx128m")
        return (program("java"), *tuning, "-cp", str(self.folder), "Peer")


# What the tests of several peers share.

PROTECTIONS = ("auth", "auth-int", *CIPHER_NAMES)
"""Everything DIGEST-MD5 has."""

MANY = (1, 6, 5, 16, 1000, 65_000, *[37] * 20)
"""Sizes of messages."""

AT_ONCE = 1 << 30
"""As `pieces`: everything in one write."""

USERS = {user.username: user.password for user in directory.USERS}


def client(
    protection: str = "rc4",
    user: directory.Credentials = directory.ALICE,
    *,
    max_buffer: int = 65536,
    authzid: str | None = None,
) -> PlainLogin:
    """Our client's half, which wants exactly one protection."""
    return PlainLogin(
        DigestMD5Client(
            user.username,
            user.password,
            service="test",
            host="localhost",
            authzid=authzid,
            properties=properties_for(protection, max_buffer=max_buffer),
        )
    )


def server(
    protection: str = "rc4",
    *,
    max_buffer: int = 65536,
    proof_with_success: bool = True,
    users: Mapping[str, str] = USERS,
) -> PlainLoginServer:
    """Our server's half, which offers exactly one protection."""

    def make() -> DigestMD5Server:
        return DigestMD5Server(
            lambda username, realm: users.get(username) if realm == directory.REALM else None,
            service="test",
            host="localhost",
            realms=[directory.REALM],
            properties=properties_for(protection, max_buffer=max_buffer),
        )

    return PlainLoginServer({"DIGEST-MD5": make}, proof_with_success=proof_with_success)


def pieces_of(sizes: Sequence[int]) -> list[bytes]:
    """Consecutive parts of the text."""
    starts = itertools.accumulate(sizes, initial=0)
    return [payload(size, start) for size, start in zip(sizes, starts, strict=False)]


def converse(
    conversation: Conversation, case: Case, sends: Sequence[int] = (), echoes: Sequence[int] = MANY
) -> Result:
    """Hear what the peer sends, let it echo, and end in good order on both sides."""
    assert conversation.receive_exactly(sum(sends)) == payload(sum(sends))
    pieces = pieces_of(echoes)
    assert conversation.echoed(*pieces) == b"".join(pieces)
    conversation.send_eof()
    assert conversation.receive() == b""
    result = case.result()
    result.check_received(b"".join(pieces))
    return result


@dataclass(frozen=True)
class Wire:
    """One direction of a connection: the messages of the login, then the rest."""

    login: list[bytes]
    rest: bytes

    @property
    def tokens(self) -> list[bytes]:
        """The tokens behind the login: well framed to the last octet, in sequence."""
        tokens = list(_split(self.rest))
        for number, token in enumerate(tokens):
            assert token[-6:] == b"\0\1" + number.to_bytes(4, "big")
        return tokens

    @property
    def lengths(self) -> list[int]:
        return [len(token) for token in self.tokens]


def wires(tap: Wiretap) -> dict[Direction, Wire]:
    """What passed, once the connection is closed."""
    tap.wait_closed()
    (recording,) = tap.recordings
    count = 1 + next(
        number
        for number, message in enumerate(_split(recording.server_to_client))
        if message.startswith((SUCCESS, REFUSED))
    )
    return {direction: _wire(recording.sent(direction), count) for direction in Direction}


def _wire(data: bytes, count: int) -> Wire:
    login = list(itertools.islice(_split(data), count))
    return Wire(login, data[sum(4 + len(message) for message in login) :])


def _split(data: bytes) -> Iterator[bytes]:
    while data:
        length = int.from_bytes(data[:4], "big")
        item, data = data[4 : 4 + length], data[4 + length :]
        assert len(item) == length
        yield item


def check_wires(tap: Wiretap, protection: str) -> dict[Direction, Wire]:
    """Plaintext shows behind the switch where it may, and only there."""
    found = wires(tap)
    for wire in found.values():
        assert (NEEDLE in wire.rest) is (protection in ("auth", "auth-int"))
        assert protection == "auth" or wire.tokens
        assert not any(NEEDLE in message for message in wire.login)
    return found
