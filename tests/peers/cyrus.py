"""A private Cyrus server of IMAP, POP3, ManageSieve and LMTP, and `imtest`, the client beside it.

Observed with cyrus-imapd 3.6.1 and Cyrus SASL 2.1.28:

- Challenge: `nonce="...",realm="localhost",qop="auth,auth-int,auth-conf",
  cipher="rc4-40,rc4-56,rc4,des,3des",maxbuf=4096,charset=utf-8,algorithm=md5-sess`; the realm is
  the `servername`. GSSAPI begins with `+ ` and nothing behind it, or takes an initial response.
- rspauth is a challenge. The tagged OK is in clear; what follows it is sealed, a frame for each
  flush of the server's output.
- The OK has a CAPABILITY code where no layer was negotiated, and none where one was.
- timsieved sends challenges as literals, rspauth with its OK. It says its capabilities again under
  the layer only with `sieve_sasl_send_unsolicited_capability`; it knows NOOP's tag. It refuses who
  has no INBOX.
- lmtpd offers AUTH to LHLO. Its 235 has no enhanced status code, and what it says of a wrong
  password is "501 5.5.4 undefined error!".
- `*`: "BAD Client canceled authentication". Unknown mechanism: "NO no mechanism available". Wrong
  password, unknown user: "NO authentication failure".

imtest (`-v` shows what it says) asks for capabilities, logs in, and asks again under the layer: it
warns of a man in the middle if the `AUTH=` names are others then. It announces maxbuf=1024. After a
refusal it goes on as if there was a layer, and ends with "prot layer failure". Under other names it
speaks other protocols: pop3test, sivtest, smtptest and lmtptest. sivtest hears a challenge only if
it is a literal, and what arrives together with the OK it takes for text, sealed or not.

The server changes to the user that its package has made, and only root can let it: elsewhere its
tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers.daemon import Daemon
from tests.peers.directory import ALICE
from tests.peers.kdc import BOB
from tests.peers.support import (
    PACKAGES,
    add_to_sasldb,
    program,
    require_sasl_plugin,
    stop_process,
    unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    from tests.peers.kdc import Realm

USERS = (ALICE, BOB)

SERVICES = {"imap": "imapd", "pop3": "pop3d", "sieve": "timsieved", "lmtp": "lmtpd"}
"""Service to the program that serves it."""

_TOOLS = Path("/usr/lib/cyrus/bin")

_IMAPD_CONF = """\
configdirectory: {folder}/config
proc_path: {folder}/proc
mboxname_lockpath: {folder}/lock
defaultpartition: default
partition-default: {folder}/mail
servername: localhost
allowplaintext: no
autocreate_quota: 0
failedloginpause: 0
lmtp_admins: {admin}
sievedir: {folder}/scripts
imapidlepoll: 1
sasl_mech_list: DIGEST-MD5 GSSAPI
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb
"""
_CYRUS_CONF = """\
START {{
    recover cmd="{tools}/ctl_cyrusdb -C {folder}/imapd.conf -r"
}}
SERVICES {{
{services}}}
EVENTS {{
}}
"""
_SERVICE = """\
    {name} cmd="{tools}/{program} -C {folder}/imapd.conf" listen="{address}:{port}" proto="tcp4"
"""


class Cyrus(Daemon):
    """A Cyrus server of one's own on loopback: private folder, config, mail, port and log.

    `USERS` may log in, and each gets an INBOX with the first login. GSSAPI needs the `environment`
    of a realm that has keys for `imap/localhost` and so on. Alice may deliver mail by LMTP.
    """

    programs = ("cyrmaster", "saslpasswd2")
    plugins = ("digestmd5", "sasldb")
    user = "cyrus"

    @classmethod
    def require(cls, *plugins: str) -> None:
        super().require(*plugins)
        for name in SERVICES.values():
            if not (_TOOLS / name).exists():
                unavailable(f"no {_TOOLS / name}: apt-get install {PACKAGES['cyrmaster']}")
        if os.geteuid() != 0:
            unavailable("Cyrus IMAP changes to a user of its own: that takes root")

    def __init__(self, *, settings: str = "", environment: Mapping[str, str] | None = None) -> None:
        super().__init__(environment)
        self._settings = settings

    def _prepare(self) -> None:
        self._choose_ports(*SERVICES)
        self._write_config()
        for user in USERS:
            add_to_sasldb(self.folder / "sasldb", user, self.host)
        self._adopt()

    def _write_config(self) -> None:
        for name in ("config/db", "config/socket", "proc", "lock", "mail", "scripts"):
            (self.folder / name).mkdir(parents=True)
        values = {"folder": self.folder, "tools": _TOOLS, "address": self.address}
        services = "".join(
            _SERVICE.format(**values, name=name, program=program, port=self.ports[name])
            for name, program in SERVICES.items()
        )
        (self.folder / "imapd.conf").write_text(
            _IMAPD_CONF.format(**values, admin=ALICE.username) + self._settings
        )
        (self.folder / "cyrus.conf").write_text(_CYRUS_CONF.format(**values, services=services))

    def _start(self, stack: ExitStack) -> None:
        config = ("-C", self.folder / "imapd.conf", "-M", self.folder / "cyrus.conf")
        # -D: stay, as a child of ours
        options = ("-D", *config, "-p", self.folder / "master.pid")
        self._run(stack, program("cyrmaster"), *options)


def require_imtest() -> None:
    require_sasl_plugin("digestmd5")
    if not (_TOOLS / "imtest").exists():
        unavailable(f"no {_TOOLS / 'imtest'}: apt-get install {PACKAGES['imtest']}")


@contextmanager
def run_imtest(
    port: int,
    username: str,
    password: str,
    commands: bytes = b"z1 NOOP\r\nz2 LOGOUT\r\n",
    *,
    mechanism: str = "DIGEST-MD5",
    name: str = "imtest",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `imtest`, under this name: it logs in (by itself up to SSF 128), and sends commands."""
    process = subprocess.Popen(
        [
            _TOOLS / name,
            *("-v", "-p", str(port), "-m", mechanism, "-l", "256"),
            *("-a", username, "-u", username, "-w", password, Cyrus.host),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            assert process.stdin
            process.stdin.write(commands)
            process.stdin.flush()
            yield process
        finally:
            stop_process(process)


@pytest.fixture(scope="session")
def cyrus() -> Iterator[Cyrus]:
    """A Cyrus IMAP server, one for the whole run."""
    Cyrus.require()
    with Cyrus() as server:
        yield server


@pytest.fixture(scope="session")
def eager_cyrus() -> Iterator[Cyrus]:
    """The same; its timsieved says its capabilities unasked, as RFC 5804 has it."""
    Cyrus.require()
    with Cyrus(settings="sieve_sasl_send_unsolicited_capability: yes\n") as server:
        yield server


@pytest.fixture(scope="session")
def gss_cyrus(realm: Realm) -> Iterator[Cyrus]:
    """The same, as a service of the realm."""
    Cyrus.require("gssapiv2")
    with Cyrus(environment=realm.environment) as server:
        yield server
