"""Cyrus SASL in C: `cyrus.c`, over the system's libsasl2 as its package has it."""

from __future__ import annotations

from pathlib import Path

from tests.bench.child import Child, built
from tests.peers.support import program

__all__ = ["SSF", "start_cyrus"]

#: What it calls the layers, by our names.
SSF = {"auth-int": 1, "rc4": 128}

_HEADER = Path("/usr/include/sasl/sasl.h")


def start_cyrus(folder: Path, protection: str) -> Child:
    """Compile it, where that is not done, and log in.

    :raises FileNotFoundError: there is no compiler, or no header; the text says what to install
    """
    binary = folder / "cyrus"
    if not binary.exists():
        _compile(binary)
    state = folder / f"cyrus-{protection}"
    state.mkdir()
    return Child([binary, state, str(SSF[protection])], {"SASL_CONF_PATH": str(state)})


def _compile(binary: Path) -> None:
    compiler = program("gcc")
    if not _HEADER.exists():
        raise FileNotFoundError(f"{_HEADER}: apt-get install libsasl2-dev")
    # callbacks of the library are functions of any type, by a cast
    warnings = ("-Wall", "-Wextra", "-Wno-cast-function-type")
    source = Path(__file__).with_name("cyrus.c")
    built([compiler, "-O2", *warnings, source, "-o", binary, "-lsasl2"])
