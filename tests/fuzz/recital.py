"""A mechanism whose client begins, as GSSAPI's does: each side knows the other's part by heart."""

from __future__ import annotations

from typing import TypeAlias

from saslwrap.errors import AuthenticationError, MutualAuthenticationError
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.properties import SecurityProperties

#: What the other side has to say, and what is said then.
Turn: TypeAlias = tuple[bytes | None, bytes | None]


class Recital(Mechanism):
    """A side. What is not the other one's part, word for word, ends it."""

    name = "RECITAL"

    def __init__(self, *turns: Turn) -> None:
        super().__init__()
        self._turns = list(turns)

    def _step(self, message: bytes | None) -> bytes | None:
        expected, reply = self._turns.pop(0)
        if message != expected:
            raise self._refusal()
        if not self._turns:
            self._finish(None)
        return reply

    def _refusal(self) -> AuthenticationError:
        return AuthenticationError("that is not your part")


class RecitalClient(Recital, ClientMechanism):
    """Begins, and hears the last word."""

    def __init__(self) -> None:
        super().__init__((None, b"one"), (b"two", b"three"), (b"four", None))

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return 0

    def _refusal(self) -> AuthenticationError:
        return MutualAuthenticationError("that is not your part")


class RecitalServer(Recital, ServerMechanism):
    """Has the last word."""

    def __init__(self) -> None:
        super().__init__((b"one", b"two"), (b"three", b"four"))

    def _step(self, message: bytes | None) -> bytes | None:
        if message is None and len(self._turns) == 2:
            return b""  # the client is to speak first
        return super()._step(message)
