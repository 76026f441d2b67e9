"""Subversion's login: an exchange that saslwrap does not have, written outside of it.

`svn://` (ra_svn) speaks in items, each with a space behind it: words, numbers, `4:text`, and lists.

    S: ( success ( 2 2 ( ) ( edit-pipeline ) ) )
    C: ( 2 ( edit-pipeline ) 20:svn://localhost/repo )
    S: ( success ( ( DIGEST-MD5 ) 5:realm ) )
    C: ( DIGEST-MD5 ( ) )                            or with a first message
    S: ( step ( 8:bWVzc2Fn ) )                       base64 in a string
    C: 8:cmVzcG9u
    S: ( success ( 8:cHJvb2Yh ) )                    or ( failure ( 3:why ) )

The layer starts behind the space of the last item. The protocol has no word for giving up, so a
login that ends on our side is an error that closes the connection.

Run it as it is, svn_login.py, and its two halves log in to each other. The tests have the client
log in to svnserve.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator
from typing import Any

import anyio

from saslwrap import (
    AuthenticationError,
    ClientMechanism,
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

CAPABILITIES = ["edit-pipeline", "svndiff1", "depth"]

_TOKEN = re.compile(
    rb"(?P<size>[0-9]{1,5}):|(?P<word>[()]|[A-Za-z][A-Za-z0-9-]{,60}|[0-9]{1,20})\s"
)
_LONGEST = 64


def write(item: Any) -> bytes:
    """Write an item: a list, bytes, a word or a number."""
    match item:
        case list():
            return b"( %b) " % b"".join(map(write, item))
        case bytes():
            return b"%d:%b " % (len(item), item)
        case _:
            return f"{item} ".encode()


def read(message: bytes) -> Any:
    """Take apart what `Items._measure` has found whole."""
    stack: list[list[Any]] = [[]]
    at = 0
    while match := _TOKEN.match(message, at):
        at = match.end()
        if match["size"]:
            stack[-1].append(message[at : at + int(match["size"])])
            at += int(match["size"]) + 1
        elif match["word"] == b"(":
            stack.append([])
        elif match["word"] == b")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            word = match["word"].decode()
            stack[-1].append(int(word) if word.isdigit() else word)
    return stack[0][0]


class Items(Exchange):
    """What both halves share: a message is one item."""

    LIMIT = 16384

    def _measure(self, buffer: bytearray) -> int | None:
        at = depth = 0
        while match := _TOKEN.match(buffer, at):
            at = match.end() + (int(match["size"]) + 1 if match["size"] else 0)
            depth += {b"(": 1, b")": -1}.get(match["word"] or b"", 0)
            if depth < 0 or at > self.LIMIT:
                raise ProtocolError(f"the peer sent no item, or one over {self.LIMIT} octets")
            if depth == 0:
                return at
        if len(buffer) >= at + _LONGEST:
            raise ProtocolError("the peer sent what is no item of svn's")
        return None

    def _item(self) -> Generator[Event, None, Any]:
        return read((yield from self._message()))

    def _decoded(self, value: bytes) -> bytes:
        try:
            return b64decode(b"".join(value.split()), validate=True)  # svn breaks lines
        except ValueError:
            pass
        raise MalformedMessageError("the peer sent a message that is no base64")

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Generator[Event, None, None]:
        yield from ()
        raise TruncatedStreamError("svn has no word for giving up: the connection ends")


class SvnLogin(Items):
    """The client's half, from the server's greeting on."""

    def __init__(self, mechanism: ClientMechanism, url: str) -> None:
        super().__init__(mechanism)
        self._name = mechanism.name
        self._url = url.encode()

    def _run(self) -> Generator[Event, None, None]:
        match (yield from self._item()):
            case ["success", [int(lowest), *_]] if lowest <= 2:
                yield Send(write([2, CAPABILITIES, self._url]))
            case _:
                raise ProtocolError("the server did not greet, or not in version 2")
        match (yield from self._item()):
            case ["success", [list(names), bytes()]] if self._name in names:
                first = yield from self._ask(None)
                early = [] if first is None else [b64encode(first)]
                yield Send(write([self._name, early]))
            case answer:
                raise ProtocolError(f"the server has no {self._name}: it said {answer!r}")
        while message := (yield from self._answer()):
            yield Send(write(b64encode((yield from self._ask(message[0])) or b"")))
        self._require_complete()

    def _answer(self) -> Generator[Event, None, list[bytes]]:
        """Hear a challenge; none is success, once the mechanism has had its proof."""
        match (yield from self._item()):
            case ["step", [bytes(challenge)]]:
                return [self._decoded(challenge)]
            case ["success", [bytes(proof)]]:
                if (yield from self._ask(self._decoded(proof))):
                    raise ProtocolError("the server reported success too early")
                return []
            case ["success", []]:
                return []
            case ["failure", [bytes(why)]]:
                raise AuthenticationError(f"the server refused the login: {why!r}")
        raise ProtocolError("the server sent something else than an answer to the login")

    def _tell(self, refusal: SASLError) -> Generator[Event, None, None]:
        yield from ()
        raise ProtocolError(f"{refusal} (and svn has no word for that: the connection ends)")


class SvnLoginServer(Items):
    """The server's half, with one mechanism."""

    def __init__(self, make_mechanism: Callable[[], ServerMechanism], realm: str) -> None:
        super().__init__(None)
        self._make_mechanism = make_mechanism
        self._realm = realm.encode()

    def _run(self) -> Generator[Event, None, None]:
        mechanism = self._make_mechanism()
        yield Send(write(["success", [2, 2, [], CAPABILITIES]]))
        match (yield from self._item()):
            case [2, list(), bytes(), *_]:
                yield Send(write(["success", [[mechanism.name], self._realm]]))
            case _:
                raise ProtocolError("the client speaks another version")
        match (yield from self._item()):
            case [mechanism.name, []]:
                message = None
            case [mechanism.name, [bytes(first)]]:
                message = self._decoded(first)
            case _:
                yield Send(write(["failure", [b"no such mechanism"]]))
                raise NegotiationError("the client asked for another mechanism")
        self._set_mechanism(mechanism)
        reply = yield from self._ask(message)
        while not mechanism.complete:
            yield Send(write(["step", [b64encode(reply or b"")]]))
            reply = yield from self._ask((yield from self._response()))
        yield Send(write(["success", [] if reply is None else [b64encode(reply)]]))

    def _response(self) -> Generator[Event, None, bytes]:
        match (yield from self._item()):
            case bytes(response):
                return self._decoded(response)
        raise ProtocolError("the client sent something else than a response")

    def _tell(self, refusal: SASLError) -> Generator[Event, None, None]:
        yield Send(write(["failure", [b"authentication failed"]]))


async def main() -> None:
    client, server = mechanism_pair("rc4", service="svn")
    transport, server_transport = memory_stream_pair()

    async def serve() -> None:
        login = SvnLoginServer(lambda: server, "example")
        async with await authenticate(server_transport, login) as stream:
            await stream.send(write(["success", [b"uuid", b"svn://localhost/repo", []]]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        login = SvnLogin(client, "svn://localhost/repo")
        async with await authenticate(transport, login) as stream:
            print("under", stream.extra(SASLAttribute.cipher), read(await stream.receive()))


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            anyio.run(main)
        case _:
            sys.exit(__doc__)
