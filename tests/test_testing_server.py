"""What every server for tests has to do, whatever its protocol."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap import DigestMD5Server, SecurityProperties, UsageError
from saslwrap.testing import IMAPServer, LDAPServer
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.server import SASLServer

USERS = {"alice": "s3cret"}
PASSWORD = "s3cret-Pa55"

MAKERS: dict[str, Callable[..., SASLServer]] = {
    "ldap": lambda **options: LDAPServer({}, **{"users": USERS, **options}),
    "imap": lambda **options: IMAPServer({}, **{"users": USERS, **options}),
}
every_server = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_server
@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"users": {"alice": b"s3cret"}}, "the password of 'alice' is a str, not bytes"),
        ({"users": {"alice": "\ud800"}}, "the password of 'alice' has lone surrogates"),
        ({"users": {b"alice": "s3cret"}}, "a username is a str, not bytes"),
        ({"users": {"al\0ice": "s3cret"}}, "a username has control characters"),
        ({"users": ["alice"]}, r"users is passwords by username \(\{'alice': .*, not list"),
        ({"properties": {"min_ssf": 1}}, "properties is SecurityProperties, not dict"),
        ({"properties": None}, "properties is SecurityProperties, not NoneType"),
        ({"idle_timeout": "5"}, "idle_timeout is"),
        ({"idle_timeout": True}, "idle_timeout is .*, not bool"),
        ({"idle_timeout": 0}, "above 0"),
        ({"idle_timeout": math.nan}, "above 0"),
        ({"tls": "certificate.pem"}, "tls is"),
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "a client's context"),
        ({"tls_at_once": "no"}, "tls_at_once is bool, not str"),
        ({"tls_at_once": True}, "tls_at_once needs a context"),
        ({"quirks": "JDK"}, "quirks is Quirks, not str"),
        ({"realm": None, "mechanisms": {}}, "realm is a str, not NoneType"),
        ({"realm": "a\nb", "mechanisms": {}}, "realm has control characters"),
        ({"host": b"localhost", "mechanisms": {}}, "host is a str, not bytes"),
        ({"host": "ldap://localhost", "mechanisms": {}}, "is no host name"),
        ({"mechanisms": None}, "mechanisms is several names, or factories by name, not NoneType"),
        ({"mechanisms": [b"DIGEST-MD5"]}, "a mechanism's name is str, not bytes"),
        ({"mechanisms": {5: DigestMD5Server}}, "a mechanism's name is str, not int"),
        ({"mechanisms": {"X": "x"}}, r"mechanisms\['X'\] is a function that makes one, not str"),
        ({"tls_server_end_point": "hash"}, "is the hash that channel_binding makes, not str"),
    ],
)
def test_an_option_that_is_none_is_refused_at_once(
    make: Callable[..., SASLServer], option: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        make(**option)


@every_server
def test_no_refusal_shows_a_password(make: Callable[..., SASLServer]) -> None:
    for options in (
        {"mechanisms": ["PLAIN"]},
        {"users": {"alice": PASSWORD.encode()}},
        {"users": {"alice": PASSWORD, "bob": None}},
        {"nothing_known": 1},
    ):
        with pytest.raises((UsageError, TypeError)) as caught:
            make(**{"users": {"alice": PASSWORD}, **options})
        assert shows(PASSWORD.encode(), *kept_by(caught.value, ("tests.", "_pytest"))) == []


def test_options_of_one_protocol() -> None:
    with pytest.raises(UsageError, match="writable is bool, not str"):
        LDAPServer({}, writable="no")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="append_limit is int, not bool"):
        IMAPServer({}, append_limit=True)
    with pytest.raises(UsageError, match="append_limit is a number of octets, 0 or more, not -1"):
        IMAPServer({}, append_limit=-1)
    assert IMAPServer({}, append_limit=0).append_limit == 0


@every_server
def test_the_longest_patience(make: Callable[..., SASLServer]) -> None:
    server = make(idle_timeout=math.inf, properties=SecurityProperties(min_ssf=0))
    with server.in_thread():
        assert server.port
