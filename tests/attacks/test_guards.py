"""Every guard matters: without it, in a copy of the package, its attack test fails.

And every attack test has a guard, every guard's source is where the table says, and every line of
the attack list has a test.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.attacks import guards_gss
from tests.attacks.guard import Guard
from tests.attacks.guards import GUARDS
from tests.peers.directory import ALICE
from tests.peers.kdc import Realm
from tests.peers.support import find_program

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

OF_GSS = {test for test, _ in guards_gss.GUARDS}
OF_KERBEROS = {test for test, _ in guards_gss.KERBEROS_GUARDS}

LINES = {
    *(f"a{number}" for number in range(1, 7)),
    *(f"b{number}" for number in range(1, 11)),
    *(f"c{number}" for number in range(1, 11)),
    "d",
    *(f"e{number}" for number in range(1, 18)),
    *(f"f{number}" for number in range(1, 7)),
    *(f"g{number}" for number in range(1, 9)),
    "h",
}

#: What a replacement that is no Python, or misses a name, would fail of: not of the attack.
BROKEN = re.compile(r"\b(SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError)\b")

CONFTEST = """\
import os
from pathlib import Path

import pytest

import saslwrap

assert Path(saslwrap.__file__).is_relative_to(Path(__file__).parent), saslwrap.__file__


@pytest.fixture
def alice_ticket():
    if "KRB5CCNAME" not in os.environ:
        pytest.skip("no realm")
"""

SETTINGS = """\
[pytest]
addopts = --import-mode=importlib -p no:cacheprovider -p anyio.pytest_plugin
pythonpath = .
markers =
    timeout: not in force here
    peer: talks to a real server
"""


def functions_in(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            yield node


ATTACKS = {
    f"{path.name}::{test.name}": ast.get_docstring(test) or ""
    for path in sorted(HERE.glob("test_[a-z]_*.py"))
    for test in functions_in(path)
}


def modules_in(path: Path) -> Iterator[str]:
    """Name what a file imports, and whatever of a module's names may be a module itself."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module, names, level=0):
                yield from (f"{module}.{name.name}" for name in names)


def imported_by(path: Path) -> Iterator[Path]:
    """Find the files of the tests that a file imports, attacks left out."""
    for module in modules_in(path):
        parts = module.split(".")
        for end in range(1, len(parts) + 1) if parts[0] == "tests" else ():
            place = ROOT.joinpath(*parts[:end])
            files = (place.with_suffix(".py"), place / "__init__.py")
            yield from (file for file in files if file.is_file() and file.parent != HERE)


@cache
def helpers() -> frozenset[Path]:
    """Find what the attacks need from elsewhere in the tests, by whatever way."""
    found: set[Path] = set()
    to_read = {path for path in HERE.glob("*.py") if path != Path(__file__)}
    while to_read := {helper for path in to_read for helper in imported_by(path)} - found:
        found |= to_read
    return frozenset(found)


def in_one_line(source: str) -> str:
    return " ".join(source.split())


def copy_package(to: Path) -> None:
    """Copy the package and the attacks; give them settings of their own."""
    unwanted = shutil.ignore_patterns("test_guards*")
    shutil.copytree(ROOT / "saslwrap", to / "saslwrap")
    shutil.copytree(HERE, to / "tests" / "attacks", ignore=unwanted)
    for helper in helpers():
        copy = to / helper.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(helper, copy)
    (to / "conftest.py").write_text(CONFTEST)
    (to / "pytest.ini").write_text(SETTINGS)


class Forker:
    """Runs attack tests against copies of the package, with `forker.py`."""

    def __init__(self) -> None:
        kept = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", HERE / "forker.py"],
            env={**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, root: Path, environment: dict[str, str], *tests: str) -> tuple[int, str]:
        """Give the exit code, negative for a signal, and the report."""
        assert self.process.stdin
        assert self.process.stdout
        request = [str(root), environment, *(f"tests/attacks/{test}" for test in tests)]
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code, report = json.loads(self.process.stdout.readline())
        return code, report


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    forker = Forker()
    with forker.process:
        yield forker


@pytest.fixture(scope="module")
def realm_environment(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process needs to be in the realm, with a ticket of Alice's."""
    cache = tmp_path_factory.mktemp("realm") / "ccache"
    realm.kinit(ALICE.username, ALICE.password, cache=cache)
    return {**realm.environment, "KRB5CCNAME": f"FILE:{cache}"}


@pytest.fixture
def environment(request: pytest.FixtureRequest, test: str) -> dict[str, str]:
    """What the attack needs; without that the test is skipped."""
    if test in OF_GSS:
        pytest.importorskip("spnego")
    return request.getfixturevalue("realm_environment") if test in OF_KERBEROS else {}


def test_every_line_of_the_attack_list_has_a_test() -> None:
    assert {re.split("::test_|_", name.partition("::")[2])[1] for name in ATTACKS} == LINES


def test_every_attack_names_its_guards_as_the_table_does() -> None:
    named = {
        (test, file, source)
        for test, text in ATTACKS.items()
        for file, source in re.findall(r"^Guard: (\S+): (.+)$", text, re.MULTILINE)
    }
    listed = {
        (test.partition("[")[0], guard.file, in_one_line(guard.source)) for test, guard in GUARDS
    }
    assert named == listed
    assert {test for test, _, _ in listed} == set(ATTACKS)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tests import raw_server as server", ["__init__.py", "raw_server.py"]),
        ("import tests.support", ["__init__.py", "support.py"]),
        (
            "def late():\n    from tests.peers import kdc",
            ["__init__.py", "peers/__init__.py", "peers/kdc.py"],
        ),
        ("from tests.support import KEY", ["__init__.py", "support.py"]),
        ("from tests.attacks.gss import judge", ["__init__.py"]),
        ("from testscenarios import support", []),
    ],
)
def test_a_copy_gets_what_is_imported(source: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "attack.py").write_text(source)
    assert sorted(imported_by(tmp_path / "attack.py")) == [ROOT / "tests" / name for name in found]


def test_no_row_stands_twice() -> None:
    assert max(Counter(GUARDS).values()) == 1


@pytest.mark.parametrize("guard", sorted({guard for _, guard in GUARDS}, key=repr), ids=repr)
def test_source_of_a_guard_stands_exactly_once(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text("utf-8").count(guard.source) == 1


@pytest.mark.guards
def test_no_attack_succeeds_in_a_copy_that_has_all_guards(
    forker: Forker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The control: the copy as such is no reason for a test to fail there.

    Without a realm those that need one are skipped in the copy.
    """
    environment: dict[str, str] = {}
    if all(map(find_program, Realm.programs)):
        environment = request.getfixturevalue("realm_environment")
    copy_package(tmp_path)
    left_out = set() if importlib.util.find_spec("spnego") else OF_GSS
    tests = [test for test in dict(GUARDS) if "_million_" not in test and test not in left_out]
    code, report = forker.run(tmp_path, environment, *tests)
    assert code == 0, report


@pytest.mark.guards
@pytest.mark.parametrize(
    ("test", "guard"),
    [
        pytest.param(
            test,
            guard,
            id=f"{place} {test}",
            marks=[pytest.mark.peer] if test in OF_KERBEROS else [],
        )
        for place, (test, guard) in enumerate(GUARDS)
    ],
)
def test_attack_succeeds_without_the_guard(
    test: str, guard: Guard, forker: Forker, environment: dict[str, str], tmp_path: Path
) -> None:
    copy_package(tmp_path)
    file = tmp_path / guard.file
    source = file.read_text("utf-8")
    assert source.count(guard.source) == 1
    file.write_text(source.replace(guard.source, guard.without), "utf-8")
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()
    code, report = forker.run(tmp_path, environment, test)
    assert code == 1, report
    assert f"FAILED tests/attacks/{test}" in report
    assert "1 failed" in report
    assert "ERROR" not in report
    assert not BROKEN.search(report), report
