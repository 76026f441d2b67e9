"""DIGEST-MD5's server: the response's directives, and what the client chose in them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from saslwrap.errors import AuthenticationError, MalformedMessageError, NegotiationError, SASLError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, credentials, keys
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import ChannelInfo, SecurityProperties
from saslwrap.testing.pairs import connect_mechanisms
from tests.digest_responses import AUTH, IDENTITIES, INT, LOGIN, STORED, asked, make, refused
from tests.vectors.reference import Login, Raw, write

REQUIRED = ["username", "nonce", "cnonce", "nc", "digest-uri", "response"]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_directive_is_missing(name: str) -> None:
    refused(LOGIN.message(**{name.replace("-", "_"): None}), MalformedMessageError, name)


def test_a_realm_that_we_offered_is_required() -> None:
    login = Login(realm=None)
    refused(login.message(), AuthenticationError, get_secret=lambda *_: login.password)


KNOWN = [*REQUIRED, "realm", "qop", "maxbuf", "charset", "cipher", "authzid"]


@pytest.mark.parametrize("name", KNOWN)
def test_a_directive_is_repeated(name: str) -> None:
    message = Login(authzid="u:bob").message(maxbuf="65536")
    raw = parse_directives(message, 4096).required(name)
    again = message + b',%b="%b"' % (name.encode(), raw)
    refused(again, MalformedMessageError, f"{name} stands 2 times")


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("username", '""'),
        ("nonce", '""'),
        ("cnonce", '""'),
        ("digest_uri", '""'),
        ("authzid", '""'),
        ("nc", "1"),
        ("nc", "0000001"),
        ("nc", "000000001"),
        ("nc", "0000000g"),
        ("nc", '" 0000001"'),
        ("nc", '""'),
        ("response", LOGIN.response.upper()),
        ("response", LOGIN.response[:-1]),
        ("response", LOGIN.response + "0"),
        ("response", f'" {LOGIN.response[1:]}"'),
        ("response", '""'),
        ("charset", "iso-8859-1"),
        ("charset", '""'),
        ("authzid", b'"\xff"'),
        ("authzid", b'"a\0b"'),
        ("cipher", b'"\xff"'),
    ],
)
def test_a_directive_breaks_its_rule(name: str, raw: Raw) -> None:
    refused(LOGIN.message(**{name: raw}), MalformedMessageError)


@pytest.mark.parametrize("raw", ["1", "md5", '"(x)"'])
def test_unknown_directives_are_ignored_and_may_repeat(raw: str) -> None:
    assert asked(LOGIN.message(opaque=[raw, raw], algorithm=[raw], x_new=[raw, raw])).complete


def test_names_and_literals_have_no_case() -> None:
    login = Login(qop="Auth-Conf")
    message = login.message(cipher="RC4", charset="UTF-8").replace(b"username=", b"UserName=")
    assert asked(
        message.replace(b"nonce=", b"NONCE=").replace(b"digest-uri", b"Digest-URI")
    ).complete


@pytest.mark.parametrize(
    ("qop", "cipher"),
    [("AUTH-CONF", "rc4"), ("auth-Conf", "rc4"), ("Auth-Int", None), ("AUTH", None)],
)
def test_the_spelling_of_qop_is_what_is_hashed(qop: str, cipher: str | None) -> None:
    login, plain = (Login(qop=it, cipher=cipher) for it in (qop, qop.lower()))
    server = make()
    server.step(None)
    assert server.step(login.message()) == login.proof
    refused(plain.message(qop=qop), AuthenticationError)


@pytest.mark.parametrize("quoted", ["{}", '"{}"'])
def test_any_directive_may_be_quoted_or_not(quoted: str) -> None:
    directives = parse_directives(Login(authzid="u:bob").message(maxbuf="4096"), 4096)
    raw: dict[str, Raw] = {
        name: quoted.format(directives.required(name).decode()) for name in directives
    }
    assert asked(write(raw)).authzid == "u:bob"


def test_the_order_of_directives_is_free() -> None:
    assert asked(b",".join(reversed(LOGIN.message().split(b",")))).complete


@pytest.mark.parametrize("maxbuf", ["17", "22", '" 65536 "', "16777215", "00000000065536"])
def test_a_maxbuf_that_can_be_used(maxbuf: str) -> None:
    assert asked(LOGIN.message(maxbuf=maxbuf)).context is not None


NOT_IN_RANGE = ["0", "16", "16777216", "4294967296", "9" * 400, "99999999"]


@pytest.mark.parametrize("maxbuf", NOT_IN_RANGE)
@pytest.mark.parametrize("login", [LOGIN, INT], ids=["conf", "int"])
def test_a_maxbuf_out_of_range(login: Login, maxbuf: str) -> None:
    refused(login.message(maxbuf=maxbuf), MalformedMessageError, "maxbuf is not in")


@pytest.mark.parametrize("maxbuf", NOT_IN_RANGE)
def test_a_maxbuf_out_of_range_does_not_matter_without_a_layer(maxbuf: str) -> None:
    assert asked(AUTH.message(maxbuf=maxbuf)).complete


@pytest.mark.parametrize("maxbuf", ['""', "1e3", "-1", "+17", '"6 5"', '" "'])
@pytest.mark.parametrize("login", [LOGIN, AUTH], ids=["conf", "auth"])
def test_a_maxbuf_that_is_no_number(login: Login, maxbuf: str) -> None:
    refused(login.message(maxbuf=maxbuf), MalformedMessageError, "not a decimal number")


@pytest.mark.parametrize("cipher", ["3des", "des"])
def test_a_maxbuf_that_no_block_fits(cipher: str) -> None:
    login = Login(cipher=cipher)
    for maxbuf in ("17", "21"):
        refused(login.message(maxbuf=maxbuf), NegotiationError, f"maxbuf of {maxbuf} octets")
    assert asked(login.message(maxbuf="22")).complete


@pytest.mark.parametrize(
    "login",
    [
        Login(qop="auth", cipher=None),
        Login(qop="auth-int", cipher=None),
        Login(cipher="des"),
        Login(cipher="rc4-40"),
        Login(cipher="aes"),
        Login(cipher=None),
        Login(qop="token", cipher=None),
    ],
    ids=lambda login: f"{login.qop} {login.cipher}",
)
def test_what_was_not_offered_is_refused(login: Login) -> None:
    """The guard: the policy is held against the choice; it was no more than offered before."""
    chosen = f"{login.qop} ({login.cipher})" if login.cipher else login.qop
    refused(
        login.message(),
        NegotiationError,
        re.escape(f"the client chose {chosen!r}; offered: auth-conf (rc4), auth-conf (3des)"),
        properties=SecurityProperties(),
    )


@pytest.mark.parametrize("qop", ['"auth,auth-int"', '"auth-conf,auth"', '" auth-conf"', '"\xff"'])
def test_one_qop_is_chosen_and_no_list(qop: str) -> None:
    refused(LOGIN.message(qop=qop, cipher=None), NegotiationError, "the client chose")


@pytest.mark.parametrize("cipher", ['"rc4,3des"', '" rc4"', '"rc4,"'])
def test_one_cipher_is_chosen_and_no_list(cipher: str) -> None:
    refused(LOGIN.message(cipher=cipher), NegotiationError, "the client chose")


@pytest.mark.parametrize("login", [AUTH, INT], ids=["auth", "auth-int"])
def test_a_cipher_goes_with_confidentiality_only(login: Login) -> None:
    refused(login.message(cipher="rc4"), MalformedMessageError, "only goes with auth-conf")


def test_an_empty_qop_is_no_choice() -> None:
    server = make()
    server.step(None)
    with pytest.raises(SASLError):
        server.step(AUTH.message(qop='""'))


@pytest.mark.parametrize("login", [AUTH, INT], ids=["auth", "auth-int"])
def test_an_empty_cipher_is_a_cipher_too(login: Login) -> None:
    server = make()
    server.step(None)
    with pytest.raises(SASLError):
        server.step(login.message(cipher='""'))


@pytest.mark.parametrize(
    ("sent", "hashed"),
    [("auth", "auth-conf"), ("auth-int", "auth-conf"), ("auth-conf", "auth-int")],
)
def test_a_rewritten_qop_breaks_the_hash(sent: str, hashed: str) -> None:
    cipher = "rc4" if sent == "auth-conf" else None
    message = Login(qop=hashed).message(qop=sent, cipher=cipher)
    refused(message, AuthenticationError)


def test_tls_below_makes_a_layer_needless() -> None:
    server = make(properties=SecurityProperties())
    server.bind_channel(ChannelInfo(external_ssf=256))
    challenge = server.step(None)
    assert challenge is not None
    assert b'qop="auth",' in challenge
    server.step(AUTH.message())
    assert server.context is None


def test_tls_below_and_a_layer_are_not_mixed() -> None:
    server = make(properties=SecurityProperties())
    server.bind_channel(ChannelInfo(external_ssf=256))
    server.step(None)
    with pytest.raises(NegotiationError, match="offered: auth"):
        server.step(LOGIN.message())


def test_a_layer_over_tls_is_had_by_insisting() -> None:
    server = make(properties=SecurityProperties(require_layer=True))
    server.bind_channel(ChannelInfo(external_ssf=256))
    server.step(None)
    assert server.step(LOGIN.message()) == LOGIN.proof


def test_a_policy_that_leaves_nothing_says_so_at_once() -> None:
    with pytest.raises(NegotiationError, match="cannot give an SSF of 129 to 256"):
        make(properties=SecurityProperties(min_ssf=129)).step(None)


WRONG = [
    pytest.param(Login(password="wrong").message(), id="wrong password"),
    pytest.param(Login(username="mallory").message(), id="unknown user"),
    pytest.param(Login(realm="example.org").message(), id="unknown realm"),
    pytest.param(Login(realm="EXAMPLE.COM").message(), id="a realm in another case"),
    pytest.param(Login(realm=None).message(), id="no realm"),
    pytest.param(Login(realm="").message(), id="an empty realm"),
    pytest.param(Login(nonce="other").message(), id="foreign nonce"),
    pytest.param(LOGIN.message(nonce='"other"'), id="foreign nonce, hashed over ours"),
    pytest.param(Login(nonce="other").message(nonce='"N0nce"'), id="our nonce, hashed over theirs"),
    pytest.param(Login(nonce="n0nce").message(), id="a nonce in another case"),
    pytest.param(Login(nc="00000002").message(), id="nc=2"),
    pytest.param(Login(nc="00000000").message(), id="nc=0"),
    pytest.param(Login(nc="0000000A").message(), id="nc=A"),
    pytest.param(LOGIN.message(nc="00000002"), id="nc=2, hashed over 1"),
    pytest.param(Login(uri="imap/localhost").message(), id="another service"),
    pytest.param(Login(uri="ldap/example.com").message(), id="another host"),
    pytest.param(Login(uri="ldap/localhost.example.com").message(), id="a longer host"),
    pytest.param(Login(uri="ldap").message(), id="no host"),
    pytest.param(Login(uri="ldap/").message(), id="an empty host"),
    pytest.param(Login(uri="/localhost").message(), id="no service"),
    pytest.param(Login(uri="localhost/ldap").message(), id="turned round"),
    pytest.param(LOGIN.message(cnonce='"other"'), id="cnonce rewritten"),
    pytest.param(LOGIN.message(authzid='"root"'), id="authzid added"),
    pytest.param(Login(authzid="root").message(authzid=None), id="authzid taken away"),
    pytest.param(Login(authzid="root").message(authzid='"bob"'), id="authzid rewritten"),
    pytest.param(LOGIN.message(response=LOGIN.rspauth), id="the server's own proof"),
    pytest.param(LOGIN.message(response="0" * 32), id="no hash at all"),
]


@pytest.mark.parametrize("message", WRONG)
def test_whatever_is_wrong_looks_the_same(message: bytes) -> None:
    error = refused(message, AuthenticationError)
    assert str(error) == str(refused(Login(password="x").message(), AuthenticationError))
    assert error.__context__ is None


def test_one_known_user_is_not_another() -> None:
    users = {"alice": "s3cret-Pa55", "bob": "other"}
    server = make(get_secret=lambda username, _: users.get(username))
    server.step(None)
    with pytest.raises(AuthenticationError):
        server.step(LOGIN.message(username='"bob"'))


class CountingMD5:
    """Counts what is hashed, and keeps the lengths."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lengths: list[int] = []
        for module in (keys, credentials):
            monkeypatch.setattr(module, "md5", self)

    def __call__(self, data: bytes) -> Any:
        self.lengths.append(len(data))
        return hashlib.md5(data)


@pytest.fixture
def counting_md5(monkeypatch: pytest.MonkeyPatch) -> CountingMD5:
    return CountingMD5(monkeypatch)


def hashes(counting: CountingMD5, message: bytes, get_secret: Any) -> int:
    counting.lengths.clear()
    refused(message, AuthenticationError, get_secret=get_secret)
    return len(counting.lengths)


def test_an_unknown_user_costs_as_many_hashes(counting_md5: CountingMD5) -> None:
    """The guard: the time of an answer must not tell whether a user exists."""
    wrong = Login(password="wrong").message()
    unknown = hashes(counting_md5, wrong, lambda *_: None)
    assert unknown == 3 + 3 * 3
    assert hashes(counting_md5, wrong, lambda *_: LOGIN.password) == unknown
    assert hashes(counting_md5, wrong, lambda *_: STORED) == unknown


def test_each_way_of_hashing_is_always_computed(counting_md5: CountingMD5) -> None:
    counts = []
    for hashed in [(b"J\xfc", b"r", b"p"), (b"J\xc3\xbc", b"r", b"p")]:
        login = Login(username="J\xfc", realm="r", password="p", hashed=hashed)
        counting_md5.lengths.clear()
        asked(login.message(), login=login, realms=["r"])
        counts.append(len(counting_md5.lengths))
    assert counts[0] == counts[1] > 0


def test_user_and_realm_are_asked_for_once() -> None:
    calls: list[tuple[str, str]] = []

    def get_secret(username: str, realm: str) -> str:
        calls.append((username, realm))
        return LOGIN.password

    asked(get_secret=get_secret)
    assert calls == [("alice", "example.com")]


@pytest.mark.parametrize(
    "uri",
    ["ldap/localhost", "LDAP/localhost", "ldap/LOCALHOST", "lDaP/LocalHost"],
)
def test_the_digest_uri_has_no_case_but_is_hashed_as_spelled(uri: str) -> None:
    server = make(service="Ldap", host="LocalHost")
    server.step(None)
    assert server.step(Login(uri=uri).message()) == Login(uri=uri).proof


@pytest.mark.parametrize("name", ["Cluster.Example", "cluster.EXAMPLE", "localhost", "LocalHost"])
def test_a_serv_name_of_ours_is_taken_in_any_case(name: str) -> None:
    """The host itself is one too: some clients repeat it."""
    message = Login(uri=f"ldap/localhost/{name}").message()
    assert asked(message, serv_name="Cluster.Example", host="LocalHost").complete


@pytest.mark.parametrize("uri", ["ldap/localhost/", "ldap/localhost/a/b", "ldap/localhost//"])
def test_a_serv_name_has_a_form(uri: str) -> None:
    refused(Login(uri=uri).message(), AuthenticationError)


def test_a_serv_name_that_is_not_ours_is_refused() -> None:
    refused(Login(uri="ldap/localhost/evil.example.org").message(), AuthenticationError)


def test_without_realms_of_ours_the_clients_goes_to_the_store() -> None:
    for login in (Login(realm="any.where"), Login(realm=None), Login(realm="")):
        server = make(login, realms=())
        server.step(None)
        assert server.step(login.message()) == login.proof
        assert server.realm == (login.realm or "")


def test_each_offered_realm_will_do() -> None:
    for realm in ("one", "two"):
        assert asked(Login(realm=realm).message(), login=Login(realm=realm), realms=["one", "two"])


def test_an_authzid_is_told_and_not_judged() -> None:
    server = asked(Login(authzid="u:j\xfcrgen").message())
    assert (server.authcid, server.authzid) == ("alice", "u:j\xfcrgen")


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
@pytest.mark.parametrize("encoding", ["auto", "utf8", "gsasl"])
def test_proof_and_keys_follow_the_clients_way_of_hashing(
    username: str, realm: str, password: str, encoding: Any
) -> None:
    client = DigestMD5Client(
        username, password, service="ldap", host="localhost", hash_encoding=encoding
    )
    server = make(Login(username=username, realm=realm, password=password), realms=[realm])
    connect_mechanisms(client, server)
    assert (server.authcid, server.realm) == (username, realm)
    assert client.context is not None
    assert server.context is not None
    assert server.context.unseal(client.context.seal(b"ping")) == b"ping"
    assert client.context.unseal(server.context.seal(b"pong")) == b"pong"


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
def test_a_client_like_cyrus_sends_utf_8_without_saying_so(
    username: str, realm: str, password: str
) -> None:
    login = Login(username=username, realm=realm, password=password)
    server = asked(login.message(charset=None), login=login, realms=[realm])
    assert (server.authcid, server.realm) == (username, realm)


def test_a_client_without_charset_sends_latin_1() -> None:
    login = Login(username="J\xfcrgen", realm="m\xfcller", password="p\xe4ss")
    message = login.message(username=b'"J\xfcrgen"', realm=b'"m\xfcller"', charset=None)
    server = asked(message, login=login, realms=["m\xfcller"])
    assert (server.authcid, server.realm) == ("J\xfcrgen", "m\xfcller")
