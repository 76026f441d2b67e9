"""GSSAPI in a realm of its own: our context beside pyspnego's, over the same library.

Both are established the same way, ask for the same, and seal with AES-256.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import spnego

from saslwrap import SecurityProperties
from saslwrap.mechanisms.gss.provider import Flag
from tests.bench.cost import Contestant, one_each, repeated
from tests.bench.ours import sealing_calls
from tests.bench.stable import Stable
from tests.gss_pairs import PLACE, gss_contexts
from tests.peers.directory import ALICE
from tests.peers.kdc import Realm
from tests.peers.support import program

__all__ = ["gss_calls", "raw_calls"]

_FLAGS = Flag.MUTUAL | Flag.REPLAY | Flag.SEQUENCE | Flag.CONFIDENTIALITY | Flag.INTEGRITY
_MAXBUF = 0xFFFFFF


class _Home:
    """A realm in which this process lives, with a ticket of Alice's, until it is closed."""

    def __init__(self, folder: Path) -> None:
        for name in Realm.programs:
            program(name)  # raises what to install
        with ExitStack() as stack:
            realm = stack.enter_context(Realm())
            realm.kinit(ALICE.username, ALICE.password)
            stack.enter_context(realm.active())
            self.close = stack.pop_all().close


def gss_calls(stable: Stable, size: int) -> dict[str, Contestant]:
    """Time `seal` and `unseal` of our context."""
    stable.get(_Home)
    ours, peer = gss_contexts(properties=SecurityProperties(max_buffer=_MAXBUF))
    return sealing_calls(ours, peer, bytes(size))


def raw_calls(stable: Stable, size: int) -> dict[str, Contestant]:
    """Time `wrap` and `unwrap` of pyspnego's context."""
    stable.get(_Home)
    where = {"service": PLACE["service"], "hostname": PLACE["host"], "protocol": "kerberos"}
    client = spnego.client(context_req=spnego.ContextReq(int(_FLAGS)), **where)
    server = spnego.server(context_req=spnego.ContextReq(int(_FLAGS)), **where)
    client.step(server.step(client.step()))
    message = bytes(size)
    return {
        "seal": repeated(client.wrap, message),
        "unseal": one_each(client.unwrap, lambda: server.wrap(message).data),
    }
