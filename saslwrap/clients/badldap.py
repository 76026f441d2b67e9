"""badldap, the living successor of msldap, under a security layer. On asyncio, as it is.

    connection = await connect(MSLDAPTarget("10.0.0.1"), make_mechanism)
    async for entry, error in connection.pagedsearch(BASE, "(cn=*)", [b"cn"]): ...

badldap brings a layer, whose network drops what was read ahead and hides what went wrong. Here its
connection gets another `network` (a public attribute) as soon as it has one: that gives and takes
nothing before the login, then whole messages under the layer, and lets errors out to whoever waits
for an answer. The connection is of badldap's own class, with `connect`, `bind` and `starttls`
replaced; `MSLDAPClient` takes it as its `connection`.

badldap does TLS in what it puts before its network. A target with TLS is therefore connected to in
clear, and TLS is put below by asyncio, where a login finds it and is bound to it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import copy
from typing import Any, Final, TypeAlias

from saslwrap.asyncio import authenticate_streams
from saslwrap.asyncio.reader import take
from saslwrap.clients._ldap import Mechanisms, check_maker, make_login
from saslwrap.clients._library import require
from saslwrap.errors import AuthenticationError, NegotiationError, ProtocolError, UsageError
from saslwrap.protocols.ldap import LDAPBind

__all__ = ["connect"]

Outcome: TypeAlias = "tuple[bool, Exception | None]"
"""What badldap's methods give: whether they succeeded, or why not."""

_CHUNK: Final = 65536


async def connect(target: Any, make_mechanism: Callable[[], Mechanisms]) -> Any:
    """Connect and log in; go on by badldap's own calls.

    For its high-level ones: `MSLDAPClient(target, connection.credential, connection=connection)`.

    Those give errors as the second of a pair: where a frame was wrong it is our `IntegrityError` or
    `ProtocolError`, and the connection is closed. `disconnect()`, then `connect()` and `bind()` log
    in anew; before `bind()` nothing is sent.

    :param target: an `MSLDAPTarget`. Over TLS no layer is asked for, and Kerberos or NTLM is bound
        to the server's certificate (tls-server-end-point). Trust in that is the matter of the
        target's `ssl_ctx`: badldap's own checks nothing, `UniSSL(verify=True)` does
    :param make_mechanism: gives a new mechanism for each login, or several, of which the best is
        taken that the server has
    :returns: an `MSLDAPClientConnection`
    :raises LDAPBindException: badldap's; its cause is an `AuthenticationError` or
        `NegotiationError`
    :raises ProtocolError: the server broke the protocol, or closed the connection
    :raises OSError: there is no connection, or the login took longer than `target.timeout`
    :raises UsageError: `make_mechanism` makes nothing
    :raises MechanismUnavailableError: badldap is missing, or is neither 0.7.7 nor a later 0.7
    """
    require("badldap", "0.7.7", "0.8")
    check_maker(make_mechanism)
    connection = _make_connection(target, make_mechanism)
    try:
        for step in (connection.connect, connection.bind):
            _, error = await step()
            if error is not None:
                raise error
    except BaseException:
        await connection.disconnect()
        raise
    return connection


def _make_connection(target: Any, make_mechanism: Callable[[], Mechanisms]) -> Any:
    from badldap.commons.common import MSLDAPClientStatus
    from badldap.connection import (
        MSLDAPClientConnection,
        UniCredential,
        UniProto,
        asyauthProtocol,
    )

    class SealedConnection(MSLDAPClientConnection):  # type: ignore[misc]
        bind_ok: bool
        message_id: int
        network: Any
        status: Any

        async def connect(self) -> Outcome:
            self.bind_ok = False
            connected: Outcome = await super().connect()
            if connected[0]:  # its reader, a task, has not begun yet
                self.network = _Network(self.network)
                if target.is_ssl():
                    error = await _try(self.network.start_tls(target), target.timeout)
                    return error is None, error
            return connected

        async def bind(self) -> Outcome:
            if self.status != MSLDAPClientStatus.CONNECTED:
                raise UsageError("connect() comes before bind(), and one bind() is enough")
            login = make_login(make_mechanism(), self.message_id or 1)
            error = await _try(self.network.log_in(login), self.target.timeout)
            self.message_id = login.next_message_id
            if error is None:
                self.bind_ok, self.status = True, MSLDAPClientStatus.RUNNING
            return error is None, error

        async def starttls(self) -> Outcome:
            return False, UsageError("no StartTLS here: take a target with TLS, by ldaps://")

    in_clear = copy(target)
    in_clear.protocol = UniProto.CLIENT_TCP
    nobody = UniCredential(protocol=asyauthProtocol.PLAIN)  # it is not asked
    return SealedConnection(in_clear, nobody, auth=nobody)


async def _try(part: Awaitable[None], seconds: float) -> Exception | None:
    """Do a part of a login; give what badldap's users look for if it fails, None if it does not."""
    from badldap.commons.exceptions import LDAPBindException

    error: Exception
    try:
        async with asyncio.timeout(seconds):
            await part
    except (AuthenticationError, NegotiationError) as cause:
        refused = isinstance(cause, AuthenticationError)
        code = "invalidCredentials" if refused else "inappropriateAuthentication"
        error = LDAPBindException(code, str(cause).encode())
        error.__cause__ = cause
        return error
    except OSError as lost:
        return lost
    return None


class _Network:
    """What a connection reads from and writes to: nothing, until the login is over.

    :param below: the network that badldap made, of asysocks
    """

    def __init__(self, below: Any) -> None:
        self._reader: asyncio.StreamReader = below.reader
        self._writer: asyncio.StreamWriter = below.writer
        self._logged_in = asyncio.Event()
        self._ended = False

    async def start_tls(self, target: Any) -> None:
        """Put TLS below, before anything was said.

        What was read ahead would be taken for what comes inside TLS. Between the look at it and
        the switch nothing more is read: nobody waits there.

        :raises ProtocolError: the server sent something in clear
        :raises OSError: that failed; an `ssl.SSLError` or a `TimeoutError`
        """
        host = target.get_hostname_or_ip()
        context = target.get_ssl_context(ssl.PROTOCOL_TLS_CLIENT)
        if await take(self._reader):
            self._writer.transport.abort()
            raise ProtocolError("the server sent something in clear, where TLS was to begin")
        await self._writer.start_tls(context, server_hostname=host)

    async def log_in(self, login: LDAPBind) -> None:
        self._reader, self._writer = await authenticate_streams(self._reader, self._writer, login)
        self._logged_in.set()

    async def read(self) -> AsyncIterator[bytes]:
        """Give whole messages, until the connection ends.

        :raises SASLError: a frame was wrong
        """
        from badldap.network.packetizer import LDAPPacketizer

        packetizer = LDAPPacketizer()
        await self._logged_in.wait()
        try:
            while data := await self._reader.read(_CHUNK):
                async for message in packetizer.data_in(data):
                    yield message
        finally:
            self._ended = True
            self._writer.close()

    async def write(self, data: bytes) -> None:
        """Send a message.

        :raises UsageError: there was no login
        :raises OSError: the connection has ended; a `SASLError` if a frame was wrong
        """
        try:
            if not self._logged_in.is_set():
                raise UsageError("this would go out in clear: call bind() first")
            if self._ended:
                raise self._reader.exception() or ConnectionResetError("the connection has ended")
            self._writer.write(data)
            await self._writer.drain()
        finally:
            data = b""  # no traceback is to show it

    async def close(self) -> None:
        self._writer.close()
