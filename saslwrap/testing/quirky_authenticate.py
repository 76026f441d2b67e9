"""How `Quirks` come about in IMAP's AUTHENTICATE."""

from __future__ import annotations

from typing import Final

from saslwrap.exchange import Exchange, Script, Send
from saslwrap.protocols.imap import IMAPAuthenticateServer
from saslwrap.testing.mechanisms import MechanismFactories
from saslwrap.testing.quirks import Quirks

__all__ = ["QuirkyAuthenticateServer"]


class QuirkyAuthenticateServer(IMAPAuthenticateServer):
    """The server's half of a login, which may hold its OK back until the new layer is there."""

    def __init__(self, mechanisms: MechanismFactories, quirks: Quirks) -> None:
        super().__init__(mechanisms)
        self._quirks: Final = quirks
        self._held_back: bytes | None = None

    def _run(self) -> Script:
        for event in super()._run():
            if self._succeeded and isinstance(event, Send) and self._quirks.ok_under_layer:
                self._held_back = event.data
            else:
                yield event

    def follow_up(self) -> Exchange | None:
        """Say what was held back."""
        return None if self._held_back is None else _Say(self._held_back)


class _Say(Exchange):
    """Says one thing, and hears nothing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(None)
        self._data = data

    def _run(self) -> Script:
        yield Send(self._data)

    def _measure(self, buffer: bytearray) -> int | None:
        return None

    def _abort_message(self) -> bytes:
        return b""

    def _aborted(self) -> Script:
        yield from ()
