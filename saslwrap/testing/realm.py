"""A Kerberos realm of one's own on loopback, for logins with GSSAPI and GSS-SPNEGO.

    with Realm({"alice": "s3cret"}) as realm, realm.active():
        with LDAPServer({}, mechanisms=["GSSAPI"]).in_thread() as server:
            client = GSSAPIClient("alice", "s3cret", service="ldap", host=server.host)

It is MIT's KDC, in a temporary folder, with a keytab for the services. Whatever runs in the realm
finds it by `Realm.environment` alone: pass that to another process, or let this one live there with
`Realm.active`. libkrb5 reads these variables anew for each context.

Observed with MIT Kerberos 1.20.1: a host's name without a dot gets the search domain of the
resolver behind it unless `qualify_shortname` is empty: without that `ldap@localhost` is another
service.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import ClassVar, Final, Self

from saslwrap.errors import MechanismUnavailableError, UsageError, require_kind
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.names import check_host, check_service, check_text
from saslwrap.testing._options import check_users
from saslwrap.testing._processes import (
    LOOPBACK,
    StartError,
    find_program,
    hold_port,
    stop_process,
    wait_for_port,
)

__all__ = ["Realm", "TicketError"]

_KRB5_CONF: Final = """\
[libdefaults]
{libdefaults}
[realms]
    {name} = {{
        kdc = {address}:{port}
    }}
[domain_realm]
    {host} = {name}
"""

_LIBDEFAULTS: Final = {
    "dns_lookup_kdc": "false",
    "dns_lookup_realm": "false",
    "dns_canonicalize_hostname": "false",
    "qualify_shortname": '""',
    "rdns": "false",
    "udp_preference_limit": "1",
}

_KDC_CONF: Final = """\
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
{settings}
    }}
[logging]
    kdc = STDERR
    default = STDERR
"""


_PRINCIPAL: Final = re.compile(r"[^\s\"'\\]+")

#: A password, as kadmin.local repeats it.
_PASSWORD: Final = re.compile(r'-pw "(?:[^"]|"")*"')


class TicketError(Exception):
    """There was no ticket; the text is what the program said."""


class Realm:
    """A Kerberos realm: private folder, configuration, database, KDC and log, while it is entered.

    :param users: passwords by username
    :param name: the realm's, in upper case
    :param host: the name of the host that the services run on
    :param services: IANA service names; each gets a key in the keytab, as `service/host`
    :param libdefaults: further lines of krb5.conf's section of that name
    :raises MechanismUnavailableError: when entered: MIT's programs are not installed
    :raises StartError: when entered: one of them failed
    :raises UsageError: an argument of another kind, or a name or a password that they could not
        read
    """

    programs: ClassVar[tuple[str, ...]] = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")

    address: ClassVar[str] = LOOPBACK

    @forgetful
    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        *,
        name: str = "EXAMPLE.COM",
        host: str = "localhost",
        services: Iterable[str] = ("imap", "ldap"),
        libdefaults: Mapping[str, str] | None = None,
    ) -> None:
        _check_principal("name", name)
        check_host(host)
        check_users(users)
        for user in (users or {}).items():
            _check_user(*user)
        require_kind("services", services, Iterable)
        if isinstance(services, str):
            raise UsageError(f"services takes several names: services=[{services!r}]")
        self.name: Final = name
        self.host: Final = host
        self._users: Final = dict(users or {})
        self._services: Final = tuple(services)
        for service in self._services:
            check_service(service)
        _check_settings(libdefaults)
        self._libdefaults: Final = {
            "default_realm": name,
            **_LIBDEFAULTS,
            **(libdefaults or {}),
        }
        self._kdc_settings: Mapping[str, str] = {}
        self._stack = ExitStack()
        self._port: int | None = None
        self._folder: Path | None = None

    @property
    def port(self) -> int:
        """The KDC's TCP port, on 127.0.0.1; a `UsageError` while the realm is not entered."""
        if self._port is None:
            raise UsageError("the realm is not entered: with realm")
        return self._port

    @property
    def folder(self) -> Path:
        """Where all of it is; a `UsageError` while the realm is not entered."""
        if self._folder is None:
            raise UsageError("the realm is not entered: with realm")
        return self._folder

    @property
    def log(self) -> Path:
        """What the KDC says."""
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
            "KRB5CCNAME": f"FILE:{self._cache}",
            "KRB5RCACHETYPE": "none",
        }

    @contextmanager
    def active(self) -> Iterator[Self]:
        """Let this process live in the realm for the length of a `with`; then all is as before.

        `os.environ` is the whole process': enter one realm at a time.
        """
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield self
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def principal(self, name: str) -> str:
        """Name a user in full, `alice@EXAMPLE.COM`."""
        return f"{name}@{self.name}"

    def service(self, name: str) -> str:
        """Name a service on `host` in full, `ldap/localhost@EXAMPLE.COM`."""
        return self.principal(f"{name}/{self.host}")

    @forgetful
    def add_principal(self, name: str, password: str | None = None) -> None:
        """Add a user; or, without a password, a service whose key goes to the keytab.

        :raises StartError: it is there already, or the KDC will not have it
        :raises UsageError: a name or a password that the program could not read
        """
        _check_user(name, password)
        self._kadmin(*self._add_queries(name, password))

    @forgetful
    def kinit(
        self,
        principal: str,
        password: str | None = None,
        *options: str,
        cache: Path | None = None,
    ) -> None:
        """Get a ticket-granting ticket; without a password the key comes from the keytab.

        :param options: further arguments of the program: `"-l", "1h"`
        :param cache: the file to write it to, the one in `environment` if None
        :raises TicketError: there was none
        """
        key = () if password is not None else ("-k", "-t", str(self.keytab))
        answer = f"{password or ''}\n"
        self._get_ticket("kinit", *options, *key, principal, cache=cache, answer=answer)

    @forgetful
    def __enter__(self) -> Self:
        self._check_programs()
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="kdc-")))
            self._port = hold_port(stack)
            stack.callback(self._forget_place)
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

    def __repr__(self) -> str:
        where = "not entered" if self._port is None else f"{self.address}:{self._port}"
        return f"<{type(self).__name__} {self.name} {where}>"

    @property
    def _cache(self) -> Path:
        return self.folder / "ccache"

    def _forget_place(self) -> None:
        self._port = self._folder = None

    def _check_programs(self) -> None:
        missing = [name for name in self.programs if find_program(name) is None]
        if missing:
            raise MechanismUnavailableError(
                f"a realm needs MIT Kerberos; {', '.join(missing)} cannot be found. Debian: "
                "apt-get install krb5-kdc krb5-admin-server krb5-user; Homebrew: brew install krb5"
            )

    def _write_config(self) -> None:
        place = {"name": self.name, "address": self.address, "port": self.port}
        krb5_conf = _KRB5_CONF.format(
            **place, host=self.host, libdefaults=_settings(self._libdefaults)
        )
        kdc_conf = _KDC_CONF.format(
            **place, folder=self.folder, settings=_settings(self._kdc_settings)
        )
        (self.folder / "krb5.conf").write_text(krb5_conf)
        (self.folder / "kdc.conf").write_text(kdc_conf)

    def _add_everyone(self) -> None:
        queries = [self._add_queries(*user) for user in self._users.items()]
        queries += [self._add_queries(self.service(name), None) for name in self._services]
        self._kadmin(*(query for group in queries for query in group))

    def _add_queries(self, name: str, password: str | None) -> tuple[str, ...]:
        if password is not None:
            quoted = password.replace('"', '""')
            return (f'add_principal -pw "{quoted}" {name}',)
        return (f"add_principal -randkey {name}", f"ktadd -k {self.keytab} {name}")

    def _kadmin(self, *queries: str) -> None:
        """Run every query in one process, whose status says nothing of how they went."""
        lines = "".join(f"{query}\n" for query in queries)
        said = self._run("kadmin.local", "-r", self.name, answer=lines)
        added = sum(query.startswith("add_principal ") for query in queries)
        if said.count(" created.") != added or " while " in said:
            raise StartError(f"kadmin.local:\n{_PASSWORD.sub('-pw ...', said)}")

    def _start(self, stack: ExitStack) -> None:
        with self.log.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the arguments are ours
                [_path_of("krb5kdc"), "-n", "-r", self.name, "-P", self.folder / "kdc.pid"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        stack.callback(stop_process, process)
        wait_for_port(process, self.port, self.log, ready="commencing operation")

    def _get_ticket(self, name: str, *arguments: str, cache: Path | None, answer: str = "") -> None:
        done = self._program(name, "-c", f"FILE:{cache or self._cache}", *arguments, answer=answer)
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
        return subprocess.run(  # noqa: S603 - the arguments are ours
            [_path_of(name), *arguments],
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


def _path_of(name: str) -> str:
    return find_program(name) or name


def _check_user(name: str, password: str | None) -> None:
    _check_principal("a user", name)
    if password is not None:
        check_text(f"the password of {name!r}", password)


def _check_principal(argument: str, name: str) -> None:
    check_text(argument, name)
    if not _PRINCIPAL.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a principal or a realm here: no blanks, no quotes"
        )


def _check_settings(values: Mapping[str, str] | None) -> None:
    require_kind("libdefaults", values, Mapping | None, "values by name ({'clockskew': '5'})")
    for name, value in (values or {}).items():
        check_text("a name in libdefaults", name)
        check_text(f"libdefaults[{name!r}]", value, may_be_empty=True)


def _settings(values: Mapping[str, str]) -> str:
    return "\n".join(f"    {name} = {value}" for name, value in values.items())
