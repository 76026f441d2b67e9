"""A private OpenLDAP server, and `ldapsearch` to measure it with.

Observed with slapd 2.5.13 and Cyrus SASL 2.1.28, `sasl-secprops none`:

- Challenge, in a bindResponse (14) with an empty matchedDN and the diagnostic message
  "SASL(0): successful result: ": `nonce="...",realm="example.com",qop="auth,auth-int,auth-conf",
  cipher="rc4-40,rc4-56,rc4,des,3des",maxbuf=65536,charset=utf-8,algorithm=md5-sess`, in this order.
  `minssf=N` takes out weaker ciphers and QOPs (112: `qop="auth-conf",cipher="rc4,3des"`),
  `maxssf=0` the whole cipher directive; `maxbufsize=N` is announced as maxbuf.
- rspauth comes in the serverSaslCreds of the success itself. The layer begins right behind that
  message in both directions.
- Wrong password: invalidCredentials (49). Unknown user: other (80), "unable to canonify user".
- The client (OpenLDAP's) leaves algorithm and charset out, quotes neither qop nor cipher, and
  announces maxbuf=16777215. It sends UTF-8 names raw.
- 3des is offered and cannot be used: the client fails with "failed to init cipher '3des'".
- One frame for each LDAP message, several frames in one segment. Against a client maxbuf of 2048 an
  entry of 4217 octets comes as tokens of 2035, 2035, 195 (rc4 of every strength), of 2038, 2038,
  198 (des) or of 2044, 2044, 177 (auth-int): Cyrus counts the 4 octets of the length as part of
  maxbuf and reserves 25 more for confidentiality (16 for integrity), so a cut falls after 2019
  (2028) octets of plaintext.
- Debian's slapd looks for its Cyrus configuration (slapd.conf) in /etc/ldap/sasl2 and
  /usr/lib/sasl2, whatever SASL_CONF_PATH says; neither file exists unless an administrator made it.
  `sasl-auxprops slapd` names the store of passwords here, and no sasldb is opened.

Over Kerberos (MIT 1.20.1):

- The SSF is that of the session key: 256 (aes256), 128 (aes128), 64 (arcfour-hmac). GSSAPI can have
  1 and 0 as well; GSS-SPNEGO has 0 if the client says `maxssf=0`, and seals for any other maxssf.
- OpenLDAP's client asks for mutual authentication and sequence detection, never replay detection;
  for confidentiality and integrity too with GSSAPI, where `maxssf=0` takes out confidentiality,
  and with GSS-SPNEGO, where it takes out both.
- A ticket that slapd does not take is invalidCredentials (49), "gss_accept_sec_context", whatever
  the reason: the error token of Kerberos is not passed on.
- A name that has no entry here may log in: nothing looks it up.
- OpenLDAP's client wants the name of the machine in the certificate of a server called localhost.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.certificate import write_certificate
from tests.peers import directory
from tests.peers.directory import ALICE, Credentials
from tests.peers.ldap_daemon import LDAPDaemon
from tests.peers.support import StartError, log_tail, program, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

KERBEROS_MECHANISMS = ("GSSAPI", "GSS-SPNEGO")

_SCHEMA_FOLDERS = ("/etc/ldap/schema", "/etc/openldap/schema")
_MODULE_FOLDERS = ("/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap")
_APPARMOR_PROFILE = "/etc/apparmor.d/usr.sbin.slapd"  # Ubuntu has one, Debian has not
_ATTEMPTS = 3

_CONFIG = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
modulepath {modules}
moduleload back_mdb
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
sizelimit unlimited
timelimit unlimited
sasl-host localhost
sasl-realm {realm}
sasl-secprops {secprops}
sasl-auxprops slapd
authz-regexp "uid=([^,]*),cn=[^,]*,cn=auth" "uid=$1,{people}"
authz-regexp "uid=([^,]*),cn=[^,]*,cn=[^,]*,cn=auth" "uid=$1,{people}"
{extra}
database mdb
suffix {base}
rootdn "{root}"
directory {folder}/db
maxsize 268435456
dbnosync
"""
_TLS_CONFIG = """\
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSVerifyClient never
"""


class Slapd(LDAPDaemon):
    """A slapd of one's own on loopback: private folder, config, data, port and log.

    Alice is the `rootdn`: she may write, and no limit holds for her. With `tls` the server takes
    StartTLS, and TLS from the first octet at `tls_url`; who trusts `certificate` trusts the server.
    GSSAPI and GSS-SPNEGO need the `environment` of a realm that has a key for `ldap/localhost`.
    """

    programs = ("slapd", "slapadd")
    realm = directory.REALM
    base_dn = directory.BASE_DN
    credentials = ALICE

    def __init__(
        self,
        *,
        entries: int = 0,
        sasl_secprops: str = "none",
        extra_config: str = "",
        tls: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(environment)
        self.entries = entries
        self.sasl_secprops = sasl_secprops
        self.extra_config = extra_config
        self.tls = tls

    def _prepare(self) -> None:
        self._write_config()
        self._load()

    def _write_config(self) -> None:
        (self.folder / "db").mkdir()
        (self.folder / "sasl").mkdir()
        self._environ["SASL_CONF_PATH"] = str(self.folder / "sasl")
        config = _CONFIG.format(
            schema=_first_folder(_SCHEMA_FOLDERS),
            modules=_first_folder(_MODULE_FOLDERS),
            folder=self.folder,
            realm=self.realm,
            secprops=self.sasl_secprops,
            people=directory.PEOPLE_DN,
            base=self.base_dn,
            root=ALICE.dn,
            extra=self._tls_config() + self.extra_config,
        )
        self._config.write_text(config)

    def _tls_config(self) -> str:
        if not self.tls:
            return ""
        write_certificate(self.folder, self.host)
        return _TLS_CONFIG.format(certificate=self.certificate, key=self.key)

    def _load(self) -> None:
        ldif = self.folder / "data.ldif"
        ldif.write_text("".join(directory.directory_ldif(self.entries)), encoding="ascii")
        try:
            run("slapadd", "-q", "-f", self._config, "-l", ldif, environ=self._environ)
        except StartError as error:
            raise StartError(f"{error}{_confinement_hint()}") from None

    def _start(self, stack: ExitStack) -> None:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._start_once(stack)
            except StartError:
                if "Address already in use" not in log_tail(self.log):
                    raise
        return self._start_once(stack)

    def _start_once(self, stack: ExitStack) -> None:
        self._choose_ports("ldap", *(["ldaps"] if self.tls else []))
        urls = [f"{scheme}://{self.address}:{port}/" for scheme, port in self.ports.items()]
        options = ("-d", "stats", "-f", self._config, "-h", " ".join(urls))
        self._run(stack, program("slapd"), *options, ready="slapd starting")

    @property
    def _config(self) -> Path:
        return self.folder / "slapd.conf"


def ldapsearch(
    url: str,
    *arguments: str,
    base: str = directory.BASE_DN,
    mechanism: str = "DIGEST-MD5",
    security: str | None = None,
    credentials: Credentials = ALICE,
    password: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `ldapsearch`; `security` is its `-O`, `arguments` are options, filter and names.

    Name and password are for mechanisms that ask for them. A mechanism over Kerberos takes its
    ticket from where `environment` says.
    """
    known = ("-U", credentials.username, "-w", password or credentials.password)
    return subprocess.run(
        [
            program("ldapsearch"),
            *("-N", "-LLL", "-o", "ldif_wrap=no", "-H", url),
            *("-Y", mechanism, *(("-O", security) if security else ())),
            *(() if mechanism in KERBEROS_MECHANISMS else known),
            *("-b", base, *arguments),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "LDAPNOINIT": "1", **(environment or {})},
        timeout=60,
        check=False,
    )


def _confinement_hint() -> str:
    if os.path.exists(_APPARMOR_PROFILE):
        return f"\n{_APPARMOR_PROFILE} may keep slapd out of its folder (aa-complain slapd)"
    return ""


def _first_folder(candidates: tuple[str, ...]) -> str:
    for candidate in candidates:
        if os.path.isdir(candidate):
            return candidate
    raise StartError(f"none of {', '.join(candidates)} exists")
