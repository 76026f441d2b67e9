"""What a process holds: memory as the kernel counts it, open files, live objects by type."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FILE_DESCRIPTORS", "Memory", "live_objects", "malloced", "open_files"]

#: There on Linux only.
FILE_DESCRIPTORS = Path("/proc/self/fd")
ROLLUP = Path("/proc/self/smaps_rollup")


@dataclass(frozen=True)
class Memory:
    """Memory of this process, in KiB.

    :param rss: what is resident
    :param pss: the same, with each shared page divided by those who share it
    """

    rss: int
    pss: int

    @classmethod
    def now(cls) -> Memory:
        """Measure, after the garbage is collected and given back. (Linux only.)"""
        gc.collect()
        give_back()
        found = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", ROLLUP.read_text(), re.MULTILINE))
        return cls(int(found["Rss"]), int(found["Pss"]))


def give_back() -> None:
    """Have the C library give back to the system what it keeps for later, by malloc_trim(3).

    Without it RSS grows, by steps, with the holes between what lives. Not with another libc.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Malloc(ctypes.Structure):
    """`struct mallinfo2`, as mallinfo(3) has it."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    )


def malloced() -> float:
    """What is allocated by the C library, in KiB: by OpenSSL, and by Python what is large.

    Unlike RSS it does not grow by fragmentation. 0 without glibc 2.33.
    """
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    ask.restype = _Malloc
    told = ask()
    return float(told.uordblks + told.hblkhd) / 1024


def open_files() -> int:
    """Count file descriptors, without the one that uvloop puts by for when they run out."""
    names = []
    for descriptor in FILE_DESCRIPTORS.iterdir():
        with suppress(FileNotFoundError):
            names.append(descriptor.readlink())
    return len([name for name in names if name != Path(os.devnull)])


def live_objects(*modules: str) -> dict[str, int]:
    """Count the live objects of classes from these packages, by the name of their class.

    :param modules: names of packages, `"saslwrap"`
    """
    prefixes = tuple(f"{module}." for module in modules)
    counts = Counter(
        type(one).__qualname__
        for one in gc.get_objects()
        if str(type(one).__module__).startswith(prefixes)  # of some in C it is no string
    )
    return dict(counts)
