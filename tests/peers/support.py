"""What every fixture of a real server needs: programs, free ports, patience."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import NoReturn

import pytest

from saslwrap.testing._processes import LOOPBACK as LOOPBACK
from saslwrap.testing._processes import StartError as StartError
from saslwrap.testing._processes import find_program as find_program
from saslwrap.testing._processes import log_tail as log_tail
from saslwrap.testing._processes import stop_process as stop_process
from saslwrap.testing._processes import wait_for as wait_for
from saslwrap.testing._processes import wait_for_port as wait_for_port
from tests.peers.directory import Credentials

REQUIRE_PEERS = "SASLWRAP_REQUIRE_PEERS"
"""Environment variable: "1" turns a missing program into a failure."""

PACKAGES = {
    "cyrmaster": "cyrus-imapd cyrus-pop3d libsasl2-modules sasl2-bin",
    "gcc": "gcc libc6-dev",
    "imtest": "cyrus-clients libsasl2-modules",
    "ip": "iproute2",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "kadmin.local": "krb5-admin-server",
    "kdb5_util": "krb5-kdc",
    "kinit": "krb5-user",
    "krb5kdc": "krb5-kdc",
    "ldapmodify": "ldap-utils libsasl2-modules",
    "ldapsearch": "ldap-utils libsasl2-modules",
    "ldbmodify": "ldb-tools samba-dsdb-modules",
    "ldbsearch": "ldb-tools samba-dsdb-modules",
    "libsasl2.so.2": "libsasl2-2 libsasl2-modules sasl2-bin",
    "libvirtd": "libvirt-daemon libsasl2-modules sasl2-bin",
    "samba": "samba samba-vfs-modules samba-dsdb-modules samba-ad-provision",
    "samba-tool": "samba winbind python3-samba ldb-tools",
    "saslpasswd2": "sasl2-bin",
    "setpriv": "util-linux",
    "slapadd": "slapd libsasl2-modules",
    "slapd": "slapd libsasl2-modules",
    "svn": "subversion libsasl2-modules",
    "svnadmin": "subversion",
    "svnserve": "subversion libsasl2-modules sasl2-bin",
    "virsh": "libvirt-clients libsasl2-modules",
}
"""Program to the Debian packages that bring it, its SASL mechanisms included."""

PLUGIN_PACKAGES = {
    "digestmd5": "libsasl2-modules",
    "gs2": "libsasl2-modules-gssapi-mit",
    "gssapiv2": "libsasl2-modules-gssapi-mit",
    "sasldb": "libsasl2-modules-db",
}
"""Plugin of Cyrus SASL to the Debian package that brings it."""

_PLUGIN_FOLDERS = ("/usr/lib/*/sasl2/", "/usr/lib/sasl2/", "/usr/lib64/sasl2/")


def require_program(*names: str) -> None:
    """Skip the test that asks for a program which is missing; fail where peers are required."""
    missing = [name for name in names if find_program(name) is None]
    if missing:
        packages = dict.fromkeys(word for name in missing for word in _packages_of(name))
        unavailable(f"no {', '.join(missing)}: apt-get install {' '.join(packages)}")


def require_sasl_plugin(name: str) -> None:
    """The same for a mechanism of Cyrus SASL, which no program's package insists on."""
    folders = os.environ.get("SASL_PATH", "").split(os.pathsep)
    patterns = [*(f"{folder}/" for folder in folders if folder), *_PLUGIN_FOLDERS]
    if not any(glob(f"{pattern}lib{name}.so*") for pattern in patterns):
        unavailable(f"no SASL plugin {name}: apt-get install {PLUGIN_PACKAGES[name]}")


def unavailable(reason: str) -> NoReturn:
    """Skip the test for this reason; fail where peers are required."""
    if os.environ.get(REQUIRE_PEERS) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a program that `require_program` has vouched for."""
    path = find_program(name)
    if path is None:
        raise FileNotFoundError(f"{name}: apt-get install {' '.join(_packages_of(name))}")
    return path


def run(
    name: str, *arguments: str | Path, answer: str = "", environ: Mapping[str, str] | None = None
) -> bytes:
    """Run a program to its end, and give what it wrote; `StartError` if it reports a failure.

    :param answer: what it reads
    """
    done = subprocess.run(
        [program(name), *arguments],
        input=answer.encode(),
        capture_output=True,
        env=environ,
        timeout=60,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise StartError(f"{name}: status {done.returncode}\n{said}")
    return done.stdout


def add_to_sasldb(sasldb: Path, user: Credentials, realm: str) -> None:
    """Let a user log in to a server that looks there."""
    options = ("-p", "-c", "-f", sasldb, "-u", realm)
    run("saslpasswd2", *options, user.username, answer=user.password)


def free_port() -> int:
    """A port that was free a moment ago. Another process may still take it first."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _packages_of(name: str) -> list[str]:
    return PACKAGES.get(name, name).split()
