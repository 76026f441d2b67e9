"""How octets arrive, and that it does not matter: 64 MiB against 1 MiB, and many frames in a read.

Both sides are ours, under auth-int, whose primitive is the fastest: so the framing weighs most. The
frames are made once; each run opens them with a layer of the same keys that has seen nothing yet.
"""

from __future__ import annotations

from functools import cache, partial

from saslwrap import SecurityLayer
from saslwrap.testing import layer_pair
from saslwrap.testing.pairs import LayerPair
from tests.bench.cost import Contestant, Cost, timed
from tests.bench.ours import context_calls

__all__ = ["MIB", "arriving", "bare_unseal", "frames_in_one_read"]

MIB = 1 << 20
_MAXBUF = 0xFFFFFF
_OVERHEAD = 20  # of a frame of rc4: length, MAC, type and sequence number


def _pair(protection: str = "auth-int") -> LayerPair:
    return layer_pair(protection, client_maxbuf=_MAXBUF, server_maxbuf=_MAXBUF, seed=1)


@cache
def _wire(total: int, frame: int) -> bytes:
    """As many frames as `total` octets of plaintext need, each of `frame` at the most."""
    server = _pair().server
    pieces = [frame] * (total // frame) + [total % frame] * (total % frame > 0)
    return b"".join(part for size in pieces for part in server.send_data(bytes(size)))


def arriving(total: int, frame: int, piece: int, times: int = 1) -> Contestant:
    """Let `total` octets arrive, so many at a time, and read after each; the cost is an octet's.

    :param piece: how many arrive at a time
    :param times: how often, in one operation
    """

    def contestant(count: int) -> Cost:
        wire = memoryview(_wire(total, frame))
        layers = [_pair().client for _ in range(count * times)]
        costs = (timed(partial(take, layer, wire, piece)) for layer in layers)
        return sum(costs, Cost(0, 0)) / (len(layers) * total)

    return contestant


def take(layer: SecurityLayer, wire: memoryview, piece: int) -> None:
    """Receive piece by piece, and read what there is."""
    for start in range(0, len(wire), piece):
        layer.receive_data(wire[start : start + piece])
        while layer.read(_MAXBUF):
            pass


def frames_in_one_read(size: int, total: int = MIB) -> Contestant:
    """Give a layer `total` octets of frames at once; the cost is a frame's."""
    client, server = layer_pair("rc4")
    message, frames = bytes(size), total // (size + _OVERHEAD)

    def wire() -> memoryview:
        parts = (part for _ in range(frames) for part in server.send_data(message))
        return memoryview(b"".join(parts))

    def contestant(count: int) -> Cost:
        costs = (timed(partial(take, client, wire(), total)) for _ in range(count))
        return sum(costs, Cost(0, 0)) / (count * frames)

    return contestant


def bare_unseal(size: int, total: int = MIB) -> Contestant:
    """Time `unseal` of as many tokens, one by one."""
    frames, unseal = total // (size + _OVERHEAD), context_calls("rc4", size)["unseal"]
    return lambda count: unseal(count * frames)
