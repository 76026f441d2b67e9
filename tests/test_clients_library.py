"""Which versions of a client library are taken, and what is said where there is none."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import pytest

from saslwrap import MechanismUnavailableError
from saslwrap.clients import aioimaplib, aiosmtplib, anyldap, badldap, ldap3
from saslwrap.testing.pairs import HOST


@dataclass(frozen=True)
class Library:
    """A library, and our functions that take it in use.

    :ivar known: the versions that are taken
    :ivar others: some that are not
    """

    functions: tuple[Callable[..., Any], ...]
    known: str
    others: tuple[str, ...]

    def refusals(self) -> Iterator[str]:
        """Give what each function says, whatever else it is given."""
        for function in self.functions:
            with pytest.raises(MechanismUnavailableError) as refused:
                call(function)
            yield str(refused.value)


def call(function: Callable[..., Any]) -> None:
    if inspect.iscoroutine(begun := function(None, None)):
        asyncio.run(begun)


LIBRARIES = {
    "aioimaplib": Library((aioimaplib.authenticate,), ">=2.0,<2.1", ("1.9.9", "2.1", "3.0rc1")),
    "aiosmtplib": Library(
        (aiosmtplib.authenticate,), ">=5.1.2,<5.2", ("4.0.2", "5.1.1", "5.2.0", "6.0rc1")
    ),
    "anyldap": Library(
        (anyldap.initialize, partial(anyldap.connect, HOST)), ">=0.2,<0.3", ("0.1.9", "0.3", "1.0")
    ),
    "badldap": Library((badldap.connect,), ">=0.7.7,<0.8", ("0.7.6", "0.8", "1.0.0")),
    "ldap3": Library(
        (ldap3.authenticate,), ">=2.9.1,<2.10", ("2.9", "2.10", "2.10.2rc4", "3.0", "next")
    ),
}


@pytest.fixture(autouse=True)
def _nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them can be: what is said is said before."""
    loaded = {name for name in sys.modules if name.partition(".")[0] in LIBRARIES}
    for name in {*loaded, *LIBRARIES}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("name", "version"),
    [(name, version) for name, library in LIBRARIES.items() for version in library.others],
)
def test_another_version(name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {name: version}.__getitem__)
    library = LIBRARIES[name]
    for said in library.refusals():
        assert said.startswith(f"{name} {version} is not known to keep a connection sealed")
        assert said.endswith(f": pip install '{name}{library.known}'")


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_library_at_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(asked: str) -> str:
        raise metadata.PackageNotFoundError(asked)

    monkeypatch.setattr(metadata, "version", missing)
    library = LIBRARIES[name]
    for said in library.refusals():
        assert said == f"{name} is not installed: pip install '{name}{library.known}'"
