"""Attack list, E2 and E16 for NTLM and SPNEGO: proofs that prove nothing, and tokens that hide.

pyspnego's acceptor takes LM, NTLMv1 and messages without a MIC; its parser takes its time, and
forms that DER does not have. A login that is bound to no TLS connection can be relayed to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
)
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.gss import provider
from saslwrap.mechanisms.gss.ntlm import NTLMWatch
from tests.attacks.gss import (
    MUTUAL,
    NEGOTIATE,
    NO_INTEGRITY,
    Role,
    both_roles,
    each_layer,
    hostile,
    log_in,
    mechanism,
    script,
    spnego,
    spnego_mechanism,
    told,
)
from tests.attacks.test_e_spnego import (
    KEY_56,
    KEY_128,
    NO_LAYER,
    SEAL,
    SIGN,
    ntlm_alone,
    weak_ntlm,
)
from tests.gss_pairs import NTLM_DOMAIN
from tests.peers.directory import ALICE

BINDING, OTHER_BINDING = b"b" * 32, b"c" * 32

#: Flags of a session without a layer: Unicode, target, NTLM, session security, 128 bits.
FLAGS = 0x1 | 0x4 | 0x200 | 0x8000 | 0x80000 | 0x800000 | KEY_128
UNPROTECTED = MUTUAL | NO_INTEGRITY
OFFSETS = range(12, 60, 8)

# ---------------------------------------------------------------- what the attacker says


def responded(message: bytes | None, mic: bytes | None = None, *, over: bool = True) -> bytes:
    """Put it in SPNEGO's second form."""
    states = spnego._spnego.NegState
    state = states.accept_complete if over else states.accept_incomplete
    packed = spnego._spnego.NegTokenResp(state, None, message, mic).pack()
    assert isinstance(packed, bytes)
    return packed


def challenge_of(ours: Mechanism, negotiate: bytes) -> Any:
    """Open NTLM in SPNEGO at our server, and give its challenge."""
    mechanisms = [spnego._spnego.GSSMech.ntlm.value]
    answer = told(ours, spnego._spnego.NegTokenInit(mechanisms, mech_token=negotiate).pack())
    return spnego._spnego.unpack_token(answer).response_token


def server(**options: Any) -> Mechanism:
    """Our server, over TLS or the like: no layer is wanted."""
    return spnego_mechanism("server", ntlm=True, **{"properties": NO_LAYER, **options})


def of_alice(lm: bytes, nt: bytes, **options: Any) -> bytes:
    """An AUTHENTICATE_MESSAGE in Alice's name."""
    messages = spnego._ntlm_raw.messages
    packed = messages.Authenticate(
        FLAGS, lm, nt, domain_name=NTLM_DOMAIN, username=ALICE.username, **options
    ).pack()
    assert isinstance(packed, bytes)
    return packed


def without_password() -> bytes:
    """An LM response of the session security that asks for the client's own octets."""
    return of_alice(b"A" * 8 + bytes(16), b"", encrypted_session_key=bytes(16))


def decoy() -> bytes:
    """What would pass for an NTLMv2 response that is bound and has a MIC; it proves nothing."""
    pairs = b"\6\0\4\0\2\0\0\0" + b"\x0a\0\x10\0" + b"x" * 16 + bytes(4)
    version = spnego._ntlm_raw.messages.Version(10, 0, 0)
    return of_alice(bytes(24), bytes(44) + pairs, version=version, mic=b"m" * 16)


def alice_at(ours: Mechanism) -> tuple[Any, bytes]:
    """Alice's own client of NTLM, without a layer, and what our server challenges it with."""
    client = hostile("client", "ntlm", flags=UNPROTECTED)
    return client, challenge_of(ours, client.step())


def assert_refused(ours: Mechanism, message: bytes, text: str) -> None:
    """Nobody is logged in, now or later."""
    for later in (message, responded(None)):
        with pytest.raises(AuthenticationError, match=text):
            ours.step(later)
    assert not ours.complete
    assert ours.authcid is None


# ---------------------------------------------------------------- E2: proofs that prove nothing


@pytest.fixture
def kind_acceptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyspnego's acceptor as it comes: the watch is on its own."""
    monkeypatch.setattr(provider, "_demand_ntlmv2", lambda _: None)


def blind(watch: NTLMWatch, _: bytes | None) -> None:
    """Take anything for a session without a layer that is bound."""
    watch._flags, watch.bound = 0, True


@pytest.fixture(params=["watch", "acceptor"])
def guarded_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two guards do the same; here one of them is on its own."""
    if request.param == "watch":
        request.getfixturevalue("kind_acceptor")
        return
    monkeypatch.setattr(NTLMWatch, "see", blind)


@pytest.mark.parametrize("binding", [None, BINDING], ids=["unbound", "bound"])
@pytest.mark.usefixtures("guarded_by")
@ntlm_alone
def test_e2_nobody_logs_in_without_the_password(binding: bytes | None) -> None:
    """The acceptor's LM response of session security is what the client itself has sent.

    Guard: saslwrap/mechanisms/gss/ntlm.py: if pairs is None or not int.from_bytes(
    Guard: saslwrap/mechanisms/gss/provider.py: state["_lm"] = state["_nt_v1"] = False
    """
    ours = server(tls_server_end_point=binding)
    challenge_of(ours, spnego._ntlm_raw.messages.Negotiate(FLAGS).pack())
    assert_refused(ours, responded(without_password()), "proves nothing|does not hold")


@pytest.mark.parametrize("level", ["0", "1", "2"])
@pytest.mark.usefixtures("guarded_by")
@ntlm_alone
def test_e2_server_refuses_ntlmv1(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no room for a channel, and none for a MIC.

    Guard: saslwrap/mechanisms/gss/ntlm.py: if pairs is None or not int.from_bytes(
    Guard: saslwrap/mechanisms/gss/provider.py: state["_lm"] = state["_nt_v1"] = False
    """
    monkeypatch.setenv("LM_COMPAT_LEVEL", level)
    client = hostile("client", "ntlm", flags=UNPROTECTED)
    monkeypatch.delenv("LM_COMPAT_LEVEL")
    ours = server()
    answer = client.step(challenge_of(ours, client.step()))
    assert_refused(ours, responded(answer), "proves nothing|does not hold")


@pytest.mark.parametrize("level", ["0", "1", "2"])
@ntlm_alone
def test_e2_client_sends_no_ntlmv1(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: saslwrap/mechanisms/gss/ntlm.py: if pairs is None or not int.from_bytes("""
    monkeypatch.setenv("LM_COMPAT_LEVEL", level)
    ours = spnego_mechanism("client", ntlm=True, properties=NO_LAYER)
    token = hostile("server", "negotiate", flags=UNPROTECTED).step(told(ours, None))
    with pytest.raises(AuthenticationError, match="unset LM_COMPAT_LEVEL"):
        ours.step(token)


def cut_mic_off(message: bytes) -> bytes:
    """Take version and MIC out of AUTHENTICATE: 24 octets at 64."""
    head = bytearray(message[:64])
    for at in (field + 4 for field in OFFSETS):
        offset = max(int.from_bytes(head[at : at + 4], "little") - 24, 64)
        head[at : at + 4] = offset.to_bytes(4, "little")
    return bytes(head) + message[88:]


def relayed(ours: Mechanism, *, timestamp: bool) -> bytes:
    """What Alice's client, which wants a layer, says to an attacker that wants none.

    :param timestamp: whether the challenge has the one that makes her client send a MIC
    """
    messages = spnego._ntlm_raw.messages
    alice = hostile("client", "ntlm")
    genuine = messages.Challenge.unpack(challenge_of(ours, alice.step()))
    information = genuine.target_info
    if not timestamp:
        del information[messages.AvId.timestamp]
    bent = messages.Challenge(
        genuine.flags & ~(SIGN | SEAL),
        genuine.server_challenge,
        target_name=genuine.target_name,
        target_info=information,
        version=genuine.version,
    )
    answer = alice.step(bent.pack())
    assert isinstance(answer, bytes)
    return answer


@pytest.mark.parametrize("timestamp", [True, False], ids=["cut off", "talked out of"])
@ntlm_alone
def test_e2_relayed_message_without_its_mic_is_refused(timestamp: bool) -> None:
    """The MIC is all that tells that somebody took the layer off under way.

    Guard: saslwrap/mechanisms/gss/ntlm.py: if 0 < offset < _BEHIND_MIC or
    Guard: saslwrap/mechanisms/gss/ntlm.py: pairs.get(_AV_FLAGS, b""), "little") & _HAS_MIC:
    """
    ours = server()
    message = relayed(ours, timestamp=timestamp)
    assert_refused(ours, responded(cut_mic_off(message) if timestamp else message), "its MIC")


def knowing_the_key(flags: int) -> Any:
    """A client whose session key is empty, as the acceptor's would be."""
    crypto, peer, key = spnego._ntlm_raw.crypto, hostile("client", "ntlm"), b""
    peer._context_attr, peer._complete = flags, True
    peer._sign_key_out = crypto.signkey(flags, key, "initiate")
    peer._sign_key_in = crypto.signkey(flags, key, "accept")
    peer._handle_out = crypto.rc4init(crypto.sealkey(flags, key, "initiate"))
    peer._handle_in = crypto.rc4init(crypto.sealkey(flags, key, "accept"))
    return peer


@ntlm_alone
def test_e2_relayed_message_without_its_session_key_is_refused() -> None:
    """The attacker would know the key, and seal in Alice's name.

    Guard: saslwrap/mechanisms/gss/ntlm.py: if exchanged and len(
    """
    messages, ours = spnego._ntlm_raw.messages, spnego_mechanism("server", ntlm=True)
    alice = hostile("client", "ntlm")
    negotiate = alice.step()
    challenge = challenge_of(ours, negotiate)
    genuine = messages.Authenticate.unpack(alice.step(challenge))
    forged = messages.Authenticate(
        genuine.flags,
        genuine.lm_challenge_response,
        genuine.nt_challenge_response,
        domain_name=genuine.domain_name,
        username=genuine.user_name,
        version=messages.Version(10, 0, 0),
    )
    forged.mic = spnego._ntlm_raw.crypto.hmac_md5(b"", negotiate + challenge + forged.pack())
    listed = spnego._spnego.pack_mech_type_list([spnego._spnego.GSSMech.ntlm.value])
    mic = knowing_the_key(genuine.flags).sign(listed)
    assert_refused(ours, responded(forged.pack(), mic, over=False), "no session key")


@ntlm_alone
def test_e2_server_does_not_choose_the_channel() -> None:
    """The client signs what the challenge names; without TLS it is on none.

    Guard: saslwrap/mechanisms/gss_spnego.py: if self._watch.bound and
    """
    messages, ours = spnego._ntlm_raw.messages, spnego_mechanism("client", ntlm=True)
    answer = spnego._spnego.unpack_token(hostile("server", "negotiate").step(told(ours, None)))
    genuine = messages.Challenge.unpack(answer.response_token)
    information = genuine.target_info
    information[messages.AvId.channel_bindings] = BINDING[:16]
    bent = messages.Challenge(
        genuine.flags,
        genuine.server_challenge,
        target_name=genuine.target_name,
        target_info=information,
        version=genuine.version,
    )
    for _ in range(2):
        with pytest.raises(NegotiationError, match="a channel of its own choice"):
            told(ours, responded(bent.pack(), over=False))


@ntlm_alone
def test_e2_message_with_another_signature_is_refused() -> None:
    """Guard: saslwrap/mechanisms/gss/ntlm.py: or not message.startswith(_AUTHENTICATE):"""
    ours = server()
    client, challenge = alice_at(ours)
    unsigned = b"XXXXXXXX" + client.step(challenge)[8:]
    assert_refused(ours, responded(unsigned), "or is none")


@pytest.mark.usefixtures("kind_acceptor")
@ntlm_alone
def test_e2_decoy_behind_the_message_hides_nothing() -> None:
    """Guard: saslwrap/mechanisms/gss/ntlm.py: message = open_token(token or b"")"""
    ours = server()
    challenge_of(ours, spnego._ntlm_raw.messages.Negotiate(FLAGS).pack())
    hidden = b"XXXXXXXX" + without_password()[8:]
    assert_refused(ours, responded(hidden + decoy()), "or is none")


@pytest.mark.parametrize("form", ["81", "bf01"], ids=["primitive", "long tag"])
@ntlm_alone
def test_e2_message_in_another_form_of_spnego_is_refused(form: str) -> None:
    """DER has one; pyspnego takes others, in which a message hides, and then a decoy is shown.

    Guard: saslwrap/mechanisms/gss/tokens.py: if token[0] not in (_INITIAL, RESPONSE):
    """
    ours = server(tls_server_end_point=BINDING)
    challenge_of(ours, spnego._ntlm_raw.messages.Negotiate(FLAGS).pack())
    hidden = bytes.fromhex(form) + responded(without_password(), over=False)[1:]
    for message in (hidden, responded(decoy())):
        with pytest.raises(MalformedMessageError, match="as SPNEGO or Kerberos"):
            ours.step(message)
    assert not ours.complete


@ntlm_alone
def test_e2_second_message_does_not_hide_a_weak_session() -> None:
    """pyspnego drops it, while SPNEGO waits for the MIC of its list.

    Guard: saslwrap/mechanisms/gss/ntlm.py: self._flags is not None or
    """
    ours = spnego_mechanism("server", ntlm=True)
    says = weak_ntlm("server", KEY_128 | KEY_56)
    weak = spnego._spnego.unpack_token(says.send(told(ours, next(says))))
    message = weak.response_token
    told(ours, responded(message, over=False))
    strong = message[:60] + b"\xff" * 4 + message[64:]
    assert_refused(ours, responded(strong, weak.mech_list_mic, over=False), "more than once")


@pytest.mark.parametrize(
    "without", [SIGN | SEAL, SEAL, KEY_128 | KEY_56], ids=["neither", "signed", "40 bits"]
)
@ntlm_alone
def test_e2_client_hands_out_nothing_for_a_weak_session(without: int) -> None:
    """A hostile server chose it: what would leave is good for a relay to another service.

    Guard: saslwrap/mechanisms/gss_spnego.py: if self._watch.seen:
    """
    ours = spnego_mechanism("client", ntlm=True)
    says = weak_ntlm("client", without)
    next(says)
    bent = says.send(told(ours, None))
    with pytest.raises(NegotiationError):
        ours.step(bent)


# ---------------------------------------------------------------- E2: a list that nobody holds

Bend = Callable[[bytes], bytes]


def struck_out(token: bytes) -> bytes:
    """An answer of SPNEGO without the MIC over the list of mechanisms."""
    answer = spnego._spnego.unpack_token(token)
    assert answer.mech_list_mic
    return responded(answer.response_token)


def put_outside(token: bytes) -> bytes:
    """The same: the MIC stands behind what is read."""
    state = bytes.fromhex("a003 0a0100")
    at = token.index(state) + len(state)
    assert token[2:4] == bytes([0x30, at - 4 + len(token[at:])])
    return token[:3] + bytes([at - 4]) + token[4:]


def said_twice(token: bytes) -> bytes:
    """The mechanism's token in its place, which pyspnego takes for an old peer's slip."""
    answer = spnego._spnego.unpack_token(token)
    own = answer.response_token or answer.mech_list_mic
    return responded(own, own)


@pytest.mark.parametrize("bend", [struck_out, put_outside, said_twice])
@ntlm_alone
def test_e2_server_whose_mic_over_the_list_is_missing_is_refused(bend: Bend) -> None:
    """RFC 4178 section 5: it is all that holds the list, and all that a server proves by NTLM.

    Guard: saslwrap/mechanisms/gss_spnego.py: if self._watch.seen and not self._listed:
    Guard: saslwrap/mechanisms/gss/tokens.py: return b"" if mic == fields.get(_TOKEN_FIELD) else mic
    """
    ours, server = (spnego_mechanism(role, ntlm=True) for role in ("client", "server"))
    last = told(server, told(ours, told(server, told(ours, None))))
    for _ in range(2):
        with pytest.raises(MutualAuthenticationError, match="MIC over SPNEGO's list"):
            ours.step(bend(last))
    assert not ours.complete


@pytest.mark.parametrize("bend", [struck_out, said_twice])
@ntlm_alone
def test_e2_client_whose_mic_over_the_list_is_missing_is_refused(bend: Bend) -> None:
    """Guard: saslwrap/mechanisms/gss_spnego.py: and self._in_spnego and not self._listed:
    Guard: saslwrap/mechanisms/gss/tokens.py: return b"" if mic == fields.get(_TOKEN_FIELD) else mic
    """
    client, ours = (spnego_mechanism(role, ntlm=True) for role in ("client", "server"))
    proof = told(client, told(ours, told(client, None)))
    assert_refused(ours, bend(proof), "MIC over SPNEGO's list")


@ntlm_alone
def test_e2_client_that_steps_out_of_spnego_is_refused() -> None:
    """Guard: saslwrap/mechanisms/gss_spnego.py: if self._in_spnego and message[0] != RESPONSE:"""
    client, ours = (spnego_mechanism(role, ntlm=True) for role in ("client", "server"))
    proof = told(client, told(ours, told(client, None)))
    with pytest.raises(MalformedMessageError, match="no answer of SPNEGO"):
        ours.step(spnego._spnego.unpack_token(proof).response_token)
    assert not ours.complete


# ---------------------------------------------------------------- E2: the wrong TLS connection


@pytest.mark.parametrize("binding", [None, OTHER_BINDING, b""], ids=["none", "another", "zeros"])
@each_layer("sealed", "spnego", "ntlm")
def test_e2_login_that_is_not_bound_to_the_servers_tls_is_refused(
    layer: str, binding: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/gss/side.py: bindings is not None and not bound:
    Guard: saslwrap/mechanisms/gss/ntlm.py: self.bound = any(pairs.get(_AV_BINDINGS, b""))
    Guard: saslwrap/mechanisms/gss/provider.py: bool(int(native.actual_flags) & _CHANNEL_BOUND)
    Guard: saslwrap/mechanisms/gss/provider.py: "channel_bindings": bindings,
    """
    control = mechanism(layer, "server", tls_server_end_point=BINDING)
    log_in(control, script(layer, "server", BINDING)[1])
    assert control.complete
    if binding == b"":
        binding = bytes(32)
        if layer == "ntlm":  # which pyspnego's acceptor takes for any
            monkeypatch.setattr(spnego._ntlm, "md5", lambda _: bytes(16))
    ours = mechanism(layer, "server", tls_server_end_point=BINDING)
    with pytest.raises(AuthenticationError, match="tls-server-end-point"):
        log_in(ours, script(layer, "server", binding)[1])
    assert ours.authcid is None


# ---------------------------------------------------------------- E16: tokens that take long


def tlv(tag: str, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return bytes.fromhex(tag) + b"\x83" + len(content).to_bytes(3, "big") + content


SPNEGO_OID = "06062b0601050502"
OTHER_FORMS = {"padded": "06072b800601050502", "long length": "0681062b0601050502"}
KERBEROS = bytes.fromhex("06092a864886f712010202")
GIANT_OID = tlv("06", b"\xff" * 60000, b"\1")
HEAVY = {
    "OID": GIANT_OID,
    "elements": b"\6\1\x2a" * 20000,
    "octets": tlv("04", bytes(1 << 16)),
    "constructed OID": tlv("26", tlv("04", b"\xff" * 60000)),
}


def first_token(role: Role, content: bytes, **forms: str) -> bytes:
    """What may come first to our side in this role, with this in its list of mechanisms.

    :param forms: how tags and SPNEGO's name are written, in hexadecimal
    """
    forms = {"response": "a1", "initial": "60", "name": SPNEGO_OID, "list": "30", **forms}
    if role == "client":
        return tlv(forms["response"], tlv("30", tlv("a1", content)))
    mechanisms = tlv("a0", tlv(forms["list"], KERBEROS, content))
    return tlv(forms["initial"], bytes.fromhex(forms["name"]), tlv("a0", tlv("30", mechanisms)))


def forbid_pyspnegos_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(token: bytes) -> None:
        pytest.fail(f"pyspnego has to read {len(token)} octets")

    monkeypatch.setattr(spnego._negotiate, "unpack_token", reached)


@pytest.mark.parametrize("heavy", HEAVY.values(), ids=list(HEAVY))
@both_roles
@ntlm_alone
def test_e16_token_that_takes_long_to_read_is_not_read(
    role: Role, heavy: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser's time grows with the square of it, before anybody has proved anything.

    Guard: saslwrap/mechanisms/gss/tokens.py: stop - start > _LONGEST.get(token[at], -1)
    Guard: saslwrap/mechanisms/gss/tokens.py: count > _MOST_ELEMENTS
    """
    ours = spnego_mechanism(role, ntlm=True)
    if role == "client":
        told(ours, None)
    forbid_pyspnegos_parser(monkeypatch)
    with pytest.raises(MalformedMessageError, match=r"as SPNEGO or Kerberos|are the most"):
        ours.step(first_token(role, heavy))


@ntlm_alone
def test_e16_message_of_ntlm_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: saslwrap/mechanisms/gss/tokens.py: if len(token) > MAX_TOKEN:"""
    forbid_pyspnegos_parser(monkeypatch)
    with pytest.raises(MalformedMessageError, match="65535 are the most"):
        server().step(NEGOTIATE.ljust(1 << 16, b"\0"))


FORMS: dict[str, tuple[Role, dict[str, str]]] = {
    **{f"name, {form}": ("server", {"name": name}) for form, name in OTHER_FORMS.items()},
    "list, primitive": ("server", {"list": "10"}),
    "initial, primitive": ("server", {"initial": "40"}),
    "initial, long tag": ("server", {"initial": "7f00"}),
    "response, primitive": ("client", {"response": "81"}),
    "response, long tag": ("client", {"response": "bf01"}),
}


@pytest.mark.parametrize(("role", "forms"), FORMS.values(), ids=list(FORMS))
@ntlm_alone
def test_e16_token_in_a_form_that_der_does_not_have_is_not_read(
    role: Role, forms: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyspnego reads it all the same.

    Guard: saslwrap/mechanisms/gss/tokens.py: if token[0] not in (_INITIAL, RESPONSE):
    Guard: saslwrap/mechanisms/gss/tokens.py: if mechanism != _SPNEGO or
    """
    ours = spnego_mechanism(role, ntlm=True)
    if role == "client":
        told(ours, None)
    forbid_pyspnegos_parser(monkeypatch)
    with pytest.raises(MalformedMessageError, match=r"as SPNEGO or Kerberos|no answer of SPNEGO"):
        ours.step(first_token(role, GIANT_OID, **forms))
