"""What `import saslwrap` takes, beside what it depends on, alone.

Each time in a new interpreter, timed around the import: the interpreter's own start is left out,
and so is compiling, which the run before the first pair does once for all. Its dependencies are
those that it declares, extras left out, each imported by its name.
"""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

from tests.bench.child import run_python
from tests.bench.cost import Contestant, Cost

__all__ = ["import_dependencies", "import_mechanisms", "import_package"]

_MECHANISMS = (
    "saslwrap.mechanisms.digest_md5",
    "saslwrap.mechanisms.gssapi",
    "saslwrap.mechanisms.gss_spnego",
)

_TIMED = """
from time import perf_counter_ns, process_time_ns
wall, cpu = perf_counter_ns(), process_time_ns()
import {}
print(perf_counter_ns() - wall, process_time_ns() - cpu)
"""


def import_package(folder: Path) -> Contestant:
    """Time it for the whole package.

    :param folder: where compiled modules are kept
    """
    return _importing("saslwrap", folder)


def import_dependencies(folder: Path) -> Contestant:
    """Time it for what the package needs."""
    return _importing(", ".join(dependencies()), folder)


def import_mechanisms(folder: Path) -> Contestant:
    """Time it for the package with its mechanisms, which are loaded when they are asked for."""
    return _importing(f"saslwrap, {', '.join(_MECHANISMS)}", folder)


def dependencies() -> list[str]:
    """Name what the package declares to need in any case."""
    declared = requires("saslwrap") or []
    return [re.split(r"[^\w.]", line)[0] for line in declared if "extra ==" not in line]


def _importing(modules: str, folder: Path) -> Contestant:
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}

    def once() -> Cost:
        wall, cpu = map(int, run_python(_TIMED.format(modules), **compiled).split())
        return Cost(wall / 1e9, cpu / 1e9)

    return lambda count: sum((once() for _ in range(count)), Cost(0, 0)) / count
