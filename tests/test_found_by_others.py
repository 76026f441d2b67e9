"""What hostile readers and first users found: each was so once, and is not to come back."""

from __future__ import annotations

import asyncio
import socket
import threading

import anyio
import pytest

from saslwrap import (
    AuthenticationError,
    ContextBusyError,
    DigestMD5Client,
    DigestMD5Server,
    IntegrityError,
    MalformedMessageError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityContext,
    SecurityProperties,
    TruncatedStreamError,
    UsageError,
    choose_mechanism,
)
from saslwrap.anyio import SASLListener, SASLStream
from saslwrap.asyncio import (
    SASLTransport,
    open_connection,
    start_sasl,
    start_sasl_streams,
    start_server,
)
from saslwrap.exchange import Done, Send, Step
from saslwrap.layer import ClearLayer, SecurityLayer
from saslwrap.mechanisms.digest_md5.context import wipe
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.sync import SASLSocket
from saslwrap.testing import connect_mechanisms, context_pair, layer_pair, mechanism_pair
from tests.support import reset_at_close


def sealed(context: SecurityContext, *messages: bytes) -> bytes:
    layer = SecurityLayer(context)
    return b"".join(octets for message in messages for octets in layer.send_data(message))


def element(tag: int, contents: bytes) -> bytes:
    return bytes([tag, 0x84]) + len(contents).to_bytes(4, "big") + contents


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("tail", "kind"),
    [(b"\0\0\0\x16" + b"x" * 22, IntegrityError), (b"\0\0\0\x16abc", TruncatedStreamError)],
)
async def test_a_reader_that_failed_is_not_at_its_end(tail: bytes, kind: type[Exception]) -> None:
    """The guard: `while not reader.at_eof()` must not take a forgery for the end."""
    ours, theirs = socket.socketpair()
    pair = context_pair()
    old = await asyncio.open_connection(sock=ours)
    reader, writer = await start_sasl_streams(*old, pair.client)
    theirs.sendall(sealed(pair.server, b"one\n", b"two\n") + tail)
    theirs.close()
    lines = []

    async def read_all() -> None:
        while not reader.at_eof():
            lines.append(await reader.readline())

    with pytest.raises(kind):
        await asyncio.wait_for(read_all(), 10)
    assert lines == [b"one\n", b"two\n"]
    writer.close()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
@pytest.mark.anyio
async def test_a_reset_before_the_login_does_not_end_the_listener(anyio_backend: object) -> None:
    """The guard: uvloop raises AttributeError when a dead socket is asked for its peer."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    failed = anyio.Event()

    async def note(error: Exception, stream: object) -> None:
        failed.set()

    async def handle(stream: SASLStream) -> None:
        raise AssertionError("nobody logs in")

    serving = SASLListener(listener, lambda: LDAPBindServer({}), handle_error=note)
    async with serving, anyio.create_task_group() as tasks:
        tasks.start_soon(serving.serve, handle)
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", port))
            reset_at_close(client)
            client.close()
        with anyio.fail_after(10):
            await failed.wait()
        tasks.cancel_scope.cancel()


GIANT = b"\x7f" + b"\xff" * 2000


def test_a_giant_version_is_malformed() -> None:
    server = LDAPBindServer({})
    server.advance()
    bind = element(0x02, GIANT) + element(0x04, b"") + element(0xA3, element(0x04, b"X"))
    server.receive_data(element(0x30, element(0x02, b"\1") + element(0x60, bind)))
    with pytest.raises(MalformedMessageError):
        server.advance()


def test_a_giant_result_code_is_malformed() -> None:
    client = LDAPBind(mechanism_pair().client)
    assert client.advance() == Step()
    client.step()
    assert isinstance(client.advance(), Send)
    client.advance()
    answer = element(0x0A, GIANT) + element(0x04, b"") + element(0x04, b"")
    client.receive_data(element(0x30, element(0x02, b"\1") + element(0x61, answer)))
    with pytest.raises(MalformedMessageError):
        client.advance()


def test_a_server_cannot_abort_what_the_client_was_told_of() -> None:
    mechanisms = mechanism_pair()
    client, server = (
        LDAPBind(mechanisms.client),
        LDAPBindServer({"DIGEST-MD5": lambda: mechanisms.server}),
    )
    told: object = None
    while server.result_code != 0:
        for one, other in (client, server), (server, client):
            match one.advance():
                case Send(data) as told:
                    other.receive_data(data)
                case Step():
                    one.step()
    with pytest.raises(UsageError, match="nothing to abort"):
        server.abort()
    assert told is not None
    assert server.advance() == Done()


def test_abandoning_a_mechanism_holds_against_a_step_at_work() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def get_secret(username: str, realm: str) -> str:
        asked.set()
        assert go_on.wait(10)
        return "s3cret-Pa55"

    client = mechanism_pair().client
    server = DigestMD5Server(get_secret, service="ldap", host="localhost", realms=["example.com"])
    response = client.step(server.step(None))
    errors: list[SASLError] = []

    def step() -> None:
        try:
            server.step(response)
        except SASLError as error:
            errors.append(error)

    at_work = threading.Thread(target=step)
    at_work.start()
    assert asked.wait(10)
    server.abandon()
    go_on.set()
    at_work.join(10)
    assert "given up" in str(errors)
    assert server.context is None or not server.context.alive


def test_a_message_past_completion_does_not_touch_the_context() -> None:
    mechanisms = mechanism_pair()
    connect_mechanisms(*mechanisms)
    context = mechanisms.client.context
    with pytest.raises(ProtocolError):
        mechanisms.client.step(b"more")
    assert context is not None
    assert context.alive


class SmallBuffer(asyncio.BufferedProtocol):
    """Rebinds as soon as it reads that it may, in the middle of a frame."""

    def __init__(self, new: SecurityContext) -> None:
        self.transport: SASLTransport
        self.buffer = bytearray(8)
        self.new = new
        self.read: list[bytes] = []
        self.refused: list[Exception] = []
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.read.append(bytes(self.buffer[:nbytes]))
        try:
            self.transport.rebind(self.new)
        except ProtocolError as error:
            self.refused.append(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.asyncio
async def test_the_rest_of_an_old_frame_is_never_taken_for_the_new_layers() -> None:
    ours, theirs = socket.socketpair()
    old, new = context_pair("auth-int"), context_pair("rc4")
    below, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    protocol = SmallBuffer(new.client)
    protocol.transport = start_sasl(below, protocol, old.client)
    theirs.sendall(sealed(old.server, b"SUCCESS!of the old layer"))
    assert isinstance(await asyncio.wait_for(protocol.lost, 10), ProtocolError)
    assert protocol.read == [b"SUCCESS!"]
    assert len(protocol.refused) == 1
    theirs.close()


def test_asking_what_is_pending_reads_nothing_again() -> None:
    """The guard: asking before each `recv` copied the rest of the frame each time."""
    ours, theirs = socket.socketpair()
    pair = context_pair()
    with SASLSocket(ours, pair.client) as sealed_socket, theirs:
        theirs.sendall(sealed(pair.server, bytes(1000)))
        assert sealed_socket.recv(1)
        plaintext = sealed_socket._layer._plaintext  # type: ignore[union-attr]
        assert sealed_socket.pending() == 999
        assert sealed_socket._layer._plaintext is plaintext  # type: ignore[union-attr]


def test_a_tiny_maxbuf_is_served_batch_by_batch() -> None:
    """The guard: 1 MiB to a peer of 17 octets would be 21 MiB and 100 MiB of memory at once."""
    client = layer_pair(server_maxbuf=17).client
    batches = list(client.batches(bytes(1000)))
    assert max(map(len, batches)) == 64
    assert sum(map(len, batches)) == 1000


def test_a_refusal_quotes_little_of_what_a_peer_wrote() -> None:
    server = mechanism_pair("auth").server
    server.step(None)
    response = (
        b'username="alice",realm="example.com",nonce="x",cnonce="y",nc=00000001,qop='
        + b"q" * 3000
        + b',digest-uri="ldap/localhost",response='
        + b"0" * 32
    )
    with pytest.raises((SASLError, AuthenticationError)) as caught:
        server.step(response)
    assert len(str(caught.value)) < 300


@pytest.mark.asyncio
async def test_a_handler_can_learn_who_logged_in() -> None:
    served: asyncio.Queue[str | None] = asyncio.Queue()

    def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: LDAPBindServer
    ) -> None:
        served.put_nowait(exchange.authcid)
        writer.close()

    server = await start_server(
        handle,
        "127.0.0.1",
        0,
        make_exchange=lambda: LDAPBindServer({"DIGEST-MD5": lambda: mechanism_pair().server}),
        pass_exchange=True,
    )
    async with server:
        host, port = server.sockets[0].getsockname()
        login = LDAPBind(mechanism_pair().client)
        _, writer = await open_connection(host, port, exchange=login)
        assert await asyncio.wait_for(served.get(), 10) == "alice"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("wrong", [b"s3cret", None])
def test_a_password_that_is_no_text_is_refused_and_not_shown(wrong: object) -> None:
    with pytest.raises(UsageError, match="password is a str") as caught:
        DigestMD5Client("alice", wrong, service="ldap", host="localhost")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


def test_an_async_get_secret_is_refused_where_it_is_given() -> None:
    async def get_secret(username: str, realm: str) -> str:
        return "s3cret"

    with pytest.raises(UsageError, match="may_block"):
        DigestMD5Server(get_secret, service="ldap", host="localhost")  # type: ignore[arg-type]


def test_one_string_is_no_list_of_mechanisms() -> None:
    with pytest.raises(UsageError, match="several names"):
        choose_mechanism("GSSAPI DIGEST-MD5", [DigestMD5Client])


@pytest.mark.parametrize(
    ("properties", "advice"),
    [
        (SecurityProperties(min_ssf=256), "lower min_ssf or add to ciphers"),
        (SecurityProperties(ciphers=("des",)), "lower min_ssf or add to ciphers"),
        (SecurityProperties(min_ssf=1, max_ssf=1), "raise max_ssf"),
    ],
)
def test_the_advice_points_the_right_way(properties: SecurityProperties, advice: str) -> None:
    client = DigestMD5Client(
        "alice", "s3cret", service="ldap", host="localhost", properties=properties
    )
    challenge = mechanism_pair().server.step(None)
    with pytest.raises(NegotiationError, match=advice):
        client.step(challenge)


def test_what_cannot_be_worked_on_in_place_is_refused_and_nothing_is_spent() -> None:
    pair = context_pair()
    for view in (memoryview(b"read only"), memoryview(bytearray(8))[::2]):
        with pytest.raises(UsageError, match="in place"):
            pair.client.seal_in_place(view)
    assert pair.server.unseal(pair.client.seal(b"on")) == b"on"


def test_a_clear_layer_knows_what_is_pending_and_batches_nothing() -> None:
    layer = ClearLayer()
    layer.receive_data(b"three")
    assert layer.pending == 5
    assert list(layer.batches(b"data")) == [b"data"]


def test_two_steps_at_once_are_refused_so_that_keys_are_made_once() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def get_secret(username: str, realm: str) -> str:
        asked.set()
        assert go_on.wait(10)
        return "s3cret-Pa55"

    server = DigestMD5Server(get_secret, service="ldap", host="localhost", realms=["example.com"])
    response = mechanism_pair().client.step(server.step(None))
    at_work = threading.Thread(target=server.step, args=(response,))
    at_work.start()
    assert asked.wait(10)
    with pytest.raises(ContextBusyError, match="another step"):
        server.step(response)
    go_on.set()
    at_work.join(10)
    assert server.complete


def test_a_context_is_dead_before_anything_else_can_go_wrong() -> None:
    """The guard: without memory for the error's copy the keys must be gone all the same."""

    class UncopyableError(IntegrityError):
        def fresh(self) -> UncopyableError:
            raise MemoryError

    context = context_pair().client
    with pytest.raises(MemoryError):
        context.fail(UncopyableError())
    assert not context.alive


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 5000])
def test_wiping_leaves_nothing(length: int) -> None:
    memory = bytearray(b"x" * length)
    wipe(memoryview(memory))
    assert memory == bytes(length)
