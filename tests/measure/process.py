"""A part of a measurement in a process of its own, that answers questions over a pipe.

Each is a new interpreter, so that what one measured leaves nothing behind for the next.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

import anyio

__all__ = ["Child", "questions", "raise_file_limit"]

#: Seconds that an ended child has to be gone.
PATIENCE = 30


class Child:
    """Runs `main(pipe, *arguments)` in a new process, while the block runs.

    :param main: a function of a module; it ends when the pipe does (`questions`)
    :raises EOFError: from `ask`, when the process ended instead; it said why
    """

    def __init__(self, main: Callable[..., None], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process: Final = spawn.Process(target=_run, args=(main, theirs, *arguments))
        self._process.start()
        theirs.close()

    def ask(self, question: object) -> Any:
        """Send a question and wait for its answer."""
        self.tell(question)
        return self.answer()

    def tell(self, question: object) -> None:
        """Send a question; `answer` is to be called for it later."""
        self._pipe.send(question)

    def answer(self) -> Any:
        """Wait for the answer of an earlier question."""
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join(0 if kind else PATIENCE)
        self._process.terminate()
        self._process.join()


def _run(main: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


async def questions(pipe: Connection) -> AsyncIterator[Any]:
    """In the child: give each question as it comes, until the other end is closed."""
    while True:
        await anyio.wait_readable(pipe)
        try:
            question = pipe.recv()
        except EOFError:
            return
        yield question


def raise_file_limit(wanted: int) -> None:
    """Let this process have so many open files.

    :raises OSError: the system does not allow it; the text says how to
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(
            f"{wanted} open files are needed and {hard} are allowed; raise the limit "
            f"(`ulimit -Hn {wanted}`), or take fewer connections"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
