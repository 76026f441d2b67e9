"""What protocols of lines share, before and during a login: lines, their limit, and base64."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Generator
from typing import ClassVar, Final

from saslwrap.errors import MalformedMessageError, ProtocolError, SASLError
from saslwrap.exchange import Event, Exchange
from saslwrap.mechanism import Mechanism

__all__ = ["Lines"]

_FRAME: Final = "what looks like a SASL frame: it is in the layer already (cyrus-imapd issue 6454)"


class Lines(Exchange):
    """Messages are lines that end in CRLF; who sends them is `_peer`."""

    #: The longest line before the login is done, in octets: 64 KiB in base64, and some more.
    LINE_LIMIT: ClassVar[int] = 98304

    _peer: ClassVar[str]

    def __init__(self, mechanism: Mechanism | None) -> None:
        super().__init__(mechanism)
        self._searched = 0  # octets of the buffer, without an end of line

    def _measure(self, buffer: bytearray) -> int | None:
        if buffer and buffer[0] < 0x20 and buffer[0] not in b"\r\n":
            what = "what is no text" if buffer[0] else _FRAME
            raise ProtocolError(f"the {self._peer} sent {what}; a line of the login was due")
        end = buffer.find(b"\n", self._searched, self.LINE_LIMIT)
        if end < 0 and len(buffer) >= self.LINE_LIMIT:
            raise ProtocolError(f"the {self._peer} sent a line over {self.LINE_LIMIT} octets")
        self._searched = max(self._searched, len(buffer)) if end < 0 else end
        return None if end < 0 else end + 1

    def _line(self) -> Generator[Event, None, bytes]:
        line = yield from self._message()
        self._searched = 0
        if not line.endswith(b"\r\n") or b"\0" in line or b"\r" in line[:-2]:
            text = f"the {self._peer} sent a line without CRLF, or with CR or NUL inside"
            raise (yield from self._told(MalformedMessageError(text)))
        return line[:-2]

    def _decoded(self, message: bytes) -> Generator[Event, None, bytes]:
        try:
            return b64decode(message, validate=True)
        except ValueError:
            error = MalformedMessageError(f"the {self._peer} sent a message that is no base64")
        raise (yield from self._told(error))

    def _told(self, error: SASLError) -> Generator[Event, None, SASLError]:
        yield from self._tell(error)
        return error
