"""What may stand in the names that mechanisms send."""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap.errors import UsageError
from saslwrap.mechanisms.names import (
    check_host,
    check_service,
    check_text,
    is_encodable,
    require_str,
)

NO_STR = (b"octets", 7, None)


@pytest.mark.parametrize("value", ["a", " ", "\u043f\u0430\u0440", "\U0001f511", "\x20\x7e\x80"])
def test_a_text_is_taken(value: str) -> None:
    check_text("username", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "^username is empty$"),
        ("\x00", "^username has control characters"),
        ("a\x1fb", "control characters"),
        ("b\x7f", "control characters"),
        ("a\r\nb", "control characters"),
        ("\ud800", "^username has lone surrogates"),
        ("a\udfff", "lone surrogates"),
    ],
)
def test_a_text_that_no_peer_understands_is_refused(value: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check_text("username", value)


def test_an_empty_text_is_taken_where_it_may_be() -> None:
    check_text("realm", "", may_be_empty=True)
    with pytest.raises(UsageError, match="control characters"):
        check_text("realm", "\n", may_be_empty=True)


@pytest.mark.parametrize("value", ["", "a", "\ud7ff", "\ue000", "a\U0010ffff"])
def test_what_utf8_can_carry(value: str) -> None:
    assert is_encodable(value)


@pytest.mark.parametrize("value", ["\ud800", "a\udfff", "\udc80b"])
def test_what_utf8_cannot_carry(value: str) -> None:
    assert not is_encodable(value)


@pytest.mark.parametrize("service", ["ldap", "LDAP", "xmpp-client", "9p", "a.b+c_d", "Z"])
def test_a_service_is_taken(service: str) -> None:
    check_service(service)


@pytest.mark.parametrize(
    "service", ["", ".ldap", "-ldap", "ld ap", "ldap/host", "ldap\n", "ld\u00e4p", "ldap@host"]
)
def test_no_service_is_refused(service: str) -> None:
    with pytest.raises(UsageError, match=r"^service is a name such as 'ldap' or 'imap'"):
        check_service(service)


@pytest.mark.parametrize("host", ["localhost", "LDAP.Example.COM", "10.0.0.1", "[::1]", "!~"])
def test_a_host_is_taken(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "ldap://a", "m\u00fcnchen.example", "a\n", "\x7f"]
)
def test_no_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="is no host name"):
        check_host(host)


@pytest.mark.parametrize("value", NO_STR)
def test_what_is_no_str_is_refused_and_not_shown(value: Any) -> None:
    """The guard: a password in octets does not show in the text that refuses it."""
    text = f"^password is a str, not {type(value).__name__}$"
    with pytest.raises(UsageError, match=text):
        require_str("password", value)


@pytest.mark.parametrize("value", NO_STR)
def test_every_name_has_to_be_a_str(value: Any) -> None:
    for name, check in (("service", check_service), ("host", check_host)):
        with pytest.raises(UsageError, match=f"^{name} is a str"):
            check(value)
    with pytest.raises(UsageError, match=r"^username is a str"):
        check_text("username", value)
