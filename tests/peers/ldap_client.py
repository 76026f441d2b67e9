"""An LDAP client of few operations over any byte stream, sealed or not: a tool to test layers with.

A request is made apart from its sending, with a message id of the caller's choice, so that one task
can send what another one receives the answers to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from saslwrap.protocols.ldap_messages import ResultCode, decode, encode, measure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from anyio.abc import ByteStream

    from saslwrap.protocols.ldap_messages import Message

BASE = 0
ONE_LEVEL = 1
SUBTREE = 2

ANYTHING: Final = ("present", b"objectClass")
"""The filter that every entry meets."""

WHO_AM_I = b"1.3.6.1.4.1.4203.1.11.3"
"""RFC 4532."""

LONGEST_MESSAGE = 1 << 24


@dataclass(eq=False, slots=True)
class Found:
    """What a search brought: by DN, then by attribute; and its result code once it is complete."""

    entries: dict[str, dict[str, list[bytes]]] = field(default_factory=dict)
    code: int | None = None

    def values(self, attribute: str = "description") -> dict[str, str]:
        """The only value of an attribute, by DN."""
        return {dn: _only(entry[attribute]).decode() for dn, entry in self.entries.items()}


def search_request(
    message_id: int,
    base: str,
    *,
    scope: int = BASE,
    matching: tuple[str, Any] = ANYTHING,
    attributes: Collection[str] = (),
) -> bytes:
    value = {
        "baseObject": base.encode(),
        "scope": scope,
        "derefAliases": 0,
        "sizeLimit": 0,
        "timeLimit": 0,
        "typesOnly": False,
        "filter": matching,
        "attributes": [name.encode() for name in attributes],
    }
    return encode(message_id, "searchRequest", value)


def abandon_request(message_id: int, abandoned: int) -> bytes:
    return encode(message_id, "abandonRequest", abandoned)


def value_is(attribute: str, value: str) -> tuple[str, Any]:
    """A filter."""
    assertion = {"attributeDesc": attribute.encode(), "assertionValue": value.encode()}
    return "equalityMatch", assertion


def value_contains(attribute: str, part: str) -> tuple[str, Any]:
    """A filter."""
    return "substrings", {"type": attribute.encode(), "substrings": [("any", part.encode())]}


def messages(buffer: bytearray) -> Iterator[Message]:
    """Take whole messages from the front of `buffer`, as long as there are any."""
    while (length := measure(buffer, LONGEST_MESSAGE)) is not None and length <= len(buffer):
        message = bytes(buffer[:length])
        del buffer[:length]
        yield decode(message)


class LDAPClient:
    """Requests and their answers over `stream`, which is the caller's to close."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream: Final = stream
        self._buffer = bytearray()
        self._ids = count(100)

    async def receive(self) -> Message:
        """The next message. Loses nothing when it is cancelled."""
        while (message := next(messages(self._buffer), None)) is None:
            received = await self.stream.receive()
            assert received, "the end"
            self._buffer += received
        return message

    async def collect(
        self, message_ids: Collection[int], *, abandoned: Collection[int] = ()
    ) -> dict[int, Found]:
        """What the searches of these ids bring, once all are complete; those abandoned may be.

        References to other servers are left out: Active Directory sends them from its root.
        """
        found = {number: Found() for number in (*message_ids, *abandoned)}
        incomplete = set(message_ids)
        while incomplete:
            message = await self.receive()
            search, value = found[message.message_id], message.value
            if message.operation == "searchResEntry":
                assert search.code is None
                search.entries[value["objectName"].decode()] = {
                    attribute["type"].decode(): attribute["vals"]
                    for attribute in value["attributes"]
                }
            elif message.operation != "searchResRef":
                assert message.operation == "searchResDone"
                search.code = value["resultCode"]
                incomplete.discard(message.message_id)
        return found

    async def search(
        self,
        base: str,
        *,
        scope: int = BASE,
        matching: tuple[str, Any] = ANYTHING,
        attributes: Collection[str] = (),
    ) -> Found:
        """One search, from the request to success."""
        number = next(self._ids)
        await self.stream.send(
            search_request(number, base, scope=scope, matching=matching, attributes=attributes)
        )
        found = (await self.collect([number]))[number]
        assert found.code == ResultCode.success
        return found

    async def who_am_i(self) -> str:
        """The server's idea of who we are: a DN, `""` for nobody."""
        number = next(self._ids)
        await self.stream.send(encode(number, "extendedReq", {"requestName": WHO_AM_I}))
        message = await self.receive()
        assert (message.message_id, message.operation) == (number, "extendedResp")
        assert message.value["resultCode"] == ResultCode.success
        identity: bytes = message.value["responseValue"]
        return identity.decode().removeprefix("dn:")

    async def unbind(self) -> None:
        """Say goodbye: the server closes the connection."""
        await self.stream.send(encode(next(self._ids), "unbindRequest", None))


def _only(values: list[bytes]) -> bytes:
    (value,) = values
    return value
