"""Puts a mutant in place of the original, and runs tests against it, in a fork that ends then.

Most changes are inside a function, which gets the code of the mutant's: all else stays as it is, so
the tests are collected once, for all forks. What runs when the module is imported has to be
imported anew: there pytest starts in the fork, whose parent has imported the libraries only.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import pairwise
from types import CodeType
from typing import Any

import hypothesis
import pytest

from tests.mutation.mutants import Mutant

__all__ = ["Trials", "file_of", "import_and_run", "in_fork", "run_pytest", "warm_up"]

WARM = (
    "anyio._backends._asyncio",
    "anyio.pytest_plugin",
    "anyio.streams.tls",
    "asn1tools",
    "cryptography.hazmat.decrepit.ciphers.algorithms",
    "cryptography.hazmat.primitives.ciphers.modes",
    "cryptography.hazmat.primitives.hmac",
    "cryptography.x509",
    "hypothesis.strategies",
    "pytest_asyncio.plugin",
    "pytest_cov.plugin",
    "pytest_timeout",
    "spnego",
)

#: Of processor time, for one test and for a run. No test takes a tenth, no run takes half of that.
CPU_SECONDS_OF_A_TEST = 5
CPU_SECONDS = 60

#: On the clock, for one test and for a run: where something waits for ever.
SECONDS_OF_A_TEST = 20
SECONDS = 300

#: A mutant that stores without end shall fail for want of memory, and alone.
MEMORY = 2 << 30

#: A few examples, always the same, and no search for the simplest that fails.
EXAMPLES = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)

OPTIONS = (
    "-q",
    "--tb=no",
    "--capture=no",
    "-pno:cacheprovider",
    "--hypothesis-profile=mutants",
    f"-otimeout={SECONDS_OF_A_TEST}",
    # pytest would rewrite the assertions of its plugins, which are imported already
    "-Wignore::pytest.PytestAssertRewriteWarning",
)

#: The exit code of a fork that could not do its work: no verdict on a mutant.
BROKEN = 70

FORK = multiprocessing.get_context("fork")


def warm_up() -> None:
    """Import what the tests need, and nothing of the package."""
    for module in WARM:
        importlib.import_module(module)
    hypothesis.settings.register_profile("mutants", EXAMPLES)
    assert "saslwrap" not in sys.modules


def in_fork(work: Callable[[], int]) -> int:
    """Work in a child process, and give what came of it, or minus the signal that ended it."""

    def work_and_end() -> None:
        code = BROKEN
        try:
            code = work()
        finally:
            os._exit(code)

    process = FORK.Process(target=work_and_end)
    process.start()
    process.join(SECONDS)
    process.kill()
    process.join()
    assert process.exitcode not in (None, BROKEN, pytest.ExitCode.NO_TESTS_COLLECTED)
    return process.exitcode or 0


def be_small_and_silent() -> None:
    """Limit this process, which may be at the mercy of a mutant."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def run_pytest(arguments: Iterable[str], *plugins: object) -> int:
    """Run pytest in this process."""
    return pytest.main([*OPTIONS, *arguments], plugins)


class Trials:
    """Runs chosen tests against each mutant, where pytest would run all, once.

    :param trials: mutants of code inside functions, with the ids of tests, in order
    :param judge: takes a mutant, and 0 if no test failed
    """

    def __init__(
        self,
        trials: Iterable[tuple[Mutant, Sequence[str]]],
        judge: Callable[[Mutant, int], None],
    ) -> None:
        self._trials = trials
        self._judge = judge

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take pytest's place: it has collected the tests by now."""
        items = {item.nodeid: item for item in session.items}
        for mutant, tests in self._trials:
            chosen = [items[test] for test in tests]
            self._judge(mutant, in_fork(lambda: self._try(mutant, chosen)))  # noqa: B023
        return True

    def _try(self, mutant: Mutant, items: Sequence[pytest.Item]) -> int:
        be_small_and_silent()
        replace_code(mutant)
        try:
            return run_until_one_fails(items)
        except (
            BaseException
        ):  # pytest lets an interrupt through, or breaks itself for want of memory
            return 1


def run_until_one_fails(items: Sequence[pytest.Item]) -> int:
    """Run tests that pytest collected; give 1 if one failed, 0 if none did."""
    for item, following in pairwise([*items, None]):
        assert item is not None
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS_OF_A_TEST)  # and then SIGVTALRM ends us
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return 1
    return 0


def replace_code(mutant: Mutant) -> None:
    """Give a function the code that it has in the mutant."""
    found: Any = importlib.import_module(module_name(mutant))
    names: list[str] = []
    for name in mutant.place:
        names.append(name)
        found = vars(found)[name]
        if not isinstance(found, type):
            break
    function = inspect.unwrap(getattr(found, "fget", found))
    found = [code for code in codes_in(compiled(mutant)) if code.co_qualname == ".".join(names)]
    # without `super()` it would close over nothing, which a method that had it does not take
    function.__code__ = found[-1].replace(co_freevars=function.__code__.co_freevars)


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Walk the code of all functions, in order."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)


def compiled(mutant: Mutant) -> CodeType:
    """Compile the whole file, as if it stood where the original stands."""
    return compile(mutant.source, str(mutant.path.resolve()), "exec", dont_inherit=True)


def module_name(mutant: Mutant) -> str:
    """Name the module that a file is."""
    return ".".join(mutant.path.with_suffix("").parts)


class MutantLoader(SourceFileLoader):
    """Finds one module, and loads it from a mutant's source."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(module_name(mutant), str(mutant.path.resolve()))
        self._mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find it; the others are for the next finder."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Compile it, past the cache of compiled files."""
        return compiled(self._mutant)


def file_of(test: str) -> str:
    """Give the file that a test's id begins with."""
    return test.partition("::")[0]


class Chosen:
    """Keeps the chosen tests of those that pytest collects.

    :param tests: their ids, or files whose tests are all chosen
    """

    def __init__(self, tests: Iterable[str]) -> None:
        self._tests = set(tests)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if {item.nodeid, file_of(item.nodeid)} & self._tests]


def import_and_run(mutant: Mutant, tests: Collection[str]) -> int:
    """Import a mutant and run tests, given by their ids or files; give 0 if none failed."""

    def work() -> int:
        be_small_and_silent()
        sys.dont_write_bytecode = True
        sys.meta_path.insert(0, MutantLoader(mutant))
        # pytest would rewrite the package's assertions, as it has a plugin, and find it for that
        arguments = ["-x", "--assert=plain", *{file_of(test) for test in tests}]
        return run_pytest(arguments, Chosen(tests))

    return in_fork(work)
