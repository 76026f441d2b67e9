"""Mechanisms: one side of a SASL exchange (RFC 4422). They take messages and give messages.

A mechanism does no I/O and is used once. It ends in a security context, or in none where no layer
was negotiated. The base classes hold what is the same for all: the order of calls, the latch, and
that errors leave as fresh copies, after the frames that saw a password are gone.
"""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Final, NoReturn, TypeVar

from saslwrap.context import Buffer, SecurityContext, octets
from saslwrap.errors import (
    ContextBusyError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
    half_made_too,
    require_kind,
    require_number,
)
from saslwrap.properties import ChannelInfo, SecurityProperties

__all__ = ["ClientMechanism", "ServerMechanism", "choose_mechanism", "require_name"]


_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")


def require_name(name: object) -> None:
    """Refuse what is no mechanism's name (RFC 4422 section 3.1): it becomes a word of a command.

    :raises UsageError: it is of another kind, empty, too long, or has another character in it
    """
    require_kind("a mechanism's name", name, str)
    if not _NAME.fullmatch(str(name)):
        raise UsageError(
            f"a mechanism's name is 1 to 20 of A to Z, 0 to 9, hyphen and underscore, not {name!r}"
        )


class Mechanism(ABC):
    """What both sides share. Subclasses implement `_step`, and call `_finish` at its end."""

    #: IANA name, in upper case.
    name: ClassVar[str]

    #: Whether `step` may wait for something outside (a KDC, a database): run it in a thread then.
    may_block: bool = False

    #: Who authenticates: known from the start by a client, at completion by a server.
    authcid: str | None = None

    #: On whose behalf, where that differs and was said.
    authzid: str | None = None

    def __init__(self) -> None:
        self._channel = ChannelInfo()
        self._at_work = threading.Lock()
        self._started = False
        self._complete = False
        self._context: SecurityContext | None = None
        self._fault: SASLError | None = None

    @property
    def complete(self) -> bool:
        """Whether this side is done and satisfied."""
        return self._complete

    @property
    def context(self) -> SecurityContext | None:
        """The security context, None if no layer was negotiated (`QOP.AUTH`).

        :raises UsageError: before completion
        """
        if not self._complete:
            raise UsageError(f"{self.name} has no context before it is complete")
        return self._context

    def bind_channel(self, info: ChannelInfo) -> None:
        """Learn about the channel below. Drivers call it before the first step.

        :raises UsageError: after the first step, or for what is no `ChannelInfo`
        """
        require_kind("info", info, ChannelInfo)
        if self._started:
            raise UsageError("a mechanism is used once, and this one has begun: make a new one")
        self._channel = info

    def step(self, message: Buffer | None) -> bytes | None:
        """Take the peer's message, give the next one.

        None is no message, in both directions; `b""` is one that is empty.

        :raises ProtocolError: the message comes after completion, or cannot be parsed
        :raises NegotiationError: policy and offer do not meet
        :raises AuthenticationError: the peer was refused, or did not prove itself
        :raises ContextBusyError: another step is at work, in another thread
        :raises SASLError: a former step failed, with its type and text
        :raises TypeError: the message is no buffer; nothing was spent
        """
        # Always a copy: provider libraries write into what they are given.
        given = None if message is None else octets(message).tobytes()
        if not self._at_work.acquire(blocking=False):
            raise ContextBusyError(
                "another step of this mechanism is at work; it makes one context"
            )
        try:
            return self._guarded_step(given)
        finally:
            self._at_work.release()

    def _guarded_step(self, message: bytes | None) -> bytes | None:
        self._started = True
        if self._fault is not None:
            raise self._fault.fresh()
        try:
            if self._complete:
                raise ProtocolError(f"the peer sent a message after {self.name} was complete")
            reply = self._step(message)
            if (given_up := self._fault) is not None:  # while the step was at work in its thread
                self.abandon()
                raise given_up.fresh()
            return reply
        except SASLError as error:
            fault = self._fault = error.fresh()
            self._forget()
        except BaseException:
            self._fault = SASLError(f"an earlier step of {self.name} was interrupted; start anew")
            self._forget()
            raise
        raise fault.fresh()

    @abstractmethod
    def _step(self, message: bytes | None) -> bytes | None: ...

    def abandon(self) -> None:
        """Give up: drop what is secret, the context too. For a login that failed around it."""
        if self._fault is None:
            self._fault = SASLError(f"the login with {self.name} was given up; start anew")
        self._forget()
        if self._context is not None:
            self._context.close()

    def _forget(self) -> None:  # noqa: B027 - most have nothing to forget
        """Drop what is secret, after a failure."""

    def _finish(self, context: SecurityContext | None) -> None:
        self._context = context
        self._complete = True

    def __reduce__(self) -> NoReturn:
        raise TypeError("a mechanism is one connection's; it cannot be copied or pickled")

    @half_made_too
    def __repr__(self) -> str:
        state = "failed" if self._fault else "complete" if self._complete else "incomplete"
        return f"<{type(self).__name__} {state}>"


class ClientMechanism(Mechanism):
    """The side that logs in. A server-first one may get its challenge without `step(None)`."""

    #: What the login has to give.
    properties: SecurityProperties = SecurityProperties()

    @classmethod
    @abstractmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        """The greatest SSF this mechanism can reach within `properties`, None if it cannot."""


class ServerMechanism(Mechanism):
    """The side that is logged in to. Its first `step` takes the initial response, None without."""


C = TypeVar("C", bound=ClientMechanism | type[ClientMechanism])


def choose_mechanism(
    offered: Iterable[str],
    candidates: Iterable[C],
    properties: SecurityProperties | None = None,
    *,
    external_ssf: int = 0,
) -> C:
    """Choose the strongest mechanism that the server offers and the properties allow.

    :param offered: the server's names (supportedSASLMechanisms, AUTH=...), in any case
    :param candidates: what we can do, mechanisms or their classes, the preferred one first among
        equals
    :param properties: what the login has to give; None takes each candidate at its own, a class at
        the default
    :param external_ssf: what the channel below gives, as in `ChannelInfo`
    :raises UsageError: an argument of another kind: a single string or mechanism, names in octets
    :raises NegotiationError: none fits; the text names what was offered and what was wanted
    """
    if isinstance(offered, str):
        raise UsageError("offered takes several names: offered.split(), perhaps")
    offered, candidates = _names_in(offered), _mechanisms_in(candidates)
    require_kind("properties", properties, SecurityProperties | None, "SecurityProperties or None")
    require_number("external_ssf", external_ssf, 0)
    names = {name.upper() for name in offered}
    reachable = [
        (ssf, candidate)
        for candidate in candidates
        if candidate.name.upper() in names
        and (ssf := candidate.best_ssf(properties or candidate.properties, external_ssf))
        is not None
    ]
    if reachable:
        return max(reachable, key=lambda pair: pair[0])[1]
    wanted = ", ".join(
        f"{candidate.name} with {_policy(properties or candidate.properties, external_ssf)}"
        for candidate in candidates
    )
    raise NegotiationError(
        f"the server offers {_shown(offered) or 'no mechanism'}; wanted: {wanted or 'none'}. "
        "Add a mechanism, change min_ssf or max_ssf if that is safe here, or connect with TLS"
    )


def _names_in(offered: Iterable[str]) -> list[str]:
    require_kind("offered", offered, Iterable, "a list of names")
    names = list(offered)
    for name in names:
        require_kind("a name of offered", name, str)
    return names


def _mechanisms_in(candidates: Iterable[C]) -> list[C]:
    require_kind("candidates", candidates, Iterable, "a list of mechanisms, or of their classes")
    mechanisms = list(candidates)
    for one in mechanisms:
        if not (isinstance(one, type) and issubclass(one, ClientMechanism)):
            require_kind("a candidate", one, ClientMechanism, "a client's mechanism, or its class")
    return mechanisms


def _shown(names: Iterable[str]) -> str:
    """A peer's names, printable and of a length that fits a text."""
    return "".join(c if c.isprintable() else "?" for c in ", ".join(names))[:200]


def _policy(properties: SecurityProperties, external_ssf: int) -> str:
    try:
        least, greatest = properties.layer_ssf(external_ssf)
    except UsageError as error:
        return f"what cannot be had: {error}"
    return f"an SSF of {least} to {greatest}" if greatest else "no layer"
