"""A private libvirtd over TCP, in which SASL decides who logs in; and virsh, its client.

It runs as a plain user, so that it is nobody's daemon of the system: root's would use the machine's
own sockets and folders. All that it manages is what it simulates itself, `test:///default`.

Observed with libvirt 9.0.0 and Cyrus SASL 2.1.28: it announces maxbuf=100000 and refuses a layer
below SSF 56. The proof comes with the success; each octet of a message has four on the wire. The
reply that reports success is in clear, and a call that comes behind it has to be sealed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.peers.directory import ALICE
from tests.peers.support import (
    LOOPBACK,
    free_port,
    program,
    require_program,
    require_sasl_plugin,
    stop_process,
    wait_for_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.peers.directory import Credentials

PROGRAMS = ("libvirtd", "saslpasswd2", "setpriv")
USER, GROUP = "nobody", "nogroup"

_LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "sasl"
"""
_SASL_CONF = """\
mech_list: {mechanism}
sasldb_path: {folder}/sasldb
"""
_ACCEPTOR_CONF = """\
[libdefaults]
ignore_acceptor_hostname = true
"""
"""It would take keys for the machine's name only; the realm's are for localhost."""
_AUTH_CONF = """\
[credentials-test]
authname={username}
password={password}
[auth-libvirt-default]
credentials=test
"""


def require_libvirtd() -> None:
    require_program(*PROGRAMS)
    require_sasl_plugin("digestmd5")
    require_sasl_plugin("sasldb")


@contextmanager
def run_libvirtd(realm: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run it, with ALICE; give its port.

    :param realm: the environment of one with a key for `libvirt/localhost`; it takes GSSAPI then
    """
    with TemporaryDirectory(prefix="libvirtd-") as name:
        folder = Path(name)
        port, log = free_port(), folder / "log"
        _prepare(folder, port, "gssapi" if realm else "digest-md5")
        environment = {**_environment(folder), **_adopt(folder, realm or {})}
        _give_away(folder)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *_as_a_plain_user(),
                    *(program("libvirtd"), "--listen", "--config", folder / "libvirtd.conf"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
            )
        try:
            wait_for_port(process, port, log)
            yield port
        finally:
            stop_process(process)


def virsh(
    folder: Path, port: int, user: Credentials, *command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of virsh's, with its files in `folder`."""
    credentials = folder / "auth.conf"
    credentials.write_text(_AUTH_CONF.format(username=user.username, password=user.password))
    url = f"test+tcp://localhost:{port}/default?authfile={credentials}"
    return subprocess.run(
        [program("virsh"), "-c", url, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_environment(folder),
        timeout=60,
        check=False,
    )


def _prepare(folder: Path, port: int, mechanism: str) -> None:
    conf = _LIBVIRTD_CONF.format(address=LOOPBACK, port=port)
    (folder / "libvirtd.conf").write_text(conf)
    (folder / "libvirt.conf").write_text(_SASL_CONF.format(folder=folder, mechanism=mechanism))
    for realm in {socket.gethostname(), socket.getfqdn()}:  # it has the machine's name
        subprocess.run(
            [
                program("saslpasswd2"),
                *("-p", "-c", "-f", folder / "sasldb", "-u", realm, ALICE.username),
            ],
            input=ALICE.password.encode(),
            check=True,
            timeout=60,
        )


def _adopt(folder: Path, realm: Mapping[str, str]) -> dict[str, str]:
    """Copy what a realm keeps in a folder that is closed to others."""
    if not realm:
        return {}
    copies = {
        name: str(shutil.copy(realm[name].removeprefix("FILE:"), folder))
        for name in ("KRB5_CONFIG", "KRB5_KTNAME")
    }
    (folder / "acceptor.conf").write_text(_ACCEPTOR_CONF)  # what comes first counts
    copies["KRB5_CONFIG"] = f"{folder}/acceptor.conf:{copies['KRB5_CONFIG']}"
    return {**realm, **copies}


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, USER, GROUP)


def _as_a_plain_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return [program("setpriv"), f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups"]


def _environment(folder: Path) -> dict[str, str]:
    homes = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SASL_CONF_PATH")
    return {**os.environ, **dict.fromkeys(homes, str(folder)), "LC_ALL": "C"}
