"""The SSPI calls: lists of buffers that make no sense, forged tokens, logins with odd flags.

What a call refuses has cost nothing: the memory is as it was, and the next call that is right
works. What it sealed the peer opens, what it opened the peer had sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

from saslwrap.context import SecurityContext
from saslwrap.errors import SecurityStatus
from saslwrap.sspi import (
    CtxtHandle,
    InboundCredential,
    IscReq,
    OutboundCredential,
    SecBuffer,
    SecBufferType,
    SSPIError,
    accept_security_context,
    decrypt_message,
    encrypt_message,
    initialize_security_context,
    make_signature,
    verify_signature,
)
from saslwrap.testing.pairs import HOST, PASSWORD, PROTECTIONS, REALM, USERNAME, get_secret
from tests.attacks.support import victim
from tests.fuzz.reader import Reader
from tests.fuzz.target import Allowed, Target

MAXBUF = 300
ARENA = 400
MOST_CALLS = 6
MOST_BUFFERS = 5

DATA, TOKEN, PADDING = (
    SecBufferType.SECBUFFER_DATA,
    SecBufferType.SECBUFFER_TOKEN,
    SecBufferType.SECBUFFER_PADDING,
)
STREAM, HEADER, TRAILER, EMPTY = (
    SecBufferType.SECBUFFER_STREAM,
    SecBufferType.SECBUFFER_STREAM_HEADER,
    SecBufferType.SECBUFFER_STREAM_TRAILER,
    SecBufferType.SECBUFFER_EMPTY,
)
TYPES: Final = (DATA, PADDING, TOKEN, STREAM, HEADER, TRAILER, EMPTY)

FORGED: Final = (SecurityStatus.SEC_E_MESSAGE_ALTERED, SecurityStatus.SEC_E_OUT_OF_SEQUENCE)

Buffers: TypeAlias = list[SecBuffer]
Call: TypeAlias = Callable[[SecurityContext, Buffers, int, int], None]


def _encrypt(context: SecurityContext, buffers: Buffers, qop: int, number: int) -> None:
    encrypt_message(context, qop, buffers, number)


def _sign(context: SecurityContext, buffers: Buffers, qop: int, number: int) -> None:
    make_signature(context, qop, buffers, number)


def _decrypt(context: SecurityContext, buffers: Buffers, qop: int, number: int) -> None:
    decrypt_message(context, buffers, number)


def _verify(context: SecurityContext, buffers: Buffers, qop: int, number: int) -> None:
    verify_signature(context, buffers, number)


class Desk:
    """Two ends of a connection, and memory to work in."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        protection = reader.one_of(PROTECTIONS)
        self.ours = victim(protection, maxbuf=MAXBUF).context
        self.peer = victim(protection, maxbuf=MAXBUF, is_client=True).context
        self.arena = bytearray(range(256)) + bytearray(ARENA - 256)
        self.in_step = True  # all that the peer sealed was opened

    def call(self) -> None:
        """Make one call, as the input says."""
        match self.reader.number() % 6:
            case 0:
                self.seal(_encrypt)
            case 1:
                self.seal(_sign)
            case 2:
                self.open(_decrypt, self.buffers())
            case 3:
                self.open(_verify, self.buffers())
            case 4:
                self.open_token()
            case _:
                self.open_signed()

    def buffers(self) -> Buffers:
        """A list of buffers in one memory, which may overlap."""
        return [self.buffer() for _ in range(self.reader.number() % (MOST_BUFFERS + 1))]

    def buffer(self) -> SecBuffer:
        kind = self.reader.number()
        number = TYPES[kind % len(TYPES)] if kind < 0xF0 else self.reader.number(4)
        start, length, how = self.reader.number(), self.reader.number(), self.reader.number() % 8
        memory = memoryview(self.arena)[start : start + length]
        if how == 1:
            return SecBuffer(number)
        if how == 2:
            return SecBuffer(number, memory.toreadonly())
        return SecBuffer(number, memory, readonly=how == 3)

    def numbers(self) -> tuple[int, int]:
        """The quality of protection and the sequence number, which both have to be 0."""
        odd = self.reader.number()
        return int(odd == 1), int(odd == 2)

    def seal(self, call: Call) -> None:
        """Seal; the peer opens what comes of it, or nothing has happened."""
        buffers, numbers = self.buffers(), self.numbers()
        before = bytes(self.arena)
        message = next((bytes(it.data) for it in worked_on(buffers) if it.type is DATA), b"")
        try:
            call(self.ours, buffers, *numbers)
        except SSPIError:
            assert self.arena == before, "a call that was refused left its marks"
            raise
        assert numbers == (0, 0)
        parts = [it for it in worked_on(buffers) if it.type is not HEADER]
        token = b"".join(bytes(it.data) for it in parts)
        assert len(token) <= MAXBUF
        assert self.peer.unseal(token) == message

    def open(self, call: Call, buffers: Buffers) -> None:
        """Open what nobody has sealed, or what is no token at all."""
        call(self.ours, buffers, *self.numbers())
        raise AssertionError("something was opened that nobody sealed")

    def open_token(self) -> None:
        """Open what the peer sealed, edited or not."""
        message = self.reader.octets()[: self.peer.stream_sizes.maximum_message]
        genuine = self.peer.seal(message)
        memory = bytearray(self.reader.edited(genuine))
        buffer = SecBuffer(self.reader.one_of((DATA, STREAM)), memory)
        self.in_step &= memory == genuine and not self.ours.failed
        given = b"" if self.ours.failed else bytes(memory)
        try:
            decrypt_message(self.ours, [buffer], 0)
        except SSPIError as error:
            assert not self.in_step, "a token of the peer's was refused"
            if given and error.status in FORGED:
                assert memory == bytes(len(given) - 6) + given[-6:], "it was not wiped"
            raise
        assert self.in_step, "a forged token was opened"
        assert buffer.data == message

    def open_signed(self) -> None:
        """Check what the peer signed, edited or not; where it seals, open that."""
        if self.peer.cipher:
            return self.open_token()
        message = self.reader.octets()[: self.peer.stream_sizes.maximum_message]
        signature = self.peer.sign(memoryview(message))
        there = self.reader.edited(message), self.reader.edited(signature)
        buffers = [SecBuffer(DATA, bytearray(there[0])), SecBuffer(TOKEN, bytearray(there[1]))]
        self.in_step &= there == (message, signature) and not self.ours.failed
        try:
            verify_signature(self.ours, buffers, 0)
        except SSPIError:
            assert not self.in_step, "a signature of the peer's was refused"
            raise
        assert self.in_step, "a forged signature was taken"
        return None

    def still_works(self) -> None:
        """Hold that refusals have cost nothing, both ways."""
        memory = bytearray(b"at last") + bytearray(64)
        buffers = [SecBuffer(DATA, memoryview(memory)[:7]), SecBuffer(PADDING, bytearray(64))]
        encrypt_message(self.ours, 0, buffers, 0)
        assert self.peer.unseal(b"".join(it.data for it in buffers)) == b"at last"


def worked_on(buffers: Buffers) -> Buffers:
    """Those that a call may use."""
    return [it for it in buffers if not it.readonly and it.type is not EMPTY]


def call_with_buffers(data: bytes) -> None:
    """Make calls until the context fails; the last error is the one to tell."""
    desk = Desk(Reader(data))
    fault: SSPIError | None = None
    for _ in range(MOST_CALLS):
        if not desk.reader.more:
            break
        try:
            desk.call()
            assert not desk.ours.failed, "it went on after a failure"
        except SSPIError as error:
            fault = error
            assert desk.peer.alive
    if not desk.ours.failed:
        desk.still_works()
    if fault:
        raise fault


OUTBOUND = OutboundCredential(USERNAME, REALM, PASSWORD, ("rc4", "3des", "des"), 1024)
INBOUND = InboundCredential(get_secret, "ldap", HOST, [REALM], ("rc4", "3des", "des"), 1024)
FLAGS: Final = (
    0,
    IscReq.ISC_REQ_CONFIDENTIALITY,
    IscReq.ISC_REQ_REPLAY_DETECT,
    IscReq.ISC_REQ_DELEGATE,
)
LONGEST_NAME = 100  # a caller's own words are quoted as they are
TARGET_NAMES: Final = ("ldap/localhost", "ldap/localhost/localhost", "ldap", "", None, "imap/other")


def log_in(data: bytes) -> None:
    """Log in by both calls, with the tokens between them edited."""
    reader = Reader(data)
    isc, asc = flags(reader), flags(reader)
    name = reader.one_of(TARGET_NAMES)
    if reader.flag():
        name = f"ldap/{reader.octets()[:LONGEST_NAME].decode('latin-1')}"
    start = partial(initialize_security_context, OUTBOUND, None, name, isc)
    status, server, challenge = accept_security_context(INBOUND, None, reader.octets(), asc)
    assert status is SecurityStatus.SEC_I_CONTINUE_NEEDED
    status, client, response = start(reader.edited(challenge or b""))
    if response is None:  # an empty challenge is none yet
        return
    status, server, proof = accept_security_context(None, server, reader.edited(response), 0)
    assert (status, server.complete) == (SecurityStatus.SEC_E_OK, True)
    assert proof is not None
    bent = reader.edited(proof)
    status, client, last = initialize_security_context(None, client, None, 0, bent)
    assert (status, client.complete, last) == (SecurityStatus.SEC_E_OK, True, None)
    assert proof.removeprefix(b"rspauth=") in bent.replace(b"\\", b""), "a wrong proof was taken"
    judge_login(client, server)


def flags(reader: Reader) -> int:
    """What a side requires."""
    return reader.number(4) if reader.flag() else reader.one_of(FLAGS)


def judge_login(client: CtxtHandle, server: CtxtHandle) -> None:
    """Hold that both sides came to the same end."""
    assert (client.context is None) == (server.context is None)
    for sender, receiver in ((client.context, server.context), (server.context, client.context)):
        if sender and receiver:
            assert (sender.qop, sender.cipher) == (receiver.qop, receiver.cipher)
            message = b"a message"[: sender.stream_sizes.maximum_message]
            assert receiver.unseal(sender.seal(message)) == message


def buffer_seeds() -> Iterator[bytes]:
    """Each call as it is documented, for each protection; and each thing that is wrong with it."""
    message, room = b"\0\0\7\0", b"\1\x40\x40\0"
    for number in range(len(PROTECTIONS)):
        head = bytes([number])
        for call in (b"\0", b"\1"):
            yield head + (call + b"\2" + message + room + b"\0") * 3
            yield head + call + b"\2" + message + b"\2\x40\x40\0" + b"\0"
        yield head + b"\0\4" + b"\4\0\0\0" + message + b"\5\x40\x40\0" + b"\6\0\0\0" + b"\0"
        yield head + b"\0\2" + message + b"\1\3\x40\0" + b"\0"
        yield head + b"\0\2" + message + room + b"\1" + b"\0\1" + message + b"\0"
        yield head + b"\4\5hello\0\0" + b"\4\5hello\0\1" + b"\4\5hello\1\0\2\1x\1\0"
        yield head + b"\5\5hello\0\0" + b"\5\5hello\0\1\0\2\1x\1"
        yield head + b"\2\1\0\0\x40\0\0" + b"\3\2" + message + b"\2\x40\x10\0\0"
        yield head + b"\2\1\xff\xf0\0\0\1\0\0\0\0"


def login_seeds() -> Iterator[bytes]:
    """Each pair of flags, each name; each token edited."""
    for client in range(len(FLAGS)):
        for server in range(len(FLAGS)):
            yield bytes([0, client, 0, server])
    same = b"\0\1\0\1"
    for name in range(len(TARGET_NAMES)):
        yield same + bytes([name])
    yield b"\1\0\0\0\x10" + b"\0\1"
    yield same + b"\0\1\x09localhost"
    for turn in range(3):
        yield same + b"\0\0\0" + bytes(turn) + b"\1\0\x10\1x\1"


_REFUSALS: Allowed = {SSPIError: "the only error there is, with one of SSPI's documented status"}

TARGETS = (
    Target("sspi-buffers", call_with_buffers, _REFUSALS, buffer_seeds, 512),
    Target("sspi-login", log_in, _REFUSALS, login_seeds, 1024),
)
