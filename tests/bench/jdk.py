"""The JDK: `Seal.java`, with its compiler left to do what it can.

What that makes of the same code differs by a third from one start of a JVM to the next, and stays
so for as long as it runs. So there are some, which take turns, and the interval shows it.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.child import Child, built
from tests.peers.support import program

__all__ = ["STARTS", "start_jdk"]

STARTS = ("1", "2", "3")


def start_jdk(folder: Path, cipher: str, number: str) -> Child:
    """Compile it, where that is not done, log in, and warm up.

    :param number: which of some
    :raises FileNotFoundError: there is no JDK; the text says what to install
    """
    if not (folder / "Seal.class").exists():
        source = Path(__file__).with_name("Seal.java")
        built([program("javac"), "-encoding", "UTF-8", "-Xlint:all", "-d", folder, source])
    child = Child([program("java"), "-XX:+UseSerialGC", "-cp", folder, "Seal", cipher])
    for call in ("seal", "unseal"):
        child.measure(f"{call} 65000 30")
    return child
