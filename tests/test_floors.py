"""Which file may import what: the table of floors, held against the source by its syntax trees.

A file that no row of the table knows is an offence too: whoever adds one has to say its floor.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = "saslwrap"
SOURCE = Path(__file__).parent.parent / PACKAGE

#: A pattern of paths below the package, and the floor; the first that fits counts.
FLOORS = [
    ("_version.py", -1),
    ("errors.py", 0),
    ("properties.py", 0),
    ("context.py", 1),
    ("framing.py", 1),
    ("layer.py", 2),
    ("mechanism.py", 2),
    ("exchange.py", 2),
    ("_serving.py", 2),
    ("mechanisms/*", 3),
    ("protocols/*", 3),
    ("__init__.py", 3),
    ("anyio/*", 4),
    ("asyncio/*", 4),
    ("sync/*", 4),
    ("sspi/*", 4),
    ("clients/*", 5),
    ("testing/*", 5),
    ("cli/*", 6),
    ("__main__.py", 7),
]

#: Who may import what from outside, lazily or not, beside the standard library.
OUTSIDE = {
    "anyio": ["anyio/*", "clients/anyldap.py", "testing/*", "cli/*"],
    "asn1tools": ["protocols/ldap*", "testing/*"],
    "cryptography": ["mechanisms/*"],
    "gssapi": ["mechanisms/gss*"],
    "pytest": ["testing/plugin.py"],
    "rich": ["cli/*"],
    "spnego": ["mechanisms/gss*"],
}

#: Floors 0 to 3 know no clock, no socket and no event loop.
IMPURE = {"asyncio", "select", "selectors", "socket", "socketserver", "subprocess", "time"}

SHELLS = ["anyio/*", "asyncio/*", "sync/*"]

#: What a shell may know of floor 3: how the channel below is bound, for any mechanism.
FOR_SHELLS = {"mechanisms/channel_binding.py"}

#: The face of the package re-exports mechanisms, but nothing of a protocol.
FACE = "__init__.py"


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name, and where it stands."""

    module: str
    line: int
    lazy: bool


def fits(path: str, patterns: list[str]) -> bool:
    """Say whether one of the patterns names the path."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def floor_of(path: str) -> int | None:
    """Look the path up in the table."""
    return next((floor for pattern, floor in FLOORS if fnmatchcase(path, pattern)), None)


def path_of(module: str, root: Path) -> str | None:
    """Find the file of a module of the package, by the longest prefix that is one."""
    parts = module.split(".")[1:]
    while parts:
        for path in ("/".join(parts) + ".py", "/".join(parts) + "/__init__.py"):
            if (root / path).is_file():
                return path
        parts.pop()
    return FACE if (root / FACE).is_file() else None


def imports_in(source: str, package: str) -> Iterator[Import]:
    """Find every import of a file, at whatever depth, also of `import_module("name")`."""
    tree = ast.parse(source)
    eager = {id(node) for node in eager_nodes(tree.body)}
    for node in ast.walk(tree):
        for module in imported_modules(node, package):
            yield Import(module, getattr(node, "lineno", 0), id(node) not in eager)


def eager_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Walk what runs when the module is imported: everything outside functions."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from eager_nodes(ast.iter_child_nodes(node))


def imported_modules(node: ast.AST, package: str) -> list[str]:
    """Name the modules that one node imports; `from a import b` may mean `a` or `a.b`."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            base = ".".join(package.split(".")[: -level + 1 or None]) if level else ""
            start = ".".join(filter(None, [base, module]))
            return [f"{start}.{alias.name}" for alias in names]
        case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
            name = getattr(function, "attr", getattr(function, "id", ""))
            return [module] if name in {"import_module", "__import__"} else []
    return []


def offences(root: Path) -> list[str]:
    """Check a tree of the package and tell each offence as `path:line: what`."""
    found = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if (floor := floor_of(path)) is None:
            found.append(f"{path}:1: give this file a floor in the table")
            continue
        package = ".".join([PACKAGE, *path.split("/")[:-1]])
        for used in imports_in(file.read_text(encoding="utf-8"), package):
            if complaint := judge(path, floor, used, root):
                found.append(f"{path}:{used.line}: {complaint}")
    return found


def judge(path: str, floor: int, used: Import, root: Path) -> str | None:
    """Say what is wrong with an import, None if nothing is."""
    top = used.module.split(".")[0]
    if top == PACKAGE:
        return judge_inside(path, floor, used, root)
    if top in sys.stdlib_module_names:
        impure = floor <= 3 and top in IMPURE
        return f"floor {floor} is pure and may not import {top}" if impure else None
    if path.startswith("clients/") and top == Path(path).stem:
        return None if used.lazy else f"{top} has to be imported lazily, inside a function"
    if fits(path, OUTSIDE.get(top, [])):
        return None
    return f"may not import {top}"


def judge_inside(path: str, floor: int, used: Import, root: Path) -> str | None:
    target = path_of(used.module, root)
    if target is None or (below := floor_of(target)) is None:
        return f"imports {used.module}, which has no floor"
    if fits(path, SHELLS) and below == 3 and target not in FOR_SHELLS:
        return f"a shell knows no mechanism and no protocol, here {target}"
    if path == FACE:
        allowed = below < floor or target.startswith("mechanisms/")
        return None if allowed else f"the face of the package does not re-export {target}"
    if below > floor:
        return f"floor {floor} imports {target} of floor {below} above it"
    if below == floor and folder(path) != folder(target):
        return f"imports {target} sideways, out of its folder"
    return None


def folder(path: str) -> str:
    """Name the folder below the package; the face is a folder of its own."""
    return path.split("/")[0] if "/" in path else "face" if path == FACE else ""


def test_the_package_holds_the_floors() -> None:
    assert offences(SOURCE) == []


def test_the_package_is_there() -> None:
    """The guard: the check above does not pass because it looked at an empty folder."""
    assert {"errors.py", "context.py", "layer.py"} <= {file.name for file in SOURCE.glob("*.py")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small package that holds the floors."""
    for path, source in {
        "__init__.py": "from saslwrap.errors import A\nfrom saslwrap.mechanisms.gssapi import B\n",
        "_version.py": "",
        "errors.py": "import enum\n",
        "properties.py": "from saslwrap.errors import A\n",
        "context.py": "import threading\nfrom saslwrap import errors\n",
        "framing.py": "from .context import B\n",
        "layer.py": "from saslwrap.framing import A\n",
        "mechanism.py": "",
        "exchange.py": "from saslwrap.mechanism import A\n",
        "mechanisms/__init__.py": "",
        "mechanisms/channel_binding.py": "from cryptography import x509\n",
        "mechanisms/gssapi.py": "import spnego\nfrom saslwrap.context import C\n",
        "mechanisms/digest_md5/__init__.py": "from .keys import K\nfrom ... import errors\n",
        "mechanisms/digest_md5/keys.py": "from ..channel_binding import X\nimport hashlib\n",
        "protocols/__init__.py": "",
        "protocols/ldap.py": "import asn1tools\nfrom saslwrap.protocols.imap import I\n",
        "protocols/imap.py": "import base64\n",
        "anyio/__init__.py": "",
        "anyio/stream.py": "import anyio\nfrom saslwrap.mechanisms.channel_binding import X\n",
        "asyncio/__init__.py": "import asyncio\nfrom saslwrap.layer import L\n",
        "sync/__init__.py": "import socket\nfrom saslwrap.exchange import E\n",
        "sspi/__init__.py": "from saslwrap.mechanisms.digest_md5 import D\n",
        "clients/ldap3.py": "def take():\n    import ldap3\n",
        "testing/__init__.py": "import anyio, asn1tools, ssl\nfrom saslwrap import anyio as a\n",
        "testing/plugin.py": "import pytest\n",
        "cli/__init__.py": "import argparse, anyio, rich\nfrom saslwrap import QOP\n",
        "__main__.py": "from saslwrap.cli import main\n",
    }.items():
        write(tmp_path, path, source)
    return tmp_path


def write(root: Path, path: str, source: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source, encoding="utf-8")


def test_a_tree_that_holds_the_floors_passes(tree: Path) -> None:
    assert offences(tree) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("surprise.py", "", "surprise.py:1: give this file a floor"),
        ("newfolder/__init__.py", "", "newfolder/__init__.py:1: give this file a floor"),
        ("errors.py", "from saslwrap.context import C", "imports context.py of floor 1 above"),
        ("errors.py", "import saslwrap.layer", "imports layer.py of floor 2 above"),
        ("errors.py", "from saslwrap import layer", "imports layer.py of floor 2 above"),
        ("errors.py", "from . import layer", "imports layer.py of floor 2 above"),
        ("errors.py", "from saslwrap import QOP", "imports __init__.py of floor 3 above"),
        ("errors.py", "x = 1\ndef f():\n    from .layer import L", "errors.py:3: floor 0 imports"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import saslwrap.layer",
            "imports layer.py",
        ),
        (
            "errors.py",
            "import importlib\nimportlib.import_module('saslwrap.layer')",
            "imports layer.py",
        ),
        ("errors.py", "__import__('saslwrap.layer')", "imports layer.py"),
        ("layer.py", "import anyio", "may not import anyio"),
        (
            "layer.py",
            "def f():\n    import cryptography",
            "layer.py:2: may not import cryptography",
        ),
        ("layer.py", "import time", "floor 2 is pure and may not import time"),
        ("layer.py", "from socket import socket", "may not import socket"),
        ("mechanisms/gssapi.py", "import asyncio", "floor 3 is pure"),
        ("mechanisms/gssapi.py", "from saslwrap.protocols.ldap import L", "ldap.py sideways"),
        ("mechanisms/digest_md5/keys.py", "import spnego", "may not import spnego"),
        (
            "mechanisms/digest_md5/keys.py",
            "from ...layer import L\nfrom ...anyio import A",
            "anyio",
        ),
        (
            "mechanisms/digest_md5/keys.py",
            "from saslwrap import QOP",
            "imports __init__.py sideways",
        ),
        ("protocols/imap.py", "import asn1tools", "may not import asn1tools"),
        ("protocols/ldap.py", "from saslwrap.mechanisms import gssapi", "gssapi.py sideways"),
        (
            "anyio/stream.py",
            "from saslwrap.mechanisms.gssapi import G",
            "a shell knows no mechanism",
        ),
        (
            "asyncio/__init__.py",
            "from saslwrap.protocols.ldap import L",
            "a shell knows no mechanism",
        ),
        ("sync/__init__.py", "from saslwrap import QOP", "a shell knows no mechanism"),
        ("asyncio/__init__.py", "import anyio", "may not import anyio"),
        ("sspi/__init__.py", "import cryptography", "may not import cryptography"),
        ("clients/ldap3.py", "import ldap3", "ldap3 has to be imported lazily"),
        ("clients/ldap3.py", "class C:\n    import ldap3", "ldap3 has to be imported lazily"),
        ("clients/ldap3.py", "def f():\n    import bonsai", "may not import bonsai"),
        ("clients/ldap3.py", "from saslwrap.testing import T", "testing/__init__.py sideways"),
        ("testing/__init__.py", "import pytest", "may not import pytest"),
        ("testing/__init__.py", "def f():\n    import pytest", "may not import pytest"),
        ("testing/__init__.py", "from saslwrap.cli import main", "of floor 6 above"),
        ("testing/plugin.py", "import rich", "may not import rich"),
        ("cli/__init__.py", "import asn1tools", "may not import asn1tools"),
        ("cli/__init__.py", "import requests", "may not import requests"),
        ("__init__.py", "from saslwrap.protocols.ldap import L", "does not re-export protocols/l"),
        ("__init__.py", "from saslwrap import anyio", "does not re-export anyio/__init__.py"),
    ],
)
def test_an_offence_is_found(tree: Path, path: str, source: str, complaint: str) -> None:
    write(tree, path, source)
    found = offences(tree)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert complaint in found[0]
