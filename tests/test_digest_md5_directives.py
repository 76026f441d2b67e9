from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.digest_md5.directives import (
    Directives,
    format_directives,
    parse_directives,
    quote,
)
from saslwrap.mechanisms.digest_md5.messages import (
    CHALLENGE_LIMIT,
    RESPONSE_LIMIT,
    Challenge,
    Response,
    parse_rspauth,
)
from tests.vectors.reference import Login

LIMIT = 4096
LWS = [b" ", b"\t", b"\r\n ", b"\r\n\t", b" \t \r\n  ", b"\n", b"\r"]
CONTROLS = [bytes([octet]) for octet in (*range(0x20), 0x7F)]
PLAIN_CONTROLS = [octet for octet in CONTROLS if octet not in (b"\t", b"\n", b"\r")]


def parse(message: bytes) -> dict[str, list[bytes]]:
    directives = parse_directives(message, LIMIT)
    return {name: directives.all(name) for name in directives}


def value(message: bytes) -> bytes:
    return parse_directives(message, LIMIT).required("a")


@pytest.mark.parametrize(
    ("message", "directives"),
    [
        (b"a=b", {"a": [b"b"]}),
        (b"a=b,c=d", {"a": [b"b"], "c": [b"d"]}),
        (b'a="b",c="d"', {"a": [b"b"], "c": [b"d"]}),
        (b"a=b,a=c", {"a": [b"b", b"c"]}),
        (b'a=""', {"a": [b""]}),
        (b"nonce-2.x!#$%&'*+^_`|~=1", {"nonce-2.x!#$%&'*+^_`|~": [b"1"]}),
        (b"digest-uri=ldap/localhost", {"digest-uri": [b"ldap/localhost"]}),
        (b"nonce=AbC+/==", {"nonce": [b"AbC+/=="]}),
        (b"qop=\xc3\xbc", {"qop": [b"\xc3\xbc"]}),
    ],
)
def test_a_list_is_taken_apart(message: bytes, directives: dict[str, list[bytes]]) -> None:
    assert parse(message) == directives


@pytest.mark.parametrize(
    "message",
    [b"a=b,, ,c=d", b",a=b,c=d", b"a=b,c=d,", b" , ,,a=b ,\t, c=d , ,", b"a=b,c=d\r\n"],
)
def test_null_elements_count_for_nothing(message: bytes) -> None:
    assert parse(message) == {"a": [b"b"], "c": [b"d"]}


@pytest.mark.parametrize("message", [b"", b",", b" ", b",, ,", b"\r\n"])
def test_one_real_element_is_needed(message: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="no directive"):
        parse(message)


@pytest.mark.parametrize("lws", LWS, ids=repr)
@pytest.mark.parametrize("quoted", [b"b", b'"b"'], ids=["token", "quoted"])
def test_white_space_may_stand_around_each_part(lws: bytes, quoted: bytes) -> None:
    message = lws + b"a" + lws + b"=" + lws + quoted + lws + b"," + lws + b"c=d" + lws
    assert parse(message) == {"a": [b"b"], "c": [b"d"]}


@pytest.mark.parametrize(
    "inner", [b" b ", b"\tb", b"b  c", b",", b"b=c,d=e", b"=", b"()<>@;:/[]?{}"]
)
def test_all_is_data_inside_quotes(inner: bytes) -> None:
    assert value(b'a="%b",x=y' % inner) == inner


@pytest.mark.parametrize(
    ("quoted", "unescaped"),
    [
        (rb'"\""', b'"'),
        (rb'"\\"', b"\\"),
        (rb'"\\\""', b'\\"'),
        (rb'"a\\b\"c"', b'a\\b"c'),
        (rb'"\b\,"', b"b,"),
        (rb'"\\u"', b"\\u"),
    ],
)
def test_the_value_is_the_unescaped_one(quoted: bytes, unescaped: bytes) -> None:
    assert value(b"a=" + quoted) == unescaped


@pytest.mark.parametrize(
    ("quoted", "lenient"),
    [
        (rb'"DOMAIN\user"', rb"DOMAIN\user"),
        (rb'"DOMAIN\\user"', rb"DOMAIN\user"),
        (rb'"a\"b\c"', rb'a"b\c'),
        (rb'"\\\x"', rb"\\x"),
        (rb"plain", rb"plain"),
    ],
)
def test_a_lone_backslash_is_kept_for_those_who_ask(quoted: bytes, lenient: bytes) -> None:
    assert parse_directives(b"a=" + quoted, LIMIT)["a"][0].lenient == lenient


@pytest.mark.parametrize("name", [b"NONCE", b"Nonce", b"nOnCe"])
def test_names_have_no_case(name: bytes) -> None:
    assert parse(name + b"=X") == {"nonce": [b"X"]}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"a", id="a name alone"),
        pytest.param(b"a,b=c", id="a name alone, first"),
        pytest.param(b"=b", id="no name"),
        pytest.param(b"a=", id="no value"),
        pytest.param(b"a=,b=c", id="no value, first"),
        pytest.param(b'a="b', id="unterminated"),
        pytest.param(b'a="b\\', id="backslash at the end"),
        pytest.param(b'a="b\\"', id="its last quote escaped"),
        pytest.param(b'a="b\\",c=d', id="the quote before a comma escaped"),
        pytest.param(b'a="x" b=y', id="no comma after quotes"),
        pytest.param(b'a="x"b=y', id="no comma at all"),
        pytest.param(b"a=x b=y", id="no comma after a token"),
        pytest.param(b'a="x"y', id="text after quotes"),
        pytest.param(b'a=x"y"', id="quotes after text"),
        pytest.param(b'a=b"', id="a quote in a token"),
        pytest.param(b"a=b\\c", id="a backslash in a token"),
        pytest.param(b'"a"=b', id="a quoted name"),
        pytest.param(b"a b=c", id="a space in a name"),
        pytest.param(b"a;b=c", id="a separator in a name"),
        pytest.param(b"{a}=c", id="braces in a name"),
        pytest.param(b"a;b", id="another separator of elements"),
    ],
)
def test_what_breaks_the_grammar_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="does not parse at octet"):
        parse(message)
    with pytest.raises(MalformedMessageError, match="does not parse at octet"):
        parse(b"x=y," + message)


@pytest.mark.parametrize("control", PLAIN_CONTROLS, ids=repr)
@pytest.mark.parametrize(
    "template", [b'a="b%bc"', b"a=b%bc", b"a%b=b", b"a=b,%bc=d", b'a="b\\%bc"', b"a=b%b"]
)
def test_control_characters_are_refused(template: bytes, control: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse(template % control)


@pytest.mark.parametrize("control", [b"\r", b"\n", b"\t"], ids=repr)
@pytest.mark.parametrize("template", [b"a=b%bc", b"a%bb=c"])
def test_white_space_is_no_part_of_a_token(template: bytes, control: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse(template % control)


@pytest.mark.parametrize("limit", [CHALLENGE_LIMIT, RESPONSE_LIMIT])
def test_a_message_stays_below_its_limit(limit: int) -> None:
    assert parse_directives(b"a=".ljust(limit - 1, b"x"), limit).one("a")
    with pytest.raises(MalformedMessageError, match=f"{limit} octets is over .* {limit - 1}"):
        parse_directives(b"a=".ljust(limit, b"x"), limit)


def test_the_limit_is_judged_before_the_text() -> None:
    with pytest.raises(MalformedMessageError, match="over the limit"):
        parse_directives(b"\0" * LIMIT, LIMIT)


def padded(message: bytes, length: int) -> bytes:
    return message + b",x=".ljust(length - len(message), b"x")


@pytest.mark.parametrize(
    ("parser", "message", "limit"),
    [
        (Challenge.parse, Login().challenge(), 2048),
        (Response.parse, Login().message(), 4096),
        (parse_rspauth, Login().proof, 2048),
    ],
    ids=["challenge", "response", "rspauth"],
)
def test_each_message_has_its_own_limit(parser: Any, message: bytes, limit: int) -> None:
    parser(padded(message, limit - 1))
    with pytest.raises(MalformedMessageError, match="over the limit"):
        parser(padded(message, limit))


def test_an_error_shows_no_text_of_the_message() -> None:
    with pytest.raises(MalformedMessageError) as caught:
        parse(b'response=0123456789abcdef,username="alice')
    assert "alice" not in str(caught.value)
    assert "0123" not in str(caught.value)


# ---------------------------------------------------------------- taking values out

SAMPLE = parse_directives(b'once=1,twice=1,TWICE=2,list=" A,b,, C ",empty="",raw="\xc3\xbc"', LIMIT)


def test_a_directive_that_may_repeat_gives_all() -> None:
    assert SAMPLE.all("twice") == [b"1", b"2"]
    assert SAMPLE.all("absent") == []


def test_a_directive_that_stands_once() -> None:
    assert SAMPLE.one("once") == SAMPLE.required("once") == b"1"
    assert SAMPLE.one("absent") is None


@pytest.mark.parametrize(
    "take",
    [
        Directives.one,
        Directives.required,
        lambda it, name: it.keyword(name, ""),
        lambda it, name: it.keywords(name, ""),
    ],
    ids=["one", "required", "keyword", "keywords"],
)
def test_a_repeated_directive_is_refused_where_one_is_meant(take: Any) -> None:
    with pytest.raises(MalformedMessageError, match="twice stands 2 times"):
        take(SAMPLE, "twice")


def test_a_missing_directive_is_refused_where_it_is_required() -> None:
    with pytest.raises(MalformedMessageError, match="absent is missing"):
        SAMPLE.required("absent")


def test_keywords_have_no_case() -> None:
    assert SAMPLE.keyword("once", "default") == "1"
    assert SAMPLE.keyword("absent", "default") == "default"
    assert SAMPLE.keywords("list", "default") == ["a", "b", "c"]
    assert SAMPLE.keywords("absent", "default") == ["default"]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="empty lists nothing"):
        SAMPLE.keywords("empty", "default")


def test_a_keyword_beyond_ascii_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="raw is not ASCII") as caught:
        SAMPLE.keyword("raw", "")
    assert caught.value.__context__ is None


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("text", "quoted"),
    [(b"", b'""'), (b"a b", b'"a b"'), (b'"', rb'"\""'), (b"\\", rb'"\\"'), (b'\\"', rb'"\\\""')],
)
def test_quotes_and_backslashes_alone_are_escaped(text: bytes, quoted: bytes) -> None:
    assert quote(text) == quoted


def test_a_message_is_written_in_the_given_order_without_what_is_none() -> None:
    assert format_directives([("b", b"1"), ("c", None), ("a", quote(b"2"))]) == b'b=1,a="2"'


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
VALUES = st.binary(max_size=60).map(
    lambda raw: bytes(octet for octet in raw if octet >= 0x20 and octet != 0x7F)
)


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=12))
@example([("username", b'DOMAIN\\us"er,realm="x')])
def test_what_is_written_is_read_back(directives: list[tuple[str, bytes]]) -> None:
    message = format_directives((name, quote(value)) for name, value in directives)
    wanted: dict[str, list[bytes]] = {}
    for name, text in directives:
        wanted.setdefault(name, []).append(text)
    assert parse(message) == wanted
    read = parse_directives(message, LIMIT)
    assert {name: [it.lenient for it in values] for name, values in read.items()} == wanted


SHARDS = st.sampled_from(
    [b"a", b"=", b",", b'"', b"\\", b" ", b"\t", b"\r\n", b"\0", b"\x7f", b"\xff", b"nonce", b"qop"]
)


@given(st.binary(max_size=200) | st.lists(SHARDS, max_size=40).map(b"".join))
def test_any_octets_give_a_result_or_a_malformed_message(message: bytes) -> None:
    with suppress(MalformedMessageError):
        assert any(parse_directives(message, LIMIT).values())


PIECES = st.sampled_from(
    [
        *Login().challenge().split(b","),
        *Login().message(maxbuf="65536", authzid='"u:bob"').split(b","),
        Login().proof,
        b"x=y",
        b"",
    ]
)


@pytest.mark.parametrize("parser", [Challenge.parse, Response.parse, parse_rspauth])
@given(st.lists(PIECES, max_size=16).map(b",".join) | st.binary(max_size=100))
def test_any_message_gives_a_result_or_is_malformed(parser: Any, message: bytes) -> None:
    with suppress(MalformedMessageError):
        parser(message)
