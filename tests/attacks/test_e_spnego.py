"""Attack list, E2, E11, E16 and G6 for the GSS mechanisms: NTLM, SPNEGO, garbage, early success.

A server that picks NTLM, sessions of NTLM that are worth little, whatever comes at the wrong time.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.mechanism import ClientMechanism, Mechanism
from saslwrap.mechanisms.gss.provider import GSSContext
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import decode
from tests.attacks.bind_server import IN_PROGRESS, SUCCESS, LDAPServer
from tests.attacks.gss import (
    CHALLENGE,
    NEGOTIATE,
    NTLM,
    PATIENCE,
    PeerGaveUpError,
    Role,
    Script,
    both_roles,
    every_layer,
    hostile,
    kerberos,
    log_in,
    mechanism,
    script,
    spnego,
    spnego_mechanism,
    spnego_script,
    told,
)
from tests.gss_pairs import write_ntlm_users
from tests.peers.directory import ALICE

ntlm_alone = pytest.mark.usefixtures("ntlm_users")

SIGN, SEAL, SESSION_SECURITY = 0x10, 0x20, 0x80000
KEY_128, KEY_56 = 0x20000000, 0x80000000

# ---------------------------------------------------------------- E2: sessions of NTLM


def ntlm_client(without: int) -> Any:
    """A client of bare NTLM that does not ask for these flags."""
    peer = hostile("client", "ntlm")
    peer._context_req &= ~without
    return peer


def weak_ntlm(role: Role, without: int) -> Script:
    """What a peer says to ours in `role` that does without these flags."""
    if role == "server":
        peer, inner = hostile("client", "negotiate"), ntlm_client(without)
        inner._is_wrapped = True
        peer._available_contexts = {spnego._spnego.GSSMech.ntlm: inner}
        return spnego_script(peer, role)
    return _server_script(hostile("server", "negotiate"), without)


def _server_script(peer: Any, without: int) -> Script:
    """A server that challenges as if less had been asked for, and hides it from the MIC."""
    messages = spnego._ntlm_raw.messages
    token = yield None
    assert token is not None
    at = token.index(NEGOTIATE)
    asked = messages.Negotiate.unpack(token[at:])
    flags = int.from_bytes(token[at + 12 : at + 16], "little") & ~without
    answer = peer.step(token[: at + 12] + flags.to_bytes(4, "little") + token[at + 16 :])
    peer._context._temp_negotiate = asked
    while True:
        token = yield answer
        answer = peer.step(token)


WEAK = {
    "signed": (SEAL, "without sealing"),
    "no session security": (SESSION_SECURITY, "without sealing"),
    "neither": (SIGN | SEAL, "SSF of 0"),
    "56 bits": (KEY_128, "SSF of 56"),
    "40 bits": (KEY_128 | KEY_56, "SSF of 40"),
}


@pytest.mark.parametrize(("without", "text"), WEAK.values(), ids=list(WEAK))
@both_roles
@ntlm_alone
def test_e2_weak_session_of_ntlm_is_refused(role: Role, without: int, text: str) -> None:
    """Guard: saslwrap/mechanisms/gss/ntlm.py: if flags is None or flags & needed != needed:
    Guard: saslwrap/mechanisms/gss/ntlm.py: return 128 if flags & _KEY_128
    Guard: saslwrap/mechanisms/gss_spnego.py: return watch.ssf
    Guard: saslwrap/mechanisms/gss_spnego.py: if least <= ssf <= greatest:
    """
    ours = spnego_mechanism(role, ntlm=True)
    says = weak_ntlm(role, without)
    with pytest.raises(NegotiationError, match=text):
        log_in(ours, says)
    assert not ours.complete


@pytest.mark.parametrize("without", [SEAL, SESSION_SECURITY], ids=["signed", "no security"])
@both_roles
@ntlm_alone
def test_e2_ntlm_is_never_taken_for_integrity(role: Role, without: int) -> None:
    """Guard: saslwrap/mechanisms/gss/ntlm.py: if flags is None or flags & needed != needed:"""
    ours = spnego_mechanism(role, ntlm=True, properties=SecurityProperties(min_ssf=0))
    says = weak_ntlm(role, without)
    with pytest.raises(NegotiationError, match="without sealing"):
        log_in(ours, says)


@ntlm_alone
def test_e2_server_that_does_not_wait_for_the_proof_is_refused() -> None:
    """It says that all is well, and has heard nothing that shows it the key.

    Guard: saslwrap/mechanisms/gss_spnego.py: return watch.ssf
    """
    client = spnego_mechanism("client", ntlm=True)
    challenge = hostile("server", "negotiate").step(told(client, None))
    early = challenge.replace(b"\xa0\x03\x0a\x01\x03", b"\xa0\x03\x0a\x01\x00", 1)
    assert early != challenge
    with pytest.raises(NegotiationError):
        client.step(early)


# ---------------------------------------------------------------- E2: NTLM in place of Kerberos


def picked(challenge: bytes | None = None) -> bytes:
    """SPNEGO's answer that NTLM is the mechanism."""
    packed = spnego._spnego.NegTokenResp(
        neg_state=spnego._spnego.NegState.request_mic,
        supported_mech=spnego._spnego.GSSMech.ntlm.value,
        response_token=challenge,
    ).pack()
    assert isinstance(packed, bytes)
    return packed


def challenge() -> bytes:
    """A server's challenge, of bare NTLM."""
    challenge = hostile("server", "ntlm").step(ntlm_client(0).step())
    assert isinstance(challenge, bytes)
    return challenge


PICKS: dict[str, Callable[[], bytes]] = {
    "picked": picked,
    "picked, and challenge": lambda: picked(challenge()),
}


@pytest.mark.parametrize("answer", PICKS.values(), ids=list(PICKS))
@kerberos
def test_e2_server_that_picks_ntlm_is_refused(
    answer: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing has left by then that tells of the password.

    Guard: saslwrap/mechanisms/gss_spnego.py: return gss.protocol == "ntlm" and not ntlm
    """
    write_ntlm_users(tmp_path, monkeypatch)
    client = spnego_mechanism("client", username=ALICE.username, password=ALICE.password)
    left = [told(client, None)]
    for _ in range(3):
        with pytest.raises(NegotiationError, match="NTLM, which was not allowed"):
            left.append(told(client, answer()))
    assert NTLM not in b"".join(left)


def kerberos_client(**options: Any) -> Mechanism:
    """Alice's client, which has Kerberos, and would do with NTLM."""
    who = {"username": ALICE.username, "password": ALICE.password}
    return spnego_mechanism("client", ntlm=True, **who, **options)


def list_of_ntlm() -> bytes:
    """SPNEGO opened anew, by the server, with NTLM alone."""
    packed = spnego._spnego.NegTokenInit([spnego._spnego.GSSMech.ntlm.value]).pack()
    assert isinstance(packed, bytes)
    return packed


@pytest.mark.parametrize("opens", [challenge, list_of_ntlm], ids=["challenge", "list"])
@kerberos
def test_e2_server_that_opens_anew_is_refused(
    opens: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The MIC over the list of mechanisms would cover the attacker's.

    Guard: saslwrap/mechanisms/gss_spnego.py: if not message or message[0] != RESPONSE:
    """
    write_ntlm_users(tmp_path, monkeypatch)
    client = kerberos_client()
    told(client, None)
    with pytest.raises(MalformedMessageError, match="no answer of SPNEGO"):
        client.step(opens())


@both_roles
@ntlm_alone
def test_e2_ntlm_has_to_be_allowed(role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss_spnego.py: return gss.protocol == "ntlm" and not ntlm"""
    ours = spnego_mechanism(role)
    if role == "client":
        ours = spnego_mechanism(role, username=ALICE.username, password=ALICE.password)
    _, says = script("ntlm", role)
    with pytest.raises(SASLError):
        ours.step(next(says))
    assert not ours.complete


# ---------------------------------------------------------------- E11: success at the wrong time

NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)


def end_of_spnego(mechanism: str | None = None) -> bytes:
    """The peer's word that all is well, with nothing in it."""
    state = spnego._spnego.NegState.accept_complete
    packed = spnego._spnego.NegTokenResp(state, mechanism).pack()
    assert isinstance(packed, bytes)
    return packed


@pytest.mark.parametrize("token", [True, False], ids=["NTLM begun", "nothing begun"])
@ntlm_alone
def test_e11_client_that_ends_spnego_by_itself_is_nobody(token: bool) -> None:
    """Where no layer is wanted (over TLS), nothing behind would tell.

    Guard: saslwrap/mechanisms/gss/provider.py: if not all(getattr(proxy, "complete", True)
    """
    mechanisms = [spnego._spnego.GSSMech.ntlm.value]
    inner = ntlm_client(0).step() if token else None
    ours = spnego_mechanism("server", ntlm=True, properties=NO_LAYER)
    told(ours, spnego._spnego.NegTokenInit(mechanisms, mech_token=inner).pack())
    with pytest.raises(AuthenticationError, match="before the login inside it was over"):
        ours.step(end_of_spnego())
    assert not ours.complete


@kerberos
def test_e11_server_that_ends_spnego_by_itself_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It picks what the client has not begun, and says that this is over.

    Guard: saslwrap/mechanisms/gss/provider.py: if not all(getattr(proxy, "complete", True)
    """
    write_ntlm_users(tmp_path, monkeypatch)
    ours = kerberos_client(properties=NO_LAYER)
    told(ours, None)
    with pytest.raises(MutualAuthenticationError, match="before the login inside it was over"):
        ours.step(end_of_spnego(spnego._spnego.GSSMech.ntlm.value))
    assert not ours.complete


Give: TypeAlias = Callable[[bytes | None], bytes | None]


class EarlyServer(LDAPServer):
    """Answers as its peer says, but reports success with its answer number `early`."""

    def __init__(
        self, layer: str, early: int, give: Callable[[bytes | None], bytes | None]
    ) -> None:
        super().__init__()
        _, self._says = script(layer, "client")
        next(self._says)
        self._early = early
        self._give = give

    def _answer(self, request: bytes) -> bytes:
        token = self._says.send(decode(request).value["authentication"][1].get("credentials", b""))
        early = len(self.heard) == self._early
        self.answers = [(SUCCESS, self._give(token)) if early else (IN_PROGRESS, token)]
        return super()._answer(request)


GIVEN: dict[str, Give] = {
    "nothing": lambda _: None,
    "empty": lambda _: b"",
    "its token": lambda token: token,
    "junk": lambda _: b"junk",
}


#: How many answers a server gives, and whether the last one has a token.
ANSWERS = {"sealed": (3, False), "spnego": (1, True), "ntlm": (2, True)}
EARLY = [
    pytest.param(layer, early, give, id=f"{layer}-{early}-{give}")
    for layer, (answers, speaks_last) in ANSWERS.items()
    for early in range(answers - (not speaks_last))
    for give in GIVEN
    if (early, give) != (answers - 1, "its token")
]


@pytest.mark.parametrize(("layer", "early", "give"), EARLY)
@pytest.mark.usefixtures("layers_needs")
def test_e11_success_before_the_end_is_refused(layer: str, early: int, give: str) -> None:
    """Guard: saslwrap/exchange.py: if self._mechanism is None or not self._mechanism.complete:
    Guard: saslwrap/exchange.py: if reply:
    """
    client = mechanism(layer, "client")
    assert isinstance(client, ClientMechanism)
    exchange = LDAPBind(client)
    with pytest.raises(SASLError):
        EarlyServer(layer, early, GIVEN[give]).serve(exchange)
    with pytest.raises(UsageError):
        _ = exchange.context


@both_roles
@every_layer
def test_e11_token_after_the_end_is_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanism.py: if self._complete:"""
    ours = mechanism(layer, role)
    heard: list[bytes | None] = []
    _, says = script(layer, role)

    def listen(_: int, message: bytes | None) -> bytes | None:
        heard.append(message)
        return message

    log_in(ours, says, listen)
    for message in (heard[-1], b"", None, b"a message"):
        with pytest.raises(ProtocolError, match="message after"):
            ours.step(message)


# ---------------------------------------------------------------- E16: garbage

WRONG: dict[str, bytes | None] = {
    "none": None,
    "empty": b"",
    "NUL": b"\0",
    "MiB": bytes(1 << 20),
    "SPNEGO, cut": b"\x60\x84\xff\xff\xff\xff\x06\x06+\x06\x01\x05\x05\x02",
    "NTLM, cut": CHALLENGE,
    "text": b"<html><body>it works</body></html>",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
@both_roles
@every_layer
def test_e16_wrong_message_is_refused_at_every_step(
    layer: str, role: Role, wrong: bytes | None
) -> None:
    """Guard: saslwrap/mechanisms/gss_spnego.py: if not message or message[0] != RESPONSE:
    Guard: saslwrap/mechanisms/gss/provider.py: except Exception as error: # a provider's
    """
    refused = 0
    for step in range(int(wrong is None), 4):
        ours = mechanism(layer, role)
        _, says = script(layer, role)

        def change(number: int, message: bytes | None, step: int = step) -> bytes | None:
            return wrong if number == step and message else message

        try:
            log_in(ours, says, change)
        except SASLError as error:
            refused += 1
            assert not ours.complete
            with pytest.raises(type(error)):
                ours.step(b"")
    assert refused or wrong is None


def insist(ours: Mechanism, message: bytes) -> None:
    """Say the same over and over."""
    for _ in range(PATIENCE):
        ours.step(message)


@both_roles
@ntlm_alone
def test_e16_login_without_an_end_is_refused(role: Role) -> None:
    """SPNEGO answers an empty message with another one, before anybody has proved anything.

    Guard: saslwrap/mechanisms/gss/provider.py: if self._steps > _MOST_STEPS:
    """
    ours = spnego_mechanism(role, ntlm=True)
    _, says = script("ntlm", role)
    message = next(says)
    for _ in range(1 if role == "server" else 2):
        message = says.send(ours.step(message))
    with pytest.raises(MalformedMessageError, match="would not end"):
        insist(ours, b"\xa1\x02\x30\x00")


def mutated(message: bytes, chance: random.Random) -> bytes:
    """Break it a little, in one of many ways."""
    at, length = chance.randrange(len(message)), chance.choice([1, 1, 2, 4, 16])
    head, tail = message[:at], message[at:]
    noise = chance.choice([chance.randbytes(length), b"\0" * length, b"\xff" * length])
    return chance.choice(
        [
            head + bytes([tail[0] ^ 1 << chance.randrange(8)]) + tail[1:],
            head + noise + tail[length:],
            head + noise + tail,
            head + tail[length:],
            head,
            head + head,
            tail,
            head + bytes([(tail[0] + chance.choice([1, -1])) % 256]) + tail[1:],
        ]
    )


@both_roles
@every_layer
def test_e16_garbage_is_an_error_of_ours(layer: str, role: Role) -> None:
    """Whatever was altered: it is refused, or it changed nothing that matters.

    Guard: saslwrap/mechanisms/gss/provider.py: except Exception as error: # a provider's
    """
    chance = random.Random(f"{layer} {role}")
    refused = 0
    for _ in range(150):
        ours = mechanism(layer, role)
        _, says = script(layer, role)
        step = chance.randrange(3)

        def change(number: int, message: bytes | None, step: int = step) -> bytes | None:
            return mutated(message, chance) if message and number == step else message

        try:
            log_in(ours, says, change)
        except SASLError:
            refused += 1
            assert not ours.complete
        except PeerGaveUpError:
            assert not ours.complete
        else:
            assert ours.authcid is not None
            assert ALICE.username in ours.authcid
    assert refused > 20


# ---------------------------------------------------------------- G6: what a failure leaves


def contexts() -> int:
    """How many GSS contexts of ours there are."""
    gc.collect()
    return sum(isinstance(one, GSSContext) for one in gc.get_objects())


@both_roles
@every_layer
def test_g6_failed_mechanism_forgets(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanism.py: fault = self._fault = error.fresh() self._forget()
    Guard: saslwrap/mechanisms/gss/side.py: self._gss = None
    Guard: saslwrap/mechanisms/gssapi.py: self._agreeing = None
    Guard: saslwrap/mechanisms/gssapi.py: self._next = self._establish # drop the negotiation,
    Guard: saslwrap/mechanisms/gss/credentials.py: self.password = None
    """
    before = contexts()
    for step in range(3):
        ours = mechanism(layer, role)
        if (layer, role) == ("sealed", "client"):
            ours = mechanism(layer, role, username=ALICE.username, password=ALICE.password)
        _, says = script(layer, role)

        def change(number: int, message: bytes | None, step: int = step) -> bytes | None:
            return b"junk" if message and number == step else message

        try:
            log_in(ours, says, change)
        except SASLError:
            assert contexts() == before
        credentials: Any = vars(ours)["_credentials"]
        assert credentials.password is None
