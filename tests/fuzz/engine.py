"""The fuzzer, atheris (libFuzzer for Python): alone here, so that all else runs without it.

It watches modules that are imported under its eyes, so nothing of the package may be imported
before; and it ends the process when it is done. Hence a process for each run: `python -m
tests.fuzz run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["fuzz"]

#: What is watched for coverage: the package, and the parser that decodes LDAP for it.
INSTRUMENTED = ["saslwrap", "asn1tools.codecs"]

#: Seconds that one input may take before it counts as a hang.
PATIENCE = 20


def fuzz(name: str, found: Path, options: Sequence[str]) -> None:
    """Run the fuzzer on a target, from its seeds, its corpus and what was found. Never returns.

    :param name: of the target
    :param found: the folder where new inputs go
    :param options: libFuzzer's, as `-runs=1000`
    """
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS

        target = TARGETS[name]
        found.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):  # which import what is imported lazily
            (found / f"seed-{number:03}").write_bytes(seed)

    def attack(data: bytes) -> None:
        target.run(data)

    limits = [f"-max_len={target.longest}", f"-timeout={PATIENCE}"]
    folders = [str(folder) for folder in (found, target.folder) if folder.is_dir()]
    atheris.Setup([sys.argv[0], *limits, *options, *folders], attack)
    atheris.Fuzz()
