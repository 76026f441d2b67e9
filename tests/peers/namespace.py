"""Programs in a network namespace of their own, and ways in from outside.

Such a namespace has a loopback interface and nothing else: every port is free in it, also one that
a server cannot be talked out of. It has no name and no mount. The kernel takes it away with the
last process that lives in it and the last socket that was made in it.

A thread can live in another namespace than the rest of its process. What it starts is born there;
a socket stays where it was made, whoever uses it. So a thread that moves, does one thing, and ends
is all that starting and connecting take. Moving needs root.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tests.peers.support import LOOPBACK, program, require_program, stop_process, unavailable
from tests.peers.wiretap import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from subprocess import Popen

PROGRAMS = ("ip",)

_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def require_namespaces() -> None:
    """Skip the test where nobody may make a namespace; fail where peers are required."""
    require_program(*PROGRAMS)
    try:
        _in_a_thread(_move_to_a_new_one)
    except OSError as error:
        unavailable(f"no network namespace, which takes root: {error}")


def namespace_of(pid: int | str = "self") -> str:
    """What the kernel calls the network namespace of a process: `net:[4026531840]`."""
    return os.readlink(f"/proc/{pid}/ns/net")


def start_inside(
    *arguments: str, log: Path, environment: Mapping[str, str] | None = None
) -> Popen[bytes]:
    """Start a program in a new namespace with loopback up.

    Its standard input is a pipe that ends with this process, for programs that end with it.
    """
    return _in_a_thread(partial(_start, arguments, log, {**os.environ, **(environment or {})}))


def stop_inside(process: Popen[bytes]) -> None:
    """End one that `start_inside` started."""
    assert process.stdin is not None
    stop_process(process)
    process.stdin.close()


def connect(pid: int, port: int, timeout: float = 10) -> socket.socket:
    """A TCP connection inside the namespace of a process, usable from here."""
    return _in_a_thread(partial(_connect, pid, port, timeout))


class Forwarder(Relay):
    """A relay from a free port on loopback to a port inside the namespace of a process."""

    def __init__(self, pid: int, port: int) -> None:
        super().__init__(partial(connect, pid, port))


def _in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:  # its thread ends with the block
        return pool.submit(work).result()


def _start(arguments: tuple[str, ...], log: Path, environ: dict[str, str]) -> Popen[bytes]:
    _move_to_a_new_one()
    with log.open("wb") as output:
        return subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environ
        )


def _connect(pid: int, port: int, timeout: float) -> socket.socket:
    _move_to_that_of(pid)
    return socket.create_connection((LOOPBACK, port), timeout=timeout)


def _move_to_a_new_one() -> None:
    _check(_libc().unshare(_CLONE_NEWNET))
    up = [program("ip"), "link", "set", "lo", "up"]
    subprocess.run(up, stdin=subprocess.DEVNULL, check=True)


def _move_to_that_of(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        _check(_libc().setns(namespace.fileno(), _CLONE_NEWNET))


def _libc() -> ctypes.CDLL:
    """The module `os` has these two calls only from Python 3.12 on."""
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
