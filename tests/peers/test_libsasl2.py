"""saslwrap's shells against libsasl2's DIGEST-MD5 (Cyrus SASL 2.1.28), in both roles."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    IntegrityError,
    NegotiationError,
    SecurityContext,
    TruncatedStreamError,
)
from saslwrap.sync import authenticate_socket
from tests.peers.directory import ALICE, CYRILLIC, LATIN, REALM, USERS, Credentials
from tests.peers.jdk import (
    AT_ONCE,
    Case,
    PeerDiedError,
    check_wires,
    client,
    converse,
    server,
    wires,
)
from tests.peers.libsasl2 import Libsasl2, require_libsasl2
from tests.peers.shells import Conversation, Shell
from tests.peers.support import LOOPBACK
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.wiretap import WiretapFactory

pytestmark = pytest.mark.timeout(60)

UP, DOWN = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
SSF = {"auth": 0, "auth-int": 1, "rc4-40": 40, "des": 55, "rc4-56": 56, "rc4": 128}
"""What it can do. It offers 3des too."""

SOME = (1, 6, 5, 16, 1000, *[37] * 20)
FACES = ("anyio-trio", "streams-uvloop", "protocol-asyncio", "socket")
"""Shells for tests that need not run over all."""

NOTHING: Mapping[str, object] = {}


@pytest.fixture(scope="module")
def process() -> Iterator[Libsasl2]:
    require_libsasl2()
    with Libsasl2() as peer:
        yield peer


@pytest.fixture
def libsasl2(process: Libsasl2) -> Iterator[Libsasl2]:
    yield process
    process.end_cases()


@pytest.fixture(params=Shell.KINDS)
def shell(request: pytest.FixtureRequest, libsasl2: Libsasl2) -> Iterator[Shell]:
    with Shell(request.param) as shell:
        yield shell


each_protection = pytest.mark.parametrize(
    ("shell", "protection"),
    [
        (kind, protection)
        for kind in Shell.KINDS
        for protection in SSF
        if kind in FACES or protection in ("rc4", "auth-int")
    ],
    indirect=["shell"],
)
some_shells = pytest.mark.parametrize("shell", FACES, indirect=True)
one_shell = pytest.mark.parametrize("shell", ["streams-asyncio"], indirect=True)
either_side = pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])


class Meeting:
    """We meet libsasl2, with a wiretap in between where the test looks at the wire."""

    def __init__(self, peer: Libsasl2, shell: Shell, wiretap: WiretapFactory | None) -> None:
        self._peer, self._shell, self._wiretap = peer, shell, wiretap

    def at_server(self, options: Mapping[str, object] = NOTHING) -> tuple[Conversation, Case]:
        """Connect to it."""
        case, port = self._peer.server(options)
        return self._shell.connect(self._tapped(port)), case

    def from_client(
        self, options: Mapping[str, object] = NOTHING, user: Credentials = ALICE
    ) -> tuple[Conversation, Case]:
        """Let it connect."""
        listener = self._shell.listen()
        port = self._tapped(listener.getsockname()[1])
        names = {"username": user.username, "password": user.password}
        case = self._peer.client(port, {**names, **options})
        return self._shell.accept(listener), case

    def _tapped(self, port: int) -> int:
        if self._wiretap is None:
            return port
        self.tap = self._wiretap(LOOPBACK, port)
        return self.tap.port


@pytest.fixture
def meeting(libsasl2: Libsasl2, shell: Shell) -> Meeting:
    return Meeting(libsasl2, shell, None)


@pytest.fixture
def tapped(libsasl2: Libsasl2, shell: Shell, wiretap: WiretapFactory) -> Meeting:
    return Meeting(libsasl2, shell, wiretap)


def sizes(*values: int) -> str:
    return ",".join(map(str, values))


def check_context(context: SecurityContext | None, protection: str) -> None:
    if protection == "auth":
        assert context is None
    else:
        assert context is not None
        assert context.ssf == SSF[protection]


# Each protection over each shell.


@each_protection
def test_our_client(tapped: Meeting, protection: str) -> None:
    conversation, case = tapped.at_server({"sends": sizes(*SOME)})
    check_context(conversation.authenticate(client(protection)), protection)
    result = converse(conversation, case, SOME)
    assert int(result["ssf"]) == SSF[protection]
    assert result["username"] == f"{ALICE.username}@{REALM}"
    check_wires(tapped.tap, protection)


@each_protection
def test_our_server(tapped: Meeting, protection: str) -> None:
    conversation, case = tapped.from_client({"sends": sizes(*SOME)})
    exchange = server(protection)
    check_context(conversation.authenticate(exchange), protection)
    assert exchange.authcid == ALICE.username
    result = converse(conversation, case, SOME)
    assert int(result["ssf"]) == SSF[protection]
    check_wires(tapped.tap, protection)


@some_shells
def test_3des_is_offered_and_cannot_be_had(tapped: Meeting) -> None:
    """OpenSSL 3 has it, but Debian's plugin sets a key of wrong parity and gives up."""
    conversation, case = tapped.at_server()
    with pytest.raises(AuthenticationError, match=r"the server refused: .*init cipher '3des'"):
        conversation.authenticate(client("3des"))
    assert "couldn't init cipher '3des'" in case.result()["error"]
    assert conversation.receive() == b""  # it was the peer who hung up
    conversation.close()
    assert b'3des"' in wires(tapped.tap)[DOWN].login[0]

    conversation, case = tapped.from_client()
    with pytest.raises(TruncatedStreamError, match="closed the connection during the login"):
        conversation.authenticate(server("3des"))
    assert "failed to init cipher '3des'" in case.result()["error"]


# Sizes and segments.


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
@either_side
@some_shells
def test_small_buffers_on_both_sides(tapped: Meeting, protection: str, at_server: bool) -> None:
    if at_server:
        conversation, case = tapped.at_server({"sends": 65_000, "maxbuf": 900})
        conversation.authenticate(client(protection, max_buffer=1000))
    else:
        conversation, case = tapped.from_client({"sends": 65_000, "maxbuf": 900})
        conversation.authenticate(server(protection, max_buffer=1000))
    result = converse(conversation, case, [65_000])
    found = check_wires(tapped.tap, protection)
    ours, theirs = (found[UP], found[DOWN]) if at_server else (found[DOWN], found[UP])
    # it counts 25 octets for any cipher, and 16 for integrity; its server 4 more for the length
    maximum = 1000 - (16 if protection == "auth-int" else 25) - (4 if at_server else 0)
    assert int(result["maxout"]) == maximum
    if protection != "des":
        assert max(theirs.lengths) == maximum + 16
    assert max(theirs.lengths) <= 1000
    assert max(ours.lengths) == (894 if protection == "des" else 900)


@pytest.mark.parametrize("pieces", [1, 7, 4099, AT_ONCE])
@either_side
@some_shells
def test_frames_in_pieces_or_together(meeting: Meeting, at_server: bool, pieces: int) -> None:
    """Towards us by how it writes; towards it by how much it decodes at once."""
    sends = (*SOME, 5000 if pieces < 100 else 65_000, 1)
    options = {"sends": sizes(*sends), "pieces": pieces, "chunk": min(pieces, 65536)}
    if at_server:
        conversation, case = meeting.at_server(options)
        conversation.authenticate(client("des"))
    else:
        conversation, case = meeting.from_client(options)
        conversation.authenticate(server("des"))
    converse(conversation, case, sends, echoes=sends)


# The switch.


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_success(meeting: Meeting, protection: str) -> None:
    sends = (1, 65_000, 65_000, 69_999, *[37] * 20)
    options = {"sends": sizes(*sends), "pieces": AT_ONCE, "eager": 1}
    conversation, case = meeting.at_server(options)
    conversation.authenticate(client(protection))
    converse(conversation, case, sends)


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_last_response(meeting: Meeting, protection: str) -> None:
    sends = (1, 65_000, 65_000, 69_999, *[37] * 20)
    options = {"sends": sizes(*sends), "pieces": AT_ONCE, "eager": 1}
    conversation, case = meeting.from_client(options)
    conversation.authenticate(server(protection, proof_with_success=False))
    converse(conversation, case, sends)


@either_side
@some_shells
def test_a_proof_before_the_success(tapped: Meeting, at_server: bool) -> None:
    if at_server:
        conversation, case = tapped.at_server({"apart": 1})
        conversation.authenticate(client())
    else:
        conversation, case = tapped.from_client()
        conversation.authenticate(server(proof_with_success=False))
    converse(conversation, case)
    assert [message[:1] for message in wires(tapped.tap)[DOWN].login] == [b"+", b"+", b"."]


@one_shell
def test_a_subsequent_login_is_a_fresh_one(tapped: Meeting) -> None:
    """Its client wants to go on from the last login, whose keys and counters would come again."""
    seen = []
    for remember in (None, 1):
        conversation, case = tapped.from_client({"remember": remember})
        conversation.authenticate(server())
        converse(conversation, case, echoes=[16])
        seen.append(wires(tapped.tap))
    first, second = (found[UP].login for found in seen)
    remembered = second[0].removeprefix(b"@DIGEST-MD5\0")
    assert re.findall(rb'nonce="[^"]*"', remembered) == re.findall(rb'nonce="[^"]*"', first[1])
    assert b"nc=00000002" in remembered
    assert b"nc=00000001" in second[1]
    assert seen[0][DOWN].tokens != seen[1][DOWN].tokens
    assert seen[0][UP].tokens != seen[1][UP].tokens


# Names and passwords.


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@some_shells
def test_each_user_at_its_server(meeting: Meeting, user: Credentials) -> None:
    conversation, case = meeting.at_server()
    conversation.authenticate(client(user=user))
    assert converse(conversation, case)["username"] == f"{user.username}@{REALM}"


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@some_shells
def test_each_user_of_its_client(tapped: Meeting, user: Credentials) -> None:
    """The name is UTF-8, and no charset says so."""
    conversation, case = tapped.from_client(user=user)
    exchange = server()
    conversation.authenticate(exchange)
    assert exchange.authcid == user.username
    converse(conversation, case)
    response = wires(tapped.tap)[UP].login[1]
    assert f'username="{user.username}"'.encode() in response
    assert b"charset" not in response


@one_shell
def test_authzid(meeting: Meeting) -> None:
    conversation, case = meeting.from_client({"authzid": LATIN.username})
    exchange = server()
    conversation.authenticate(exchange)
    assert (exchange.authcid, exchange.authzid) == (ALICE.username, LATIN.username)
    converse(conversation, case)

    conversation, case = meeting.at_server()
    conversation.authenticate(client(authzid=ALICE.username))
    assert converse(conversation, case)["username"] == f"{ALICE.username}@{REALM}"

    conversation, case = meeting.at_server()
    with pytest.raises(AuthenticationError, match="the server refused: "):
        conversation.authenticate(client(authzid=CYRILLIC.username))
    assert "Requested identity not authenticated identity" in case.result()["error"]


@pytest.mark.parametrize(
    "user",
    [Credentials(ALICE.username, "wrong"), Credentials("nobody", ALICE.password)],
    ids=["password", "user"],
)
@some_shells
def test_who_is_not_let_in(meeting: Meeting, user: Credentials) -> None:
    conversation, case = meeting.at_server()
    with pytest.raises(AuthenticationError, match="the server refused: -"):
        conversation.authenticate(client(user=user))
    assert "error" in case.result()
    assert conversation.receive() == b""  # it was the peer who hung up
    assert conversation.context is None

    conversation, case = meeting.from_client(user=user)
    with pytest.raises(AuthenticationError, match=r"unknown user, wrong password"):
        conversation.authenticate(server())
    assert case.result()["error"] == "LibraryError: refused: no"
    assert conversation.receive() == b""
    assert conversation.context is None


# What the policies leave.


@one_shell
def test_it_offers_less_than_we_want(meeting: Meeting) -> None:
    for limits in ({"max_ssf": 1}, {"max_ssf": 56}, {"min_ssf": 128}):
        conversation, case = meeting.at_server(limits)
        with pytest.raises(NegotiationError, match="the server offers auth"):
            conversation.authenticate(client("rc4" if "max_ssf" in limits else "auth-int"))
        assert "aborted" in case.result()["error"]


@one_shell
def test_it_wants_more_than_we_offer(meeting: Meeting) -> None:
    conversation, case = meeting.from_client({"min_ssf": 128})
    with pytest.raises(TruncatedStreamError):
        conversation.authenticate(server("rc4-40"))
    assert "error" in case.result()


# Frames that were tampered with.

ALTERED = "^a protected message was altered or forged$"


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
@either_side
@some_shells
def test_we_end_it_at_an_altered_frame(meeting: Meeting, protection: str, at_server: bool) -> None:
    if at_server:
        conversation, case = meeting.at_server({"tamper": 1})
        conversation.authenticate(client(protection))
    else:
        conversation, case = meeting.from_client({"tamper": 1})
        conversation.authenticate(server(protection))
    assert conversation.echoed(b"first") == b"first"
    conversation.send(b"second")
    for attempt in (conversation.receive, conversation.receive, lambda: conversation.send(b"x")):
        with pytest.raises(IntegrityError, match=ALTERED):
            attempt()
    assert case.result()["received"] == "11"


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
def test_it_ends_it_too(libsasl2: Libsasl2, protection: str) -> None:
    case, port = libsasl2.server({})
    plain = socket.create_connection((LOOPBACK, port), 10)
    with authenticate_socket(plain, client(protection)) as sealed:
        context = sealed.context
        assert context is not None
        for altered in (0, 1):
            token = bytearray(context.seal(b"a request"))
            token[0] ^= altered
            plain.sendall(len(token).to_bytes(4, "big") + token)
            if not altered:
                assert sealed.recv(100) == b"a request"
        result = case.result()
    assert result["received"] == "9"
    assert "LibraryError: -1" in result["error"]


def test_a_frame_of_des_that_is_no_block_ends_its_process(libsasl2: Libsasl2) -> None:
    """Debian's libsasl2 dies of it; ours does not, nor does this run."""
    case, port = libsasl2.server({})
    plain = socket.create_connection((LOOPBACK, port), 10)
    with authenticate_socket(plain, client("des")):
        plain.sendall(bytes.fromhex("00000010 00010203040506070809 0001 00000000"))
        try:
            end = case.result()["error"]
        except PeerDiedError as death:
            end = str(death)
    assert end.startswith(("status -11", "LibraryError"))  # SIGSEGV, or it has been mended
    case, port = libsasl2.server({})
    with authenticate_socket(socket.create_connection((LOOPBACK, port), 10), client()) as sealed:
        sealed.sendall(b"alive")
        assert sealed.recv(100) == b"alive"
