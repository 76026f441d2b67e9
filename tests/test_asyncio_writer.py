"""What becomes of writers: the old one sends nothing any more, the new one takes no TLS."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.asyncio import start_sasl
from saslwrap.asyncio.transport import has_layer
from saslwrap.errors import UsageError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import context_pair
from tests.asyncio_streams import log_in, logged_in, sealed_streams, talk, within, wrong_password
from tests.asyncio_transports import over_what, tls_or_tcp
from tests.conftest import TLSContexts
from tests.test_shells_support import (
    Peer,
    Recorder,
    Streams,
    loops,
    on_both_loops,
    problems,
    stream_pair,
)

__all__ = ["loops", "problems", "tls_or_tcp"]

pytestmark = on_both_loops

SENDING: dict[str, Callable[[asyncio.StreamWriter], Any]] = {
    "write": lambda writer: writer.write(b"MAIL"),
    "writelines": lambda writer: writer.writelines([b"MAIL", b" BODY"]),
    "write_eof": lambda writer: writer.write_eof(),
    "start_tls": lambda writer: writer.start_tls(ssl.create_default_context()),
}


async def refused(writer: asyncio.StreamWriter, how: str, words: str) -> None:
    async def send() -> None:
        if inspect.isawaitable(sending := SENDING[how](writer)):
            await sending

    with pytest.raises(UsageError, match=words):
        await send()


@over_what
@pytest.mark.parametrize("how", SENDING)
async def test_an_old_writer_sends_nothing_under_a_layer(
    tls_or_tcp: TLSContexts | None, how: str
) -> None:
    """The peer unseals what comes first of all: nothing in clear was before it, or behind."""
    contexts = context_pair()
    client, server = await stream_pair(tls_or_tcp)
    _, writer = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    await refused(client[1], how, "would send in clear; go on with the pair that was returned")
    writer.write(b"sealed")
    assert await peer.receive(6) == b"sealed"
    await refused(client[1], how, "would send in clear")
    writer.close()
    assert await peer.end() == b""


async def both_sides_logged_in() -> tuple[Streams, Streams, Streams]:
    client, server = await stream_pair()
    return client, *await logged_in(client, server)


@pytest.mark.parametrize("how", SENDING)
async def test_an_old_writer_sends_nothing_after_a_login(how: str) -> None:
    old, client, server = await both_sides_logged_in()
    await refused(old[1], how, "would send in clear")
    await talk(client, server)


async def test_an_old_pair_does_not_log_in_again() -> None:
    """It would send a cleartext bind under the layer, and end the connection."""
    old, client, server = await both_sides_logged_in()
    exchange = LDAPBind(wrong_password())
    with pytest.raises(UsageError, match="below a security layer; go on with the one"):
        await within(log_in(*old, exchange))
    exchange.begin(b"")  # it is unused
    await talk(client, server)
    client, server = await logged_in(client, server, "3des")
    await talk(client, server)


async def test_a_pair_whose_transport_has_a_layer_above_does_not_log_in() -> None:
    """`start_sasl` was given a transport, and knows of no writer."""
    client, server = await stream_pair()
    start_sasl(client[1].transport, Recorder(), context_pair().client)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="below a security layer; go on with the one"):
        await within(log_in(*client, LDAPBind(wrong_password())))
    client[1].close()
    assert await within(server[0].read()) == b""


async def test_a_writer_without_a_layer_goes_on() -> None:
    client, server = await stream_pair()
    client, server = await logged_in(client, server, "auth")
    assert not has_layer(client[1].transport)
    for name in SENDING:
        assert name not in vars(client[1])
    await talk(client, server)


async def test_a_new_writer_takes_no_tls() -> None:
    _, client, server = await both_sides_logged_in()
    await refused(client[1], "start_tls", "TLS begins before the login")
    await talk(client, server)
    client, server = await logged_in(client, server, "des")
    await refused(client[1], "start_tls", "TLS begins before the login")
    await talk(client, server)


async def test_an_old_writer_that_closes_lets_out_what_waits() -> None:
    contexts = context_pair()
    client, server = await stream_pair()
    _, writer = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    writer.write(b"one ")
    writer.write(b"two")
    client[1].close()
    assert await peer.end() == b"one two"
    assert client[1].is_closing()
    await peer.close()
    await within(client[1].wait_closed())
