"""Connections to slapd that are cut, and tasks that are cancelled, in the middle."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    fail_after,
    move_on_after,
    to_thread,
)

from saslwrap import SASLError, TruncatedStreamError
from saslwrap.anyio import authenticate
from tests.peers.directory import ALICE, LARGE_DN, LATIN
from tests.peers.ldap_client import ONE_LEVEL, search_request
from tests.peers.slapd import Slapd
from tests.peers.slapd_sessions import (
    EVERY_ENTRY,
    SEARCH_DONE,
    bind,
    connect,
    every_entry,
    generated_values,
    session,
)
from tests.peers.valve import valve_before

if TYPE_CHECKING:
    from tests.peers.wiretap import Wiretap, WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

ENTRY_FRAME = 4 + 4233
"""Octets of the frame that brings a large entry."""


@pytest.fixture
def tap(slapd: Slapd, wiretap: WiretapFactory) -> Wiretap:
    return wiretap(slapd.address, slapd.port)


async def test_a_cancelled_receive_loses_nothing(slapd: Slapd) -> None:
    received = bytearray()
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(0)
        await client.stream.send(every_entry(7))
        # none; within a length; behind it; within a token; many frames and parts of them
        for octets in (0, 2, 2, 50, 1000, 100_003, 200_001):
            valve.allow(octets)
            await valve.holds()
            scope = CancelScope()
            while not scope.cancelled_caught:
                with move_on_after(0.01) as scope:
                    received += await client.stream.receive()
        valve.allow()
        while not received.endswith(SEARCH_DONE):
            with move_on_after(0.0001):
                received += await client.stream.receive(1000)
    assert generated_values(received) == list(EVERY_ENTRY.values())


@pytest.mark.parametrize("octets", [2, 4, 100, ENTRY_FRAME + 1])
async def test_the_server_dies_within_a_frame(slapd: Slapd, octets: int) -> None:
    text = f"the connection ended inside a frame, {octets % ENTRY_FRAME} octets after its start"
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(octets)
        request = search_request(7, LARGE_DN, scope=ONE_LEVEL)
        await client.stream.send(request)
        await valve.holds()
        await valve.end()
        if octets > ENTRY_FRAME:
            assert (await client.receive()).operation == "searchResEntry"
        for _ in range(2):
            with pytest.raises(BrokenResourceError, match=text) as raised:
                await client.receive()
            assert isinstance(raised.value.__cause__, TruncatedStreamError)
        with pytest.raises(BrokenResourceError, match=text):
            await client.stream.send(request)


async def test_the_connection_is_reset_within_a_frame(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(100)
        await client.stream.send(search_request(7, LARGE_DN, scope=ONE_LEVEL))
        await valve.holds()
        with move_on_after(0.01):
            await client.receive()
        await valve.reset()
        with pytest.raises(BrokenResourceError) as raised:
            await client.receive()
        assert not isinstance(raised.value.__cause__, SASLError)


@pytest.mark.parametrize("octets", [0, 1, 20])
async def test_the_server_dies_during_the_login(slapd: Slapd, octets: int) -> None:
    async def end() -> None:
        await valve.holds()
        await valve.end()

    async with valve_before(slapd) as valve, await connect(valve) as tcp:
        valve.allow(octets)
        async with create_task_group() as tasks:
            tasks.start_soon(end)
            with pytest.raises(TruncatedStreamError, match="closed the connection during the"):
                await authenticate(tcp, bind())


async def test_a_cancelled_login_closes_the_connection(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, await connect(valve) as tcp:
        valve.allow(20)
        with move_on_after(0.05) as scope:
            await authenticate(tcp, bind())
        assert scope.cancelled_caught
        with pytest.raises(ClosedResourceError):
            await tcp.receive()


async def test_a_cancelled_rebind_closes_the_connection(slapd: Slapd) -> None:
    async with valve_before(slapd) as valve, session(valve) as client:
        valve.allow(20)
        with move_on_after(0.05) as scope:
            await authenticate(client.stream, bind(LATIN))
        assert scope.cancelled_caught
        with pytest.raises(ClosedResourceError):
            await client.stream.send(b"anything")


async def test_the_connection_is_cut_between_frames(tap: Wiretap) -> None:
    async with session(tap) as client:
        assert await client.who_am_i() == ALICE.dn
        async with create_task_group() as tasks:
            tasks.start_soon(to_thread.run_sync, tap.close)
            with fail_after(5), pytest.raises(EndOfStream):
                await client.receive()


async def test_the_wire_is_cut_amid_a_large_result(tap: Wiretap) -> None:
    """Wherever the cut falls, and however it is reported, the receiver learns of it."""
    received = bytearray()
    async with session(tap) as client:
        await client.stream.send(b"".join(every_entry(number) for number in (1, 2, 3)))
        received += await client.stream.receive()
        await to_thread.run_sync(tap.close)
        with fail_after(15), suppress(BrokenResourceError):
            async for chunk in client.stream:
                received += chunk
    assert received.count(SEARCH_DONE) < 3
