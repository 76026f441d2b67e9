"""saslwrap's shells against the JDK's DIGEST-MD5 (17), in both roles: ours and the JDK's."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from saslwrap import (
    AuthenticationError,
    IntegrityError,
    MutualAuthenticationError,
    NegotiationError,
    SecurityContext,
    TruncatedStreamError,
)
from saslwrap.anyio import SASLAttribute, SASLConnectable, SASLListener, SASLStream
from saslwrap.asyncio import open_connection, start_server
from saslwrap.sync import authenticate_socket
from tests.peers.directory import ALICE, CYRILLIC, LATIN, REALM, USERS, Credentials
from tests.peers.jdk import (
    AT_ONCE,
    MAX_BUFFER,
    PROTECTIONS,
    QOP_OFFER,
    REALMS,
    SEND_MAX_BUFFER,
    STRENGTH,
    UTF8,
    Case,
    Jdk,
    check_wires,
    client,
    converse,
    payload,
    server,
    wires,
)
from tests.peers.shells import PATIENCE, Conversation, Shell
from tests.peers.support import LOOPBACK, require_program
from tests.peers.wiretap import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import AnyByteStream

    from tests.peers.wiretap import WiretapFactory

pytestmark = pytest.mark.timeout(60)

UP, DOWN = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
SOME = (1, 6, 5, 16, 1000, *[37] * 20)
FACES = ("anyio-trio", "streams-uvloop", "protocol-asyncio", "socket")
"""Shells for tests that need not run over all."""


@pytest.fixture(scope="session")
def jvm() -> Iterator[Jdk]:
    """One JVM for the whole run."""
    require_program(*Jdk.programs)
    with Jdk() as peer:
        yield peer


@pytest.fixture
def jdk(jvm: Jdk) -> Iterator[Jdk]:
    yield jvm
    jvm.end_cases()


@pytest.fixture(params=Shell.KINDS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with Shell(request.param) as shell:
        yield shell


each_protection = pytest.mark.parametrize(
    ("shell", "protection"),
    [
        (kind, protection)
        for kind in Shell.KINDS
        for protection in PROTECTIONS
        if kind in FACES or protection in ("rc4", "auth-int")
    ],
    indirect=["shell"],
)
some_shells = pytest.mark.parametrize("shell", FACES, indirect=True)
one_shell = pytest.mark.parametrize("shell", ["streams-asyncio"], indirect=True)


NOTHING: Mapping[str, object] = {}


class Meeting:
    """We meet the JDK, with a wiretap in between where the test looks at the wire."""

    def __init__(self, jdk: Jdk, shell: Shell, wiretap: WiretapFactory | None) -> None:
        self._jdk, self._shell, self._wiretap = jdk, shell, wiretap

    def at_server(
        self, options: Mapping[str, object] = NOTHING, user: Credentials = ALICE
    ) -> tuple[Conversation, Case]:
        """Connect to the JDK, which knows one user."""
        case, port = self._jdk.server({**one(user), **options})
        return self._shell.connect(self._tapped(port)), case

    def from_client(
        self, options: Mapping[str, object] = NOTHING, user: Credentials = ALICE
    ) -> tuple[Conversation, Case]:
        """Let the JDK connect."""
        listener = self._shell.listen()
        port = self._tapped(listener.getsockname()[1])
        case = self._jdk.client(port, {**one(user), **options})
        return self._shell.accept(listener), case

    def _tapped(self, port: int) -> int:
        if self._wiretap is None:
            return port
        self.tap = self._wiretap(LOOPBACK, port)
        return self.tap.port


def one(user: Credentials) -> dict[str, object]:
    """What the JDK has to know, as either side."""
    return {
        "username": user.username,
        "password": user.password,
        QOP_OFFER: "auth-conf,auth-int,auth",
        REALMS: REALM,
    }


@pytest.fixture
def meeting(jdk: Jdk, shell: Shell) -> Meeting:
    return Meeting(jdk, shell, None)


@pytest.fixture
def tapped(jdk: Jdk, shell: Shell, wiretap: WiretapFactory) -> Meeting:
    return Meeting(jdk, shell, wiretap)


def sizes(*values: int) -> str:
    return ",".join(map(str, values))


def check_context(context: SecurityContext | None, protection: str) -> None:
    if protection == "auth":
        assert context is None
    else:
        assert context is not None
        assert context.cipher == (None if protection == "auth-int" else protection)


# Each protection over each shell.


@each_protection
def test_our_client(tapped: Meeting, protection: str) -> None:
    conversation, case = tapped.at_server({"sends": sizes(*SOME)})
    check_context(conversation.authenticate(client(protection)), protection)
    result = converse(conversation, case, SOME)
    assert result["qop"] == (protection if protection.startswith("auth") else "auth-conf")
    assert result["authzid"] == ALICE.username
    check_wires(tapped.tap, protection)


@each_protection
def test_our_server(tapped: Meeting, protection: str) -> None:
    conversation, case = tapped.from_client({"sends": sizes(*SOME)})
    exchange = server(protection)
    check_context(conversation.authenticate(exchange), protection)
    assert exchange.authcid == ALICE.username
    result = converse(conversation, case, SOME)
    assert result["qop"] == (protection if protection.startswith("auth") else "auth-conf")
    check_wires(tapped.tap, protection)


# Sizes and segments.


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
@pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])
@some_shells
def test_small_buffers_on_both_sides(tapped: Meeting, protection: str, at_server: bool) -> None:
    if at_server:
        conversation, case = tapped.at_server({"sends": 65_000, MAX_BUFFER: 900})
        conversation.authenticate(client(protection, max_buffer=1000))
    else:
        conversation, case = tapped.from_client({"sends": 65_000, MAX_BUFFER: 900})
        conversation.authenticate(server(protection, max_buffer=1000))
    result = converse(conversation, case, [65_000])
    found = check_wires(tapped.tap, protection)
    ours, theirs = (found[UP], found[DOWN]) if at_server else (found[DOWN], found[UP])
    # the JDK counts 26 octets for any cipher, and 16 for integrity
    assert int(result["rawsend"]) == 1000 - (16 if protection == "auth-int" else 26)
    assert max(theirs.lengths) == {"auth-int": 1000, "rc4": 990}.get(protection, 998)
    assert max(ours.lengths) == (894 if "des" in protection else 900)


@one_shell
def test_the_jdk_s_own_limit_on_what_it_sends(tapped: Meeting) -> None:
    conversation, case = tapped.at_server({"sends": 5000, SEND_MAX_BUFFER: 500})
    conversation.authenticate(client())
    result = converse(conversation, case, [5000])
    assert result["rawsend"] == "474"
    assert max(check_wires(tapped.tap, "rc4")[DOWN].lengths) == 490


@pytest.mark.parametrize("pieces", [1, 7, 4099, AT_ONCE])
@pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])
@some_shells
def test_frames_that_come_in_pieces_or_together(
    meeting: Meeting, at_server: bool, pieces: int
) -> None:
    sends = (*SOME, 5000 if pieces < 100 else 65_000, 1)
    options = {"sends": sizes(*sends), "pieces": pieces}
    if at_server:
        conversation, case = meeting.at_server(options)
        conversation.authenticate(client())
    else:
        conversation, case = meeting.from_client(options)
        conversation.authenticate(server())
    converse(conversation, case, sends)


# The switch.


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_success(meeting: Meeting, protection: str) -> None:
    sends = (1, 65_000, 65_000, 69_999, *[37] * 20)
    options = {"sends": sizes(*sends), "pieces": AT_ONCE, "eager": ""}
    conversation, case = meeting.at_server(options)
    conversation.authenticate(client(protection))
    converse(conversation, case, sends)


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_last_response(meeting: Meeting, protection: str) -> None:
    sends = (1, 65_000, 65_000, 69_999, *[37] * 20)
    options = {"sends": sizes(*sends), "pieces": AT_ONCE, "eager": ""}
    conversation, case = meeting.from_client(options)
    conversation.authenticate(server(protection, proof_with_success=False))
    converse(conversation, case, sends)


@pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])
@some_shells
def test_a_proof_before_the_success(tapped: Meeting, at_server: bool) -> None:
    if at_server:
        conversation, case = tapped.at_server({"apart": ""})
        conversation.authenticate(client())
    else:
        conversation, case = tapped.from_client()
        conversation.authenticate(server(proof_with_success=False))
    converse(conversation, case)
    assert [message[:1] for message in wires(tapped.tap)[DOWN].login] == [b"+", b"+", b"."]


# Names and passwords.


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@pytest.mark.parametrize("utf8", [True, False])
@one_shell
def test_each_user_at_the_jdk(tapped: Meeting, user: Credentials, utf8: bool) -> None:
    conversation, case = tapped.at_server({UTF8: str(utf8).lower()}, user)
    if user is CYRILLIC and not utf8:
        with pytest.raises(NegotiationError, match="did not offer charset=utf-8"):
            conversation.authenticate(client(user=user))
        assert "got *" in case.result()["error"]
        assert conversation.receive() == b""
        return
    conversation.authenticate(client(user=user))
    assert converse(conversation, case)["authzid"] == user.username
    encoded = user.username.encode("utf-8" if utf8 else "latin-1")
    assert b'username="%b"' % encoded in wires(tapped.tap)[UP].login[1]


@pytest.mark.parametrize("user", USERS, ids=lambda user: ascii(user.username))
@some_shells
def test_each_user_of_the_jdk(meeting: Meeting, user: Credentials) -> None:
    conversation, case = meeting.from_client(user=user)
    exchange = server()
    conversation.authenticate(exchange)
    assert exchange.authcid == user.username
    converse(conversation, case)


@one_shell
def test_a_realm_beyond_ascii(tapped: Meeting) -> None:
    conversation, case = tapped.at_server({REALMS: f"müller.example {REALM}"}, LATIN)
    conversation.authenticate(client(user=LATIN))
    converse(conversation, case)
    assert 'realm="müller.example"'.encode() in wires(tapped.tap)[UP].login[1]


@one_shell
def test_authzid(meeting: Meeting) -> None:
    conversation, case = meeting.at_server()
    conversation.authenticate(client(authzid="u:jürgen"))
    assert converse(conversation, case)["authzid"] == "u:jürgen"
    conversation, case = meeting.from_client({"authzid": "u:jürgen"})
    exchange = server()
    conversation.authenticate(exchange)
    assert (exchange.authcid, exchange.authzid) == (ALICE.username, "u:jürgen")
    converse(conversation, case)


@pytest.mark.parametrize(
    "user",
    [Credentials(ALICE.username, "wrong"), Credentials("nobody", ALICE.password)],
    ids=["password", "user"],
)
@some_shells
def test_who_is_not_let_in(meeting: Meeting, user: Credentials) -> None:
    conversation, case = meeting.at_server()
    with pytest.raises(AuthenticationError, match=r"the server refused: javax.security.sasl"):
        conversation.authenticate(client(user=user))
    assert "DIGEST-MD5" in case.result()["error"]
    assert conversation.receive() == b""  # it was the JDK who hung up
    assert conversation.context is None

    conversation, case = meeting.from_client(user=user)
    with pytest.raises(AuthenticationError, match=r"unknown user, wrong password"):
        conversation.authenticate(server())
    assert case.result()["error"] == "javax.security.sasl.SaslException: refused: no"
    assert conversation.receive() == b""
    assert conversation.context is None


@pytest.mark.parametrize("apart", [True, False])
@some_shells
def test_a_server_that_does_not_know_the_password(meeting: Meeting, apart: bool) -> None:
    conversation, case = meeting.at_server({"forge": "", "apart": "" if apart else None})
    with pytest.raises(MutualAuthenticationError, match="did not prove"):
        conversation.authenticate(client())
    result = case.result()  # of a connection that we have closed
    assert result["received"] == "0"
    assert "Timeout" not in result.get("error", "")


# What the policies leave.


@one_shell
def test_the_jdk_offers_less_than_we_want(meeting: Meeting) -> None:
    for offer in ("auth", "auth-int,auth"):
        conversation, case = meeting.at_server({QOP_OFFER: offer})
        with pytest.raises(NegotiationError, match="the server offers auth"):
            conversation.authenticate(client())
        assert "got *" in case.result()["error"]


@one_shell
def test_strength_is_nothing_to_its_server(meeting: Meeting) -> None:
    conversation, case = meeting.at_server({STRENGTH: "high"})
    conversation.authenticate(client("rc4-40"))
    assert converse(conversation, case)["strength"] == "low"


@one_shell
def test_the_jdk_wants_more_than_we_offer(meeting: Meeting) -> None:
    for offer in ("auth-conf", "auth-int,auth"):
        conversation, case = meeting.from_client({QOP_OFFER: offer, STRENGTH: "high"})
        with pytest.raises((AuthenticationError, TruncatedStreamError)):
            conversation.authenticate(server("rc4-40"))
        assert "error" in case.result()


# What it writes that others do not.


@one_shell
def test_quotes(tapped: Meeting) -> None:
    conversation, case = tapped.at_server({MAX_BUFFER: 1000})
    conversation.authenticate(client("3des"))
    converse(conversation, case)
    challenge = wires(tapped.tap)[DOWN].login[0]
    assert b'maxbuf="1000"' in challenge
    assert b'cipher="3des,rc4,des,rc4-56,rc4-40"' in challenge

    conversation, case = tapped.from_client({MAX_BUFFER: 1000})
    conversation.authenticate(server("3des"))
    converse(conversation, case)
    response = wires(tapped.tap)[UP].login[1]
    assert b"maxbuf=1000," in response
    assert b'cipher="3des"' in response


@one_shell
def test_a_bare_challenge(tapped: Meeting) -> None:
    """Without properties it offers neither qop nor maxbuf: `auth` is meant."""
    conversation, case = tapped.at_server({QOP_OFFER: None, UTF8: "false"})
    conversation.authenticate(client("auth"))
    converse(conversation, case)
    challenge = wires(tapped.tap)[DOWN].login[0]
    assert re.fullmatch(rb'\+realm="example.com",nonce="[^"]*",algorithm=md5-sess', challenge)


@one_shell
def test_it_announces_a_maxbuf_without_a_layer(tapped: Meeting) -> None:
    conversation, case = tapped.from_client()
    conversation.authenticate(server("auth"))
    converse(conversation, case)
    assert b"maxbuf=65536," in wires(tapped.tap)[UP].login[1]


# Frames that were tampered with.


ALTERED = "^a protected message was altered or forged$"


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
@pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])
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


@pytest.mark.parametrize("shell", Shell.KINDS, indirect=True)
def test_what_came_before_an_altered_frame(meeting: Meeting, shell: Shell) -> None:
    """It can be read, however late, and nothing after it."""
    options = {"sends": sizes(100, 100, 100), "pieces": AT_ONCE, "eager": "", "tamper": 1}
    conversation, case = meeting.at_server(options)
    conversation.authenticate(client())
    if shell.eager:
        assert case.result()["received"] == "0"  # the connection is closed by now
    assert conversation.receive_exactly(100) == payload(100)
    with pytest.raises(IntegrityError, match=ALTERED):
        conversation.receive()


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
def test_the_jdk_does_not(jdk: Jdk, protection: str) -> None:
    """It drops the frame and does not count it: the next one is out of sequence.

    So an altered last one is lost, and nobody hears of it.
    """
    for good_after, error in ((0, None), (1, "Out of order sequencing")):
        case, port = jdk.server(one(ALICE))
        plain = socket.create_connection((LOOPBACK, port), 10)
        with authenticate_socket(plain, client(protection)) as sealed:
            context = sealed.context
            assert context is not None
            for altered in (0, 1, *[0] * good_after):
                token = bytearray(context.seal(b"a request"))
                token[0] ^= altered
                plain.sendall(len(token).to_bytes(4, "big") + token)
            sealed.shutdown(socket.SHUT_WR)
            result = case.result()
        assert (result["received"], result["dropped"]) == ("9", "1")
        assert (error is None) is ("error" not in result)
        assert error is None or error in result["error"]


# What the shells have to listen and connect with.

BACK = payload(sum(SOME))


def silent_clients(jdk: Jdk, port: int) -> list[Case]:
    """Clients that send, and do not echo; the last one does not know the password."""
    users = [ALICE, LATIN, CYRILLIC, Credentials(ALICE.username, "wrong")]
    options = {"sends": sizes(*SOME), "silent": ""}
    return [jdk.client(port, {**one(user), **options}) for user in users]


def check_silent_clients(cases: list[Case], refused: list[Exception]) -> None:
    *let_in, last = [case.result() for case in cases]
    for result in let_in:
        result.check_received(BACK)
    assert "refused" in last["error"]
    assert [type(error) for error in refused] == [AuthenticationError]


def test_start_server(jdk: Jdk) -> None:
    refused = []

    async def give_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert writer.get_extra_info("sasl").cipher == "rc4"
        writer.write(await reader.readexactly(len(BACK)))
        writer.close()
        await writer.wait_closed()

    async def note(error: Exception, writer: asyncio.StreamWriter) -> None:
        refused.append(error)

    async def main() -> None:
        listening = await start_server(
            give_back, LOOPBACK, 0, make_exchange=server, handle_error=note
        )
        async with listening, asyncio.timeout(PATIENCE):
            cases = silent_clients(jdk, listening.sockets[0].getsockname()[1])
            await asyncio.to_thread(check_silent_clients, cases, refused)

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_listener(jdk: Jdk, backend: str) -> None:
    refused = []

    async def give_back(stream: SASLStream) -> None:
        async with stream:
            assert stream.extra(SASLAttribute.authcid) in {user.username for user in USERS}
            await stream.send(await BufferedByteReceiveStream(stream).receive_exactly(len(BACK)))

    async def note(error: Exception, stream: AnyByteStream) -> None:
        refused.append(error)

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host=LOOPBACK)
        sealed = SASLListener(listener, server, handle_error=note)
        async with sealed, anyio.create_task_group() as tasks:
            with anyio.fail_after(PATIENCE):
                tasks.start_soon(sealed.serve, give_back)
                cases = silent_clients(jdk, listener.extra(SocketAttribute.local_port))
                await anyio.to_thread.run_sync(check_silent_clients, cases, refused)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_open_connection(jdk: Jdk) -> None:
    async def main(port: int) -> None:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await open_connection(LOOPBACK, port, exchange=client("3des"))
            assert writer.get_extra_info("sasl").cipher == "3des"
            writer.writelines([b"some ", b"words"])
            writer.write_eof()
            assert await reader.read(-1) == b"some words"
            writer.close()
            await writer.wait_closed()

    case, port = jdk.server(one(ALICE))
    asyncio.run(main(port))
    case.result().check_received(b"some words")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_connectable(jdk: Jdk, backend: str) -> None:
    async def main(port: int) -> None:
        connectable = SASLConnectable(anyio.TCPConnectable(LOOPBACK, port), client)
        with anyio.fail_after(PATIENCE):
            async with await connectable.connect() as stream:
                await stream.send(b"some words")
                await stream.send_eof()
                assert b"".join([part async for part in stream]) == b"some words"

    case, port = jdk.server(one(ALICE))
    anyio.run(main, port, backend=backend)
    case.result().check_received(b"some words")
