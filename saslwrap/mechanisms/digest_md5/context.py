"""The security layer of DIGEST-MD5: what stands in a token (RFC 2831 sections 2.3 and 2.4).

    auth-int    message || MAC                     || 0001 || sequence number
    rc4*        RC4(message || MAC)                || 0001 || sequence number
    des, 3des   CBC(message || padding || MAC)     || 0001 || sequence number

    MAC = HMAC-MD5(Ki, sequence number || message)[0:10]

The padding stands between message and MAC and is not covered by the MAC: 1 to 8 octets, each of
their number's value. Type (0001) and sequence number (4 octets, big-endian, a counter for each
direction, from 0) travel in clear. The cipher's state lasts for the connection: RC4 goes on where
it was, CBC chains over tokens.

The order of checks, and why. Length, type and number are in clear, so what they tell an attacker he
knows. Then one path: decrypt; validate the padding, with an assumed length of 1 where it is wrong;
compute the MAC in any case; compare in constant time; fail once. A wrong padding and a wrong MAC
call the same primitives and raise the same error (attack list 6.D). What remains is that the
HMAC's input is up to 7 octets shorter for a longer valid padding; since the first failure ends the
connection, an attacker has one query for each.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import CipherContext
from cryptography.hazmat.primitives.hashes import MD5
from cryptography.hazmat.primitives.hmac import HMAC

from saslwrap.context import Buffer, InPlaceSealer, InPlaceUnsealer, Octets, SecurityContext
from saslwrap.errors import IntegrityError, OutOfSequenceError, UsageError
from saslwrap.mechanisms.digest_md5.ciphers import CipherSpec
from saslwrap.mechanisms.digest_md5.keys import integrity_keys, sealing_keys
from saslwrap.properties import QOP, Sizes, StreamSizes

__all__ = ["MAC_OCTETS", "make_context", "maximum_message", "shortest_token", "wipe"]

MAC_OCTETS = 10
TYPE = b"\x00\x01"
TRAILER_OCTETS = 6  # type and sequence number
SIGNATURE_OCTETS = MAC_OCTETS + TRAILER_OCTETS
BLOCK_OCTETS = 8
SEQUENCE_NUMBERS = 1 << 32
_NOTHING = bytes(1024)
MAX_MESSAGE_OF_LOGIN = 4096


def maximum_message(peer_maxbuf: int, block_size: int) -> int:
    """The largest message whose token fits `peer_maxbuf`; under 1 if none does.

    A block cipher's body is whole blocks and holds at least one octet of padding beside the MAC.
    """
    if block_size == 1:
        return peer_maxbuf - SIGNATURE_OCTETS
    return (peer_maxbuf - TRAILER_OCTETS) // block_size * block_size - MAC_OCTETS - 1


def shortest_token(block_size: int) -> int:
    """Octets of the shortest token there is: that of an empty message."""
    return SIGNATURE_OCTETS if block_size == 1 else 2 * block_size + TRAILER_OCTETS


class _Transform(Protocol):
    """How message and MAC become the body of a token, and back, in one direction.

    Twice each: into memory of its own, and in the caller's, where all that moves is the last block
    or two.
    """

    def protect(self, message: Octets, mac: bytes, trailer: bytes) -> bytes:
        """Give the token."""

    def protect_in_place(self, message: memoryview, mac: bytes) -> bytes:
        """Put the first octets of the body where the message was; give the rest of it."""

    def recover(self, token: Octets) -> tuple[bytes, bytes, bool]:
        """Give message, MAC, and whether the token's body was well formed."""

    def recover_in_place(self, body: memoryview) -> tuple[int, bytes, bool]:
        """Put the message first in the body; give its length, MAC, and if it was well formed."""


class _Clear:
    """auth-int: as they are."""

    def protect(self, message: Octets, mac: bytes, trailer: bytes) -> bytes:
        return b"".join((message, mac, trailer))

    def protect_in_place(self, message: memoryview, mac: bytes) -> bytes:
        return mac

    def recover(self, token: Octets) -> tuple[bytes, bytes, bool]:
        mac = token[-SIGNATURE_OCTETS:-TRAILER_OCTETS]
        return bytes(token[:-SIGNATURE_OCTETS]), bytes(mac), True

    def recover_in_place(self, body: memoryview) -> tuple[int, bytes, bool]:
        return len(body) - MAC_OCTETS, bytes(body[-MAC_OCTETS:]), True


class _Stream:
    """RC4. In two calls, so that nothing has to be joined or cut."""

    def __init__(self, cipher: CipherContext) -> None:
        self._update = cipher.update
        self._update_into = cipher.update_into

    def protect(self, message: Octets, mac: bytes, trailer: bytes) -> bytes:
        return b"".join((self._update(message), self._update(mac), trailer))

    def protect_in_place(self, message: memoryview, mac: bytes) -> bytes:
        self._update_into(message, message)
        return self._update(mac)

    def recover(self, token: Octets) -> tuple[bytes, bytes, bool]:
        message = self._update(token[:-SIGNATURE_OCTETS])
        mac = token[-SIGNATURE_OCTETS:-TRAILER_OCTETS]
        return message, self._update(mac), True

    def recover_in_place(self, body: memoryview) -> tuple[int, bytes, bool]:
        self._update_into(body, body)
        return len(body) - MAC_OCTETS, bytes(body[-MAC_OCTETS:]), True


class _Block:
    """DES and 3DES in CBC mode. `update_into` wants room for a block less one beyond its output."""

    def __init__(self, cipher: CipherContext) -> None:
        self._update = cipher.update
        self._update_into = cipher.update_into

    def protect(self, message: Octets, mac: bytes, trailer: bytes) -> bytes:
        return self._update(b"".join((message, _padding(len(message)), mac))) + trailer

    def protect_in_place(self, message: memoryview, mac: bytes) -> bytes:
        whole = max(len(message) - BLOCK_OCTETS + 1, 0) // BLOCK_OCTETS * BLOCK_OCTETS
        padding = _padding(len(message))
        if whole:
            self._update_into(message[:whole], message)
        rest = self._update(b"".join((message[whole:], padding, mac)))
        split = len(message) - whole
        message[whole:] = rest[:split]
        return rest[split:]

    def recover(self, token: Octets) -> tuple[bytes, bytes, bool]:
        plain = self._update(token[:-TRAILER_OCTETS])
        mac = plain[-MAC_OCTETS:]
        length, well_formed = padding_length(plain[-MAC_OCTETS - BLOCK_OCTETS : -MAC_OCTETS])
        return plain[: -MAC_OCTETS - length], mac, well_formed

    def recover_in_place(self, body: memoryview) -> tuple[int, bytes, bool]:
        self._update_into(body[:-BLOCK_OCTETS], body)
        body[-BLOCK_OCTETS:] = self._update(body[-BLOCK_OCTETS:])
        padded = body[:-MAC_OCTETS]
        length, well_formed = padding_length(bytes(padded[-BLOCK_OCTETS:]))
        return len(padded) - length, bytes(body[-MAC_OCTETS:]), well_formed


def _padding(message_length: int) -> bytes:
    length = BLOCK_OCTETS - (message_length + MAC_OCTETS) % BLOCK_OCTETS
    return bytes((length,)) * length


#: Of each padding there is: how many octets it has beyond one, and the padding itself, with a mark
#: behind it. (CPython keeps all `bytes` of one octet: where such a slice lies tells its value.)
PADDINGS = [(excess, bytes((excess + 1,)) * (excess + 1) + b".") for excess in range(BLOCK_OCTETS)]


def padding_length(tail: bytes) -> tuple[int, bool]:
    """The length of the padding at the end of `tail`, and whether it is right; 1 if it is not.

    Each padding there is gets compared, in constant time; one at most is right. No branch depends
    on an octet, and none becomes an integer: CPython keeps small ones, and takes longer for others.

    :param tail: the last block before the MAC; shorter if the body holds less
    """
    ended = tail + b"."
    length, right = 1, False
    for excess, padding in PADDINGS:
        hit = compare_digest(ended[-2 - excess :], padding)
        length += excess * hit
        right |= hit
    return length, right


class _Direction:
    """What both directions keep: the MAC's key and the number that is due."""

    def __init__(self, integrity_key: bytes, *, wraps: bool) -> None:
        self._keyed = HMAC(integrity_key, MD5())
        self._number = 0
        self._wraps = wraps

    def _mac(self, sequence: bytes, message: Buffer) -> bytes:
        mac = self._keyed.copy()
        mac.update(sequence)
        mac.update(message)
        return mac.finalize()[:MAC_OCTETS]

    def _due(self) -> bytes | None:
        """The number that is due; None when all are spent.

        Under auth-int it starts anew (RFC 2831bis section 2.3). A cipher's key may not be used for
        that long, and there is no way to change it.
        """
        if self._number == SEQUENCE_NUMBERS:
            if not self._wraps:
                return None
            self._number = 0
        return self._number.to_bytes(4, "big")


class DigestSealer(_Direction, InPlaceSealer):
    """Seals, under Kic and Kcc or Kis and Kcs."""

    def __init__(self, integrity_key: bytes, transform: _Transform, *, wraps: bool) -> None:
        super().__init__(integrity_key, wraps=wraps)
        self._transform = transform

    def seal(self, message: Octets) -> bytes:
        """Return the token of `message`."""
        sequence = self._spend()
        mac = self._mac(sequence, message)
        return self._transform.protect(message, mac, TYPE + sequence)

    def seal_in_place(self, message: memoryview) -> bytes:
        """Put the first octets of the token where `message` is; return the rest of it."""
        sequence = self._spend()
        mac = self._mac(sequence, message)
        return b"".join((self._transform.protect_in_place(message, mac), TYPE, sequence))

    def _spend(self) -> bytes:
        if (sequence := self._due()) is None:
            raise UsageError("2^32 messages are sealed, more would weaken the cipher; connect anew")
        self._number += 1
        return sequence


class DigestUnsealer(_Direction, InPlaceUnsealer):
    """Unseals, under the other direction's keys."""

    def __init__(
        self, integrity_key: bytes, transform: _Transform, *, block_size: int, wraps: bool
    ) -> None:
        super().__init__(integrity_key, wraps=wraps)
        self._transform = transform
        self._block_size = block_size
        self.shortest: int = shortest_token(block_size)

    def unseal(self, token: Octets) -> bytes:
        """Return the message of `token`."""
        sequence = self._expect(token)
        message, received, well_formed = self._transform.recover(token)
        self._authenticate(sequence, message, received, well_formed)
        return message

    def unseal_in_place(self, token: memoryview) -> int:
        """Put the message first in `token`; return its length. A forged one is wiped."""
        body = token[:-TRAILER_OCTETS]
        try:
            sequence = self._expect(token)
            length, received, well_formed = self._transform.recover_in_place(body)
            self._authenticate(sequence, body[:length], received, well_formed)
        except BaseException:
            wipe(body)
            raise
        return length

    def verify(self, message: memoryview, signature: memoryview) -> None:
        """Check a token of auth-int in two parts: message; MAC, type and number."""
        sequence = self._expect(signature)
        self._authenticate(sequence, message, bytes(signature[:-TRAILER_OCTETS]), True)

    def _expect(self, token: Octets) -> bytes:
        """Hold what is in clear against what is due; give the sequence number."""
        if len(token) < self.shortest or (len(token) - TRAILER_OCTETS) % self._block_size:
            raise IntegrityError
        if token[-6:-4] != TYPE:
            raise IntegrityError
        sequence = self._due()
        if sequence is None or token[-4:] != sequence:
            raise OutOfSequenceError
        return sequence

    def _authenticate(
        self, sequence: bytes, message: Buffer, received: bytes, well_formed: bool
    ) -> None:
        authentic = compare_digest(self._mac(sequence, message), received)
        if not authentic & well_formed:
            raise IntegrityError
        self._number += 1


def wipe(memory: memoryview) -> None:
    """Overwrite what nobody vouches for. In small pieces: memory may be what was short."""
    for start in range(0, len(memory), len(_NOTHING)):
        piece = memory[start : start + len(_NOTHING)]
        piece[:] = _NOTHING[: len(piece)]


def make_context(
    session_key: bytes,
    cipher: CipherSpec | None,
    *,
    is_client: bool,
    local_maxbuf: int,
    peer_maxbuf: int,
) -> SecurityContext:
    """Make the context of a completed login.

    :param session_key: H(A1), 16 octets
    :param cipher: for auth-conf; None for auth-int
    """
    block_size = cipher.block_size if cipher else 1
    trailer = SIGNATURE_OCTETS + (block_size if block_size > 1 else 0)
    integrity = integrity_keys(session_key).of(is_client=is_client)
    outbound: _Transform = _Clear()
    inbound: _Transform = _Clear()
    if cipher:
        sealing = sealing_keys(session_key, cipher.key_octets).of(is_client=is_client)
        transform = _Block if cipher.des_keys else _Stream
        outbound = transform(cipher.encryptor(sealing.outbound))
        inbound = transform(cipher.decryptor(sealing.inbound))
    wraps = cipher is None
    return SecurityContext(
        DigestSealer(integrity.outbound, outbound, wraps=wraps),
        DigestUnsealer(integrity.inbound, inbound, block_size=block_size, wraps=wraps),
        mechanism="DIGEST-MD5",
        qop=QOP.AUTH_CONF if cipher else QOP.AUTH_INT,
        ssf=cipher.ssf if cipher else 1,
        cipher=cipher.name if cipher else None,
        stream_sizes=StreamSizes(
            header=0,
            trailer=trailer,
            maximum_message=maximum_message(peer_maxbuf, block_size),
            buffers=2,
            block_size=block_size,
        ),
        sizes=Sizes(
            max_token=MAX_MESSAGE_OF_LOGIN,
            max_signature=SIGNATURE_OCTETS,
            block_size=block_size,
            security_trailer=trailer,
        ),
        local_maxbuf=local_maxbuf,
        peer_maxbuf=peer_maxbuf,
    )
