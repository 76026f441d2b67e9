"""What `import saslwrap` takes, beside what it imports from outside, alone.

Each time in a new interpreter, timed around the import: the interpreter's own start is left out,
and so is writing byte code, which the first run does. "Its dependencies" are the modules that do
not come with Python, in the order in which they were loaded, with what of Python they load
themselves; what we load of Python beyond that counts as ours.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder

from tests.bench.child import run_python
from tests.bench.cost import Contestant, Cost

__all__ = ["import_dependencies", "import_package"]

_TIMED = """
from time import perf_counter_ns, process_time_ns
wall, cpu = perf_counter_ns(), process_time_ns()
import {}
print(perf_counter_ns() - wall, process_time_ns() - cpu)
"""


def import_package() -> Contestant:
    """Time it for the whole package."""
    return _importing("saslwrap")


def import_dependencies() -> Contestant:
    """Time it for what the package needs."""
    return _importing(", ".join(dependencies()))


@cache
def dependencies() -> tuple[str, ...]:
    """Name the modules from outside that `import saslwrap` loads."""
    before, after = (
        run_python(f"import sys{more}; print(*sys.modules)").split() for more in ("", ", saslwrap")
    )
    ours = sys.stdlib_module_names | {"saslwrap"} | {*before}
    outside = [name for name in after if name.partition(".")[0] not in ours]
    # what a library in C makes within itself cannot be imported alone
    return tuple(name for name in outside if PathFinder.find_spec(name.partition(".")[0]))


def _importing(modules: str) -> Contestant:
    def once() -> Cost:
        wall, cpu = map(int, run_python(_TIMED.format(modules)).split())
        return Cost(wall / 1e9, cpu / 1e9)

    return lambda count: sum((once() for _ in range(count)), Cost(0, 0)) / count
