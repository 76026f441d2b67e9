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

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from anyio import fail_after
from anyio.abc import AnyByteStream

from saslwrap.errors import ProtocolError
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
from saslwrap.testing.mechanisms import MechanismNames
from saslwrap.testing.server import Connection, SASLServer

__all__ = ["LDAPServer"]

#: The longest request, in octets.
_REQUEST_LIMIT: Final = LDAPBindServer.PDU_LIMIT

#: Results are sent once they have so many octets.
_BATCH: Final = 32768

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


class LDAPServer(SASLServer):
    """A small LDAP server on loopback: `async with`, or `with server.in_thread()`.

    :param entries: attributes by DN, parents included: `{"cn=x": {"cn": ["x"]}}`
    :param users: passwords by username. They need no entries; who is logged in sees all entries
    :param realm: where the users are
    :param host: the server's name, which a client's digest-uri must have
    :param properties: what a login must give
    :param mechanisms: names of `DIGEST-MD5`, `GSSAPI`, `GSS-SPNEGO`, the latter two with the key in
        the keytab that `KRB5_KTNAME` names; or factories by name
    :param tls: a context with the server's certificate: a client may start TLS (RFC 4511 section
        4.14), and is then asked for no layer
    :param tls_at_once: whether TLS begins with the first octet, as on the port of ldaps
    :param tls_server_end_point: the hash of that certificate, which `mechanisms.channel_binding`
        makes: over TLS, GSSAPI and GSS-SPNEGO by name refuse a login that is not bound to it
    :param idle_timeout: seconds that a client has for its next request, for a login, for TLS'
        handshake, and to take a batch of results
    :raises UsageError: entries that cannot be read, or what cannot go together
    :raises MechanismUnavailableError: the extra of a mechanism is not installed

    An authzid is taken as it is said, and shown by "Who am I?".
    """

    service = "ldap"

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Sequence[str | bytes]]],
        users: Mapping[str, str] | None = None,
        *,
        realm: str = "example.com",
        host: str = "localhost",
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        mechanisms: MechanismNames = ("DIGEST-MD5",),
        tls: ssl.SSLContext | None = None,
        tls_at_once: bool = False,
        tls_server_end_point: bytes | None = None,
        idle_timeout: float = 300,
    ) -> None:
        super().__init__(
            users,
            realm=realm,
            host=host,
            properties=properties,
            mechanisms=mechanisms,
            tls=tls,
            tls_at_once=tls_at_once,
            tls_server_end_point=tls_server_end_point,
            idle_timeout=idle_timeout,
        )
        self._directory: Final = Directory(
            entries,
            {
                "supportedLDAPVersion": ["3"],
                "supportedSASLMechanisms": list(self.mechanisms),
                "supportedExtension": [_WHO_AM_I, *([_START_TLS] if tls else [])],
            },
        )

    def _connection(self, transport: AnyByteStream) -> Connection:
        return _Connection(self, self._directory, transport)


class _Connection(Connection):
    """One client. Its identity is None while nobody is logged in (RFC 4513 section 4)."""

    def __init__(self, server: LDAPServer, directory: Directory, transport: AnyByteStream) -> None:
        super().__init__(server, transport)
        self._directory: Final = directory

    async def run(self) -> None:
        """Answer requests until the client leaves."""
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
                    await self._log_in(LDAPBindServer(self._mechanisms), pdu)
                case "extendedReq" if self._starts_tls(request):
                    await self.start_tls(_tls_response(request, ResultCode.success))
                case _:
                    await self._send_all(self._answer(pdu, request))
        await self._stream.aclose()

    def _starts_tls(self, request: Message) -> bool:
        name = request.value["requestName"]
        return name == _START_TLS and self._can_start_tls and not _is_critical(request)

    async def _next_request(self) -> bytes:
        """Read a whole message, `b""` at the end."""
        with fail_after(self._server.idle_timeout):
            while (length := measure(self._buffer, _REQUEST_LIMIT)) is None or length > len(
                self._buffer
            ):
                if not await self._receive_more():
                    return b""
        pdu = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return pdu

    async def _send_all(self, messages: Iterable[bytes]) -> None:
        batch = bytearray()
        for message in messages:
            batch += message
            if len(batch) >= _BATCH:
                await self._send(bytes(batch))
                batch.clear()
        await self._send(bytes(batch))

    def _farewell(self, error: Exception) -> bytes:
        return notice_of_disconnection(*_reason(error))

    def _answer(self, pdu: bytes, request: Message) -> Iterable[bytes]:
        respond = partial(_respond, pdu, request)
        if _is_critical(request):
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
        if name == _START_TLS and (self._sealed or self._over_tls):
            text = "no TLS below a security layer" if self._sealed else "TLS is there already"
            return _tls_response(request, ResultCode.operationsError, text)
        if name != _WHO_AM_I:
            return respond(ResultCode.protocolError, "unknown extended operation")
        if self._identity is None:
            return respond(ResultCode.strongerAuthRequired, "log in first, with SASL")
        value = result(ResultCode.success, responseValue=self._identity.encode())
        return encode(request.message_id, "extendedResp", value)


def _tls_response(request: Message, code: ResultCode, text: str = "") -> bytes:
    """Answer StartTLS (RFC 4511 section 4.14.2)."""
    return encode(request.message_id, "extendedResp", result(code, text, responseName=_START_TLS))


def _is_critical(request: Message) -> bool:
    """Whether it has a control that it insists on; none is known here."""
    return any(control["criticality"] for control in request.controls)


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


def _reason(error: Exception) -> tuple[ResultCode, str]:
    match error:
        case ProtocolError():
            return ResultCode.protocolError, str(error)
        case TimeoutError():
            return ResultCode.unavailable, "the client took too long"
        case _:
            return ResultCode.other, "the server had to give up"
