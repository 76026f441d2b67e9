"""What IMAP servers of the world do differently, for a client to be tried on."""

from __future__ import annotations

from collections.abc import Generator

from saslwrap.exchange import Event, Exchange, Script, Send
from saslwrap.protocols.imap import IMAPAuthenticateServer

__all__ = ["AuthenticateWithOKUnderLayer"]


class AuthenticateWithOKUnderLayer(IMAPAuthenticateServer):
    """Says OK under the new layer, where it belongs in front of it (RFC 9051 section 6.2.2).

    Cyrus IMAP does so since a change in 3.10 (cyrus-imapd issue 6454). A client that waits for a
    line then waits for ever: the frame's length is taken for a beginning of one.
    """

    _ok = b""

    def _run(self) -> Script:
        for event in super()._run():
            if self._succeeded and isinstance(event, Send):
                self._ok = event.data
            else:
                yield event

    def follow_up(self) -> Exchange | None:
        """Say OK, which was held back."""
        return _Say(self._ok)


class _Say(Exchange):
    """Says one thing, and hears nothing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(None)
        self._data = data

    def _run(self) -> Generator[Event, None, None]:
        yield Send(self._data)

    def _measure(self, buffer: bytearray) -> int | None:
        return None

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Script:
        yield from ()
