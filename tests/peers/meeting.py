"""How we meet a `PeerProcess`: both halves of the login, what is said then, and what passed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from saslwrap import DigestMD5Client, DigestMD5Server
from saslwrap.testing.pairs import properties_for
from tests.peers import directory
from tests.peers.directory import ALICE, Credentials
from tests.peers.frames import split_frames
from tests.peers.peer_process import NEEDLE, payload
from tests.peers.plain_exchange import REFUSED, SUCCESS, PlainLogin, PlainLoginServer
from tests.peers.support import LOOPBACK
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.peers.peer_process import Case, PeerProcess, Result
    from tests.peers.shells import Conversation, Shell
    from tests.peers.wiretap import Wiretap, WiretapFactory

UP, DOWN = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT

SOME = (1, 6, 5, 16, 1000, *[37] * 20)
"""Sizes of messages."""

MANY = (1, 6, 5, 16, 1000, 65_000, *[37] * 20)
"""The same, with a long one."""

AT_ONCE = 1 << 30
"""As `pieces`: everything in one write."""

ALTERED = "^a protected message was altered or forged$"

each_user = pytest.mark.parametrize("user", directory.USERS, ids=lambda user: ascii(user.username))

NOTHING: Mapping[str, object] = {}

PASSWORDS = {user.username: user.password for user in directory.USERS}


def client(
    protection: str = "rc4",
    user: Credentials = ALICE,
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
) -> PlainLoginServer:
    """Our server's half, which offers exactly one protection."""

    def make() -> DigestMD5Server:
        return DigestMD5Server(
            lambda username, realm: PASSWORDS.get(username) if realm == directory.REALM else None,
            service="test",
            host="localhost",
            realms=[directory.REALM],
            properties=properties_for(protection, max_buffer=max_buffer),
        )

    return PlainLoginServer({"DIGEST-MD5": make}, proof_with_success=proof_with_success)


class Meeting:
    """We meet a peer, with a wiretap in between where the test looks at the wire."""

    def __init__(self, peer: PeerProcess, shell: Shell, wiretap: WiretapFactory | None) -> None:
        self._peer, self._shell, self._wiretap = peer, shell, wiretap

    def at_server(
        self, options: Mapping[str, object] = NOTHING, user: Credentials = ALICE
    ) -> tuple[Conversation, Case]:
        """Connect to it; it knows one user at least."""
        case, port = self._peer.server({**self._peer.account(user), **options})
        return self._shell.connect(self._tapped(port)), case

    def from_client(
        self, options: Mapping[str, object] = NOTHING, user: Credentials = ALICE
    ) -> tuple[Conversation, Case]:
        """Let it connect."""
        listener = self._shell.listen()
        port = self._tapped(listener.getsockname()[1])
        case = self._peer.client(port, {**self._peer.account(user), **options})
        return self._shell.accept(listener), case

    def log_in(
        self,
        at_server: bool,
        protection: str,
        options: Mapping[str, object] = NOTHING,
        *,
        max_buffer: int = 65536,
    ) -> tuple[Conversation, Case]:
        """Log in to its server, or let its client log in."""
        meet, half = (self.at_server, client) if at_server else (self.from_client, server)
        conversation, case = meet(options)
        conversation.authenticate(half(protection, max_buffer=max_buffer))
        return conversation, case

    def _tapped(self, port: int) -> int:
        if self._wiretap is None:
            return port
        self.tap = self._wiretap(LOOPBACK, port)
        return self.tap.port


@pytest.fixture
def meeting(peer: PeerProcess, shell: Shell) -> Meeting:
    """`peer` is what a module of tests says it is."""
    return Meeting(peer, shell, None)


@pytest.fixture
def tapped(peer: PeerProcess, shell: Shell, wiretap: WiretapFactory) -> Meeting:
    return Meeting(peer, shell, wiretap)


def sizes(*values: int) -> str:
    """As an option: `sends`."""
    return ",".join(map(str, values))


def framed(token: bytes, *, altered: int = 0) -> bytes:
    """A frame by hand; its first octet may be altered."""
    return len(token).to_bytes(4, "big") + bytes([token[0] ^ altered]) + token[1:]


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
        tokens = list(split_frames(self.rest))
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
        for number, message in enumerate(split_frames(recording.server_to_client))
        if message.startswith((SUCCESS, REFUSED))
    )
    return {direction: _wire(recording.sent(direction), count) for direction in Direction}


def _wire(data: bytes, count: int) -> Wire:
    login = list(itertools.islice(split_frames(data), count))
    return Wire(login, data[sum(4 + len(message) for message in login) :])


def check_wires(tap: Wiretap, protection: str) -> dict[Direction, Wire]:
    """Plaintext shows behind the switch where it may, and only there."""
    found = wires(tap)
    for wire in found.values():
        assert (NEEDLE in wire.rest) is (protection in ("auth", "auth-int"))
        assert protection == "auth" or wire.tokens
        assert not any(NEEDLE in message for message in wire.login)
    return found
