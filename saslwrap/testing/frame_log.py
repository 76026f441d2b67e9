"""What went over the wire, sealed and unsealed: to assert on, and to read.

    log = FrameLog()
    mechanism = log.watch_mechanism(DigestMD5Client("alice", "s3cret", ...))
    ...                                                   # log in, talk
    assert log.sent[0].message == b"plaintext"
    print(log)                                            # one line a frame
    print(log.dump())                                     # hexadecimal, plaintext beside it

A log watches contexts: each message that is sealed, each token that is unsealed or fails to be, and
what the framing refuses. It stands below every shell, so it shows what the wire has, and for whom
the context works there is no difference: failures, guards, closing and threads are as without it.
It keeps all plaintext, which is what it is for, and no key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, overload

from saslwrap.context import InPlaceSealer, InPlaceUnsealer, Octets, SecurityContext
from saslwrap.errors import ProtocolError, SASLError, UsageError, require_kind
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.properties import QOP, ChannelInfo, SecurityProperties

__all__ = ["Direction", "FrameLog", "FrameRecord"]

_HEADING: Final = "context  direction  number  message  token  content"

#: How much of a message a line shows, in octets.
_EXCERPT: Final = 40

#: Octets in a row of a dump.
_ROW: Final = 16


#: Which way a frame went, seen from the context that is watched.
Direction: TypeAlias = Literal["sent", "received"]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame. `str()` is a line, `dump()` shows the octets.

    :param context: which of the log's contexts, in the order in which they were watched, from 0
    :param direction: which way
    :param number: how many went before it, of this context and direction
    :param token: what the wire has after the length; None where it never got whole
    :param message: the plaintext; None where it failed
    :param error: why it failed
    """

    context: int
    direction: Direction
    number: int
    token: bytes | None = field(repr=False)
    message: bytes | None = field(repr=False)
    error: SASLError | None = None

    def dump(self) -> str:
        """Show the token in hexadecimal, the message beside it, octet by octet."""
        token, message = self.token or b"", self.message or b""
        rows = range(0, max(len(token), len(message)), _ROW)
        return "\n".join([str(self), *(self._row(at) for at in rows)])

    def _row(self, at: int) -> str:
        token, message = (self.token or b"")[at : at + _ROW], (self.message or b"")[at : at + _ROW]
        return f"{at:13x}  {token.hex(' '):<{3 * _ROW}} {_text(message)}".rstrip()

    def __str__(self) -> str:
        message, token = ("-" if it is None else len(it) for it in (self.message, self.token))
        return (
            f"{self.context:7}  {self.direction:<9}  {self.number:6}  {message:>7}  {token:>5}  "
            f"{self._content()}"
        ).rstrip()

    def _content(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        message = self.message or b""
        return _text(message[:_EXCERPT]) + ("..." if len(message) > _EXCERPT else "")


class FrameLog:
    """The record of all frames of the contexts that it watches, in their order.

    It may be printed: the table has a line for each frame.
    """

    def __init__(self) -> None:
        self._records: list[FrameRecord] = []
        self._contexts = 0

    @property
    def records(self) -> tuple[FrameRecord, ...]:
        """Everything, in the order in which it happened."""
        return tuple(self._records)

    @property
    def sent(self) -> tuple[FrameRecord, ...]:
        """What was sealed."""
        return tuple(record for record in self.records if record.direction == "sent")

    @property
    def received(self) -> tuple[FrameRecord, ...]:
        """What was unsealed, or failed to be."""
        return tuple(record for record in self.records if record.direction == "received")

    def dump(self) -> str:
        """Show all octets: tokens in hexadecimal, plaintext beside them."""
        return "\n".join([_HEADING, *(record.dump() for record in self.records)])

    def watch(self, context: SecurityContext) -> SecurityContext:
        """Make a context that does its work with `context`, and writes it down here.

        Use it in place of `context`, whose only user it is then.

        :raises UsageError: that is closed, has a layer already, or is none
        """
        require_kind("context", context, SecurityContext)
        context.claim()
        number, self._contexts = self._contexts, self._contexts + 1
        outbound = _Way(self._records, number, "sent")
        inbound = _Way(self._records, number, "received")
        return _WatchedContext(context, outbound, inbound)

    @overload
    def watch_mechanism(self, mechanism: ClientMechanism) -> ClientMechanism: ...

    @overload
    def watch_mechanism(self, mechanism: ServerMechanism) -> ServerMechanism: ...

    def watch_mechanism(
        self, mechanism: ClientMechanism | ServerMechanism
    ) -> ClientMechanism | ServerMechanism:
        """Make a mechanism that logs in as `mechanism` does, into a context that is watched.

        :raises UsageError: it is complete already, or none
        """
        require_kind("mechanism", mechanism, Mechanism, "a mechanism that was made")
        if mechanism.complete:
            raise UsageError(f"{mechanism.name} is complete; give its context to watch()")
        if isinstance(mechanism, ClientMechanism):
            return _watched_client(mechanism, self)
        return _watched_server(mechanism, self)

    def __len__(self) -> int:
        return len(self._records)

    def __str__(self) -> str:
        return "\n".join([_HEADING, *map(str, self.records)])

    def __repr__(self) -> str:
        return f"<FrameLog of {len(self.records)} frames; str() shows them, with their plaintext>"


def _text(octets: bytes) -> str:
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in octets)


class _Way:
    """One direction of one context. A context lets one call of a kind in, so nobody else counts."""

    def __init__(self, records: list[FrameRecord], context: int, direction: Direction) -> None:
        self._records = records
        self._context = context
        self._direction = direction
        self._number = 0
        self.failed = False

    def note(
        self, token: bytes | None, message: bytes | None, error: SASLError | None = None
    ) -> None:
        number, self._number = self._number, self._number + 1
        self._records.append(
            FrameRecord(self._context, self._direction, number, token, message, error)
        )

    @contextmanager
    def noting_failures(self, token: bytes | None = None) -> Iterator[None]:
        """Note what fails; a caller's mistake spends nothing, so there was no frame."""
        try:
            yield
        except UsageError:
            raise
        except SASLError as error:
            self.fail(error, token)
            raise

    def fail(self, error: SASLError, token: bytes | None = None) -> None:
        self.failed = True
        self.note(token, None, error.fresh())


class _Sealing(InPlaceSealer):
    def __init__(self, context: SecurityContext, way: _Way) -> None:
        self._context = context
        self._way = way

    def seal(self, message: Octets) -> bytes:
        plaintext = bytes(message)
        with self._way.noting_failures():
            token = self._context.seal(message)
        self._way.note(token, plaintext)
        return token

    def seal_in_place(self, message: memoryview) -> bytes:
        plaintext, context = bytes(message), self._context
        # under integrity it may be a message that has to be left as it is
        work = context.sign if context.qop is QOP.AUTH_INT else context.seal_in_place
        with self._way.noting_failures():
            rest = work(message)
        self._way.note(bytes(message) + rest, plaintext)
        return rest


class _Unsealing(InPlaceUnsealer):
    def __init__(self, context: SecurityContext, way: _Way) -> None:
        self._context = context
        self._way = way

    def unseal(self, token: Octets) -> bytes:
        sealed = bytes(token)
        with self._way.noting_failures(sealed):
            message = self._context.unseal(token)
        self._way.note(sealed, message)
        return message

    def unseal_in_place(self, token: memoryview) -> int:
        sealed = bytes(token)
        with self._way.noting_failures(sealed):
            length = self._context.unseal_in_place(token)
        self._way.note(sealed, bytes(token[:length]))
        return length

    def verify(self, message: memoryview, signature: memoryview) -> None:
        sealed = b"".join((message, signature))
        with self._way.noting_failures(sealed):
            self._context.verify(message, signature)
        self._way.note(sealed, bytes(message))


class _WatchedContext(SecurityContext):
    """Works with another context, and fails and closes together with it."""

    __slots__ = ("_inbound", "_watched")

    def __init__(self, context: SecurityContext, outbound: _Way, inbound: _Way) -> None:
        super().__init__(
            _Sealing(context, outbound),
            _Unsealing(context, inbound),
            mechanism=context.mechanism,
            qop=context.qop,
            ssf=context.ssf,
            cipher=context.cipher,
            stream_sizes=context.stream_sizes,
            sizes=context.sizes,
            local_maxbuf=context.local_maxbuf,
            peer_maxbuf=context.peer_maxbuf,
        )
        self._watched: Final = context
        self._inbound: Final = inbound

    def fail(self, error: SASLError) -> SASLError:
        """Latch both, and note what the framing found: no token of that got here."""
        refusal = super().fail(error)
        self._watched.fail(error)
        if isinstance(error, ProtocolError) and not self._inbound.failed:
            self._inbound.fail(error)
        return refusal

    def close(self) -> None:
        super().close()
        self._watched.close()


class _WatchedMechanism(Mechanism):
    """Steps as another mechanism does; its context is watched."""

    def __init__(self, mechanism: Mechanism, log: FrameLog) -> None:
        super().__init__()
        self._watched = mechanism
        self._log = log
        self.may_block = mechanism.may_block
        self._learn_names()

    def bind_channel(self, info: ChannelInfo) -> None:
        super().bind_channel(info)
        self._watched.bind_channel(info)

    def abandon(self) -> None:
        super().abandon()
        self._watched.abandon()

    def _step(self, message: bytes | None) -> bytes | None:
        reply = self._watched.step(message)
        self._learn_names()
        if self._watched.complete:
            context = self._watched.context
            self._finish(context and self._log.watch(context))
        return reply

    def _learn_names(self) -> None:
        self.authcid, self.authzid = self._watched.authcid, self._watched.authzid


def _watched_client(mechanism: ClientMechanism, log: FrameLog) -> ClientMechanism:
    class WatchedClient(_WatchedMechanism, ClientMechanism):
        name = mechanism.name
        properties = mechanism.properties

        @classmethod
        def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
            return mechanism.best_ssf(properties, external_ssf)

    return WatchedClient(mechanism, log)


def _watched_server(mechanism: ServerMechanism, log: FrameLog) -> ServerMechanism:
    class WatchedServer(_WatchedMechanism, ServerMechanism):
        name = mechanism.name

    return WatchedServer(mechanism, log)
