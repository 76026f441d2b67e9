"""Attack list, E16 and E17: the word on layers of RFC 4752, with a hostile server or client.

Whoever says it holds the keys of the session; a man in the middle does not, and is refused by GSS.
"""

from __future__ import annotations

import pytest

from saslwrap.errors import (
    IntegrityError,
    MalformedMessageError,
    NegotiationError,
    SASLError,
    UsageError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.mechanisms.gss.provider import GSSContext
from saslwrap.properties import QOP, SecurityProperties
from tests.attacks.gss import (
    ALL,
    CONF,
    INT,
    NONE,
    Attacked,
    Role,
    attacked,
    both_roles,
    gssapi,
    hostile,
    kerberos,
    session,
    told,
    word,
)
from tests.gss_pairs import PLAIN, SEALED, SIGNED

NO_MINIMUM = SecurityProperties(min_ssf=0)
UNSEALED = SecurityProperties(min_ssf=0, max_ssf=1)

MIB = 1 << 20


def refusal(login: Attacked, token: bytes | None, kind: type[SASLError]) -> None:
    """The peer's token is refused, with this type of error, for good, and nothing is said."""
    with pytest.raises(SASLError) as caught:
        login.ours.step(token)
    assert type(caught.value) is kind
    assert not login.ours.complete
    with pytest.raises(UsageError):
        _ = login.ours.context
    genuine = login.peer.wrap(word(CONF), encrypt=False).data
    for later in (genuine, b"", None):
        with pytest.raises(kind):
            login.ours.step(later)


def wrapped(login: Attacked, message: bytes, *, encrypt: bool = False) -> bytes:
    token = login.peer.wrap(message, encrypt=encrypt).data
    assert isinstance(token, bytes)
    return token


# ---------------------------------------------------------------- E16: the server's offer

OFFERS: dict[str, tuple[bytes, type[SASLError]]] = {
    "empty": (b"", MalformedMessageError),
    "1 octet": (b"\7", MalformedMessageError),
    "3 octets": (b"\7\1\0", MalformedMessageError),
    "5 octets": (word(ALL, text=b"\0"), MalformedMessageError),
    "65536 octets": (word(ALL, text=bytes(65532)), MalformedMessageError),
    "bits 0": (word(0, 0), NegotiationError),
    "unknown bit": (word(8, 0), NegotiationError),
    "unknown bit and a size": (word(8), NegotiationError),
    "greatest bit": (word(0x80), NegotiationError),
    "all unknown bits": (word(0xF8), NegotiationError),
    "none": (word(NONE, 0), NegotiationError),
    "none and a size": (word(NONE), MalformedMessageError),
    "bits 0 and a size": (word(0, 1), MalformedMessageError),
    "integrity only": (word(NONE | INT), NegotiationError),
    "size 0": (word(ALL, 0), NegotiationError),
    "size 1": (word(ALL, 1), NegotiationError),
}


@pytest.mark.parametrize(("offer", "kind"), OFFERS.values(), ids=list(OFFERS))
@kerberos
def test_e16_offer_is_refused(offer: bytes, kind: type[SASLError]) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if encrypted or len(plain) < 4:
    Guard: saslwrap/mechanisms/gssapi.py: if rest or (peer_maxbuf and
    Guard: saslwrap/mechanisms/gssapi.py: or (peer_maxbuf and not offered & _LAYERS)
    Guard: saslwrap/mechanisms/gssapi.py: if layer in common:
    Guard: saslwrap/mechanisms/gssapi.py: if self._least <= ssf <= self._greatest:
    Guard: saslwrap/mechanisms/gssapi.py: if assume_maxbuf is None:
    """
    login = attacked("client")
    refusal(login, wrapped(login, offer), kind)


@kerberos
def test_e16_bits_that_are_unknown_are_negotiated_off() -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: choice = layer"""
    login = attacked("client")
    assert login.peer.unwrap(login.hears(word(0xFF))).data == word(CONF)
    assert login.ours.context is not None
    assert login.ours.context.qop is QOP.AUTH_CONF


@kerberos
def test_e16_offer_of_size_0_is_taken_for_what_was_assumed() -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: peer_maxbuf = assume_maxbuf"""
    login = attacked("client", assume_maxbuf=1000)
    login.hears(word(ALL, 0))
    context = login.ours.context
    assert context is not None
    assert context.peer_maxbuf == 1000
    assert len(context.seal(bytes(context.stream_sizes.maximum_message))) == 1000


@pytest.mark.parametrize("offer", [word(ALL), word(NONE, 0)], ids=["all", "none"])
@kerberos
def test_e16_offer_under_confidentiality_is_refused(offer: bytes) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if encrypted or len(plain) < 4:"""
    login = attacked("client", properties=NO_MINIMUM)
    refusal(login, wrapped(login, offer, encrypt=True), MalformedMessageError)


@pytest.mark.parametrize("bits", [NONE, NONE | INT, INT], ids=["none", "none or int", "int"])
@both_roles
@kerberos
def test_e16_man_in_the_middle_cannot_take_layers_off(role: Role, bits: int) -> None:
    """They stand in clear, under a MIC.

    Guard: saslwrap/mechanisms/gss/provider.py: result = self._proxy.unwrap(token)
    """
    login = attacked(role, properties=NO_MINIMUM)
    said = word(ALL if role == "client" else CONF)
    token = wrapped(login, said)
    assert token[16:20] == said
    refusal(login, token[:16] + word(bits, 65536 * (bits > 1)) + token[20:], IntegrityError)


@both_roles
@kerberos
def test_e16_word_with_one_bit_altered_is_refused(role: Role) -> None:
    """One field is not under the MIC: RRC, by how much the octets behind the header are rotated.

    They are 16. Rotated by as many they are as they were.

    Guard: saslwrap/mechanisms/gss/provider.py: result = self._proxy.unwrap(token)
    """
    rotated_by_16 = [bit for bit in range(48, 64) if 1 << bit % 8 >= 16 or bit < 56]
    for bit in range(8 * 32):
        login = attacked(role)
        token = bytearray(wrapped(login, word(CONF)))
        token[bit // 8] ^= 1 << bit % 8
        if bit in rotated_by_16:
            login.ours.step(token)
            assert login.ours.context is not None
            assert login.ours.context.qop is QOP.AUTH_CONF
        else:
            refusal(login, bytes(token), IntegrityError)


@both_roles
@kerberos
def test_e16_word_of_another_login_is_refused(role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: result = self._proxy.unwrap(token)"""
    login, other = attacked(role), attacked(role)
    refusal(login, wrapped(other, word(CONF)), IntegrityError)


@kerberos
def test_e16_offer_that_comes_back_is_no_choice() -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: result = self._proxy.unwrap(token)"""
    server, client = gssapi("server"), hostile("client")
    client.step(server.step(client.step()))
    offer = told(server, b"")
    with pytest.raises(IntegrityError):
        server.step(offer)


@both_roles
@pytest.mark.parametrize("token", [b"", None, b"\0", bytes(MIB)], ids=["empty", "none", "1", "MiB"])
@kerberos
def test_e16_word_that_is_no_token_is_refused(role: Role, token: bytes | None) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    refusal(attacked(role), token, IntegrityError)


# ---------------------------------------------------------------- E16: the client's choice

CHOICES: dict[str, tuple[SecurityProperties, bytes, type[SASLError]]] = {
    "empty": (NO_MINIMUM, b"", MalformedMessageError),
    "3 octets": (NO_MINIMUM, b"\1\0\0", MalformedMessageError),
    "nothing": (NO_MINIMUM, word(0, 0), NegotiationError),
    "none and integrity": (NO_MINIMUM, word(NONE | INT), NegotiationError),
    "none and confidentiality": (NO_MINIMUM, word(NONE | CONF), NegotiationError),
    "both layers": (NO_MINIMUM, word(INT | CONF), NegotiationError),
    "both layers, one offered": (SEALED, word(INT | CONF), NegotiationError),
    "all": (NO_MINIMUM, word(ALL), NegotiationError),
    "unknown": (NO_MINIMUM, word(8), NegotiationError),
    "unknown too": (NO_MINIMUM, word(0x80 | CONF), NegotiationError),
    "none, not offered": (SEALED, word(NONE, 0), NegotiationError),
    "integrity, not offered": (SEALED, word(INT), NegotiationError),
    "confidentiality, not offered": (UNSEALED, word(CONF), NegotiationError),
    "a layer, none offered": (PLAIN, word(CONF), NegotiationError),
    "none and a size": (NO_MINIMUM, word(NONE, 65536), MalformedMessageError),
    "size 0": (NO_MINIMUM, word(CONF, 0), NegotiationError),
    "size 0, signed": (NO_MINIMUM, word(INT, 0), NegotiationError),
    "size 1": (NO_MINIMUM, word(CONF, 1), NegotiationError),
    "authzid of 4097 octets": (SEALED, word(CONF, text=b"a" * 4097), MalformedMessageError),
    "authzid of 64 KiB": (SEALED, word(CONF, text=b"a" * 65536), MalformedMessageError),
    "NUL": (SEALED, word(CONF, text=b"\0"), MalformedMessageError),
    "authzid with NUL": (SEALED, word(CONF, text=b"root\0alice"), MalformedMessageError),
    "authzid ends with NUL": (SEALED, word(CONF, text=b"alice\0"), MalformedMessageError),
    "not UTF-8": (SEALED, word(CONF, text=b"\xff"), MalformedMessageError),
    "surrogate": (SEALED, word(CONF, text=b"\xed\xa0\x80"), MalformedMessageError),
    "overlong": (SEALED, word(CONF, text=b"\xc0\x80"), MalformedMessageError),
}


@pytest.mark.parametrize(("properties", "choice", "kind"), CHOICES.values(), ids=list(CHOICES))
@kerberos
def test_e16_choice_is_refused(
    properties: SecurityProperties, choice: bytes, kind: type[SASLError]
) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if encrypted or len(plain) < 4:
    Guard: saslwrap/mechanisms/gssapi.py: if chosen == layer and layer in offered:
    Guard: saslwrap/mechanisms/gssapi.py: if self._ad_compat and chosen ==
    Guard: saslwrap/mechanisms/gssapi.py: if layer == _Layer.NONE and peer_maxbuf:
    Guard: saslwrap/mechanisms/gssapi.py: if assume_maxbuf is None:
    Guard: saslwrap/mechanisms/gss/layer.py: if limit < 1:
    Guard: saslwrap/mechanisms/gssapi.py: if len(text) > _AUTHZID_LIMIT:
    Guard: saslwrap/mechanisms/gssapi.py: if "\\0" in authzid:
    Guard: saslwrap/mechanisms/gssapi.py: authzid = text.decode()
    """
    login = attacked("server", properties=properties)
    refusal(login, wrapped(login, choice), kind)
    assert login.ours.authcid is None


@pytest.mark.parametrize("choice", [word(CONF), word(NONE, 0)], ids=["layer", "none"])
@kerberos
def test_e16_choice_under_confidentiality_is_refused(choice: bytes) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if encrypted or len(plain) < 4:"""
    login = attacked("server", properties=NO_MINIMUM)
    refusal(login, wrapped(login, choice, encrypt=True), MalformedMessageError)


@kerberos
def test_e16_choice_of_both_layers_is_confidentiality_for_active_directory() -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: chosen = _Layer.CONFIDENTIALITY"""
    login = attacked("server", properties=NO_MINIMUM, ad_compat=True)
    login.hears(word(INT | CONF))
    assert login.ours.context is not None
    assert login.ours.context.qop is QOP.AUTH_CONF
    refused = attacked("server", properties=UNSEALED, ad_compat=True)
    refusal(refused, wrapped(refused, word(INT | CONF)), NegotiationError)


@pytest.mark.parametrize("choice", [word(INT), word(NONE, 0)], ids=["integrity", "none"])
@kerberos
def test_e16_choice_below_the_minimum_is_refused(choice: bytes) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if self._least <= ssf <= self._greatest:"""
    login = attacked("server")
    assert login.offer == word(CONF)
    refusal(login, wrapped(login, choice), NegotiationError)


@pytest.mark.parametrize("more", [b"\0", b"token"])
@kerberos
def test_e16_answer_to_the_end_of_kerberos_is_refused(more: bytes) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if message: raise MalformedMessageError("the client"""
    server, client = gssapi("server"), hostile("client")
    client.step(server.step(client.step()))
    with pytest.raises(MalformedMessageError):
        server.step(more)


# ---------------------------------------------------------------- E17: sizes that carry nothing

LAYERS_OF: dict[str, tuple[SecurityProperties, int, int]] = {
    "sealed": (SEALED, CONF, 60),
    "signed": (SIGNED, INT, 28),
}


@pytest.mark.parametrize(("properties", "layer", "overhead"), LAYERS_OF.values(), ids=LAYERS_OF)
@both_roles
@kerberos
def test_e17_size_below_the_overhead_of_a_token_is_refused(
    role: Role, properties: SecurityProperties, layer: int, overhead: int
) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: if limit < 1:"""
    for size in range(1, overhead + 1):
        login = attacked(role, properties=properties)
        refusal(login, wrapped(login, word(layer, size)), NegotiationError)


@pytest.mark.parametrize(("properties", "layer", "overhead"), LAYERS_OF.values(), ids=LAYERS_OF)
@both_roles
@kerberos
def test_e17_tokens_are_never_over_the_peers_size(
    role: Role, properties: SecurityProperties, layer: int, overhead: int
) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: native.get_wrap_size_limit(maximum_token,"""
    for room in (1, 2, 15, 16, 17, 1000):
        login = attacked(role, properties=properties)
        login.hears(word(layer, overhead + room))
        context = login.ours.context
        assert context is not None
        assert context.stream_sizes.maximum_message == room
        tokens = list(map(bytes, SecurityLayer(context).send_data(bytes(5 * room))[1::2]))
        assert {len(token) for token in tokens} == {overhead + room}


@both_roles
@pytest.mark.usefixtures("ntlm_users")
def test_e17_token_over_the_peers_size_is_not_sent(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should GSS say of its tokens that they are shorter than they are.

    Guard: saslwrap/mechanisms/gss/layer.py: if len(token) > self._peer_maxbuf:
    """
    monkeypatch.setattr(GSSContext, "size_limit", lambda _, maximum, encrypt: maximum)
    attack = session("ntlm", role, send_limit=1000)
    assert attack.layer.context.peer_maxbuf == 1000
    with pytest.raises(SASLError, match="1016 octets"):
        attack.layer.send_data(bytes(1000))
    assert attack.layer.context.failed
