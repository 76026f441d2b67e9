"""Exchanges: one login, as one application protocol carries it, without I/O.

A driver turns the crank:

    while True:
        match exchange.advance():
            case Send(data): send it
            case NeedData(): exchange.receive_data(receive()), or receive_eof()
            case Step():     exchange.step(), in a thread if may_block
            case Done():     break

and then, once the context is installed, the same with what `exchange.follow_up()` gives, if it
gives anything.

A subclass writes the login down as one generator, `_run`, which reads like the protocol's text: it
yields `Send`, and gets the peer's messages from `_message()` and the mechanism's from
`_ask_mechanism()`. How long a message is, and how long it may be, is `_measure`'s to say; it judges
a length before the message is stored.

What the peer sends past the end of the login is left in `trailing_data`: ciphertext, if the login
brought a layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

from saslwrap.context import Buffer, SecurityContext, octets
from saslwrap.errors import (
    AuthenticationError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UnacceptableSuccessError,
    UsageError,
    half_made_too,
    require_kind,
)
from saslwrap.mechanism import Mechanism, require_name
from saslwrap.properties import ChannelInfo

__all__ = ["Done", "Event", "Exchange", "NeedData", "Send", "Step", "transport_survives"]


@dataclass(frozen=True, slots=True)
class Send:
    """`data` has to be sent, under the layer that was in force before the login."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NeedData:
    """More input is needed: `receive_data`, or `receive_eof`."""


@dataclass(frozen=True, slots=True)
class Step:
    """The mechanism has to be run: `step`."""


@dataclass(frozen=True, slots=True)
class Done:
    """The login succeeded, and what it sends has been handed out: install the context now."""


Event: TypeAlias = Send | NeedData | Step | Done

Script: TypeAlias = Generator[Event, None, None]


def transport_survives(error: BaseException) -> bool:
    """Whether a login that ended in `error` leaves the transport usable, in its previous layer.

    So it is after a refusal in good form and after our own, said to the peer. After a broken
    protocol, a peer that did not prove itself, an interrupt or a foreign exception the state of
    the connection is unknown: close it.
    """
    return isinstance(
        error, AuthenticationError | NegotiationError | MechanismUnavailableError | UsageError
    ) and not isinstance(error, ProtocolError | MutualAuthenticationError)


_KINDS: Final = {
    "ClientMechanism": "a ClientMechanism, as DigestMD5Client(...) makes",
    "ServerMechanism": "a ServerMechanism, as DigestMD5Server(...) makes",
    "Exchange": "an Exchange, as LDAPBind(mechanism) makes",
}


def check_kind(given: object, kind: type[object]) -> None:
    """Refuse what cannot log in, or not on this side, before a word is said for it.

    :param kind: `ClientMechanism`, `ServerMechanism` or `Exchange`
    :raises UsageError: it is none, or a mechanism without a name that can be said; the text shows
        no more of it
    """
    if not isinstance(given, kind):
        named = f"a {type(given).__name__}"
        if isinstance(given, type):
            named = f"the class {given.__name__}"
        raise UsageError(f"the login takes {_KINDS[kind.__name__]}, not {named}")
    if isinstance(given, Mechanism):
        require_name(getattr(given, "name", None))


def _interrupted() -> SASLError:
    return SASLError("the login was interrupted; connect anew")


class Exchange(ABC):
    """What all exchanges share: the crank, the input buffer, the mechanism's steps, the latch."""

    def __init__(self, mechanism: Mechanism | None) -> None:
        self._mechanism = mechanism
        self._channel: ChannelInfo | None = None
        self._buffer = bytearray()
        self._eof = False
        self._awaiting = False  # a message: only then is input a message's start
        self._question: tuple[bytes | None] | None = None  # for the mechanism
        self._reply: bytes | None = None
        self._refusal: SASLError | None = None  # the mechanism's
        self._stepping = False
        self._aborting = False
        self._script = self._run()
        self._begun = False
        self._done = False
        self._fault: SASLError | None = None

    @property
    def mechanism(self) -> Mechanism | None:
        """The mechanism; None while a server has not been told which one."""
        return self._mechanism

    @property
    def may_block(self) -> bool:
        """Whether `step` may wait for something outside: run it in a thread then."""
        return self._mechanism is not None and self._mechanism.may_block

    @property
    def context(self) -> SecurityContext | None:
        """The security context to install, None if the login brought no layer.

        :raises UsageError: before `Done`
        """
        if not self._done or self._mechanism is None:
            raise UsageError("an exchange has no context before advance() returned Done")
        return self._mechanism.context

    @property
    def authcid(self) -> str | None:
        """Who authenticates."""
        return None if self._mechanism is None else self._mechanism.authcid

    @property
    def authzid(self) -> str | None:
        """On whose behalf, where that was said."""
        return None if self._mechanism is None else self._mechanism.authzid

    @property
    def trailing_data(self) -> bytes:
        """What was received past the login's end."""
        return bytes(self._buffer)

    def begin(self, received: Buffer) -> None:
        """Take in what was read of the login already. Our own drivers call it first of all.

        From here on, what they were handed is in `trailing_data`, whatever is refused next.

        :raises UsageError: the exchange was used before; nothing was taken in
        """
        if self._begun:
            raise UsageError("an exchange is one login's: make a new one, with a new mechanism")
        self.receive_data(received)

    def bind_channel(self, info: ChannelInfo) -> None:
        """Learn about the channel below, for the mechanism. Drivers call it before `advance`.

        :raises UsageError: the mechanism was used before, or it is no `ChannelInfo`
        """
        require_kind("info", info, ChannelInfo)
        self._channel = info
        if self._mechanism is not None:
            self._mechanism.bind_channel(info)

    def advance(self) -> Event:
        """Say what is to be done next. The same answer again until it is done.

        :raises SASLError: the login failed; `transport_survives` tells what that means below
        """
        if self._fault is not None:
            raise self._fault.fresh()
        self._begun = True
        try:
            return next(self._script)
        except StopIteration:
            self._done = True
            return Done()
        except SASLError as error:
            fault = self._latch(error)
        except BaseException:
            self._latch(_interrupted())
            raise
        raise fault

    def receive_data(self, data: Buffer) -> None:
        """Take in octets from the peer. Never raises for what they are: `advance` does."""
        if self._fault is not None:
            return
        self._buffer += octets(data)
        if self._awaiting:
            try:
                self._measure(self._buffer)
            except ProtocolError as error:
                self._latch(error)
                self._buffer.clear()

    def receive_eof(self) -> None:
        """Take in that the peer sends no more."""
        self._eof = True

    def step(self) -> None:
        """Run the mechanism once. What it finds wrong comes out of `advance`.

        :raises UsageError: `advance` did not say `Step`
        """
        if self._question is None or self._mechanism is None or self._stepping:
            raise UsageError("step() answers a Step of advance(), and only once")
        (message,) = self._question
        self._stepping = True
        try:
            self._reply = self._mechanism.step(message)
        except SASLError as error:
            self._refusal = error.fresh()
        except BaseException:
            self._latch(_interrupted())
            raise
        finally:
            self._stepping = False
            self._question = None

    def abandon(self) -> None:
        """Give up without a word, and drop what is secret: for a driver that closes the connection.

        A step that is at work in a thread goes on; what it brings is dropped.
        """
        if self._fault is None:
            self._latch(_interrupted())

    def follow_up(self) -> Exchange | None:
        """Say what a driver has to run next, under the new layer, before the application speaks.

        None for most logins. Asked once, after `Done` and the installation of the context.
        """
        return None

    def leaves_usable(self, error: BaseException) -> bool:
        """Whether `error` leaves the transport usable, in its previous layer: `transport_survives`.

        Not once the login is done: then the new layer is in force at the peer, what follows belongs
        under it, and a follow-up that fails, however politely, ends the connection.
        """
        return not self._done and transport_survives(error)

    def abort(self) -> bytes:
        """Give up. Returns what tells the peer so, `b""` if there is nothing to tell now.

        Then go on with `advance`: it may still have to send, and waits for the peer's answer where
        the protocol has one. It ends in `AuthenticationError`; the transport is usable then.

        :raises UsageError: the login is over
        """
        if self._done or self._aborting or self._fault is not None:
            raise UsageError("the login is over; there is nothing to abort")
        self._script.close()
        self._question = None
        self._aborting = True
        message = self._abort_message()
        self._script = self._give_up()
        return message

    def _give_up(self) -> Script:
        yield from self._aborted()
        raise AuthenticationError("the login was aborted on our side")

    @abstractmethod
    def _run(self) -> Script:
        """Write the login down, from the first message to success."""

    @abstractmethod
    def _measure(self, buffer: bytearray) -> int | None:
        """Measure the message at the head of `buffer`, None while that cannot be said.

        :raises ProtocolError: it is, or will be, over the limit
        """

    @abstractmethod
    def _abort_message(self) -> bytes:
        """Say in the protocol's words that the login is given up."""

    @abstractmethod
    def _aborted(self) -> Script:
        """Wait for the peer's answer to the abort message, where the protocol has one."""

    def _latch(self, error: SASLError) -> SASLError:
        self._fault = error.fresh()
        if self._mechanism is not None:
            self._mechanism.abandon()
        return error.fresh()

    def _message(self) -> Generator[Event, None, bytes]:
        """Get the peer's next message, whole."""
        self._awaiting = True
        while (length := self._measure(self._buffer)) is None or length > len(self._buffer):
            if self._eof:
                raise TruncatedStreamError("the peer closed the connection during the login")
            yield NeedData()
        self._awaiting = False
        message = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return message

    def _ask_mechanism(self, message: bytes | None) -> Generator[Event, None, bytes | None]:
        """Get the mechanism's answer to `message`, or its refusal, as an exception."""
        self._question, self._reply, self._refusal = (message,), None, None
        while self._question is not None:
            yield Step()
        if self._refusal is not None:
            raise self._refusal.fresh()
        return self._reply

    def _ask(self, message: bytes | None) -> Generator[Event, None, bytes | None]:
        """The same; and a refusal is made known to the peer before it is raised."""
        try:
            return (yield from self._ask_mechanism(message))
        except SASLError as error:
            refusal = error
        yield from self._tell(refusal)
        raise refusal

    def _tell(self, refusal: SASLError) -> Script:
        """Make our mechanism's refusal known to the peer, where the protocol has words for it."""
        yield from ()

    def _prove(self, message: bytes) -> Script:
        """Give the mechanism what came with a server's success: it is the last word.

        :raises UnacceptableSuccessError: the mechanism refuses what it is to agree to
        """
        name = self._mechanism and self._mechanism.name
        try:
            reply = yield from self._ask_mechanism(message)
        except SASLError as error:
            if not transport_survives(error):
                raise
            raise UnacceptableSuccessError(
                f"the server reported success, which {name} refuses: {error}"
            ) from None
        if reply:
            raise ProtocolError(f"the server reported success before {name} ended")

    def _require_complete(self) -> None:
        """Hold a server's success against the mechanism: it has to be satisfied.

        :raises MutualAuthenticationError: it is not
        """
        if self._mechanism is None or not self._mechanism.complete:
            name = self._mechanism and self._mechanism.name
            raise MutualAuthenticationError(
                f"the server reported success without the proof that it knows the secret: {name} "
                "is not complete"
            )

    def _set_mechanism(self, mechanism: Mechanism) -> None:
        """Use this one: a server's choice, after the client named it."""
        self._mechanism = mechanism
        if self._channel is not None:
            mechanism.bind_channel(self._channel)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange is one connection's; it cannot be copied or pickled")

    @half_made_too
    def __repr__(self) -> str:
        state = "failed" if self._fault else "done" if self._done else "under way"
        return f"<{type(self).__name__} {state}>"
