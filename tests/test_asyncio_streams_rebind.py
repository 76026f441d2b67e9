"""A login over streams that have a layer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saslwrap.errors import ProtocolError, TruncatedStreamError, UsageError
from saslwrap.exchange import Done, Send, Step
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import MechanismPair, context_pair, mechanism_pair
from tests.asyncio_streams import (
    both,
    log_in,
    logged_in,
    sealed,
    sealed_streams,
    talk,
    within,
    wrong_password,
)
from tests.test_shells_support import Peer, loops, on_both_loops, problems, stream_pair, turns

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


async def test_a_rebind_replaces_the_layer_in_the_same_pair() -> None:
    client, server = await logged_in(*await stream_pair(), "3des")
    first = sealed(client).get_extra_info("sasl")
    assert await logged_in(client, server, "rc4") == (client, server)
    await talk(client, server)
    second = sealed(client).get_extra_info("sasl")
    assert (first.cipher, second.cipher) == ("3des", "rc4")
    with pytest.raises(UsageError, match="closed"):
        first.seal(b"x")
    assert await logged_in(client, server, "auth") == (client, server)
    assert sealed(client).get_extra_info("sasl") is second
    await talk(client, server)


class CoalescingServer:
    """The server's end of a rebind, by hand: what follows the success comes in its segment."""

    def __init__(self, peer: Peer, mechanisms: MechanismPair) -> None:
        self.peer = peer
        self.mechanism = mechanisms.server
        self.exchange = LDAPBindServer({"DIGEST-MD5": lambda: mechanisms.server})

    async def serve(self, in_old: bytes, *in_new: bytes) -> Peer | None:
        sent = b""
        while not isinstance(event := self.exchange.advance(), Done):
            if isinstance(event, Send):
                sent += self.peer.seal(event.data)
            elif isinstance(event, Step):
                self.exchange.step()
            else:
                await self.peer.send_raw(sent)
                sent = b""
                self.exchange.receive_data(await self.peer.receive_some())
        if in_old:
            sent += self.peer.seal(in_old)
        renewed = None
        if self.exchange.context is not None:
            renewed = Peer((self.peer.reader, self.peer.writer), self.exchange.context)
            sent += renewed.seal(*in_new)
        await self.peer.send_raw(sent)
        return renewed


@pytest.mark.parametrize("may_block", [False, True])
async def test_frames_of_the_new_layer_right_behind_the_success(may_block: bool) -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    mechanisms.client.may_block = may_block
    renewed, again = await both(
        CoalescingServer(Peer(server, contexts.server), mechanisms).serve(b"", b"one ", b"two"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert isinstance(renewed, Peer), renewed
    assert again == client
    assert await within(client[0].readexactly(7)) == b"one two"
    client[1].write(b"answer")
    assert await renewed.receive(6) == b"answer"


async def test_a_success_that_waits_while_the_login_waits_for_something_else() -> None:
    """The reader holds the success already when it is asked: the next frame is the new layer's."""
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    mechanisms.client.may_block = True
    writer = client[1]
    drain = writer.drain

    async def slow_drain() -> None:
        await drain()
        await turns(200)

    writer.drain = slow_drain  # type: ignore[method-assign]
    renewed, again = await both(
        CoalescingServer(Peer(server, contexts.server), mechanisms).serve(b"", b"one ", b"two"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert again == client
    assert isinstance(renewed, Peer), renewed
    assert await within(client[0].readexactly(7)) == b"one two"


async def test_data_of_the_old_layer_behind_a_success_breaks_the_connection() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    peer = Peer(server, contexts.server)
    mechanisms = mechanism_pair("rc4")
    seal = peer.seal
    peer.seal = lambda *messages: seal(b"".join(messages) + b"x" * (b"rspauth" in messages[0]))  # type: ignore[method-assign]
    _, error = await both(
        CoalescingServer(peer, mechanisms).serve(b""),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert isinstance(error, ProtocolError)
    assert "old layer" in str(error)
    assert client[1].is_closing()


async def test_data_behind_a_rebind_that_brought_no_layer_is_kept() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("auth")
    peer = Peer(server, contexts.server)
    seal = peer.seal
    peer.seal = lambda *messages: seal(b"".join(messages) + b"x" * (b"rspauth" in messages[0]))  # type: ignore[method-assign]
    await both(
        CoalescingServer(peer, mechanisms).serve(b"yz"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert await within(client[0].readexactly(3)) == b"xyz"


async def test_the_peer_ends_right_behind_the_success_of_a_rebind() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    mechanisms = mechanism_pair("rc4")
    write = server[1].write

    def write_and_end(data: Any) -> None:
        write(data)
        if hand.exchange.result_code == 0:
            server[1].write_eof()

    server[1].write = write_and_end  # type: ignore[method-assign]
    hand = CoalescingServer(Peer(server, contexts.server), mechanisms)
    _, again = await both(
        hand.serve(b"", b"last words"),
        log_in(*client, LDAPBind(mechanisms.client)),
    )
    assert again == client
    assert await within(client[0].read()) == b"last words"


async def test_a_cancelled_rebind_closes() -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    login = asyncio.create_task(log_in(*client, LDAPBind(wrong_password())))
    await within(server[0].read(1))
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(login)
    assert client[1].is_closing()


@pytest.mark.parametrize("known", [False, True])
async def test_a_peer_that_left_before_a_rebind(known: bool) -> None:
    contexts = context_pair("3des")
    client, server = await stream_pair()
    client = await sealed_streams(*client, contexts.client)
    server[1].write_eof()
    if known:
        assert await within(client[0].read()) == b""
    with pytest.raises(TruncatedStreamError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()
