"""The frame decoder: 4 octets of big-endian length, then that many octets of token.

(RFC 4422 section 3.7; the length does not count itself.) A length is judged as soon as its fourth
octet is there, and nothing is allocated for it: memory follows what has arrived. The buffer is a
bytearray that is consumed from the front, which keeps the cost linear for any arrival pattern. A
token is handed out as a view of it, so that it is not copied once more; a small one is copied all
the same, since that costs less than views do: of 64 octets, a fifth of what unsealing takes.
"""

from __future__ import annotations

from typing import Final

from saslwrap.context import SMALL_TOKEN, Buffer, Octets, octets
from saslwrap.errors import FrameTooLargeError, ProtocolError, TruncatedStreamError

__all__ = ["FrameDecoder"]

LENGTH_OCTETS = 4


class FrameDecoder:
    """Cuts what arrives into tokens.

    :param limit: the local maxbuf: the largest token that is accepted, in octets
    """

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._buffer = bytearray()
        self._view = memoryview(b"")
        self._end = 0  # of the frame whose token was given last
        self._eof = False

    def receive_data(self, data: Buffer) -> None:
        """Take in octets of any number. Judges nothing."""
        self._buffer += data if type(data) is bytes else octets(data)

    def receive_eof(self) -> None:
        """Take in that nothing will follow."""
        self._eof = True

    @property
    def ended(self) -> bool:
        """Whether nothing will follow; what arrived may not be taken yet."""
        return self._eof

    @property
    def holds(self) -> bool:
        """Whether anything is there that is not consumed."""
        return bool(self._buffer)

    @property
    def at_eof(self) -> bool:
        """Whether the input ended at a frame's border and every frame was taken."""
        return self._eof and not self._buffer

    def next_token(self) -> Octets | None:
        """Give the next token, or None while it is not whole. Call `consume` when done with it.

        :raises FrameTooLargeError: its length is over the limit
        :raises ProtocolError: its length is 0
        :raises TruncatedStreamError: the input ended inside the frame
        """
        arrived = len(self._buffer)
        if arrived >= LENGTH_OCTETS:
            length = int.from_bytes(self._buffer[:LENGTH_OCTETS], "big")
            if length > self.limit:
                raise FrameTooLargeError(length, self.limit, _cleartext_hint(self._buffer))
            if not length:
                raise ProtocolError("the peer sent a frame of length 0, which holds no token")
            if arrived >= LENGTH_OCTETS + length:
                self._end = LENGTH_OCTETS + length
                if length <= SMALL_TOKEN:
                    return bytes(self._buffer[LENGTH_OCTETS : self._end])
                self._view = memoryview(self._buffer)[LENGTH_OCTETS : self._end]
                return self._view
        if self._eof and arrived:
            raise TruncatedStreamError(
                f"the connection ended inside a frame, {arrived} octets after its start: the peer "
                "died or the stream was cut; do not take what came before for the whole"
            )
        return None

    def consume(self) -> None:
        """Forget the token that `next_token` gave, and release the view of it, if it is one."""
        self._view.release()
        del self._buffer[: self._end]

    def release(self) -> None:
        """Release the view that `next_token` may have given, but keep the token."""
        self._view.release()

    def discard(self) -> None:
        """Forget all that is not consumed."""
        self._view.release()
        self._buffer = bytearray()

    def clear(self) -> bytes:
        """Take out all that is not consumed."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest


def _cleartext_hint(buffer: bytearray) -> str:
    """Say so when a length field is rather text or BER, as of a peer that does not seal."""
    head = bytes(buffer[:LENGTH_OCTETS])
    if all(octet in b"\t\r\n" or 0x20 <= octet < 0x7F for octet in head):
        return f"; its octets read {head.decode('ascii')!r}: the peer seems to speak cleartext"
    if head[0] == 0x30:
        return f"; its octets {head.hex()} start an LDAP message: the peer seems not to seal"
    return ""
