"""IMAP clients that know nothing of a layer, and how each gets one through its public hooks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aioimaplib import aioimaplib

from saslwrap import SecurityProperties
from saslwrap.asyncio import start_sasl
from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.protocols.imap import IMAPAuthenticate
from saslwrap.testing.pairs import PASSWORD, USERNAME

if TYPE_CHECKING:
    from saslwrap.exchange import Exchange

TAG = "LOGIN1"


def make_mechanism(
    username: str = USERNAME,
    password: str = PASSWORD,
    properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
) -> DigestMD5Client:
    return DigestMD5Client(
        username, password, service="imap", host="localhost", properties=properties
    )


def make_login(
    username: str, password: str, properties: SecurityProperties | None = None
) -> IMAPAuthenticate:
    mechanism = make_mechanism(username, password, properties or SecurityProperties())
    return IMAPAuthenticate(mechanism, tag=TAG)


class _Inbox(asyncio.Protocol):
    """Takes what comes during a login."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._exchange.receive_data(data)
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._exchange.receive_eof()
        self._came.set()

    async def wait(self) -> None:
        await self._came.wait()
        self._came.clear()


async def log_in(client: aioimaplib.IMAP4, login: IMAPAuthenticate) -> None:
    """Log aioimaplib in, and slide the layer under it: `transport` is its protocol's to be set."""
    protocol = client.protocol
    transport, inbox = protocol.transport, _Inbox(login)
    transport.set_protocol(inbox)
    while not isinstance(event := login.advance(), Done):
        match event:
            case Send(data):
                transport.write(data)
            case NeedData():
                await inbox.wait()
            case Step():
                login.step()
    assert login.context is not None
    protocol.transport = start_sasl(
        transport, protocol, login.context, received=login.trailing_data
    )
    protocol.state = aioimaplib.AUTH
    await protocol.capability()
