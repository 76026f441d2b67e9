"""What is public, where it stands, and that it says what it is."""

from __future__ import annotations

import ast
import asyncio
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import saslwrap

SOURCE = Path(__file__).parent.parent / "saslwrap"
MODULES = sorted(file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py"))

#: Classes and functions that the files of the package share, without a promise to anyone else.
INTERNAL = {
    "errors.py": {
        "half_made_too",
        "is_async",
        "one_line",
        "require_kind",
        "require_maker",
        "require_number",
    },
    "context.py": {"InPlaceSealer", "InPlaceUnsealer", "Sealer", "Unsealer", "octets"},
    "mechanism.py": {"Mechanism"},
    "exchange.py": {"check_kind"},
    "testing/plugin.py": {"pytest_addoption"},
    "protocols/ldap_login.py": {"check_candidates"},
    "mechanisms/digest_md5/ciphers.py": {"expand_des_key"},
    "mechanisms/digest_md5/context.py": {"DigestSealer", "DigestUnsealer", "padding_length"},
}

FLOORS_0_TO_2 = [
    "errors",
    "properties",
    "context",
    "framing",
    "layer",
    "mechanism",
    "exchange",
]

#: Public in their modules, for those who write a shell: not for the face of the package.
NOT_ON_THE_FACE = {"ClearLayer", "FrameDecoder", "Layer", "next_layer", "require_name"}

#: What asyncio says of these holds for ours.
CALLED_BY_ASYNCIO = {
    name
    for kind in (asyncio.Protocol, asyncio.BufferedProtocol, asyncio.Transport)
    for name in dir(kind)
}

#: In `mechanisms/`, but no mechanism.
NO_MECHANISMS = {"__init__", "channel_binding", "forgetful", "gss", "names"}

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(path: str) -> ast.Module:
    return ast.parse((SOURCE / path).read_text(encoding="utf-8"))


def exports(tree: ast.Module) -> list[str] | None:
    """Read `__all__`, None where there is none."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


def classes_and_functions(tree: ast.Module) -> Iterator[str]:
    """Name them. Constants, aliases and loggers may stay out of `__all__` without a word."""
    for node in tree.body:
        if isinstance(node, Documented):
            yield node.name


def definitions(tree: ast.Module) -> Iterator[str]:
    """Name all that the module defines at its top."""
    yield from classes_and_functions(tree)
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def re_exports(tree: ast.Module) -> Iterator[str]:
    """Name what a folder's face takes from its own files; for checkers only, if it is lazy."""
    inner = [node for block in tree.body for node in getattr(block, "body", [])]
    for node in [*tree.body, *inner]:
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("saslwrap"):
                yield from (alias.asname or alias.name for alias in names)


def public(names: Iterator[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def by_kind(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, classes, the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


def mechanism_exports() -> set[str]:
    found: set[str] = set()
    for path in (SOURCE / "mechanisms").iterdir():
        if path.stem in NO_MECHANISMS or path.stem.startswith("_"):
            continue
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.is_file():
            found.update(exports(tree_of(file.relative_to(SOURCE).as_posix())) or [])
    return found


def shared_in_its_folder(path: str) -> set[str]:
    """Name what the other files beside this one, in a folder below the package, import of it."""
    file, found = SOURCE / path, set()
    module = ".".join(["saslwrap", *Path(path).with_suffix("").parts])
    for sibling in file.parent.glob("*.py") if file.parent != SOURCE else []:
        for node in tree_of(sibling.relative_to(SOURCE).as_posix()).body:
            if isinstance(node, ast.ImportFrom) and node.module == module:
                found |= {alias.name for alias in node.names}
    return found


def drift(tree: ast.Module, internal: set[str], *, face: bool) -> list[str]:
    """Tell how `__all__` and the definitions differ; `face` is a folder's, which may re-export."""
    exported = set(exports(tree) or [])
    missing = public(classes_and_functions(tree)) - internal - exported
    there = {*definitions(tree), *(re_exports(tree) if face else [])}
    return [f"{name} is not in __all__" for name in sorted(missing)] + [
        f"{name} is in __all__ only" for name in sorted(exported - there)
    ]


@pytest.mark.parametrize("path", [path for path in MODULES if path != "__init__.py"])
def test_all_names_what_a_module_defines(path: str) -> None:
    """What drifted is to be exported, to get an underscore, or to be listed in INTERNAL.

    A folder's files may share what is no more than theirs.
    """
    internal = INTERNAL.get(path, set()) | shared_in_its_folder(path)
    assert drift(tree_of(path), internal, face=path.endswith("/__init__.py")) == []


@pytest.mark.parametrize("path", MODULES)
def test_all_is_sorted_and_names_nothing_twice(path: str) -> None:
    names = exports(tree_of(path)) or []
    assert names == sorted(set(names), key=by_kind)


@pytest.mark.parametrize("path", INTERNAL)
def test_what_is_listed_as_internal_is_there_and_not_exported(path: str) -> None:
    tree = tree_of(path)
    assert INTERNAL[path] <= public(definitions(tree))
    assert not INTERNAL[path] & set(exports(tree) or [])


def test_the_checks_see_drift() -> None:
    tree = ast.parse(
        "from saslwrap.x import y\n"
        "__all__ = ['a', 'E']\n"
        "def b(): ...\n"
        "async def c(): ...\n"
        "class D: ...\n"
        "E = 1\n"
        "f: int = 2\n"
        "def _g(): ...\n"
    )
    assert exports(tree) == ["a", "E"]
    assert drift(tree, {"c"}, face=False) == [
        "D is not in __all__",
        "b is not in __all__",
        "a is in __all__ only",
    ]
    again = ast.parse("from saslwrap.x import y\n__all__ = ['y', 'z']\n")
    assert drift(again, set(), face=True) == ["z is in __all__ only"]
    assert drift(again, set(), face=False) == ["y is in __all__ only", "z is in __all__ only"]


def test_names_are_sorted_as_ruff_sorts_them() -> None:
    assert sorted(["b", "Dd", "EE", "Aa", "c_d"], key=by_kind) == ["EE", "Aa", "Dd", "b", "c_d"]


def test_the_package_re_exports_floors_0_to_2_and_the_mechanisms() -> None:
    below = {
        name
        for module in FLOORS_0_TO_2
        for name in importlib.import_module(f"saslwrap.{module}").__all__
    }
    expected = below - NOT_ON_THE_FACE | mechanism_exports() | {"__version__"}
    assert set(saslwrap.__all__) == expected


def test_each_name_of_floors_0_to_2_is_the_same_object() -> None:
    for module in FLOORS_0_TO_2:
        source = importlib.import_module(f"saslwrap.{module}")
        for name in set(source.__all__) & set(saslwrap.__all__):
            assert getattr(saslwrap, name) is getattr(source, name)


def test_dir_shows_every_name() -> None:
    assert set(saslwrap.__all__) <= set(dir(saslwrap))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        saslwrap.nothing_of_that_name  # type: ignore[attr-defined] # noqa: B018


def in_a_new_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=SOURCE.parent,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["spnego", "asn1tools", "anyio", "asyncio", "rich", "pytest"])
def test_importing_the_package_imports_no_extra_and_no_shell(module: str) -> None:
    code = f"import sys, saslwrap; print({module!r} in sys.modules)"
    assert in_a_new_python(code).strip() == "False"


GSS = ["GSSAPIClient", "GSSAPIServer", "GSSSPNEGOClient", "GSSSPNEGOServer"]


@pytest.mark.parametrize("name", [name for name in GSS if name in mechanism_exports()])
def test_without_its_extra_a_mechanism_says_what_to_install(name: str) -> None:
    """At its first use: when it is taken from the package, or when it is made."""
    code = f"""
import sys
sys.modules["spnego"] = None
import saslwrap
try:
    saslwrap.{name}("alice", "s3cret", service="ldap", host="ldap.example.com")
except saslwrap.MechanismUnavailableError as error:
    print(error)
"""
    assert "saslwrap[gssapi]" in in_a_new_python(code)


@pytest.mark.parametrize("name", sorted(mechanism_exports()))
def test_each_mechanism_loads_on_first_use(name: str) -> None:
    if name in GSS:
        pytest.importorskip("spnego")
    assert getattr(saslwrap, name).__name__ == name


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Name what is public and says nothing: the module, classes, functions, methods."""
    if not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if isinstance(node, Documented):
            yield from undocumented_in(node, "")


def undocumented_in(node: Documented, prefix: str) -> Iterator[str]:
    if node.name.startswith("_") or exempt(node):
        return
    if not ast.get_docstring(node):
        yield prefix + node.name
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, Documented) and not called_by_asyncio(child, node):
                yield from undocumented_in(child, f"{prefix}{node.name}.")


def called_by_asyncio(method: Documented, owner: ast.ClassDef) -> bool:
    """Say whether asyncio's own documentation covers it."""
    bases = " ".join(map(ast.unparse, owner.bases))
    return method.name in CALLED_BY_ASYNCIO and ("Protocol" in bases or "Transport" in bases)


def exempt(node: Documented) -> bool:
    """Say whether it is an overload, a setter, or by its own word an override."""
    words = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(words & {"overload", "setter", "override"})


@pytest.mark.parametrize("path", MODULES)
def test_everything_public_has_a_docstring(path: str) -> None:
    assert list(undocumented(tree_of(path))) == []


def test_the_docstring_check_sees_what_is_missing() -> None:
    tree = ast.parse(
        "class A:\n"
        "    def b(self): ...\n"
        "    async def c(self):\n"
        "        '''Said.'''\n"
        "    def _d(self): ...\n"
        "    @x.setter\n"
        "    def e(self): ...\n"
        "    class F:\n"
        "        def g(self): ...\n"
        "def h(): ...\n"
        "class _I:\n"
        "    def j(self): ...\n"
    )
    assert list(undocumented(tree)) == ["the module", "A", "A.b", "A.F", "A.F.g", "h"]
