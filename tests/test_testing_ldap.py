from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading
from typing import Any, ClassVar

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    Event,
    connect_tcp,
    create_task_group,
    fail_after,
)

import saslwrap.testing.ldap
import saslwrap.testing.server
from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    NegotiationError,
    SecurityProperties,
    ServerMechanism,
    UsageError,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import (
    Message,
    ResultCode,
    decode,
    encode,
    measure,
)
from saslwrap.testing import LDAPServer
from saslwrap.testing.ldap_directory import Directory, DirectoryError, parse_dn
from saslwrap.testing.pairs import properties_for
from saslwrap.testing.streams import MemoryStream, memory_stream_pair
from tests.ldap_bed import (
    ALICE,
    ANY_LAYER,
    ANYTHING,
    BASE,
    BOB,
    ENTRIES,
    ONE,
    PAGED_RESULTS,
    PASSWORD,
    PEOPLE,
    ROOT,
    START_TLS,
    SUBTREE,
    USERS,
    WHO_AM_I,
    Client,
    connected,
    logged_in,
    make_server,
    raw,
    search_request,
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


# Before a login


@pytest.mark.anyio
async def test_root_dse() -> None:
    async with connected(make_server()) as client:
        entries, done = await client.search("", BASE, ANYTHING, [b"*", b"+"])
        assert done["resultCode"] == ResultCode.success
        assert entries == {
            "": {
                "objectClass": [b"top"],
                "namingContexts": [ROOT.encode(), b"o=Elsewhere"],
                "supportedLDAPVersion": [b"3"],
                "supportedSASLMechanisms": [b"DIGEST-MD5"],
                "supportedExtension": [WHO_AM_I],
                "supportedControl": [PAGED_RESULTS],
            }
        }
        entries, _ = await client.search("", BASE, ANYTHING, [b"SUPPORTEDsaslMechanisms"])
        assert list(entries[""]) == ["supportedSASLMechanisms"]
        entries, _ = await client.search("")
        assert list(entries[""]) == ["objectClass"]
        entries, _ = await client.search("", BASE, ("not", ANYTHING))
        assert entries == {}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "request_", [(ROOT,), ("", ONE), ("", SUBTREE), ("o=nowhere",), ("no dn",)], ids=str
)
async def test_a_search_needs_a_login(request_: tuple[Any, ...]) -> None:
    async with connected(make_server()) as client:
        entries, done = await client.search(*request_)
        assert (entries, done["resultCode"]) == ({}, ResultCode.strongerAuthRequired)
        assert done["matchedDN"] == b""


@pytest.mark.anyio
async def test_other_operations_need_a_login() -> None:
    async with connected(make_server()) as client:
        assert (await client.extended(WHO_AM_I))["resultCode"] == ResultCode.strongerAuthRequired
        await client.stream.send(raw(0x4A, b"cn=x"))
        answer = b"\x0a\x01\x08\x04\x00\x04\x17log in first, with SASL"
        assert await client.stream.receive() == raw(0x6B, answer)


@pytest.mark.anyio
@pytest.mark.parametrize("password", [b"", PASSWORD.encode()], ids=["anonymous", "simple"])
async def test_a_simple_bind_is_refused(password: bytes) -> None:
    async with connected(make_server()) as client:
        bind = {"version": 3, "name": ALICE.encode(), "authentication": ("simple", password)}
        answer = await client.ask("bindRequest", bind)
        assert answer.operation == "bindResponse"
        assert answer.value["resultCode"] == ResultCode.strongerAuthRequired
        _, done = await client.search(ROOT)
        assert done["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()


@pytest.mark.anyio
async def test_what_was_sent_behind_a_refused_bind_is_answered() -> None:
    async with connected(make_server()) as client:
        bind = {"version": 3, "name": b"", "authentication": ("simple", b"")}
        await client.stream.send(
            encode(1, "bindRequest", bind) + encode(2, "searchRequest", search_request(""))
        )
        answers = [(await client.receive()).operation for _ in range(3)]
        assert answers == ["bindResponse", "searchResEntry", "searchResDone"]


# Logins


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("protection", "ssf"),
    [
        ("auth", 0),
        ("auth-int", 1),
        ("rc4-40", 40),
        ("des", 55),
        ("rc4-56", 56),
        ("3des", 112),
        ("rc4", 128),
    ],
)
async def test_each_protection(protection: str, ssf: int) -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in(properties=properties_for(protection))
        assert client.stream.extra(SASLAttribute.ssf) == ssf
        entries, done = await client.search(ALICE)
        assert done["resultCode"] == ResultCode.success
        assert list(entries) == [ALICE]
        assert entries[ALICE]["jpegPhoto"] == [b"\xff\xd8\xff"]


@pytest.mark.anyio
@pytest.mark.parametrize("username", USERS, ids=ascii)
async def test_who_am_i(username: str) -> None:
    async with connected(make_server()) as client:
        await client.log_in(username, USERS[username])
        answer = await client.extended(WHO_AM_I)
        assert answer["responseValue"].decode() == f"u:{username}"


@pytest.mark.anyio
async def test_an_authzid_is_shown() -> None:
    async with connected(make_server()) as client:
        await client.log_in(authzid="u:bob")
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:bob"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("username", "password", "realm"),
    [
        ("alice", "wrong", None),
        ("nobody", PASSWORD, None),
        ("alice", PASSWORD, "elsewhere"),
    ],
    ids=["password", "user", "realm"],
)
async def test_a_refused_login(username: str, password: str, realm: str | None) -> None:
    async with connected(make_server()) as client:
        with pytest.raises(AuthenticationError, match=r"invalidCredentials \(49\)$"):
            await client.log_in(username, password, realm=realm)
        entries, _ = await client.search("")
        assert list(entries) == [""]
        _, done = await client.search(ROOT)
        assert done["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_policy_is_the_servers_too() -> None:
    async with connected(make_server()) as client:
        with pytest.raises(NegotiationError):
            await client.log_in(properties=properties_for("auth-int"))
        await client.log_in()


@pytest.mark.anyio
async def test_a_realm_and_a_host_of_ones_own() -> None:
    server = make_server(realm="lab.test", host="ldap.lab.test")
    async with connected(server) as client:
        with pytest.raises(AuthenticationError):
            await client.log_in()
        mechanism = DigestMD5Client(
            "alice", PASSWORD, service="ldap", host="LDAP.lab.test", realm="lab.test"
        )
        await authenticate(client.stream, LDAPBind(mechanism))


class Anyone(ServerMechanism):
    name: ClassVar[str] = "ANYONE"

    def _step(self, message: bytes | None) -> bytes | None:
        if message == b"bug":
            raise RuntimeError("a bug")
        self.authcid = (message or b"").decode()
        self._finish(None)
        return None


def anyone_bind(name: bytes) -> dict[str, Any]:
    sasl = {"mechanism": b"ANYONE", "credentials": name}
    return {"version": 3, "name": b"", "authentication": ("sasl", sasl)}


@pytest.mark.anyio
async def test_mechanisms_of_ones_own() -> None:
    async with connected(make_server(mechanisms={"ANYONE": Anyone})) as client:
        entries, _ = await client.search("", BASE, ANYTHING, [b"+"])
        assert entries[""]["supportedSASLMechanisms"] == [b"ANYONE"]
        answer = await client.ask("bindRequest", anyone_bind(b"zoe"))
        assert answer.value["resultCode"] == ResultCode.success
        assert (await client.extended(WHO_AM_I))["responseValue"] == b"u:zoe"
        with pytest.raises(NegotiationError, match="ANYONE"):
            await client.log_in()


@pytest.mark.anyio
async def test_a_server_without_mechanisms() -> None:
    async with connected(make_server(mechanisms={})) as client:
        entries, _ = await client.search("", BASE, ANYTHING, [b"+"])
        assert entries[""]["supportedSASLMechanisms"] == []


# A second login under a layer


@pytest.mark.anyio
async def test_a_rebind_replaces_the_layer() -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in()
        old = client.stream.extra(SASLAttribute.context)
        await client.log_in("юлия", USERS["юлия"], properties_for("auth-int"))
        assert client.stream.extra(SASLAttribute.context) is not old
        assert client.stream.extra(SASLAttribute.ssf) == 1
        assert (await client.extended(WHO_AM_I))["responseValue"].decode() == "u:юлия"


@pytest.mark.anyio
async def test_a_rebind_without_a_layer_leaves_the_old_one() -> None:
    async with connected(make_server(properties=ANY_LAYER)) as client:
        await client.log_in()
        old = client.stream.extra(SASLAttribute.context)
        await client.log_in(properties=properties_for("auth"))
        assert client.stream.extra(SASLAttribute.context) is old
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_a_refused_rebind_leaves_the_layer_and_nobody() -> None:
    async with logged_in() as client:
        old = client.stream.extra(SASLAttribute.context)
        with pytest.raises(AuthenticationError):
            await client.log_in(password="wrong")
        assert client.stream.extra(SASLAttribute.context) is old
        _, done = await client.search(ROOT)
        assert done["resultCode"] == ResultCode.strongerAuthRequired
        await client.log_in()
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_a_simple_rebind_is_refused_under_the_layer() -> None:
    async with logged_in() as client:
        bind = {"version": 3, "name": b"", "authentication": ("simple", b"x")}
        answer = await client.ask("bindRequest", bind)
        assert answer.value["resultCode"] == ResultCode.strongerAuthRequired
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.strongerAuthRequired


# Other operations


@pytest.mark.anyio
async def test_unbind() -> None:
    async with logged_in() as client:
        await client.stream.send(encode(5, "unbindRequest", None))
        with pytest.raises(EndOfStream):
            await client.stream.receive()


@pytest.mark.anyio
async def test_abandon_is_not_answered() -> None:
    async with logged_in() as client:
        await client.stream.send(encode(5, "abandonRequest", 1))
        assert (await client.extended(WHO_AM_I))["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_extended_operations_that_are_refused() -> None:
    async with connected(make_server()) as client:
        assert (await client.extended(START_TLS))["resultCode"] == ResultCode.protocolError
        assert (await client.extended(b"1.2.3"))["resultCode"] == ResultCode.protocolError
        await client.log_in()
        assert (await client.extended(START_TLS))["resultCode"] == ResultCode.operationsError
        assert (await client.extended(b"1.2.3"))["resultCode"] == ResultCode.protocolError
        assert (await client.extended(WHO_AM_I))["resultCode"] == ResultCode.success


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("tag", "answer"),
    [(0x66, 0x67), (0x68, 0x69), (0x4A, 0x6B), (0x6C, 0x6D)],
    ids=["modify", "add", "delete", "modifyDN"],
)
async def test_what_would_change_an_entry_is_refused(tag: int, answer: int) -> None:
    async with logged_in() as client:
        await client.stream.send(raw(tag))
        response = await client.stream.receive()
        assert response[5] == answer
        code = bytes([0x0A, 0x01, ResultCode.unwillingToPerform])
        assert response[7:10] == code
        assert (await client.search(ROOT))[1]["resultCode"] == ResultCode.success


@pytest.mark.anyio
async def test_critical_controls_are_refused() -> None:
    control = {"controlType": b"1.2.3", "criticality": True}
    async with logged_in() as client:
        answer = await client.ask("searchRequest", search_request(), [control])
        assert answer.operation == "searchResDone"
        assert answer.value["resultCode"] == ResultCode.unavailableCriticalExtension
        answer = await client.ask(
            "searchRequest", search_request(), [{**control, "criticality": False}]
        )
        assert answer.operation == "searchResEntry"


# Searches


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("base", "scope", "found"),
    [
        (PEOPLE, BASE, [PEOPLE]),
        (PEOPLE, ONE, [ALICE, BOB]),
        (PEOPLE, SUBTREE, [PEOPLE, ALICE, BOB]),
        ("", ONE, ["o=Elsewhere"]),
        ("", SUBTREE, list(ENTRIES)),
        (" OU = people , DC=Example,dc=COM ", BASE, [PEOPLE]),
    ],
)
async def test_scopes(base: str, scope: int, found: list[str]) -> None:
    async with logged_in() as client:
        entries, done = await client.search(base, scope)
        assert list(entries) == found
        assert done["resultCode"] == ResultCode.success


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("base", "scope", "code", "matched_dn"),
    [
        (f"cn=x,cn=y,{PEOPLE}", BASE, ResultCode.noSuchObject, PEOPLE),
        ("dc=com", SUBTREE, ResultCode.noSuchObject, ""),
        ("dc=org", ONE, ResultCode.noSuchObject, ""),
        ("a=," * 80_000 + "a=", BASE, ResultCode.noSuchObject, ""),
        ("nonsense", BASE, ResultCode.invalidDNSyntax, ""),
        (ROOT, 3, ResultCode.protocolError, ""),
    ],
    ids=["child", "above", "beside", "deep", "syntax", "scope"],
)
async def test_searches_that_cannot_start(
    base: str, scope: int, code: ResultCode, matched_dn: str
) -> None:
    async with logged_in() as client:
        entries, done = await client.search(base, scope)
        assert entries == {}
        assert (done["resultCode"], done["matchedDN"].decode()) == (code, matched_dn)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("attributes", "selected"),
    [
        ([], ["objectClass", "cn", "uidNumber"]),
        ([b"*"], ["objectClass", "cn", "uidNumber"]),
        ([b"+"], []),
        ([b"1.1"], []),
        ([b"CN", b"nothing"], ["cn"]),
        ([b"1.1", b"cn"], ["cn"]),
    ],
    ids=str,
)
async def test_selected_attributes(attributes: list[bytes], selected: list[str]) -> None:
    async with logged_in() as client:
        entries, _ = await client.search(BOB, BASE, ANYTHING, attributes)
        assert list(entries[BOB]) == selected


@pytest.mark.anyio
async def test_types_only() -> None:
    async with logged_in() as client:
        entries, _ = await client.search(BOB, types_only=True)
        assert entries[BOB] == {"objectClass": [], "cn": [], "uidNumber": []}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "number", "code"),
    [
        (1, 1, ResultCode.sizeLimitExceeded),
        (4, 4, ResultCode.sizeLimitExceeded),
        (5, 5, ResultCode.success),
        (0, 5, ResultCode.success),
    ],
)
async def test_size_limit(limit: int, number: int, code: ResultCode) -> None:
    async with logged_in() as client:
        entries, done = await client.search("", SUBTREE, size_limit=limit)
        assert (len(entries), done["resultCode"]) == (number, code)


class Counting(MemoryStream):
    """Counts what the server sends."""

    sends: ClassVar[list[int]] = []

    async def send(self, item: bytes) -> None:
        self.sends.append(len(item))
        await super().send(item)


@pytest.mark.anyio
async def test_many_entries_in_few_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {f"cn={n}": {"cn": [str(n)], "description": ["x" * 40]} for n in range(10_000)}
    monkeypatch.setattr(Counting, "sends", [])
    ours, theirs = memory_stream_pair()
    theirs.__class__ = Counting
    server = LDAPServer(entries, USERS)
    async with create_task_group() as tasks, ours:
        tasks.start_soon(server.serve, theirs)
        client = Client(ours)
        await client.log_in()
        found, _ = await client.search("", SUBTREE)
    assert len(found) == 10_000
    assert len(Counting.sends) < 100
    assert max(Counting.sends) < 40_000


@pytest.mark.anyio
async def test_a_client_that_does_not_read_holds_up_nothing_but_itself() -> None:
    server = LDAPServer({f"cn={n}": {"x": ["x" * 1000]} for n in range(1000)}, USERS)
    async with connected(server, 5000) as slow, connected(server) as fast:
        await slow.log_in()
        await slow.stream.send(encode(90, "searchRequest", search_request("", SUBTREE)))
        await fast.log_in()
        found, _ = await fast.search("", SUBTREE)
        assert len(found) == 1000


@pytest.mark.anyio
async def test_an_entry_over_the_clients_maxbuf() -> None:
    server = LDAPServer({"cn=x": {"description": ["y" * 4096]}}, USERS)
    async with connected(server) as client:
        await client.log_in(properties=SecurityProperties(max_buffer=2048))
        entries, _ = await client.search("cn=x")
        assert entries["cn=x"]["description"] == [b"y" * 4096]


# What breaks the protocol


BROKEN = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "frame": b"\x00\x00\x00\x20",
    "too long": b"\x30\x84\x00\x04\x00\x00",
    "undecodable": b"\x30\x05\x02\x01\x01\x63\x7f",
    "message id 0": raw(0x4A, b"cn=x", message_id=0),
    "a response": encode(1, "searchResRef", [b"ldap://localhost"]),
    "no operation": raw(0x7E),
}


@pytest.mark.anyio
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
async def test_a_broken_message_ends_the_connection(broken: bytes, sealed: bool) -> None:
    async with connected(make_server()) as client:
        if sealed:
            await client.log_in()
        await client.stream.send(broken)
        assert await client.notice() == ResultCode.protocolError


@pytest.mark.anyio
async def test_one_octet_at_a_time() -> None:
    async with connected(make_server()) as client:
        request = encode(1, "searchRequest", search_request(""))
        for octet in request:
            await client.stream.send(bytes([octet]))
        assert (await client.receive()).operation == "searchResEntry"


@pytest.mark.anyio
async def test_another_request_in_the_middle_of_a_login() -> None:
    async with connected(make_server()) as client:
        sasl = {"mechanism": b"DIGEST-MD5"}
        bind = {"version": 3, "name": b"", "authentication": ("sasl", sasl)}
        assert (await client.ask("bindRequest", bind)).value["resultCode"] == 14
        await client.stream.send(encode(2, "searchRequest", search_request("")))
        with pytest.raises(EndOfStream):
            await client.stream.receive()


@pytest.mark.anyio
async def test_a_forged_frame_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    server = make_server()
    async with connected(server) as other:
        await other.log_in()
        async with connected(server) as client:
            await client.log_in()
            await client.transport.send((26).to_bytes(4, "big") + bytes(26))
            with pytest.raises(EndOfStream):
                await client.stream.receive()
        assert (await other.search(ROOT))[1]["resultCode"] == ResultCode.success
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.anyio
async def test_a_bug_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    server = make_server(mechanisms={"ANYONE": Anyone})
    async with connected(server) as other, connected(server) as client:
        await client.stream.send(encode(1, "bindRequest", anyone_bind(b"bug")))
        with pytest.raises(EndOfStream):
            await client.stream.receive()
        answer = await other.ask("bindRequest", anyone_bind(b"zoe"))
        assert answer.value["resultCode"] == ResultCode.success
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.anyio
async def test_a_bug_of_our_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Directory, "search", broken)
    async with connected(make_server()) as client:
        await client.stream.send(encode(1, "searchRequest", search_request("")))
        assert await client.notice() == ResultCode.other


@pytest.mark.anyio
async def test_a_client_that_leaves_in_the_middle_of_a_message() -> None:
    async with connected(make_server()) as client:
        await client.stream.send(b"\x30\x0c\x02")


@pytest.mark.anyio
async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connected(make_server()) as client:
            with pytest.raises(AuthenticationError):
                await client.log_in(password="wr0ng")
            await client.log_in()
            await client.search("", SUBTREE)
            await client.stream.send(b"Liddell")
            await client.notice()
    logged = [record for record in caplog.records if record.name.startswith("saslwrap")]
    assert len(logged) == 2
    for record in logged:
        assert not re.search(r"s3cret|wr0ng|Liddell|response=", record.getMessage())


# Limits of time


@pytest.mark.anyio
async def test_an_idle_client() -> None:
    async with connected(make_server(idle_timeout=0.2)) as client:
        assert await client.notice() == ResultCode.unavailable


@pytest.mark.anyio
async def test_a_login_that_stops() -> None:
    async with connected(make_server(idle_timeout=0.2)) as client:
        sasl = {"mechanism": b"DIGEST-MD5"}
        bind = {"version": 3, "name": b"", "authentication": ("sasl", sasl)}
        await client.ask("bindRequest", bind)
        with pytest.raises(EndOfStream):
            await client.stream.receive()


@pytest.mark.anyio
async def test_results_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, failed = [], Event()

    def log(error: Exception) -> None:
        failures.append(type(error))
        failed.set()

    monkeypatch.setattr(saslwrap.testing.server, "_log", log)
    monkeypatch.setattr(saslwrap.testing.server, "_FAREWELL", 0.01)
    server = LDAPServer({"cn=x": {"description": ["y" * 90_000]}}, USERS, idle_timeout=1)
    async with connected(server, 5000) as client:
        await client.log_in()
        await client.stream.send(encode(90, "searchRequest", search_request("cn=x")))
        await failed.wait()
    assert failures == [TimeoutError]


# Over TCP


@pytest.mark.anyio
async def test_over_tcp() -> None:
    async with make_server() as server:
        assert server.url == f"ldap://localhost:{server.port}"
        assert repr(server) == f"<LDAPServer {server.url}>"
        for _ in range(2):
            async with await connect_tcp("127.0.0.1", server.port) as tcp:
                client = Client(tcp)
                await client.log_in()
                assert list((await client.search(ALICE))[0]) == [ALICE]


@pytest.mark.anyio
async def test_the_end_cuts_open_connections() -> None:
    async with make_server() as server:
        streams = [await connect_tcp("127.0.0.1", server.port) for _ in range(3)]
        await Client(streams[0]).log_in()
        await streams[1].send(b"\x30")
    for stream in streams:
        async with stream:
            with pytest.raises((EndOfStream, BrokenResourceError)), fail_after(5):
                await stream.receive()


@pytest.mark.anyio
async def test_the_end_cuts_a_connection_that_is_not_read() -> None:
    entries = {f"cn={n}": {"x": ["x" * 100_000]} for n in range(500)}
    with fail_after(20):
        async with LDAPServer(entries, USERS) as server:
            stream = await connect_tcp("127.0.0.1", server.port)
            client = Client(stream)
            await client.log_in()
            await client.stream.send(encode(90, "searchRequest", search_request("", SUBTREE)))
            await client.stream.receive(1)
        await stream.aclose()


@pytest.mark.anyio
async def test_a_server_can_be_entered_again() -> None:
    server = make_server()
    with pytest.raises(UsageError, match="does not listen"):
        _ = server.port
    assert repr(server) == "<LDAPServer not listening>"
    for _ in range(2):
        async with server:
            assert server.port
    with pytest.raises(UsageError):
        _ = server.port


@pytest.mark.anyio
async def test_what_a_test_raises_is_not_wrapped_up() -> None:
    with pytest.raises(ZeroDivisionError):
        async with make_server():
            raise ZeroDivisionError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_a_thread(backend: str) -> None:
    before = threading.active_count()
    with make_server().in_thread(backend) as server:
        port = server.port
        open_one = socket.create_connection(("127.0.0.1", port), timeout=5)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(encode(1, "searchRequest", search_request("")))
            assert decode_first(sock.recv(4096)).operation == "searchResEntry"
    with open_one:
        assert open_one.recv(100) == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def decode_first(data: bytes) -> Message:
    return decode(data[: measure(data, 1 << 20)])


def test_the_documented_example() -> None:
    text = saslwrap.testing.ldap.__doc__ or ""
    example = text[text.index("    import anyio") : text.index("\nA blocking client")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(example)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "sealed with SSF 128\n"


# The directory


def equal(attribute: bytes, value: bytes, kind: str = "equalityMatch") -> Any:
    return kind, {"attributeDesc": attribute, "assertionValue": value}


def substrings(*pieces: tuple[str, bytes], attribute: bytes = b"cn") -> Any:
    return "substrings", {"type": attribute, "substrings": list(pieces)}


UNDEFINED = equal(b"nickname", b"x")
ALICE_ONLY = equal(b"CN", b"aLICE")
EXTENSIBLE = ("extensibleMatch", {"type": b"cn", "matchValue": b"Bob", "dnAttributes": False})


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory(ENTRIES, {"supportedLDAPVersion": ["3"]})


def found(directory: Directory, search_filter: Any) -> list[str]:
    request = search_request("", SUBTREE, search_filter)
    return [entry.dn for entry in directory.search(request)]


@pytest.mark.parametrize(
    ("search_filter", "dns"),
    [
        (ALICE_ONLY, [ALICE]),
        (equal(b"cn", b"alice", "approxMatch"), [ALICE]),
        (equal(b"cn", b"ali"), []),
        (equal(b"jpegPhoto", b"\xff\xd8\xff"), [ALICE]),
        (("present", b"cn"), [ALICE, BOB]),
        (("not", ("present", b"cn")), [ROOT, PEOPLE, "o=Elsewhere"]),
        (("not", ALICE_ONLY), [ROOT, PEOPLE, BOB, "o=Elsewhere"]),
        (equal(b"uidNumber", b"1000", "greaterOrEqual"), [ALICE]),
        (equal(b"uidNumber", b"01000", "lessOrEqual"), [ALICE, BOB]),
        (equal(b"cn", b"b", "greaterOrEqual"), [BOB]),
        (equal(b"cn", b"b", "lessOrEqual"), [ALICE]),
        (("and", [ALICE_ONLY, ("present", b"uidNumber")]), [ALICE]),
        (("and", [ALICE_ONLY, equal(b"cn", b"bob")]), []),
        (("and", []), list(ENTRIES)),
        (("or", [ALICE_ONLY, equal(b"cn", b"bob")]), [ALICE, BOB]),
        (("or", []), []),
        (substrings(("initial", b"al")), [ALICE]),
        (substrings(("any", b"I")), [ALICE]),
        (substrings(("final", b"b")), [BOB]),
        (substrings(("initial", b"alice"), ("any", b"idd"), ("final", b"ELL")), [ALICE]),
        (substrings(("initial", b"bo"), ("final", b"ob")), []),
        (substrings(("any", b"lid"), ("any", b"lid")), []),
    ],
    ids=str,
)
def test_filters(directory: Directory, search_filter: Any, dns: list[str]) -> None:
    assert found(directory, search_filter) == dns


@pytest.mark.parametrize(
    "undefined",
    [
        UNDEFINED,
        ("present", b"nickname"),
        substrings(("any", b"x"), attribute=b"nickname"),
        EXTENSIBLE,
        (None, None),
    ],
    ids=str,
)
def test_undefined(directory: Directory, undefined: Any) -> None:
    assert found(directory, undefined) == []
    assert found(directory, ("not", undefined)) == []
    assert found(directory, ("or", [undefined, ALICE_ONLY])) == [ALICE]
    assert found(directory, ("not", ("or", [undefined, ALICE_ONLY]))) == []
    assert found(directory, ("and", [undefined, ALICE_ONLY])) == []
    negated = found(directory, ("not", ("and", [undefined, ALICE_ONLY])))
    assert negated == [dn for dn in ENTRIES if dn != ALICE]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=Alice,dc=com", " CN = alice , DC = COM "),
        ("cn=a b,dc=com", "cn=a  b,dc=com"),
        (r"cn=a\2Cb", r"cn=a\,b"),
        (r"cn=\C3\BCrgen", "cn=ürgen"),
        (r"cn=\"x\"", r"cn=\22x\22"),
        ("cn=a+sn=b,dc=com", "SN=B + cn=a,dc=com"),
        ("cn=STRASSE", "cn=straße"),
        ("", "  "),
    ],
)
def test_equal_names(one: str, other: str) -> None:
    assert parse_dn(one) == parse_dn(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cn=a,cn=b", "cn=b,cn=a"), ("cn=a+sn=b", "cn=a,sn=b"), ("cn=a", "cn=a,cn=a"), ("cn=", "")],
)
def test_different_names(one: str, other: str) -> None:
    assert parse_dn(one) != parse_dn(other)


@pytest.mark.parametrize("text", ["x", "=x", "cn=a,", ",cn=a", "cn=a,,cn=b", "cn=a\\", "cn=a+"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"a name ends|a part of a name"):
        parse_dn(text)


def test_a_name_full_of_escapes_is_read_in_no_time() -> None:
    assert parse_dn(r"cn=" + r"\aa" * 50_000)
    with pytest.raises(ValueError, match="backslash"):
        parse_dn(r"cn=" + r"\aa" * 50_000 + "\\")


def test_a_base_that_is_not_utf_8(directory: Directory) -> None:
    with pytest.raises(DirectoryError) as caught:
        directory.search({**search_request(), "baseObject": b"cn=\xff"})
    assert caught.value.code is ResultCode.invalidDNSyntax


@pytest.mark.parametrize(
    "entries",
    [
        {"nonsense": {"cn": ["x"]}},
        {"": {"cn": ["x"]}},
        {"cn=x": {"cn": ["x"]}, "CN=X": {"cn": ["x"]}},
        {"cn=x": {"cn": "x"}},
        {"cn=x": {"cn": b"x"}},
        {"cn=x": {"cn": None}},
        {"cn=x": {"cn": [5]}},
        {"cn=x": {5: ["x"]}},
        {"cn=x": None},
        {5: {}},
        None,
    ],
    ids=repr,
)
def test_entries_that_are_wrong(entries: Any) -> None:
    with pytest.raises(UsageError):
        LDAPServer(entries, {})


def test_no_entries() -> None:
    assert list(Directory({}, {}).search(search_request("", SUBTREE))) == []
