"""The LDAP server for tests: searches, and the directory that is searched."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from anyio import create_task_group

from saslwrap import SecurityProperties, UsageError
from saslwrap.protocols.ldap_messages import ResultCode, encode
from saslwrap.testing import LDAPServer
from saslwrap.testing.ldap_directory import Directory, DirectoryError, parse_dn
from saslwrap.testing.streams import MemoryStream, memory_stream_pair
from tests.ldap_bed import (
    ALICE,
    ANYTHING,
    BASE,
    BOB,
    ENTRIES,
    ONE,
    PEOPLE,
    ROOT,
    SUBTREE,
    USERS,
    Client,
    anyio_backend,
    connected,
    logged_in,
    search_request,
)

__all__ = ["anyio_backend"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("base", "scope", "found"),
    [
        (PEOPLE, BASE, [PEOPLE]),
        (PEOPLE, ONE, [ALICE, BOB]),
        (PEOPLE, SUBTREE, [PEOPLE, ALICE, BOB]),
        ("", ONE, ["o=Elsewhere"]),
        ("", SUBTREE, list(ENTRIES)),
        (" OU = people , DC=Example,dc=COM ", BASE, [PEOPLE]),
    ],
)
async def test_scopes(base: str, scope: int, found: list[str]) -> None:
    async with logged_in() as client:
        entries, done = await client.search(base, scope)
        assert list(entries) == found
        assert done["resultCode"] == ResultCode.success


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("base", "scope", "code", "matched_dn"),
    [
        (f"cn=x,cn=y,{PEOPLE}", BASE, ResultCode.noSuchObject, PEOPLE),
        ("dc=com", SUBTREE, ResultCode.noSuchObject, ""),
        ("dc=org", ONE, ResultCode.noSuchObject, ""),
        ("a=," * 80_000 + "a=", BASE, ResultCode.noSuchObject, ""),
        ("nonsense", BASE, ResultCode.invalidDNSyntax, ""),
        (ROOT, 3, ResultCode.protocolError, ""),
    ],
    ids=["child", "above", "beside", "deep", "syntax", "scope"],
)
async def test_searches_that_cannot_start(
    base: str, scope: int, code: ResultCode, matched_dn: str
) -> None:
    async with logged_in() as client:
        entries, done = await client.search(base, scope)
        assert entries == {}
        assert (done["resultCode"], done["matchedDN"].decode()) == (code, matched_dn)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("attributes", "selected"),
    [
        ([], ["objectClass", "cn", "uidNumber"]),
        ([b"*"], ["objectClass", "cn", "uidNumber"]),
        ([b"+"], []),
        ([b"1.1"], []),
        ([b"CN", b"nothing"], ["cn"]),
        ([b"1.1", b"cn"], ["cn"]),
    ],
    ids=str,
)
async def test_selected_attributes(attributes: list[bytes], selected: list[str]) -> None:
    async with logged_in() as client:
        entries, _ = await client.search(BOB, BASE, ANYTHING, attributes)
        assert list(entries[BOB]) == selected


@pytest.mark.anyio
async def test_types_only() -> None:
    async with logged_in() as client:
        entries, _ = await client.search(BOB, types_only=True)
        assert entries[BOB] == {"objectClass": [], "cn": [], "uidNumber": []}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "number", "code"),
    [
        (1, 1, ResultCode.sizeLimitExceeded),
        (4, 4, ResultCode.sizeLimitExceeded),
        (5, 5, ResultCode.success),
        (0, 5, ResultCode.success),
    ],
)
async def test_size_limit(limit: int, number: int, code: ResultCode) -> None:
    async with logged_in() as client:
        entries, done = await client.search("", SUBTREE, size_limit=limit)
        assert (len(entries), done["resultCode"]) == (number, code)


class Counting(MemoryStream):
    """Counts what the server sends."""

    sends: ClassVar[list[int]] = []

    async def send(self, item: bytes) -> None:
        self.sends.append(len(item))
        await super().send(item)


@pytest.mark.anyio
async def test_many_entries_in_few_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {f"cn={n}": {"cn": [str(n)], "description": ["x" * 40]} for n in range(10_000)}
    monkeypatch.setattr(Counting, "sends", [])
    ours, theirs = memory_stream_pair()
    theirs.__class__ = Counting
    server = LDAPServer(entries, USERS)
    async with create_task_group() as tasks, ours:
        tasks.start_soon(server.serve, theirs)
        client = Client(ours)
        await client.log_in()
        found, _ = await client.search("", SUBTREE)
    assert len(found) == 10_000
    assert len(Counting.sends) < 100
    assert max(Counting.sends) < 40_000


@pytest.mark.anyio
async def test_a_client_that_does_not_read_holds_up_nothing_but_itself() -> None:
    server = LDAPServer({f"cn={n}": {"x": ["x" * 1000]} for n in range(1000)}, USERS)
    async with connected(server, 5000) as slow, connected(server) as fast:
        await slow.log_in()
        await slow.stream.send(encode(90, "searchRequest", search_request("", SUBTREE)))
        await fast.log_in()
        found, _ = await fast.search("", SUBTREE)
        assert len(found) == 1000


@pytest.mark.anyio
async def test_an_entry_over_the_clients_maxbuf() -> None:
    server = LDAPServer({"cn=x": {"description": ["y" * 4096]}}, USERS)
    async with connected(server) as client:
        await client.log_in(properties=SecurityProperties(max_buffer=2048))
        entries, _ = await client.search("cn=x")
        assert entries["cn=x"]["description"] == [b"y" * 4096]


def equal(attribute: bytes, value: bytes, kind: str = "equalityMatch") -> Any:
    return kind, {"attributeDesc": attribute, "assertionValue": value}


def substrings(*pieces: tuple[str, bytes], attribute: bytes = b"cn") -> Any:
    return "substrings", {"type": attribute, "substrings": list(pieces)}


UNDEFINED = equal(b"nickname", b"x")

ALICE_ONLY = equal(b"CN", b"aLICE")

EXTENSIBLE = ("extensibleMatch", {"type": b"cn", "matchValue": b"Bob", "dnAttributes": False})


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory(ENTRIES, {"supportedLDAPVersion": ["3"]})


def found(directory: Directory, search_filter: Any) -> list[str]:
    request = search_request("", SUBTREE, search_filter)
    return [entry.dn for entry in directory.search(request)]


@pytest.mark.parametrize(
    ("search_filter", "dns"),
    [
        (ALICE_ONLY, [ALICE]),
        (equal(b"cn", b"alice", "approxMatch"), [ALICE]),
        (equal(b"cn", b"ali"), []),
        (equal(b"jpegPhoto", b"\xff\xd8\xff"), [ALICE]),
        (("present", b"cn"), [ALICE, BOB]),
        (("not", ("present", b"cn")), [ROOT, PEOPLE, "o=Elsewhere"]),
        (("not", ALICE_ONLY), [ROOT, PEOPLE, BOB, "o=Elsewhere"]),
        (equal(b"uidNumber", b"1000", "greaterOrEqual"), [ALICE]),
        (equal(b"uidNumber", b"01000", "lessOrEqual"), [ALICE, BOB]),
        (equal(b"cn", b"b", "greaterOrEqual"), [BOB]),
        (equal(b"cn", b"b", "lessOrEqual"), [ALICE]),
        (("and", [ALICE_ONLY, ("present", b"uidNumber")]), [ALICE]),
        (("and", [ALICE_ONLY, equal(b"cn", b"bob")]), []),
        (("and", []), list(ENTRIES)),
        (("or", [ALICE_ONLY, equal(b"cn", b"bob")]), [ALICE, BOB]),
        (("or", []), []),
        (substrings(("initial", b"al")), [ALICE]),
        (substrings(("any", b"I")), [ALICE]),
        (substrings(("final", b"b")), [BOB]),
        (substrings(("initial", b"alice"), ("any", b"idd"), ("final", b"ELL")), [ALICE]),
        (substrings(("initial", b"bo"), ("final", b"ob")), []),
        (substrings(("any", b"lid"), ("any", b"lid")), []),
    ],
    ids=str,
)
def test_filters(directory: Directory, search_filter: Any, dns: list[str]) -> None:
    assert found(directory, search_filter) == dns


@pytest.mark.parametrize(
    "undefined",
    [
        UNDEFINED,
        ("present", b"nickname"),
        substrings(("any", b"x"), attribute=b"nickname"),
        EXTENSIBLE,
        (None, None),
    ],
    ids=str,
)
def test_undefined(directory: Directory, undefined: Any) -> None:
    assert found(directory, undefined) == []
    assert found(directory, ("not", undefined)) == []
    assert found(directory, ("or", [undefined, ALICE_ONLY])) == [ALICE]
    assert found(directory, ("not", ("or", [undefined, ALICE_ONLY]))) == []
    assert found(directory, ("and", [undefined, ALICE_ONLY])) == []
    negated = found(directory, ("not", ("and", [undefined, ALICE_ONLY])))
    assert negated == [dn for dn in ENTRIES if dn != ALICE]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=Alice,dc=com", " CN = alice , DC = COM "),
        ("cn=a b,dc=com", "cn=a  b,dc=com"),
        (r"cn=a\2Cb", r"cn=a\,b"),
        (r"cn=\C3\BCrgen", "cn=ürgen"),
        (r"cn=\"x\"", r"cn=\22x\22"),
        ("cn=a+sn=b,dc=com", "SN=B + cn=a,dc=com"),
        ("cn=STRASSE", "cn=straße"),
        ("", "  "),
    ],
)
def test_equal_names(one: str, other: str) -> None:
    assert parse_dn(one) == parse_dn(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cn=a,cn=b", "cn=b,cn=a"), ("cn=a+sn=b", "cn=a,sn=b"), ("cn=a", "cn=a,cn=a"), ("cn=", "")],
)
def test_different_names(one: str, other: str) -> None:
    assert parse_dn(one) != parse_dn(other)


@pytest.mark.parametrize("text", ["x", "=x", "cn=a,", ",cn=a", "cn=a,,cn=b", "cn=a\\", "cn=a+"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"a name ends|a part of a name"):
        parse_dn(text)


def test_a_name_full_of_escapes_is_read_in_no_time() -> None:
    assert parse_dn(r"cn=" + r"\aa" * 50_000)
    with pytest.raises(ValueError, match="backslash"):
        parse_dn(r"cn=" + r"\aa" * 50_000 + "\\")


def test_a_base_that_is_not_utf_8(directory: Directory) -> None:
    with pytest.raises(DirectoryError) as caught:
        directory.search({**search_request(), "baseObject": b"cn=\xff"})
    assert caught.value.code is ResultCode.invalidDNSyntax


@pytest.mark.parametrize(
    "entries",
    [
        {"nonsense": {"cn": ["x"]}},
        {"": {"cn": ["x"]}},
        {"cn=x": {"cn": ["x"]}, "CN=X": {"cn": ["x"]}},
        {"cn=x": {"cn": "x"}},
        {"cn=x": {"cn": b"x"}},
        {"cn=x": {"cn": None}},
        {"cn=x": {"cn": [5]}},
        {"cn=x": {5: ["x"]}},
        {"cn=x": {"cn": ["\ud800"]}},
        {"cn=x": {"\ud800": ["x"]}},
        {"cn=\udc80": {"cn": ["x"]}},
        {"cn=x": None},
        {5: {}},
        None,
    ],
    ids=ascii,
)
def test_entries_that_are_wrong(entries: Any) -> None:
    with pytest.raises(UsageError):
        LDAPServer(entries, {})


def test_an_attribute_in_two_spellings_loses_no_value() -> None:
    match = "'dc=x' has cn and CN, one attribute: give all its values in one list"
    with pytest.raises(UsageError, match=match):
        LDAPServer({"dc=x": {"cn": ["x"], "sn": ["y"], "CN": ["two"]}})


def test_no_entries() -> None:
    assert list(Directory({}, {}).search(search_request("", SUBTREE))) == []
