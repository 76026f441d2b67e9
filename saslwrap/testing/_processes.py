"""Programs that a test starts on loopback: found, waited for, ended by their id."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Final

__all__ = [
    "LOOPBACK",
    "StartError",
    "find_program",
    "hold_port",
    "log_tail",
    "stop_process",
    "wait_for",
    "wait_for_port",
]

LOOPBACK: Final = "127.0.0.1"

#: Where programs are that a plain user's PATH does not have; the last ones are Homebrew's.
_SYSTEM_FOLDERS: Final = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/opt/homebrew/opt/krb5/sbin",
    "/opt/homebrew/opt/krb5/bin",
    "/usr/local/opt/krb5/sbin",
    "/usr/local/opt/krb5/bin",
)


class StartError(Exception):
    """A program did not do what it had to; the text ends with what it said."""


def find_program(name: str) -> str | None:
    """The path of a program, also where a plain user's PATH does not look."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
    return shutil.which(name, path=path)


def hold_port(stack: ExitStack) -> int:
    """A port that nobody else gets while `stack` is open, but a socket with SO_REUSEPORT may share.

    For servers that set that: a second one on the same port would start without a word, and the two
    would take turns.
    """
    holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((LOOPBACK, 0))
    return int(holder.getsockname()[1])


def wait_for_port(
    process: Popen[bytes], port: int, log: Path, *, ready: str = "", timeout: float = 15
) -> None:
    """Return once `process` listens on `port`; `StartError` if it ends or time is up.

    `ready` is what the log must say by then: without it, a stranger on the same port would pass
    for the server until the server has noticed.
    """

    def listens() -> bool:
        return (not ready or ready in log_tail(log)) and _accepts(port)

    wait_for(process, listens, log, what=f"nothing on port {port}", timeout=timeout)


def wait_for(
    process: Popen[bytes], ready: Callable[[], bool], log: Path, *, what: str, timeout: float = 15
) -> None:
    """Return once `process` is ready; `StartError` if it ends or time is up: `what` after it."""
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if ready():
            return
        if time.monotonic() > deadline:
            raise StartError(f"{what} after {timeout:g} s\n{log_tail(log)}")
        time.sleep(0.02)
    raise StartError(f"ended with status {process.returncode}\n{log_tail(log)}")


def stop_process(process: Popen[bytes] | Popen[str], timeout: float = 10) -> None:
    """End one process by its id: ask, then insist. Ended already is fine."""
    process.terminate()
    try:
        process.wait(timeout)
    except TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log, or a word about why there are none."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(empty log)"


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
