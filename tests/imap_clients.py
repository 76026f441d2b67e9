"""IMAP clients that know nothing of a layer, and how each gets one through its public hooks."""

from __future__ import annotations

import asyncio
import imaplib
import socket
from typing import TYPE_CHECKING

from aioimaplib import aioimaplib

from saslwrap import SecurityProperties
from saslwrap.asyncio import start_sasl
from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.protocols.imap import IMAPAuthenticate
from saslwrap.sync import SASLSocket, authenticate_socket

if TYPE_CHECKING:
    from saslwrap.exchange import Exchange

TAG = "LOGIN1"


def make_login(
    username: str, password: str, properties: SecurityProperties | None = None
) -> IMAPAuthenticate:
    mechanism = DigestMD5Client(
        username,
        password,
        service="imap",
        host="localhost",
        properties=properties or SecurityProperties(),
    )
    return IMAPAuthenticate(mechanism, tag=TAG)


class SealedIMAP4(imaplib.IMAP4):
    """imaplib over a `SASLSocket`, by the methods that it documents for this purpose."""

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        self.sasl = SASLSocket(socket.create_connection((host, port), timeout), None)
        self.lines = self.sasl.makefile("rb")

    def read(self, size: int) -> bytes:
        octets: bytes = self.lines.read(size)
        return octets

    def readline(self) -> bytes:
        line: bytes = self.lines.readline()
        return line

    def send(self, data: bytes) -> None:  # type: ignore[override]
        self.sasl.sendall(data)

    def shutdown(self) -> None:
        self.lines.close()
        self.sasl.close()

    def log_in(self, login: IMAPAuthenticate) -> None:
        authenticate_socket(self.sasl, login)
        self.state = "AUTH"


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
