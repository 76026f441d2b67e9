"""One client of `LDAPServer`: messages in their order, logins, TLS, and an end in good form."""

from __future__ import annotations

from functools import partial
from typing import Final

from anyio import fail_after
from anyio.abc import AnyByteStream

from saslwrap.errors import ProtocolError
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
from saslwrap.testing.ldap_directory import Directory
from saslwrap.testing.ldap_requests import answer, is_critical
from saslwrap.testing.quirky_bind import QuirkyBindServer
from saslwrap.testing.server import Connection, SASLServer

__all__ = ["START_TLS", "LDAPConnection"]

#: RFC 4511 section 4.14.
START_TLS: Final = b"1.3.6.1.4.1.1466.20037"

#: The longest request, in octets.
_REQUEST_LIMIT: Final = LDAPBindServer.PDU_LIMIT


class LDAPConnection(Connection):
    """One client. Its identity is None while nobody is logged in (RFC 4513 section 4)."""

    def __init__(
        self,
        server: SASLServer,
        directory: Directory,
        transport: AnyByteStream,
        *,
        writable: bool = False,
    ) -> None:
        super().__init__(server, transport)
        self._answer: Final = partial(answer, directory=directory, writable=writable)

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
                    await self._log_in(self._bind_server(), pdu)
                case "extendedReq" if request.value["requestName"] == START_TLS:
                    await self._answer_start_tls(request)
                case _:
                    await self._send_all(self._answer(pdu, request, identity=self._identity))
        await self._stream.aclose()

    def _bind_server(self) -> LDAPBindServer:
        return QuirkyBindServer(self._mechanisms, self._server.quirks)

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

    async def _answer_start_tls(self, request: Message) -> None:
        code, text = self._judge_start_tls(request)
        response = result(code, text, responseName=START_TLS)
        message = encode(request.message_id, "extendedResp", response)
        if code == ResultCode.success:
            await self.start_tls(message)
        else:
            await self._send(message)

    def _judge_start_tls(self, request: Message) -> tuple[ResultCode, str]:
        """Say whether TLS can start now (RFC 4511 section 4.14.2)."""
        if is_critical(request):
            return ResultCode.unavailableCriticalExtension, ""
        if self._sealed:
            return ResultCode.operationsError, "no TLS below a security layer"
        if self._over_tls:
            return ResultCode.operationsError, "TLS is there already"
        if not self._can_start_tls:
            return ResultCode.protocolError, "unknown extended operation"
        return ResultCode.success, ""

    def _farewell(self, error: Exception) -> bytes:
        return notice_of_disconnection(*_reason(error))


def _reason(error: Exception) -> tuple[ResultCode, str]:
    match error:
        case ProtocolError():
            return ResultCode.protocolError, str(error)
        case TimeoutError():
            return ResultCode.unavailable, "the client took too long"
        case _:
            return ResultCode.other, "the server had to give up"
