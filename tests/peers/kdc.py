"""A private Kerberos realm: MIT's KDC, its database, a keytab, and tickets to try things with.

Observed with MIT Kerberos 1.20.1:

- Whatever runs in the realm finds it by `Realm.environment` alone. libkrb5 reads these variables
  anew for each context: a test may set and change them in its own process.
- A host's name without a dot gets the search domain of the resolver behind it unless
  `qualify_shortname` is empty: without that `ldap@localhost` is another service.
- No option bounds how long a KDC is waited for. One that accepts and never answers costs 25 s.
- RC4 keys need `allow_rc4` (Debian's patch for CVE-2025-3576; upstream since 1.21).
- A cache of type FILE holds the difference to the KDC's clock in its header, and a client applies
  it to every time it writes or checks: `set_clock_offset` makes a client whose clock is wrong.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import pytest

from tests.peers.directory import ALICE, Credentials
from tests.peers.support import (
    LOOPBACK,
    StartError,
    program,
    require_program,
    stop_process,
    wait_for_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

BOB = Credentials("bob", "another-Pa55")
USERS = (ALICE, BOB)
SERVICES = ("host", "imap", "ldap", "pop", "sieve", "svn")
"""Each has a key in the keytab, as `service/localhost`."""

_CACHE_VERSION = b"\x05\x04"
_DELTA_TIME = 1

_KRB5_CONF = """\
[libdefaults]
    default_realm = {name}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    qualify_shortname = ""
    rdns = false
    udp_preference_limit = 1
    ticket_lifetime = {ticket_lifetime}
    clockskew = {clockskew}
    allow_weak_crypto = true
    allow_rc4 = true
    {enctypes}
[realms]
    {name} = {{
        kdc = {address}:{port}
    }}
[domain_realm]
    {host} = {name}
"""
_ENCTYPES = """\
permitted_enctypes = {0}
    default_tkt_enctypes = {0}
    default_tgs_enctypes = {0}
"""
_KDC_CONF = """\
[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = {address}:{port}
[realms]
    {name} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_life = 7d
        max_renewable_life = 7d
        {enctypes}
    }}
[logging]
    kdc = STDERR
    default = STDERR
"""


class TicketError(Exception):
    """There was no ticket; the text is what the program said."""


class Realm:
    """A Kerberos realm of one's own on loopback: private folder, config, database, KDC and log.

    `enctypes`, strongest first, are all that the realm has keys for and all that it permits.
    """

    programs = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
    host = "localhost"
    address = LOOPBACK

    def __init__(
        self,
        *,
        name: str = "EXAMPLE.COM",
        ticket_lifetime: str = "10h",
        enctypes: tuple[str, ...] = (),
        clockskew: int = 300,
    ) -> None:
        self.name = name
        self.ticket_lifetime = ticket_lifetime
        self.enctypes = enctypes
        self.clockskew = clockskew
        self._stack = ExitStack()
        self._port: int | None = None
        self._folder: Path | None = None

    @property
    def port(self) -> int:
        assert self._port is not None, "not started"
        return self._port

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "not started"
        return self._folder

    @property
    def log(self) -> Path:
        return self.folder / "kdc.log"

    @property
    def keytab(self) -> Path:
        """The keys of every service."""
        return self.folder / "keytab"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to live in this realm, as a client or as a service."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "KRB5CCNAME": f"FILE:{self.folder / 'ccache'}",
            "KRB5RCACHETYPE": "none",
        }

    def principal(self, name: str) -> str:
        return f"{name}@{self.name}"

    def service(self, name: str) -> str:
        """The principal of a service on `host`."""
        return self.principal(f"{name}/{self.host}")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="kdc-")))
            self._port = _hold_port(stack)
            self._write_config()
            self._run("kdb5_util", "create", "-s", "-r", self.name, "-P", "master")
            self._add_everyone()
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._port = self._folder = None

    def add_principal(self, name: str, password: str | None = None) -> None:
        """Add a user; or, without a password, a service whose key goes to the keytab."""
        self._kadmin(*self._add_queries(name, password))

    def kinit(
        self,
        principal: str = ALICE.username,
        password: str | None = None,
        *,
        cache: Path,
        lifetime: str | None = None,
        start: str | None = None,
    ) -> None:
        """Write a ticket to `cache`; without a password the key comes from the keytab.

        `start` (a delay such as "1h") gets a postdated ticket, which is not valid as it is.
        """
        options = (*(("-l", lifetime) if lifetime else ()), *(("-s", start) if start else ()))
        key = () if password is not None else ("-k", "-t", str(self.keytab))
        answer = f"{password or ''}\n"
        self._ticket("kinit", *options, *key, principal, cache=cache, answer=answer)

    def get_service_ticket(self, service: str, *, cache: Path) -> None:
        """Add a ticket for a service to the ticket-granting ticket in `cache`."""
        self._ticket("kvno", self.service(service), cache=cache)

    def expired_ticket(self, user: Credentials = ALICE, *, cache: Path) -> None:
        """Write a ticket to `cache` that a client takes for expired at once.

        It has one second to live, and for the client a minute has passed.
        """
        self.kinit(user.username, user.password, cache=cache, lifetime="1s")
        set_clock_offset(cache, 60)

    def _write_config(self) -> None:
        values = {"name": self.name, "host": self.host, "address": self.address, "port": self.port}
        listed = " ".join(self.enctypes)
        krb5_conf = _KRB5_CONF.format(
            **values,
            ticket_lifetime=self.ticket_lifetime,
            clockskew=self.clockskew,
            enctypes=_ENCTYPES.format(listed) if listed else "",
        )
        keys = " ".join(f"{enctype}:normal" for enctype in self.enctypes)
        kdc_conf = _KDC_CONF.format(
            **values, folder=self.folder, enctypes=f"supported_enctypes = {keys}" if keys else ""
        )
        (self.folder / "krb5.conf").write_text(krb5_conf)
        (self.folder / "kdc.conf").write_text(kdc_conf)

    def _add_everyone(self) -> None:
        queries = [self._add_queries(user.username, user.password) for user in USERS]
        queries += [self._add_queries(self.service(service), None) for service in SERVICES]
        self._kadmin(*(query for group in queries for query in group))

    def _add_queries(self, name: str, password: str | None) -> tuple[str, ...]:
        if password is not None:
            quoted = password.replace('"', '""')
            return (f'add_principal -pw "{quoted}" {name}',)
        return (f"add_principal -randkey {name}", f"ktadd -k {self.keytab} {name}")

    def _kadmin(self, *queries: str) -> None:
        """Run every query in one process, whose status says nothing of how they went."""
        said = self._run("kadmin.local", "-r", self.name, answer=_lines(queries))
        added = sum(query.startswith("add_principal ") for query in queries)
        if said.count(" created.") != added or " while " in said:
            raise StartError(f"kadmin.local:\n{said}")

    def _start(self, stack: ExitStack) -> None:
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [program("krb5kdc"), "-n", "-r", self.name, "-P", self.folder / "kdc.pid"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        stack.callback(stop_process, process)
        wait_for_port(process, self.port, self.log, ready="commencing operation")

    def _ticket(self, name: str, *arguments: str, cache: Path, answer: str = "") -> None:
        done = self._program(name, "-c", f"FILE:{cache}", *arguments, answer=answer)
        if done.returncode:
            raise TicketError(done.stdout)

    def _run(self, name: str, *arguments: str, answer: str = "") -> str:
        done = self._program(name, *arguments, answer=answer)
        if done.returncode:
            raise StartError(f"{name}: status {done.returncode}\n{done.stdout}")
        return done.stdout

    def _program(
        self, name: str, *arguments: str, answer: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program(name), *arguments],
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environ,
            timeout=60,
            check=False,
        )

    @property
    def _environ(self) -> dict[str, str]:
        return {**os.environ, "LC_ALL": "C.UTF-8", **self.environment}


@pytest.fixture(scope="session")
def realm() -> Iterator[Realm]:
    """A Kerberos realm, one for the whole run. It touches nothing of the test process."""
    require_program(*Realm.programs)
    with Realm() as realm:
        yield realm


@pytest.fixture
def krb5_environment(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The test process lives in the realm for the length of a test, with no ticket yet."""
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'ccache'}")
    return realm


@pytest.fixture
def alice_ticket(krb5_environment: Realm, tmp_path: Path) -> Realm:
    """The same, and the test process has a ticket of Alice's in `KRB5CCNAME`."""
    krb5_environment.kinit(ALICE.username, ALICE.password, cache=tmp_path / "ccache")
    return krb5_environment


def set_clock_offset(cache: Path, seconds: int) -> None:
    """Let the clock of whoever uses `cache` be ahead of the real one, or behind.

    Beyond `Realm.clockskew` the KDC refuses a request for another ticket and, if the clock is
    ahead, a service the ticket that is here already: both with KRB_AP_ERR_SKEW. With a clock behind
    it, or past its end, the client itself takes a ticket for "not yet valid" or "expired".
    """
    # Version 4 of the format: the header's length, then fields of tag, length and value.
    wire = cache.read_bytes()
    assert wire.startswith(_CACHE_VERSION), "not a FILE cache of version 4"
    (length,) = struct.unpack_from(">H", wire, 2)
    field = struct.pack(">HHii", _DELTA_TIME, 8, seconds, 0)
    header = _CACHE_VERSION + struct.pack(">H", len(field)) + field
    cache.write_bytes(header + wire[4 + length :])


def _hold_port(stack: ExitStack) -> int:
    """A port that nobody else gets while `stack` is open, but a socket with SO_REUSEPORT may share.

    The KDC's has that, which is why a port is not just looked for: a second KDC on the same port
    would start without a word, and the two would take turns.
    """
    holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((LOOPBACK, 0))
    return int(holder.getsockname()[1])


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
