"""A KDC that accepts and never answers: a login waits in its thread, and nothing else does.

MIT Kerberos gives up by itself after 25 s. Until then the thread of a login that was cancelled
stays in libkrb5: trio leaves without it, anyio on asyncio keeps the interpreter's end waiting for
it, asyncio's own `to_thread` keeps `asyncio.run` waiting. A timeout of a blocking socket has no
meaning for it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from anyio.abc import SocketStream

from saslwrap.anyio import authenticate
from saslwrap.asyncio import authenticate_streams
from saslwrap.errors import AuthenticationError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.sync import authenticate_socket
from tests.peers.gss_bed import GSSAPI, PASSWORD, SPNEGO, Kind, check_readable, require_gss
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

PATIENCE = 20.0
"""Less than libkrb5 has: where this is enough, it was not its giving up that helped."""

TICKS = 100

_KRB5_CONF = """\
[libdefaults]
    default_realm = DEAD.TEST
    dns_lookup_kdc = false
    udp_preference_limit = 1
[realms]
    DEAD.TEST = {{
        kdc = {address}:{port}
    }}
"""


class DeadKDC:
    """Takes requests, and keeps whoever made them waiting until `release`."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self._asking: list[socket.socket] = []
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def wait_asked(self) -> None:
        assert self._asked.wait(PATIENCE)

    def has_a_client_waiting(self) -> bool:
        """Whether the one who asked is there still, and without an answer."""
        for sock in self._asking:
            sock.setblocking(False)
            try:
                if sock.recv(1, socket.MSG_PEEK) == b"":
                    return False
            except BlockingIOError:
                continue
        return bool(self._asking)

    def release(self) -> None:
        """End, so that libkrb5 finds nobody to ask."""
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends `accept`
        self._thread.join(PATIENCE)
        for sock in (self._listener, *self._asking):
            sock.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener.fileno() != -1:
            self.release()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.recv(1, socket.MSG_PEEK)  # a request has come
            self._asking.append(sock)
            self._asked.set()


class Login:
    """A login over a connection to a server that hears nothing of it, with Kerberos' client."""

    def __init__(self, kind: Kind, kdc: DeadKDC, stack: ExitStack) -> None:
        self.kdc = kdc
        self.client = kind.client(username="alice", password=PASSWORD)
        self.bind = LDAPBind(self.client)
        self._ended = self._watch(self.client)
        listener = stack.enter_context(socket.create_server((LOOPBACK, 0)))
        self.sock = stack.enter_context(socket.create_connection(listener.getsockname()))
        self._peer = stack.enter_context(listener.accept()[0])

    def _watch(self, client: ClientMechanism) -> threading.Event:
        ended, step = threading.Event(), client.step

        def watched(message: Any) -> bytes | None:
            try:
                return step(message)
            finally:
                ended.set()

        client.step = watched  # type: ignore[method-assign]
        return ended

    def check_blocked(self) -> None:
        """The thread is where it was, and nobody helped it out."""
        assert not self._ended.is_set()
        assert self.kdc.has_a_client_waiting()

    def check_closed(self) -> None:
        """The connection is closed, without a word."""
        self._peer.settimeout(PATIENCE)
        with suppress(ConnectionResetError):
            assert self._peer.recv(1) == b""

    def release(self) -> None:
        """Let the thread end, which forgets the password."""
        self.kdc.release()
        assert self._ended.wait(PATIENCE)
        assert repr(self.client).endswith(" failed>")
        assert self.client._credentials.password is None


@pytest.fixture
def kdc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadKDC]:
    require_gss()
    configuration = tmp_path / "krb5.conf"
    with DeadKDC() as kdc:
        configuration.write_text(_KRB5_CONF.format(address=LOOPBACK, port=kdc.port))
        monkeypatch.setenv("KRB5_CONFIG", str(configuration))
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'ccache'}")
        yield kdc


@pytest.fixture(params=[GSSAPI, SPNEGO], ids=str)
def login(request: pytest.FixtureRequest, kdc: DeadKDC) -> Iterator[Login]:
    with ExitStack() as stack:
        yield Login(request.param, kdc, stack)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(login: Login, backend: str) -> None:
    async def log_in(scope: anyio.CancelScope) -> None:
        login.sock.setblocking(False)
        async with await SocketStream.from_socket(login.sock) as stream:
            with scope:
                await authenticate(stream, login.bind)
            assert scope.cancelled_caught
            login.check_blocked()
            await to_thread.run_sync(login.check_closed)

    async def main() -> None:
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log_in, scope)
            await to_thread.run_sync(login.kdc.wait_asked)
            for _ in range(TICKS):
                await anyio.lowlevel.checkpoint()
            login.check_blocked()
            scope.cancel()
        login.check_blocked()
        login.release()

    anyio.run(main, backend=backend)


async def _until_asked(login: Login) -> None:
    await asyncio.to_thread(login.kdc.wait_asked)
    for _ in range(TICKS):
        await asyncio.sleep(0)
    login.check_blocked()


def test_streams_and_a_task_that_is_cancelled(login: Login) -> None:
    async def main() -> None:
        reader, writer = await asyncio.open_connection(sock=login.sock)
        task = asyncio.create_task(authenticate_streams(reader, writer, login.bind))
        await _until_asked(login)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        login.check_blocked()
        assert writer.transport.is_closing()
        await asyncio.to_thread(login.check_closed)
        login.release()

    asyncio.run(main())


def test_streams_and_a_timeout(login: Login) -> None:
    async def main() -> None:
        reader, writer = await asyncio.open_connection(sock=login.sock)
        with pytest.raises(TimeoutError):
            await log_in(reader, writer)
        login.check_blocked()
        assert writer.transport.is_closing()
        await asyncio.to_thread(login.check_closed)
        login.release()

    async def log_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(None) as limit:
            expiry = asyncio.create_task(expire(limit))
            try:
                await authenticate_streams(reader, writer, login.bind)
            finally:
                assert expiry.done()

    async def expire(limit: asyncio.Timeout) -> None:
        await _until_asked(login)
        limit.reschedule(asyncio.get_running_loop().time())

    asyncio.run(main())


def test_a_blocking_socket_waits_for_kerberos_whatever_its_timeout(login: Login) -> None:
    login.sock.settimeout(0.001)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(authenticate_socket, login.sock, login.bind)
        login.kdc.wait_asked()
        login.check_blocked()
        login.release()
        error = future.exception(PATIENCE)
    assert type(error) is AuthenticationError
    assert "no KDC of the realm answers" in str(error)
    check_readable(error)
    assert login.sock.fileno() != -1


def test_a_kdc_that_ends_is_an_error_like_another(login: Login) -> None:
    async def main() -> None:
        login.sock.setblocking(False)
        async with await SocketStream.from_socket(login.sock) as stream:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(release)
                with pytest.raises(AuthenticationError, match="no KDC of the realm answers"):
                    await authenticate(stream, login.bind)
            await stream.send(b"still there")

    async def release() -> None:
        await to_thread.run_sync(login.kdc.wait_asked)
        await to_thread.run_sync(login.release)

    anyio.run(main)
