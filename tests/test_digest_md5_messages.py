"""The messages of DIGEST-MD5 as octets: what is written, what is read, and what silence means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.digest_md5.messages import Challenge, Response, parse_rspauth

FULL_CHALLENGE = Challenge(
    nonce=b"N0nce",
    realms=(b"one", rb'a "b" \ c'),
    qops=("auth", "auth-conf"),
    ciphers=("rc4", "3des"),
    maxbuf=1024,
    utf8=True,
)
BARE_CHALLENGE = Challenge(
    nonce=b"N0nce", realms=(), qops=("auth",), ciphers=(), maxbuf=17, utf8=False
)
FULL_RESPONSE = Response(
    username=b"alice",
    realm=b'a "b"',
    nonce=b"N0nce",
    cnonce=b"Cn0nce",
    nonce_count=b"00000001",
    qop=b"auth-conf",
    digest_uri=b"ldap/localhost",
    response=b"0123456789abcdef" * 2,
    maxbuf=16777215,
    utf8=True,
    cipher="rc4",
    authzid=b"u:bob",
)
BARE_RESPONSE = replace(
    FULL_RESPONSE, realm=None, qop=None, maxbuf=None, utf8=False, cipher=None, authzid=None
)

WRITTEN = [
    (
        FULL_CHALLENGE,
        rb'realm="one",realm="a \"b\" \\ c",nonce="N0nce",qop="auth,auth-conf",cipher="rc4,3des",'
        b"maxbuf=1024,charset=utf-8,algorithm=md5-sess",
    ),
    (BARE_CHALLENGE, b'nonce="N0nce",qop="auth",maxbuf=17,algorithm=md5-sess'),
    (
        FULL_RESPONSE,
        rb'username="alice",realm="a \"b\"",nonce="N0nce",cnonce="Cn0nce",nc=00000001,'
        b'qop=auth-conf,cipher=rc4,maxbuf=16777215,digest-uri="ldap/localhost",'
        b'response=0123456789abcdef0123456789abcdef,charset=utf-8,authzid="u:bob"',
    ),
    (
        BARE_RESPONSE,
        b'username="alice",nonce="N0nce",cnonce="Cn0nce",nc=00000001,'
        b'digest-uri="ldap/localhost",response=0123456789abcdef0123456789abcdef',
    ),
]

BARE = b'nonce="N0nce",algorithm=md5-sess'


@pytest.mark.parametrize(("message", "octets"), WRITTEN)
def test_what_is_written_and_read_back(message: Challenge | Response, octets: bytes) -> None:
    assert message.format() == octets
    assert type(message).parse(octets) == message


def test_a_challenge_that_says_nothing_offers_a_login_without_a_layer() -> None:
    assert Challenge.parse(BARE) == Challenge(
        nonce=b"N0nce", realms=(), qops=("auth",), ciphers=(), maxbuf=65536, utf8=False
    )


@pytest.mark.parametrize(
    ("more", "qops", "ciphers"),
    [
        (b"qop=auth-conf", ("auth-conf",), ()),
        (b'qop="auth,auth-int",cipher=rc4', ("auth", "auth-int"), ()),
        (b'cipher=""', ("auth",), ()),
        (b'qop=AUTH-CONF,cipher="RC4, 3DES"', ("auth-conf",), ("rc4", "3des")),
    ],
    ids=["no cipher", "no auth-conf", "empty", "in any case"],
)
def test_ciphers_count_where_they_are_and_are_of_use(
    more: bytes, qops: tuple[str, ...], ciphers: tuple[str, ...]
) -> None:
    challenge = Challenge.parse(BARE + b"," + more)
    assert (challenge.qops, challenge.ciphers) == (qops, ciphers)


@pytest.mark.parametrize(
    ("digits", "maxbuf"),
    [
        (b"0", 0),
        (b"17", 17),
        (b"016777215", 16777215),
        (b"99999999", 99999999),
        (b"100000000", 16777216),
        (b"9" * 1000, 16777216),
        (b"0" * 1000 + b"17", 17),
        (b'" 17\t"', 17),
    ],
)
def test_a_maxbuf_is_read_whatever_its_length(digits: bytes, maxbuf: int) -> None:
    assert Challenge.parse(BARE + b",maxbuf=" + digits).maxbuf == maxbuf


@pytest.mark.parametrize("digits", [b'""', b"-1", b"1.0", b"0x11", b'"1 7"', b'"\xb2"'])
def test_a_maxbuf_is_decimal_digits(digits: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="maxbuf is not a decimal number"):
        Challenge.parse(BARE + b",maxbuf=" + digits)


@pytest.mark.parametrize("count", [b"00000001", b"0000000a", b"0000000F", b"ffffFFFF"])
def test_a_nonce_count_is_eight_hex_digits(count: bytes) -> None:
    octets = BARE_RESPONSE.format().replace(b"00000001", count)
    assert Response.parse(octets).nonce_count == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nc", b"0000001"),
        ("nc", b"000000001"),
        ("nc", b"0000000g"),
        ("response", b"0123456789abcdef0123456789abcde"),
        ("response", b"0123456789abcdef0123456789abcdef0"),
        ("response", b"0123456789ABCDEF0123456789ABCDEF"),
        ("response", b"0123456789abcdef0123456789abcdeg"),
    ],
)
def test_what_has_not_its_form_is_malformed(name: str, value: bytes) -> None:
    change: dict[str, Any] = {"nonce_count" if name == "nc" else name: value}
    message = replace(BARE_RESPONSE, **change)
    with pytest.raises(MalformedMessageError, match=f"the directive {name} does not have its form"):
        Response.parse(message.format())


@pytest.mark.parametrize("name", ["username", "nonce", "cnonce", "qop", "cipher", "authzid"])
def test_what_may_not_be_empty_is_malformed(name: str) -> None:
    octets = FULL_RESPONSE.format()
    value = getattr(FULL_RESPONSE, name)
    value = value.encode() if isinstance(value, str) else value
    for written in (b'%b="%b"' % (name.encode(), value), b"%b=%b" % (name.encode(), value)):
        octets = octets.replace(written, b'%b=""' % name.encode())
    assert octets != FULL_RESPONSE.format()
    with pytest.raises(MalformedMessageError, match=f"the directive {name} is empty"):
        Response.parse(octets)


@pytest.mark.parametrize(
    ("message", "proof"),
    [
        (b"rspauth=abc", b"abc"),
        (b'RspAuth="abc"', b"abc"),
        (b"rspauth=abc,x=y", None),
        (b"x=y", None),
    ],
)
def test_a_proof_stands_alone(message: bytes, proof: bytes | None) -> None:
    assert parse_rspauth(message) == proof


def test_a_challenge_and_a_proof_stay_below_their_limit() -> None:
    octets = BARE + b",x="
    assert Challenge.parse(octets + b"y" * (2047 - len(octets))) == Challenge.parse(BARE)
    for parse in (Challenge.parse, parse_rspauth):
        with pytest.raises(MalformedMessageError, match="2048 octets is over the limit of 2047"):
            parse(octets + b"y" * (2048 - len(octets)))


def test_a_response_stays_below_its_limit() -> None:
    octets = BARE_RESPONSE.format() + b",x="
    assert Response.parse(octets + b"y" * (4095 - len(octets))) == BARE_RESPONSE
    with pytest.raises(MalformedMessageError, match="4096 octets is over the limit of 4095"):
        Response.parse(octets + b"y" * (4096 - len(octets)))
