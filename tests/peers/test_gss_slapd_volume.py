"""Much, and both ways at once, through the layers of GSSAPI and GSS-SPNEGO, against slapd."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from typing import TYPE_CHECKING, TypeAlias

import pytest
from anyio import Semaphore, create_task_group, to_thread

from tests.peers.directory import (
    BASE_DN,
    GENERATED_DN,
    LARGE_DN,
    LARGE_ENTRIES,
    NEEDLE,
    generated_dn,
    generated_value,
    large_dn,
    large_value,
)
from tests.peers.gss_client import MECHANISMS, bind, runs, session, tokens
from tests.peers.ldap_client import ONE_LEVEL, LDAPClient, search_request
from tests.peers.support import program, require_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.peers.slapd import Slapd
    from tests.peers.wiretap import WiretapFactory

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("alice_ticket"),
    pytest.mark.parametrize("mechanism", MECHANISMS),
    pytest.mark.parametrize(
        "anyio_backend", [("asyncio", {}), ("trio", {})], indirect=True, ids=["asyncio", "trio"]
    ),
]

Directory: TypeAlias = "dict[str, dict[str, list[bytes]]]"

Answer: TypeAlias = "tuple[str | None, object]"
"""An operation, and what it says."""

VOLUME = 20 << 20
BATCH = 100
AT_ONCE = 800
"""Outstanding searches; slapd closes a connection that has 1000 (`conn_max_pending_auth`)."""


def slapcat(server: Slapd) -> Directory:
    """The whole directory, operational attributes included, as the server's own tool has it."""
    require_program("slapcat")
    done = subprocess.run(
        [program("slapcat"), "-f", server.folder / "slapd.conf", "-o", "ldif_wrap=no"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    entries: Directory = {}
    for record in done.stdout.strip().split(b"\n\n"):
        entry: dict[str, list[bytes]] = {}
        for line in record.splitlines():
            name, value = _attribute(line)
            entry.setdefault(name, []).append(value)
        entries[entry.pop("dn")[0].decode()] = entry
    return entries


def _attribute(line: bytes) -> tuple[str, bytes]:
    name, _, value = line.partition(b":")
    if value.startswith(b": "):
        return name.decode(), b64decode(value[2:])
    return name.decode(), value[1:]


def children(directory: Directory, parent: str) -> Directory:
    return {dn: entry for dn, entry in directory.items() if dn.partition(",")[2] == parent}


async def test_twenty_mebibytes(gss_slapd: Slapd, wiretap: WiretapFactory, mechanism: str) -> None:
    directory = await to_thread.run_sync(slapcat, gss_slapd)
    names = sorted({name for entry in directory.values() for name in entry})
    tap = wiretap(gss_slapd.address, gss_slapd.port)
    async with session(tap, bind(mechanism)) as client:
        for base, times in ((GENERATED_DN, 1), (LARGE_DN, 480)):
            numbers = range(1000, 1000 + times)
            for number in numbers:
                request = search_request(number, base, scope=ONE_LEVEL, attributes=names)
                await client.stream.send(request)
            found = await client.collect(numbers)
            expected = children(directory, base)
            assert len(expected) == (10_000 if base == GENERATED_DN else LARGE_ENTRIES)
            assert all(found[number].entries == expected for number in numbers)
    await to_thread.run_sync(tap.wait_closed)
    wire = tap.server_to_client
    assert len(wire) > VOLUME
    assert NEEDLE.encode() not in wire
    assert BASE_DN.encode() not in wire
    assert len(runs(tokens(wire, mechanism))) == 1


async def test_ten_thousand_searches(gss_slapd: Slapd, mechanism: str) -> None:
    window = Semaphore(AT_ONCE)

    async def send() -> None:
        for first in range(0, 10_000, BATCH):
            for _ in range(BATCH):
                await window.acquire()
            await client.stream.send(b"".join(map(small, range(first, first + BATCH))))

    async with session(gss_slapd, bind(mechanism)) as client, create_task_group() as tasks:
        tasks.start_soon(send)
        answers = await collect(client, 10_000, window)
    assert answers == {number: small_answer(number) for number in range(10_000)}


def small(number: int) -> bytes:
    return search_request(1000 + number, generated_dn(number), attributes=["description"])


def small_answer(number: int) -> list[Answer]:
    """An entry, then the end."""
    value = [{"type": b"description", "vals": [generated_value(number).encode()]}]
    entry = {"objectName": generated_dn(number).encode(), "attributes": value}
    return [("searchResEntry", entry), ("searchResDone", 0)]


async def collect(client: LDAPClient, searches: int, window: Semaphore) -> dict[int, list[Answer]]:
    """What each of so many searches brings, in the order in which it came."""
    answers: dict[int, list[Answer]] = {}
    ended = 0
    while ended < searches:
        message = await client.receive()
        done = message.operation == "searchResDone"
        value = message.value["resultCode"] if done else message.value
        answers.setdefault(message.message_id - 1000, []).append((message.operation, value))
        if done:
            ended += 1
            window.release()
    return answers


async def test_one_task_sends_while_another_receives(gss_slapd: Slapd, mechanism: str) -> None:
    """Requests as long as their answers: neither direction ever waits for the other."""
    numbers = range(1000, 1256)

    async def send() -> None:
        for number in numbers:
            await client.stream.send(long_request(number))

    async with session(gss_slapd, bind(mechanism)) as client, create_task_group() as tasks:
        tasks.start_soon(send)
        found = await client.collect(numbers)
    for number in numbers:
        wanted = number % LARGE_ENTRIES
        assert found[number].values() == {large_dn(wanted): large_value(wanted)}


def long_request(number: int) -> bytes:
    """A search for one large entry, of 4 KiB and more."""
    attributes: Sequence[str] = ["description", *(f"name-{n:04}" for n in range(400))]
    return search_request(number, large_dn(number % LARGE_ENTRIES), attributes=attributes)
