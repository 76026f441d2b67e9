"""libvirt's login: an exchange that saslwrap does not have, of binary packets.

libvirt_login.py HOST USER [PORT]    logs in to libvirtd over TCP, and asks for a password

A packet is a length, which counts itself, six more words, and a payload in XDR (RFC 4506):

    length  program 0x20008086  version 1  procedure  type  serial  status

    C: AUTH_LIST                           S: the kinds of login there are; 1 is SASL
    C: AUTH_SASL_INIT                      S: "DIGEST-MD5,GSSAPI"
    C: AUTH_SASL_START name, message       S: whether that was all, message
    C: AUTH_SASL_STEP message              S: the same

The type of a call is 0. Its reply has the type 1 and the call's serial; the status 1 stands for an
error. A message is a word that says whether there is none, and an array of C's `char`, of which XDR
puts each into a word of its own.

The layer starts behind the reply that says that this was all. The protocol has no word for giving
up, so a login that ends on our side is an error that closes the connection.

Run it without anything, and its two halves log in to each other. The tests have them log in to
libvirtd, and virsh to them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from getpass import getpass

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteStream

from saslwrap import (
    AuthenticationError,
    ClientMechanism,
    DigestMD5Client,
    Event,
    Exchange,
    MalformedMessageError,
    NegotiationError,
    ProtocolError,
    SASLError,
    Send,
    ServerMechanism,
    TruncatedStreamError,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.testing import mechanism_pair, memory_stream_pair

PORT = 16509

PROGRAM, VERSION = 0x20008086, 1
OPEN, CLOSE, GET_HOSTNAME, LIST_ALL_DOMAINS = 1, 2, 59, 273
AUTH_LIST, AUTH_SASL_INIT, AUTH_SASL_START, AUTH_SASL_STEP = 66, 67, 68, 69
CALL, REPLY = 0, 1
OK, ERROR = 0, 1
SASL = 1
AUTH_FAILED, FROM_RPC, LEVEL_ERROR = 45, 7, 2

_HEADER = struct.Struct(">7I")
_LONGEST_MESSAGE, _LONGEST_PACKET = 1 << 16, 1 << 25


@dataclass(frozen=True)
class Packet:
    """A packet without its length."""

    procedure: int
    payload: bytes = b""
    type: int = CALL
    serial: int = 0
    status: int = OK

    def reply(self, payload: bytes, status: int = OK) -> Packet:
        return Packet(self.procedure, payload, REPLY, self.serial, status)


def write(packet: Packet) -> bytes:
    length = _HEADER.size + len(packet.payload)
    words = (packet.procedure, packet.type, packet.serial, packet.status)
    return _HEADER.pack(length, PROGRAM, VERSION, *words) + packet.payload


def measure(head: bytes | bytearray, limit: int) -> int:
    """Judge the length of a packet by its first word."""
    length = int.from_bytes(head[:4], "big")
    if not _HEADER.size <= length <= limit:
        raise ProtocolError(f"the peer announced a packet of {length} octets, our limit is {limit}")
    return length


def read(octets: bytes) -> Packet:
    """Read a whole packet, of at least a header."""
    _, program, version, procedure, type_, serial, status = _HEADER.unpack_from(octets)
    if (program, version) != (PROGRAM, VERSION):
        raise ProtocolError(f"the peer speaks {program:#x} in version {version}, not libvirt's")
    return Packet(procedure, octets[_HEADER.size :], type_, serial, status)


def word(number: int) -> bytes:
    return struct.pack(">I", number)


def string(value: bytes) -> bytes:
    return word(len(value)) + value + bytes(-len(value) % 4)


def message(value: bytes | None) -> bytes:
    """Write what a mechanism says, or that it says nothing."""
    chars = bytearray(4 * len(value or b""))
    chars[3::4] = value or b""
    return word(value is None) + word(len(chars) // 4) + chars


class XDR:
    """Takes a payload apart."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._payload[self._at : self._at + size]
        if len(taken) < size:
            raise MalformedMessageError("a packet ends before what it is said to hold")
        self._at += size
        return taken

    def word(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def words(self) -> list[int]:
        return [self.word() for _ in range(self.word())]

    def string(self) -> bytes:
        value = self.take(length := self.word())
        self.take(-length % 4)
        return value

    def message(self) -> bytes | None:
        is_none, length = self.word(), self.word()
        value = self.take(4 * length)[3::4]
        return None if is_none else value


class LibvirtError(Exception):
    """A call failed; in the server's words."""


def result(call: Packet, reply: Packet) -> XDR:
    """Read the reply to a call.

    :raises LibvirtError: the call failed
    """
    if (reply.procedure, reply.type, reply.serial) != (call.procedure, REPLY, call.serial):
        raise ProtocolError("the server sent something else than a reply to the call")
    payload = XDR(reply.payload)
    if reply.status != OK:
        payload.take(8)  # the error's code, and the part of libvirt that it comes from
        text = payload.string() if payload.word() else b""
        raise LibvirtError(text.decode(errors="replace"))
    return payload


class Packets(Exchange):
    """What both halves share: a message is one packet."""

    LIMIT = 4 * _LONGEST_MESSAGE + 256

    def _measure(self, buffer: bytearray) -> int | None:
        return None if len(buffer) < 4 else measure(buffer, self.LIMIT)

    def _packet(self) -> Generator[Event, None, Packet]:
        return read((yield from self._message()))

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Generator[Event, None, None]:
        yield from ()
        raise TruncatedStreamError("libvirt has no word for giving up: the connection ends")


class LibvirtLogin(Packets):
    """The client's half. `serial` is the next call's, also behind the login."""

    def __init__(self, mechanism: ClientMechanism) -> None:
        super().__init__(mechanism)
        self._name = mechanism.name
        self.serial = 0

    def _run(self) -> Generator[Event, None, None]:
        if SASL not in (yield from self._call(AUTH_LIST)).words():
            raise ProtocolError("the server asks for no login by SASL")
        names = (yield from self._call(AUTH_SASL_INIT)).string()
        if self._name.encode() not in names.split(b","):
            raise ProtocolError(f"the server has no {self._name}, but {names!r}")
        first = yield from self._ask(None)
        answer = yield from self._call(
            AUTH_SASL_START, string(self._name.encode()) + message(first)
        )
        while response := (yield from self._response(answer)):
            answer = yield from self._call(AUTH_SASL_STEP, response)
        self._require_complete()

    def _response(self, answer: XDR) -> Generator[Event, None, bytes]:
        """Ask the mechanism for the next message; `b""` stands for success."""
        complete, challenge = answer.word(), answer.message()
        if complete and challenge is None:
            return b""
        response = yield from self._ask(challenge)
        if complete and response:
            raise ProtocolError("the server reported success too early")
        return b"" if complete else message(response)

    def _call(self, procedure: int, payload: bytes = b"") -> Generator[Event, None, XDR]:
        call = Packet(procedure, payload, serial=self.serial)
        self.serial += 1
        yield Send(write(call))
        try:
            return result(call, (yield from self._packet()))
        except LibvirtError as error:
            refusal = str(error)
        raise AuthenticationError(f"the server refused the login: {refusal!r}")

    def _tell(self, refusal: SASLError) -> Generator[Event, None, None]:
        yield from ()
        raise ProtocolError(f"{refusal} (and libvirt has no word for that: the connection ends)")


class LibvirtLoginServer(Packets):
    """The server's half, with one mechanism."""

    def __init__(self, make_mechanism: Callable[[], ServerMechanism]) -> None:
        super().__init__(None)
        self._make_mechanism = make_mechanism
        self._call = Packet(AUTH_LIST)

    def _run(self) -> Generator[Event, None, None]:
        mechanism = self._make_mechanism()
        name = mechanism.name.encode()
        yield from self._hear(AUTH_LIST)
        yield self._say(word(1) + word(SASL))
        yield from self._hear(AUTH_SASL_INIT)
        yield self._say(string(name))
        arguments = yield from self._hear(AUTH_SASL_START)
        if arguments.string() != name:
            yield self._refuse()
            raise NegotiationError("the client asked for another mechanism")
        self._set_mechanism(mechanism)
        reply = yield from self._ask(arguments.message())
        while not mechanism.complete:
            yield self._say(word(False) + message(reply))
            arguments = yield from self._hear(AUTH_SASL_STEP)
            reply = yield from self._ask(arguments.message())
        yield self._say(word(True) + message(reply))

    def _hear(self, procedure: int) -> Generator[Event, None, XDR]:
        self._call = yield from self._packet()
        if (self._call.procedure, self._call.type) != (procedure, CALL):
            raise ProtocolError("the client sent something else than the next call of a login")
        return XDR(self._call.payload)

    def _say(self, payload: bytes, status: int = OK) -> Send:
        return Send(write(self._call.reply(payload, status)))

    def _refuse(self) -> Send:
        return self._say(failure(b"authentication failed"), ERROR)

    def _tell(self, refusal: SASLError) -> Generator[Event, None, None]:
        yield self._refuse()


def failure(text: bytes) -> bytes:
    """Write an error; behind its level come seven details, which it does not have."""
    head = word(AUTH_FAILED) + word(FROM_RPC) + word(True) + string(text)
    return head + word(LEVEL_ERROR) + bytes(7 * 4)


class Connection:
    """Calls, one after the other, on a stream that is logged in."""

    def __init__(self, stream: ByteStream, serial: int = 0) -> None:
        self._stream = BufferedByteStream(stream)
        self._serial = serial

    async def call(self, procedure: int, payload: bytes = b"") -> XDR:
        call = Packet(procedure, payload, serial=self._serial)
        self._serial += 1
        await self._stream.send(write(call))
        return result(call, await self.receive())

    async def receive(self) -> Packet:
        head = await self._stream.receive_exactly(_HEADER.size)
        length = measure(head, _LONGEST_PACKET)
        return read(head + await self._stream.receive_exactly(length - len(head)))

    async def answer(self, payloads: dict[int, bytes]) -> None:
        """Answer calls by their procedure, up to CLOSE."""
        procedure = 0
        while procedure != CLOSE:
            call = await self.receive()
            procedure = call.procedure
            await self._stream.send(write(call.reply(payloads[procedure])))


async def look_around(transport: ByteStream, mechanism: ClientMechanism) -> None:
    """Log in, and print what there is, under the layer."""
    login = LibvirtLogin(mechanism)
    async with await authenticate(transport, login) as stream:
        connection = Connection(stream, login.serial)
        await connection.call(OPEN, word(True) + string(b"test:///default") + word(0))
        host = (await connection.call(GET_HOSTNAME)).string().decode()
        print(f"under {stream.extra(SASLAttribute.cipher)}, on {host}:")
        domains = await connection.call(LIST_ALL_DOMAINS, word(True) + word(0))
        for _ in range(domains.word()):
            name, _uuid, number = domains.string(), domains.take(16), domains.word()
            print(number, name.decode())
        await connection.call(CLOSE)


async def log_in(host: str, user: str, port: int, password: str) -> None:
    mechanism = DigestMD5Client(user, password, service="libvirt", host=host)
    async with await anyio.connect_tcp(host, port) as transport:
        await look_around(transport, mechanism)


async def to_each_other() -> None:
    client, server = mechanism_pair("rc4", service="libvirt")
    transport, server_transport = memory_stream_pair()
    domain = string(b"test") + bytes(16) + word(1)
    answers = {
        OPEN: b"",
        GET_HOSTNAME: string(b"example"),
        LIST_ALL_DOMAINS: word(1) + domain + word(1),
        CLOSE: b"",
    }

    async def serve() -> None:
        login = LibvirtLoginServer(lambda: server)
        async with await authenticate(server_transport, login) as stream:
            await Connection(stream).answer(answers)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await look_around(transport, client)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            anyio.run(to_each_other)
        case [host, user]:
            anyio.run(log_in, host, user, PORT, getpass())
        case [host, user, port] if port.isdecimal():
            anyio.run(log_in, host, user, int(port), getpass())
        case _:
            sys.exit(__doc__)
