"""What Active Directory, as Samba has it, refuses; what we make of it; and that life goes on.

With TLS below there may be no layer, and without one there has to be: what `samba.py` tells of it
is what a client's policy has to get along with.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import ClosedResourceError, to_thread

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    NegotiationError,
    SecurityProperties,
    UnacceptableSuccessError,
)
from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode, encode
from tests.peers.directory import ALICE, NEEDLE
from tests.peers.ldap_client import LDAPClient
from tests.peers.samba import Samba, enter, small_dn, user_dn
from tests.peers.samba_login import (
    LOGINS,
    NO_LAYER,
    SIGNED,
    Login,
    Wire,
    gssapi,
    ntlm,
    spnego,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from anyio.abc import ByteStream

    from saslwrap import ClientMechanism
    from tests.peers.wiretap import WiretapFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

WITH_A_LAYER = SecurityProperties(require_layer=True)

WRONG_PASSWORD = "data 52e"
NTLM_WITHOUT_A_LAYER = "data 57"
LAYER_REQUIRED = r"strongerAuthRequired \(8\), 'SASL:\[{}\]: Sign or Seal are required\.'"
NO_LAYER_OVER_TLS = "Sign or Seal are not allowed if TLS is used"
NO_SECOND_LAYER = "Sign or Seal are not allowed if SASL encryption has already been set up"

by_kerberos = pytest.mark.parametrize("mechanism", [gssapi, spnego], ids=["gssapi", "spnego"])
each_mechanism = pytest.mark.parametrize(
    "mechanism", [gssapi, spnego, ntlm], ids=["gssapi", "spnego", "ntlm"]
)
each_login = pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def in_the_domain(samba: Samba, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(samba, monkeypatch, tmp_path / "ccache")


@pytest.fixture(scope="module")
def tls_samba() -> Iterator[Samba]:
    """A server that takes a login without a layer over TLS, as Windows does."""
    Samba.require()
    with Samba(strong_auth="allow_sasl_over_tls") as server:
        yield server


@pytest.fixture
def tls_domain(
    tls_samba: Samba, in_the_domain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Samba:
    """The same, and the test process lives in its domain."""
    enter(tls_samba, monkeypatch, tmp_path / "ccache")
    return tls_samba


@asynccontextmanager
async def connect(server: Samba) -> AsyncIterator[ByteStream]:
    async with await anyio.connect_tcp(server.address, server.port) as tcp:
        yield tcp


@asynccontextmanager
async def connect_tls(server: Samba) -> AsyncIterator[ByteStream]:
    async with await anyio.connect_tcp(
        server.address,
        server.tls_port,
        tls_hostname=server.host,
        ssl_context=ssl.create_default_context(cafile=str(server.certificate)),
        tls_standard_compatible=False,
    ) as tls:
        yield tls


async def check_search(stream: ByteStream) -> None:
    """The connection can be used, as Alice."""
    found = await LDAPClient(stream).search(small_dn(7), attributes=["description"])
    assert found.values() == {small_dn(7): f"{NEEDLE} 00007"}


async def check_login(stream: ByteStream, refused: LDAPBind) -> None:
    """The connection can be used on after a refusal."""
    again = await authenticate(stream, LDAPBind(gssapi(), refused.next_message_id))
    assert again.extra(SASLAttribute.ssf) == 256
    await check_search(again)


# In clear: what has no layer is refused, and so is what is no SASL.


@by_kerberos
async def test_no_layer(samba: Samba, mechanism: Callable[..., ClientMechanism]) -> None:
    refused = LDAPBind(mechanism(properties=NO_LAYER))
    async with connect(samba) as tcp:
        with pytest.raises(
            NegotiationError, match=LAYER_REQUIRED.format(mechanism().name)
        ) as raised:
            await authenticate(tcp, refused)
        assert "; raise min_ssf, " in str(raised.value)
        await check_login(tcp, refused)


async def test_no_layer_with_ntlm(samba: Samba) -> None:
    refused = LDAPBind(ntlm(properties=NO_LAYER))
    async with connect(samba) as tcp:
        with pytest.raises(AuthenticationError, match=NTLM_WITHOUT_A_LAYER):
            await authenticate(tcp, refused)
        await check_login(tcp, refused)


async def test_spnego_over_kerberos_does_not_sign_alone(samba: Samba) -> None:
    """The server has its layer by then: there is no way back."""
    text = "integrity alone is for GSSAPI to give"
    async with connect(samba) as tcp:
        with pytest.raises(UnacceptableSuccessError, match=text):
            await authenticate(tcp, LDAPBind(spnego(properties=SIGNED)))
        with pytest.raises(ClosedResourceError):
            await tcp.send(b"anything")


async def test_ntlm_does_not_sign_alone(samba: Samba) -> None:
    """We notice before our proof leaves."""
    refused = LDAPBind(ntlm(properties=SIGNED))
    async with connect(samba) as tcp:
        with pytest.raises(NegotiationError, match=r"NTLM was .* without sealing") as raised:
            await authenticate(tcp, refused)
        assert not isinstance(raised.value, UnacceptableSuccessError)
        await check_login(tcp, refused)


async def test_a_mechanism_that_it_does_not_have(samba: Samba) -> None:
    mechanism = DigestMD5Client(ALICE.username, ALICE.password, service="ldap", host=samba.host)
    refused = LDAPBind(mechanism)
    text = r"refused DIGEST-MD5: operationsError \(1\), '.*Failed to start authentication system"
    async with connect(samba) as tcp:
        with pytest.raises(AuthenticationError, match=text):
            await authenticate(tcp, refused)
        await check_login(tcp, refused)


async def test_a_simple_bind(samba: Samba) -> None:
    simple = {
        "version": 3,
        "name": user_dn(ALICE.username).encode(),
        "authentication": ("simple", ALICE.password.encode()),
    }
    async with connect(samba) as tcp:
        await tcp.send(encode(1, "bindRequest", simple))
        response = await LDAPClient(tcp).receive()
    assert response.operation == "bindResponse"
    assert response.value["resultCode"] == ResultCode.strongerAuthRequired
    assert response.value["diagnosticMessage"] == b"BindSimple: Transport encryption required."


# Wrong passwords.


async def test_a_wrong_password_with_ntlm(samba: Samba) -> None:
    refused = LDAPBind(ntlm(password="wr0ng-Pa55"))
    async with connect(samba) as tcp:
        with pytest.raises(AuthenticationError, match=rf"invalidCredentials.*{WRONG_PASSWORD}"):
            await authenticate(tcp, refused)
        assert refused.result_code == ResultCode.invalidCredentials
        await check_login(tcp, refused)


@by_kerberos
async def test_a_wrong_password_with_kerberos(
    samba: Samba, mechanism: Callable[..., ClientMechanism]
) -> None:
    """The server hears nothing of it."""
    refused = LDAPBind(mechanism(password="wr0ng-Pa55"))
    async with connect(samba) as tcp:
        with pytest.raises(AuthenticationError, match="the password is wrong"):
            await authenticate(tcp, refused)
        assert refused.result_code is None
        await check_login(tcp, refused)


# A second login. Neither is there a layer in place of a layer, nor one above it.


@each_login
@each_mechanism
async def test_a_rebind(
    samba: Samba, wiretap: WiretapFactory, login: Login, mechanism: Callable[..., ClientMechanism]
) -> None:
    tap = wiretap(samba.address, samba.port)
    first = LDAPBind(login.mechanism())
    async with (
        await anyio.connect_tcp(tap.address, tap.port) as tcp,
        await authenticate(tcp, first) as stream,
    ):
        context = stream.extra(SASLAttribute.context)
        with pytest.raises(AuthenticationError, match=NO_SECOND_LAYER):
            await authenticate(stream, LDAPBind(mechanism(), first.next_message_id))
        assert stream.extra(SASLAttribute.context) is context
        await check_search(stream)
    await to_thread.run_sync(tap.wait_closed)
    Wire(tap.recordings[0]).check(login)


@each_login
async def test_a_rebind_without_a_layer(samba: Samba, login: Login) -> None:
    first = LDAPBind(login.mechanism())
    async with connect(samba) as tcp:
        stream = await authenticate(tcp, first)
        context = stream.extra(SASLAttribute.context)
        bare = LDAPBind(gssapi(properties=NO_LAYER), first.next_message_id)
        with pytest.raises(NegotiationError, match="strongerAuthRequired"):
            await authenticate(stream, bare)
        assert stream.extra(SASLAttribute.context) is context
        await check_search(stream)


# Over TLS.


@each_mechanism
async def test_a_layer_over_tls(samba: Samba, mechanism: Callable[..., ClientMechanism]) -> None:
    refused = LDAPBind(mechanism(properties=WITH_A_LAYER))
    async with connect_tls(samba) as tls:
        with pytest.raises(NegotiationError, match=NO_LAYER_OVER_TLS) as raised:
            await authenticate(tls, refused)
    assert refused.result_code == ResultCode.unwillingToPerform
    assert "Active Directory takes no layer over TLS" in str(raised.value)
    assert "leave require_layer unset" in str(raised.value)


@by_kerberos
async def test_no_layer_over_tls_where_one_is_demanded(
    samba: Samba, mechanism: Callable[..., ClientMechanism]
) -> None:
    async with connect_tls(samba) as tls:
        with pytest.raises(
            NegotiationError, match=LAYER_REQUIRED.format(mechanism().name)
        ) as raised:
            await authenticate(tls, LDAPBind(mechanism()))
    assert "; it does not count this TLS: connect without it" in str(raised.value)


@by_kerberos
async def test_no_layer_over_tls(
    tls_domain: Samba, mechanism: Callable[..., ClientMechanism]
) -> None:
    async with connect_tls(tls_domain) as tls:
        stream = await authenticate(tls, LDAPBind(mechanism()))
        assert stream.extra(SASLAttribute.context) is None
        assert stream.extra(SASLAttribute.ssf) == 0
        assert stream.extra(SASLAttribute.mechanism) == mechanism().name
        await check_search(stream)


@by_kerberos
async def test_a_refusal_over_tls_leaves_the_connection(
    tls_domain: Samba, mechanism: Callable[..., ClientMechanism]
) -> None:
    """What the error's text says to do, done."""
    refused = LDAPBind(mechanism(properties=WITH_A_LAYER))
    async with connect_tls(tls_domain) as tls:
        with pytest.raises(NegotiationError, match="leave require_layer unset"):
            await authenticate(tls, refused)
        stream = await authenticate(tls, LDAPBind(mechanism(), refused.next_message_id))
        await check_search(stream)


async def test_ntlm_over_tls(tls_domain: Samba) -> None:
    """Samba takes it with a layer only, and no layer over TLS: so not at all."""
    async with connect_tls(tls_domain) as tls:
        with pytest.raises(AuthenticationError, match=NTLM_WITHOUT_A_LAYER):
            await authenticate(tls, LDAPBind(ntlm()))
