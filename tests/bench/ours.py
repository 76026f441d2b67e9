"""Our side, in memory: contexts and layers, each with a peer of its own that keeps step.

As with the peers, `seal` and `unseal` are of two directions of one login: what one spends is of no
matter to the other. Frames that are to be opened are made outside of the clock.
"""

from __future__ import annotations

from saslwrap import SecurityContext
from saslwrap.testing import context_pair, layer_pair
from tests.bench.cost import Contestant, Cost, one_each, repeated

__all__ = ["context_calls", "layer_calls", "slower_call"]


def context_calls(protection: str, size: int) -> dict[str, Contestant]:
    """Time `seal` and `unseal` of a context, guards included."""
    client, server = context_pair(protection)
    return sealing_calls(client, server, bytes(size))


def sealing_calls(
    ours: SecurityContext, peer: SecurityContext, message: bytes
) -> dict[str, Contestant]:
    """Time `seal` and `unseal` of one context, whose peer's is at hand."""
    return {
        "seal": repeated(ours.seal, message),
        "unseal": one_each(ours.unseal, lambda: peer.seal(message)),
    }


def layer_calls(protection: str, size: int) -> dict[str, Contestant]:
    """Time a layer on the way out, and on the way in, frame by frame."""
    client, server = layer_pair(protection)
    message = bytes(size)

    def take(frame: bytes) -> None:
        client.receive_data(frame)
        client.read()

    return {
        "seal": repeated(client.send_data, message),
        "unseal": one_each(take, lambda: b"".join(server.send_data(message))),
    }


def slower_call(protection: str, size: int) -> Contestant:
    """Time `seal` and `unseal` of a context one after the other, and give the slower one's."""
    calls = context_calls(protection, size)

    def contestant(count: int) -> Cost:
        seal, unseal = calls["seal"](count), calls["unseal"](count)
        return Cost(max(seal.wall, unseal.wall), max(seal.cpu, unseal.cpu))

    return contestant
