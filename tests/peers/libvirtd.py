"""A private libvirtd over TCP, in which SASL decides who logs in; and virsh, its client.

It runs as a plain user, so that it is nobody's daemon of the system: root's would use the machine's
own sockets and folders. All that it manages is what it simulates itself, `test:///default`.

Observed with libvirt 9.0.0 and Cyrus SASL 2.1.28: it announces maxbuf=100000 and refuses a layer
below SSF 56. The proof comes with the success; each octet of a message has four on the wire. The
reply that reports success is in clear, and a call that comes behind it has to be sealed.
"""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.peers.daemon import Daemon
from tests.peers.directory import ALICE
from tests.peers.support import add_to_sasldb, program

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from tests.peers.directory import Credentials

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
"""It would take keys for the machine's name only; the realm's are for localhost. It has to be read
before the realm's."""
_AUTH_CONF = """\
[credentials-test]
authname={username}
password={password}
[auth-libvirt-default]
credentials=test
"""


class Libvirtd(Daemon):
    """ALICE may log in; or who has a ticket, with the `environment` of a realm.

    The realm has a key for `libvirt/localhost`.
    """

    programs = ("libvirtd", "saslpasswd2", "setpriv")
    plugins = ("digestmd5", "sasldb")
    user = "nobody"

    def _prepare(self) -> None:
        self._choose_ports("libvirt")
        self._write_config()
        for realm in {socket.gethostname(), socket.getfqdn()}:  # it has the machine's name
            add_to_sasldb(self.folder / "sasldb", ALICE, realm)
        self._environ |= _homes(self.folder)
        if self._environment:
            self._adopt()
            acceptor = self.folder / "acceptor.conf"
            acceptor.write_text(_ACCEPTOR_CONF)
            self._environ["KRB5_CONFIG"] = f"{acceptor}:{self._environ['KRB5_CONFIG']}"

    def _write_config(self) -> None:
        conf = _LIBVIRTD_CONF.format(address=self.address, port=self.port)
        mechanism = "gssapi" if self._environment else "digest-md5"
        sasl = _SASL_CONF.format(folder=self.folder, mechanism=mechanism)
        (self.folder / "libvirtd.conf").write_text(conf)
        (self.folder / "libvirt.conf").write_text(sasl)

    def _start(self, stack: ExitStack) -> None:
        options = ("--listen", "--config", self.folder / "libvirtd.conf")
        self._run(stack, *self._as_a_plain_user(), program("libvirtd"), *options)

    def _as_a_plain_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return [program("setpriv"), f"--reuid={self.user}", "--regid=nogroup", "--clear-groups"]


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
        env={**os.environ, **_homes(folder)},
        timeout=60,
        check=False,
    )


def _homes(folder: Path) -> dict[str, str]:
    """Keep a program out of every other folder."""
    names = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SASL_CONF_PATH")
    return {**dict.fromkeys(names, str(folder)), "LC_ALL": "C"}
