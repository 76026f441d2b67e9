"""What two threads gain: both directions at once, against one after the other.

The cost is a share here: the time together by the sum of the times alone; 0.5 is perfect.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from saslwrap.testing import context_pair
from tests.bench.cost import Contestant, Cost, timed
from tests.bench.primitives import Primitives

__all__ = ["context_threads", "primitive_threads"]


def context_threads(protection: str, size: int) -> Contestant:
    """One sealer and one unsealer, on one context."""
    client, server = context_pair(protection)
    message = bytes(size)

    def halves(count: int) -> tuple[Callable[[], object], Callable[[], object]]:
        tokens = [server.seal(message) for _ in range(count)]
        return (
            lambda: [client.seal(message) for _ in range(count)],
            lambda: [client.unseal(token) for token in tokens],
        )

    return _together(halves)


def primitive_threads(size: int) -> Contestant:
    """The bare primitives, twice."""
    sealing, unsealing, message = Primitives(), Primitives(), bytes(size)

    def halves(count: int) -> tuple[Callable[[], object], Callable[[], object]]:
        return (
            lambda: [sealing.run(message) for _ in range(count)],
            lambda: [unsealing.run(message) for _ in range(count)],
        )

    return _together(halves)


def _together(
    halves: Callable[[int], tuple[Callable[[], object], Callable[[], object]]],
) -> Contestant:
    def contestant(count: int) -> Cost:
        alone = sum(timed(half).wall for half in halves(count))
        both = halves(count)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(_call, (lambda: None, lambda: None)))  # the threads are there
            together = timed(lambda: list(pool.map(_call, both)))
        return Cost(together.wall / alone, together.cpu / alone)

    return contestant


def _call(work: Callable[[], object]) -> None:
    work()
