"""A private svnserve with one empty repository, in which SASL decides who logs in.

Observed with Subversion 1.14.2 and Cyrus SASL 2.1.28: it announces maxbuf=16384, breaks base64
into lines, and sends its proof with the success. Behind that the server speaks first: the
repository's UUID and URL, in the layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.peers.daemon import Daemon
from tests.peers.directory import ALICE
from tests.peers.support import add_to_sasldb, program, run

if TYPE_CHECKING:
    from contextlib import ExitStack

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


class Svnserve(Daemon):
    """It has the repository `repo`, and ALICE may log in."""

    programs = ("svnserve", "svnadmin", "saslpasswd2")
    plugins = ("digestmd5", "sasldb")

    def _prepare(self) -> None:
        run("svnadmin", "create", self.folder / "repo")
        conf = self.folder / "repo" / "conf" / "svnserve.conf"
        conf.write_text(_SVNSERVE_CONF.format(realm=REALM))
        (self.folder / "svn.conf").write_text(_SASL_CONF.format(folder=self.folder))
        add_to_sasldb(self.folder / "sasldb", ALICE, REALM)
        self._environ["SASL_CONF_PATH"] = str(self.folder)

    def _start(self, stack: ExitStack) -> None:
        self._choose_ports("svn")
        where = ("--listen-host", self.address, "--listen-port", str(self.port))
        self._run(stack, program("svnserve"), "-d", "--foreground", "--root", self.folder, *where)
