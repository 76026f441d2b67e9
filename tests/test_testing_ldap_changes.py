"""Entries that are added, modified, deleted and compared, where `LDAPServer` lets clients do so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from saslwrap import DigestMD5Client
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode
from saslwrap.sync import authenticate_socket
from saslwrap.testing import LDAPServer, ldap_changes, ldap_directory
from saslwrap.testing.ldap_changes import apply_change
from saslwrap.testing.ldap_directory import Directory, DirectoryError, fold
from tests.ldap_bed import PASSWORD, USERS, connected, raw

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ldap3 takes old names of pyasn1
    ldap3 = pytest.importorskip("ldap3")

ROOT = "dc=example,dc=com"
ALICE = f"cn=Alice,{ROOT}"
BOB = f"cn=bob,{ROOT}"
ENTRIES: dict[str, dict[str, list[str | bytes]]] = {
    ROOT: {"dc": ["example"], "objectClass": ["domain"]},
    ALICE: {"cn": ["Alice", "Al"], "sn": ["Liddell"], "mail": ["a@x", "b@x"]},
}

ADD, DELETE, REPLACE = "MODIFY_ADD", "MODIFY_DELETE", "MODIFY_REPLACE"


@pytest.fixture
def server() -> Iterator[LDAPServer]:
    with LDAPServer(ENTRIES, USERS, writable=True).in_thread() as running:
        yield running


@pytest.fixture
def client(server: LDAPServer) -> Iterator[Any]:
    """ldap3, under a layer; it says how each request went in `result`."""
    mechanism = DigestMD5Client("alice", PASSWORD, service="ldap", host="localhost")
    connection = ldap3.Connection(ldap3.Server("localhost", server.port, get_info=ldap3.NONE))
    connection.open()
    connection.socket = authenticate_socket(connection.socket, LDAPBind(mechanism))
    yield connection
    connection.unbind()


def test_add(server: LDAPServer, client: Any) -> None:
    assert client.add(BOB, "person", {"cn": "bob", "jpegPhoto": [b"\xff\xd8", b"\0"]})
    assert server.entries[BOB] == {
        "objectClass": [b"person"],
        "cn": [b"bob"],
        "jpegPhoto": [b"\xff\xd8", b"\0"],
    }
    assert client.search(ROOT, "(jpegPhoto=*)")
    assert client.entries[0].entry_dn == BOB


@pytest.mark.parametrize(
    ("dn", "code", "matched"),
    [
        (ALICE.upper(), ResultCode.entryAlreadyExists, ""),
        (f"cn=x,ou=nowhere,{ROOT}", ResultCode.noSuchObject, ROOT),
        ("o=elsewhere", ResultCode.noSuchObject, ""),
    ],
)
def test_what_cannot_be_added(
    server: LDAPServer, client: Any, dn: str, code: ResultCode, matched: str
) -> None:
    before = server.entries
    assert not client.add(dn, "person")
    assert client.result["result"] == code
    assert client.result["dn"] == matched
    assert server.entries == before


def test_delete(server: LDAPServer, client: Any) -> None:
    assert client.search(ROOT, "(!(mail=x))")
    assert not client.delete(ROOT)
    assert client.result["result"] == ResultCode.notAllowedOnNonLeaf
    assert client.delete(ALICE.lower())
    assert list(server.entries) == [ROOT]
    assert not client.delete(ALICE)
    assert client.result["result"] == ResultCode.noSuchObject
    assert client.result["dn"] == ROOT
    assert not client.search(ROOT, "(!(mail=x))")  # nobody has one any more: it is unknown
    assert client.search("", "(namingContexts=*)", ldap3.BASE)
    assert client.delete(ROOT)
    assert not client.search("", f"(namingContexts={ROOT})", ldap3.BASE)
    assert server.entries == {}


@pytest.mark.parametrize(
    ("changes", "attribute", "values"),
    [
        ({"sn": [(ADD, ["Hargreaves"])]}, "sn", [b"Liddell", b"Hargreaves"]),
        ({"title": [(ADD, ["Ms", "Dr"])]}, "title", [b"Ms", b"Dr"]),
        ({"MAIL": [(DELETE, ["A@X"])]}, "MAIL", [b"b@x"]),
        ({"mail": [(DELETE, [])]}, "mail", None),
        ({"mail": [(DELETE, ["a@x", "b@x"])]}, "mail", None),
        ({"mail": [(REPLACE, ["c@x"])]}, "mail", [b"c@x"]),
        ({"mail": [(REPLACE, [])]}, "mail", None),
        ({"title": [(REPLACE, [])]}, "title", None),
        ({"mail": [(DELETE, ["a@x"]), (ADD, ["c@x"])]}, "mail", [b"b@x", b"c@x"]),
        ({"cn": [(DELETE, ["al"])]}, "cn", [b"Alice"]),
    ],
    ids=str,
)
def test_modify(
    server: LDAPServer, client: Any, changes: Any, attribute: str, values: list[bytes] | None
) -> None:
    assert client.modify(ALICE, changes)
    assert server.entries[ALICE].get(attribute) == values


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mail": [(ADD, ["A@x"])]}, ResultCode.attributeOrValueExists),
        ({"title": [(ADD, ["x", "X"])]}, ResultCode.attributeOrValueExists),
        ({"title": [(ADD, [])]}, ResultCode.protocolError),
        ({"title": [(DELETE, [])]}, ResultCode.noSuchAttribute),
        ({"mail": [(DELETE, ["a@x", "z@x"])]}, ResultCode.noSuchAttribute),
        ({"cn": [(REPLACE, ["Alicia"])]}, ResultCode.notAllowedOnRDN),
        ({"uid": [("MODIFY_INCREMENT", ["1"])]}, ResultCode.protocolError),
        ({"sn": [(REPLACE, ["x"])], "title": [(DELETE, ["y"])]}, ResultCode.noSuchAttribute),
    ],
    ids=str,
)
def test_what_cannot_be_modified(
    server: LDAPServer, client: Any, changes: Any, code: ResultCode
) -> None:
    before = server.entries
    assert not client.modify(ALICE, changes)
    assert client.result["result"] == code
    assert server.entries == before


def modification(operation: int, attribute: str, value: bytes) -> dict[str, Any]:
    return {"operation": operation, "modification": {"type": attribute.encode(), "vals": [value]}}


def test_many_changes_cost_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is brought into its form to compare once as it comes, and once as it goes."""
    work = 0

    def counting(value: bytes) -> str:
        nonlocal work
        work += 1
        return fold(value)

    values = [b"v%d" % number for number in range(1000)]
    changes = [modification(0, "mail", value) for value in values]
    changes += [modification(1, "MAIL", value) for value in values[1:]]
    modify = ("modify", {"object": ALICE.encode(), "changes": changes})
    pdu = ldap_changes._codec().encode("Message", {"messageID": 1, "protocolOp": modify})
    directory = Directory(ENTRIES, {})
    for module in (ldap_changes, ldap_directory):
        monkeypatch.setattr(module, "fold", counting)
    assert apply_change(pdu, directory) == ResultCode.success
    assert directory.data[ALICE]["MAIL"] == [b"a@x", b"b@x", b"v0"]
    assert work < 3 * len(values)


class Entries(dict[Any, Any]):
    """Entries that are found by name, and not gone through."""

    def __iter__(self) -> NoReturn:
        pytest.fail("this takes time by the number of entries")

    keys = values = items = __iter__


def test_a_change_does_not_go_through_all_entries() -> None:
    directory: Any = Directory(ENTRIES, {})
    directory._entries = Entries(directory._entries)
    directory.add(BOB.encode(), {"cn": ["bob"]})
    directory.replace(BOB.encode(), directory.entry(BOB.encode()).attributes)
    directory.remove(BOB.encode())
    with pytest.raises(DirectoryError, match="entries below it"):
        directory.remove(ROOT.encode())
    directory.remove(ALICE.encode())
    directory.remove(ROOT.encode())
    assert len(directory._entries) == len(directory._below) == 0


class Folded(str):
    """A value in the form to compare, which counts how often it was compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Folded.compared += 1
        return str.__eq__(self, other)


def test_a_comparison_does_not_go_through_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folded, "compared", 0)
    for module in (ldap_changes, ldap_directory):
        monkeypatch.setattr(module, "fold", lambda value: Folded(fold(value)))
    values: list[str | bytes] = [f"v{number}" for number in range(1000)]
    directory = Directory({ALICE: {"mail": values}}, {})
    before = Folded.compared
    for value, code in ((b"V999", ResultCode.compareTrue), (b"none", ResultCode.compareFalse)):
        assertion = {"attributeDesc": b"mail", "assertionValue": value}
        request = ("compare", {"entry": ALICE.encode(), "ava": assertion})
        pdu = ldap_changes._codec().encode("Message", {"messageID": 1, "protocolOp": request})
        assert apply_change(pdu, directory) == code
    assert Folded.compared - before < 50


def test_what_is_not_there_cannot_be_modified(client: Any) -> None:
    assert not client.modify(BOB, {"sn": [(ADD, ["x"])]})
    assert client.result["result"] == ResultCode.noSuchObject
    assert not client.modify_dn(ALICE, "cn=Alicia")
    assert client.result["result"] == ResultCode.unwillingToPerform


def test_compare(client: Any) -> None:
    assert client.compare(ALICE, "MAIL", "B@x") is True
    assert client.compare(ALICE, "mail", "c@x") is False
    client.compare(ALICE, "title", "Ms")
    assert client.result["result"] == ResultCode.noSuchAttribute
    client.compare(BOB, "cn", "bob")
    assert client.result["result"] == ResultCode.noSuchObject


def test_what_a_search_has_begun_with_it_ends_with() -> None:
    directory = Directory(ENTRIES, {})
    request = {"scope": 2, "baseObject": b"", "filter": ("present", b"objectClass")}
    found = directory.search(request)
    assert next(found).dn == ROOT
    directory.remove(ALICE.encode())
    assert [entry.dn for entry in found] == [ALICE]


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (raw(0x66), ResultCode.protocolError),
        (raw(0x66, b"\x04\x01x"), ResultCode.protocolError),
        (raw(0x66, b"\x04\x00\x30\x00"), ResultCode.unwillingToPerform),
        (raw(0x68, b"\x04\x00\x30\x00"), ResultCode.entryAlreadyExists),
        (raw(0x68, b"\x04\x04cn=x\x30\x00\x30\x05\x30"), ResultCode.noSuchObject),
        (raw(0x68, b"\x04\x04cn=x\x30\x07\x30\x05\x04\x01a\x31\x00"), ResultCode.protocolError),
        (raw(0x68, b"\x04\x04cn=x\x30\x07\x30\x05\x04\x01\xff\x31\x00"), 17),
        (raw(0x4A, b"\xff"), ResultCode.invalidDNSyntax),
        (raw(0x4A, b"x"), ResultCode.invalidDNSyntax),
        (raw(0x4A), ResultCode.notAllowedOnNonLeaf),
        (raw(0x6E, b"\x04\x00\x30\x06\x04\x01a\x04\x01b"), ResultCode.noSuchAttribute),
        (raw(0x6E, b"\x04\x00\x30\x05\x04\x00\x04\x01b"), 17),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
def test_requests_that_make_no_sense(pdu: bytes, code: int) -> None:
    directory = Directory(ENTRIES, {})
    with pytest.raises(DirectoryError) as caught:
        apply_change(pdu, directory)
    assert caught.value.code == code
    assert list(directory.data) == [ROOT, ALICE]


@pytest.mark.anyio
async def test_a_broken_change_does_not_end_the_connection() -> None:
    async with connected(LDAPServer(ENTRIES, USERS, writable=True)) as client:
        await client.log_in()
        await client.stream.send(raw(0x66, b"\x04\x01x"))
        response = await client.stream.receive()
        assert response[5] == 0x67
        assert (await client.search(ALICE))[1]["resultCode"] == ResultCode.success
        await client.stream.send(raw(0x5F))
        assert await client.notice() == ResultCode.protocolError


@pytest.mark.anyio
async def test_nobody_changes_anything_before_a_login() -> None:
    async with connected(LDAPServer(ENTRIES, USERS, writable=True)) as client:
        await client.stream.send(raw(0x4A, ALICE.encode()))
        assert (await client.stream.receive())[9] == ResultCode.strongerAuthRequired
