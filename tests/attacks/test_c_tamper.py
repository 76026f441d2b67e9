"""Attack list, group C: frames altered, replayed, reordered, reflected, spliced.

C10, the wrong kind of GSS token, stands with the GSS mechanisms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from saslwrap.context import SecurityContext
from saslwrap.errors import (
    IntegrityError,
    MutualAuthenticationError,
    OutOfSequenceError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ClientMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.testing import (
    PROTECTIONS,
    LayerPair,
    MechanismPair,
    connect_mechanisms,
    layer_pair,
    mechanism_pair,
)
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret, properties_for
from tests.attacks.support import (
    Forger,
    block_protection,
    every_protection,
    frame,
    judge,
    judge_in_place,
    sealer_of,
    unsealer_of,
    victim,
    wire,
)

CONFIDENTIAL = PROTECTIONS[1:]
confidential_protection = pytest.mark.parametrize("protection", CONFIDENTIAL)

Direction = Literal["to server", "to client"]
both_directions = pytest.mark.parametrize("direction", ["to server", "to client"])


def ends(pair: LayerPair, direction: Direction) -> tuple[SecurityLayer, SecurityLayer]:
    """The sending and the receiving end."""
    client, server = pair
    return (client, server) if direction == "to server" else (server, client)


def attacker_and_victim(protection: str, direction: Direction) -> tuple[Forger, SecurityLayer]:
    """Both, new, over the same keys each time."""
    to_server = direction == "to server"
    return Forger(protection, is_client=to_server), victim(protection, is_client=not to_server)


def assert_refused(layer: SecurityLayer, data: bytes) -> SASLError:
    """Nothing of `data` is accepted, the layer is dead, both ways."""
    verdict = judge(layer, data, eof=True)
    assert verdict.accepted == b""
    assert isinstance(verdict.error, IntegrityError | ProtocolError)
    assert layer.context.failed
    assert not layer.at_eof
    return verdict.error


@both_directions
@every_protection
def test_c1_no_flipped_bit_of_a_frame_is_accepted(protection: str, direction: Direction) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    Guard: saslwrap/mechanisms/digest_md5/context.py: if token[-6:-4] != TYPE:
    Guard: saslwrap/mechanisms/digest_md5/context.py: token[-4:] != sequence:
    Guard: saslwrap/framing.py: if self._eof and arrived:
    """
    seed = 1  # the same keys each time: the same frame, and a fresh victim
    sender, _ = ends(layer_pair(protection, seed=seed), direction)
    (octets,) = wire(sender, b"transfer 10")
    for bit in range(8 * len(octets)):
        _, receiver = ends(layer_pair(protection, seed=seed), direction)
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 1 << bit % 8
        assert_refused(receiver, bytes(flipped))


@every_protection
def test_c1_no_flipped_bit_of_a_token_is_accepted_in_place(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    Guard: saslwrap/mechanisms/digest_md5/context.py: wipe(body)
    """
    token = Forger(protection).token(b"transfer 10")
    for bit in range(8 * len(token)):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        verdict = judge_in_place(victim(protection), frame(flipped))
        assert isinstance(verdict.error, IntegrityError)
        assert b"transfer" not in verdict.accepted or protection == "auth-int"
        if bit < 8 * (len(token) - 6):  # it was deciphered, and nothing of that is left
            assert verdict.accepted[:-6] == bytes(len(token) - 6)


@both_directions
@every_protection
def test_c1_frame_as_it_was_is_accepted(protection: str, direction: Direction) -> None:
    """The control of the line above.

    Guard: saslwrap/mechanisms/digest_md5/keys.py: return DirectionKeys(self.server_to_client,
    """
    sender, receiver = ends(layer_pair(protection, seed=1), direction)
    (octets,) = wire(sender, b"transfer 10")
    assert judge(receiver, octets).accepted == b"transfer 10"


@both_directions
@pytest.mark.parametrize("cut", range(1, 11))
@every_protection
def test_c2_truncated_mac_with_adjusted_length_is_refused(
    protection: str, cut: int, direction: Direction
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:"""
    forger, layer = attacker_and_victim(protection, direction)
    token = forger.token(b"sixteen octets..")
    body, trailer = token[:-6], token[-6:]
    assert_refused(layer, frame(body[:-cut] + trailer))


@both_directions
@every_protection
def test_c2_token_of_another_length_is_refused(protection: str, direction: Direction) -> None:
    """Cut or longer, with the trailer behind it and without.

    Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    """
    token = attacker_and_victim(protection, direction)[0].token(b"sixteen octets..")
    body, trailer = token[:-6], token[-6:]
    longer = [body + more for more in (b"\0", body[-8:], body[:8], body)]
    for other in [body[:end] for end in range(len(body))] + longer:
        for tail in (trailer, b""):
            assert_refused(attacker_and_victim(protection, direction)[1], frame(other + tail))


@both_directions
@pytest.mark.parametrize("kept", range(10))
@block_protection
def test_c2_truncated_mac_in_whole_blocks_is_refused(
    protection: str, kept: int, direction: Direction
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:"""
    forger, layer = attacker_and_victim(protection, direction)
    message = b"sixteen octets.."
    mac = forger.mac(message)[:kept]
    length = 8 - (len(message) + kept) % 8
    token = forger.token(message, padding=bytes((length,)) * length, mac=mac)
    assert_refused(layer, frame(token))


@both_directions
@pytest.mark.parametrize(
    "order",
    [(0, 0), (0, 1, 1), (0, 1, 2, 0), (1,), (0, 2), (1, 0), (0, 2, 1)],
    ids=["replay", "replay last", "replay after a gap", "drop first", "drop", "swap", "swap later"],
)
@every_protection
def test_c3_replayed_dropped_or_swapped_frames_are_refused(
    protection: str, order: Sequence[int], direction: Direction
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: sequence = self._due()
    Guard: saslwrap/mechanisms/digest_md5/context.py: raise OutOfSequenceError
    """
    sender, receiver = ends(layer_pair(protection), direction)
    frames = wire(sender, b"a", b"b", b"c")
    in_order = next(place for place, number in enumerate(order) if place != number)
    verdict = judge(receiver, b"".join(frames[number] for number in order))
    assert verdict.accepted == b"abc"[:in_order]
    assert type(verdict.error) is OutOfSequenceError


@both_directions
@every_protection
def test_c4_own_frame_reflected_is_refused(protection: str, direction: Direction) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: server-to-client signing key magic constant"""
    sender, _ = ends(layer_pair(protection), direction)
    error = assert_refused(sender, wire(sender, b"to myself")[0])
    assert type(error) is IntegrityError


@confidential_protection
def test_c4_directions_share_no_sealing_key(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: to server-to-client sealing key magic"""
    client, server = layer_pair(protection)
    (there,), (back,) = wire(client, b"the same words"), wire(server, b"the same words")
    assert there[4:18] != back[4:18]


@both_directions
@every_protection
def test_c5_frame_of_another_session_of_the_user_is_refused(
    protection: str, direction: Direction
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: parts = [urp, self.nonce, self.cnonce]"""
    sender, _ = ends(layer_pair(protection), direction)
    _, receiver = ends(layer_pair(protection), direction)
    error = assert_refused(receiver, wire(sender, b"of another day")[0])
    assert type(error) is IntegrityError


def logged_in(pair: MechanismPair) -> bytes:
    """Log in; give what the client answered."""
    client, server = pair
    response = client.step(server.step(client.step(None)))
    client.step(server.step(response))
    assert response is not None
    return response


def layer_over(context: SecurityContext | None) -> SecurityLayer:
    """A layer over a completed login."""
    assert context is not None
    return SecurityLayer(context)


@every_protection
def test_c6_server_takes_no_subsequent_authentication(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: if self._challenge is None:
    Guard: saslwrap/mechanisms/digest_md5/server.py: nonce=check_nonce(self._generate_nonce(),
    """
    first = logged_in(mechanism_pair(protection))
    for initial in (first, first.replace(b"nc=00000001", b"nc=00000002")):
        again = mechanism_pair(protection).server
        challenge = again.step(initial)
        assert not again.complete
        assert challenge is not None
        assert b"nonce=" in challenge
        assert challenge != mechanism_pair(protection).server.step(None)
        with pytest.raises(SASLError, match="refused"):
            again.step(first)


def test_c6_client_starts_no_subsequent_authentication() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: return None if message is None else"""
    client, _ = mechanism_pair("auth-int")
    assert client.step(None) is None


@every_protection
def test_c6_mechanisms_log_in_once(protection: str) -> None:
    """Guard: saslwrap/mechanism.py: if self._complete:"""
    pair = mechanism_pair(protection)
    response = logged_in(pair)
    for side in pair:
        with pytest.raises(ProtocolError, match="after DIGEST-MD5 was complete"):
            side.step(response)


@every_protection
def test_c6_server_that_repeats_its_nonce_gets_no_keys_again(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: check_nonce(self._generate_cnonce(),"""

    def client_of_the_same_nonce() -> ClientMechanism:
        client = DigestMD5Client(
            USERNAME,
            PASSWORD,
            service="ldap",
            host=HOST,
            properties=properties_for(protection),
        )
        server = DigestMD5Server(
            get_secret,
            service="ldap",
            host=HOST,
            realms=[REALM],
            properties=properties_for(protection),
            generate_nonce=lambda: "the-nonce-of-every-login",
        )
        connect_mechanisms(client, server)
        return client

    first = wire(layer_over(client_of_the_same_nonce().context), b"recorded")
    second = wire(layer_over(client_of_the_same_nonce().context), b"recorded")
    assert first != second


def test_c6_proof_of_a_former_session_does_not_pass() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: not compare_digest(proof,"""
    old, new = mechanism_pair("auth-int"), mechanism_pair("auth-int")
    proof = old.server.step(old.client.step(old.server.step(None)))
    new.client.step(new.server.step(None))
    with pytest.raises(MutualAuthenticationError):
        new.client.step(proof)


@pytest.mark.parametrize("kind", [0x0000, 0x0002, 0x0101, 0x0100, 0xFFFF])
@every_protection
def test_c7_message_type_other_than_1_is_refused(protection: str, kind: int) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: if token[-6:-4] != TYPE:"""
    token = Forger(protection).token(kind=kind.to_bytes(2, "big"))
    assert type(assert_refused(victim(protection), frame(token))) is IntegrityError


@pytest.mark.parametrize("number", [1, -1, 2, 1 << 31, 1 << 8, 1 << 24])
@every_protection
def test_c8_number_that_is_not_due_is_refused_with_its_right_mac(
    protection: str, number: int
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: sequence = self._due()"""
    token = Forger(protection).token(number=number)
    assert type(assert_refused(victim(protection), frame(token))) is OutOfSequenceError


LAST = (1 << 32) - 1


def forward(pair: LayerPair) -> None:
    """Let 2^32-1 messages have passed."""
    sealer_of(pair.client.context)._number = LAST
    unsealer_of(pair.server.context)._number = LAST


def test_c8_numbers_start_anew_after_2_to_the_32_under_integrity() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: wraps = cipher is None"""
    pair = layer_pair("auth-int")
    forward(pair)
    last, first = wire(pair.client, b"last", b"first again")
    assert last[-4:] == b"\xff\xff\xff\xff"
    assert first[-4:] == bytes(4)
    assert judge(pair.server, last + first).accepted == b"lastfirst again"


@confidential_protection
def test_c8_cipher_seals_no_more_than_2_to_the_32(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: wraps = cipher is None"""
    pair = layer_pair(protection)
    forward(pair)
    (last,) = wire(pair.client, b"last")
    assert judge(pair.server, last).accepted == b"last"
    with pytest.raises(UsageError, match="connect anew"):
        pair.client.send_data(b"one more")
    assert not pair.client.context.failed


@confidential_protection
def test_c8_cipher_unseals_no_more_than_2_to_the_32(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/context.py: wraps = cipher is None"""
    forger, layer = Forger(protection), victim(protection)
    unsealer_of(layer.context)._number = LAST
    assert judge(layer, frame(forger.token(b"last", LAST))).accepted == b"last"
    error = assert_refused(layer, frame(forger.token(b"one more", LAST + 1)))
    assert type(error) is OutOfSequenceError


def spliced(first: bytes, second: bytes, cut: int) -> set[bytes]:
    """The bodies that can be made of two and are not the first."""
    made = (
        first[:cut] + second[cut:],
        second[:cut] + first[cut:],
        first + second[:cut],
        first[:cut] + second,
        second,
    )
    return set(made) - {first}


@both_directions
@every_protection
def test_c9_spliced_frames_are_refused(protection: str, direction: Direction) -> None:
    """At every octet: at the blocks' borders CBC would go on as if nothing had happened.

    Guard: saslwrap/mechanisms/digest_md5/context.py: if not authentic & well_formed:
    """
    sender, _ = ends(layer_pair(protection, seed=1), direction)
    first, second = wire(sender, b"pay alice ten pounds", b"pay mallory a million")
    bodies, trailer = (first[4:-6], second[4:-6]), first[-6:]
    for cut in range(1, len(bodies[1])):
        for body in spliced(*bodies, cut):
            _, receiver = ends(layer_pair(protection, seed=1), direction)
            error = assert_refused(receiver, frame(body + trailer))
            assert type(error) is IntegrityError
