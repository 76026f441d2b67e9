from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanisms.digest_md5 import (
    DigestMD5Client,
    DigestMD5Secret,
    DigestMD5Server,
    credentials,
    keys,
)
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import CIPHER_NAMES, ChannelInfo, SecurityProperties
from saslwrap.testing.pairs import PROTECTIONS, connect_mechanisms, properties_for
from tests.vectors.reference import Login, Raw, write

LOGIN = Login()
ANYTHING = SecurityProperties(min_ssf=0, ciphers=CIPHER_NAMES)
INT = Login(qop="auth-int", cipher=None)
AUTH = Login(qop="auth", cipher=None)


def make(login: Login = LOGIN, **changes: Any) -> DigestMD5Server:
    """A server that knows one user, and lets clients choose from everything."""

    def get_secret(username: str, realm: str) -> str | None:
        return login.password if (username, realm) == (login.username, login.realm or "") else None

    arguments: dict[str, Any] = {
        "get_secret": get_secret,
        "service": "ldap",
        "host": "localhost",
        "realms": ["example.com"],
        "properties": ANYTHING,
        "generate_nonce": lambda: login.nonce,
    }
    return DigestMD5Server(**arguments | changes)


def asked(message: bytes = LOGIN.message(), **changes: Any) -> DigestMD5Server:
    """Give a response to a server that has sent its challenge."""
    server = make(**changes)
    server.step(None)
    server.step(message)
    return server


def offered(**changes: Any) -> dict[str, list[bytes]]:
    challenge = make(**changes).step(None)
    assert challenge is not None
    directives = parse_directives(challenge, 2048)
    return {name: directives.all(name) for name in directives}


def refused(
    message: bytes, kind: type[SASLError], text: str | None = None, **changes: Any
) -> SASLError:
    server = make(**changes)
    server.step(None)
    with pytest.raises(kind, match=text) as caught:
        server.step(message)
    assert type(caught.value) is kind
    assert not server.complete
    assert (server.authcid, server.realm, server.authzid) == (None, None, None)
    with pytest.raises(UsageError):
        _ = server.context
    return caught.value


# ---------------------------------------------------------------- the challenge


def test_the_challenge() -> None:
    assert make().step(None) == (
        b'realm="example.com",nonce="N0nce",qop="auth-conf,auth-int,auth",'
        b'cipher="rc4,3des,rc4-56,des,rc4-40",maxbuf=65536,charset=utf-8,algorithm=md5-sess'
    )


def test_by_default_only_strong_confidentiality_is_offered() -> None:
    directives = offered(properties=SecurityProperties())
    assert directives["qop"] == [b"auth-conf"]
    assert directives["cipher"] == [b"rc4,3des"]


@pytest.mark.parametrize("protection", ["auth", "auth-int"])
def test_no_cipher_is_offered_without_confidentiality(protection: str) -> None:
    directives = offered(properties=properties_for(protection))
    assert directives["qop"] == [protection.encode()]
    assert "cipher" not in directives


def test_each_realm_is_offered() -> None:
    assert offered(realms=["one", 'a"b\\c', "m\xfcller"])["realm"] == [
        b"one",
        b'a"b\\c',
        "m\xfcller".encode(),
    ]
    assert "realm" not in offered(realms=())


@pytest.mark.parametrize("max_buffer", [17, 16777215])
def test_our_maxbuf_is_offered_and_kept(max_buffer: int) -> None:
    policy = SecurityProperties(max_buffer=max_buffer)
    assert offered(properties=policy)["maxbuf"] == [b"%d" % max_buffer]
    context = asked(properties=policy).context
    assert context is not None
    assert context.local_maxbuf == max_buffer


def test_neither_stale_nor_opaque_nor_domain_is_sent() -> None:
    assert not {"stale", "opaque", "domain"} & set(offered())


def test_nonces_have_128_bits_and_more_and_never_come_again() -> None:
    nonces = set()
    for _ in range(50):
        server = DigestMD5Server(lambda *_: None, service="ldap", host="h")
        challenge = server.step(None)
        assert challenge is not None
        nonces.add(parse_directives(challenge, 2048).required("nonce"))
    assert len(nonces) == 50
    assert min(map(len, nonces)) >= 128 / 6


@pytest.mark.parametrize(
    "initial",
    [b"", b"x", LOGIN.message(), LOGIN.message(nc="00000002"), b"\0" * 5000],
    ids=["empty", "garbage", "a response", "subsequent", "long"],
)
def test_an_initial_response_is_ignored(initial: bytes) -> None:
    """The guard: a subsequent authentication would bring the former session's keys back."""
    server = make()
    assert server.step(initial) == make().step(None)
    assert not server.complete
    assert server.step(LOGIN.message()) == LOGIN.proof


def test_the_challenge_stays_below_its_limit() -> None:
    room = 2047 - len(make(realms=["a"]).step(None) or b"") + 1
    assert len(make(realms=["a" * room]).step(None) or b"") == 2047
    with pytest.raises(UsageError, match="has 2048 octets, 2047 are allowed"):
        make(realms=["a" * (room + 1)]).step(None)


# ---------------------------------------------------------------- logins


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_each_layer_is_had(protection: str) -> None:
    cipher = protection if protection in CIPHER_NAMES else None
    login = Login(qop="auth-conf" if cipher else protection, cipher=cipher)
    server = make()
    server.step(None)
    assert server.step(login.message()) == login.proof
    assert server.complete
    assert (server.authcid, server.realm, server.authzid) == ("alice", "example.com", None)
    assert server.context is not None
    assert (server.context.qop, server.context.cipher) == (login.qop, cipher)


def test_a_login_without_a_layer_has_no_context() -> None:
    server = make()
    server.step(None)
    assert server.step(AUTH.message()) == AUTH.proof
    assert server.complete
    assert server.context is None


def test_the_clients_maxbuf_bounds_our_messages() -> None:
    context = asked(LOGIN.message(maxbuf="1024")).context
    assert context is not None
    assert (context.peer_maxbuf, context.stream_sizes.maximum_message) == (1024, 1008)


def test_a_client_without_maxbuf_takes_65536() -> None:
    context = asked().context
    assert context is not None
    assert context.peer_maxbuf == 65536


def test_without_qop_the_client_chose_auth() -> None:
    assert asked(AUTH.message(qop=None)).context is None


# ---------------------------------------------------------------- the response's directives

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


# ---------------------------------------------------------------- the client's choice


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


# ---------------------------------------------------------------- all that is wrong is one

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


STORED = DigestMD5Secret(LOGIN.urp)


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


# ---------------------------------------------------------------- digest-uri, realm, authzid


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


# ---------------------------------------------------------------- octets of names

IDENTITIES = [
    ("J\xfcrgen", "m\xfcller", "p\xe4ss"),
    ("J\xfcrgen", "realm", "\u043f\u0430\u0440"),
    ("\u0418\u0432\u0430\u043d", "m\xfcller", "p\xe4ss"),
]


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


# ---------------------------------------------------------------- stored secrets


def test_a_stored_secret_serves_as_the_password() -> None:
    server = make(get_secret=lambda *_: DigestMD5Secret.from_password("alice", "example.com", "pw"))
    server.step(None)
    login = Login(password="pw")
    assert server.step(login.message()) == login.proof
    assert server.context is not None


def test_a_stored_secret_of_another_is_refused() -> None:
    refused(LOGIN.message(), AuthenticationError, get_secret=lambda *_: DigestMD5Secret(b"x" * 16))


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
def test_a_stored_secret_is_that_of_the_rfc(username: str, realm: str, password: str) -> None:
    login = Login(username=username, realm=realm, password=password)
    assert DigestMD5Secret.from_password(username, realm, password).digest == login.urp


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_stored_secret_has_16_octets(length: int) -> None:
    with pytest.raises(UsageError, match=f"has 16 octets, not {length}"):
        DigestMD5Secret(bytes(length))


def test_a_stored_secret_does_not_show_itself() -> None:
    assert repr(STORED) == "DigestMD5Secret()"


# ---------------------------------------------------------------- real peers' quirks


def test_a_client_of_the_jdk() -> None:
    """Its cipher is quoted, and its order is its own; seen on OpenJDK 17."""
    login = Login(cipher="3des")
    message = (
        b'charset=utf-8,username="alice",realm="example.com",nonce="N0nce",nc=00000001,'
        b'cnonce="Cn0nce",digest-uri="ldap/localhost",maxbuf=65536,response=%b,qop=auth-conf,'
        b'cipher="3des"' % login.response.encode()
    )
    context = asked(message).context
    assert context is not None
    assert context.cipher == "3des"


@pytest.mark.parametrize("written", [r'"DOMAIN\alice"', r'"DOMAIN\\alice"'])
def test_a_client_of_microsoft_does_not_escape_its_domain(written: str) -> None:
    login = Login(username=r"DOMAIN\alice")
    assert asked(login.message(username=written), login=login).authcid == r"DOMAIN\alice"


def test_a_client_of_microsoft_quotes_freely() -> None:
    login = Login(username=r"DOMAIN\alice", realm="example.com")
    message = login.message(
        username=r'"DOMAIN\alice"',
        nc='"00000001"',
        qop='"auth-conf"',
        cipher='"rc4"',
        response=f'"{login.response}"',
        charset='"utf-8"',
        algorithm='"md5-sess"',
    )
    assert asked(message, login=login).complete


def test_a_client_of_gsasl() -> None:
    message = INT.message(maxbuf="65536", charset="utf-8").replace(b",", b", ")
    context = asked(message).context
    assert context is not None
    assert context.qop == "auth-int"


@pytest.mark.parametrize("username", ['a"b', "a\\b", "a,b=c", " a "])
def test_escaped_names_are_hashed_unescaped(username: str) -> None:
    login = Login(username=username)
    escaped = username.replace("\\", "\\\\").replace('"', '\\"')
    assert asked(login.message(username=f'"{escaped}"'), login=login).authcid == username


# ---------------------------------------------------------------- order and failures


@pytest.mark.parametrize("message", [b"", LOGIN.message(), b"x"])
def test_a_message_after_the_end(message: bytes) -> None:
    server = asked()
    with pytest.raises(ProtocolError, match="after DIGEST-MD5 was complete"):
        server.step(message)


def test_no_answer_to_the_challenge() -> None:
    server = make()
    server.step(None)
    with pytest.raises(MalformedMessageError, match="with no message"):
        server.step(None)


@pytest.mark.parametrize("message", [b"", b"*", b"username", b"\xff" * 30, LOGIN.proof])
def test_what_is_no_response(message: bytes) -> None:
    refused(message, MalformedMessageError)


@pytest.mark.parametrize(
    "message",
    [b"", Login(password="x").message(), Login(cipher="des").message(), LOGIN.message(nc=None)],
    ids=["empty", "wrong password", "not offered", "nc missing"],
)
def test_the_first_failure_stays(message: bytes) -> None:
    """The guard: one guess for each challenge, however good the second one is."""
    server = make(properties=SecurityProperties())
    server.step(None)
    first = fail_server(server, message)
    for again in (LOGIN.message(), None):
        later = fail_server(server, again)
        assert (type(later), str(later)) == (type(first), str(first))
        assert later.__context__ is None
    assert not server.complete
    assert repr(server) == "<DigestMD5Server failed>"


def fail_server(server: DigestMD5Server, message: bytes | None) -> SASLError:
    with pytest.raises(SASLError) as caught:
        server.step(message)
    return caught.value


def test_a_store_that_breaks_ends_the_login() -> None:
    def broken(username: str, realm: str) -> str:
        raise OSError("the directory is away")

    server = make(get_secret=broken)
    server.step(None)
    with pytest.raises(OSError, match="the directory is away"):
        server.step(LOGIN.message())
    assert "interrupted" in str(fail_server(server, LOGIN.message()))


@pytest.mark.parametrize("secret", [b"s3cret", 7, True])
def test_a_secret_of_another_kind_is_the_application_s_mistake(secret: object) -> None:
    """The guard: a password in octets does not look like a wrong password for ever."""
    refused(LOGIN.message(), UsageError, "gives a str", get_secret=lambda *_: secret)


async def a_coroutine_function(username: str, realm: str) -> str | None:
    """No `get_secret`: who called it would get a coroutine, which is no None."""


@pytest.mark.parametrize("may_block", [False, True])
def test_a_slow_store_is_announced(may_block: bool) -> None:
    assert make(may_block=may_block).may_block is may_block
    assert not make().may_block


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"realms": "example.com"}, "realms takes several names"),
        ({"realms": [""]}, "realm is empty"),
        ({"realms": ["a\nb"]}, "realm has control characters"),
        ({"service": "ld ap"}, "service is a name"),
        ({"host": ""}, "is no host name"),
        ({"realms": None}, "realms is a list of names, not NoneType"),
        ({"serv_name": 5}, "serv_name is a str, not int"),
        ({"serv_name": "a b"}, "'a b' is no host name"),
        ({"properties": None}, "properties is SecurityProperties, not NoneType"),
        ({"generate_nonce": "abc"}, "generate_nonce is a function, not str"),
        ({"get_secret": "s3cret"}, "get_secret is a plain function"),
        ({"get_secret": a_coroutine_function}, "get_secret is a plain function"),
    ],
)
def test_what_cannot_be_offered_is_refused_when_given(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(**changes)


@pytest.mark.parametrize("nonce", ["", 'a"b', "a\\b", "a b", "\xfc"])
def test_a_nonce_never_needs_an_escape(nonce: str) -> None:
    with pytest.raises(UsageError, match="generate_nonce must give printable ASCII"):
        make(generate_nonce=lambda: nonce).step(None)


ALLOWED = (MalformedMessageError, NegotiationError, AuthenticationError)


@given(st.binary(max_size=300))
def test_no_response_gives_anything_but_an_allowed_error(message: bytes) -> None:
    server = make()
    server.step(None)
    assert isinstance(fail_server(server, message), ALLOWED)


@given(st.data())
def test_no_bent_response_logs_in(data: st.DataObject) -> None:
    """A changed octet is refused, or was one that does not count (white space, case, quoting)."""
    message = bytearray(LOGIN.message())
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] = data.draw(st.integers(0, 255))
    server = make()
    server.step(None)
    try:
        server.step(message)
    except ALLOWED:
        return
    assert (server.authcid, server.realm, server.authzid) == ("alice", "example.com", None)
    context = server.context
    assert context is not None
    assert context.cipher == "rc4"
