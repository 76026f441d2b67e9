"""Work beside a block that one task may enter and another one leave.

That is how a fixture of pytest-asyncio with a `yield`, and unittest's `enterAsyncContext`, go about
it. A cancel scope, and so a task group of anyio's, has to be left by the task that entered it. So
the work is one task with all its scopes in it; and what the block has open meanwhile is asyncio's
own group, which has none: should the work fail, it cancels the task that entered it, if that is
still there, and else raises what failed at the end all the same.

Under trio there is but the task that entered, and trio's own rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from anyio import create_task_group, get_cancelled_exc_class

__all__ = ["beside"]

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def beside(work: Work) -> AbstractAsyncContextManager[None]:
    """Run `work` until the block ends; then cancel it, and wait for its end.

    :raises ExceptionGroup: at the end of the block: the work failed, which cancels the block; or
        what the block raised
    """
    on_asyncio = get_cancelled_exc_class() is asyncio.CancelledError
    return _beside_on_asyncio(work) if on_asyncio else _beside_in_a_scope(work)


@asynccontextmanager
async def _beside_on_asyncio(work: Work) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
        try:
            yield
        finally:
            task.cancel()


@asynccontextmanager
async def _beside_in_a_scope(work: Work) -> AsyncIterator[None]:
    async with create_task_group() as tasks:
        tasks.start_soon(work)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
