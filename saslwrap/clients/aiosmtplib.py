"""aiosmtplib under a security layer.

    client = aiosmtplib.SMTP(hostname="mail.example.com", port=587)
    await client.connect()
    await authenticate(client, DigestMD5Client("alice", "s3cret", service="smtp", host=...))
    await client.send_message(message)

The client has a `protocol`, and both have the `transport`, which its `starttls` replaces; so does
the login. As there, two attributes of the protocol have to be known that are private:

    _command_lock   while it is held, no command of another task goes out, in clear
    _buffer         what came in clear and was not asked for: it must not be read under the layer

A new connection of the same client is in clear. It sends no mail until somebody has logged in over
it: `mail`, where each begins, is replaced by what sees to that.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from saslwrap.asyncio import authenticate_transport
from saslwrap.clients._library import require
from saslwrap.clients._login import closed_by_failure, no_tls_now, told_as
from saslwrap.clients._smtp import IN_CLEAR, LOGGED_IN, NOT_OFFERED, refusal_code
from saslwrap.errors import SASLError, UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.smtp import SMTPAuth

__all__ = ["authenticate"]


async def authenticate(client: Any, mechanism: ClientMechanism) -> None:
    """Log in, and go on under the layer that this brings.

    EHLO is said again. After a login that was refused in good form the client is in clear as
    before, and another one may follow; after any other error it is closed. So it is when the layer
    fails later: what waits for an answer then gets an `SMTPServerDisconnected`, whose cause is the
    `SASLError`.

    :param client: an `aiosmtplib.SMTP` that is connected
    :param mechanism: a new one, of the service `smtp`; a mechanism is used once
    :raises aiosmtplib.SMTPAuthenticationError: the login was refused, or policy and offer do not
        meet; its cause is an `AuthenticationError` or a `NegotiationError`
    :raises aiosmtplib.SMTPServerDisconnected: the connection broke, or the server broke the
        protocol; its cause is a `SASLError` that is a `ConnectionError`, or another `OSError`
    :raises aiosmtplib.SMTPTimeoutError: the login took longer than the client's `timeout`
    :raises aiosmtplib.SMTPNotSupported: the server has no AUTH
    :raises aiosmtplib.SMTPHeloError: the server refused EHLO, before the login or under its layer
    :raises UsageError: the client is not connected, or has a layer already
    :raises MechanismUnavailableError: aiosmtplib is missing, or neither 5.1.2 nor a later 5.1; or
        what the mechanism needs
    """
    require("aiosmtplib", "5.1.2", "5.2")
    import aiosmtplib

    if not isinstance(client, aiosmtplib.SMTP) or not client.is_connected:
        raise UsageError("client takes an aiosmtplib.SMTP after its connect()")
    if client.is_ehlo_or_helo_needed or not client.supports_extension("auth"):
        await client.ehlo()  # also where it remembers what the connection before could do
    if not client.supports_extension("auth"):
        raise aiosmtplib.SMTPNotSupported(NOT_OFFERED)
    await _log_in(client, SMTPAuth(mechanism))
    await _begin_anew(client)


async def _log_in(client: Any, login: SMTPAuth) -> None:
    from aiosmtplib import SMTPAuthenticationError, SMTPServerDisconnected, SMTPTimeoutError

    def refused(text: str) -> Exception:
        return SMTPAuthenticationError(refusal_code(login), text)

    try:
        async with asyncio.timeout(client.timeout):
            with told_as(refused, SMTPServerDisconnected), closed_by_failure(login, client.close):
                await _seal(client, login)
    except TimeoutError as error:
        raise SMTPTimeoutError("the login took too long") from error


async def _seal(client: Any, login: SMTPAuth) -> None:
    protocol = client.protocol
    async with protocol._command_lock:
        if not protocol.is_connected:
            raise ConnectionResetError("the connection was lost before the login")
        received, protocol._buffer[:] = bytes(protocol._buffer), b""
        client.transport = protocol.transport = await authenticate_transport(
            protocol.transport, protocol, login, received=received
        )
        _refuse_what_has_no_place_now(client, protocol)


async def _begin_anew(client: Any) -> None:
    """Ask what the server can do (RFC 4954 section 4), and forget what it said in clear."""
    from aiosmtplib import SMTPResponse

    transport = client.transport
    try:
        client.last_ehlo_response = SMTPResponse(250, "")
        await client.ehlo()
        if not client.is_connected:
            _raise_what_it_was_lost_of(transport)
    except BaseException:
        client.close()
        raise


def _raise_what_it_was_lost_of(transport: asyncio.Transport) -> NoReturn:
    """Say what came behind an answer, of which aiosmtplib tells nobody who does not wait."""
    from aiosmtplib import SMTPServerDisconnected

    try:
        transport.write(b"")  # a layer that has failed refuses it
    except SASLError as error:
        raise SMTPServerDisconnected(str(error)) from error
    raise SMTPServerDisconnected("the connection was lost")


def _refuse_what_has_no_place_now(client: Any, protocol: Any) -> None:
    """Refuse a second login, TLS below the layer, and mail over the next connection in clear."""
    execute_command = protocol.execute_command
    mail = type(client).mail

    async def execute(*words: bytes, **options: Any) -> Any:
        if words[0].upper() == b"AUTH":
            raise UsageError(LOGGED_IN)
        return await execute_command(*words, **options)

    async def start_tls(*_: object, **__: object) -> NoReturn:
        raise no_tls_now("STARTTLS")

    async def begin_mail(*arguments: Any, **options: Any) -> Any:
        if client.is_connected and client.protocol is not protocol:
            raise UsageError(IN_CLEAR)
        return await mail(client, *arguments, **options)

    protocol.execute_command, protocol.start_tls = execute, start_tls
    client.mail = begin_mail
