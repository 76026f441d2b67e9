from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher
from hypothesis import given
from hypothesis import strategies as st

from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import (
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    SASLError,
    UsageError,
)
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS, expand_des_key
from saslwrap.mechanisms.digest_md5.context import make_context, padding_length, shortest_token
from saslwrap.properties import QOP, Sizes, StreamSizes
from saslwrap.testing.pairs import PROTECTIONS
from tests.vectors.reference import Login, mac

STREAM = ("rc4", "rc4-56", "rc4-40")
BLOCK = ("3des", "des")
TYPE = b"\0\1"
LAST = 0xFFFFFFFF

each_layer = pytest.mark.parametrize("protection", PROTECTIONS)
each_block = pytest.mark.parametrize("protection", BLOCK)
each_direction = pytest.mark.parametrize("is_client", [True, False], ids=["c2s", "s2c"])


def login_of(protection: str, **changes: Any) -> Login:
    cipher = protection if protection in CIPHERS else None
    return Login(qop="auth-conf" if cipher else protection, cipher=cipher, **changes)


def make(
    protection: str, *, is_client: bool, maxbuf: int = 65536, login: Login | None = None
) -> SecurityContext:
    return make_context(
        (login or login_of(protection)).session_key,
        CIPHERS.get(protection),
        is_client=is_client,
        local_maxbuf=65536,
        peer_maxbuf=maxbuf,
    )


class Ends(NamedTuple):
    sender: SecurityContext
    receiver: SecurityContext


def ends(protection: str, *, is_client: bool = True, maxbuf: int = 65536) -> Ends:
    """A sender, the client by default, and a receiver with the same keys."""
    return Ends(
        make(protection, is_client=is_client, maxbuf=maxbuf),
        make(protection, is_client=not is_client),
    )


def refused(context: SecurityContext, token: Buffer) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        context.unseal(token)
    assert context.failed
    return caught.value


def test_both_parts_of_a_token_together_are_held_against_our_maxbuf() -> None:
    signature = memoryview(make("auth-int", is_client=True).seal(b""))
    for length in (65520, 65521):
        receiver = make("auth-int", is_client=False)
        with pytest.raises(SASLError) as caught:
            receiver.verify(memoryview(bytes(length)), signature)
        assert isinstance(caught.value, FrameTooLargeError) == (length == 65521)
    assert isinstance(caught.value, FrameTooLargeError)
    assert (caught.value.announced, caught.value.limit) == (65537, 65536)


# ---------------------------------------------------------------- what a token is


def length_of_token(protection: str, length: int) -> int:
    return (length + 11 + 7) // 8 * 8 + 6 if protection in BLOCK else length + 16


@each_layer
@each_direction
def test_messages_of_each_length_come_through(protection: str, is_client: bool) -> None:
    """In block modes this goes through each padding, 1 to 8, four times."""
    sender, receiver = ends(protection, is_client=is_client)
    for length in range(33):
        message = bytes(range(length))
        token = sender.seal(message)
        assert len(token) == length_of_token(protection, length)
        assert token[-6:] == TYPE + length.to_bytes(4, "big")
        assert receiver.unseal(token) == message


@each_layer
def test_no_token_is_shorter_than_that_of_an_empty_message(protection: str) -> None:
    context = make(protection, is_client=True)
    assert len(context.seal(b"")) == shortest_token(context.sizes.block_size)


@pytest.mark.parametrize("method", ["unseal", "unseal_in_place"])
@each_layer
def test_a_forged_token_of_any_length_is_just_that(protection: str, method: str) -> None:
    """The guard: what a cipher or a buffer says of an odd length never shows."""
    for length in range(6 + 3 * 8):
        receiver = make(protection, is_client=False)
        token = bytearray(max(length - 6, 0)) + (TYPE + bytes(4))[-length:]
        with pytest.raises(IntegrityError) as caught:
            getattr(receiver, method)(memoryview(token[:length]))
        assert type(caught.value) is IntegrityError
        assert receiver.failed


@each_layer
def test_a_large_message_comes_through(protection: str) -> None:
    sender, receiver = ends(protection)
    message = bytes(range(256)) * 255
    assert receiver.unseal(sender.seal(message)) == message


@given(st.lists(st.binary(max_size=100), max_size=8), st.sampled_from(PROTECTIONS))
def test_any_messages_come_through(messages: list[bytes], protection: str) -> None:
    sender, receiver = ends(protection)
    assert [receiver.unseal(sender.seal(message)) for message in messages] == messages


def test_the_mac_is_over_number_and_plaintext() -> None:
    sender = make("auth-int", is_client=True)
    key = login_of("auth-int").keys["Kic"]
    for number, message in enumerate([b"first", b"", b"third"]):
        token = message + mac(key, number, message) + TYPE + number.to_bytes(4, "big")
        assert sender.seal(message) == token


@pytest.mark.parametrize("protection", STREAM)
def test_one_keystream_lasts_for_the_connection(protection: str) -> None:
    sender, keys = make(protection, is_client=False), login_of(protection).keys
    messages = [b"first", b"", b"x" * 300, b"last"]
    bodies = b"".join(sender.seal(message)[:-6] for message in messages)
    plain = Cipher(ARC4(keys["Kcs"]), mode=None).decryptor().update(bodies)
    macs = (mac(keys["Kis"], number, message) for number, message in enumerate(messages))
    assert plain == b"".join(message + it for message, it in zip(messages, macs, strict=True))


@each_block
def test_the_padding_stands_between_message_and_mac(protection: str) -> None:
    sender, keys = make(protection, is_client=True), login_of(protection).keys
    decryptor = CIPHERS[protection].decryptor(keys["Kcc"])
    for length in range(16):
        message, padding = b"m" * length, 8 - (length + 10) % 8
        plain = decryptor.update(sender.seal(message)[:-6])
        assert plain == message + bytes([padding]) * padding + mac(keys["Kic"], length, message)


@each_block
def test_cbc_chains_over_messages(protection: str) -> None:
    sender = make(protection, is_client=True)
    first, second = sender.seal(b"same"), sender.seal(b"same")
    assert first[:8] != second[:8]


@given(st.binary(min_size=7, max_size=7))
def test_a_des_key_is_spread_over_eight_octets_of_odd_parity(key: bytes) -> None:
    expanded = expand_des_key(key)
    assert len(expanded) == 8
    assert [octet.bit_count() % 2 for octet in expanded] == [1] * 8
    assert "".join(f"{octet >> 1:07b}" for octet in expanded) == "".join(f"{it:08b}" for it in key)


# ---------------------------------------------------------------- sizes

TRAILERS = dict.fromkeys(("auth-int", *STREAM), 16) | dict.fromkeys(BLOCK, 24)
MAXIMA = dict.fromkeys(("auth-int", *STREAM), 65520) | dict.fromkeys(BLOCK, 65517)
SSF = {"auth-int": 1, "rc4-40": 40, "des": 55, "rc4-56": 56, "3des": 112, "rc4": 128}


@each_layer
def test_sizes_are_told(protection: str) -> None:
    context, block = make(protection, is_client=True), 8 if protection in BLOCK else 1
    trailer = TRAILERS[protection]
    assert context.stream_sizes == StreamSizes(0, trailer, MAXIMA[protection], 2, block)
    assert context.sizes == Sizes(4096, 16, block, trailer)


@each_layer
def test_the_context_describes_itself(protection: str) -> None:
    context = make(protection, is_client=True, maxbuf=1024)
    assert context.mechanism == "DIGEST-MD5"
    assert context.qop is (QOP.AUTH_CONF if protection in CIPHERS else QOP.AUTH_INT)
    assert context.cipher == (protection if protection in CIPHERS else None)
    assert context.ssf == SSF[protection]
    assert (context.local_maxbuf, context.peer_maxbuf) == (65536, 1024)


@each_layer
@pytest.mark.parametrize("maxbuf", [*range(22, 50), 1000, 1024, 65535, 65536])
def test_the_largest_message_fits_the_peer_and_one_octet_more_does_not(
    protection: str, maxbuf: int
) -> None:
    sender, receiver = ends(protection, maxbuf=maxbuf)
    maximum = sender.stream_sizes.maximum_message
    with pytest.raises(UsageError, match=f"over the maximum message of {maximum}"):
        sender.seal(bytes(maximum + 1))
    token = sender.seal(bytes(maximum))
    assert len(token) <= maxbuf < length_of_token(protection, maximum + 1)
    assert len(token) - maximum <= sender.stream_sizes.trailer
    assert receiver.unseal(token) == bytes(maximum)


@each_layer
def test_the_trailer_is_the_most_that_sealing_adds(protection: str) -> None:
    sender = make(protection, is_client=True)
    added = {len(sender.seal(bytes(length))) - length for length in range(32)}
    assert max(added) == sender.stream_sizes.trailer == sender.sizes.security_trailer


# ---------------------------------------------------------------- forged and altered tokens


@each_layer
@each_direction
def test_each_bit_of_a_token_counts(protection: str, is_client: bool) -> None:
    token = make(protection, is_client=is_client).seal(b"hello")
    errors = set()
    for place in range(len(token)):
        for bit in range(8):
            altered = bytearray(token)
            altered[place] ^= 1 << bit
            error = refused(make(protection, is_client=not is_client), altered)
            in_number = place >= len(token) - 4
            assert type(error) is (OutOfSequenceError if in_number else IntegrityError)
            errors.add((type(error), str(error)))
    assert len(errors) == 2


@each_layer
def test_a_token_that_is_too_short_is_refused(protection: str) -> None:
    shortest = 22 if protection in BLOCK else 16
    for length in range(shortest):
        token = bytes(max(length - 6, 0)) + (TYPE + bytes(4))[-length or 6 :]
        refused(make(protection, is_client=False), token)


@each_layer
def test_a_token_cut_by_any_length_is_refused(protection: str) -> None:
    token = make(protection, is_client=True).seal(b"a longer message")
    for cut in range(1, len(token) - 5):
        refused(make(protection, is_client=False), token[: -6 - cut] + token[-6:])


@each_block
@pytest.mark.parametrize("length", [*range(16, 22), *range(23, 30), *range(31, 38)])
def test_a_body_of_no_whole_blocks_is_refused(protection: str, length: int) -> None:
    refused(make(protection, is_client=False), bytes(length - 6) + TYPE + bytes(4))


@each_layer
@pytest.mark.parametrize("kind", ["0000", "0002", "0101", "0100", "ffff"])
def test_another_type_is_refused(protection: str, kind: str) -> None:
    sender, receiver = ends(protection)
    token = sender.seal(b"message")
    error = refused(receiver, token[:-6] + bytes.fromhex(kind) + token[-4:])
    assert type(error) is IntegrityError


@each_layer
@pytest.mark.parametrize("number", [1, 2, 2**31, LAST])
def test_another_number_than_the_due_one_is_refused(protection: str, number: int) -> None:
    sender, receiver = ends(protection)
    token = sender.seal(b"message")
    assert type(refused(receiver, token[:-4] + number.to_bytes(4, "big"))) is OutOfSequenceError


ORDERS = [
    pytest.param([0, 0], id="replayed"),
    pytest.param([0, 1, 0], id="replayed later"),
    pytest.param([1], id="lost"),
    pytest.param([0, 2], id="lost later, or swapped"),
]


@each_layer
@pytest.mark.parametrize("order", ORDERS)
def test_tokens_out_of_order_are_refused(protection: str, order: list[int]) -> None:
    sender, receiver = ends(protection)
    tokens = [sender.seal(b"message %d" % number) for number in range(3)]
    for number in order[:-1]:
        receiver.unseal(tokens[number])
    assert type(refused(receiver, tokens[order[-1]])) is OutOfSequenceError


@each_layer
def test_a_reflected_token_is_refused(protection: str) -> None:
    sender = make(protection, is_client=True)
    assert type(refused(sender, sender.seal(b"message"))) is IntegrityError


@each_layer
@pytest.mark.parametrize("change", [{"nonce": "other"}, {"cnonce": "other"}, {"authzid": "bob"}])
def test_a_token_of_another_session_is_refused(protection: str, change: dict[str, str]) -> None:
    other = make(protection, is_client=True, login=login_of(protection, **change))
    refused(make(protection, is_client=False), other.seal(b"message"))


@pytest.mark.parametrize("theirs", PROTECTIONS)
@each_layer
def test_a_token_of_another_cipher_is_refused(protection: str, theirs: str) -> None:
    token = make(theirs, is_client=True).seal(b"message")
    receiver = make(protection, is_client=False)
    if protection == theirs:
        assert receiver.unseal(token) == b"message"
    else:
        refused(receiver, token)


@each_block
def test_spliced_tokens_are_refused(protection: str) -> None:
    sender, receiver = ends(protection)
    first, second = sender.seal(bytes(21)), sender.seal(bytes(21))
    refused(receiver, first[:16] + second[16:-6] + first[-6:])


@each_layer
def test_a_failure_ends_both_directions(protection: str) -> None:
    sender, receiver = ends(protection)
    good, next_good = sender.seal(b"message"), sender.seal(b"message")
    first = refused(receiver, bytes(len(good)))
    for call, data in [(receiver.unseal, good), (receiver.unseal, next_good), (receiver.seal, b"")]:
        with pytest.raises(SASLError) as caught:
            call(data)
        assert (type(caught.value), str(caught.value)) == (type(first), str(first))


# ---------------------------------------------------------------- padding


def forged(protection: str, padded: bytes, message: bytes) -> bytes:
    """A token with any padding, and the MAC that is right for `message`."""
    keys = login_of(protection).keys
    body = CIPHERS[protection].encryptor(keys["Kcc"]).update(padded + mac(keys["Kic"], 0, message))
    return body + TYPE + bytes(4)


@each_block
@pytest.mark.parametrize("length", range(1, 9))
def test_each_right_padding_is_taken(protection: str, length: int) -> None:
    message = b"m" * (14 - length)
    token = forged(protection, message + bytes([length]) * length, message)
    assert make(protection, is_client=False).unseal(token) == message


BAD_PADDING = [
    pytest.param(b"messag\0\0\0\0\0\0\0\0", id="0"),
    pytest.param(b"hello" + bytes([9]) * 9, id="9"),
    pytest.param(b"hello message\x7f", id="127"),
    pytest.param(b"hello message\x80", id="128"),
    pytest.param(b"hello message\xff", id="255"),
    pytest.param(b"hello messag\1\2", id="2, wrong at 1"),
    pytest.param(b"messag\7\x08\x08\x08\x08\x08\x08\x08", id="8, wrong at its start"),
    pytest.param(b"messag\x08\x08\x08\x08\0\x08\x08\x08", id="8, wrong in the middle"),
    pytest.param(b"hello mess\4\4\5\4", id="4, wrong near its end"),
    pytest.param(b"\7" * 6, id="longer than the body, 7"),
    pytest.param(b"\x08" * 6, id="longer than the body, 8"),
    pytest.param(b"hello" + b"\x10" * 16 + b"\x11", id="17"),
]


@each_block
@pytest.mark.parametrize("padded", BAD_PADDING)
@pytest.mark.parametrize("taken", range(9))
def test_no_wrong_padding_is_taken_whatever_the_mac_is_over(
    protection: str, padded: bytes, taken: int
) -> None:
    """The MAC is right for each message that a receiver could make of it, of one octet less too."""
    message = padded[: max(len(padded) - taken, 0)]
    error = refused(make(protection, is_client=False), forged(protection, padded, message))
    assert type(error) is IntegrityError


def spy_on_macs(context: Any) -> list[int]:
    """Note the length of each message that a MAC is computed over."""
    lengths: list[int] = []
    compute = context._unsealer._mac

    def spy(sequence: bytes, message: bytes) -> bytes:
        lengths.append(len(message))
        result: bytes = compute(sequence, message)
        return result

    context._unsealer._mac = spy
    return lengths


@each_block
@pytest.mark.parametrize("padded", BAD_PADDING)
def test_a_wrong_padding_looks_like_a_wrong_mac(protection: str, padded: bytes) -> None:
    """The guard: no padding oracle. One type, one text, no cause, and one MAC over the most."""
    context = make(protection, is_client=False)
    macs = spy_on_macs(context)
    bad_padding = refused(context, forged(protection, padded, b""))
    assert macs == [len(padded) - 1]
    context = make(protection, is_client=False)
    macs = spy_on_macs(context)
    bad_mac = refused(context, forged(protection, padded[:-1] + b"\1", b""))
    assert macs == [len(padded) - 1]
    assert (type(bad_padding), str(bad_padding)) == (type(bad_mac), str(bad_mac))
    for error in (bad_padding, bad_mac):
        assert (error.__cause__, error.__context__) == (None, None)
        assert vars(error) == {}


@given(st.binary(min_size=6, max_size=8))
def test_the_length_of_padding_is_judged_as_by_hand(tail: bytes) -> None:
    claimed = tail[-1]
    right = 1 <= claimed <= len(tail) and tail[-claimed:] == bytes([claimed]) * claimed
    assert padding_length(tail) == (claimed if right else 1, right)


@pytest.mark.parametrize("claimed", range(256))
def test_each_claim_of_padding_is_judged(claimed: int) -> None:
    right = 1 <= claimed <= 8
    assert padding_length(bytes([claimed]) * 8) == (claimed if right else 1, right)


# ---------------------------------------------------------------- the end of the numbers


def at(context: Any, number: int) -> Any:
    """Set both counters, as after so many messages."""
    context._sealer._number = context._unsealer._number = number
    return context


def test_integrity_goes_on_after_the_last_number() -> None:
    sender, receiver = (at(end, LAST) for end in ends("auth-int"))
    for number in (LAST, 0, 1):
        token = sender.seal(b"message")
        assert token[-4:] == number.to_bytes(4, "big")
        assert receiver.unseal(token) == b"message"


@pytest.mark.parametrize("protection", CIPHERS)
def test_a_cipher_is_not_used_after_the_last_number(protection: str) -> None:
    """The guard: the key cannot be changed, and the tokens of the first round would fit again."""
    sender, twin = (at(make(protection, is_client=True), LAST) for _ in range(2))
    assert sender.seal(b"last")[-4:] == b"\xff" * 4
    for _ in range(2):
        with pytest.raises(UsageError, match="connect anew"):
            sender.seal(b"one more")
    assert not sender.failed
    assert sender._sealer._number == LAST + 1
    twin.seal(b"last")
    tokens = [at(context, 1).seal(b"nothing was spent") for context in (sender, twin)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("protection", CIPHERS)
def test_a_token_after_the_last_number_is_refused(protection: str) -> None:
    sender, receiver = ends(protection)
    at(receiver, LAST + 1)
    assert type(refused(receiver, sender.seal(b"number 0 again"))) is OutOfSequenceError


@each_layer
def test_the_last_number_itself_is_good(protection: str) -> None:
    sender, receiver = (at(end, LAST) for end in ends(protection))
    assert receiver.unseal(sender.seal(b"last")) == b"last"


@each_layer
def test_the_directions_count_apart(protection: str) -> None:
    client, server = ends(protection)
    for _ in range(3):
        server.unseal(client.seal(b"up"))
    token = server.seal(b"down")
    assert token[-4:] == bytes(4)
    assert client.unseal(token) == b"down"
