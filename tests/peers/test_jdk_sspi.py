"""`saslwrap.sspi` against the JDK's DIGEST-MD5, in both roles, over a plain socket.

Login and frames are carried here by hand, as those who port from SSPI do it.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pytest

from saslwrap.errors import SecurityStatus
from saslwrap.properties import CIPHER_NAMES
from saslwrap.sspi import (
    AscReq,
    CtxtHandle,
    InboundCredential,
    IscReq,
    OutboundCredential,
    SecBuffer,
    SecBufferType,
    SecPkgAttr,
    accept_security_context,
    decrypt_message,
    encrypt_message,
    initialize_security_context,
    make_signature,
    query_context_attributes,
    verify_signature,
)
from tests.peers.directory import ALICE, REALM
from tests.peers.meeting import MANY
from tests.peers.peer_process import NEEDLE, Case, payload
from tests.peers.plain_exchange import BEGIN, MORE, SUCCESS, message
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.jdk import Jdk

pytestmark = pytest.mark.timeout(60)

PATIENCE = 15
PROTECTIONS = ("auth-int", *CIPHER_NAMES)
SIZES = sorted({*range(1, 41), *MANY})
CONTINUE = SecurityStatus.SEC_I_CONTINUE_NEEDED

DATA = SecBufferType.SECBUFFER_DATA
PADDING = SecBufferType.SECBUFFER_PADDING
TOKEN = SecBufferType.SECBUFFER_TOKEN


class Wire:
    """A plain socket, and what has a length in front on it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self._sock = sock
        self._file = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_frame(self, token: bytes) -> None:
        self.send(len(token).to_bytes(4, "big") + token)

    def receive(self) -> bytes:
        """One message or token."""
        return self._file.read(int.from_bytes(self._file.read(4), "big"))

    def end(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
        assert self._file.read() == b""

    def close(self) -> None:
        self._file.close()
        self._sock.close()


def log_in(wire: Wire, protection: str) -> CtxtHandle:
    """Our client's side of the login."""
    confidential = protection in CIPHER_NAMES
    flags = IscReq.ISC_REQ_CONFIDENTIALITY if confidential else IscReq.ISC_REQ_INTEGRITY
    ciphers = (protection,) if confidential else ()
    alice = OutboundCredential(ALICE.username, REALM, ALICE.password, ciphers)
    status, handle, token = initialize_security_context(alice, None, "test/localhost", flags, None)
    assert (status, token) == (CONTINUE, None)
    wire.send(message(BEGIN, b"DIGEST-MD5"))
    while status is CONTINUE:
        answer = wire.receive()
        assert answer[:1] in (MORE, SUCCESS)
        status, handle, token = initialize_security_context(alice, handle, None, flags, answer[1:])
        if answer[:1] == MORE:
            wire.send(message(MORE, token or b""))
    if answer[:1] == MORE:
        assert wire.receive() == SUCCESS
    return handle


def let_in(wire: Wire, protection: str) -> CtxtHandle:
    """Our server's side of the login."""
    confidential = protection in CIPHER_NAMES
    flags = AscReq.ASC_REQ_CONFIDENTIALITY if confidential else AscReq.ASC_REQ_INTEGRITY
    ciphers = (protection,) if confidential else ()
    users = {(ALICE.username, REALM): ALICE.password}
    service = InboundCredential(lambda *who: users.get(who), "test", "localhost", [REALM], ciphers)
    assert wire.receive()[:1] == BEGIN
    status, handle, token = accept_security_context(service, None, None, flags)
    while status is CONTINUE:
        wire.send(message(MORE, token or b""))
        answer = wire.receive()
        assert answer[:1] == MORE
        status, handle, token = accept_security_context(service, handle, answer[1:], flags)
    wire.send(message(SUCCESS, token or b""))
    return handle


def sealed(handle: CtxtHandle, text: bytes) -> bytes:
    """In one memory, message and signature side by side."""
    sizes = query_context_attributes(handle, SecPkgAttr.SECPKG_ATTR_SIZES)
    memory = memoryview(bytearray(text + bytes(sizes.max_signature + sizes.block_size)))
    buffers = [SecBuffer(DATA, memory[: len(text)]), SecBuffer(PADDING, memory[len(text) :])]
    encrypt_message(handle, 0, buffers, 0)
    return bytes(memory[: len(text) + len(buffers[1].data)])


def opened(handle: CtxtHandle, token: bytes) -> bytes:
    buffer = SecBuffer(DATA, bytearray(token))
    decrypt_message(handle, [buffer], 0)
    return bytes(buffer.data)


def signed(handle: CtxtHandle, text: bytes) -> bytes:
    buffers = [SecBuffer(DATA, text), SecBuffer(TOKEN, bytearray(16))]
    make_signature(handle, 0, buffers, 0)
    return text + bytes(buffers[1].data)


def verified(handle: CtxtHandle, token: bytes) -> bytes:
    buffers = [SecBuffer(DATA, token[:-16]), SecBuffer(TOKEN, token[-16:])]
    verify_signature(handle, buffers, 0)
    return token[:-16]


def converse(
    handle: CtxtHandle,
    wire: Wire,
    seal: Callable[[CtxtHandle, bytes], bytes] = sealed,
    unseal: Callable[[CtxtHandle, bytes], bytes] = opened,
) -> bytes:
    """Let the peer echo a message of each size; give all that was sent."""
    position = 0
    for size in SIZES:
        text, echo = payload(size, position), b""
        token = seal(handle, text)
        assert not (NEEDLE in token and handle.context and handle.context.cipher)
        wire.send_frame(token)
        while len(echo) < size:
            echo += unseal(handle, wire.receive())
        assert echo == text
        position += size
    wire.end()
    return payload(position)


class Meeting(NamedTuple):
    """A login that is over, and the peer's part in it."""

    handle: CtxtHandle
    wire: Wire
    case: Case


Meet: TypeAlias = "Callable[[str], Meeting]"


@pytest.fixture(params=["our client", "our server"])
def meet(request: pytest.FixtureRequest, jdk: Jdk) -> Iterator[Meet]:
    """Log in to the JDK, or let it log in."""
    with ExitStack() as stack:

        def at_server(protection: str) -> Meeting:
            case, port = jdk.server(jdk.account(ALICE))
            wire = Wire(socket.create_connection((LOOPBACK, port), PATIENCE))
            stack.callback(wire.close)
            return Meeting(log_in(wire, protection), wire, case)

        def from_client(protection: str) -> Meeting:
            with socket.create_server((LOOPBACK, 0)) as listener:
                listener.settimeout(PATIENCE)
                case = jdk.client(listener.getsockname()[1], jdk.account(ALICE))
                wire = Wire(listener.accept()[0])
            stack.callback(wire.close)
            return Meeting(let_in(wire, protection), wire, case)

        yield at_server if request.param == "our client" else from_client


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_tokens_open_on_either_side(meet: Meet, protection: str) -> None:
    handle, wire, case = meet(protection)
    assert handle.context is not None
    assert (handle.context.cipher or "auth-int") == protection
    sent = converse(handle, wire)
    case.result().check_received(sent)


def test_signatures_verify_on_either_side(meet: Meet) -> None:
    handle, wire, case = meet("auth-int")
    sent = converse(handle, wire, signed, verified)
    case.result().check_received(sent)
