"""What is measured for the record, without a peer: a login, copies, memory.

Memory is that of Python's allocator alone (`tracemalloc`), for one endpoint in the mean of some:
keys and states in OpenSSL's memory are not in it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

from saslwrap import SecurityLayer
from saslwrap.testing import connect_mechanisms, layer_pair
from saslwrap.testing.pairs import mechanism_pair
from tests.bench.copies import inbound, outbound
from tests.bench.cost import timed

__all__ = ["records"]

ENDPOINTS = 100


def records(scale: float = 1) -> Iterator[dict[str, Any]]:
    """Give what is measured, each with its name."""
    logins = max(1, round(300 * scale))
    yield {"name": "login in memory, both sides, us", "value": login(logins)}
    for protection in ("auth-int", "rc4", "3des"):
        yield {"name": f"copies of what is sent, {protection}", "lines": outbound(protection)}
        yield {"name": f"copies of what is received, {protection}", "lines": inbound(protection)}
    yield {"name": "memory of an idle layer, octets", "value": memory(lambda _: None)}
    yield {"name": "memory of a layer with half a 65,000 B frame, octets", "value": memory(half)}


def login(count: int) -> float:
    """The CPU time of a login with DIGEST-MD5, both sides, in microseconds."""
    pairs = [mechanism_pair() for _ in range(count)]
    return 1e6 * median(timed(partial(connect_mechanisms, *pair)).cpu for pair in pairs)


def half(layer: SecurityLayer) -> None:
    """Half of a frame arrives."""
    layer.receive_data((65016).to_bytes(4, "big") + bytes(32508))


def memory(use: Callable[[SecurityLayer], object]) -> int:
    """What a layer and its context hold."""
    layer_pair()  # what is made once is there
    tracemalloc.start()
    try:
        layers = []
        for _ in range(ENDPOINTS):
            layer = layer_pair().client
            use(layer)
            layers.append(layer)
        return tracemalloc.get_traced_memory()[0] // len(layers)
    finally:
        tracemalloc.stop()
