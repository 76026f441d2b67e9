"""The LDAP server for tests: before a login, beside one, and what breaks the protocol."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from anyio import BrokenResourceError, EndOfStream, Event, connect_tcp, fail_after

import saslwrap.testing.ldap
import saslwrap.testing.server
from saslwrap import AuthenticationError, UsageError
from saslwrap.protocols.ldap_messages import Message, ResultCode, decode, encode, measure
from saslwrap.testing import LDAPServer
from saslwrap.testing.ldap_directory import Directory
from tests.ldap_bed import (
    ALICE,
    ANYTHING,
    BASE,
    ONE,
    PAGED_RESULTS,
    PASSWORD,
    ROOT,
    START_TLS,
    SUBTREE,
    USERS,
    WHO_AM_I,
    Anyone,
    Client,
    anyio_backend,
    anyone_bind,
    connected,
    logged_in,
    make_server,
    raw,
    search_request,
)

__all__ = ["anyio_backend"]


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
