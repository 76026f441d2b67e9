"""Calls that are held inside, so that a second one comes while the first is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Final, TypeVar

__all__: list[str] = []

T = TypeVar("T")

#: Seconds until a call counts as waiting for another one.
PATIENCE = 10.0


class Gate:
    """A function whose first call is held inside until `opened`; later ones pass."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.entered: Final = Event()
        self.opened: Final = Event()

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, once that may be."""
        if not self.entered.is_set():
            self.entered.set()
            self.opened.wait(2 * PATIENCE)
        return self._function(*arguments)


def _in_thread(call: Callable[[], T]) -> Future[T]:
    """Run a call in a thread of its own, which nobody waits for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def at_once(call: Callable[[], T]) -> T:
    """Give what a call gives, which may not wait."""
    future = _in_thread(call)
    try:
        return future.result(PATIENCE)
    except TimeoutError:
        pass
    raise AssertionError("the second call waits for the first")


@contextmanager
def at_work(gate: Gate, call: Callable[[], T]) -> Iterator[Future[T]]:
    """Hold `call` inside the gate, in another thread, while the block runs."""
    future = _in_thread(call)
    try:
        if not gate.entered.wait(PATIENCE):
            raise AssertionError("the first call did not get to work")
        yield future
    finally:
        gate.opened.set()
        future.exception(PATIENCE)
