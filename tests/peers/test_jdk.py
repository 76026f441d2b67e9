"""saslwrap's shells against the JDK's DIGEST-MD5 (17): what `test_digest_peers.py` leaves out."""

from __future__ import annotations

import asyncio
import re
import socket
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
    TruncatedStreamError,
)
from saslwrap.anyio import SASLAttribute, SASLConnectable, SASLListener, SASLStream
from saslwrap.asyncio import open_connection, start_server
from saslwrap.sync import authenticate_socket
from tests.peers.directory import ALICE, CYRILLIC, LATIN, REALM, USERS, Credentials
from tests.peers.jdk import (
    MAX_BUFFER,
    QOP_OFFER,
    REALMS,
    SEND_MAX_BUFFER,
    STRENGTH,
    UTF8,
    Jdk,
)
from tests.peers.meeting import (
    ALTERED,
    AT_ONCE,
    DOWN,
    SOME,
    UP,
    Meeting,
    check_wires,
    client,
    converse,
    each_user,
    framed,
    server,
    sizes,
    wires,
)
from tests.peers.peer_process import Case, payload
from tests.peers.shells import PATIENCE, Shell, one_shell, some_shells
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from anyio.abc import AnyByteStream

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def peer(jdk: Jdk) -> Jdk:
    return jdk


@one_shell
def test_the_jdk_s_own_limit_on_what_it_sends(tapped: Meeting) -> None:
    conversation, case = tapped.at_server({"sends": 5000, SEND_MAX_BUFFER: 500})
    conversation.authenticate(client())
    result = converse(conversation, case, [5000])
    assert result["maximum"] == "474"
    assert max(check_wires(tapped.tap, "rc4")[DOWN].lengths) == 490


# Names and passwords.


@each_user
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


@pytest.mark.parametrize("apart", [True, False])
@some_shells
def test_a_server_that_does_not_know_the_password(meeting: Meeting, apart: bool) -> None:
    conversation, case = meeting.at_server({"forge": 1, "apart": 1 if apart else None})
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


@pytest.mark.parametrize("shell", Shell.KINDS, indirect=True)
def test_what_came_before_an_altered_frame(meeting: Meeting, shell: Shell) -> None:
    """It can be read, however late, and nothing after it."""
    options = {"sends": sizes(100, 100, 100), "pieces": AT_ONCE, "eager": 1, "tamper": 1}
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
        case, port = jdk.server(jdk.account(ALICE))
        plain = socket.create_connection((LOOPBACK, port), 10)
        with authenticate_socket(plain, client(protection)) as sealed:
            context = sealed.context
            assert context is not None
            for altered in (0, 1, *[0] * good_after):
                plain.sendall(framed(context.seal(b"a request"), altered=altered))
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
    options = {"sends": sizes(*SOME), "silent": 1}
    return [jdk.client(port, {**jdk.account(user), **options}) for user in users]


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

    case, port = jdk.server(jdk.account(ALICE))
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

    case, port = jdk.server(jdk.account(ALICE))
    anyio.run(main, port, backend=backend)
    case.result().check_received(b"some words")
