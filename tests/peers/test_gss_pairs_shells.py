"""Both sides of GSSAPI and GSS-SPNEGO are ours, over every shell: LDAP's bind, then data.

Logins inside a layer are here too, and `LDAPServer` with these mechanisms.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from saslwrap import (
    AuthenticationError,
    GSSAPIServer,
    GSSSPNEGOServer,
    IntegrityError,
    NegotiationError,
    SASLError,
    SecurityProperties,
)
from saslwrap.anyio import SASLStream
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import LDAPServer, check_byte_stream, memory_stream_pair
from tests.gss_pairs import (
    LAYERS,
    PLACE,
    PROTECTIONS,
    SEALED,
    gss_contexts,
    gss_pair,
    write_ntlm_users,
)
from tests.peers.directory import ALICE, LARGE_DN, large_dn, large_value
from tests.peers.ldap_client import ONE_LEVEL, search_request
from tests.peers.shells import PATIENCE, Conversation, Shell

if TYPE_CHECKING:
    from pathlib import Path

    from saslwrap import SecurityContext
    from saslwrap.testing import MechanismPair

pytestmark = [pytest.mark.usefixtures("alice_ticket"), pytest.mark.timeout(120)]
pytest.importorskip("spnego")

VOLUME = 300_000
SEARCH_DONE = bytes.fromhex("65 07  0a 01 00  04 00  04 00")
"""The end of a result: searchResDone, success."""


@pytest.fixture(autouse=True)
def _ntlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ntlm_users(tmp_path, monkeypatch)


class Meeting:
    """A connection of ours on both sides; the server's has a thread of its own."""

    def __init__(self, client: Shell, server: Shell, pool: ThreadPoolExecutor) -> None:
        listener = server.listen()
        self.client = client.connect(listener.getsockname()[1])
        self.server = server.accept(listener)
        self._pool = pool
        self._message_id = 1

    def log_in(self, mechanisms: MechanismPair) -> tuple[SecurityContext | None, ...]:
        """Bind; raise what the client raises, or else the server. Give both contexts."""
        exchange = LDAPBind(mechanisms.client, self._message_id)
        factories = {mechanisms.server.name: lambda: mechanisms.server}
        serving = self._pool.submit(self.server.authenticate, LDAPBindServer(factories))
        try:
            self.client.authenticate(exchange)
        finally:
            self._message_id = exchange.next_message_id
            serving.exception(PATIENCE)
        serving.result(PATIENCE)
        return self.client.context, self.server.context

    def talk(self, volume: int = VOLUME) -> None:
        """Let the server send back what comes, while both are at it."""
        data = random.Random(volume).randbytes(volume)
        serving = self._pool.submit(give_back, self.server, volume)
        assert self.client.echoed(data[:1], data[1 : volume // 2], data[volume // 2 :]) == data
        serving.result(PATIENCE)


def give_back(conversation: Conversation, volume: int) -> None:
    while volume:
        data = conversation.receive()
        assert data, f"the end, {volume} octets too early"
        conversation.send(data)
        volume -= len(data)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def meeting(shell: Shell, pool: ThreadPoolExecutor) -> Meeting:
    return Meeting(shell, shell, pool)


def ssfs(contexts: tuple[SecurityContext | None, ...]) -> list[int]:
    return [context.ssf if context else 0 for context in contexts]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_each_protection(meeting: Meeting, protection: str) -> None:
    ssf = PROTECTIONS[protection][2]
    assert ssfs(meeting.log_in(gss_pair(protection))) == [ssf, ssf]
    meeting.talk()


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
@pytest.mark.parametrize("server_kind", Shell.KINDS)
@pytest.mark.parametrize("client_kind", ["anyio-asyncio", "protocol-asyncio", "socket"])
def test_every_shell_talks_with_every_shell(
    client_kind: str, server_kind: str, protection: str, pool: ThreadPoolExecutor
) -> None:
    with Shell(client_kind) as client, Shell(server_kind) as server:
        meeting = Meeting(client, server, pool)
        assert ssfs(meeting.log_in(gss_pair(protection))) == [256, 256]
        meeting.talk()


@pytest.mark.parametrize("maxbuf", [100, 1000])
def test_a_small_maximum(meeting: Meeting, maxbuf: int) -> None:
    small, large = SecurityProperties(max_buffer=maxbuf), SecurityProperties()
    pair = gss_pair("gssapi-256", client={"properties": large}, server={"properties": small})
    contexts = meeting.log_in(pair)
    assert [context.local_maxbuf for context in contexts if context] == [65536, maxbuf]
    meeting.talk(20_000)


def test_logins_inside_a_layer(meeting: Meeting) -> None:
    """Each layer takes the place of the one before, which is what its login travelled under."""
    seen: list[SecurityContext | None] = []
    for protection in ("gssapi-256", "spnego-256", "gssapi-1", "ntlm-128", "gssapi-256"):
        contexts = meeting.log_in(gss_pair(protection))
        assert ssfs(contexts) == [PROTECTIONS[protection][2]] * 2
        assert not any(context in seen for context in contexts)
        seen += contexts
        meeting.talk(5000)


@pytest.mark.parametrize("protection", ["gssapi-0", "spnego-0"])
def test_a_login_without_a_layer_leaves_the_one_in_force(meeting: Meeting, protection: str) -> None:
    before = meeting.log_in(gss_pair("gssapi-256"))
    assert meeting.log_in(gss_pair(protection)) == before
    meeting.talk(5000)


def test_a_layer_after_a_login_without_one(meeting: Meeting) -> None:
    assert meeting.log_in(gss_pair("gssapi-0")) == (None, None)
    meeting.talk(5000)
    assert ssfs(meeting.log_in(gss_pair("spnego-256"))) == [256, 256]
    meeting.talk(5000)


STRONGER = SecurityProperties(min_ssf=257, max_ssf=512)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_login_that_is_refused_by_policy_keeps_the_layer(meeting: Meeting, side: str) -> None:
    before = meeting.log_in(gss_pair("spnego-256"))
    with pytest.raises(NegotiationError):
        meeting.log_in(gss_pair("gssapi-256", **{side: {"properties": STRONGER}}))
    assert (meeting.client.context, meeting.server.context) == before
    meeting.talk(5000)


def test_a_login_after_one_that_was_refused(meeting: Meeting) -> None:
    wrong = {"username": r"EXAMPLE\alice", "password": "wrong"}
    with pytest.raises(AuthenticationError, match="the server refused GSS-SPNEGO"):
        meeting.log_in(gss_pair("ntlm-128", client=wrong))
    assert ssfs(meeting.log_in(gss_pair("gssapi-256"))) == [256, 256]
    meeting.talk(5000)


@pytest.mark.parametrize("protection", LAYERS)
def test_what_is_altered_ends_the_connection(
    shell: Shell, meeting: Meeting, protection: str
) -> None:
    meeting.log_in(gss_pair(protection))
    context = meeting.client.context
    assert context is not None
    context.seal(b"one that never arrives")
    with pytest.raises((SASLError, OSError)) as caught:  # noqa: PT012 - a shell may learn late
        meeting.client.send(b"one that comes too early")
        meeting.server.receive()
    assert isinstance(caught.value, IntegrityError)
    with pytest.raises((SASLError, OSError)):
        meeting.server.send(b"nothing more")


@pytest.mark.anyio
@pytest.mark.parametrize("protection", LAYERS)
async def test_the_contract_of_a_stream(protection: str) -> None:
    async def make_pair() -> tuple[SASLStream, SASLStream]:
        contexts = gss_contexts(protection)
        client, server = memory_stream_pair()
        return SASLStream(client, contexts.client), SASLStream(server, contexts.server)

    await check_byte_stream(make_pair)


# our own server


def make_server(properties: SecurityProperties = SEALED) -> LDAPServer:
    entries = {
        "dc=example,dc=com": {"dc": ["example"]},
        LARGE_DN: {"ou": ["large"]},
        **{large_dn(number): {"description": [large_value(number)]} for number in range(200)},
    }
    options: dict[str, Any] = {**PLACE, "properties": properties}
    return LDAPServer(
        entries,
        mechanisms={
            "GSSAPI": partial(GSSAPIServer, **options),
            "GSS-SPNEGO": partial(GSSSPNEGOServer, ntlm=True, **options),
        },
    )


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with make_server(SecurityProperties(min_ssf=0)).in_thread() as server:
        yield server.port


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_our_ldap_server(shell: Shell, port: int, protection: str) -> None:
    conversation = shell.connect(port)
    for number, name in enumerate((protection, "spnego-256", protection)):
        if number and protection.endswith("-0"):
            break
        exchange = LDAPBind(gss_pair(name).client, 10 * number + 1)
        conversation.authenticate(exchange)
        assert ssfs((conversation.context,)) == [PROTECTIONS[name][2]]
        search = search_request(exchange.next_message_id, LARGE_DN, scope=ONE_LEVEL)
        conversation.send(search)
        found = conversation.receive_until(SEARCH_DONE)
        assert all(large_value(entry).encode() in found for entry in range(200))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_our_ldap_server_on_each_backend(backend: str) -> None:
    with make_server().in_thread(backend) as server, Shell("socket") as shell:
        conversation = shell.connect(server.port)
        for protection in ("gssapi-256", "spnego-256", "ntlm-128"):
            conversation.authenticate(LDAPBind(gss_pair(protection).client))
            assert ssfs((conversation.context,)) == [PROTECTIONS[protection][2]]


def test_a_client_below_the_servers_policy() -> None:
    none = {"properties": SecurityProperties(min_ssf=0, max_ssf=0)}
    with make_server().in_thread() as server, Shell("anyio-asyncio") as shell:
        conversation = shell.connect(server.port)
        with pytest.raises(NegotiationError, match="wanted: no layer"):
            conversation.authenticate(LDAPBind(gss_pair("gssapi-0", client=none).client))
        with pytest.raises(NegotiationError, match="the server wants more protection"):
            conversation.authenticate(LDAPBind(gss_pair("spnego-0", client=none).client, 10))
        conversation.authenticate(LDAPBind(gss_pair("gssapi-256").client, 20))
        assert conversation.context is not None


def test_ntlm_is_refused_where_it_is_not_accepted(pool: ThreadPoolExecutor) -> None:
    with Shell("anyio-asyncio") as shell:
        meeting = Meeting(shell, shell, pool)
        with pytest.raises(SASLError, match="the server"):
            meeting.log_in(gss_pair("ntlm-128", server={"ntlm": False}))
        meeting.log_in(gss_pair("spnego-256", client={"username": ALICE.username}))
        meeting.talk(5000)
