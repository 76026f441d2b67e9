"""What is wrong with a Kerberos login, in words: the cause and the remedy, never a bare status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MechanismUnavailableError,
    NegotiationError,
    SASLError,
)
from saslwrap.exchange import transport_survives
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import LDAPServer
from tests.peers.directory import ALICE
from tests.peers.gss_bed import (
    GSSAPI,
    PASSWORD,
    SPNEGO,
    SPNEGO_OR_NTLM,
    Bed,
    Case,
    Kind,
    check_readable,
    check_secrets,
)
from tests.peers.gss_bed import bed as bed
from tests.peers.kdc import set_clock_offset
from tests.peers.ldap_client import LDAPClient
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from saslwrap.mechanism import ClientMechanism, ServerMechanism

pytestmark = pytest.mark.timeout(60)

TEN_MINUTES = 600
KINDS = (GSSAPI, SPNEGO, SPNEGO_OR_NTLM)

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
both_mechanisms = pytest.mark.parametrize("kind", [GSSAPI, SPNEGO], ids=str)


def _expired(bed: Bed) -> dict[str, Any]:
    bed.realm.expired_ticket(cache=bed.cache)
    return {}


def _postdated(bed: Bed) -> dict[str, Any]:
    bed.realm.kinit(ALICE.username, ALICE.password, "-s", "1h", cache=bed.cache)
    return {}


def _clock(bed: Bed) -> dict[str, Any]:
    bed.get_ticket()
    set_clock_offset(bed.cache, TEN_MINUTES)
    return {}


def _no_default_realm(bed: Bed) -> dict[str, Any]:
    bed.configure("default_realm = EXAMPLE.COM", "")
    return _alice(bed)


def _unlisted_default_realm(bed: Bed) -> dict[str, Any]:
    bed.configure("default_realm = EXAMPLE.COM", "default_realm = NOWHERE.TEST")
    return _alice(bed)


def _alice(_: Bed) -> dict[str, Any]:
    return {"username": ALICE.username, "password": PASSWORD}


def _with_ticket(**arguments: Any) -> Callable[[Bed], dict[str, Any]]:
    def prepare(bed: Bed) -> dict[str, Any]:
        bed.get_ticket()
        return arguments

    return prepare


def _changed_user(query: str) -> Callable[[Bed], dict[str, Any]]:
    def prepare(bed: Bed) -> dict[str, Any]:
        user = bed.new_user()
        bed.kadmin(f"{query} {user}")
        return {"username": user, "password": PASSWORD}

    return prepare


def _no_kdc(bed: Bed) -> dict[str, Any]:
    bed.move_kdc()
    return _alice(bed)


def _no_kdc_for_a_ticket(bed: Bed) -> dict[str, Any]:
    bed.get_ticket()
    bed.move_kdc()
    return {}


def _cache_of_another(bed: Bed) -> dict[str, Any]:
    bed.get_ticket()
    return {"username": "bob", "credential_cache": bed.cache}


def _garbage_by_default(bed: Bed) -> dict[str, Any]:
    bed.garbage(bed.cache.name)
    return {}


def _old_user_keytab(bed: Bed) -> dict[str, Any]:
    user = bed.new_user()
    keytab = bed.user_keytab(user)
    bed.kadmin(f'change_password -pw "{PASSWORD} anew" {user}')
    return {"username": user, "keytab": keytab}


def _empty_user_keytab(bed: Bed) -> dict[str, Any]:
    keytab = bed.folder / "empty"
    keytab.write_bytes(b"\x05\x02")
    return {"keytab": keytab}


def _no_common_enctype(bed: Bed) -> dict[str, Any]:
    bed.permit("arcfour-hmac")
    return _alice(bed)


def _no_ticket_of_a_permitted_enctype(bed: Bed) -> dict[str, Any]:
    bed.get_ticket()
    bed.permit("arcfour-hmac")
    return {}


def _broken_configuration(bed: Bed) -> dict[str, Any]:
    bed.use_configuration("[libdefaults\n    nonsense = {\n")
    return _alice(bed)


def _broken_configuration_and_a_ticket(bed: Bed) -> dict[str, Any]:
    bed.get_ticket()
    _broken_configuration(bed)
    return {}


def _no_configuration(bed: Bed) -> dict[str, Any]:
    bed.environment.setenv("KRB5_CONFIG", str(bed.folder / "missing"))
    return _alice(bed)


def _no_configuration_but_a_realm(bed: Bed) -> dict[str, Any]:
    _no_configuration(bed)
    return {"username": bed.realm.principal(ALICE.username), "password": PASSWORD}


_CLOCKS = "NTP"
_SPN = "principal"
_PLACE = "krb5.conf"
_CACHE = "kinit"
_KEYTAB = "keytab"

TICKETS = [
    Case("expired", _expired, "ticket has expired", _CACHE),
    Case("not-yet-valid", _postdated, "not valid yet", _CLOCKS),
    Case("clock", _clock, "clocks .* differ", _CLOCKS),
    Case("host", _with_ticket(host="h.example.com"), "service ldap/h.example.com", _SPN),
    Case("address", _with_ticket(host="127.0.0.1"), "service ldap/127.0.0.1", "address"),
    Case("service", _with_ticket(service="nntp"), "service nntp/localhost", _SPN),
    Case("kdc-gone", _no_kdc_for_a_ticket, "no KDC", _PLACE),
    Case("no-ticket", lambda _: {}, "no Kerberos ticket", _CACHE),
    Case("no-ticket-of", lambda _: {"username": "alice"}, "no Kerberos ticket", _CACHE),
    Case("another's", _with_ticket(username="bob"), "no Kerberos ticket", _CACHE),
    Case("cache-of-another", _cache_of_another, "cache|credentials", _CACHE),
    Case(
        "cache-missing", lambda bed: {"credential_cache": bed.folder / "no"}, "no Kerberos", _CACHE
    ),
    Case("cache-unreadable", lambda bed: {"credential_cache": bed.folder}, "cache", _CACHE),
    Case("cache-garbage", lambda bed: {"credential_cache": bed.garbage()}, "cache", _CACHE),
    Case("default-cache-garbage", _garbage_by_default, "ticket", _CACHE),
    Case("types", _no_ticket_of_a_permitted_enctype, "ticket that can be used", _CACHE),
    Case("configuration", _broken_configuration_and_a_ticket, "its configuration", _PLACE),
]
"""For a client that has, or looks for, a ticket: NTLM has nothing in its place."""

KEYTABS = [
    Case(
        "keytab-missing",
        lambda bed: {"username": "alice", "keytab": bed.folder / "missing"},
        _KEYTAB,
        "check its path",
    ),
    Case("keytab-garbage", lambda bed: {"keytab": bed.garbage()}, _KEYTAB, "klist -k"),
    Case("keytab-empty", _empty_user_keytab, _KEYTAB, "klist -k"),
    Case(
        "keytab-of-others",
        lambda bed: {"username": "alice", "keytab": bed.realm.keytab},
        "no key of this user",
        "klist -k",
    ),
    Case("keytab-old", _old_user_keytab, "keytab.* out of date", "make a new one"),
]

PASSWORDS = [
    Case("realm", lambda _: {"username": "a@NO.REALM", "password": PASSWORD}, "realm", _PLACE),
    Case("default-realm", _unlisted_default_realm, "realm is unknown", _PLACE),
    Case("no-default-realm", _no_default_realm, "realm", "name@REALM"),
    Case("wrong-password", _alice, "password is wrong", "password"),
    Case("user", lambda _: {"username": "x", "password": PASSWORD}, "user", "name@REALM"),
    Case("locked", _changed_user("modprinc -allow_tix"), "account is disabled, locked", "account"),
    Case("account-expired", _changed_user("modprinc -expire yesterday"), "expired", "account"),
    Case("password-expired", _changed_user("modprinc -pwexpire yesterday"), "expired", "kpasswd"),
    Case("must-change", _changed_user("modprinc +needchange"), "expired", "kpasswd"),
    Case("no-kdc", _no_kdc, "no KDC", _PLACE),
    Case("enctypes", _no_common_enctype, "encryption type", "permitted_enctypes"),
    Case("configuration", _broken_configuration, "its configuration", _PLACE),
    Case("no-configuration-realm", _no_configuration_but_a_realm, "realm is unknown", _PLACE),
    Case("no-configuration", _no_configuration, "realm", _PLACE),
]
"""For a client with a password, which NTLM would do with, where it is allowed."""

every_ticket = pytest.mark.parametrize("case", TICKETS + KEYTABS, ids=str)
every_password = pytest.mark.parametrize("case", PASSWORDS, ids=str)
every_case = pytest.mark.parametrize("case", TICKETS + KEYTABS + PASSWORDS, ids=str)


def failure(mechanism: ClientMechanism | ServerMechanism, message: bytes | None) -> SASLError:
    with pytest.raises(SASLError) as caught:
        mechanism.step(message)
    check_secrets(caught.value, mechanism)
    return caught.value


@every_kind
@every_ticket
def test_a_client_without_a_password(bed: Bed, kind: Kind, case: Case) -> None:
    case.check(failure(kind.client(**case.prepare(bed)), None))


@both_mechanisms
@every_password
def test_a_client_with_a_password(bed: Bed, kind: Kind, case: Case) -> None:
    case.check(failure(kind.client(**case.prepare(bed)), None))


@every_password
def test_where_it_is_allowed_ntlm_takes_the_password(bed: Bed, case: Case) -> None:
    token = SPNEGO_OR_NTLM.client(**case.prepare(bed)).step(None)
    assert token is not None
    assert b"NTLMSSP\0" in token


@both_mechanisms
@every_case
def test_the_connection_is_good_for_another_login(bed: Bed, kind: Kind, case: Case) -> None:
    async def main() -> None:
        async with (
            LDAPServer({}, mechanisms={kind.name: kind.server}) as server,
            await anyio.connect_tcp(LOOPBACK, server.port) as tcp,
        ):
            bind = LDAPBind(kind.client(**case.prepare(bed)))
            with pytest.raises(case.error) as caught:
                await authenticate(tcp, bind)
            case.check(caught.value)
            assert transport_survives(caught.value)
            bed.environment.undo()
            await log_in_as_alice(tcp, kind, bind.next_message_id)

    anyio.run(main)


async def log_in_as_alice(tcp: Any, kind: Kind, message_id: int) -> None:
    good = kind.client(username=ALICE.username, password=ALICE.password)
    stream = await authenticate(tcp, LDAPBind(good, message_id))
    assert stream.extra(SASLAttribute.ssf) == 256
    assert await LDAPClient(stream).who_am_i() == "u:alice@EXAMPLE.COM"


# The server's side


def _keytab_missing(bed: Bed) -> dict[str, Any]:
    bed.use_keytab()
    return {}


def _keytab_of_garbage(bed: Bed) -> dict[str, Any]:
    bed.use_keytab().write_bytes(b"garbage " * 40)
    return {}


def _keytab_of_another_service(bed: Bed) -> dict[str, Any]:
    bed.use_keytab("imap")
    return {}


def _keytab_with_an_old_key(bed: Bed) -> dict[str, Any]:
    service = bed.new_service()
    bed.use_keytab(service)
    bed.kadmin(f"change_password -randkey {service}/{bed.realm.host}")
    return {"service": service}


def _keytab_with_a_wrong_key(bed: Bed) -> dict[str, Any]:
    service = bed.new_service()
    principal = f"{service}/{bed.realm.host}"
    bed.use_keytab(service)
    bed.kadmin(f"delete_principal -force {principal}", f"add_principal -randkey {principal}")
    return {"service": service}


def _clock_of_the_client(bed: Bed) -> dict[str, Any]:
    bed.realm.get_service_ticket("ldap", cache=bed.cache)
    set_clock_offset(bed.cache, TEN_MINUTES)
    return {}


_OURS = MechanismUnavailableError

SERVERS = [
    Case("keytab-missing", _keytab_missing, "no key for ldap/localhost", "KRB5_KTNAME", _OURS),
    Case("keytab-garbage", _keytab_of_garbage, "key", "KRB5_KTNAME", _OURS),
    Case("keytab-other", _keytab_of_another_service, "ldap/localhost", "KRB5_KTNAME", _OURS),
    Case("key-old", _keytab_with_an_old_key, "key that its server has", "keytab is out of date"),
    Case("key-wrong", _keytab_with_a_wrong_key, "key that its server has", "keytab is out of date"),
    Case("clock", _clock_of_the_client, "clocks .* differ", _CLOCKS),
]
"""What is wrong from the start, and a client does not see."""


def _configuration(bed: Bed) -> dict[str, Any]:
    bed.use_configuration("[libdefaults\n    nonsense = {\n")
    return {}


def _enctypes(bed: Bed) -> dict[str, Any]:
    bed.permit("arcfour-hmac")
    return {}


LATER = [
    Case("configuration", _configuration, "its configuration", _PLACE),
    # MIT has the same code for it as for a wrong key.
    Case("enctypes", _enctypes, "key that its server has", "permitted_enctypes"),
]
"""What is wrong with the server only: after the client, in the same process, has got its ticket."""


@every_kind
@pytest.mark.parametrize("case", SERVERS, ids=str)
def test_a_server(bed: Bed, kind: Kind, case: Case) -> None:
    bed.get_ticket()
    arguments = case.prepare(bed)
    token = kind.client(**arguments).step(None)
    case.check(failure(kind.server(**arguments), token))


@every_kind
@pytest.mark.parametrize("case", LATER, ids=str)
def test_a_server_alone(bed: Bed, kind: Kind, case: Case) -> None:
    bed.get_ticket()
    token = kind.client().step(None)
    case.check(failure(kind.server(**case.prepare(bed)), token))


@both_mechanisms
@pytest.mark.parametrize("case", SERVERS + LATER, ids=str)
def test_a_server_hears_another_login(bed: Bed, kind: Kind, case: Case) -> None:
    """And a client that it turned away can try it, on the same connection."""
    bed.get_ticket()
    arguments = case.prepare(bed) if case in SERVERS else {}
    made: list[Any] = []

    def make() -> Any:
        if not made and case in LATER:
            case.prepare(bed)
        made.append(kind.server(**({} if made else arguments)))
        return made[-1]

    async def main() -> None:
        async with (
            LDAPServer({}, mechanisms={kind.name: make}) as server,
            await anyio.connect_tcp(LOOPBACK, server.port) as tcp,
        ):
            bind = LDAPBind(kind.client(**arguments))
            with pytest.raises((AuthenticationError, NegotiationError)) as caught:
                await authenticate(tcp, bind)
            assert kind.name in str(caught.value)
            case.check(failure(made[0], b""))
            bed.environment.undo()
            await log_in_as_alice(tcp, kind, bind.next_message_id)

    anyio.run(main)


@every_kind
@pytest.mark.parametrize("token", [b"garbage", b"\x60\x84", b"\x60\x06\x06\x04\x2a\x03\x04\x05"])
@pytest.mark.usefixtures("krb5_environment")
def test_a_token_that_is_none(kind: Kind, token: bytes) -> None:
    error = failure(kind.server(), token)
    assert type(error) in (AuthenticationError, MalformedMessageError)
    assert "token" in str(error)
    check_readable(error)
