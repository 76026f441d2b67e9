"""Both sides of GSSAPI and GSS-SPNEGO are ours, and meet in memory: what they agree on.

What they do with it is in `test_gss_pairs_layer.py`, over connections `test_gss_pairs_shells.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from saslwrap import (
    AuthenticationError,
    ChannelInfo,
    DigestMD5Client,
    GSSAPIClient,
    GSSAPIServer,
    GSSSPNEGOClient,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
    choose_mechanism,
)
from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer
from saslwrap.mechanisms.gss.provider import Flag, GSSContext, open_context
from saslwrap.testing import connect_mechanisms
from tests.gss_pairs import (
    KERBEROS,
    NTLM_USERNAME,
    PLACE,
    PROTECTIONS,
    SIGNED,
    check_both_ways,
    contexts_of,
    gss_contexts,
    gss_pair,
    holding,
    logged_in,
    tracebacks_of,
    write_ntlm_users,
)
from tests.peers.directory import ALICE
from tests.peers.kdc import BOB

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("alice_ticket")
pytest.importorskip("spnego")

PRINCIPAL = "alice@EXAMPLE.COM"
ANY = SecurityProperties(min_ssf=0)
WITH_LAYER = SecurityProperties(min_ssf=1)
BOTH_SIDES = ("client", "server")


@pytest.fixture(autouse=True)
def _ntlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ntlm_users(tmp_path, monkeypatch)


# what comes of a login


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_each_protection(protection: str) -> None:
    name, _, ssf = PROTECTIONS[protection]
    pair = logged_in(protection)
    for side in pair:
        assert side.complete
        assert side.authcid == (NTLM_USERNAME if name == "NTLM" else PRINCIPAL)
        assert side.authzid is None
        if not ssf:
            assert side.context is None
            continue
        assert side.context is not None
        assert side.context.mechanism == side.name
        assert side.context.ssf == ssf
        assert side.context.qop == ("auth-int" if ssf == 1 else "auth-conf")
        assert (side.context.cipher is None) is (ssf == 1)
    if ssf:
        check_both_ways(contexts_of(pair))


def test_the_messages_of_gssapi() -> None:
    client, server = gss_pair("gssapi-256")
    ticket = client.step(None)
    proof = server.step(ticket)
    assert ticket
    assert proof
    assert client.step(proof) == b""  # a message, and an empty one
    offer = server.step(b"")
    assert offer is not None
    assert len(offer) == 4 + 28
    assert (client.complete, server.complete) == (False, False)
    choice = client.step(offer)
    assert choice is not None
    assert len(choice) == 4 + 28
    assert (client.complete, server.complete) == (True, False)
    assert server.step(choice) is None
    assert server.complete


def test_the_messages_of_spnego() -> None:
    client, server = gss_pair("spnego-256")
    proof = server.step(client.step(None))
    assert proof
    assert (client.complete, server.complete) == (False, True)
    assert client.step(proof) is None
    assert client.complete


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_server_lets_the_client_speak_first(protection: str) -> None:
    client, server = gss_pair(protection)
    assert server.step(None) == b""
    connect_mechanisms(client, server)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_mechanism_is_used_once(protection: str) -> None:
    for side in logged_in(protection):
        with pytest.raises(ProtocolError, match=r"after .* was complete"):
            side.step(b"once more")
    client, _ = gss_pair(protection)
    client.step(None)
    with pytest.raises(UsageError, match="a mechanism is used once"):
        client.bind_channel(ChannelInfo())


@pytest.mark.parametrize("authzid", ["bob", "dn:cn=bob", "u:юлия", "a" * 4096])
def test_an_authzid(authzid: str) -> None:
    pair = logged_in("gssapi-256", client={"authzid": authzid})
    for side in pair:
        assert (side.authcid, side.authzid) == (PRINCIPAL, authzid)
    check_both_ways(contexts_of(pair))


def test_an_authzid_that_is_too_long_or_none() -> None:
    client, server = gss_pair("gssapi-256", client={"authzid": "a" * 4097})
    with pytest.raises(MalformedMessageError, match="over 4096 octets"):
        connect_mechanisms(client, server)
    with pytest.raises(UsageError, match="GSS-SPNEGO cannot carry an authzid"):
        gss_pair("spnego-256", client={"authzid": "bob"})


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
@pytest.mark.parametrize("username", ["bob", "bob@EXAMPLE.COM"])
def test_a_password_in_place_of_the_ticket(protection: str, username: str) -> None:
    pair = logged_in(protection, client={"username": username, "password": BOB.password})
    assert (pair.client.authcid, pair.server.authcid) == (username, "bob@EXAMPLE.COM")


# policies


@pytest.mark.parametrize(
    ("client", "server", "ssf"),
    [
        (ANY, ANY, 256),
        (WITH_LAYER, SIGNED, 1),
        (SIGNED, ANY, 1),
        (SecurityProperties(min_ssf=0, max_ssf=0), ANY, 0),
        (ANY, SecurityProperties(min_ssf=0, max_ssf=0), 0),
        (ANY, SecurityProperties(min_ssf=0, max_ssf=1), 1),
        (SecurityProperties(min_ssf=0, max_ssf=128), ANY, 1),  # Kerberos has 256 here, not 128
    ],
)
def test_gssapi_takes_the_strongest_layer_of_both(
    client: SecurityProperties, server: SecurityProperties, ssf: int
) -> None:
    pair = logged_in("gssapi-256", client={"properties": client}, server={"properties": server})
    assert [side.context.ssf if side.context else 0 for side in pair] == [ssf, ssf]


@pytest.mark.parametrize(
    ("client", "server", "text"),
    [
        (SecurityProperties(), SIGNED, "the server offers integrity; wanted: an SSF of 112 to 256"),
        (SIGNED, SecurityProperties(), "the server offers confidentiality; wanted: an SSF of 1 to"),
        (SecurityProperties(min_ssf=0, max_ssf=0), WITH_LAYER, "wanted: no layer"),
        (ANY, SecurityProperties(min_ssf=2, max_ssf=255), "GSSAPI cannot give what is wanted"),
    ],
)
def test_policies_of_gssapi_that_do_not_meet(
    client: SecurityProperties, server: SecurityProperties, text: str
) -> None:
    pair = gss_pair("gssapi-256", client={"properties": client}, server={"properties": server})
    with pytest.raises(NegotiationError, match=text):
        connect_mechanisms(*pair)


@pytest.mark.parametrize("properties", [SIGNED, SecurityProperties(min_ssf=0, max_ssf=255)])
@pytest.mark.parametrize("side", BOTH_SIDES)
def test_spnego_seals_or_is_refused(side: str, properties: SecurityProperties) -> None:
    pair = gss_pair("spnego-256", **{side: {"properties": properties}})
    with pytest.raises(NegotiationError, match=r"gives an SSF of 256 .kerberos.; wanted: an"):
        connect_mechanisms(*pair)


def test_a_client_of_spnego_that_wants_no_layer_where_one_is_due() -> None:
    none = SecurityProperties(min_ssf=0, max_ssf=0)
    pair = gss_pair("spnego-256", client={"properties": none})
    with pytest.raises(NegotiationError, match="gives an SSF of 0"):
        connect_mechanisms(*pair)


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256", "ntlm-128"])
class TestOverTLS:
    TLS = ChannelInfo(external_ssf=256)

    def bound(self, protection: str, require_layer: bool | None) -> list[bool]:
        """Log in over TLS; say which sides have a layer."""
        properties = SecurityProperties(require_layer=require_layer)
        pair = gss_pair(protection, properties=properties)
        for side in pair:
            side.bind_channel(self.TLS)
        connect_mechanisms(*pair)
        return [side.context is not None for side in pair]

    def test_there_is_no_layer(self, protection: str) -> None:
        assert self.bound(protection, None) == [False, False]
        assert self.bound(protection, False) == [False, False]

    def test_a_layer_in_any_case(self, protection: str) -> None:
        assert self.bound(protection, True) == [True, True]

    @pytest.mark.parametrize("side", BOTH_SIDES)
    def test_one_side_knows_of_it(self, protection: str, side: str) -> None:
        pair = gss_pair(protection)
        getattr(pair, side).bind_channel(self.TLS)
        with pytest.raises(NegotiationError):
            connect_mechanisms(*pair)

    def test_never_a_layer_and_no_tls(self, protection: str) -> None:
        pair = gss_pair(protection, client={"properties": SecurityProperties(require_layer=False)})
        with pytest.raises(UsageError, match="connect with TLS"):
            pair.client.step(None)


CANDIDATES = (DigestMD5Client, GSSAPIClient, GSSSPNEGOClient)


@pytest.mark.parametrize(
    ("offered", "properties", "chosen"),
    [
        ("GSSAPI GSS-SPNEGO DIGEST-MD5", SecurityProperties(), GSSAPIClient),
        ("DIGEST-MD5 GSS-SPNEGO", SecurityProperties(), GSSSPNEGOClient),
        ("digest-md5 gss-spnego", SecurityProperties(), GSSSPNEGOClient),
        ("DIGEST-MD5 PLAIN", SecurityProperties(), DigestMD5Client),
        ("GSSAPI DIGEST-MD5", SecurityProperties(max_ssf=128), DigestMD5Client),
        ("GSSAPI GSS-SPNEGO", SIGNED, GSSAPIClient),
        ("GSS-SPNEGO DIGEST-MD5", SIGNED, DigestMD5Client),
        ("GSS-SPNEGO", SIGNED, None),
        ("DIGEST-MD5", SecurityProperties(min_ssf=129), None),
        ("GSSAPI", SecurityProperties(min_ssf=257, max_ssf=512), None),
    ],
)
def test_the_strongest_mechanism_is_chosen(
    offered: str, properties: SecurityProperties, chosen: Any
) -> None:
    if chosen is not None:
        assert choose_mechanism(offered.split(), CANDIDATES, properties) is chosen
        return
    with pytest.raises(NegotiationError, match="the server offers"):
        choose_mechanism(offered.split(), CANDIDATES, properties)


# what Active Directory does otherwise


@pytest.mark.parametrize("at_server", [True, False])
@pytest.mark.parametrize("at_client", [True, False])
@pytest.mark.parametrize("offer", [ANY, SecurityProperties()], ids=["all layers", "sealing"])
def test_ad_compat(at_client: bool, at_server: bool, offer: SecurityProperties) -> None:
    pair = gss_pair(
        "gssapi-256",
        client={"ad_compat": at_client},
        server={"ad_compat": at_server, "properties": offer},
    )
    if at_client and not at_server and offer is ANY:  # then both bits are sent
        with pytest.raises(NegotiationError, match="did not choose one of the layers"):
            connect_mechanisms(*pair)
        return
    connect_mechanisms(*pair)
    assert [context.ssf for context in contexts_of(pair)] == [256, 256]
    check_both_ways(contexts_of(pair))


def test_ad_compat_changes_nothing_but_confidentiality() -> None:
    for properties in (SIGNED, SecurityProperties(min_ssf=0, max_ssf=0)):
        client = {"ad_compat": True, "properties": properties}
        logged_in("gssapi-256", client=client, server={"properties": ANY})


# a peer by hand


def establish(*, is_client: bool, mechanism: GSSAPIClient | GSSAPIServer) -> GSSContext:
    """Go through Kerberos with a mechanism, which then has the first word on layers to say."""
    flags = Flag.MUTUAL | Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE | Flag.CONFIDENTIALITY
    place = Peer(**PLACE, is_client=is_client)
    peer = open_context("kerberos", place, GSSCredentials(), flags if is_client else Flag(0))
    if is_client:
        peer.step(mechanism.step(peer.step(None)))
    else:
        assert mechanism.step(peer.step(mechanism.step(None))) == b""
    assert peer.complete
    return peer


def say_to_server(message: bytes, *, encrypt: bool = False, **options: Any) -> GSSAPIServer:
    """Be a client that says this of layers."""
    server = GSSAPIServer(**PLACE, **{"properties": ANY, **options})
    peer = establish(is_client=True, mechanism=server)
    assert peer.unwrap(server.step(b"") or b"") == (b"\7\1\0\0", False)
    assert server.step(peer.wrap(message, encrypt=encrypt)[0]) is None
    return server


def say_to_client(message: bytes, *, encrypt: bool = False, **options: Any) -> bytes:
    """Be a server that says this of layers; give the client's answer."""
    client = GSSAPIClient(**PLACE, **{"properties": ANY, **options})
    peer = establish(is_client=False, mechanism=client)
    answer = client.step(peer.wrap(message, encrypt=encrypt)[0])
    plain, encrypted = peer.unwrap(answer or b"")
    assert not encrypted
    return plain


NOTHING_FITS = "announces a maximum of 0 octets, which carries nothing.*assume_maxbuf=65536"


def test_a_maximum_of_0_octets() -> None:
    with pytest.raises(NegotiationError, match=NOTHING_FITS):
        say_to_server(b"\4\0\0\0")
    with pytest.raises(NegotiationError, match=NOTHING_FITS):
        say_to_client(b"\7\0\0\0")
    server = say_to_server(b"\4\0\0\0", assume_maxbuf=5000)
    assert server.context is not None
    assert server.context.peer_maxbuf == 5000
    assert server.context.stream_sizes.maximum_message == 5000 - 60
    assert say_to_client(b"\7\0\0\0", assume_maxbuf=5000) == b"\4\1\0\0"


def test_what_is_assumed_yields_to_what_is_said() -> None:
    server = say_to_server(b"\4\0\x20\0", assume_maxbuf=5000)
    assert server.context is not None
    assert server.context.peer_maxbuf == 0x2000


@pytest.mark.parametrize("maxbuf", [0, -1, 1 << 24])
def test_what_cannot_be_assumed(maxbuf: int) -> None:
    for kind in (GSSAPIClient, GSSAPIServer):
        with pytest.raises(UsageError, match="is a whole number from 1 to 16777215, not "):
            kind(**PLACE, assume_maxbuf=maxbuf)


@pytest.mark.parametrize(
    ("choice", "error", "options"),
    [
        (b"\6\1\0\0", NegotiationError, {}),
        (b"\0\1\0\0", NegotiationError, {}),
        (b"\x0c\1\0\0", NegotiationError, {"ad_compat": True}),
        (b"\7\1\0\0", NegotiationError, {"ad_compat": True}),
        (b"\1\1\0\0", MalformedMessageError, {}),
        (b"\4\1\0", MalformedMessageError, {}),
        (b"", MalformedMessageError, {}),
        (b"\4\1\0\0\xff", MalformedMessageError, {}),
        (b"\4\1\0\0a\0b", MalformedMessageError, {}),
        (b"\4\0\0\x20", NegotiationError, {}),
    ],
)
def test_a_clients_choice_that_is_refused(
    choice: bytes, error: type[SASLError], options: dict[str, Any]
) -> None:
    with pytest.raises(error):
        say_to_server(choice, **options)


@pytest.mark.parametrize(
    ("offer", "error"),
    [
        (b"\1\1\0\0", MalformedMessageError),
        (b"\x18\1\0\0", NegotiationError),
        (b"\0\0\0\0", NegotiationError),
        (b"\7\1\0\0more", MalformedMessageError),
        (b"\7\1\0", MalformedMessageError),
        (b"\4\0\0\x20", NegotiationError),
    ],
)
def test_a_servers_offer_that_is_refused(offer: bytes, error: type[SASLError]) -> None:
    with pytest.raises(error):
        say_to_client(offer)


def test_bits_that_are_not_known_are_left_out() -> None:
    assert say_to_client(b"\xff\1\0\0") == b"\4\1\0\0"
    assert say_to_client(b"\xf9\1\0\0") == b"\1\0\0\0"


def test_a_word_on_layers_that_is_encrypted() -> None:
    with pytest.raises(MalformedMessageError, match="with integrity only"):
        say_to_client(b"\7\1\0\0", encrypt=True)
    with pytest.raises(MalformedMessageError, match="with integrity only"):
        say_to_server(b"\4\1\0\0", encrypt=True)


# secrets


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256", "ntlm-128"])
def test_the_password_is_gone_after_the_login(protection: str) -> None:
    pair = gss_pair(protection, client={"username": "alice", "password": ALICE.password})
    if protection == "ntlm-128":
        pair = gss_pair(protection)
    assert holding(ALICE.password, pair)
    connect_mechanisms(*pair)
    assert holding(ALICE.password, pair) == []
    check_both_ways(contexts_of(pair))
    assert holding(ALICE.password, contexts_of(pair)) == []


@pytest.mark.parametrize("username", ["alice", "nobody"])
@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
def test_the_password_is_gone_after_a_login_that_failed(protection: str, username: str) -> None:
    wrong = "wr0ng-" + username * 2
    pair = gss_pair(protection, client={"username": username, "password": wrong})
    with pytest.raises(AuthenticationError) as caught:
        pair.client.step(None)
    assert wrong not in str(caught.value)
    assert holding(wrong, pair, *tracebacks_of(caught.value)) == []


@pytest.mark.parametrize("protection", KERBEROS)
def test_no_text_shows_a_secret(protection: str) -> None:
    pair = gss_pair(protection, client={"username": "alice", "password": ALICE.password})
    texts = [repr(pair)]
    connect_mechanisms(*pair)
    texts += [repr(pair), str(pair), *(repr(side.context) for side in pair)]
    assert ALICE.password not in "".join(texts)


def test_a_server_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = gss_pair("gssapi-256")
    ticket = client.step(None)
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{tmp_path / 'none'}")
    with pytest.raises(SASLError, match="KRB5_KTNAME"):
        server.step(ticket)


def test_contexts_are_made_anew() -> None:
    first, second = gss_contexts(), gss_contexts()
    with pytest.raises(SASLError):
        second.server.unseal(first.client.seal(b"for another one"))
