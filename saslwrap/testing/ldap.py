"""An LDAP server that seals, in the test's own process, over plain Python data.

    import anyio

    from saslwrap import DigestMD5Client
    from saslwrap.anyio import SASLAttribute, authenticate
    from saslwrap.protocols.ldap import LDAPBind
    from saslwrap.testing import LDAPServer

    ENTRIES = {
        "dc=example,dc=com": {"objectClass": ["dcObject", "organization"], "dc": ["example"]},
        "cn=Alice,dc=example,dc=com": {"objectClass": ["person"], "cn": ["Alice"], "sn": ["A."]},
    }

    async def main():
        async with LDAPServer(ENTRIES, users={"alice": "s3cret"}) as server:
            mechanism = DigestMD5Client("alice", "s3cret", service="ldap", host=server.host)
            async with await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
                stream = await authenticate(tcp, LDAPBind(mechanism))
                print("sealed with SSF", stream.extra(SASLAttribute.ssf))

    anyio.run(main)

A blocking client, or one in another process, takes the server in a thread:

    with LDAPServer(ENTRIES, users={"alice": "s3cret"}).in_thread() as server:
        subprocess.run(
            f"ldapsearch -N -Y DIGEST-MD5 -H {server.url} -U alice -w s3cret -b dc=example,dc=com",
            shell=True,
        )

(`-N`, because a digest names the host it is for: the server accepts its own name only.)

It answers searches and "Who am I?", and refuses the rest in good form. Before a login it shows the
root DSE and nothing else. Requests are answered one after the other, so that there is never
anything to abandon, and nothing outstanding when a login begins. Results leave in batches: many
messages in a frame, in as many frames as the client's maxbuf asks for.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Final, Self

from anyio import (
    AsyncContextManagerMixin,
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    aclose_forcefully,
    create_task_group,
    create_tcp_listener,
    fail_after,
    move_on_after,
)
from anyio.abc import AnyByteStream, SocketAttribute
from anyio.from_thread import start_blocking_portal

from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.errors import ProtocolError, SASLError, UsageError
from saslwrap.exchange import transport_survives
from saslwrap.mechanism import ServerMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Server
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBindServer
from saslwrap.protocols.ldap_messages import (
    Message,
    ResultCode,
    decode,
    encode,
    measure,
    notice_of_disconnection,
    result,
)
from saslwrap.testing.ldap_directory import Directory, SearchError

__all__ = ["LDAPServer"]

logger: Final = logging.getLogger(__name__)

_ADDRESS: Final = "127.0.0.1"

#: The longest request, in octets.
_REQUEST_LIMIT: Final = LDAPBindServer.PDU_LIMIT

#: Results are sent once they have so many octets.
_BATCH: Final = 32768

#: Seconds that a client has to take our farewell.
_FAREWELL: Final = 1.0

_START_TLS: Final = b"1.3.6.1.4.1.1466.20037"
_WHO_AM_I: Final = b"1.3.6.1.4.1.4203.1.11.3"

#: The response's tag, by the request's name, or by its tag where `ldap_messages` has no name for
#: it: modify, add, delete, modifyDN, compare (RFC 4511 appendix B).
_RESPONSE_TAGS: Final[Mapping[str | bytes, int]] = {
    "searchRequest": 0x65,
    "extendedReq": 0x78,
    b"\x66": 0x67,
    b"\x68": 0x69,
    b"\x4a": 0x6B,
    b"\x6c": 0x6D,
    b"\x6e": 0x6F,
}


class LDAPServer(AsyncContextManagerMixin):
    """A small LDAP server on loopback: `async with`, or `with server.in_thread()`.

    :param entries: attributes by DN, parents included: `{"cn=x": {"cn": ["x"]}}`
    :param users: passwords by username. They need no entries; who is logged in sees all entries
    :param realm: where the users are
    :param host: the server's name, which a client's digest-uri must have
    :param properties: what a login must give
    :param mechanisms: factories by name, in place of DIGEST-MD5 over `users`
    :param idle_timeout: seconds that a client has for its next request, for a login, and to take a
        batch of results
    :raises UsageError: entries that cannot be read

    An authzid is taken as it is said, and shown by "Who am I?".
    """

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Sequence[str | bytes]]],
        users: Mapping[str, str] | None = None,
        *,
        realm: str = "example.com",
        host: str = "localhost",
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        mechanisms: Mapping[str, Callable[[], ServerMechanism]] | None = None,
        idle_timeout: float = 300,
    ) -> None:
        self.realm: Final = realm
        self.host: Final = host
        self.properties: Final = properties
        self.idle_timeout: Final = idle_timeout
        if mechanisms is None:
            mechanisms = {"DIGEST-MD5": self._digest_md5}
        self.mechanisms: Final = dict(mechanisms)
        self._users: Final = dict(users or {})
        self._port: int | None = None
        self._directory: Final = Directory(
            entries,
            {
                "supportedLDAPVersion": ["3"],
                "supportedSASLMechanisms": list(self.mechanisms),
                "supportedExtension": [_WHO_AM_I],
            },
        )

    @property
    def port(self) -> int:
        """The TCP port, on 127.0.0.1; a `UsageError` while the server does not listen."""
        if self._port is None:
            raise UsageError("the server does not listen; enter it: async with server")
        return self._port

    @property
    def url(self) -> str:
        """Where the server is, by its own name: the system has to resolve that to 127.0.0.1."""
        return f"ldap://{self.host}:{self.port}"

    async def serve(self, stream: AnyByteStream) -> None:
        """Serve one connection to its end, and close it. What the client does wrong ends here."""
        connection = _Connection(self, self._directory, stream)
        try:
            await connection.run()
        except Exception as error:
            _log(error)
            await connection.say_goodbye(*_farewell(error))
        finally:
            await aclose_forcefully(stream)

    @contextmanager
    def in_thread(self, backend: str = "asyncio") -> Iterator[Self]:
        """Run in a thread of its own, for clients that block; the thread ends with the block."""
        with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(self):
            yield self

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncIterator[Self]:
        failure: Exception | None = None
        async with (
            await create_tcp_listener(local_host=_ADDRESS) as listener,
            create_task_group() as tasks,
        ):
            self._port = listener.extra(SocketAttribute.local_port)
            tasks.start_soon(listener.serve, self.serve)
            try:
                yield self
            except Exception as error:  # a task group would wrap up what a test raises
                failure = error
            finally:
                self._port = None
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _digest_md5(self) -> ServerMechanism:
        return DigestMD5Server(
            lambda username, _: self._users.get(username),
            service="ldap",
            host=self.host,
            realms=[self.realm],
            properties=self.properties,
        )

    def __repr__(self) -> str:
        where = "not listening" if self._port is None else self.url
        return f"<LDAPServer {where}>"


class _Connection:
    """One client. Its identity is None while nobody is logged in."""

    def __init__(self, server: LDAPServer, directory: Directory, transport: AnyByteStream) -> None:
        self._server: Final = server
        self._directory: Final = directory
        self._transport: Final = transport
        self._stream: Final = SASLStream(transport, None)
        self._buffer = bytearray()
        self._identity: str | None = None

    async def run(self) -> None:
        """Answer requests until the client leaves.

        :raises ProtocolError: the client broke the protocol
        :raises TimeoutError: the client took too long
        :raises BrokenResourceError: the connection broke, or its layer failed
        """
        while pdu := await self._next_request():
            request = decode(pdu)
            if request.message_id == 0:  # RFC 4511 section 4.1.1.1
                raise ProtocolError("the client sent a request with message id 0")
            match request.operation:
                case "unbindRequest":
                    break
                case "abandonRequest":
                    pass
                case "bindRequest":
                    await self._bind(pdu)
                case _:
                    await self._send(self._answer(pdu, request))
        await self._stream.aclose()

    async def say_goodbye(self, code: int, text: str) -> None:
        """Send a Notice of Disconnection, and give the client a moment to take it.

        What it still sends is read and dropped: a system that closes over unread octets resets the
        connection, and the notice could be lost.
        """
        with (
            move_on_after(_FAREWELL),
            suppress(BrokenResourceError, ClosedResourceError, EndOfStream, OSError),
        ):
            await self._stream.send(notice_of_disconnection(code, text))
            await self._stream.send_eof()
            while True:
                await self._transport.receive()

    async def _next_request(self) -> bytes:
        """Read a whole message, `b""` at the end."""
        with fail_after(self._server.idle_timeout):
            while (length := measure(self._buffer, _REQUEST_LIMIT)) is None or length > len(
                self._buffer
            ):
                try:
                    self._buffer += await self._stream.receive()
                except EndOfStream:
                    return b""
        pdu = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return pdu

    async def _send(self, messages: Iterable[bytes]) -> None:
        batch = bytearray()
        for message in messages:
            batch += message
            if len(batch) >= _BATCH:
                await self._send_batch(bytes(batch))
                batch.clear()
        await self._send_batch(bytes(batch))

    async def _send_batch(self, batch: bytes) -> None:
        with fail_after(self._server.idle_timeout):
            await self._stream.send(batch)

    async def _bind(self, pdu: bytes) -> None:
        """Let the client log in; whatever comes of it, it is nobody before (RFC 4513 section 4).

        What is left of the buffer goes along: past a success it is ciphertext. After a refusal the
        stream gives it again.
        """
        self._identity = None
        received, self._buffer = pdu + self._buffer, bytearray()
        exchange = LDAPBindServer(self._server.mechanisms)
        try:
            with fail_after(self._server.idle_timeout):
                await authenticate(self._stream, exchange, received=received)
        except SASLError as error:
            if not transport_survives(error):
                raise
            logger.info("a login failed: %s", error)
        else:
            self._identity = exchange.authzid or f"u:{exchange.authcid}"

    def _answer(self, pdu: bytes, request: Message) -> Iterable[bytes]:
        respond = partial(_respond, pdu, request)
        if any(control["criticality"] for control in request.controls):
            return [respond(ResultCode.unavailableCriticalExtension)]
        if request.operation == "extendedReq":
            return [self._extended(request, respond)]
        if self._identity is None and not _is_root_dse(request):
            return [respond(ResultCode.strongerAuthRequired, "log in first, with SASL")]
        if request.operation == "searchRequest":
            return self._search(request, respond)
        return [respond(ResultCode.unwillingToPerform, "this server can only be searched")]

    def _search(self, request: Message, respond: Callable[..., bytes]) -> Iterator[bytes]:
        search, number = request.value, request.message_id
        try:
            found = self._directory.search(search)
        except SearchError as error:
            yield respond(error.code, str(error), error.matched_dn)
            return
        for count, entry in enumerate(found, 1):
            if 0 < search["sizeLimit"] < count:
                yield respond(ResultCode.sizeLimitExceeded)
                return
            selected = entry.select(search["attributes"], types_only=search["typesOnly"])
            yield encode(number, "searchResEntry", selected)
        yield respond(ResultCode.success)

    def _extended(self, request: Message, respond: Callable[..., bytes]) -> bytes:
        name = request.value["requestName"]
        if name == _START_TLS and self._stream.extra(SASLAttribute.context):
            return respond(ResultCode.operationsError, "no TLS below a security layer")
        if name != _WHO_AM_I:
            return respond(ResultCode.protocolError, "unknown extended operation")
        if self._identity is None:
            return respond(ResultCode.strongerAuthRequired, "log in first, with SASL")
        value = result(ResultCode.success, responseValue=self._identity.encode())
        return encode(request.message_id, "extendedResp", value)


def _is_root_dse(request: Message) -> bool:
    return (
        request.operation == "searchRequest"
        and request.value["scope"] == 0
        and not request.value["baseObject"].strip()
    )


def _respond(
    pdu: bytes, request: Message, code: int, text: str = "", matched_dn: str = ""
) -> bytes:
    """Encode a result, in the response that belongs to the request.

    All these responses have one shape, so the tag alone tells them apart.

    :raises ProtocolError: it is no request
    """
    at = _operation_at(pdu)
    tag = _RESPONSE_TAGS.get(request.operation or pdu[at : at + 1])
    if tag is None:
        raise ProtocolError(f"the client sent {request.operation or 'an unknown operation'}")
    value = result(code, text, matchedDN=matched_dn.encode())
    response = bytearray(encode(request.message_id, "searchResDone", value))
    response[_operation_at(response)] = tag
    return bytes(response)


def _operation_at(message: bytes | bytearray) -> int:
    """Where the operation's tag is: behind the head of the message, and the message id."""
    number = 2 + (message[1] & 0x7F if message[1] & 0x80 else 0)
    return number + 2 + message[number + 1]


def _farewell(error: Exception) -> tuple[ResultCode, str]:
    match error:
        case ProtocolError():
            return ResultCode.protocolError, str(error)
        case TimeoutError():
            return ResultCode.unavailable, "the client took too long"
        case _:
            return ResultCode.other, "the server had to give up"


def _log(error: Exception) -> None:
    expected = SASLError | TimeoutError | BrokenResourceError | ClosedResourceError
    if isinstance(error, expected):
        logger.warning("a connection failed: %s", str(error) or type(error).__name__)
    else:
        logger.error("a connection failed", exc_info=error)
