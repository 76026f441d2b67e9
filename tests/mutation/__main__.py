"""The command `python -m tests.mutation [FILE ...]`: which mutants does no test notice?

It names each that survives as it finds it, on the standard error, and draws a table in the end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from coverage import CoverageData

from tests.mutation.forks import Trials, file_of, import_and_run, in_fork, run_pytest, warm_up
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.survivors import accepted

#: Floors 0 to 3, as far as DIGEST-MD5 over LDAP and IMAP goes.
FILES = (
    "saslwrap/*.py",
    "saslwrap/mechanisms/*_binding.py",
    "saslwrap/mechanisms/names.py",
    "saslwrap/mechanisms/digest_md5/*.py",
    "saslwrap/protocols/*.py",
)

FOLDERS = {"saslwrap", "mechanisms", "protocols"}

NOT_THESE = {"__init__.py", "__main__.py", "_version.py"}

#: Their tests: what is fast and needs nothing outside.
TESTS = (
    "attacks/test_[afh]_*.py",
    "attacks/test_c_tamper.py",
    "attacks/test_e_[cdmp]*.py",
    "attacks/test_e_na*.py",
    "attacks/test_e_no*.py",
    "attacks/test_g_s*.py",
    "test_channel_binding.py",
    "test_context.py",
    "test_digest_md5_*.py",
    "test_errors.py",
    "test_failed_sends.py",
    "test_exchange*.py",
    "test_found_by_others.py",
    "test_framing.py",
    "test_half_made.py",
    "test_imap.py",
    "test_layer*.py",
    "test_line_logins.py",
    "test_ldap*.py",
    "test_mechanism.py",
    "test_mechanism_kinds.py",
    "test_names.py",
    "test_pop3.py",
    "test_properties.py",
    "test_sieve.py",
    "test_smtp.py",
    "test_sspi_m*.py",
)

#: It counts memory, of which coverage takes some.
NOT_UNDER_COVERAGE = "tests/test_sspi_memory.py::test_neither_direction_copies_the_message"

#: Which tests run a line, by its number: their ids, and `IMPORT` where it runs at import.
Coverage = Mapping[int, set[str]]
IMPORT = ""

COLUMNS = ("mutants", "killed", "timed out", "accepted", "survived", "left out")


class Tally:
    """Counts what came of each mutant, by its file, and names those that nobody knows of."""

    def __init__(self) -> None:
        self.table: dict[Path, Counter[str]] = defaultdict(Counter)
        self._accepted = accepted()

    def judge(self, mutant: Mutant, code: int) -> None:
        """Take the exit code of the tests, 0 if none failed, negative for a signal."""
        found = "killed" if code > 0 else "timed out" if code else "survived"
        if not code and mutant.name in self._accepted:
            found = "accepted"
        if found == "survived":
            sys.stderr.write(f"{mutant.name}\n")
        self.table[mutant.path].update((found, "mutants"))


def main(arguments: Sequence[str]) -> int:
    """Try mutants; give 1 if one survived that is not in the list."""
    options = parsed(arguments)
    tests = find(Path("tests"), TESTS)
    warm_up()
    coverages, tally = measure(tests), Tally()
    inside: list[tuple[Mutant, Sequence[str]]] = []
    for mutant in wanted(options, tally):
        at_import, chosen = noticing(mutant, coverages.get(str(mutant.path.resolve()), {}))
        if at_import:
            tally.judge(mutant, in_stages(mutant, chosen[: options.most]))
        else:
            inside.append((mutant, chosen[: options.most]))
    run_pytest(map(str, tests), Trials(inside, tally.judge))
    sys.stdout.writelines(drawn(tally.table))
    return any(counts["survived"] for counts in tally.table.values())


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Take the command line apart."""
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="all of floors 0 to 3 if none is named")
    parser.add_argument("--again", type=Path, help="try those that this file names and no others")
    parser.add_argument("--most", type=int, help="how many tests to run for a mutant, at most")
    return parser.parse_args(arguments)


def wanted(options: argparse.Namespace, tally: Tally) -> Iterator[Mutant]:
    """Make the mutants that are asked for."""
    names = set(options.again.read_text("utf-8").splitlines()) if options.again else None
    again = sorted({Path(name.partition(":")[0]) for name in names or ()})
    for file in options.files or again or find(Path(), FILES):
        mutants, tally.table[file]["left out"] = mutants_of(file)
        yield from (mutant for mutant in mutants if names is None or mutant.name in names)


def find(root: Path, patterns: Iterable[str]) -> list[Path]:
    """Find files by their patterns."""
    files = chain.from_iterable(map(root.glob, patterns))
    return sorted(file for file in files if file.name not in NOT_THESE)


def measure(tests: Iterable[Path]) -> dict[str, Coverage]:
    """Run all tests without a mutant: they must pass. Give which of them run which line."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COVERAGE_FILE"] = f"{folder}/coverage"
        arguments = ["--cov", "--cov-context=test", "--cov-report="]
        arguments += [f"--deselect={NOT_UNDER_COVERAGE}", *map(str, tests)]
        if code := in_fork(lambda: run_pytest(arguments)):
            sys.exit(f"the tests fail without any mutant: pytest ends with {code}")
        data = CoverageData(os.environ.pop("COVERAGE_FILE"))
        data.read()
        return {file: coverage_of(data, file) for file in data.measured_files()}


def coverage_of(data: CoverageData, file: str) -> Coverage:
    """Name the tests that run each line of a file, without the phases that pytest-cov tells."""
    return {
        line: {context.rpartition("|")[0] for context in contexts}
        for line, contexts in data.contexts_by_lineno(file).items()
    }


def noticing(mutant: Mutant, coverage: Coverage) -> tuple[bool, list[str]]:
    """Say whether what a mutant changes runs at import alone; name the tests that may notice it."""
    tests = set().union(*(coverage.get(line, ()) for line in mutant.lines))
    if at_import := tests == {IMPORT}:
        tests = set().union(*coverage.values())
    return at_import, nearest_first(mutant.path, tests - {IMPORT})


def nearest_first(path: Path, tests: Iterable[str]) -> list[str]:
    """Order tests by their files: the module's own, then what has the most of them."""
    near = Counter(map(file_of, tests))
    files = sorted(near, key=lambda file: (file != own_tests(path), -near[file]))
    return sorted(tests, key=lambda test: (files.index(file_of(test)), test))


def own_tests(path: Path) -> str:
    """Name the file that tests a module: without the package, and the folders of floor 3."""
    names = [name for name in path.with_suffix("").parts if name not in FOLDERS]
    return f"tests/test_{'_'.join(names)}.py"


def in_stages(mutant: Mutant, tests: Sequence[str]) -> int:
    """Import a mutant and run all of the module's own tests, then the others."""
    own = own_tests(mutant.path)
    for part in ([own] if Path(own).exists() else [], tests):
        if part and (code := import_and_run(mutant, part)):
            return code
    return 0


def drawn(table: Mapping[Path, Counter[str]]) -> Iterator[str]:
    """Draw the table, with its sum, line by line."""
    yield row("file", *COLUMNS, "noticed")
    yield row(*["---"] * (len(COLUMNS) + 2))
    for file, counts in (*table.items(), ("all", sum(table.values(), Counter()))):
        noticed = (counts["killed"] + counts["timed out"]) / max(counts["mutants"], 1)
        yield row(file, *(counts[column] for column in COLUMNS), f"{noticed:.1%}")


def row(*cells: object) -> str:
    """Write a row of a table."""
    return f"| {' | '.join(map(str, cells))} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
