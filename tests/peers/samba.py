"""A private Active Directory domain controller: Samba, in a network namespace of its own.

Its LDAP ports are fixed. Clients outside reach it, and its KDC, through relays.

Observed with Samba 4.17.12, `ldap server require strong auth = yes`, in clear:

- It offers GSS-SPNEGO, GSSAPI and NTLM. NTLM works inside SPNEGO and bare, without winbindd.
- GSSAPI offers 07 01 00 00: no layer, integrity, confidentiality, tokens of up to 65536 octets. The
  success has empty credentials, as bare NTLM's has. With GSS-SPNEGO the success has the last token.
- A layer is a stream to it: a frame holds many messages or a part of one. Tokens have up to 65536
  octets, or as many as the client's maxbuf, overhead included. It takes a token of 16 MiB.
- GSS-SPNEGO over Kerberos is sealed whenever it is signed.
- No layer: strongerAuthRequired (8), "SASL:[GSSAPI]: Sign or Seal are required."; NTLM without a
  layer: invalidCredentials (49), "... AcceptSecurityContext error, data 57, v1db1".
- Simple bind: strongerAuthRequired, "BindSimple: Transport encryption required."
- Another mechanism: operationsError (1), "SASL: Failed to start authentication system:
  NT_STATUS_INVALID_PARAMETER".
- Wrong password or unknown user (NTLM): invalidCredentials, "8009030C: LdapErr: DSID-0C0904DC,
  comment: AcceptSecurityContext error, data 52e, v1db1". Simple bind: 80090308 and DSID-0C0903A9.

Over TLS:

- A layer: unwillingToPerform (53), "SASL:[GSSAPI]: Sign or Seal are not allowed if TLS is used".
- No layer: refused as in clear. `allow_sasl_over_tls` takes it, and says "SASL:[GSSAPI]: not
  allowed if TLS is used." to one that came *without* TLS.
- Channel bindings are not looked at: wrong ones are as good as none.

Limits: MaxPageSize (1000) is not enforced. A request of more than 16 MiB, or a search request (or
any request before the login) of more than 256,000 octets, ends the connection without a word.
"""

from __future__ import annotations

import os
import random
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificate import write_certificate
from tests.peers.directory import ALICE, generated_value
from tests.peers.kdc import BOB, TicketError
from tests.peers.ldap_daemon import LDAPDaemon
from tests.peers.namespace import (
    PROGRAMS,
    Forwarder,
    connect,
    require_namespaces,
    start_inside,
    stop_inside,
)
from tests.peers.support import program, run, unavailable, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

BASE_DN = "DC=ad,DC=lab,DC=test"
LARGE_DN = f"OU=large,{BASE_DN}"
SMALL_DN = f"OU=small,{BASE_DN}"
WORK_DN = f"OU=work,{BASE_DN}"
"""Where whoever is logged in may do as he likes."""
USERS = (ALICE, BOB)

LARGE_ENTRIES = 260
LARGE_VALUE_LENGTH = 90_000
SMALL_ENTRIES = 1000

_SERVICES = {"ldap": 389, "ldaps": 636, "kdc": 88}
_SETUP = "/usr/share/samba/setup/provision.ldif"

_CONFIG = """\
[global]
    netbios name = DC1
    realm = {realm}
    workgroup = {domain}
    server role = active directory domain controller
    server services = ldap kdc
    interfaces = lo
    bind interfaces only = yes
    krb5 port = 88
    kpasswd port = 464
    ldap server require strong auth = {strong_auth}
    tls enabled = yes
    tls certfile = {folder}/certificate.pem
    tls keyfile = {folder}/key.pem
    tls cafile = {folder}/certificate.pem
    private dir = {folder}/private
    state directory = {folder}/state
    cache directory = {folder}/cache
    lock directory = {folder}
    pid directory = {folder}
    binddns dir = {folder}/bind-dns
    ncalrpc dir = {folder}/ncalrpc
    winbindd socket directory = {folder}/winbindd
    ntp signd socket directory = {folder}/ntp_signd
"""
_KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    qualify_shortname = ""
    rdns = false
    udp_preference_limit = 1
[realms]
    {realm} = {{
        kdc = {address}:{port}
    }}
[domain_realm]
    {host} = {realm}
"""


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    """A domain controller, one for the whole run."""
    Samba.require()
    with Samba() as server:
        yield server


def enter(server: Samba, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let the test process live in the domain; its tickets are those in `cache`."""
    for name, value in {**server.environment, "KRB5CCNAME": f"FILE:{cache}"}.items():
        monkeypatch.setenv(name, value)


def user_dn(name: str) -> str:
    return f"CN={name},CN=Users,{BASE_DN}"


def large_dn(number: int) -> str:
    return f"CN=large-{number:03},{LARGE_DN}"


def large_value(number: int) -> bytes:
    """The `thumbnailPhoto` of a large entry: octets at random, the same ones each time."""
    return random.Random(number).randbytes(LARGE_VALUE_LENGTH)


def small_dn(number: int) -> str:
    return f"CN=small-{number:05},{SMALL_DN}"


class Samba(LDAPDaemon):
    """A domain controller of one's own: private folder, data, namespace, certificate and log.

    Its ports are those of relays on loopback. `strong_auth` is `ldap server require strong auth`.
    """

    programs = ("samba", "samba-tool", "ldbmodify", "ldbsearch", "kinit", *PROGRAMS)
    realm = "AD.LAB.TEST"
    domain = "ADLAB"
    base_dn = BASE_DN

    @classmethod
    def require(cls, *plugins: str) -> None:
        super().require(*plugins)
        if not os.path.exists(_SETUP):
            unavailable(f"no {_SETUP}: apt-get install samba-ad-provision")
        require_namespaces()

    def __init__(self, *, strong_auth: str = "yes") -> None:
        super().__init__()
        self.strong_auth = strong_auth
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        assert self._pid is not None, "not started"
        return self._pid

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs. OpenLDAP's look for the machine's own name in the certificate."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5CCNAME": f"FILE:{self.folder / 'ccache'}",
            "KRB5RCACHETYPE": "none",
            "LDAPTLS_CACERT": str(self.certificate),
            "LDAPTLS_REQCERT": "allow",
        }

    def kinit(
        self,
        principal: str = ALICE.username,
        password: str = ALICE.password,
        *,
        cache: Path | None = None,
    ) -> None:
        """Write a ticket to `cache`, or to where `environment` says."""
        done = subprocess.run(
            [program("kinit"), *(("-c", f"FILE:{cache}") if cache else ()), principal],
            input=f"{password}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **self.environment},
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise TicketError(done.stdout)

    def ldbsearch(
        self, expression: str, *attributes: str, base: str = BASE_DN
    ) -> dict[str, dict[str, list[bytes]]]:
        """What the server's own tool reads from its database: by DN, then by attribute.

        It writes SIDs and GUIDs as text.
        """
        found = self._ldb("ldbsearch", "-b", base, expression, *attributes)
        return dict(_entries(found))

    def _prepare(self) -> None:
        self._provision()
        self._load()

    def _start(self, stack: ExitStack) -> None:
        self._start_inside(stack)
        self._forward(stack)

    def _forget(self) -> None:
        super()._forget()
        self._pid = None

    def _provision(self) -> None:
        run(
            "samba-tool",
            *("domain", "provision", "--quiet", "--configfile=/dev/null"),
            f"--targetdir={self.folder}",
            *("--server-role=dc", f"--realm={self.realm}", f"--domain={self.domain}"),
            *("--host-name=dc1", f"--host-ip={self.address}", "--dns-backend=NONE"),
            *("--option=interfaces=lo", "--option=bind interfaces only=yes"),
        )
        config = _CONFIG.format(
            folder=self.folder,
            realm=self.realm,
            domain=self.domain,
            strong_auth=self.strong_auth,
        )
        self._config.write_text(config)
        write_certificate(self.folder, self.host)
        self.key.chmod(0o600)  # or the server takes it for published

    def _load(self) -> None:
        ldif = self.folder / "data.ldif"
        ldif.write_text("".join(_directory_ldif()), encoding="ascii")
        self._ldb("ldbmodify", "--nosync", str(ldif))
        run(
            *("samba-tool", "dsacl", "set", f"--configfile={self._config}", "-H", self._database),
            *(f"--objectdn={WORK_DN}", "--sddl=(A;CI;GA;;;AU)"),
        )

    def _start_inside(self, stack: ExitStack) -> None:
        process = start_inside(
            *(program("samba"), "--interactive", "--model=single", f"--configfile={self._config}"),
            log=self.log,
            environment={"KRB5_CONFIG": str(self.folder / "private" / "krb5.conf")},
        )
        stack.callback(stop_inside, process)
        wait_for(process, lambda: _serves(process.pid), self.log, what="a port is closed")
        self._pid = process.pid

    def _forward(self, stack: ExitStack) -> None:
        for service, port in _SERVICES.items():
            self._ports[service] = stack.enter_context(Forwarder(self.pid, port)).port
        krb5_conf = _KRB5_CONF.format(
            realm=self.realm, host=self.host, address=self.address, port=self.ports["kdc"]
        )
        (self.folder / "krb5.conf").write_text(krb5_conf)

    def _ldb(self, name: str, *arguments: str) -> bytes:
        """Run a tool on the server's database; give what it wrote."""
        return run(name, f"--configfile={self._config}", "-H", self._database, *arguments)

    @property
    def _database(self) -> str:
        return str(self.folder / "private" / "sam.ldb")

    @property
    def _config(self) -> Path:
        return self.folder / "smb.conf"


def _serves(pid: int) -> bool:
    try:
        for port in _SERVICES.values():
            connect(pid, port).close()
    except OSError:
        return False
    return True


def _directory_ldif() -> Iterator[str]:
    for user in USERS:
        yield _user(user.username, user.password)
    yield (
        f"dn: CN=DC1,OU=Domain Controllers,{BASE_DN}\nchangetype: modify\n"
        f"add: servicePrincipalName\nservicePrincipalName: ldap/{Samba.host}\n\n"
    )
    for unit in (LARGE_DN, SMALL_DN, WORK_DN):
        yield _entry(unit, "organizationalUnit")
    for number in range(LARGE_ENTRIES):
        yield _entry(large_dn(number), "contact", thumbnailPhoto=large_value(number))
    for number in range(SMALL_ENTRIES):
        yield _entry(small_dn(number), "contact", description=generated_value(number).encode())


def _user(name: str, password: str) -> str:
    return _entry(
        user_dn(name),
        "user",
        sAMAccountName=name.encode(),
        userAccountControl=b"512",
        unicodePwd=f'"{password}"'.encode("utf-16-le"),
    )


def _entry(dn: str, kind: str, **attributes: bytes) -> str:
    lines = [f"dn: {dn}", "changetype: add", f"objectClass: {kind}"]
    lines += [f"{name}:: {b64encode(value).decode()}" for name, value in attributes.items()]
    return "\n".join(lines) + "\n\n"


def _entries(ldif: bytes) -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    for record in ldif.replace(b"\n ", b"").split(b"\n\n"):
        entry: dict[str, list[bytes]] = {}
        for line in record.splitlines():
            if not line.startswith(b"#"):
                name, _, value = line.partition(b": ")
                text = name.decode()
                decoded = b64decode(value) if text.endswith(":") else value
                entry.setdefault(text.removesuffix(":"), []).append(decoded)
        if "dn" in entry:  # or it is a referral
            (dn,) = entry.pop("dn")
            yield dn.decode(), entry
