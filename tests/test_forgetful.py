"""No mechanism that cannot be made shows its password to those who look into the traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import pytest

from saslwrap.errors import MechanismUnavailableError, UsageError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from saslwrap.testing.checks.leaks import kept_by, shows

PASSWORD = "s3cret-Pa55"
WHERE: dict[str, Any] = {"service": "ldap", "host": "dc.example.com"}
GSS = (GSSAPIClient, GSSAPIServer, GSSSPNEGOClient, GSSSPNEGOServer)

every_mechanism = pytest.mark.parametrize("make", [DigestMD5Client, *GSS])
every_one_of_gss = pytest.mark.parametrize("make", GSS)


def shown(make: Callable[[], object], kind: type[BaseException]) -> list[object]:
    """What shows the password in the traceback of what `make` raises."""
    with pytest.raises(kind) as caught:
        make()
    return shows(PASSWORD.encode(), *kept_by(caught.value, ("tests.", "_pytest")))


@every_mechanism
@pytest.mark.parametrize(
    "wrong",
    [
        {"service": ""},
        {"host": "ldap://dc.example.com"},
        {"username": "al\0ice"},
        {"password": PASSWORD.encode()},
        {"password": PASSWORD + "\ud800\0"},
    ],
    ids=str,
)
def test_an_argument_that_is_refused(make: Any, wrong: dict[str, Any]) -> None:
    arguments = {"username": "alice", "password": PASSWORD, **WHERE, **wrong}
    assert shown(partial(make, **arguments), UsageError) == []


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (GSSAPIClient, {"keytab": "/a/keytab"}),
        (GSSAPIClient, {"assume_maxbuf": 0}),
        (GSSSPNEGOClient, {"credential_cache": "FILE:cache"}),
        (GSSSPNEGOClient, {"authzid": "bob"}),
        (GSSSPNEGOServer, {"send_limit": -1}),
        (DigestMD5Client, {"hash_encoding": "latin"}),
    ],
)
def test_an_argument_of_one_that_is_refused(make: Any, wrong: dict[str, Any]) -> None:
    assert shown(partial(make, "alice", PASSWORD, **WHERE, **wrong), UsageError) == []


@every_one_of_gss
def test_a_password_without_a_name(make: Any) -> None:
    assert shown(partial(make, None, PASSWORD, **WHERE), UsageError) == []


@every_one_of_gss
def test_an_extra_that_is_missing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spnego", None)
    assert shown(partial(make, "alice", PASSWORD, **WHERE), MechanismUnavailableError) == []


@every_mechanism
def test_an_argument_that_is_forgotten(make: Any) -> None:
    assert shown(partial(make, "alice", PASSWORD), TypeError) == []


class Careless:
    """Takes a password, and does not come to its end."""

    def __init__(self, password: str, error: BaseException) -> None:
        self.password = password
        raise error


class Forgetful(Careless):
    @forgetful
    def __init__(self, password: str, error: BaseException) -> None:
        super().__init__(password, error)


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the frames of the classes here count, too."""
    monkeypatch.setitem(globals(), "__name__", "elsewhere")


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("kind", [UsageError, KeyboardInterrupt])
def test_whatever_is_raised(kind: type[BaseException]) -> None:
    assert shown(lambda: Forgetful(PASSWORD, kind("a text")), kind) == []
    with pytest.raises(kind, match="a text"):
        Forgetful(PASSWORD, kind("a text"))


@pytest.mark.usefixtures("_elsewhere")
def test_a_constructor_without_it_shows_the_password() -> None:
    assert shown(lambda: Careless(PASSWORD, UsageError("a text")), UsageError)


@every_mechanism
def test_the_signature_stays(make: Any) -> None:
    assert [*signature(make).parameters][:4] == ["username", "password", "service", "host"]
