"""Running calls in awkward ways: two at once, or cancelled wherever that can happen.

`cancel_at` cancels a call at its n-th suspension and `cancel_at_each` tries every n; `run_both`
runs two calls at the same time, and gives what came of each; `succeeded` insists on success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

__all__ = ["CancelledRun", "cancel_at", "cancel_at_each", "run_both", "settle", "succeeded"]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class CancelledRun(Generic[A]):
    """What came of a call that was to be cancelled.

    :param reached: whether it was suspended that often, and so was asked to stop
    :param cancelled: whether it did stop: a call that is past its last checkpoint ends well
    :param value: what it returned, None if it was cancelled
    """

    reached: bool
    cancelled: bool
    value: A | None


class _Watched(Generic[A]):
    """Runs a coroutine as it is, and tells before each time it lets go of the event loop."""

    def __init__(self, coroutine: Generator[Any, Any, A], tell: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._tell = tell

    def __await__(self) -> Generator[Any, Any, A]:
        resume: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            try:
                trap = resume()
            except StopIteration as stop:
                return cast(A, stop.value)
            self._tell()
            try:
                value = yield trap
            except BaseException as error:  # it goes to whom it is for
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, value)


async def cancel_at(n: int, function: Callable[[], Awaitable[A]]) -> CancelledRun[A]:
    """Run `function`, an async one, and cancel it when it is suspended for the n-th time.

    Nothing is left to a clock: with streams in memory each n is the same place each time. A call
    that got what it waited for before the cancellation arrives goes on; on asyncio that is a turn
    of the event loop later, so the peer should take its time (`settle`).
    """
    suspensions = 0
    value: A | None = None

    def suspended() -> None:
        nonlocal suspensions
        suspensions += 1
        if suspensions == n:
            scope.cancel()

    with CancelScope() as scope:
        value = await _Watched(cast(Generator[Any, Any, A], function()), suspended)
    return CancelledRun(scope.cancel_called, scope.cancelled_caught, value)


async def cancel_at_each(
    attempt: Callable[[int], Awaitable[CancelledRun[A]]],
) -> list[CancelledRun[A]]:
    """Call `attempt` with every n, from 1 on, until that is not reached; give all the runs.

    :param attempt: sets everything up anew, and gives what its `cancel_at(n, ...)` gave
    """
    runs: list[CancelledRun[A]] = []
    while not runs or runs[-1].reached:
        runs.append(await attempt(len(runs) + 1))
    return runs


async def run_both(
    first: Callable[[], Awaitable[A]], second: Callable[[], Awaitable[B]]
) -> tuple[A | Exception, B | Exception]:
    """Run two async functions at the same time; give what each returned, or its exception."""
    results: list[Any] = [None, None]

    async def run(place: int, function: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[place] = await function()
        except Exception as error:
            results[place] = error

    async with create_task_group() as tasks:
        tasks.start_soon(run, 0, first)
        tasks.start_soon(run, 1, second)
    return results[0], results[1]


def succeeded(first: A | Exception, second: B | Exception) -> tuple[A, B]:
    """Give what both calls gave.

    :raises Exception: what the first one raised, with that of the second as its cause, or else the
        second one's
    """
    if isinstance(first, Exception):
        raise first from (second if isinstance(second, Exception) else None)
    if isinstance(second, Exception):
        raise second
    return first, second


def sole(error: BaseException) -> BaseException:
    """Give what a group has in it, if that is one: what a task group wrapped up."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def settle(turns: int = 20) -> None:
    """Let the event loop turn, so that other tasks get where they wait.

    That is certain for streams in memory; what a kernel does takes its own time.
    """
    for _ in range(turns):
        await checkpoint()
