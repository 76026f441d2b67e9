"""Attack list, group E: names that are empty or odd, and how they are quoted."""

from __future__ import annotations

import pytest

from saslwrap.errors import AuthenticationError, MalformedMessageError, UsageError
from saslwrap.testing.pairs import PASSWORD
from tests.attacks.digest_peer import (
    CHOICE,
    Role,
    Said,
    accepted,
    both_roles,
    challenge,
    digest,
    heard,
    hostile,
    our_client,
    our_server,
    refusal,
    response,
    told,
    victim,
    write,
)

# ---------------------------------------------------------------- E13: empty names, NUL


@pytest.mark.parametrize("name", ["username", "nonce", "cnonce", "qop", "digest_uri", "authzid"])
def test_e13_empty_name_is_refused_by_the_server(name: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not (value :="""
    server = our_server(get_secret=lambda *_: PASSWORD)
    server.step(None)
    cipher: Said = {"cipher": None} if name == "qop" else {}
    message = response(**cipher | {name: ""})
    refusal(server, message, MalformedMessageError, "is empty")


def test_e13_empty_realm_is_no_realm_of_ours() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: realm in self._realms or not self._realms"""
    server = our_server(get_secret=lambda *_: PASSWORD)
    server.step(None)
    refusal(server, response(realm=""), AuthenticationError)


@pytest.mark.parametrize("name", ["username", "realm", "authzid", "nonce", "cnonce", "digest_uri"])
@pytest.mark.parametrize(
    "raw",
    [b'"a\0b"', b'"a\\\0b"', b'"\0"', b'"alice\0"', b"alice\0", b'"a\nb"', b'"a\x7fb"'],
    ids=["NUL", "escaped NUL", "only NUL", "NUL at the end", "bare NUL", "line feed", "DEL"],
)
def test_e13_control_character_in_a_name_is_refused_by_the_server(name: str, raw: bytes) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: [^"\\\x00-\x08\x0a-\x1f\x7f]"""
    message = response({name: raw[1:-1].replace(b"\\", b"")}, **{name: raw})
    refusal(victim("server"), message, MalformedMessageError, "does not parse")


def test_e13_authzid_that_is_not_utf_8_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: return response.authzid.decode("utf-8")"""
    message = response({"authzid": b"u:\xff"}, authzid=b'"u:\xff"')
    refusal(victim("server"), message, MalformedMessageError, "not UTF-8")


@pytest.mark.parametrize(
    "changes",
    [{"nonce": ""}, {"nonce": b'"\0"'}, {"realm": b'"a\0b"'}],
    ids=["nonce", "NUL in nonce", "NUL in realm"],
)
def test_e13_empty_nonce_or_nul_is_refused_by_the_client(changes: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not (value :="""
    refusal(victim("client"), challenge(**changes), MalformedMessageError)


@pytest.mark.parametrize(
    "names",
    [
        {"username": ""},
        {"authzid": ""},
        {"username": "alice\0"},
        {"realm": "a\0"},
        {"authzid": "u:\0"},
        {"authzid": "\x7f"},
    ],
    ids=["username", "authzid", "NUL", "NUL in realm", "NUL in authzid", "DEL"],
)
def test_e13_empty_names_and_nul_are_never_sent(names: dict[str, str]) -> None:
    """Guard: saslwrap/mechanisms/names.py: if not value and not may_be_empty:
    Guard: saslwrap/mechanisms/names.py: if _CONTROL.search(value):
    """
    with pytest.raises(UsageError):
        our_client(**names)


# ---------------------------------------------------------------- E14: quoting

ODD_NAMES = {
    "authzid": 'alice",authzid="root',
    "realm": 'alice",realm="other',
    "backslash last": "alice\\",
    "backslash and authzid": 'alice\\",authzid="root',
    "quote": '"',
    "backslash": "\\",
    "backslash and quote": '\\"',
    "comma": "a,b=c",
    "spaces": "a , b",
    "directives": "nonce=x,qop=auth",
    "commas": '",,"',
}
odd_name = pytest.mark.parametrize("name", ODD_NAMES.values(), ids=list(ODD_NAMES))


@odd_name
def test_e14_name_does_not_get_out_of_its_quotes(name: str) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: _NEEDS_ESCAPE.sub(rb"\\\1", value)"""
    client = our_client(username=name, realm=name, authzid=name)
    server = our_server(realms=["first", name], get_secret=lambda *_: PASSWORD)
    answer = told(client, told(server, None))
    said = heard(answer)
    assert {said[key] for key in ("username", "realm", "authzid")} == {name}
    client.step(server.step(answer))
    assert client.complete
    assert (server.authcid, server.realm, server.authzid) == (name, name, name)


@odd_name
@both_roles
def test_e14_what_is_hashed_is_unescaped(role: Role, name: str) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: _NEEDLESSLY_ESCAPED.sub(rb"\1", inner)
    Guard: saslwrap/mechanisms/digest_md5/directives.py: Directive(_ESCAPED.sub(rb"\1", inner)
    """
    if role == "server":
        server = our_server(realms=[name], get_secret=lambda *_: PASSWORD)
        server.step(None)
        assert accepted(server, response(username=name, realm=name, authzid=name))
        assert (server.authcid, server.realm, server.authzid) == (name, name, name)
    else:
        said = heard(told(victim("client"), challenge(realm=name)))
        assert said["realm"] == name
        assert said["response"].encode() == digest("AUTHENTICATE", CHOICE | {"realm": name})


BROKEN = {
    "trailing backslash": b'"alice\\"',
    "nothing but a backslash": b'"\\',
    "three backslashes": b'"alice\\\\\\"',
    "unterminated": b'"alice',
    "only opened": b'"',
    "quote inside": b'"ali"ce"',
    "behind the quotes": b'"alice"x',
    "two values": b'"alice" "bob"',
    "quote in a token": b'ali"ce',
    "backslash in a token": b"ali\\ce",
    "space in a token": b"ali ce",
    "no comma": b'"alice" realm="x"',
    "no value": b"",
    "no value but a space": b" ",
    "line feed": b'"ali\nce"',
    "folded line": b'"ali\r\n ce"',
}
SOMEWHERE: dict[Role, str] = {"client": "realm", "server": "username"}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@both_roles
def test_e14_broken_quoting_is_refused(role: Role, last: bool, raw: bytes) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: (?=,|\Z)
    Guard: saslwrap/mechanisms/digest_md5/directives.py: |\\[^\x00-\x1f\x7f])*"'
    """
    name = SOMEWHERE[role]
    rest, broken = hostile(role, **{name: None}), write({name: raw})
    message = rest + b"," + broken if last else broken + b"," + rest
    refusal(victim(role), message, MalformedMessageError)
