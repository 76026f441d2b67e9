"""DIGEST-MD5's server: the challenge, logins, secrets, order and failures."""

from __future__ import annotations

from functools import partial
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
from saslwrap.mechanisms.digest_md5 import DigestMD5Secret, DigestMD5Server
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.testing.pairs import PROTECTIONS, properties_for
from tests.digest_responses import (
    AUTH,
    IDENTITIES,
    INT,
    LOGIN,
    STORED,
    asked,
    make,
    offered,
    refused,
)
from tests.vectors.reference import Login


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


class AsyncStore:
    """No `get_secret` either."""

    async def __call__(self, username: str, realm: str) -> str | None:
        return await a_coroutine_function(username, realm)


def test_an_object_may_be_the_store() -> None:
    class Store:
        def __call__(self, username: str, realm: str) -> str:
            return LOGIN.password

    assert asked(get_secret=Store()).complete


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
        ({"realms": iter(["example.com"])}, "realms is a list of names, not list_iterator"),
        ({"realms": (it for it in ["example.com"])}, "realms is a list of names, not generator"),
        ({"serv_name": 5}, "serv_name is a str, not int"),
        ({"serv_name": "a b"}, "'a b' is no host name"),
        ({"properties": None}, "properties is SecurityProperties, not NoneType"),
        ({"generate_nonce": "abc"}, "generate_nonce is a function, not str"),
        ({"get_secret": "s3cret"}, "get_secret is a plain function"),
        ({"get_secret": a_coroutine_function}, "get_secret is a plain function"),
        ({"get_secret": partial(a_coroutine_function, "alice")}, "get_secret is a plain function"),
        ({"get_secret": AsyncStore()}, "run_coroutine_threadsafe under saslwrap.asyncio"),
        ({"get_secret": AsyncStore().__call__}, "get_secret is a plain function"),
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
