"""DIGEST-MD5's client: its messages, the server's proof, failures and misuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

import saslwrap
from saslwrap.errors import (
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server, ciphers
from saslwrap.properties import CIPHER_NAMES, ChannelInfo, SecurityProperties
from saslwrap.testing.pairs import PROTECTIONS, properties_for
from tests.digest_challenges import AUTH_ONLY, LOGIN, answer, make, said
from tests.vectors.reference import Login


def test_a_login_with_a_layer() -> None:
    client = make()
    assert client.step(None) is None
    assert client.step(LOGIN.challenge()) == (
        b'username="alice",realm="example.com",nonce="N0nce",cnonce="Cn0nce",nc=00000001,'
        b'qop=auth-conf,cipher=rc4,maxbuf=65536,digest-uri="ldap/localhost",'
        b"response=%b,charset=utf-8" % LOGIN.response.encode()
    )
    assert not client.complete
    assert client.step(LOGIN.proof) is None
    assert client.complete
    assert client.context is not None
    assert client.context.cipher == "rc4"


def test_a_login_without_a_layer() -> None:
    client, login = make(properties=AUTH_ONLY), Login(qop="auth", cipher=None)
    directives = answer(client, login.challenge())
    assert directives["qop"] == b"auth"
    assert directives["response"] == login.response.encode()
    assert not {"cipher", "maxbuf"} & set(directives)
    assert client.step(login.proof) is None
    assert client.complete
    assert client.context is None


def test_a_login_that_starts_with_the_challenge() -> None:
    client = make()
    client.step(LOGIN.challenge())
    client.step(LOGIN.proof)
    assert client.complete


def test_the_client_has_nothing_to_say_first() -> None:
    client = make()
    assert client.step(None) is None
    assert client.step(None) is None
    assert client.authcid == "alice"
    assert client.authzid is None


def test_there_is_no_context_before_the_end() -> None:
    client = make()
    client.step(LOGIN.challenge())
    with pytest.raises(UsageError, match="no context before it is complete"):
        _ = client.context


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_each_layer_computes_its_response(protection: str) -> None:
    cipher = protection if protection in CIPHER_NAMES else None
    login = Login(qop="auth-conf" if cipher else protection, cipher=cipher)
    directives = said(properties=properties_for(protection))
    assert directives["response"] == login.response.encode()
    assert directives.get("cipher") == (cipher and cipher.encode())


def test_neither_opaque_nor_algorithm_is_sent() -> None:
    challenge = LOGIN.challenge(opaque='"x"', domain='"y"', stale="true")
    assert not {"opaque", "domain", "algorithm", "stale"} & set(said(challenge))


@pytest.mark.parametrize("max_buffer", [17, 4096, 16777215])
def test_our_maxbuf_is_always_announced_with_a_layer(max_buffer: int) -> None:
    client = make(properties=SecurityProperties(max_buffer=max_buffer))
    assert answer(client, LOGIN.challenge())["maxbuf"] == b"%d" % max_buffer
    client.step(LOGIN.proof)
    assert client.context is not None
    assert client.context.local_maxbuf == max_buffer


def test_the_servers_maxbuf_bounds_our_messages() -> None:
    client = make()
    client.step(LOGIN.challenge(maxbuf="1024"))
    client.step(LOGIN.proof)
    assert client.context is not None
    assert client.context.peer_maxbuf == 1024
    assert client.context.stream_sizes.maximum_message == 1008


def test_the_cnonce_has_128_bits_and_more_and_never_comes_again() -> None:
    cnonces = {
        answer(DigestMD5Client("a", "b", service="ldap", host="h"), LOGIN.challenge())["cnonce"]
        for _ in range(50)
    }
    assert len(cnonces) == 50
    assert min(map(len, cnonces)) >= 128 / 6


@pytest.mark.parametrize(
    ("protection", "qop"),
    [("rc4", b"auth-conf"), ("auth-int", b"auth-int"), ("auth", b"auth")],
)
def test_the_policy_decides_on_the_qop(protection: str, qop: bytes) -> None:
    assert said(properties=properties_for(protection))["qop"] == qop


@pytest.mark.parametrize("cipher", CIPHER_NAMES)
def test_weak_ciphers_have_to_be_asked_for(cipher: str) -> None:
    challenge = LOGIN.challenge(qop='"auth-conf"', cipher=f'"{cipher}"')
    if cipher in ("rc4", "3des"):
        assert said(challenge)["cipher"] == cipher.encode()
    else:
        with pytest.raises(NegotiationError):
            said(challenge)
    policy = SecurityProperties(min_ssf=2, ciphers=(cipher,))
    assert said(challenge, properties=policy)["cipher"] == cipher.encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"qop": '"auth"'},
        {"qop": '"auth,auth-int"'},
        {"cipher": '"rc4-40"'},
        {"cipher": '"rc4-40,des,rc4-56"'},
    ],
)
def test_a_stripped_offer_is_refused_before_anything_is_sent(changes: dict[str, str]) -> None:
    client = make()
    with pytest.raises(NegotiationError):
        client.step(LOGIN.challenge(**changes))
    assert not client.complete


def test_tls_below_makes_a_layer_needless() -> None:
    client, login = make(), Login(qop="auth", cipher=None)
    client.bind_channel(ChannelInfo(external_ssf=256))
    assert answer(client, login.challenge())["qop"] == b"auth"
    client.step(login.proof)
    assert client.context is None


def test_a_layer_over_tls_is_had_by_insisting() -> None:
    client = make(properties=SecurityProperties(require_layer=True))
    client.bind_channel(ChannelInfo(external_ssf=256))
    assert answer(client, LOGIN.challenge())["qop"] == b"auth-conf"


def test_a_layer_that_was_insisted_on_or_nothing() -> None:
    client = make(properties=SecurityProperties(require_layer=True))
    client.bind_channel(ChannelInfo(external_ssf=256))
    with pytest.raises(NegotiationError, match="a layer in any case"):
        client.step(LOGIN.challenge(qop="auth"))


def test_no_layer_is_left_to_tls() -> None:
    client = make(properties=SecurityProperties(require_layer=False))
    client.bind_channel(ChannelInfo(external_ssf=128))
    assert answer(client, LOGIN.challenge())["qop"] == b"auth"
    with pytest.raises(UsageError, match="require_layer=False leaves min_ssf=112 to TLS"):
        said(properties=SecurityProperties(require_layer=False))


def test_the_channel_is_told_before_the_first_step() -> None:
    client = make()
    client.step(None)
    with pytest.raises(UsageError, match="make a new one"):
        client.bind_channel(ChannelInfo(external_ssf=256))


UNPROVEN = [
    pytest.param(None, id="success without it"),
    pytest.param(b"rspauth=" + b"0" * 32, id="wrong"),
    pytest.param(b"rspauth=" + LOGIN.rspauth.upper().encode(), id="upper case"),
    pytest.param(b"rspauth=" + LOGIN.response.encode(), id="the client's own response"),
    pytest.param(b"rspauth=" + LOGIN.rspauth[:-1].encode(), id="cut"),
    pytest.param(b"rspauth=" + LOGIN.rspauth.encode() + b"0", id="too long"),
    pytest.param(b'rspauth=""', id="empty"),
    pytest.param(b"x=y", id="missing"),
    pytest.param(b"response=" + LOGIN.rspauth.encode(), id="under another name"),
    pytest.param(LOGIN.proof + b',nonce="x"', id="with a directive more"),
    pytest.param(LOGIN.challenge(), id="another challenge"),
    pytest.param(LOGIN.challenge(stale="true", nonce='"other"'), id="a stale challenge"),
    pytest.param(b"rspauth=" + Login(nc="00000002").rspauth.encode(), id="of another nc"),
    pytest.param(b"rspauth=" + Login(qop="auth").rspauth.encode(), id="of another qop"),
    pytest.param(b"rspauth=" + Login(password="x").rspauth.encode(), id="of another password"),
]


@pytest.mark.parametrize("message", UNPROVEN)
def test_a_server_that_does_not_prove_itself(message: bytes | None) -> None:
    client = make()
    client.step(LOGIN.challenge())
    with pytest.raises(MutualAuthenticationError):
        client.step(message)
    assert not client.complete
    with pytest.raises(UsageError):
        _ = client.context


@pytest.mark.parametrize(
    "message",
    [b"", b"OK", LOGIN.proof + b"," + LOGIN.proof, LOGIN.proof + b" OK", LOGIN.proof + b"\0"],
)
def test_a_proof_that_cannot_be_read(message: bytes) -> None:
    client = make()
    client.step(LOGIN.challenge())
    with pytest.raises(MalformedMessageError):
        client.step(message)
    assert not client.complete


@pytest.mark.parametrize(
    "message",
    [f'rspauth="{LOGIN.rspauth}"'.encode(), f" RspAuth = {LOGIN.rspauth} ,".encode()],
)
def test_a_proof_written_in_another_way(message: bytes) -> None:
    client = make()
    client.step(LOGIN.challenge())
    client.step(message)
    assert client.complete


@pytest.mark.parametrize("message", [b"", LOGIN.proof, LOGIN.challenge()])
def test_a_message_after_the_end(message: bytes) -> None:
    client = make()
    client.step(LOGIN.challenge())
    client.step(LOGIN.proof)
    with pytest.raises(ProtocolError, match="after DIGEST-MD5 was complete"):
        client.step(message)


@pytest.mark.parametrize("message", [b"", LOGIN.proof, b"OK", b"\xff" * 20, b"realm="])
def test_what_is_no_challenge(message: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        make().step(message)


def test_a_nonce_that_is_our_own() -> None:
    with pytest.raises(ProtocolError, match="reflected"):
        make().step(LOGIN.challenge(nonce=f'"{LOGIN.cnonce}"'))


FAILURES: list[tuple[bytes, bytes | None, type[SASLError]]] = [
    (LOGIN.challenge(qop="auth"), None, NegotiationError),
    (LOGIN.challenge(nonce=None), None, MalformedMessageError),
    (LOGIN.challenge(nonce='"Cn0nce"'), None, ProtocolError),
    (LOGIN.challenge(), b"rspauth=x", MutualAuthenticationError),
    (LOGIN.challenge(), b"", MalformedMessageError),
]


def fail(client: DigestMD5Client, *messages: bytes | None) -> SASLError:
    for message in messages[:-1]:
        client.step(message)
    with pytest.raises(SASLError) as caught:
        client.step(messages[-1])
    return caught.value


@pytest.mark.parametrize(("challenge", "proof", "kind"), FAILURES)
def test_the_first_failure_stays(
    challenge: bytes, proof: bytes | None, kind: type[SASLError]
) -> None:
    client = make()
    first = fail(client, challenge) if proof is None else fail(client, challenge, proof)
    assert type(first) is kind
    for message in (LOGIN.challenge(), LOGIN.proof, None):
        later = fail(client, message)
        assert (type(later), str(later)) == (kind, str(first))
        assert later is not first
        assert later.__context__ is None
    assert not client.complete
    assert repr(client) == "<DigestMD5Client failed>"


def test_a_cnonce_source_that_breaks_ends_the_login() -> None:
    def broken() -> str:
        raise LookupError("no randomness")

    client = make(generate_cnonce=broken)
    with pytest.raises(LookupError, match="no randomness"):
        client.step(LOGIN.challenge())
    assert "interrupted" in str(fail(client, LOGIN.challenge()))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"username": ""}, "username is empty"),
        ({"username": "a\0b"}, "username has control characters"),
        ({"username": "a\r\nb"}, "username has control characters"),
        ({"username": "\udcff"}, "username has lone surrogates"),
        ({"password": "\udcff"}, "password has lone surrogates"),
        ({"realm": "a\x7f"}, "realm has control characters"),
        ({"realm": "\ud800"}, "realm has lone surrogates"),
        ({"authzid": ""}, "authzid is empty"),
        ({"authzid": "u:\0"}, "authzid has control characters"),
        ({"service": ""}, "service is a name"),
        ({"service": "ldap/x"}, "service is a name"),
        ({"host": ""}, "is no host name"),
        ({"host": "a/b"}, "'a/b' is no host name"),
        ({"host": "a b"}, "'a b' is no host name"),
        ({"host": "m\xfcller.example"}, "IDNA"),
        ({"serv_name": ""}, "'' is no host name"),
        ({"serv_name": "a/b"}, "'a/b' is no host name"),
        ({"hash_encoding": "latin-1"}, "hash_encoding is one of auto, utf8, gsasl"),
        ({"realm": 0}, "realm is a str, not int"),
        ({"serv_name": b"x"}, "serv_name is a str, not bytes"),
        ({"properties": {"min_ssf": 1}}, "properties is SecurityProperties, not dict"),
        ({"generate_cnonce": "abc"}, "generate_cnonce is a function, not str"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_given(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(**changes)


@pytest.mark.parametrize("password", ["", "a\0b", "\r\n", '"\\'])
def test_any_password_is_hashed_as_it_is(password: str) -> None:
    assert said(password=password)["response"] == Login(password=password).response.encode()


@pytest.mark.parametrize("cnonce", ["", "a b", 'a"b', "a\\b", "\xfc", "a\n", "\0", b"abc"])
def test_a_cnonce_never_needs_an_escape(cnonce: Any) -> None:
    with pytest.raises(UsageError, match="generate_cnonce must give printable ASCII"):
        said(generate_cnonce=lambda: cnonce)


def test_a_response_stays_below_its_limit() -> None:
    room = 4095 - len(make(username="a").step(LOGIN.challenge()) or b"") + 1
    assert len(make(username="a" * room).step(LOGIN.challenge()) or b"") == 4095
    with pytest.raises(NegotiationError, match="would have 4096 octets, 4095 are allowed"):
        make(username="a" * (room + 1)).step(LOGIN.challenge())


def run_without_legacy_provider(script: str) -> str:
    root = str(Path(saslwrap.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", "import saslwrap\n" + script],
        env=os.environ | {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


OFFLINE = f"""
def step(*ciphers):
    client = saslwrap.DigestMD5Client(
        "alice", "x", service="ldap", host="localhost",
        properties=saslwrap.SecurityProperties(ciphers=ciphers),
    )
    return client.step({LOGIN.challenge()!r})
"""


def test_rc4_alone_is_unavailable_without_the_legacy_provider() -> None:
    output = run_without_legacy_provider(OFFLINE + "step('rc4')")
    assert "MechanismUnavailableError: OpenSSL lacks the cipher for auth-conf (rc4)" in output
    assert "CRYPTOGRAPHY_OPENSSL_NO_LEGACY" in output


def test_3des_is_taken_for_rc4_without_the_legacy_provider() -> None:
    output = run_without_legacy_provider(OFFLINE + "print(step('rc4', '3des').decode())")
    assert "cipher=3des" in output


def test_a_server_offers_3des_alone_without_the_legacy_provider() -> None:
    output = run_without_legacy_provider(
        "server = saslwrap.DigestMD5Server(print, service='ldap', host='localhost', realms=['x'])\n"
        "print(server.step(None).decode())"
    )
    assert 'cipher="3des"' in output


def test_a_cipher_is_available_only_if_openssl_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: bytes) -> None:
        raise UnsupportedAlgorithm("rc4 is off")

    monkeypatch.setattr(ciphers, "ARC4", refuse)
    ciphers._works.cache_clear()
    try:
        names = [spec.name for spec in ciphers.available(CIPHER_NAMES)]
    finally:
        ciphers._works.cache_clear()
    assert names == ["3des", "des"]


def refuse_hashlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def md5(data: bytes) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr("hashlib.md5", md5)


def refuse_hmac(monkeypatch: pytest.MonkeyPatch) -> None:
    def new(key: bytes, algorithm: object) -> None:
        raise UnsupportedAlgorithm("md5 is off")

    monkeypatch.setattr("saslwrap.mechanisms.digest_md5.ciphers.hmac.HMAC", new)


@pytest.mark.parametrize("refuse", [refuse_hashlib, refuse_hmac])
def test_without_md5_the_mechanism_is_unavailable(
    refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    with pytest.raises(MechanismUnavailableError, match=r"needs MD5.*FIPS.*use GSSAPI") as caught:
        make()
    assert caught.value.__context__ is None
    with pytest.raises(MechanismUnavailableError, match="needs MD5"):
        DigestMD5Server(lambda *_: None, service="ldap", host="localhost")
