"""anyldap under a security layer, on asyncio and trio: both of its faces.

    async with await connect("ldap.example.com", 389, mechanism) as client:  # an LDAPClient
        await LDAPEntry(client, "dc=example,dc=com").search_async(filterText="(cn=alice)")

    async with initialize("ldap://ldap.example.com", make_mechanism) as connection:
        await connection.search_s("dc=example,dc=com", ldap.SCOPE_SUBTREE, "(cn=alice)")

`LDAPClient` has a public hook, `attach_stream`: it gets a stream on which the login is over.

The face of python-ldap (`LDAPObject`) opens its connection with the first request, and anew after
one was lost. It does so in `_connect_stream`, which is private: the one place where every stream of
it comes from. There the login is made, so that nothing else ever sees a stream without its layer.
`_connected`, private too, asks for it: two requests at once would do so twice, and one waits here.
Referrals would be followed over a connection of another class: that is turned off.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import anyio
from anyio.abc import ByteStream

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.clients._ldap import Mechanisms, check_maker, make_login
from saslwrap.clients._library import require
from saslwrap.errors import AuthenticationError, NegotiationError, UsageError

__all__ = ["connect", "initialize"]

_TO_GIVE = "mechanisms takes one mechanism or more, made: GSSAPIClient(...)"
_NO_TLS = "StartTLS has to come before the login, not under its layer: use TLS at once"


async def connect(
    host: str, port: int, mechanisms: Mechanisms, *, ssl_context: ssl.SSLContext | None = None
) -> Any:
    """Connect, log in, and give what `connectToLDAPEndpointAsync` gives: `async with` it.

    What waits for an answer while the server ends the connection gets anyldap's `ConnectionDone`;
    where a frame was wrong, its `LDAPClientConnectionLostException`, whose cause is our error.
    Requests after that get the latter.

    :param mechanisms: a new one, or several, of which the best is taken that the server has
    :param ssl_context: for TLS at once; no layer is asked for above it
    :returns: an `AsyncLDAPClientConnection` of an `LDAPClient`
    :raises LDAPInvalidCredentials: anyldap's; its cause is an `AuthenticationError`
    :raises LDAPInappropriateAuthentication: anyldap's; its cause is a `NegotiationError`
    :raises LDAPClientConnectionLostException: anyldap's; its cause is a `ProtocolError`, or what
        else became of the connection
    :raises OSError: there is no connection
    :raises UsageError: `mechanisms` is none
    :raises MechanismUnavailableError: anyldap is missing, or none of 0.2
    """
    require("anyldap", "0.2", "0.3")
    from anyldap.protocols.ldap import ldaperrors
    from anyldap.protocols.ldap.ldapclient import LDAPClientConnectionLostException
    from anyldap.protocols.ldap.ldapconnector import AsyncLDAPClientConnection

    login = make_login(mechanisms, 1, _TO_GIVE)
    tls = {"ssl_context": ssl_context, "tls_standard_compatible": False} if ssl_context else {}
    transport = await anyio.connect_tcp(host, port, **tls)  # type: ignore[call-overload]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(anyio.aclose_forcefully, transport)
        with _told_as(
            ldaperrors.LDAPInvalidCredentials,
            ldaperrors.LDAPInappropriateAuthentication,
            LDAPClientConnectionLostException,
        ):
            stream = _Stream(await authenticate(transport, login))
        client = _make_client(stream)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await client.attach_stream(stream, tasks)
        stack.push_async_callback(client.aclose)
        return AsyncLDAPClientConnection(stack.pop_all(), client)


def initialize(uri: str, make_mechanism: Callable[[], Mechanisms], **options: Any) -> Any:
    """Make a connection with the face of python-ldap, as `anyldap.ldap.initialize` does.

    It connects and logs in with the first request. One that is lost fails its requests with
    `SERVER_DOWN`, whose `info` says what was wrong with a frame; the next request connects and logs
    in again.

    The first request raises, and each one until a login succeeds:

    ======================  ===============================================
    anyldap's               its cause
    ======================  ===============================================
    `INVALID_CREDENTIALS`   an `AuthenticationError`
    `INAPPROPRIATE_AUTH`    a `NegotiationError`
    `SERVER_DOWN`           a `ProtocolError`, or there is no connection
    `TIMEOUT`               `network_timeout` has passed
    ======================  ===============================================

    :param uri: `ldap://`, `ldaps://` (no layer is asked for above TLS) or `ldapi://`
    :param make_mechanism: gives a new mechanism for each login, or several, of which the best is
        taken that the server has
    :param options: `trace_level` and `ssl_context`, as anyldap has them
    :returns: an `LDAPObject`
    :raises UsageError: `make_mechanism` makes nothing
    :raises MechanismUnavailableError: anyldap is missing, or none of 0.2
    """
    require("anyldap", "0.2", "0.3")
    from anyldap.ldap import errors
    from anyldap.ldap.ldapobject import SimpleLDAPObject

    check_maker(make_mechanism)

    def kind(error: type[Any]) -> Callable[[str], Exception]:
        return lambda text: error({"desc": error.desc, "info": text})

    class SealedLDAPObject(SimpleLDAPObject):
        def __init__(self, uri: str, **options: Any) -> None:
            super().__init__(uri, **options)
            self._opening = anyio.Lock()

        async def _connected(self) -> ByteStream:
            async with self._opening:  # requests that come at once log in once
                return await super()._connected()

        async def _connect_stream(self) -> ByteStream:
            self._buffer = b""  # what a connection that was lost had sent in part
            transport = await super()._connect_stream()
            try:
                with _told_as(
                    kind(errors.INVALID_CREDENTIALS),
                    kind(errors.INAPPROPRIATE_AUTH),
                    kind(errors.SERVER_DOWN),
                ):
                    return await authenticate(transport, make_login(make_mechanism(), 1))
            except BaseException:
                await anyio.aclose_forcefully(transport)
                raise

        async def start_tls_s(self) -> None:
            raise UsageError(_NO_TLS)

    connection = SealedLDAPObject(uri, **options)
    connection.referrals = 0
    return connection


@contextmanager
def _told_as(
    credentials: Callable[[str], Exception],
    policy: Callable[[str], Exception],
    lost: Callable[[str], Exception],
) -> Iterator[None]:
    """Raise what users of the library look for, with our error as the cause."""
    try:
        yield
    except AuthenticationError as error:
        raise credentials(str(error)) from error
    except NegotiationError as error:
        raise policy(str(error)) from error
    except (OSError, anyio.BrokenResourceError) as error:
        raise lost(str(error)) from error


class _Stream(ByteStream):
    """Remembers what the layer failed of, which `LDAPClient` forgets."""

    def __init__(self, stream: SASLStream) -> None:
        self._stream = stream
        self.failure: BaseException | None = None

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with self._remembering():
            return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        try:
            with self._remembering():
                await self._stream.send(item)
        finally:
            item = b""  # no traceback is to show it

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except anyio.BrokenResourceError as error:
            self.failure = error.__cause__
            raise


def _make_client(stream: _Stream) -> Any:
    from anyldap.protocols.ldap.ldapclient import LDAPClient, LDAPClientConnectionLostException

    class SealedLDAPClient(LDAPClient):
        def connectionLost(self, reason: BaseException = LDAPClient.connectionDone) -> None:  # noqa: N802
            if stream.failure is not None:
                reason = LDAPClientConnectionLostException(str(stream.failure))
                reason.__cause__ = stream.failure
            super().connectionLost(reason)

        async def startTLS(self, *_: Any, **__: Any) -> Any:  # noqa: N802
            raise UsageError(_NO_TLS)

        startTLS_async = startTLS  # noqa: N815

    return SealedLDAPClient()
