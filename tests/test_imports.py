"""What importing needs and pulls in: each case in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import saslwrap

#: What only extras and tests bring.
EXTRAS = ("asn1tools", "krb5", "gssapi", "pytest", "rich", "spnego", "trio", "uvloop")

_WITHOUT_EXTRAS = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_python(code: str, prelude: str = "") -> list[str]:
    """Run `code` in an interpreter of its own; return the lines that it prints."""
    folder = Path(saslwrap.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + dedent(code)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def loaded_by(module: str) -> set[str]:
    """Name the modules that stand in `sys.modules` after `import module`."""
    return set(run_python(f"import sys, {module}; print(*sys.modules, sep='\\n')"))


@pytest.mark.parametrize(
    "module",
    [
        "saslwrap",
        "saslwrap.anyio",
        "saslwrap.asyncio",
        "saslwrap.cli",
        "saslwrap.mechanisms.digest_md5",
        "saslwrap.protocols.ldap",
        "saslwrap.sspi",
        "saslwrap.sync",
        "saslwrap.testing",
    ],
)
def test_imports_without_any_extra(module: str) -> None:
    run_python(f"import {module}", prelude=_WITHOUT_EXTRAS)


def test_the_blocker_blocks() -> None:
    code = """
        try:
            import trio
        except ModuleNotFoundError:
            print("blocked")
    """
    assert run_python(code, prelude=_WITHOUT_EXTRAS) == ["blocked"]


def test_a_login_and_its_layer_need_no_extra() -> None:
    code = """
        from saslwrap.testing import layer_pair

        client, server = layer_pair("rc4")
        server.receive_data(b"".join(client.send_data(b"hello")))
        print(server.read().decode())
    """
    assert run_python(code, prelude=_WITHOUT_EXTRAS) == ["hello"]


def test_ldap_without_its_extra_says_what_to_install() -> None:
    code = """
        from saslwrap import DigestMD5Client, MechanismUnavailableError
        from saslwrap.protocols.ldap import LDAPBind

        try:
            bind = LDAPBind(DigestMD5Client("alice", "s3cret", service="ldap", host="localhost"))
            bind.advance()
            bind.step()
            bind.advance()
        except MechanismUnavailableError as error:
            print(error)
    """
    (text,) = run_python(code, prelude=_WITHOUT_EXTRAS)
    assert "pip install 'saslwrap[ldap]'" in text


def test_the_demo_without_its_extra_says_what_to_install() -> None:
    code = """
        import contextlib, sys
        from saslwrap.cli import main

        with contextlib.redirect_stderr(sys.stdout):
            print(main(["demo"]))
    """
    text, status = run_python(code, prelude=_WITHOUT_EXTRAS)
    assert "pip install 'saslwrap[cli]'" in text
    assert status == "1"


def test_the_package_itself_pulls_in_no_event_loop_and_no_extra() -> None:
    roots = {name.partition(".")[0] for name in loaded_by("saslwrap")}
    assert not roots & {"anyio", "asyncio", "sniffio", "ssl", *EXTRAS}


def test_the_package_loads_what_a_login_needs_when_it_is_asked_for() -> None:
    assert not loaded_by("saslwrap") & {"cryptography", "saslwrap.exchange", "saslwrap.mechanism"}
    code = """
        import saslwrap

        print(saslwrap.DigestMD5Client.name, saslwrap.GSSAPIServer.name)
        try:
            saslwrap.DigestMD6Client
        except AttributeError as error:
            print(error)
    """
    assert run_python(code) == [
        "DIGEST-MD5 GSSAPI",
        "module 'saslwrap' has no attribute 'DigestMD6Client'",
    ]


def test_the_shell_for_anyio_pulls_in_no_backend_and_no_extra() -> None:
    modules = loaded_by("saslwrap.anyio")
    assert not {name for name in modules if name.startswith("anyio._backends.")}
    assert not {name.partition(".")[0] for name in modules} & set(EXTRAS)


@pytest.mark.parametrize(
    ("module", "foreign"),
    [("saslwrap.asyncio", {"anyio"}), ("saslwrap.sync", {"anyio", "asyncio"})],
)
def test_a_shell_pulls_in_no_other(module: str, foreign: set[str]) -> None:
    assert not {name.partition(".")[0] for name in loaded_by(module)} & foreign


def test_testing_pulls_in_no_pytest() -> None:
    assert "pytest" not in loaded_by("saslwrap.testing")
