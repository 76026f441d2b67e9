"""Where a Kerberos login can be spoilt: the realm, and what one test breaks for itself alone."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from saslwrap.errors import AuthenticationError, SASLError
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from tests.peers.directory import ALICE
from tests.peers.kdc import Realm
from tests.peers.support import free_port, unavailable
from tests.test_digest_md5_secrets import frames_of, held, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saslwrap.mechanism import Mechanism

PASSWORD: Final = "s3cret-Pä55wörd"
"""Of every user that a test makes."""

_NUMBERS: Final = count(1)


@dataclass(frozen=True)
class Kind:
    """One of the mechanisms, as a test makes it."""

    id: str
    client_class: type[GSSAPIClient] | type[GSSSPNEGOClient]
    server_class: type[GSSAPIServer] | type[GSSSPNEGOServer]
    options: dict[str, Any] = field(default_factory=dict)

    def client(self, **arguments: Any) -> GSSAPIClient | GSSSPNEGOClient:
        where = {"service": "ldap", "host": "localhost"}
        return self.client_class(**where | self.options | arguments)

    def server(self, **arguments: Any) -> GSSAPIServer | GSSSPNEGOServer:
        where = {"service": "ldap", "host": "localhost"}
        return self.server_class(**where | self.options | arguments)

    @property
    def name(self) -> str:
        return self.client_class.name

    def __str__(self) -> str:
        return self.id


GSSAPI: Final = Kind("GSSAPI", GSSAPIClient, GSSAPIServer)
SPNEGO: Final = Kind("GSS-SPNEGO", GSSSPNEGOClient, GSSSPNEGOServer)
SPNEGO_OR_NTLM: Final = Kind("GSS-SPNEGO-ntlm", GSSSPNEGOClient, GSSSPNEGOServer, {"ntlm": True})


class Bed:
    """The test process in the realm, and the ways to spoil that until the test ends."""

    def __init__(self, realm: Realm, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self.realm = realm
        self.folder = folder
        self.cache = folder / "ccache"
        self.environment = environment

    def kadmin(self, *queries: str) -> None:
        self.realm._kadmin(*queries)

    def new_user(self) -> str:
        name = f"user{next(_NUMBERS)}"
        self.realm.add_principal(name, PASSWORD)
        return name

    def user_keytab(self, user: str) -> Path:
        """The user's key, which stays good."""
        keytab = self.folder / f"{user}.keytab"
        self.kadmin(f"ktadd -k {keytab} -norandkey {user}")
        return keytab

    def new_service(self) -> str:
        """A service name of its own, with a key that is in no keytab."""
        name = f"service{next(_NUMBERS)}"
        self.kadmin(f"add_principal -randkey {name}/{self.realm.host}")
        return name

    def use_keytab(self, *services: str) -> Path:
        """Let services here have the keys of these, as they are now, and no other."""
        keytab = self.folder / "keytab"
        host = self.realm.host
        if services:
            self.kadmin(*(f"ktadd -k {keytab} -norandkey {name}/{host}" for name in services))
        self.environment.setenv("KRB5_KTNAME", f"FILE:{keytab}")
        return keytab

    def get_ticket(self) -> None:
        """Get one of Alice's."""
        self.realm.kinit(ALICE.username, ALICE.password, cache=self.cache)

    def garbage(self, name: str = "garbage") -> Path:
        path = self.folder / name
        path.write_bytes(b"garbage " * 40)
        return path

    def configure(self, old: str, new: str) -> None:
        """Change krb5.conf in one place."""
        text = (self.realm.folder / "krb5.conf").read_text()
        assert old in text
        self.use_configuration(text.replace(old, new))

    def use_configuration(self, text: str) -> None:
        gc.collect()  # without a krb5.conf that it can read, MIT releases no credentials either
        path = self.folder / "krb5.conf"
        path.write_text(text)
        self.environment.setenv("KRB5_CONFIG", str(path))

    def permit(self, enctypes: str) -> None:
        self.configure("[realms]", f"permitted_enctypes = {enctypes}\n[realms]")

    def move_kdc(self, address: str | None = None) -> None:
        """Look for the KDC where nothing listens, or at another address."""
        realm = self.realm
        there = address or f"{realm.address}:{free_port()}"
        self.configure(f"kdc = {realm.address}:{realm.port}", f"kdc = {there}")


def require_gss() -> None:
    """Skip the test where the extra, or the library below it, is not there."""
    try:
        import gssapi
        import krb5
        import spnego
    except ImportError as error:
        unavailable(f"pip install 'saslwrap[gssapi]', apt-get install libgssapi-krb5-2: {error}")
    assert all((gssapi, krb5, spnego))


@pytest.fixture
def bed(krb5_environment: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    require_gss()
    with monkeypatch.context() as environment:
        yield Bed(krb5_environment, tmp_path, environment)


@dataclass(frozen=True)
class Case:
    """Something that is wrong, and what an error has to say about it: the cause and the remedy.

    `prepare` makes it so, and gives the arguments of the mechanism.
    """

    id: str
    prepare: Callable[[Bed], dict[str, Any]]
    cause: str
    remedy: str
    error: type[SASLError] = AuthenticationError

    def check(self, error: SASLError) -> None:
        assert type(error) is self.error, repr(error)
        assert re.search(self.cause, str(error)), error
        assert re.search(self.remedy, str(error)), error
        check_readable(error)

    def __str__(self) -> str:
        return self.id


_STATUS = re.compile(r"Major|Minor|Spnego|Errno|0x|-?\d{4,}|Error\b")


def check_readable(error: SASLError) -> None:
    """An error speaks to people: it has no status of GSS, no number of com_err, no class name."""
    assert not _STATUS.search(re.sub(r"\S*/\S*", "", str(error))), error


def check_secrets(error: BaseException, *mechanisms: Mechanism) -> None:
    """Neither the error, nor what its traceback reaches, nor the mechanism has the password."""
    assert error.__cause__ is None
    assert error.__context__ is None
    for secret in (PASSWORD, ALICE.password):
        assert secret not in shown(error)
    kept = [value for mechanism in mechanisms for value in held(mechanism)]
    for frame in frames_of(error):
        kept += [value for local in frame.f_locals.values() for value in held(local)]
    assert PASSWORD not in [value for value in kept if isinstance(value, str)]
