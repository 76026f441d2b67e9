"""Attack list, C10: the wrong kind of GSS token, and contexts that cannot carry a layer.

The bytes of a frame, under GSS: altered, replayed, reordered, reflected, of another session.
"""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap.errors import (
    IntegrityError,
    MutualAuthenticationError,
    NegotiationError,
    OutOfSequenceError,
    SASLError,
)
from saslwrap.mechanisms.gss.provider import Flag, GSSContext
from saslwrap.properties import SecurityProperties
from tests.attacks.gss import (
    ALL,
    EVERYTHING,
    INT,
    MUTUAL,
    NO_INTEGRITY,
    NONE,
    REPLAY,
    SEQUENCE,
    Role,
    attacked,
    both_roles,
    each_layer,
    every_layer,
    gssapi,
    hostile,
    kerberos,
    log_in,
    session,
    spnego_mechanism,
    spnego_script,
    told,
    word,
)
from tests.attacks.support import frame, judge, wire
from tests.gss_pairs import SIGNED

NO_MINIMUM = SecurityProperties(min_ssf=0)


# ---------------------------------------------------------------- tokens


@both_roles
@each_layer("sealed", "spnego")
def test_c10_integrity_only_token_is_refused_under_confidentiality(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: if self._encrypted and not encrypted:"""
    attack = session(layer, role)
    first, second = attack.frames(b"sealed")[0], frame(attack.token(b"signed", encrypt=False))
    error = attack.assert_refuses(first + second, accepted=b"sealed")
    assert type(error) is IntegrityError


@both_roles
@every_layer
def test_c10_one_bit_of_a_frame_is_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)
    Guard: saslwrap/framing.py: if self._eof and arrived:
    """
    for bit in range(8 * len(session(layer, role).frames(b"m")[0])):
        attack = session(layer, role)
        flipped = bytearray(attack.frames(b"m")[0])
        flipped[bit // 8] ^= 1 << bit % 8
        attack.assert_refuses(bytes(flipped), eof=True)


@both_roles
@every_layer
def test_c10_spliced_tokens_are_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    for cut in range(1, len(session(layer, role).token(b"pay alice"))):
        for turn in (1, -1):
            attack = session(layer, role)
            tokens = attack.token(b"pay alice"), attack.token(b"pay mallo")
            head, tail = tokens[::turn]
            made = head[:cut] + tail[cut:]
            if made != tokens[0]:
                attack.assert_refuses(frame(made))


@both_roles
@every_layer
def test_c10_genuine_token_behind_a_forged_one_is_refused(layer: str, role: Role) -> None:
    """GSS itself would go on.

    Guard: saslwrap/context.py: self.close()
    """
    attack = session(layer, role)
    token = attack.token()
    forged = bytes([token[0] ^ 1]) + token[1:]
    attack.assert_refuses(frame(forged) + frame(token))
    assert judge(attack.layer, frame(token)).accepted == b""


@both_roles
@every_layer
def test_c10_token_of_another_length_is_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    length = len(session(layer, role).token(b"m"))
    for cut in range(1, length):
        attack = session(layer, role)
        attack.assert_refuses(frame(attack.token(b"m")[:cut]))
    for more in (b"\0", b"m", bytes(16)):
        attack = session(layer, role)
        attack.assert_refuses(frame(attack.token(b"m") + more))


TURNS = {
    "replay": [0, 0],
    "late replay": [0, 1, 0],
    "gap": [1],
    "gap later": [0, 2],
    "swapped": [1, 0],
    "swapped later": [0, 2, 1],
}


@pytest.mark.parametrize("turns", TURNS.values(), ids=list(TURNS))
@both_roles
@every_layer
def test_c10_tokens_out_of_turn_are_refused(layer: str, role: Role, turns: list[int]) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    attack = session(layer, role)
    messages = [b"0", b"1", b"2"]
    frames = attack.frames(*messages)
    good = 0
    while turns[good] == good:
        good += 1
    error = attack.assert_refuses(
        b"".join(frames[turn] for turn in turns), accepted=b"".join(messages[:good])
    )
    assert type(error) is (IntegrityError if layer == "ntlm" else OutOfSequenceError)


@both_roles
@every_layer
def test_c10_token_that_comes_back_to_its_sender_is_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    attack = session(layer, role)
    attack.assert_refuses(wire(attack.layer, b"a message")[0])


@both_roles
@every_layer
def test_c10_token_of_another_session_is_refused(layer: str, role: Role) -> None:
    """Guard: saslwrap/mechanisms/gss/provider.py: return _translated(work, unwrap_error)"""
    attack, other = session(layer, role), session(layer, role)
    attack.assert_refuses(frame(other.token()))


@both_roles
@every_layer
def test_c10_token_of_the_caller_is_left_as_it_is(layer: str, role: Role) -> None:
    """MIT krb5 works in place: two who share the octets would see them change.

    Guard: saslwrap/mechanisms/gss/layer.py: unwrap(memoryview(token).tobytes())
    """
    attack = session(layer, role)
    token = attack.token()
    before = bytes(bytearray(token))
    assert attack.layer.context.unseal(token) == b"a message"
    assert token == before
    received = frame(attack.token())
    before = bytes(bytearray(received))
    assert judge(attack.layer, received).accepted == b"a message"
    assert received == before


@both_roles
@kerberos
def test_c10_word_on_layers_is_left_as_it_is(role: Role) -> None:
    """Guard: saslwrap/mechanism.py: octets(message).tobytes()"""
    login = attacked(role, properties=SIGNED)
    message = login.peer.wrap(word(INT), encrypt=False).data
    before = bytes(bytearray(message))
    login.ours.step(message)
    assert message == before


@pytest.mark.usefixtures("ntlm_users")
@both_roles
def test_c10_message_that_was_not_encrypted_is_not_sent(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: if self._encrypt and not encrypted:"""
    attack = session("ntlm", role)
    monkeypatch.setattr(GSSContext, "wrap", lambda _, message, encrypt: (message, not encrypt))
    with pytest.raises(SASLError, match="did not encrypt"):
        attack.layer.send_data(b"secret")
    assert attack.layer.context.failed


# ---------------------------------------------------------------- contexts


WITHOUT_SEQUENCE = pytest.mark.parametrize(
    "flags",
    [EVERYTHING ^ SEQUENCE, EVERYTHING ^ SEQUENCE ^ REPLAY, MUTUAL],
    ids=["replay detection", "neither", "mutual"],
)


@WITHOUT_SEQUENCE
@kerberos
def test_c10_context_without_sequence_is_offered_no_layer(flags: int) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: and Flag.SEQUENCE in flags"""
    login = attacked("server", flags=flags, properties=NO_MINIMUM)
    assert login.offer == word(NONE, 0)
    with pytest.raises(NegotiationError):
        login.hears(word(INT))
    with pytest.raises(NegotiationError, match="GSSAPI cannot give what is wanted"):
        attacked("server", flags=flags)


@WITHOUT_SEQUENCE
@kerberos
def test_c10_context_without_sequence_is_refused_by_spnego(flags: int) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: and Flag.SEQUENCE in flags"""
    server = spnego_mechanism("server")
    with pytest.raises(NegotiationError, match="sequence detection"):
        log_in(server, spnego_script(hostile("client", flags=flags), "server"))


def grant_less(monkeypatch: pytest.MonkeyPatch, flags: Flag) -> None:
    """Let GSS grant less than was asked for."""
    real: Any = GSSContext.flags
    monkeypatch.setattr(GSSContext, "flags", property(lambda gss: real.fget(gss) & ~flags))


@each_layer("spnego", "ntlm")
def test_c10_client_refuses_a_context_that_was_not_granted_sequence(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: and Flag.SEQUENCE in flags"""
    grant_less(monkeypatch, Flag.SEQUENCE)
    with pytest.raises(NegotiationError, match="sequence detection"):
        session(layer, "client")


@kerberos
def test_c10_client_takes_no_layer_that_was_not_granted_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: saslwrap/mechanisms/gss/layer.py: and Flag.SEQUENCE in flags"""
    grant_less(monkeypatch, Flag.SEQUENCE)
    with pytest.raises(NegotiationError):
        attacked("client").hears(word(ALL))
    login = attacked("client", properties=NO_MINIMUM)
    assert login.peer.unwrap(login.hears(word(ALL))).data == word(NONE, 0)
    assert login.ours.context is None


@kerberos
def test_c10_layer_is_not_inferred_from_wrap() -> None:
    """A context without integrity wraps gladly.

    Guard: saslwrap/mechanisms/gss/layer.py: return Flag.INTEGRITY in flags
    Guard: saslwrap/mechanisms/gss_spnego.py: return gss.ssf if sealed else int(signed)
    """
    flags = MUTUAL | SEQUENCE | NO_INTEGRITY
    login = attacked("server", flags=flags, properties=NO_MINIMUM)
    assert login.offer == word(NONE, 0)
    login.hears(word(NONE, 0))
    assert login.ours.context is None
    server = spnego_mechanism("server", properties=NO_MINIMUM)
    log_in(server, spnego_script(hostile("client", flags=flags), "server"))
    assert server.context is None
    says = spnego_script(hostile("client", flags=flags), "server")
    with pytest.raises(NegotiationError):
        log_in(spnego_mechanism("server"), says)


@kerberos
def test_c10_integrity_only_context_is_offered_no_confidentiality(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if Flag.CONFIDENTIALITY in self._gss.flags:"""
    grant_less(monkeypatch, Flag.CONFIDENTIALITY)
    assert attacked("server", properties=NO_MINIMUM).offer == word(NONE | INT)
    with pytest.raises(NegotiationError):
        attacked("client").hears(word(ALL))


@each_layer("sealed", "spnego")
def test_c10_server_that_proves_nothing_is_refused(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/gssapi.py: if Flag.MUTUAL not in gss.flags:
    Guard: saslwrap/mechanisms/gss_spnego.py: and Flag.MUTUAL not in gss.flags:
    """
    grant_less(monkeypatch, Flag.MUTUAL)
    with pytest.raises(MutualAuthenticationError):
        session(layer, "client")


@kerberos
def test_c10_answer_of_another_login_proves_nothing() -> None:
    """Guard: saslwrap/mechanisms/gss/errors.py: return MutualAuthenticationError("""
    clients = [gssapi("client") for _ in range(2)]
    answers = [hostile("server").step(told(client, None)) for client in clients]
    for client, answer in zip(clients, reversed(answers), strict=True):
        with pytest.raises(MutualAuthenticationError):
            client.step(answer)
