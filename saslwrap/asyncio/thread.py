"""A call in a thread that nobody has to wait for.

`asyncio.to_thread` borrows from a pool that `asyncio.run` joins at its end: a login that was
cancelled while no KDC answers would hold up the program until Kerberos gives up. This thread is a
daemon.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["in_daemon_thread"]


async def in_daemon_thread(call: Callable[[], None]) -> None:
    """Run `call` in a thread of its own. Cancelled, it leaves the thread to itself."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    context = contextvars.copy_context()

    def finish(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        error: BaseException | None = None
        try:
            context.run(call)
        except BaseException as raised:  # it is the caller's
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=work, name="saslwrap login", daemon=True).start()
    await done
