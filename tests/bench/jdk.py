"""The JDK: `Seal.java`, with its compiler left to do what it can."""

from __future__ import annotations

from pathlib import Path

from tests.bench.child import Child, built
from tests.peers.support import program

__all__ = ["start_jdk"]


def start_jdk(folder: Path, cipher: str) -> Child:
    """Compile it, where that is not done, and log in.

    :raises FileNotFoundError: there is no JDK; the text says what to install
    """
    if not (folder / "Seal.class").exists():
        source = Path(__file__).with_name("Seal.java")
        built([program("javac"), "-encoding", "UTF-8", "-Xlint:all", "-d", folder, source])
    return Child([program("java"), "-XX:+UseSerialGC", "-cp", folder, "Seal", cipher])
