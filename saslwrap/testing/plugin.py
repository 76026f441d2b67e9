"""The pytest plugin: pairs, servers and faults as fixtures. pytest loads it by itself.

    async def test_my_client(ldap_server):
        async with ldap_server(users={"alice": "s3cret"}) as server:
            await my_client.search(server.url, "alice", "s3cret")

    def test_my_blocking_client(ldap_server):
        with ldap_server().in_thread() as server:
            my_client.search(server.url, "alice", "s3cret")

    @pytest.fixture
    def directory(ldap_server):  # for tests of both kinds
        with ldap_server().in_thread() as server:
            yield server

No fixture is a coroutine: each hands out a function, and what that makes is entered by the test, or
by a fixture of the test's own. So it does not matter what runs the test's coroutine: pytest-asyncio
in either mode, anyio's plugin on any backend, or `asyncio.run` in a test that is none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:  # each fixture loads what it needs: every run of pytest loads this file
    from saslwrap.properties import SecurityProperties
    from saslwrap.testing import (
        Fault,
        IMAPServer,
        LDAPServer,
        MechanismPair,
        Message,
        StreamPair,
    )

__all__ = [
    "Faults",
    "MakeIMAPServer",
    "MakeLDAPServer",
    "MakePair",
    "faults",
    "imap_server",
    "ldap_server",
    "sasl_pair",
]

#: Who may log in to a server that was not told.
USERS: Mapping[str, str] = {"alice": "s3cret", "bob": "hunter2"}

#: What a directory holds that was not told.
ENTRIES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]},
    "cn=Alice,dc=example,dc=com": {
        "objectClass": ["person"],
        "cn": ["Alice"],
        "sn": ["Liddell"],
    },
}

#: What mailboxes hold that were not told.
MAILBOXES: Mapping[str, Sequence[bytes]] = {
    "INBOX": [b"From: bob@example.com\r\nSubject: hello\r\n\r\nHow are you?\r\n"],
}

MakePair: TypeAlias = "Callable[..., AbstractAsyncContextManager[StreamPair]]"
MakeLDAPServer: TypeAlias = "Callable[..., LDAPServer]"
MakeIMAPServer: TypeAlias = "Callable[..., IMAPServer]"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--sasl-seed`."""
    group = parser.getgroup("saslwrap")
    group.addoption(
        "--sasl-seed",
        type=int,
        default=0,
        metavar="N",
        help="what the random faults of the fixture `faults` are drawn from (default: %(default)s)",
    )


@pytest.fixture
def sasl_pair() -> MakePair:
    """Both ends of a sealed connection, in memory.

    `async with sasl_pair("rc4") as pair`. It takes what `saslwrap.testing.stream_pair` takes, both
    sides of a login of your own among it. Both streams are closed at the end.
    """
    from saslwrap.testing import stream_pair

    @asynccontextmanager
    async def make(
        protection: str | SecurityProperties | MechanismPair = "rc4", **options: Any
    ) -> AsyncIterator[StreamPair]:
        pair = stream_pair(protection, **options)
        async with pair.client, pair.server:
            yield pair

    return make


@pytest.fixture
def ldap_server() -> MakeLDAPServer:
    """A directory that seals.

    `async with ldap_server() as server`, or `with ldap_server().in_thread()`. It takes what
    `saslwrap.testing.LDAPServer` takes. Without `entries` there is Alice, in `dc=example,dc=com`;
    without `users` there are alice (s3cret) and bob (hunter2).
    """
    from saslwrap.mechanisms.forgetful import forgetful
    from saslwrap.testing import LDAPServer

    @forgetful
    def make(
        entries: Mapping[str, Mapping[str, Sequence[str | bytes]]] = ENTRIES,
        users: Mapping[str, str] = USERS,
        **options: Any,
    ) -> LDAPServer:
        return LDAPServer(entries, users, **options)

    return make


@pytest.fixture
def imap_server() -> MakeIMAPServer:
    """Mailboxes that seal.

    `async with imap_server() as server`, or `with imap_server().in_thread()`. It takes what
    `saslwrap.testing.IMAPServer` takes. Without `mailboxes` there is a message of Bob's in INBOX;
    without `users` there are alice (s3cret) and bob (hunter2).
    """
    from saslwrap.mechanisms.forgetful import forgetful
    from saslwrap.testing import IMAPServer

    @forgetful
    def make(
        mailboxes: Mapping[str, Iterable[bytes | Message]] = MAILBOXES,
        users: Mapping[str, str] = USERS,
        **options: Any,
    ) -> IMAPServer:
        return IMAPServer(mailboxes, users, **options)

    return make


class Faults:
    """Makes faults by name; the same seed makes the same ones, in their order.

    :ivar seed: `--sasl-seed`
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._made = 0

    def __call__(self, name: str) -> Fault:
        """Make one: a key of `saslwrap.testing.SEGMENTATIONS` or `FAULTS`."""
        from saslwrap.testing import fault

        self._made += 1
        return fault(name, self.seed + self._made - 1)

    def __repr__(self) -> str:
        return f"<Faults seed={self.seed}>"


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """What goes wrong on the way, by name.

    `faults("random sizes")`, drawn from `--sasl-seed`.
    """
    return Faults(request.config.getoption("--sasl-seed"))
