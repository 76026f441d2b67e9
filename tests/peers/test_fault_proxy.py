"""Faults between a client and a server of which one is not ours: ldapsearch here, slapd there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import BrokenResourceError, connect_tcp, fail_after

from saslwrap import DigestMD5Client, SecurityProperties
from saslwrap.anyio import authenticate
from saslwrap.errors import FrameTooLargeError, IntegrityError, OutOfSequenceError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import (
    SEGMENTATIONS,
    AfterLogin,
    Chain,
    Drop,
    Fault,
    FaultProxy,
    FlipBit,
    InjectBefore,
    LDAPServer,
    OneOctet,
    Reflect,
    Replay,
    Swap,
    WrongLength,
    segmentation,
)
from tests.peers.directory import ALICE, LARGE_DN, LARGE_ENTRIES, large_dn, large_value
from tests.peers.ldap_client import ONE_LEVEL, LDAPClient
from tests.peers.slapd import ldapsearch
from tests.peers.support import require_program, require_sasl_plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.slapd import Slapd

pytestmark = pytest.mark.timeout(60)

ENTRIES = {
    "dc=example,dc=com": {"objectClass": ["dcObject", "organization"], "dc": ["example"]},
    LARGE_DN: {"objectClass": ["organizationalUnit"], "ou": ["large"]},
    **{
        large_dn(number): {"cn": [f"large-{number}"], "description": [large_value(number)]}
        for number in range(LARGE_ENTRIES)
    },
}

HARM: dict[str, Callable[[], Fault]] = {
    "flip a bit": lambda: FlipBit(octet=20),
    "replay": Replay,
    "drop": Drop,
    "swap": Swap,
    "reflect": Reflect,
    "cleartext": InjectBefore,
    "length": lambda: WrongLength(lambda true: true - 1),
}
"""What strikes the first frame behind the login."""


@pytest.fixture(autouse=True)
def _sasl() -> None:
    require_sasl_plugin("digestmd5")


@pytest.fixture(scope="module")
def server() -> Iterator[LDAPServer]:
    users = {ALICE.username: ALICE.password}
    properties = SecurityProperties(min_ssf=0, ciphers=("rc4",))
    with LDAPServer(ENTRIES, users, properties=properties).in_thread() as running:
        yield running


STRENGTHS = ["minssf=1,maxssf=1", "minssf=128,maxssf=128"]


@pytest.mark.parametrize("security", STRENGTHS)
@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_ldapsearch_and_our_server_bear_any_segmentation(
    server: LDAPServer, name: str, security: str
) -> None:
    require_program("ldapsearch")
    proxy = FaultProxy(
        "127.0.0.1",
        server.port,
        to_server=lambda: segmentation(name, 1),
        to_client=lambda: segmentation(name, 2),
    )
    with proxy.in_thread():
        done = ldapsearch(f"ldap://localhost:{proxy.port}", security=security)
    assert done.returncode == 0, done.stderr
    assert all(large_value(number).encode() in done.stdout for number in range(LARGE_ENTRIES))


@pytest.mark.parametrize("security", STRENGTHS)
@pytest.mark.parametrize("name", ["flip a bit", "replay", "reflect", "cleartext", "length"])
def test_our_server_answers_nothing_that_ldapsearch_did_not_send(
    server: LDAPServer, name: str, security: str
) -> None:
    require_program("ldapsearch")
    proxy = FaultProxy("127.0.0.1", server.port, to_server=lambda: AfterLogin(HARM[name]()))
    with proxy.in_thread():
        done = ldapsearch(f"ldap://localhost:{proxy.port}", security=security)
    if name == "replay":  # the answers to the first may be there before the second comes
        assert done.stdout.count(large_value(0).encode()) <= 1
    else:
        assert done.returncode != 0
        assert done.stdout == b""


@pytest.mark.parametrize("security", STRENGTHS)
def test_ldapsearch_notices_what_was_altered(server: LDAPServer, security: str) -> None:
    require_program("ldapsearch")
    proxy = FaultProxy("127.0.0.1", server.port, to_client=lambda: AfterLogin(FlipBit(octet=20)))
    with proxy.in_thread():
        done = ldapsearch(f"ldap://localhost:{proxy.port}", security=security)
    assert done.returncode != 0
    assert done.stdout == b""


ERRORS = {
    "flip a bit": IntegrityError,
    "replay": OutOfSequenceError,
    "drop": OutOfSequenceError,
    "swap": OutOfSequenceError,
    "cleartext": FrameTooLargeError,
    "length": IntegrityError,
}


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "octets"])
@pytest.mark.parametrize("name", ERRORS)
async def test_our_client_takes_nothing_that_slapd_did_not_send(
    slapd: Slapd, name: str, cut: bool
) -> None:
    def make() -> Fault:
        return AfterLogin(Chain(HARM[name](), OneOctet()) if cut else HARM[name]())

    async with (
        FaultProxy(slapd.address, slapd.port, to_client=make) as proxy,
        await connect_tcp("127.0.0.1", proxy.port) as tcp,
    ):
        mechanism = DigestMD5Client(
            ALICE.username, ALICE.password, service="ldap", host="localhost"
        )
        with fail_after(30):
            client = LDAPClient(await authenticate(tcp, LDAPBind(mechanism)))
            with pytest.raises(BrokenResourceError) as caught:
                await client.search(LARGE_DN, scope=ONE_LEVEL)
    assert type(caught.value.__cause__) is ERRORS[name]


@pytest.mark.anyio
@pytest.mark.parametrize("name", SEGMENTATIONS)
async def test_our_client_and_slapd_bear_any_segmentation(slapd: Slapd, name: str) -> None:
    async with (
        FaultProxy(
            slapd.address,
            slapd.port,
            to_server=lambda: segmentation(name, 3),
            to_client=lambda: segmentation(name, 4),
        ) as proxy,
        await connect_tcp("127.0.0.1", proxy.port) as tcp,
    ):
        mechanism = DigestMD5Client(
            ALICE.username, ALICE.password, service="ldap", host="localhost"
        )
        with fail_after(30):
            client = LDAPClient(await authenticate(tcp, LDAPBind(mechanism)))
            found = (await client.search(LARGE_DN, scope=ONE_LEVEL)).values()
    assert found == {large_dn(number): large_value(number) for number in range(LARGE_ENTRIES)}
