"""`authenticate_streams`: a login over a pair of streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
)
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import encode, result
from saslwrap.testing import MechanismPair, mechanism_pair
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.asyncio_streams import (
    arrived,
    both,
    log_in,
    logged_in,
    sealed,
    talk,
    within,
    wrong_password,
)
from tests.conftest import TLSContexts, exchange_pair
from tests.test_shells_support import (
    PATIENCE,
    loops,
    on_both_loops,
    problems,
    reset,
    stream_pair,
    turns,
)

__all__ = ["loops", "problems"]

pytestmark = on_both_loops


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
async def test_both_roles_log_in(protection: str) -> None:
    client, server = await logged_in(*await stream_pair(), protection)
    assert sealed(client).get_extra_info("sasl").qop == sealed(server).get_extra_info("sasl").qop
    await talk(client, server)


async def test_a_login_without_a_layer_gives_the_same_pair() -> None:
    client, server = await stream_pair()
    assert await logged_in(client, server, "auth") == (client, server)
    await talk(client, server)


async def test_what_follows_a_login_without_a_layer_is_not_lost() -> None:
    client, server = await stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair("auth"))
    login = asyncio.create_task(log_in(*client, client_half))
    behind_the_success(server[1], lambda: server[1].write(b"right behind"))
    await within(log_in(*server, server_half))
    await within(login)
    assert await within(client[0].readexactly(12)) == b"right behind"


def behind_the_success(writer: asyncio.StreamWriter, act: Callable[[], object]) -> None:
    """Act as soon as LDAP's successful bindResponse was written."""
    write = writer.write

    def watch(data: Any) -> None:
        write(data)
        if b"rspauth" in data:
            act()

    writer.write = watch  # type: ignore[method-assign]


async def test_octets_of_the_login_that_were_read_already() -> None:
    client, server = await stream_pair()
    client_half, server_half = exchange_pair(mechanism_pair())
    login = asyncio.create_task(log_in(*client, client_half))
    first = await within(server[0].read(1000))
    at_server, at_client = await both(log_in(*server, server_half, received=first), login)
    await talk(at_client, at_server)


@pytest.mark.parametrize("under_a_layer", [False, True])
async def test_a_refused_login_leaves_both_ends_usable(under_a_layer: bool) -> None:
    client, server = await stream_pair()
    if under_a_layer:
        client, server = await logged_in(client, server, "3des")
    refused = exchange_pair(MechanismPair(wrong_password(), mechanism_pair().server))
    for error in await both(log_in(*client, refused[0]), log_in(*server, refused[1])):
        assert type(error) is AuthenticationError
    await talk(client, server)
    client, server = await logged_in(client, server, "des")
    assert sealed(client).get_extra_info("sasl").cipher == "des"
    await talk(client, server)


async def test_nothing_that_follows_a_refusal_is_lost() -> None:
    client, server = await stream_pair()
    refusal = encode(1, "bindResponse", result(49, "no"))
    server[1].write(refusal + b"one ")
    await arrived(client[0])
    server[1].write(b"two ")
    with pytest.raises(AuthenticationError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    server[1].write(b"three")
    server[1].write_eof()
    assert await within(client[0].read()) == b"one two three"


async def test_what_came_between_a_refusal_and_the_end_is_the_exchanges() -> None:
    client, server = await stream_pair()
    server[1].write(encode(1, "bindResponse", result(49, "no")) + b"bye")
    server[1].write_eof()
    await arrived(client[0])
    exchange = LDAPBind(wrong_password())
    with pytest.raises(AuthenticationError):
        await within(log_in(*client, exchange))
    assert exchange.trailing_data + await within(client[0].read()) == b"bye"


async def test_policies_that_do_not_meet_leave_both_ends_usable() -> None:
    client, server = await stream_pair()
    mechanisms = MechanismPair(mechanism_pair("3des").client, mechanism_pair("auth-int").server)
    client_half, server_half = exchange_pair(mechanisms)
    at_client, at_server = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert type(at_client) is NegotiationError
    assert isinstance(at_server, SASLError)
    await talk(client, server)


BROKEN: dict[str, tuple[bytes, type[SASLError]]] = {
    "no LDAP": (b"* OK ready\r\n", ProtocolError),
    "another operation": (encode(1, "bindResponse", result(14, ""))[:5], TruncatedStreamError),
    "no proof": (encode(1, "bindResponse", result(0, "")), MutualAuthenticationError),
}


@pytest.mark.parametrize("answer", BROKEN)
async def test_a_login_that_breaks_aborts_the_transport(answer: str) -> None:
    client, server = await stream_pair()
    octets, kind = BROKEN[answer]
    server[1].write(octets)
    server[1].write_eof()
    with pytest.raises(kind):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()
    assert len(await within(server[0].read())) < 100, "it went on"


async def test_a_login_whose_connection_breaks() -> None:
    client, server = await stream_pair()
    reset(server[1])
    with pytest.raises(ConnectionError):
        await within(log_in(*client, LDAPBind(wrong_password())))
    assert client[1].is_closing()


async def test_a_cancelled_login_aborts_the_transport() -> None:
    client, server = await stream_pair()
    login = asyncio.create_task(log_in(*client, LDAPBind(wrong_password())))
    await within(server[0].read(1000))
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    assert client[1].is_closing()
    assert await within(server[0].read()) == b""


@pytest.mark.parametrize("under_a_layer", [False, True])
async def test_a_reader_that_another_task_reads_from_is_refused_unharmed(
    under_a_layer: bool,
) -> None:
    client, server = await stream_pair()
    if under_a_layer:
        client, server = await logged_in(client, server, "3des")
    rival = asyncio.create_task(client[0].readexactly(5))
    await turns()
    with pytest.raises(ContextBusyError, match="another task waits for this reader"):
        await within(log_in(*client, LDAPBind(wrong_password())))
    server[1].write(b"hello")
    assert await within(rival) == b"hello"
    await talk(client, server)
    await logged_in(client, server, "rc4")


async def test_a_task_that_reads_while_a_login_is_under_way_aborts_it() -> None:
    client, _ = await stream_pair()

    class Slow(DigestMD5Client):
        may_block = True  # in a thread, so that nobody reads meanwhile

    slow = Slow(USERNAME, PASSWORD, service="ldap", host=HOST)
    login = asyncio.create_task(log_in(*client, LDAPBind(slow)))
    await asyncio.sleep(0)
    rival = asyncio.create_task(client[0].read())
    with pytest.raises(RuntimeError, match="another coroutine"):
        await within(login)
    assert client[1].is_closing()
    assert await within(rival) == b""


async def test_steps_that_may_block_run_in_a_thread() -> None:
    mechanisms = mechanism_pair()
    threads = set()
    for mechanism in mechanisms:
        mechanism.may_block = True
        step = mechanism.step

        def note(message: Any, step: Callable[[Any], Any] = step) -> Any:
            threads.add(threading.current_thread())
            return step(message)

        mechanism.step = note  # type: ignore[method-assign]
    await talk(*await logged_in(*await stream_pair(), mechanisms))
    assert threading.main_thread() not in threads


async def test_a_step_that_is_cancelled_is_abandoned() -> None:
    client, _ = await stream_pair()
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(DigestMD5Client):
        may_block = True

        def step(self, message: Any) -> bytes | None:
            loop.call_soon_threadsafe(entered.set)
            assert leave.wait(PATIENCE)
            return super().step(message)

    slow = Slow(USERNAME, PASSWORD, service="ldap", host=HOST)
    login = asyncio.create_task(log_in(*client, LDAPBind(slow)))
    await within(entered.wait())
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(login)
    assert client[1].is_closing()
    leave.set()


async def test_over_tls_no_layer_is_asked_for(tls: TLSContexts) -> None:
    client, server = await stream_pair(tls)
    mechanism = DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST)
    server_side = mechanism_pair("auth").server
    assert await logged_in(client, server, MechanismPair(mechanism, server_side)) == (
        client,
        server,
    )


def layer_required() -> MechanismPair:
    """Insist on a layer over TLS too."""
    properties = SecurityProperties(require_layer=True)
    return MechanismPair(
        DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST, properties=properties),
        DigestMD5Server(
            get_secret, service="ldap", host=HOST, realms=[REALM], properties=properties
        ),
    )


async def test_over_tls_a_layer_can_be_required(tls: TLSContexts) -> None:
    client, server = await logged_in(*await stream_pair(tls), layer_required())
    assert sealed(client).get_extra_info("cipher")
    await talk(client, server)
    client[1].close()
    assert await within(server[0].read()) == b""
    server[1].close()
    for writer in client[1], server[1]:
        await within(writer.wait_closed())


async def test_tls_that_ends_right_behind_the_success_is_a_lost_connection(
    tls: TLSContexts,
) -> None:
    client, server = await stream_pair(tls)
    client_half, server_half = exchange_pair(layer_required())
    behind_the_success(server[1], server[1].close)
    at_client, _ = await both(log_in(*client, client_half), log_in(*server, server_half))
    assert type(at_client) is ConnectionResetError
    assert client[1].is_closing()
