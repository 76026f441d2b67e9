"""Where a fault starts: what comes before passes untouched, and is not counted.

A fault starts with the first octet of its direction. That is right where the login went another
way. Where it travels first, either its octets are counted (`After`) or its messages are recognised
(`AfterLogin`), for any fault, in a stream and in a proxy alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Final

from saslwrap.errors import ProtocolError, UsageError, require_number
from saslwrap.properties import MAX_MAXBUF
from saslwrap.protocols.ldap_messages import measure
from saslwrap.testing.faults.base import Fault, Outcome, claimed

__all__ = ["After", "AfterLogin"]

_LDAP_MESSAGE: Final = 0x30


class _Later(Fault):
    """Lets octets pass until the place where its fault starts."""

    def __init__(self, fault: Fault) -> None:
        (self._fault,) = claimed(("fault", fault))
        self._started = False
        self.turns: int = fault.turns

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give what comes before as it is, the rest as the fault makes it."""
        if not self._started:
            start = self._find(data)
            self._started = start is not None
            yield data[:start]
            data = data[start:] if start is not None else b""
        if data:
            yield from self._fault.apply(data)

    def finish(self) -> Iterator[Outcome]:
        """Give what the fault held, and the end, unless the fault keeps that."""
        return self._fault.finish() if self._started else super().finish()

    @abstractmethod
    def _find(self, data: bytes) -> int | None:
        """Find the place in the direction's next octets; None if it is not among them."""


class After(_Later):
    """A fault starts after some octets.

    :param octets: how many pass untouched before
    :param fault: what starts then
    :raises UsageError: the first is no number, or below 0; the other no fault, or in use
    """

    def __init__(self, octets: int, fault: Fault) -> None:
        require_number("octets", octets, 0)
        super().__init__(fault)
        self._left = octets

    def _find(self, data: bytes) -> int | None:
        if self._left < len(data):
            return self._left
        self._left -= len(data)
        return None


class AfterLogin(_Later):
    """A fault starts where a layer does: behind a login in LDAP messages, or in lines of text.

    The first octet of a frame is 0, for no maxbuf is over 2^24-1. No LDAP message begins with
    that, and no line. Without a layer it does not start.

    :param fault: what starts then
    :raises UsageError: it is no fault, or in use
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self._in_line = False
        self._head = bytearray()  # of an LDAP message, until its length can be said
        self._left = 0  # octets of that message

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give what belongs to the login as it is, the rest as the fault makes it.

        :raises UsageError: what comes first is no login of either kind
        """
        return super().apply(data)

    def _find(self, data: bytes) -> int | None:
        position = 0
        while position < len(data):
            between = not (self._in_line or self._head or self._left)
            if between and data[position] == 0:
                return position
            position += self._pass(data, position)
        return None

    def _pass(self, data: bytes, position: int) -> int:
        """Let octets pass, as many as are known to belong together; give their number."""
        if self._left:
            return self._pass_message(len(data) - position)
        if self._head or (data[position] == _LDAP_MESSAGE and not self._in_line):
            return self._pass_head(data[position])
        end = data.find(b"\n", position) + 1
        self._in_line = not end
        return (end or len(data)) - position

    def _pass_message(self, there: int) -> int:
        passing = min(self._left, there)
        self._left -= passing
        return passing

    def _pass_head(self, octet: int) -> int:
        self._head.append(octet)
        try:
            length = measure(self._head, MAX_MAXBUF)
        except ProtocolError as error:
            raise UsageError(
                f"no login in LDAP messages or lines ({error}); say with After where the layer "
                "starts"
            ) from None
        if length is not None:
            self._left = length - len(self._head)
            self._head.clear()
        return 1
