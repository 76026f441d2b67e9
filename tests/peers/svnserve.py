"""A private svnserve with one empty repository, in which SASL decides who logs in.

Observed with Subversion 1.14.2 and Cyrus SASL 2.1.28: it announces maxbuf=16384, breaks base64
into lines, and sends its proof with the success. Behind that the server speaks first: the
repository's UUID and URL, in the layer.
"""

from __future__ import annotations

import os
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
    from collections.abc import Iterator

PROGRAMS = ("svnserve", "svnadmin", "saslpasswd2")
REALM = "example"

_SVNSERVE_CONF = """\
[general]
anon-access = none
auth-access = write
realm = {realm}
[sasl]
use-sasl = true
min-encryption = 0
max-encryption = 256
"""
_SASL_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb
mech_list: DIGEST-MD5
"""


def require_svnserve() -> None:
    require_program(*PROGRAMS)
    require_sasl_plugin("digestmd5")
    require_sasl_plugin("sasldb")


@contextmanager
def run_svnserve() -> Iterator[int]:
    """Run it, with the repository `repo` and ALICE; give its port."""
    with TemporaryDirectory(prefix="svnserve-") as name:
        folder = Path(name)
        _prepare(folder)
        port, log = free_port(), folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    program("svnserve"),
                    *("-d", "--foreground", "--root", folder),
                    *("--listen-host", LOOPBACK, "--listen-port", str(port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "SASL_CONF_PATH": str(folder)},
            )
        try:
            wait_for_port(process, port, log)
            yield port
        finally:
            stop_process(process)


def _prepare(folder: Path) -> None:
    subprocess.run([program("svnadmin"), "create", folder / "repo"], check=True, timeout=60)
    conf = folder / "repo" / "conf" / "svnserve.conf"
    conf.write_text(_SVNSERVE_CONF.format(realm=REALM))
    (folder / "svn.conf").write_text(_SASL_CONF.format(folder=folder))
    subprocess.run(
        [
            program("saslpasswd2"),
            *("-p", "-c", "-f", folder / "sasldb", "-u", REALM, ALICE.username),
        ],
        input=ALICE.password.encode(),
        check=True,
        timeout=60,
    )
