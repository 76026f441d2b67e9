"""The tool of tests/mutation: which mutants it makes, and how one is put in place."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

pytest.importorskip("mutmut")
pytest.importorskip("resource")

from tests.mutation.__main__ import IMPORT, Tally, drawn, noticing
from tests.mutation.forks import MutantLoader, in_fork, replace_code
from tests.mutation.mutants import Mutant, joined, mutants_of
from tests.mutation.survivors import accepted

# pytest-timeout may have a thread of its own, and Python 3.12 warns of forks beside threads
forking = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

ROOT = Path(__file__).parent.parent

SUBJECT = """\
LIMIT = 4


class Parent:
    def __init__(self):
        self.limit = LIMIT


class Child(Parent):
    def __init__(self):
        super().__init__()
        self.rest = [self.limit - place for place in range(2)]

    @property
    def least(self):
        return min(self.rest)

    @classmethod
    def greatest(cls):
        return max(cls().rest)
"""


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current folder, to be forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "subject", None)
    monkeypatch.delitem(sys.modules, "subject")
    Path("subject.py").write_text(SUBJECT)
    return Path("subject.py")


def mutant_of(subject: Path, change: str) -> Mutant:
    """Find the mutant with this change, the first if there are several."""
    return next(mutant for mutant in mutants_of(subject)[0] if mutant.name.endswith(f": {change}"))


def changes_in(subject: Path, source: str) -> list[str]:
    """Give the changes that are made in some source, with their places."""
    subject.write_text(dedent(source))
    return [mutant.name.removeprefix("subject.py: ") for mutant in mutants_of(subject)[0]]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("LIMIT = 4", ["module: LIMIT = 4 -> LIMIT = None", "module: LIMIT = 4 -> LIMIT = 5"]),
        (
            """
            class A:
                @property
                def b(self):
                    if self.c:
                        raise ValueError
                    return self.d
            """,
            [
                "A.b: if self.c: -> if not (self.c):",
                "A.b: raise ValueError -> pass",
                "A.b: return self.d -> pass",
            ],
        ),
        (
            """
            def f():
                g(
                    1
                )
            """,
            ["f: g( 1 ) -> pass", "f: 1 -> None", "f: 1 -> 2"],
        ),
        (
            """
            def f():
                g()
                g()
            """,
            ["f: g() -> pass", "f: g() -> pass (2)"],
        ),
    ],
    ids=["constant", "property", "lines", "alike"],
)
def test_changes(subject: Path, source: str, changes: list[str]) -> None:
    assert changes_in(subject, source) == changes


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    raise ValueError('text', 1 + 2)",
        "def f():\n    g(ValueError('text'))",
        "def __repr__():\n    return 'text' + 1",
        "def f():\n    g()\n    return None",
        "T = TypeVar('T')",
        "A: TypeAlias = int | None",
        "__all__ = ['f']",
        "def f(a: A['text'] = b) -> 'text':\n    ...",
        "@dataclass(frozen=True)\nclass A:\n    ...",
        "from a import b",
    ],
    ids=[
        "raised",
        "made",
        "repr",
        "end",
        "variable",
        "alias",
        "all",
        "type",
        "decorator",
        "import",
    ],
)
def test_what_is_left_out(subject: Path, source: str) -> None:
    """Of a statement with a text, only that it is there is held; of the others nothing."""
    changes = changes_in(subject, source)
    assert [change for change in changes if not change.endswith(("-> pass", "-> g(None)"))] == []


def test_arguments_that_are_more_than_texts_are_changed(subject: Path) -> None:
    source = "def f():\n    raise FrameTooLargeError(length, 4)"
    assert len(changes_in(subject, source)) > 4


def test_a_mutant_knows_its_lines(subject: Path) -> None:
    mutant = mutant_of(subject, "return min(self.rest) -> return min(None)")
    assert mutant.place == ("Child", "least")
    assert mutant.lines == range(16, 17)
    assert mutant.source == SUBJECT.replace("min(self.rest)", "min(None)")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("self.rest = [self.limit - place for place in range(2)] -> self.rest = None", None),
        ("super().__init__() -> pass", AttributeError),
        ("return min(self.rest) -> pass", (None, 4)),
        ("return max(cls().rest) -> pass", (3, None)),
    ],
    ids=["method", "super", "property", "classmethod"],
)
def test_the_code_of_a_function_is_replaced(subject: Path, change: str, expected: Any) -> None:
    module = importlib.import_module("subject")
    assert (module.Child().least, module.Child.greatest()) == (3, 4)
    replace_code(mutant_of(subject, change))
    if isinstance(expected, tuple):
        assert (module.Child().least, module.Child.greatest()) == expected
    elif expected:
        with pytest.raises(expected):
            module.Child()
    else:
        assert module.Child().rest is None


def test_a_mutant_is_imported(subject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutant_of(subject, "LIMIT = 4 -> LIMIT = 5")
    monkeypatch.setattr(sys, "meta_path", [MutantLoader(mutant), *sys.meta_path])
    module = importlib.import_module("subject")
    assert module.Child.greatest() == 5
    assert module.__file__ == str(subject.resolve())


NOTICING = """
from pathlib import Path
from tests.mutation.forks import import_and_run, warm_up
from tests.mutation.mutants import mutants_of

warm_up()
mutants, _ = mutants_of(Path("saslwrap/framing.py"))
[mutant] = [one for one in mutants if one.name.endswith(" LENGTH_OCTETS = 4 -> LENGTH_OCTETS = 5")]
assert import_and_run(mutant, ["tests/test_framing.py"]) == 1
"""


def test_what_runs_at_import_is_noticed() -> None:
    """In a process that has not imported the package, as the tool's own is."""
    subprocess.run([sys.executable, "-c", NOTICING], cwd=ROOT, check=True, timeout=100)


@forking
def test_a_fork_gives_its_code() -> None:
    assert in_fork(lambda: 3) == 3


@forking
def test_a_fork_that_breaks_is_no_verdict() -> None:
    with pytest.raises(AssertionError):
        in_fork(lambda: 1 // 0)


def test_tests_that_run_the_lines_are_chosen_the_nearest_file_first(subject: Path) -> None:
    mutant = mutant_of(subject, "return min(self.rest) -> pass")
    named, many, few = "tests/test_subject.py::x", {"test_b.py::y", "test_b.py::x"}, "test_a.py::x"
    coverage = {15: {IMPORT}, 16: {few, named, *many}, 17: {"test_c.py::z"}}
    assert noticing(mutant, coverage) == (False, [named, *sorted(many), few])


def test_all_tests_of_a_module_are_chosen_for_what_runs_at_import(subject: Path) -> None:
    mutant = mutant_of(subject, "LIMIT = 4 -> LIMIT = 5")
    coverage = {1: {IMPORT}, 16: {"test_b.py::y"}, 17: {"tests/test_subject.py::z"}}
    assert noticing(mutant, coverage) == (True, ["tests/test_subject.py::z", "test_b.py::y"])


def test_what_survives_is_named(subject: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    for mutant, code in zip(mutants_of(subject)[0], (1, -9, 0), strict=False):
        tally.judge(mutant, code)
    assert capsys.readouterr().err.startswith("subject.py: ")
    assert tally.table[subject] == {"killed": 1, "timed out": 1, "survived": 1, "mutants": 3}
    assert list(drawn(tally.table))[-1] == "| all | 3 | 1 | 1 | 0 | 1 | 0 | 66.7% |\n"


@pytest.mark.parametrize("name", accepted())
def test_what_survives_for_a_reason_is_still_there(name: str) -> None:
    """The mutants are not made anew, which takes a minute: the changed lines have to be there."""
    path, _, rest = name.partition(": ")
    before = rest.partition(": ")[2].partition(" -> ")[0]
    assert before in joined((ROOT / path).read_text("utf-8").splitlines())
