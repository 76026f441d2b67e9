"""Every Python block of the README and of docs/ runs, and prints what it says that it prints.

A page's blocks run in order, in one namespace, on asyncio. `# -> TEXT` behind a line claims that a
line TEXT is printed, or with `...` at its end one that begins so. The library is the real one, and
so are its peers: ldap.example.com is an `LDAPServer` on loopback, port 389 in clear and port 636
over TLS. What is bent is where connections to it go, and which certificate is trusted.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

import saslwrap
from saslwrap.testing import LDAPServer
from saslwrap.testing.pairs import HOST as CERTIFIED
from tests.conftest import TLSContexts

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted((ROOT / "docs").glob("[!_]*.md")),
    *sorted((ROOT / "docs").glob("[!_]*/*.md")),
]

HOST = "ldap.example.com"
ENTRIES = {"dc=example,dc=com": {"objectClass": ["domain"], "dc": ["example"]}}

#: Folders whose modules are imported each by its own name.
COLLECTIONS = ("clients", "mechanisms", "protocols")

#: What the mechanisms share among themselves.
INTERNAL = {f"saslwrap.mechanisms.{name}" for name in ("forgetful", "gss", "names")}

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^ *(?:```+|~~~+|:::+)(?!{literalinclude})(.*)$", re.MULTILINE)
_CLAIM = re.compile(r"  # -> (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https:)([^)#\s]+)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Give each Python block and the number of lines before it."""
    text = text_of(page)
    for match in _BLOCK.finditer(text):
        yield text.count("\n", 0, match.start(1)), match[1]


def unkept(claims: list[str], printed: list[str]) -> list[str]:
    """Name the claims that have no line of their own, in their order."""
    lines = iter(printed)
    return [claim for claim in claims if not any(holds(claim, line) for line in lines)]


def holds(claim: str, line: str) -> bool:
    return line.startswith(claim[:-3]) if claim.endswith("...") else line == claim


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[dict[int, int]]:
    """Serve in clear and over TLS; give the real port of each port that the pages name."""
    users = {"alice": "s3cret"}
    async with (
        LDAPServer(ENTRIES, users, host=HOST) as clear,
        LDAPServer(ENTRIES, users, host=HOST, tls=context, tls_at_once=True) as over_tls,
    ):
        yield {389: clear.port, 636: over_tls.port}


@pytest.fixture
def example_server(tls: TLSContexts, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make HOST a server that knows alice, with a certificate that clients trust."""
    connect_tcp, getaddrinfo = anyio.connect_tcp, socket.getaddrinfo

    async def connect_to_example(host: str, port: int, **options: Any) -> object:
        if host != HOST:
            return await connect_tcp(host, port, **options)
        if "ssl_context" in options:
            options["tls_hostname"] = CERTIFIED
        return await connect_tcp("127.0.0.1", ports[port], **options)

    def look_up(host: str, port: int, *options: Any, **more: Any) -> object:
        if host != HOST:
            return getaddrinfo(host, port, *options, **more)
        return getaddrinfo("127.0.0.1", ports[port], *options, **more)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(tls.server)) as ports,
    ):
        monkeypatch.setattr(anyio, "connect_tcp", connect_to_example)
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(ssl, "create_default_context", lambda: tls.client)
        yield


@pytest.mark.usefixtures("example_server")
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, source in blocks(page):
        code = compile("\n" * line + source, str(page), "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102 - it is our own page
        claims = _CLAIM.findall(source)
        printed = capsys.readouterr().out.splitlines()
        assert unkept(claims, printed) == [], f"{page}:{line + 1} printed {printed}"


def test_there_are_pages_with_blocks() -> None:
    assert README in PAGES
    assert sum(1 for page in PAGES for _ in blocks(page)) > 10


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_of_python_hides_behind_another_fence(page: Path) -> None:
    marks = [mark for mark in _FENCE.findall(text_of(page)) if "py" in mark.lower()]
    assert marks == ["python"] * len(list(blocks(page)))


def test_a_claim_that_is_not_kept_is_found() -> None:
    assert unkept(["a", "c"], ["a", "b", "c"]) == []
    assert unkept(["b..."], ["a", "bcd"]) == []
    assert unkept(["c", "a"], ["a", "b", "c"]) == ["a"]
    assert unkept(["a"], ["ab"]) == ["a"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(text_of(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("heading", "end"), [("Try it", "saslwrap demo"), ("Tests", "pytest")], ids=str
)
def test_the_readme_has_one_command_line(heading: str, end: str) -> None:
    """The gate runs these two as they stand."""
    section = text_of(README).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (command,) = re.findall(r"^```console\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    assert "\n" not in command
    assert command.endswith(end)


def modules_in(folder: Path) -> set[str]:
    packages = {init.parent.name for init in folder.glob("*/__init__.py")}
    return packages | {file.stem for file in folder.glob("[!_]*.py")}


def test_the_reference_shows_every_public_module() -> None:
    folder = Path(saslwrap.__file__).parent
    public = {f"saslwrap.{name}" for name in modules_in(folder) - {"cli", *COLLECTIONS}}
    for collection in COLLECTIONS:
        public |= {f"saslwrap.{collection}.{name}" for name in modules_in(folder / collection)}
    pages = "".join(map(text_of, (ROOT / "docs" / "reference").glob("*.md")))
    assert public - INTERNAL <= set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE))
