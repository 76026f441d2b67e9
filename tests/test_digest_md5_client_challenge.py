"""DIGEST-MD5's client: the challenge's directives, realms and names, and real peers' quirks."""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap.errors import MalformedMessageError, NegotiationError
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import SecurityProperties
from tests.digest_challenges import ANYTHING, AUTH_ONLY, JDK_ORDER, LOGIN, answer, make, said
from tests.vectors.reference import Login, Raw, write


@pytest.mark.parametrize("name", ["nonce", "algorithm"])
def test_a_required_directive_is_missing(name: str) -> None:
    with pytest.raises(MalformedMessageError, match=name):
        said(LOGIN.challenge(**{name: None}), properties=ANYTHING)


REPEATED: dict[str, list[str | bytes]] = {
    "nonce": ['"N0nce"', '"N0nce"'],
    "algorithm": ["md5-sess", "md5-sess"],
    "qop": ['"auth-conf"', '"auth"'],
    "stale": ["true", "true"],
    "maxbuf": ["65536", "65536"],
    "charset": ["utf-8", "utf-8"],
    "cipher": ['"rc4"', '"3des"'],
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_directive_is_repeated(name: str) -> None:
    with pytest.raises(MalformedMessageError, match=f"{name} stands 2 times"):
        said(LOGIN.challenge(**{name: REPEATED[name]}), properties=ANYTHING)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("nonce", '""'),
        ("algorithm", "md5"),
        ("algorithm", '""'),
        ("algorithm", "md5-sessions"),
        ("charset", "iso-8859-1"),
        ("charset", '""'),
        ("charset", "utf8"),
        ("qop", '""'),
        ("qop", '","'),
        ("qop", "token"),
        ("qop", '"auth-int2,AUTH_CONF"'),
        ("cipher", '" , "'),
    ],
)
def test_a_directive_breaks_its_rule(name: str, raw: str) -> None:
    with pytest.raises(MalformedMessageError):
        said(LOGIN.challenge(**{name: raw}), properties=ANYTHING)


@pytest.mark.parametrize("raw", ["1", "md5", '"(x)"', "md5-sess"])
def test_unknown_directives_are_ignored_and_may_repeat(raw: str) -> None:
    challenge = LOGIN.challenge(opaque=[raw, raw], domain=[raw], x_new=[raw, raw, raw], rspauth=raw)
    assert said(challenge) == said()


def test_names_and_literals_have_no_case() -> None:
    challenge = (
        b'REALM="example.com",Nonce="N0nce",QOP="AUTH,Auth-Conf",CIPHER="RC4,3DES",'
        b"MaxBuf=65536,CharSet=UTF-8,Algorithm=MD5-Sess,STALE=TRUE"
    )
    assert said(challenge) == said()
    assert said(challenge)["qop"] == b"auth-conf"


def requoted(challenge: bytes, quoted: str) -> bytes:
    directives = parse_directives(challenge, 2048)
    return write({name: quoted.format(directives.required(name).decode()) for name in directives})


@pytest.mark.parametrize("quoted", ["{}", '"{}"'])
def test_any_directive_may_be_quoted_or_not(quoted: str) -> None:
    challenge = LOGIN.challenge(qop="auth-conf", cipher="rc4")
    assert said(requoted(challenge, quoted)) == said(challenge)


@pytest.mark.parametrize("order", [reversed, sorted])
def test_the_order_of_directives_is_free(order: Any) -> None:
    parts = parse_directives(LOGIN.challenge(), 2048)
    raw: dict[str, Raw] = {
        name: f'"{parts.required(name).decode()}"' for name in order(list(parts))
    }
    assert list(raw) != list(parts)
    assert said(write(raw)) == said()


def test_without_qop_the_server_offers_auth() -> None:
    assert said(LOGIN.challenge(qop=None), properties=ANYTHING)["qop"] == b"auth"
    with pytest.raises(NegotiationError, match="offers auth"):
        said(LOGIN.challenge(qop=None))


def test_unknown_tokens_of_qop_and_cipher_are_ignored() -> None:
    challenge = LOGIN.challenge(qop='"token, auth-conf ,x"', cipher='"aes,\t3des ,, x"')
    assert said(challenge)["cipher"] == b"3des"


@pytest.mark.parametrize("cipher", [None, '"aes,aes-ctr"'])
def test_without_a_known_cipher_there_is_no_confidentiality(cipher: str | None) -> None:
    challenge = LOGIN.challenge(cipher=cipher)
    assert said(challenge, properties=ANYTHING)["qop"] == b"auth-int"
    with pytest.raises(NegotiationError):
        said(challenge)


@pytest.mark.parametrize(
    ("raw", "maximum"),
    [
        (None, 65520),
        ("17", 1),
        ("22", 6),
        ("65536", 65520),
        ("16777215", 16777199),
        ("0000000000000000000000065536", 65520),
        ('" 65536 "', 65520),
        ('" 0000000000065536 "', 65520),
        ('"\t1024"', 1008),
        (" 1024 ", 1008),
    ],
)
def test_a_maxbuf_that_can_be_used(raw: str | None, maximum: int) -> None:
    client = make()
    client.step(LOGIN.challenge(maxbuf=raw))
    client.step(LOGIN.proof)
    assert client.context is not None
    assert client.context.stream_sizes.maximum_message == maximum


NOT_IN_RANGE = ["0", "16", "16777216", "4294967296", "000", "9" * 400, "99999999"]

NOT_A_NUMBER = ['""', '" "', "1e3", "-1", "+1", "0x1000", "65536.0", '"6 5"', '"\xb2"', '"1,2"']


@pytest.mark.parametrize("raw", NOT_IN_RANGE)
def test_a_maxbuf_out_of_range(raw: str) -> None:
    with pytest.raises(MalformedMessageError, match="maxbuf is not in"):
        said(LOGIN.challenge(maxbuf=raw))


@pytest.mark.parametrize("raw", NOT_IN_RANGE)
def test_a_maxbuf_out_of_range_does_not_matter_without_a_layer(raw: str) -> None:
    assert said(LOGIN.challenge(maxbuf=raw), properties=AUTH_ONLY)["qop"] == b"auth"


@pytest.mark.parametrize("raw", NOT_A_NUMBER)
@pytest.mark.parametrize("policy", [AUTH_ONLY, ANYTHING], ids=["auth", "layer"])
def test_a_maxbuf_that_is_no_number(raw: str, policy: SecurityProperties) -> None:
    with pytest.raises(MalformedMessageError, match="maxbuf is not a decimal number"):
        said(LOGIN.challenge(maxbuf=raw), properties=policy)


@pytest.mark.parametrize("maxbuf", ["17", "21"])
def test_a_maxbuf_that_no_block_fits(maxbuf: str) -> None:
    policy = SecurityProperties(ciphers=("3des",))
    with pytest.raises(NegotiationError, match=f"maxbuf of {maxbuf} octets is too small"):
        said(LOGIN.challenge(maxbuf=maxbuf), properties=policy)
    assert said(LOGIN.challenge(maxbuf="22"), properties=policy)["cipher"] == b"3des"


@pytest.mark.parametrize(
    ("offered", "asked", "sent"),
    [
        ([], None, None),
        (['"one"'], None, b"one"),
        (['"one"', '"two"'], None, b"one"),
        (['"one"', '"two"'], "two", b"two"),
        (['""'], None, b""),
        ([], "mine", b"mine"),
        (['"one"'], "", b""),
        ([r'"a \"b\" \\ c"'], None, rb'a "b" \ c'),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", None])
def test_the_realm_is_ours_or_else_the_servers_first(
    offered: list[str], asked: str | None, sent: bytes | None, charset: str | None
) -> None:
    directives = said(LOGIN.challenge(realm=offered, charset=charset), realm=asked)
    assert directives.get("realm") == sent
    login = Login(realm=None if sent is None else sent.decode())
    assert directives["response"] == login.response.encode()


IDENTITIES = [
    ("alice", "example.com", "s3cret"),
    ("J\xfcrgen", "m\xfcller.example", "p\xe4ss"),
    ("J\xfcrgen", "example.com", "\u043f\u0430\u0440\u043e\u043b\u044c"),
    ("\u0418\u0432\u0430\u043d", "m\xfcller.example", "p\xe4ss"),
    ("\u0418\u0432\u0430\u043d", "\u043c\u0438\u0440", "\u043f\u0430\u0440"),
    ("a", "b", "pa\u20ac\xe4"),
    ("emoji \U0001f511", "b", ""),
]


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
def test_each_string_is_hashed_by_itself_under_utf_8(
    username: str, realm: str, password: str
) -> None:
    login = Login(username=username, realm=realm, password=password)
    directives = said(login.challenge(), username=username, password=password)
    assert directives["username"] == username.encode()
    assert directives["realm"] == realm.encode()
    assert directives["charset"] == b"utf-8"
    assert directives["response"] == login.response.encode()


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
def test_our_own_realm_is_utf_8_where_the_server_knows_it(
    username: str, realm: str, password: str
) -> None:
    login = Login(username=username, realm=realm, password=password)
    directives = said(LOGIN.challenge(), username=username, realm=realm, password=password)
    assert directives["realm"] == realm.encode()
    assert directives["response"] == login.response.encode()


@pytest.mark.parametrize(("username", "realm", "password"), IDENTITIES)
@pytest.mark.parametrize("encoding", ["utf8", "gsasl"])
def test_the_other_ways_of_hashing(username: str, realm: str, password: str, encoding: str) -> None:
    secret = password.encode()
    if encoding == "gsasl" and max(password, default="") <= "\xff":
        secret = password.encode("latin-1")
    hashed = username.encode(), realm.encode(), secret
    login = Login(username=username, realm=realm, hashed=hashed)
    directives = said(
        login.challenge(), username=username, password=password, hash_encoding=encoding
    )
    assert directives["response"] == login.response.encode()


@pytest.mark.parametrize("encoding", ["auto", "utf8", "gsasl"])
def test_without_charset_all_is_latin_1(encoding: str) -> None:
    names = ("J\xfcrgen", "m\xfcller", "p\xe4ss")
    octets = tuple(name.encode("latin-1") for name in names)
    login = Login(hashed=(octets[0], octets[1], octets[2]))
    directives = said(
        login.challenge(charset=None, realm=b'"m\xfcller"'),
        username=names[0],
        password=names[2],
        hash_encoding=encoding,
    )
    assert directives["username"] == octets[0]
    assert directives["realm"] == octets[1]
    assert directives["response"] == login.response.encode()
    assert "charset" not in directives


@pytest.mark.parametrize("name", ["username", "realm", "password"])
def test_without_charset_nothing_beyond_latin_1_can_be_said(name: str) -> None:
    with pytest.raises(NegotiationError, match="beyond ISO 8859-1") as caught:
        said(LOGIN.challenge(charset=None), **{name: "\u043f\u0430\u0440"})
    assert caught.value.__context__ is None


def without_charset(realm: bytes) -> Login:
    """What is hashed is what travels, since both are ISO 8859-1."""
    return Login(hashed=(b"alice", realm, LOGIN.password.encode()))


@pytest.mark.parametrize("realm", [b"m\xc3\xbcller", b"\xc2\xa3"])
def test_without_charset_a_realm_is_no_utf_8_even_if_it_could_be(realm: bytes) -> None:
    login = without_charset(realm)
    assert said(login.challenge(charset=None, realm=b'"%b"' % realm))["response"] == (
        login.response.encode()
    )


@pytest.mark.parametrize("realm", [b"m\xc3\xbcller", b"\xc2\xa3"])
def test_without_charset_our_own_realm_is_latin_1_too(realm: bytes) -> None:
    login = without_charset(realm)
    directives = said(login.challenge(charset=None), realm=realm.decode("latin-1"))
    assert directives["realm"] == realm
    assert directives["response"] == login.response.encode()


@pytest.mark.parametrize("username", ['a"b', "a\\b", "DOMAIN\\user", "a,b=c", " a ", 'x\\"'])
def test_names_are_escaped_and_hashed_unescaped(username: str) -> None:
    login = Login(username=username)
    client = make(username=username)
    response = client.step(LOGIN.challenge())
    assert response is not None
    assert parse_directives(response, 4096)["username"][0] == (username.encode(),) * 2
    assert b"response=" + login.response.encode() in response


def test_an_authzid_is_utf_8_and_never_converted() -> None:
    login = Login(authzid="u:j\xfcrgen")
    client = make(authzid=login.authzid)
    directives = answer(client, LOGIN.challenge())
    assert directives["authzid"] == "u:j\xfcrgen".encode()
    assert directives["response"] == login.response.encode()
    assert client.authzid == "u:j\xfcrgen"


def test_an_authzid_is_utf_8_without_charset_too() -> None:
    directives = said(LOGIN.challenge(charset=None), authzid="\u0418\u0432\u0430\u043d")
    assert directives["authzid"] == "\u0418\u0432\u0430\u043d".encode()
    login = Login(authzid="\u0418\u0432\u0430\u043d")
    assert directives["response"] == login.response.encode()


@pytest.mark.parametrize(
    ("service", "host", "serv_name", "uri"),
    [
        ("imap", "mail.example.com", None, "imap/mail.example.com"),
        ("smtp", "mail3.example.com", "example.com", "smtp/mail3.example.com/example.com"),
        ("ldap", "localhost", "LOCALHOST", "ldap/localhost"),
        ("LDAP", "Dc1.Example.com", None, "LDAP/Dc1.Example.com"),
        ("ldap", "::1", None, "ldap/::1"),
    ],
)
def test_the_digest_uri(service: str, host: str, serv_name: str | None, uri: str) -> None:
    directives = said(service=service, host=host, serv_name=serv_name)
    assert directives["digest-uri"] == uri.encode()
    assert directives["response"] == Login(uri=uri).response.encode()


def test_a_server_of_the_jdk() -> None:
    """It quotes maxbuf, and prefers 3des; seen on OpenJDK 17."""
    challenge = (
        b'realm="example.com",nonce="N0nce",qop="auth,auth-int,auth-conf",charset=utf-8,'
        b'cipher="3des,rc4,des,rc4-56,rc4-40",maxbuf="1024",algorithm=md5-sess'
    )
    client = make(properties=SecurityProperties(ciphers=JDK_ORDER))
    assert answer(client, challenge)["cipher"] == b"3des"
    client.step(Login(cipher="3des").proof)
    assert client.context is not None
    assert client.context.peer_maxbuf == 1024


def test_a_server_of_microsoft() -> None:
    """Its nonce is long, its algorithm may be quoted, and it says nothing of maxbuf."""
    nonce = "+Upgraded+v1" + "9fe2" * 40 + "=="
    challenge = (
        b'qop="auth,auth-int,auth-conf",cipher="3des,rc4",algorithm="md5-sess",'
        b'nonce="%b",charset="utf-8",realm="ad.example.com"' % nonce.encode()
    )
    login = Login(nonce=nonce, realm="ad.example.com")
    client = make()
    directives = answer(client, challenge)
    assert directives["nonce"] == nonce.encode()
    assert directives["response"] == login.response.encode()
    assert client.step(login.proof) is None
    assert client.context is not None
    assert client.context.peer_maxbuf == 65536


def test_a_server_of_gsasl() -> None:
    """No realm, no maxbuf, and integrity at best."""
    challenge = b'nonce="N0nce", qop="auth, auth-int", charset=utf-8, algorithm=md5-sess'
    client = make(properties=SecurityProperties(min_ssf=1))
    login = Login(realm=None, qop="auth-int", cipher=None)
    directives = answer(client, challenge)
    assert "realm" not in directives
    assert directives["response"] == login.response.encode()
    assert client.step(login.proof) is None


@pytest.mark.parametrize("nonce", [r"a\"b", r"a\\b", "x" * 1900, "a b", "a,b"])
def test_the_nonce_goes_back_as_it_came(nonce: str) -> None:
    client = make()
    response = client.step(LOGIN.challenge(nonce=f'"{nonce}"'))
    assert response is not None
    assert b',nonce="%b",' % nonce.encode() in response
