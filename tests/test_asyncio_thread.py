from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from saslwrap.asyncio.thread import in_daemon_thread

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.mark.asyncio
async def test_it_runs_elsewhere_in_the_same_context() -> None:
    variable.set("set by the task")
    seen: list[object] = []

    def call() -> None:
        thread = threading.current_thread()
        seen.extend([variable.get(), thread.daemon, thread is threading.main_thread()])

    await in_daemon_thread(call)
    assert seen == ["set by the task", True, False]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ValueError("no"), KeyError("key")], ids=repr)
async def test_what_it_raises_comes_out(error: BaseException) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await in_daemon_thread(call)
    assert raised.value is error


@pytest.mark.asyncio
@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_it_is_left_to_itself(fails: bool) -> None:
    started, ended, go_on = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    threads: list[threading.Thread] = []

    def call() -> None:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(started.set)
        go_on.wait(10)
        ended.set()
        if fails:
            raise ValueError("of no interest any more")

    task = asyncio.create_task(in_daemon_thread(call))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended.is_set()
    go_on.set()
    await asyncio.to_thread(threads[0].join, 10)
    assert ended.is_set()


def test_the_loop_is_closed_before_it_ends() -> None:
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def call() -> None:
        threads.append(threading.current_thread())
        go_on.wait(10)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_daemon_thread(call), 0.05)

    asyncio.run(give_up())  # does not wait for the thread
    go_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
