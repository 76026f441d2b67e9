"""A server on loopback: a port while it is entered, in any task or in a thread, and a good end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError as Cancelled
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeAlias, TypeVar

from anyio import (
    Event,
    aclose_forcefully,
    create_tcp_listener,
    get_all_backends,
    get_cancelled_exc_class,
)
from anyio.abc import AnyByteStream, Listener, SocketAttribute
from anyio.from_thread import BlockingPortal, start_blocking_portal

from saslwrap.errors import UsageError, require_kind
from saslwrap.testing._beside import beside
from saslwrap.testing.tasks import sole

__all__ = ["LoopbackServer"]

T = TypeVar("T")

_ADDRESS: Final = "127.0.0.1"

#: Keeps what its block raises, but for what it is told to let out.
_Keep: TypeAlias = Callable[..., AbstractContextManager[None]]


#: Gives what failed and was not raised yet, and forgets it.
_Take: TypeAlias = Callable[[], BaseException | None]


def _nothing() -> None:
    """Take no failure: somebody else does."""


class LoopbackServer(ABC):
    """Listens on loopback while it is entered: `async with`, or `with server.in_thread()`.

    What a block raises comes out of it as it is, and a failure of the server's own is a note on it;
    where the block ends well, that failure is raised.

    On asyncio another task than entered may leave, such as that of a fixture's end.
    """

    _port: int | None = None
    _portal: BlockingPortal | None = None
    _thread: int = 0
    _entered: bool = False
    _stack: AsyncExitStack = AsyncExitStack()

    #: What broke while we served, and is to be raised when the server ends.
    _failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The TCP port, on 127.0.0.1; a `UsageError` while the server does not listen."""
        if self._port is None:
            raise UsageError(
                "the server does not listen; enter it: async with server, with server.in_thread()"
            )
        return self._port

    @abstractmethod
    async def serve(self, stream: AnyByteStream) -> None:
        """Serve one connection to its end, and close it. What the client does wrong ends here."""

    @contextmanager
    def in_thread(self, backend: str = "asyncio") -> Iterator[Self]:
        """Run in a thread of its own, for clients that block; the thread ends with the block.

        What the block raises stays in this thread, and so does a failure of the server's: in the
        other one an interrupt, or what pytest skips or fails by, would end the event loop.

        :param backend: the event loop there, `asyncio` or `trio`, whatever runs here
        :raises UsageError: there is no such backend, or the server is entered already
        """
        with (
            _one_failure(type(self).__name__, self._take_failure) as keep,
            _portal_on(backend) as portal,
            portal.wrap_async_context_manager(self._serving(_nothing)),
            keep(),
        ):
            yield self

    def __enter__(self) -> NoReturn:
        raise UsageError("a server is entered by async with, or by with server.in_thread()")

    def __exit__(self, *_: object) -> None:  # noqa: B027 - for `with` to get as far as above
        """Not reached: there is no way in."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._serving(self._take_failure))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _serving(self, take: _Take) -> AsyncIterator[None]:
        with self._alone(), _one_failure(type(self).__name__, take) as keep:
            listening = Event()
            async with (
                await create_tcp_listener(local_host=_ADDRESS) as listener,
                beside(partial(self._listen, listener, listening)),
            ):
                await listening.wait()
                with keep(get_cancelled_exc_class()):
                    yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._entered:
            raise UsageError(f"this {type(self).__name__} is entered already; make another one")
        self._entered = True
        try:
            yield
        finally:
            self._entered = False

    async def _listen(self, listener: Listener[Any], listening: Event) -> None:
        async with BlockingPortal() as self._portal:
            self._thread = get_ident()
            self._port = listener.extra(SocketAttribute.local_port)
            listening.set()
            try:
                await listener.serve(self._serve_one)
            finally:
                self._port = self._portal = None

    async def _serve_one(self, stream: AnyByteStream) -> None:
        """Serve; a failure of ours ends the server and the block, and comes out of that as it is.

        That may be what pytest fails or skips by, in what a test gave us to call.
        """
        try:
            await self.serve(stream)
        except (get_cancelled_exc_class(), KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            self._failure = self._failure or sole(error)
            raise _CrashError from None
        finally:
            await aclose_forcefully(stream)

    def _take_failure(self) -> BaseException | None:
        failure, self._failure = self._failure, None
        return failure

    def _call(self, function: Callable[[], T]) -> T:
        """Call it in the thread that serves, from any thread: what is served needs no locks."""
        if self._portal is None or self._thread == get_ident():
            return function()
        return self._portal.call(function)

    def __repr__(self) -> str:
        where = "not listening" if self._port is None else self._where()
        return f"<{type(self).__name__} {where}>"

    def _where(self) -> str:
        return f"{_ADDRESS}:{self.port}"


class _CrashError(Exception):
    """Ends the server, and says no more: what failed is kept."""


def _is_crash(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.split(_CrashError)[1] is None
    return isinstance(error, _CrashError | Cancelled)  # what the portal makes of the former


@contextmanager
def _portal_on(backend: str) -> Iterator[BlockingPortal]:
    require_kind("backend", backend, str)
    with ExitStack() as stack:
        try:
            portal = stack.enter_context(start_blocking_portal(backend))
        except LookupError:
            known = " or ".join(map(repr, get_all_backends()))
            raise UsageError(
                f"backend is {known}, where that is installed, not {backend!r}"
            ) from None
        yield portal


@contextmanager
def _one_failure(name: str, take: _Take) -> Iterator[_Keep]:
    """Raise at the end what a block raised, which is kept apart; what else failed is its note.

    A task group would wrap up what it saw of the block. An interrupt, or a cancellation, which has
    to go through the group, counts more than what was kept.

    :param name: of what else failed
    :param take: gives a failure that was not raised yet, and forgets it
    """
    failures: list[BaseException] = []
    try:
        yield partial(_keep, failures)
    except Exception as error:
        if not _is_crash(error):
            failures.append(sole(error))
    except BaseException as error:
        failures.insert(0, sole(error))
    if (failure := take()) is not None:
        failures.append(failure)
    if failures:
        first, *others = failures
        for other in others:
            first.add_note(f"and in {name}: {other!r}")
        raise first


@contextmanager
def _keep(
    failures: list[BaseException], passing: type[BaseException] | tuple[()] = ()
) -> Iterator[None]:
    try:
        yield
    except passing:
        raise
    except BaseException as error:
        failures.append(error)
