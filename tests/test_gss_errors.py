"""Errors and arguments of the GSS mechanisms where no KDC is needed: tables, codes, checks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    OutOfSequenceError,
    SASLError,
    SecurityStatus,
    UsageError,
)
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer, Source
from saslwrap.mechanisms.gss.errors import login_error, unwrap_error, wrap_error
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from tests.test_imports import run_python

CLIENT = Peer("ldap", "dc.example.com", is_client=True)
SERVER = Peer("ldap", "dc.example.com", is_client=False)
PASSWORD = "s3cret-Pa55"

NO_KEY = "no key for ldap/dc.example.com that can be used: the keytab, which KRB5_KTNAME"
OTHER_KEY = "ticket for ldap/dc.example.com was not made with the key that its server has"


class ProviderError(Exception):
    """An error of a provider, by its attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("SpnegoError (1): Major (851968): unhelpful, Minor (2529638919): numbers")
        vars(self).update(attributes)


def kerberos(place: int) -> int:
    """The code as com_err has it: of krb5, of "krb5_err.et"."""
    return -1765328384 + place


def minor(place: int, major: int = 13 << 16) -> ProviderError:
    """What python-gssapi raises: the minor code without its sign."""
    return ProviderError(maj_code=major, min_code=kerberos(place) & 0xFFFFFFFF)


def wrapped(error: Exception, times: int = 1) -> Exception:
    """What pyspnego makes of it; for SPNEGO twice."""
    for _ in range(times):
        error = ProviderError(base_error=error)
    return error


def windows(status: int) -> ProviderError:
    """What pyspnego hands on of SSPI: a number with its sign."""
    return ProviderError(base_error=ProviderError(winerror=status - (1 << 32)))


def translated(
    error: Exception,
    peer: Peer = CLIENT,
    source: Source = Source.SYSTEM,
    *,
    in_reply: bool = False,
) -> SASLError:
    return login_error(error, peer, source, in_reply=in_reply)


def check(error: SASLError, text: str, kind: type[SASLError] = AuthenticationError) -> None:
    assert type(error) is kind
    assert text in str(error)
    assert "{" not in str(error)


# The words, by the codes of Kerberos. Numbers and names: RFC 4120 section 7.5.9, and MIT's
# krb5_err.et from 128 on.

BY_PLACE = [
    (1, "account has expired"),  # KDC_ERR_NAME_EXP
    (6, "does not know the user"),  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    (7, "does not know the service ldap/dc.example.com"),  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    (12, "policy forbids"),  # KDC_ERR_POLICY
    (14, "permitted_enctypes"),  # KDC_ERR_ETYPE_NOSUPP
    (18, "disabled, locked or expired"),  # KDC_ERR_CLIENT_REVOKED
    (23, "kpasswd"),  # KDC_ERR_KEY_EXPIRED
    (24, "the password is wrong"),  # KDC_ERR_PREAUTH_FAILED
    (31, "the password is wrong"),  # KRB_AP_ERR_BAD_INTEGRITY
    (32, "renew it (kinit)"),  # KRB_AP_ERR_TKT_EXPIRED
    (33, "NTP"),  # KRB_AP_ERR_TKT_NYV
    (35, OTHER_KEY),  # KRB_AP_ERR_NOT_US
    (37, "clocks of client, server and KDC differ"),  # KRB_AP_ERR_SKEW
    (41, OTHER_KEY),  # KRB_AP_ERR_MODIFIED
    (44, OTHER_KEY),  # KRB_AP_ERR_BADKEYVER
    (45, OTHER_KEY),  # KRB_AP_ERR_NOKEY
    (68, "name@REALM"),  # KDC_ERR_WRONG_REALM
    (134, "name@REALM"),  # KRB5_PARSE_MALFORMED
    (135, "krb5.conf, or KRB5_CONFIG"),  # KRB5_CONFIG_CANTOPEN
    (136, "krb5.conf, or KRB5_CONFIG"),  # KRB5_CONFIG_BADFORMAT
    (141, "KRB5CCNAME"),  # KRB5_CC_NOTFOUND
    (144, "another service than ldap/dc.example.com"),  # KRB5KRB_AP_WRONG_PRINC
    (154, "realm is unknown"),  # KRB5_REALM_UNKNOWN
    (156, "no KDC of the realm answers"),  # KRB5_KDC_UNREACH
    (195, "run kinit"),  # KRB5_FCC_NOFILE
    (220, "realm is unknown"),  # KRB5_REALM_CANT_RESOLVE
    (224, "default_realm in krb5.conf"),  # KRB5_CONFIG_NODEFREALM
]


@pytest.mark.parametrize(("place", "text"), BY_PLACE)
def test_a_code_of_kerberos(place: int, text: str) -> None:
    for error in (
        ProviderError(err_code=kerberos(place)),
        minor(place),
        wrapped(minor(place)),
        wrapped(minor(place), times=2),
        wrapped(ProviderError(err_code=kerberos(place))),
    ):
        check(translated(error), text)


@pytest.mark.parametrize("place", [-1, 256, 2**31])
def test_a_code_of_another_table(place: int) -> None:
    error = translated(ProviderError(err_code=kerberos(place)))
    check(
        error, "Kerberos or NTLM cannot start: ProviderError. Check the names, files and krb5.conf"
    )


@pytest.mark.parametrize("code", [None, "32", 0, 2, 39756032, 2**40])
def test_a_code_that_is_none(code: Any) -> None:
    for error in (ProviderError(err_code=code), ProviderError(min_code=code, maj_code=code)):
        assert "cannot start" in str(translated(error))


def test_the_minor_code_comes_before_the_major() -> None:
    check(translated(minor(156, major=7 << 16)), "no KDC")
    check(translated(ProviderError(maj_code=7 << 16, min_code=0)), "run kinit")
    check(translated(ProviderError(maj_code=11 << 16, min_code=0)), "expired: renew it (kinit)")
    check(translated(ProviderError(maj_code=4 << 16, min_code=0)), "another TLS connection")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Source.SYSTEM, "run kinit, or give username and password"),
        (Source.CACHE, "credential_cache has no Kerberos ticket that can be used: check its path"),
        (Source.KEYTAB, "klist -k"),
        (Source.PASSWORD, "check the name and the password"),
    ],
)
@pytest.mark.parametrize("place", [140, 141, 180, 181, 195, 199, 200, 212, 213])
def test_a_remedy_fits_what_the_caller_gave(source: Source, text: str, place: int) -> None:
    error = translated(minor(place), source=source)
    check(error, text)
    assert ("KRB5CCNAME" in str(error)) is (source is Source.SYSTEM)


@pytest.mark.parametrize("error", [FileNotFoundError("/secret"), IndexError("x"), ProviderError()])
def test_a_keytab_that_is_missing_or_empty(error: Exception) -> None:
    check(translated(error, source=Source.KEYTAB), "check its path and username")


@pytest.mark.parametrize("place", [24, 31])
def test_a_key_of_the_user_that_is_wrong(place: int) -> None:
    check(translated(minor(place), source=Source.PASSWORD), "the password is wrong")
    check(translated(minor(place), source=Source.KEYTAB), "keytab's key of this user")


@pytest.mark.parametrize("place", [24, 31, 35, 41, 44, 45])
def test_a_key_of_the_server_that_is_wrong(place: int) -> None:
    check(translated(minor(place), SERVER, in_reply=True), OTHER_KEY)


@pytest.mark.parametrize(
    "error", [minor(181), minor(213), ProviderError(maj_code=7 << 16), wrapped(minor(181), 2)]
)
@pytest.mark.parametrize("in_reply", [False, True])
def test_a_server_without_a_key(error: Exception, in_reply: bool) -> None:
    error = translated(error, SERVER, in_reply=in_reply)
    check(error, NO_KEY, MechanismUnavailableError)
    assert "kinit" not in str(error)


@pytest.mark.parametrize("place", [31, 46])
def test_a_server_that_does_not_prove_itself(place: int) -> None:
    error = translated(wrapped(minor(place)), in_reply=True)
    check(error, "ldap/dc.example.com did not prove", MutualAuthenticationError)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0x80090303, "does not know the service ldap/dc.example.com"),  # SEC_E_TARGET_UNKNOWN
        (SecurityStatus.SEC_E_LOGON_DENIED, "name or the password is wrong"),
        (SecurityStatus.SEC_E_NO_CREDENTIALS, "there are no credentials"),
        (0x80090311, "no KDC"),  # SEC_E_NO_AUTHENTICATING_AUTHORITY
        (0x80090322, OTHER_KEY),  # SEC_E_WRONG_PRINCIPAL
        (0x80090324, "clocks"),  # SEC_E_TIME_SKEW
    ],
)
def test_a_status_of_windows(status: int, text: str) -> None:
    check(translated(windows(status)), text)


# What is not known


def test_a_token_that_cannot_be_read() -> None:
    check(translated(ProviderError(), in_reply=True), "cannot be read", MalformedMessageError)
    check(translated(ProviderError(), SERVER, in_reply=True), "the client's token does not hold")


def test_an_unknown_error_of_a_provider_keeps_its_words_and_loses_its_numbers() -> None:
    class Krb5Error(Exception):
        __module__ = "krb5._exceptions"

    check(translated(Krb5Error("no\nluck at\x1b all -1765328111")), "start: no luck at all. Check")
    ProviderError.__module__, former = "spnego.exceptions", ProviderError.__module__
    try:
        check(translated(ProviderError()), "cannot start: numbers. Check")
    finally:
        ProviderError.__module__ = former


def test_a_long_text_is_cut() -> None:
    class GSSError(Exception):
        __module__ = "gssapi.raw.misc"

    assert len(str(translated(GSSError("long " * 1000)))) < 400


def test_a_foreign_error_shows_its_type_only() -> None:
    error = translated(ValueError(PASSWORD))
    check(error, "ValueError")
    assert PASSWORD not in str(error)


def test_a_library_that_is_missing() -> None:
    error = translated(ImportError("libgssapi_krb5.so.2: cannot open shared object file"))
    check(error, "libgssapi_krb5.so.2: cannot open", MechanismUnavailableError)
    assert "pip install 'saslwrap[gssapi]'" in str(error)


# Protected messages


@pytest.mark.parametrize("bit", [0x2, 0x4, 0x8, 0x10])
def test_a_message_out_of_turn(bit: int) -> None:
    for error in (ProviderError(maj_code=bit), wrapped(ProviderError(maj_code=bit))):
        assert type(unwrap_error(error)) is OutOfSequenceError
    assert type(unwrap_error(windows(0x80090310))) is OutOfSequenceError


@pytest.mark.parametrize(
    "error",
    [
        ProviderError(),
        ProviderError(maj_code=6 << 16),
        windows(0x8009030F),
        ValueError("x"),
        KeyError(1),
    ],
)
def test_a_message_that_is_not_genuine(error: Exception) -> None:
    raised = unwrap_error(error)
    assert (type(raised), str(raised)) == (IntegrityError, str(IntegrityError()))


def test_a_bit_counts_only_beside_success() -> None:
    """A bad MIC that is out of turn as well is a bad MIC: its sequence number proves nothing."""
    assert type(unwrap_error(ProviderError(maj_code=(6 << 16) | 0x10))) is IntegrityError


def test_a_message_that_cannot_be_protected() -> None:
    error = wrap_error(ProviderError(maj_code=12 << 16))
    check(error, "connect anew", SASLError)
    assert error.status is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    with pytest.raises(MemoryError):
        wrap_error(MemoryError())


# Arguments

WHERE = {"service": "ldap", "host": "dc.example.com"}
CLIENTS = (GSSAPIClient, GSSSPNEGOClient)
SERVERS = (GSSAPIServer, GSSSPNEGOServer)


@pytest.fixture
def _pyspnego() -> None:
    pytest.importorskip("spnego")


needs_pyspnego = pytest.mark.usefixtures("_pyspnego")


def names(items: Iterable[type]) -> list[str]:
    return [item.__name__ for item in items]


every_mechanism = pytest.mark.parametrize("make", CLIENTS + SERVERS, ids=names(CLIENTS + SERVERS))
every_client = pytest.mark.parametrize("make", CLIENTS, ids=names(CLIENTS))


@needs_pyspnego
@every_mechanism
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"password": PASSWORD}, "a password goes with a username"),
        ({"username": ""}, "username is empty"),
        ({"username": "a\nb"}, "username has control characters"),
        ({"username": "\udc80"}, "lone surrogates"),
        ({"username": b"alice"}, "username is a str, not bytes"),
        ({"username": "a", "password": PASSWORD.encode()}, "password is a str, not bytes"),
        ({"username": "a", "password": PASSWORD + "\0x"}, "password has a NUL in it"),
        ({"service": ""}, "service is a name"),
        ({"service": "ldap/x"}, "service is a name"),
        ({"host": ""}, "is no host name"),
        ({"host": "dc/example"}, "is no host name"),
        ({"host": "bücher.example"}, "xn--"),
        ({"host": None}, "host is a str, not NoneType"),
        ({"properties": None}, "properties is SecurityProperties, not NoneType"),
    ],
)
def test_an_argument_of_both_sides(make: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(**WHERE | arguments)
    assert text in str(caught.value)
    assert PASSWORD not in repr(caught.value)


@needs_pyspnego
@every_client
@pytest.mark.parametrize(
    "given",
    [
        {"username": "a", "password": PASSWORD, "credential_cache": "FILE:x"},
        {"username": "a", "password": PASSWORD, "keytab": Path("x")},
        {"credential_cache": "x", "keytab": "x"},
    ],
)
def test_credentials_of_two_kinds(make: Any, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="one of password, credential_cache and keytab"):
        make(**WHERE, **given)


class OctetsPath:
    def __fspath__(self) -> bytes:
        return b"FILE:x"


@needs_pyspnego
@pytest.mark.parametrize(
    ("make", "arguments", "text"),
    [
        (GSSAPIClient, {"authzid": ""}, "authzid is empty"),
        (GSSAPIClient, {"authzid": "a\0"}, "authzid has control characters"),
        (GSSAPIClient, {"assume_maxbuf": 0}, "assume_maxbuf is .* from 1 to 16777215, not 0$"),
        (GSSAPIServer, {"assume_maxbuf": 1 << 24}, "assume_maxbuf is .*, not 16777216$"),
        (GSSAPIServer, {"assume_maxbuf": "65536"}, "assume_maxbuf is .*, not str$"),
        (GSSAPIClient, {"keytab": 5}, r"keytab is str \| os.PathLike \| None, not int"),
        (GSSAPIClient, {"keytab": "/a/keytab\0x"}, "^keytab has a NUL in it"),
        (GSSAPIClient, {"keytab": Path("a\0x")}, "^keytab has a NUL in it"),
        (GSSAPIClient, {"keytab": "\udcff"}, "^keytab has lone surrogates"),
        (GSSAPIClient, {"keytab": ""}, "^keytab is empty; None takes"),
        (GSSSPNEGOClient, {"credential_cache": "FILE:x\0y"}, "^credential_cache has a NUL in it"),
        (GSSSPNEGOClient, {"credential_cache": OctetsPath()}, "^credential_cache is a str, not b"),
        (GSSSPNEGOClient, {"authzid": "alice"}, "GSSAPI can"),
        (GSSSPNEGOClient, {"ntlm": "no"}, r"ntlm is bool \| None, not str"),
        (GSSSPNEGOServer, {"ntlm": None}, "ntlm is bool, not NoneType"),
        (GSSSPNEGOClient, {"send_limit": 65536.0}, "send_limit is .*, not float$"),
        (GSSSPNEGOClient, {"receive_limit": 0}, "receive_limit is .* from 1 .*, not 0$"),
        (GSSSPNEGOServer, {"send_limit": 1 << 24}, "send_limit is .* to 16777215, not 16777216$"),
    ],
)
def test_an_argument_of_one(make: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(**WHERE, **arguments)


@needs_pyspnego
@every_mechanism
def test_a_password_of_a_machine_account_is_taken(make: Any) -> None:
    make("host$", b"\x00\xd8a\x00".decode("utf-16-le", "surrogatepass"), **WHERE)


@needs_pyspnego
@every_mechanism
def test_a_mechanism_shows_no_password(make: Any) -> None:
    mechanism = make("alice", PASSWORD, **WHERE)
    assert PASSWORD not in repr(mechanism)
    assert PASSWORD not in repr(GSSCredentials("alice", PASSWORD))


# What is not installed: each in an interpreter of its own

_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            {answer}
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder()

from saslwrap import *
from saslwrap.exchange import transport_survives
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from saslwrap.protocols.ldap import LDAPBind

WHERE = dict(service="ldap", host="dc.example.com")

def report(error):
    print(type(error).__name__, transport_survives(error), error, sep=" | ")
"""

_CONSTRUCT = """
for make in GSSAPIClient, GSSAPIServer, GSSSPNEGOClient, GSSSPNEGOServer:
    try:
        make(**WHERE)
    except SASLError as error:
        report(error)
print(GSSAPIClient.best_ssf(SecurityProperties()))
"""

_LOG_IN = """
for client in GSSAPIClient(**WHERE), GSSSPNEGOClient(**WHERE):
    bind = LDAPBind(client)
    bind.advance()
    bind.step()
    try:
        bind.advance()
    except SASLError as error:
        report(error)
for server in GSSAPIServer(**WHERE), GSSSPNEGOServer(**WHERE):
    try:
        server.step(bytes.fromhex({token!r}))
    except SASLError as error:
        report(error)
"""

#: A NegTokenInit that offers Kerberos, with one octet as its token.
_TOKEN = "6020 06062b0601050502 a016 3014 a00d300b 06092a864886f712010202 a203 040100"


def without(module: str, answer: str = "return None") -> str:
    return _WITHOUT.format(module=module, answer=answer)


@pytest.mark.parametrize(
    "prelude",
    [without("spnego"), 'import sys\nsys.modules["spnego"] = None\n' + without("spnego")],
    ids=["not-there", "blocked"],
)
def test_without_the_extra(prelude: str) -> None:
    *lines, best = run_python(_CONSTRUCT, prelude)
    assert best == "None"
    assert len(lines) == 4
    for line in lines:
        kind, survives, text = line.split(" | ")
        assert (kind, survives) == ("MechanismUnavailableError", "True")
        assert "pip install 'saslwrap[gssapi]'" in text


@needs_pyspnego
@pytest.mark.parametrize("module", ["gssapi", "krb5"])
def test_without_the_systems_library(module: str) -> None:
    missing = "libgssapi_krb5.so.2: cannot open shared object file"
    lines = run_python(
        _LOG_IN.format(token=_TOKEN), without(module, f"raise ImportError({missing!r})")
    )
    assert len(lines) == 4
    for line in lines:
        kind, survives, text = line.split(" | ")
        assert (kind, survives) == ("MechanismUnavailableError", "True"), line
        assert missing in text
        assert "pip install 'saslwrap[gssapi]'" in text
