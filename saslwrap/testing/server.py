"""What the servers for tests share: users who log in over loopback, and an end in good form.

`SASLServer` knows who may log in and how, `Connection` is one client's. A protocol adds what it
says before and after the login.
"""

from __future__ import annotations

import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar, Final, TypeVar

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    aclose_forcefully,
    fail_after,
    move_on_after,
)
from anyio.abc import AnyByteStream
from anyio.streams.tls import TLSStream

from saslwrap.anyio import SASLStream, authenticate
from saslwrap.context import Buffer
from saslwrap.errors import ProtocolError, SASLError, UsageError, require_kind
from saslwrap.exchange import Exchange, transport_survives
from saslwrap.mechanisms.names import check_host, check_text
from saslwrap.properties import SecurityProperties
from saslwrap.testing._options import check_patience, check_tls, check_users
from saslwrap.testing.loopback import LoopbackServer
from saslwrap.testing.mechanisms import MechanismFactories, MechanismNames, Place
from saslwrap.testing.quirks import STRICT, Quirks

__all__ = ["Connection", "SASLServer"]

T = TypeVar("T")

logger: Final = logging.getLogger(__name__)

#: Answers are sent once they have so many octets.
_BATCH: Final = 32768

#: Seconds that a client has to take our farewell.
_FAREWELL: Final = 1.0


class SASLServer(LoopbackServer):
    """A server that clients log in to.

    :param users: passwords by username
    :param realm: where the users are
    :param host: the server's name, which a client's digest-uri must have
    :param properties: what a login must give
    :param mechanisms: names of `DIGEST-MD5`, `GSSAPI`, `GSS-SPNEGO`; or factories by name
    :param tls: a context with the server's certificate: a client may start TLS
    :param tls_at_once: whether TLS begins with the first octet, as on the ports of ldaps and imaps
    :param tls_server_end_point: the hash of that certificate, which `mechanisms.channel_binding`
        makes: over TLS, GSSAPI and GSS-SPNEGO by name refuse a login that is not bound to it
    :param quirks: what the server does differently: `quirks`. Not for factories of one's own
    :param idle_timeout: seconds that a client has for its next request, for a login, for TLS'
        handshake, and to take a batch of results
    :raises UsageError: an option of another kind or out of its range, TLS without a context, a name
        that is not known, or a binding with factories of one's own
    :raises MechanismUnavailableError: the extra of a mechanism is not installed
    """

    #: IANA service name, which is the scheme of `url` too.
    service: ClassVar[str]

    def __init__(
        self,
        users: Mapping[str, str] | None,
        *,
        realm: str,
        host: str,
        properties: SecurityProperties,
        mechanisms: MechanismNames = ("DIGEST-MD5",),
        idle_timeout: float,
        tls: ssl.SSLContext | None = None,
        tls_at_once: bool = False,
        tls_server_end_point: bytes | None = None,
        quirks: Quirks = STRICT,
    ) -> None:
        check_text("realm", realm)
        check_host(host)
        require_kind("properties", properties, SecurityProperties)
        require_kind("quirks", quirks, Quirks)
        require_kind("mechanisms", mechanisms, Iterable, "several names, or factories by name")
        check_users(users)
        check_patience(idle_timeout)
        check_tls(tls, at_once=tls_at_once, end_point=tls_server_end_point)
        if tls_server_end_point is not None and isinstance(mechanisms, Mapping):
            raise UsageError("factories of one's own make the binding: leave tls_server_end_point")
        if not isinstance(mechanisms, str | bytes | Mapping):
            mechanisms = list(mechanisms)
        place = Place(self.service, host, realm, dict(users or {}), properties, quirks=quirks)
        self.realm: Final = realm
        self.host: Final = host
        self.properties: Final = properties
        self.idle_timeout: Final = idle_timeout
        self.tls: Final = tls
        self.tls_at_once: Final = tls_at_once
        self.quirks: Final = quirks
        self.mechanisms: Final = place.mechanisms(mechanisms)
        self._bound: Final = place.over_tls(tls_server_end_point).mechanisms(mechanisms)

    @property
    def url(self) -> str:
        """Where the server is, by its own name: the system has to resolve that to 127.0.0.1."""
        scheme = f"{self.service}s" if self.tls_at_once else self.service
        return f"{scheme}://{self.host}:{self.port}"

    async def serve(self, stream: AnyByteStream) -> None:
        """Serve one connection to its end, and close it. What the client does wrong ends here."""
        try:
            await self._converse(self._connection(stream))
        finally:
            await aclose_forcefully(stream)

    async def _converse(self, connection: Connection) -> None:
        try:
            if self.tls_at_once:
                await connection.start_tls()
            await connection.run()
        except Exception as error:
            _log(error)
            await connection.say_goodbye(error)

    @abstractmethod
    def _connection(self, transport: AnyByteStream) -> Connection: ...

    def mechanisms_over(self, *, tls: bool) -> MechanismFactories:
        """Give what makes a mechanism for a login, over TLS or not."""
        return self._bound if tls else self.mechanisms

    def _where(self) -> str:
        return self.url


class Connection(ABC):
    """One client, over a stream that has no layer yet. Its identity is None before a login."""

    def __init__(self, server: SASLServer, transport: AnyByteStream) -> None:
        self._server: Final = server
        self._transport = transport
        self._stream = SASLStream(transport, None)
        self._buffer = bytearray()
        self._identity: str | None = None
        self._sealed = False

    @abstractmethod
    async def run(self) -> None:
        """Answer requests until the client leaves.

        :raises ProtocolError: the client broke the protocol
        :raises TimeoutError: the client took too long
        :raises BrokenResourceError: the connection broke, or its layer failed
        """

    @abstractmethod
    def _farewell(self, error: Exception) -> bytes:
        """Say in the protocol's words why the connection ends."""

    async def say_goodbye(self, error: Exception) -> None:
        """Tell the client why it ends here, and give it a moment to take that.

        What it still sends is read and dropped: a system that closes over unread octets resets the
        connection, and our words could be lost.
        """
        with (
            move_on_after(_FAREWELL),
            suppress(BrokenResourceError, ClosedResourceError, EndOfStream, OSError),
        ):
            await self._stream.send(self._farewell(error))
            with suppress(NotImplementedError):  # TLS has no half of a close
                await self._stream.send_eof()
            while True:
                await self._transport.receive()

    @property
    def _mechanisms(self) -> MechanismFactories:
        """What makes a mechanism for the next login."""
        return self._server.mechanisms_over(tls=self._over_tls)

    @property
    def _can_start_tls(self) -> bool:
        """Whether there is a certificate, and neither TLS nor a layer yet."""
        return not (self._server.tls is None or self._sealed or self._over_tls)

    @property
    def _over_tls(self) -> bool:
        return isinstance(self._transport, TLSStream)

    async def start_tls(self, answer: bytes = b"") -> None:
        """Put TLS below, once the client has its answer in clear.

        What the client sent in clear behind its request is not carried over: somebody in between
        can have put it there (CVE-2011-0411), so it ends the connection. For the same reason who
        was logged in is nobody again, as RFC 4513 section 4 allows.

        While TLS is not there, nobody hears a farewell: it would go out in clear.

        :raises ProtocolError: more came in clear, or the handshake failed
        :raises TimeoutError: the client took too long
        """
        transport, clear = self._stream.unwrap()
        if self._buffer or clear.unread():
            self._stream = SASLStream(transport, None)
            raise ProtocolError("the client sent more in clear behind its request for TLS")
        self._identity = None
        with fail_after(self._server.idle_timeout):
            if answer:
                await transport.send(answer)
            self._transport = await _shake_hands(transport, self._server.tls)
        self._stream = SASLStream(self._transport, None)

    async def _receive_more(self) -> bool:
        """Add to the buffer what comes next; False at the end."""
        try:
            self._buffer += await self._stream.receive()
        except EndOfStream:
            return False
        return True

    async def _send(self, data: bytes) -> None:
        with fail_after(self._server.idle_timeout):
            await self._stream.send(data)

    async def _send_all(self, pieces: Iterable[Buffer]) -> None:
        """Send many pieces, small and large, in batches of the same size."""
        batch = bytearray()
        for piece in pieces:
            for start in range(0, len(piece), _BATCH):
                batch += memoryview(piece)[start : start + _BATCH]
                if len(batch) >= _BATCH:
                    await self._send(bytes(batch))
                    batch.clear()
        await self._send(bytes(batch))

    async def _log_in(self, exchange: Exchange, request: bytes) -> None:
        """Let the client log in; whatever comes of it, it is nobody before.

        What is left of the buffer goes along with the request: past a success it is ciphertext.
        After a refusal the stream gives it again.
        """
        self._identity = None
        received, self._buffer = request + self._buffer, bytearray()
        try:
            with fail_after(self._server.idle_timeout):
                await authenticate(self._stream, exchange, received=received)
        except SASLError as error:
            if not transport_survives(error):
                raise
            logger.info("a login failed: %s", error)
        else:
            self._sealed = self._sealed or exchange.context is not None
            self._identity = exchange.authzid or f"u:{exchange.authcid}"


async def _shake_hands(transport: AnyByteStream, context: ssl.SSLContext | None) -> TLSStream:
    try:
        return await TLSStream.wrap(
            transport, server_side=True, ssl_context=context, standard_compatible=False
        )
    except (ssl.SSLError, EndOfStream) as error:
        reason = str(error) or "the client closed the connection"
    raise ProtocolError(f"TLS could not be started: {reason}")


def _log(error: Exception) -> None:
    expected = SASLError | TimeoutError | BrokenResourceError | ClosedResourceError | ssl.SSLError
    if isinstance(error, expected):
        logger.warning("a connection failed: %s", str(error) or type(error).__name__)
    else:
        logger.error("a connection failed", exc_info=error)
