"""What was to be sent is in no variable of ours when a send has failed.

`tests/attacks/test_g_sends.py` has the shells under a layer. Here are the ways into them, streams
without a layer, and the clients that stand between a library and a shell.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from ldap3 import Connection, Server

from saslwrap import DigestMD5Client
from saslwrap.anyio import SASLStream
from saslwrap.asyncio import start_sasl
from saslwrap.clients import anyldap, badldap, imaplib, ldap3
from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import SASLError, UsageError
from saslwrap.layer import ClearLayer, SecurityLayer
from saslwrap.sync import SASLSocket
from saslwrap.testing import (
    IMAPServer,
    LDAPServer,
    context_pair,
    layer_pair,
    memory_stream_pair,
)
from saslwrap.testing.checks.leaks import kept_by, shows

PLAINTEXT = b"plaintext that nobody may see"

#: Whose variables are not ours to clear.
OTHERS = ("tests.", "_pytest", "asyncio", "imaplib", "ldap3", "pyasn1", "saslwrap.testing")


def shown(error: BaseException) -> list[object]:
    return shows(PLAINTEXT, *kept_by(error, OTHERS))


def failing(send: Callable[..., object], *arguments: Any) -> None:
    with pytest.raises((OSError, SASLError, TypeError)) as caught:
        send(*arguments)
    assert shown(caught.value) == []


async def failing_later(send: Callable[..., Awaitable[object]], *arguments: Any) -> None:
    kinds = (anyio.BrokenResourceError, anyio.ClosedResourceError, SASLError, TypeError)
    with pytest.raises(kinds) as caught:
        await send(*arguments)
    assert shown(caught.value) == []


@pytest.fixture(params=["sealed", "clear"])
def context(request: pytest.FixtureRequest) -> SecurityContext | None:
    return context_pair().client if request.param == "sealed" else None


#: A program's mistakes, which reach its log as tracebacks.
NO_BUFFERS = [PLAINTEXT.decode(), [PLAINTEXT], SimpleNamespace(octets=PLAINTEXT)]


@pytest.mark.parametrize("given", NO_BUFFERS, ids=["str", "list", "object"])
def test_what_is_no_buffer(context: SecurityContext | None, given: Any) -> None:
    layer = ClearLayer() if context is None else SecurityLayer(context)
    failing(layer.send_data, given)
    failing(lambda: list(layer.batches(given)) and layer.send_data(given))
    failing(layer.push_back, given)
    assert layer.pending == 0
    if context is not None:
        failing(context.seal, given)
        assert context.alive


def test_what_is_put_back_is_no_number() -> None:
    layer: Any
    for layer in (ClearLayer(), layer_pair().client):
        with pytest.raises(TypeError, match="bytes-like"):
            layer.push_back(5)
        assert layer.pending == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_message_that_is_refused(kind: Callable[[bytes], Buffer]) -> None:
    pair = context_pair()
    failing(pair.client.seal, kind(PLAINTEXT * 3000))
    assert pair.server.unseal(pair.client.seal(PLAINTEXT)) == PLAINTEXT
    pair.client.close()
    failing(pair.client.seal, kind(PLAINTEXT))


@pytest.fixture(params=[SASLSocket, ldap3._Socket])
def lost(context: SecurityContext | None, request: pytest.FixtureRequest) -> Iterator[SASLSocket]:
    """A socket that can send nothing."""
    here, there = socket.socketpair()
    there.close()
    with here:
        yield request.param(here, context)


def test_over_a_socket(lost: SASLSocket) -> None:
    failing(lost.sendall, PLAINTEXT)
    failing(lost.send, PLAINTEXT)
    failing(lost.sendall, PLAINTEXT, socket.MSG_OOB)


@pytest.mark.parametrize("given", NO_BUFFERS, ids=["str", "list", "object"])
def test_over_a_socket_what_is_no_buffer(lost: SASLSocket, given: Any) -> None:
    failing(lost.sendall, given)
    failing(lost.send, given)


def test_through_a_file(lost: SASLSocket) -> None:
    with lost.makefile("wb", 0) as file:
        failing(file.write, PLAINTEXT)


@pytest.mark.anyio
async def test_over_a_stream(context: SecurityContext | None) -> None:
    here, there = memory_stream_pair()
    await there.aclose()
    stream = SASLStream(here, context)
    await failing_later(stream.send, PLAINTEXT)
    await stream.aclose()
    await failing_later(stream.send, PLAINTEXT)


@pytest.mark.anyio
@pytest.mark.parametrize("given", NO_BUFFERS, ids=["str", "list", "object"])
async def test_over_a_stream_what_is_no_buffer(context: SecurityContext | None, given: Any) -> None:
    here, _ = memory_stream_pair()
    await failing_later(SASLStream(here, context).send, given)


@pytest.mark.asyncio
async def test_over_a_transport() -> None:
    here, there = socket.socketpair()
    with there:
        transport, protocol = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=here
        )
        sealed = start_sasl(transport, protocol, context_pair().client)
        for given in NO_BUFFERS:
            failing(sealed.write, given)
            failing(sealed.writelines, [PLAINTEXT, given])
        sealed.get_extra_info("sasl").close()
        failing(sealed.write, PLAINTEXT)
        failing(sealed.writelines, [PLAINTEXT])
        sealed.abort()


def test_through_imaplib() -> None:
    with IMAPServer({}, {"alice": "s3cret"}).in_thread() as server:
        client = imaplib.IMAP4("127.0.0.1", server.port)
        client.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(client.abort) as caught:
            client.send(PLAINTEXT)
        assert shown(caught.value) == []
        client.shutdown()


@pytest.mark.anyio
async def test_through_anyldap() -> None:
    here, there = memory_stream_pair()
    await there.aclose()
    await failing_later(anyldap._Stream(SASLStream(here, context_pair().client)).send, PLAINTEXT)


@pytest.mark.asyncio
async def test_through_badldap() -> None:
    network = badldap._Network(SimpleNamespace(reader=None, writer=None))
    with pytest.raises(UsageError, match="in clear") as caught:
        await network.write(PLAINTEXT)
    assert shown(caught.value) == []


@pytest.mark.parametrize("refused", [True, False], ids=["before a login", "the connection is gone"])
def test_through_ldap3(*, refused: bool) -> None:
    with LDAPServer({}, {"alice": "s3cret"}).in_thread() as server:
        connection = Connection(Server("127.0.0.1", server.port))
        ldap3.authenticate(connection, make_mechanism)
        if refused:
            connection.bound = False
        else:
            connection.socket.sock.shutdown(socket.SHUT_WR)
        with pytest.raises((OSError, UsageError)) as caught:
            connection.add("cn=x", "person", {"sn": PLAINTEXT})
        assert shown(caught.value) == []
        connection.unbind()


def make_mechanism() -> DigestMD5Client:
    return DigestMD5Client("alice", "s3cret", service="ldap", host="localhost")
