"""A port on loopback while it is entered: who may enter and leave, and what comes of failures."""

from __future__ import annotations

import asyncio
import socket
import threading
import unittest
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, cast

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import AnyByteStream

from saslwrap import DigestMD5Client, UsageError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.sync import authenticate_socket
from saslwrap.testing import FaultProxy, IMAPServer, LDAPServer
from saslwrap.testing.loopback import LoopbackServer, _one_failure

#: What ends a test in other ways than by an `Exception`.
OUTCOMES = [KeyboardInterrupt, SystemExit, pytest.skip.Exception, pytest.fail.Exception]
ERRORS = [ValueError, AssertionError, StopIteration]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.mark.parametrize("kind", [*OUTCOMES, *ERRORS])
@backends
def test_what_a_block_raises_comes_out_as_it_is(kind: type[BaseException], backend: str) -> None:
    """pytest, and whoever presses Ctrl-C, look at its type."""
    error = kind("the test's own")
    with pytest.raises(kind) as info, LDAPServer({}).in_thread(backend):
        raise error
    assert info.value is error


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [pytest.skip.Exception, pytest.fail.Exception, ValueError])
async def test_what_an_async_block_raises_comes_out_as_it_is(kind: type[BaseException]) -> None:
    error = kind("the test's own")
    with pytest.raises(kind) as info:
        async with LDAPServer({}):
            raise error
    assert info.value is error


@pytest.mark.anyio
async def test_a_block_can_be_cancelled() -> None:
    with anyio.move_on_after(0) as scope:
        async with LDAPServer({}):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


# The server's own failures


def broken_proxy() -> FaultProxy:
    """A proxy that fails at its first connection."""
    return FaultProxy("127.0.0.1", 9, to_client=lambda: 3)  # type: ignore[arg-type, return-value]


def hear_the_end(port: int) -> None:
    """Connect, and wait until nobody is there any more."""
    with (
        suppress(ConnectionResetError),  # while it connects, too
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        assert client.recv(1) == b""


async def hear_the_end_too(port: int) -> None:
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            pytest.fail(f"there came {await client.receive()!r}")


def notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@backends
@pytest.mark.parametrize("kind", [*OUTCOMES, ValueError])
def test_our_own_failure_is_a_note_on_what_the_block_raised(
    kind: type[BaseException], backend: str
) -> None:
    def fail_both() -> None:
        with broken_proxy().in_thread(backend) as proxy:
            hear_the_end(proxy.port)
            raise kind("the test's own")

    with pytest.raises(kind, match="the test's own") as info:
        fail_both()
    (note,) = notes_of(info.value)
    assert "and in FaultProxy: UsageError('what to_client makes is a Fault" in note


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [pytest.skip.Exception, pytest.fail.Exception, ValueError])
async def test_our_own_failure_is_a_note_on_what_an_async_block_raised(
    kind: type[BaseException],
) -> None:
    async def fail_both() -> None:
        async with broken_proxy() as proxy:
            await hear_the_end_too(proxy.port)
            raise kind("the test's own")

    with pytest.raises(kind, match="the test's own") as info:
        await fail_both()
    (note,) = notes_of(info.value)
    assert "and in FaultProxy: UsageError('what to_client makes is a Fault" in note


@backends
def test_our_own_failure_is_raised_where_the_block_ends_well(backend: str) -> None:
    match = "what to_client makes is a Fault"
    with pytest.raises(UsageError, match=match) as info, broken_proxy().in_thread(backend) as proxy:
        hear_the_end(proxy.port)
    assert notes_of(info.value) == []


@pytest.mark.anyio
async def test_our_own_failure_is_a_note_on_a_cancellation() -> None:
    """It may be why somebody waited for too long."""
    seen: list[BaseException] = []
    with anyio.CancelScope() as scope:
        try:
            async with broken_proxy() as proxy:
                await hear_the_end_too(proxy.port)
                scope.cancel()
                await anyio.sleep_forever()
        except BaseException as error:
            seen.append(error)
            raise
    assert scope.cancelled_caught
    assert isinstance(seen[0], anyio.get_cancelled_exc_class())
    assert "and in FaultProxy: UsageError" in notes_of(seen[0])[0]


def test_an_interrupt_counts_more_than_what_the_block_raised() -> None:
    """As Ctrl-C while a server ends."""

    def end() -> None:
        with _one_failure("Server", lambda: None) as keep:
            with keep():
                raise ValueError("the test's own")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as info:
        end()
    assert notes_of(info.value) == ['and in Server: ValueError("the test\'s own")']


class Crash(LoopbackServer):
    """Fails as a whole, on the first connection."""

    async def serve(self, stream: AnyByteStream) -> None:
        await anyio.aclose_forcefully(stream)
        raise ZeroDivisionError("a bug")


@pytest.mark.anyio
async def test_a_server_that_crashes_ends_the_block() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Crash() as server, await anyio.connect_tcp("127.0.0.1", server.port):
            await anyio.sleep_forever()
    with pytest.raises(UsageError, match="does not listen"):
        _ = server.port


@pytest.mark.anyio
async def test_a_crash_is_a_note_on_what_the_block_raised_meanwhile() -> None:
    async def fail_both() -> None:
        async with Crash() as server:
            try:
                async with await anyio.connect_tcp("127.0.0.1", server.port):
                    await anyio.sleep_forever()
            finally:
                raise ValueError("the test's own")

    with pytest.raises(ValueError, match="the test's own") as info:
        await fail_both()
    assert "and in Crash: ZeroDivisionError" in notes_of(info.value)[0]


@backends
def test_a_server_that_crashes_in_its_thread_is_heard_of_at_the_end(backend: str) -> None:
    with pytest.raises(ZeroDivisionError), Crash().in_thread(backend) as server:
        hear_the_end(server.port)


@pytest.mark.parametrize("kind", [pytest.skip.Exception, pytest.fail.Exception, OSError])
@backends
def test_what_a_test_gave_us_to_call_comes_out_as_it_is(
    kind: type[BaseException], backend: str
) -> None:
    def make_fault() -> NoReturn:
        raise kind("the test's own")

    proxy = FaultProxy("127.0.0.1", 9, to_client=make_fault)
    with pytest.raises(kind, match="the test's own"), proxy.in_thread(backend):
        hear_the_end(proxy.port)


def test_a_mechanism_that_skips_a_test_skips_it() -> None:
    def make() -> NoReturn:
        pytest.skip("not here")

    server = LDAPServer({}, mechanisms={"DIGEST-MD5": make})
    bind = LDAPBind(DigestMD5Client("alice", "s3cret", service="ldap", host="localhost"))

    def log_in() -> None:
        with (
            server.in_thread(),
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock,
            suppress(OSError),
        ):
            authenticate_socket(sock, bind)

    with pytest.raises(pytest.skip.Exception, match="not here"):
        log_in()


# Left by another task than entered it


class Two:
    """Runs each of a test's steps in a task of its own, on one event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.told: list[str] = []

    def __enter__(self) -> Two:
        self._runner.get_loop().set_exception_handler(
            lambda loop, context: self.told.append(context["message"])
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a step, to its end."""
        return self._runner.run(coroutine)

    def tasks(self) -> int:
        """How many tasks there are between the steps."""
        return len(asyncio.all_tasks(self._runner.get_loop()))


def test_another_task_may_leave() -> None:
    with Two() as steps:
        server = LDAPServer({})
        steps.run(server.__aenter__())
        port = server.port
        open_one = socket.create_connection(("127.0.0.1", port), timeout=10)
        steps.run(hear_an_answer(port))
        assert steps.run(server.__aexit__(None, None, None)) is False
        assert steps.tasks() == 0
        with open_one:
            assert open_one.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        with pytest.raises(UsageError, match="does not listen"):
            _ = server.port
        steps.run(server.__aenter__())
        steps.run(server.__aexit__(None, None, None))
        assert steps.told == []


async def hear_an_answer(port: int) -> None:
    """Ask a directory something that it refuses, and hear that."""
    async with await anyio.connect_tcp("127.0.0.1", port) as client:
        await client.send(bytes.fromhex("301e02010377198017") + b"1.3.6.1.4.1.4203.1.11.3")
        assert await client.receive()


@pytest.mark.asyncio
async def test_another_task_may_leave_while_the_one_that_entered_goes_on() -> None:
    async def leave() -> None:
        await server.__aexit__(None, None, None)

    server = IMAPServer({})
    await server.__aenter__()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
    await anyio.lowlevel.checkpoint()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_what_failed_is_raised_in_the_task_that_leaves() -> None:
    with Two() as steps:
        proxy = broken_proxy()
        steps.run(proxy.__aenter__())
        steps.run(hear_the_end_too(proxy.port))
        with pytest.raises(UsageError, match="what to_client makes is a Fault"):
            steps.run(proxy.__aexit__(None, None, None))


def test_a_crash_between_the_tasks_is_told_at_once_and_raised_at_the_end() -> None:
    with Two() as steps:
        server = Crash()
        steps.run(server.__aenter__())
        steps.run(hear_the_end_too(server.port))
        while not steps.told:
            steps.run(asyncio.sleep(0))
        with pytest.raises(ZeroDivisionError):
            steps.run(server.__aexit__(None, None, None))
        (told,) = steps.told
        assert "has errored out but its parent task" in told
        assert steps.tasks() == 0


def test_a_loop_that_ends_before_the_block_ends_the_server() -> None:
    with Two() as steps:
        server = LDAPServer({})
        steps.run(server.__aenter__())
        port = server.port
    with pytest.raises(UsageError, match="does not listen"):
        _ = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_a_case_of_unittest() -> None:
    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            self.server = await self.enterAsyncContext(LDAPServer({}))

        async def test_it_answers(self) -> None:
            await hear_an_answer(self.server.port)

    result = unittest.TestResult()
    Case("test_it_answers").run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


# Entered as it cannot be


every_server = pytest.mark.parametrize("make", [LDAPServer, IMAPServer])


@every_server
def test_a_server_is_not_entered_as_it_is(make: Callable[..., LoopbackServer]) -> None:
    with pytest.raises(UsageError, match=r"in_thread\(\)"), make({}):
        pass
    with pytest.raises(UsageError, match=r"in_thread\(\)"):
        _ = make({}).port


@pytest.mark.anyio
@every_server
async def test_a_server_is_not_entered_twice(make: Callable[..., LoopbackServer]) -> None:
    async with make({}) as server:
        port = server.port
        with pytest.raises(UsageError, match="Server is entered already; make another one"):
            await server.__aenter__()
        with pytest.raises(UsageError, match="is entered already"), server.in_thread():
            pass
        assert server.port == port
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()


@backends
def test_nor_in_a_thread(backend: str) -> None:
    with broken_proxy().in_thread(backend) as proxy:
        before = threading.active_count()
        with pytest.raises(UsageError, match="is entered already"), proxy.in_thread(backend):
            pass
        assert threading.active_count() == before
        assert proxy.port
    with proxy.in_thread(backend):
        assert proxy.port


@pytest.mark.parametrize("backend", ["curio", "uvloop", ""])
def test_a_backend_that_is_none(backend: str) -> None:
    match = f"backend is 'asyncio' or 'trio', where that is installed, not '{backend}'"
    with pytest.raises(UsageError, match=match), LDAPServer({}).in_thread(backend):
        pass
    none = cast("str", None)
    match = "backend is str, not NoneType"
    with pytest.raises(UsageError, match=match), LDAPServer({}).in_thread(none):
        pass
