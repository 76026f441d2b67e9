"""Log in to a directory with DIGEST-MD5 and show what the wire carries.

Without --url the directory runs in this process. With it, the same is done against a real server.
"""

from __future__ import annotations

import argparse
import getpass
import io
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream

from saslwrap.anyio import SASLAttribute, SASLStream, authenticate
from saslwrap.cli.picture import Picture, frame_parts
from saslwrap.cli.tap import Tap, next_frame, take
from saslwrap.context import SecurityContext
from saslwrap.errors import UsageError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.properties import QOP, SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import Message, decode, encode, measure, result_name
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import PROTECTIONS, properties_for

__all__ = ["add_arguments", "run"]

LIMIT = 16 * 1024 * 1024
WHO_AM_I = b"1.3.6.1.4.1.4203.1.11.3"  # RFC 4532
TIMEOUT = 30

#: The client's proof: enough to try passwords on, so not for the screen.
_PROOF = re.compile(r"\b(response=)[0-9a-f]{32}")

ENTRY = "uid=alice,dc=example,dc=com"
USER, PASSWORD = "alice", "s3cret-Pa55"
ENTRIES = {
    "dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]},
    ENTRY: {
        "objectClass": ["inetOrgPerson"],
        "uid": ["alice"],
        "cn": ["Alice Liddell"],
        "description": ["Nobody on the wire can read this sentence."],
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell argparse what the demo takes."""
    parser.add_argument("--url", help="a real server, as ldap://host[:port]")
    parser.add_argument(
        "--user", help="who logs in there; the password is asked for, or read from standard input"
    )
    parser.add_argument("--realm", help="the user's realm (default: the server's first)")
    parser.add_argument("--base", help="the entry to search below (default: the server's first)")
    parser.add_argument(
        "--protection",
        choices=["auth", *PROTECTIONS],
        help="exactly this protection (default: what the library takes by itself)",
    )
    parser.add_argument(
        "--max-buffer", type=int, default=65536, metavar="OCTETS", help="our maxbuf (%(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Show it.

    :raises SASLError: the login failed
    :raises OSError: the connection failed
    """
    plan = _plan(options)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal cannot show
    try:
        anyio.run(_show, plan, Picture())
    except TimeoutError:
        raise TimeoutError(f"the server said nothing for {TIMEOUT} s") from None
    except (anyio.BrokenResourceError, anyio.EndOfStream) as error:
        reason = error.__cause__ or "the server closed the connection"
        raise ConnectionError(str(reason)) from error


@dataclass(frozen=True)
class _Plan:
    host: str | None  # None: the server in this process
    port: int
    user: str
    password: str
    realm: str | None
    base: bytes | None
    attributes: Sequence[bytes]  # none: all
    properties: SecurityProperties

    def __repr__(self) -> str:
        return f"<plan for {self.user} at {self.host}>"


def _plan(options: argparse.Namespace) -> _Plan:
    properties = SecurityProperties(max_buffer=options.max_buffer)
    if options.protection:
        properties = properties_for(options.protection, max_buffer=options.max_buffer)
    base = None if options.base is None else options.base.encode(errors="surrogateescape")
    if options.url is None:
        if options.user is not None or options.realm is not None:
            raise UsageError("--user and --realm go with --url; the demo's own server knows alice")
        shown = base or ENTRY.encode()
        return _Plan(None, 0, USER, PASSWORD, None, shown, [b"description"], properties)
    if not options.user:
        raise UsageError("--url needs --user")
    host, port = _address(options.url)
    password = _password(f"Password of {options.user}: ")
    return _Plan(host, port, options.user, password, options.realm, base, [], properties)


def _address(url: str) -> tuple[str, int]:
    with suppress(ValueError):  # of a port that is none, of half a bracket
        parts = urlsplit(url)
        if parts.scheme == "ldap" and parts.hostname:
            return parts.hostname, 389 if parts.port is None else parts.port
    raise UsageError(f"{url!r} is no ldap://host[:port] (over TLS there is no layer to show)")


def _password(prompt: str) -> str:
    with suppress(EOFError):
        if sys.stdin and sys.stdin.isatty():
            return getpass.getpass(prompt)
        if line := sys.stdin and sys.stdin.readline():
            return line.rstrip("\n")
    raise UsageError("no password was given; it is read from the terminal, or from standard input")


async def _show(plan: _Plan, picture: Picture) -> None:
    async with AsyncExitStack() as stack:
        host, port = plan.host, plan.port
        if host is None:
            picture.title("a directory behind DIGEST-MD5, and its client, in one process")
            server = LDAPServer(ENTRIES, {USER: PASSWORD}, properties=_served(plan.properties))
            port = (await stack.enter_async_context(server)).port
        else:
            picture.title(f"{plan.user} at {host}:{port}")
        with anyio.fail_after(TIMEOUT):
            transport = await _connect(host or "127.0.0.1", port)
            session = _Session(Tap(transport), plan, picture)
            async with transport, await session.log_in() as stream:
                await session.work(stream)


async def _connect(host: str, port: int) -> ByteStream:
    try:
        return await anyio.connect_tcp(host, port)
    except OSError as error:
        raise ConnectionError(f"no connection to {host}:{port}: {error}") from error


def _served(properties: SecurityProperties) -> SecurityProperties:
    return SecurityProperties(
        min_ssf=properties.min_ssf, max_ssf=properties.max_ssf, ciphers=properties.ciphers
    )


class _Session:
    """One connection: what it does, it shows."""

    def __init__(self, tap: Tap, plan: _Plan, picture: Picture) -> None:
        self._tap = tap
        self._plan = plan
        self._picture = picture
        self._received = bytearray()  # plaintext, a part of a message
        self._qop: QOP | None = None
        self._message_id = 0

    async def log_in(self) -> SASLStream:
        plan = self._plan
        mechanism = DigestMD5Client(
            plan.user,
            plan.password,
            service="ldap",
            host=plan.host or "localhost",
            realm=plan.realm,
            properties=plan.properties,
        )
        bind = LDAPBind(mechanism)
        try:
            stream = await authenticate(self._tap, bind)
        finally:
            self._show_login()
        self._message_id = bind.next_message_id - 1
        self._show_layer(stream.extra(SASLAttribute.context))
        return stream

    def _show_login(self) -> None:
        """Show the login, which travels in clear; what came behind it stays in the tap."""
        self._picture.title("the login, in clear")
        while self._tap.sent:
            self._show_bind("client to server", self._tap.sent)
            if self._tap.received:
                self._show_bind("server to client", self._tap.received)

    def _show_bind(self, direction: str, wire: bytearray) -> None:
        message = _take_message(wire)
        if message is None:
            return
        credentials = b""
        if message.operation == "bindRequest":
            method, value = message.value["authentication"]
            what = f"{method}, {value['mechanism'].decode()}"
            credentials = value.get("credentials", b"")
        else:
            what = result_name(message.value["resultCode"])
            credentials = message.value.get("serverSaslCreds", b"")
        self._picture.line(f"{direction}: {message.operation} {what}", "bold")
        if credentials:
            text = credentials.decode("utf-8", "replace")
            self._picture.line("  " + _PROOF.sub(r"\1...", text), "dim")

    def _show_layer(self, context: SecurityContext | None) -> None:
        if context is None:
            self._picture.title("no layer: all that follows is in clear")
        else:
            self._qop = context.qop
            cipher = f" with {context.cipher}" if context.cipher else ""
            self._picture.title(f"the layer: {context.qop}{cipher}, SSF {context.ssf}")
            self._picture.line(
                f"a message has at most {context.stream_sizes.maximum_message} octets, "
                f"a token that we receive {context.local_maxbuf}"
            )
        self._picture.legend(self._qop)

    async def work(self, stream: SASLStream) -> None:
        """Ask who we are, find the base if none is given, search below it."""
        await self._ask(stream, "who am I?", "extendedReq", {"requestName": WHO_AM_I})
        base = self._plan.base
        if base is None:
            found = await self._ask(stream, "what do you hold?", "searchRequest", _root_search())
            base = _first_value(found, b"namingcontexts") or b""
        question = f"what is at {base.decode('utf-8', 'replace') or 'the root'}?"
        await self._ask(
            stream, question, "searchRequest", _subtree_search(base, self._plan.attributes)
        )
        await self._send(stream, "goodbye", "unbindRequest", None)

    async def _ask(
        self, stream: SASLStream, question: str, operation: str, value: object
    ) -> list[Message]:
        await self._send(stream, question, operation, value)
        answers: list[Message] = []
        while not answers or answers[-1].operation not in ("extendedResp", "searchResDone"):
            plain = await stream.receive()
            wire = take(self._tap.received) if self._qop is None else next_frame(self._tap.received)
            self._received += plain
            arrived = list(iter(lambda: _take_message(self._received), None))
            answers += arrived
            self._show("server to client", _names(arrived), plain, wire, "the application reads")
        return answers

    async def _send(self, stream: SASLStream, question: str, operation: str, value: object) -> None:
        self._message_id += 1
        plain = encode(self._message_id, operation, value)
        await stream.send(plain)
        wire = take(self._tap.sent)
        title = f"{operation}: {question}"
        self._show("client to server", title, plain, wire, "the application writes")

    def _show(self, direction: str, what: str, plain: bytes, wire: bytes, writes: str) -> None:
        parts = frame_parts(wire, self._qop)
        self._picture.beside(f"{direction}: {what}", plain, parts, writes=writes)


def _take_message(buffer: bytearray) -> Message | None:
    length = measure(buffer, LIMIT)
    if length is None or length > len(buffer):
        return None
    message = decode(bytes(buffer[:length]))
    del buffer[:length]
    return message


def _names(messages: list[Message]) -> str:
    return ", ".join(str(message.operation) for message in messages) or "a part of a message"


def _root_search() -> dict[str, object]:
    return _search(b"", scope=0, attributes=[b"namingContexts"])


def _subtree_search(base: bytes, attributes: Sequence[bytes]) -> dict[str, object]:
    return _search(base, scope=2, attributes=attributes)


def _search(base: bytes, *, scope: int, attributes: Sequence[bytes]) -> dict[str, object]:
    return {
        "baseObject": base,
        "scope": scope,
        "derefAliases": 0,
        "sizeLimit": 3,
        "timeLimit": 0,
        "typesOnly": False,
        "filter": ("present", b"objectClass"),
        "attributes": list(attributes),
    }


def _first_value(messages: list[Message], name: bytes) -> bytes | None:
    for message in messages:
        if message.operation == "searchResEntry":
            for attribute in message.value["attributes"]:
                if attribute["type"].lower() == name and attribute["vals"]:
                    return bytes(attribute["vals"][0])
    return None
