"""Two mechanisms in conversation, with somebody in between who may change what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from saslwrap.errors import SASLError
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.testing.checks.words import expect

__all__: list[str] = []

#: Takes the number of a message, from 0 on, and the message; gives what arrives in its place.
Deliver: TypeAlias = Callable[[int, bytes], Sequence[bytes | None]]

#: More than any login takes.
_MESSAGES: Final = 50


def _as_sent(number: int, message: bytes) -> Sequence[bytes | None]:
    """Deliver a message unchanged."""
    return [message]


class Login:
    """A login, which ends when both are complete or one has refused.

    :ivar messages: what was sent, None where a side had nothing to say
    :ivar error: the refusal, None if both are complete
    :ivar hearer: who refused
    """

    def __init__(
        self,
        client: ClientMechanism,
        server: ServerMechanism,
        deliver: Deliver = _as_sent,
        *,
        server_first: bool = False,
    ) -> None:
        self.client = client
        self.server = server
        self.messages: list[bytes | None] = []
        self.error: SASLError | None = None
        self.hearer: Mechanism = server if server_first else client
        self._deliver = deliver
        try:
            self._run()
        except SASLError as error:
            self.error = error

    @property
    def complete(self) -> bool:
        """Whether both sides are."""
        return self.client.complete and self.server.complete

    def _run(self) -> None:
        message = self.hearer.step(None)
        while not self.complete:
            expect(len(self.messages) < _MESSAGES, "the login does not end")
            number = len(self.messages)
            self.messages.append(message)
            self.hearer = self.client if self.hearer is self.server else self.server
            for arrived in [None] if message is None else self._deliver(number, message):
                message = self.hearer.step(arrived)
