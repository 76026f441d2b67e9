"""Released clients on a bad network: a proxy stands between them and our servers.

However octets are cut or late, each does its work. What was altered, replayed, cut off or put in
ends the connection with the library's own error, in which ours can be found; nothing wrong is ever
delivered, nobody waits for what does not come, and who may log in anew works again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest

from saslwrap import IntegrityError, OutOfSequenceError, SASLError, TruncatedStreamError
from saslwrap.errors import FrameTooLargeError
from saslwrap.testing import (
    SEGMENTATIONS,
    AfterLogin,
    Chain,
    Cut,
    Fault,
    FaultProxy,
    FlipBit,
    InjectBefore,
    OneOctet,
    Replay,
    Whole,
    fault,
)
from tests.peers.wiretap import Wiretap
from tests.released_clients import CLIENTS, RECONNECTING
from tests.released_clients.client import SECRETS, Client

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

HARM: dict[str, tuple[Callable[[], Fault], type[SASLError], str]] = {
    **{
        f"cut {where}": (partial(Cut, after), TruncatedStreamError, "inside a frame")
        for where, after in {"in a length": 1, "behind it": 4, "in a token": 20}.items()
    },
    "flipped bit": (lambda: FlipBit(octet=20), IntegrityError, "altered or forged"),
    "replayed": (Replay, OutOfSequenceError, "out of sequence"),
    "replayed later": (lambda: Replay(1, later=1), OutOfSequenceError, "out of sequence"),
    "cleartext": (InjectBefore, FrameTooLargeError, "announced a frame of"),
    "cleartext later": (lambda: InjectBefore(2), FrameTooLargeError, "announced a frame of"),
}
"""What happens behind the login; our error, and its words."""

BETWEEN = {"replayed", "replayed later"}
"""What may be found out when all that was asked is answered."""

READINGS = 4
"""So often a client reads until a fault has to have struck."""


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    return CLIENTS[request.param]


Servers: TypeAlias = dict[str, int]
"""The ports of the servers, by service."""


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    kinds = {kind.service: kind for kind in CLIENTS.values()}
    with ExitStack() as stack:
        yield {service: stack.enter_context(kind.serve()) for service, kind in kinds.items()}


def first(make: Callable[[], Fault]) -> Callable[[], Fault]:
    """Let the first connection have a fault behind its login; the next ones have none."""
    faults = iter([AfterLogin(make())])
    return lambda: next(faults, Whole())


@asynccontextmanager
async def open_client(kind: type[Client], port: int) -> AsyncIterator[Client]:
    client = kind(port)
    await client.log_in()
    try:
        yield client
    finally:
        await client.close()


async def read_until_it_fails(client: Client) -> None:
    for _ in range(READINGS):
        assert await client.read() == SECRETS


async def work_until_it_fails(client: Client) -> None:
    """Also, for those that ask anew under the layer, in the login."""
    await client.log_in()
    await read_until_it_fails(client)


async def log_in_and_read(kind: type[Client], port: int) -> None:
    """Read until it fails; after that there is an error again, or what is right."""
    async with open_client(kind, port) as client:
        try:
            await read_until_it_fails(client)
        except kind.ended:
            assert await read_once_more(client) in (None, SECRETS)
            raise


async def read_once_more(client: Client) -> list[str] | None:
    try:
        return await client.read()
    except Exception:
        return None


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_told(error: BaseException, kind: type[Client], name: str) -> None:
    """Our error is the library's, or one that it comes of, or its words are there."""
    _, ours, words = HARM[name]
    errors = list(chain(error))
    if name in BETWEEN and len(errors) == 1 and str(error) in kind.afterwards:
        return
    assert words in " / ".join(map(str, errors))
    assert kind.only_words or any(isinstance(one, ours) for one in errors)


@pytest.mark.parametrize("name", [*SEGMENTATIONS, "delay"])
async def test_what_a_network_may_do(kind: type[Client], servers: Servers, name: str) -> None:
    proxy = FaultProxy(
        "127.0.0.1",
        servers[kind.service],
        to_server=lambda: fault(name, 1),
        to_client=lambda: fault(name),
    )
    async with asyncio.timeout(30):
        with proxy.in_thread():
            async with open_client(kind, proxy.port) as client:
                assert await client.read() == SECRETS
                assert await client.read() == SECRETS
                await client.leave()


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "octets"])
@pytest.mark.parametrize("name", HARM)
async def test_harm_to_what_a_client_receives(
    kind: type[Client], servers: Servers, name: str, cut: bool
) -> None:
    make, _, _ = HARM[name]

    def harm() -> Fault:
        return Chain(make(), OneOctet()) if cut else make()

    proxy = FaultProxy("127.0.0.1", servers[kind.service], to_client=first(harm))
    async with asyncio.timeout(30):
        with proxy.in_thread(), Wiretap("127.0.0.1", proxy.port) as tap:
            with pytest.raises(kind.errors) as caught:
                await log_in_and_read(kind, tap.port)
            await asyncio.to_thread(tap.wait_closed)
    check_told(caught.value, kind, name)
    assert b"hidden" not in tap.client_to_server + tap.server_to_client


@pytest.mark.parametrize("name", HARM)
async def test_harm_to_what_a_client_sends(kind: type[Client], servers: Servers, name: str) -> None:
    """The server ends the connection, and answers nothing that was not asked."""
    make, _, _ = HARM[name]
    proxy = FaultProxy("127.0.0.1", servers[kind.service], to_server=first(make))
    async with asyncio.timeout(30):
        with proxy.in_thread(), pytest.raises(kind.ended):
            await log_in_and_read(kind, proxy.port)


@pytest.mark.parametrize("name", HARM)
@pytest.mark.parametrize("library", RECONNECTING)
async def test_a_new_login_in_the_same_object(library: str, servers: Servers, name: str) -> None:
    kind = CLIENTS[library]
    make, _, _ = HARM[name]
    proxy = FaultProxy("127.0.0.1", servers[kind.service], to_client=first(make))
    async with asyncio.timeout(30):
        with proxy.in_thread():
            client = kind(proxy.port)
            with pytest.raises(kind.errors) as caught:
                await work_until_it_fails(client)
            check_told(caught.value, kind, name)
            await client.again()
            assert await client.read() == SECRETS
            await client.close()
