"""Who meets whom: each function makes ready ours and a peer's; `stable` is the last argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.bench.arrival import MIB, arriving, bare_unseal, frames_in_one_read
from tests.bench.cost import Contestant, in_turns
from tests.bench.cyrus import start_cyrus
from tests.bench.gss import gss_calls, raw_calls
from tests.bench.imports import import_dependencies
from tests.bench.jdk import STARTS, start_jdk
from tests.bench.logins import Server, our_login, their_login
from tests.bench.loopback import start_loopback
from tests.bench.ours import context_calls, layer_calls, slower_call
from tests.bench.primitives import primitive_calls
from tests.bench.stable import Stable
from tests.bench.threads import context_threads, primitive_threads

Both: TypeAlias = tuple[Contestant, Contestant]

#: What of ours is measured, by the word before a row's name: `seal` and `unseal` of a context,
#: guards included; or a whole layer, `send_data`, and `receive_data` with `read`.
LEVELS: dict[str, Callable[[str, int], dict[str, Contestant]]] = {
    "": context_calls,
    "layer-": layer_calls,
}


def cyrus(level: str, protection: str, size: int, call: str, stable: Stable) -> Both:
    """C: `sasl_encode` and `sasl_decode`, which make and take whole frames."""
    child = stable.get(start_cyrus, protection)
    return LEVELS[level](protection, size)[call], child.contestant(call, size)


def jdk(protection: str, size: int, call: str, stable: Stable) -> Both:
    """Java: `wrap` and `unwrap`."""
    children = [stable.get(start_jdk, protection, number) for number in STARTS]
    theirs = in_turns(child.contestant(call, size) for child in children)
    return context_calls(protection, size)[call], theirs


def primitives(size: int, call: str, stable: Stable) -> Both:
    """What `cryptography` needs for the same octets of rc4, and nothing else done."""
    return context_calls("rc4", size)[call], primitive_calls(size)[call]


def threads(size: int, stable: Stable) -> Both:
    """Two threads, and how far they come beside each other."""
    return context_threads("rc4", size), primitive_threads(size)


def pyspnego(size: int, call: str, stable: Stable) -> Both:
    """What carries GSSAPI, called as it is."""
    return gss_calls(stable, size)[call], raw_calls(stable, size)[call]


def stacks(ours: str, theirs: str, size: int, stable: Stable) -> Both:
    """Two processes over the loopback, twice."""
    first, second = stable.get(start_loopback, ours), stable.get(start_loopback, theirs)
    return first.contestant(size), second.contestant(size)


def shell_and_calls(protection: str, size: int, stable: Stable) -> Both:
    """Two processes over the loopback; the slower of what each does at the least."""
    shell = stable.get(start_loopback, f"asyncio-{protection}")
    return shell.contestant(size), slower_call(protection, size)


def logins(stable: Stable) -> Both:
    """OpenLDAP's client, as a process."""
    slapd = stable.get(Server).slapd
    return our_login(slapd), their_login(slapd)


def frames(size: int, stable: Stable) -> Both:
    """A layer that gets 1 MiB of frames at once; `unseal` of their tokens."""
    return frames_in_one_read(size), bare_unseal(size)


def imports(ours: Callable[[Path], Contestant], stable: Stable) -> Both:
    """A new interpreter each time."""
    return ours(stable.folder), import_dependencies(stable.folder)


def arrival(piece: int, frame: int, stable: Stable) -> Both:
    """64 MiB that arrive in pieces; 1 MiB that does, some times over."""
    return arriving(64 * MIB, frame, piece), arriving(MIB, frame, piece, times=8)
