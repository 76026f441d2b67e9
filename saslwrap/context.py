"""The security context: what a completed login leaves behind, one object for both directions.

Three things hold for every mechanism, so they stand here and nowhere else:

*   One sealer and one unsealer may be at work at the same time, in two threads too. A second of
    either kind is refused at once with `ContextBusyError`. It never waits: two sealers in a queue
    would both succeed and send their tokens in either order, which the peer must take for an
    attack.
*   The latch. The first failure kills both directions for good and drops their keys; every later
    call fails with the same type and text. Refusals before anything was spent (busy, closed, a
    message over the maximum) do not latch.
*   Errors leave from here as fresh copies, raised when the frames that saw plaintext are gone: a
    traceback that reaches a log or a debugger holds no plaintext of ours, a message that was
    refused neither, and no cause that would tell one failure inside a token from another.

A mechanism supplies a `Sealer` and an `Unsealer`. They keep the keys, the counter and the cipher
state of one direction each, and know nothing of the above.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar

from saslwrap.errors import (
    ContextBusyError,
    FrameTooLargeError,
    SASLError,
    SecurityStatus,
    UsageError,
    half_made_too,
)
from saslwrap.properties import QOP, Sizes, StreamSizes

__all__ = ["Buffer", "SecurityContext"]

#: What holds octets: any of these, and in practice all that `memoryview()` takes.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: What sealers and unsealers get.
Octets: TypeAlias = bytes | memoryview

#: The longest token, in octets, of which copies cost less than views do.
SMALL_TOKEN = 8192

T = TypeVar("T")
D = TypeVar("D", bound=Octets)


class Sealer(Protocol):
    """The sending direction of a mechanism."""

    def seal(self, message: Octets) -> bytes:
        """Seal a message that fits the maximum. `UsageError` only while nothing is spent."""


class Unsealer(Protocol):
    """The receiving direction of a mechanism."""

    def unseal(self, token: Octets) -> bytes:
        """Check and open a token, or raise `IntegrityError`. Keeps no reference to the token."""


class InPlaceSealer(ABC):
    """A sealer that can work in the caller's memory too."""

    @abstractmethod
    def seal_in_place(self, message: memoryview) -> bytes:
        """Seal where it is, and return what of the token does not fit there."""


class InPlaceUnsealer(ABC):
    """An unsealer that can work in the caller's memory too."""

    @abstractmethod
    def unseal_in_place(self, token: memoryview) -> int:
        """Open a token where it is, and return the length of its message; wipe a forged one."""

    @abstractmethod
    def verify(self, message: memoryview, signature: memoryview) -> None:
        """Check a message of integrity only, whose signature stands elsewhere."""


def octets(data: Buffer) -> memoryview:
    """View any buffer as octets; one that is not contiguous octets is copied."""
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    return memoryview(view.tobytes())


def _check_place(view: memoryview) -> None:
    if view.readonly or view.format != "B" or view.ndim != 1 or not view.contiguous:
        raise UsageError("working in place takes a writable memoryview of contiguous octets")


class SecurityContext:
    """Keys, counters and cipher states of one authenticated connection (SSPI: CtxtHandle).

    A mechanism makes it; it stands in the mechanism's `context`. The length prefix of a frame is
    the business of `SecurityLayer`.

    :ivar mechanism: IANA name, such as `"DIGEST-MD5"`
    :ivar qop: `QOP.AUTH_INT` or `QOP.AUTH_CONF`
    :ivar ssf: strength, as Cyrus SASL counts it
    :ivar cipher: the mechanism's name of the cipher, None under integrity only
    :ivar stream_sizes: SECPKG_ATTR_STREAM_SIZES, with the largest message that `seal` takes
    :ivar sizes: SECPKG_ATTR_SIZES
    :ivar local_maxbuf: the largest token that we announced to receive, in octets
    :ivar peer_maxbuf: the largest token that the peer announced to receive, in octets
    """

    __slots__ = (
        "_claim",
        "_fault",
        "_sealer",
        "_sealing",
        "_unsealer",
        "_unsealing",
        "cipher",
        "local_maxbuf",
        "mechanism",
        "peer_maxbuf",
        "qop",
        "sizes",
        "ssf",
        "stream_sizes",
    )

    def __init__(
        self,
        sealer: Sealer,
        unsealer: Unsealer,
        *,
        mechanism: str,
        qop: QOP,
        ssf: int,
        cipher: str | None,
        stream_sizes: StreamSizes,
        sizes: Sizes,
        local_maxbuf: int,
        peer_maxbuf: int,
    ) -> None:
        if stream_sizes.maximum_message < 1:
            raise UsageError(f"the peer's maxbuf of {peer_maxbuf} octets can carry no message")
        self.mechanism: Final = mechanism
        self.qop: Final = qop
        self.ssf: Final = ssf
        self.cipher: Final = cipher
        self.stream_sizes: Final = stream_sizes
        self.sizes: Final = sizes
        self.local_maxbuf: Final = local_maxbuf
        self.peer_maxbuf: Final = peer_maxbuf
        # Both None when failed or closed; a call at work in another thread keeps its own reference.
        self._sealer: Sealer | None = sealer
        self._unsealer: Unsealer | None = unsealer
        self._sealing: Final = threading.Lock()
        self._unsealing: Final = threading.Lock()
        self._claim: Final = threading.Lock()  # never released
        self._fault: SASLError | None = None

    @property
    def failed(self) -> bool:
        """Whether the latch fell: both directions are dead."""
        return self._fault is not None

    @property
    def fault(self) -> SASLError | None:
        """The first failure, as a copy; None while there was none."""
        return None if self._fault is None else self._fault.fresh()

    @property
    def alive(self) -> bool:
        """Whether it works: neither failed nor closed."""
        return self._sealer is not None

    def claim(self) -> None:
        """Become the only user's, as a layer is. Two would each get a part of the sequence.

        :raises UsageError: it has a user already, or is closed
        :raises SASLError: it has failed, with the first failure's type and text
        """
        self.check()
        if not self._claim.acquire(False):
            raise UsageError(
                "the security context has a user already, such as a layer, and serves one "
                "connection: go on with that layer or its stream, or log in anew for another"
            )

    def seal(self, message: Buffer) -> bytes:
        """Protect one message and return its token, without length (SSPI: EncryptMessage).

        :param message: 0 to `stream_sizes.maximum_message` octets in any buffer
        :raises UsageError: the message is longer, or the context is closed
        :raises ContextBusyError: another `seal` of this context is at work
        :raises SASLError: the context has failed, with the first failure's type and text
        """
        try:
            if type(message) is bytes:  # which needs no view
                return self._guarded(self._sealing, "sealer", self._seal, message)
            with octets(message) as message:
                return self._guarded(self._sealing, "sealer", self._seal, message)
        except BaseException as error:
            del message  # neither this frame nor one below is to show what was refused
            raise error.with_traceback(None)  # noqa: B904 - as in _guarded

    def unseal(self, token: Buffer) -> bytes:
        """Check a token, without length, and return its message (SSPI: DecryptMessage).

        :param token: one whole token in any buffer
        :raises OutOfSequenceError: another sequence number was due
        :raises IntegrityError: the token does not authenticate, for whatever reason
        :raises FrameTooLargeError: the token is over `local_maxbuf`
        :raises UsageError: the context is closed
        :raises ContextBusyError: another `unseal` of this context is at work
        :raises SASLError: the context has failed, with the first failure's type and text
        """
        if type(token) is bytes and len(token) <= SMALL_TOKEN:
            return self._guarded(self._unsealing, "unsealer", self._unseal, token)
        with octets(token) as view:
            return self._guarded(self._unsealing, "unsealer", self._unseal, view)

    def seal_in_place(self, message: memoryview) -> bytes:
        """As `seal`, in the caller's memory: for SSPI's calls, and contexts of DIGEST-MD5.

        :param message: writable octets; they become the first octets of the token
        :return: the rest of the token
        """
        _check_place(message)
        return self._guarded(self._sealing, "sealer", self._seal_in_place, message)

    def unseal_in_place(self, token: memoryview) -> int:
        """As `unseal`, in the caller's memory: for SSPI's calls, and contexts of DIGEST-MD5.

        :param token: writable octets; they become the message first, then what is of no use. A
            forged token is wiped
        :return: the length of the message, in octets
        """
        _check_place(token)
        return self._guarded(self._unsealing, "unsealer", self._unseal_in_place, token)

    def sign(self, message: memoryview) -> bytes:
        """As `seal`, of a message that is left as it is: for SSPI's calls, and `QOP.AUTH_INT`.

        :param message: octets; they are the first octets of the token
        :return: the rest of the token
        """
        self._check_signing(message)
        return self._guarded(self._sealing, "sealer", self._seal_in_place, message)

    def verify(self, message: memoryview, signature: memoryview) -> None:
        """As `unseal`, of a token in two parts: for SSPI's calls, and `QOP.AUTH_INT`.

        :param message: the first octets of the token, left as they are
        :param signature: the rest
        """
        self._check_signing(message)
        self._check_signing(signature)
        work = partial(self._verify, message)
        self._guarded(self._unsealing, "unsealer", work, signature)

    def _seal(self, message: Octets) -> bytes:
        return self._sealer_for(message).seal(message)

    def _seal_in_place(self, message: memoryview) -> bytes:
        sealer = self._sealer_for(message)
        if not isinstance(sealer, InPlaceSealer):
            raise UsageError(f"{self.mechanism} cannot seal in place; use seal")
        return sealer.seal_in_place(message)

    def _unseal(self, token: Octets) -> bytes:
        return self._unsealer_for(token).unseal(token)

    def _unseal_in_place(self, token: memoryview) -> int:
        unsealer = self._unsealer_for(token)
        if not isinstance(unsealer, InPlaceUnsealer):
            raise UsageError(f"{self.mechanism} cannot unseal in place; use unseal")
        return unsealer.unseal_in_place(token)

    def _check_signing(self, view: memoryview) -> None:
        if self.qop is not QOP.AUTH_INT:
            raise UsageError("signatures go with integrity only; under confidentiality, seal")
        if not isinstance(view, memoryview) or view.format != "B" or not view.contiguous:
            raise UsageError("signing takes a memoryview of contiguous octets")

    def _verify(self, message: memoryview, signature: memoryview) -> None:
        unsealer = self._unsealer_for(message)
        if not isinstance(unsealer, InPlaceUnsealer):
            raise UsageError(f"{self.mechanism} cannot verify a signature alone; use unseal")
        if (length := len(message) + len(signature)) > self.local_maxbuf:
            raise FrameTooLargeError(length, self.local_maxbuf)
        unsealer.verify(message, signature)

    def _sealer_for(self, message: Octets) -> Sealer:
        if (sealer := self._sealer) is None:
            raise self._refusal()
        if len(message) > self.stream_sizes.maximum_message:
            raise UsageError(
                f"a message of {len(message)} octets is over the maximum message of "
                f"{self.stream_sizes.maximum_message}; split it, or send it through a "
                "SecurityLayer, which does"
            )
        return sealer

    def _unsealer_for(self, token: Octets) -> Unsealer:
        if (unsealer := self._unsealer) is None:
            raise self._refusal()
        if len(token) > self.local_maxbuf:
            raise FrameTooLargeError(len(token), self.local_maxbuf)
        return unsealer

    def _guarded(
        self,
        lock: threading.Lock,
        kind: str,
        work: Callable[[D], T],
        data: D,
    ) -> T:
        """Work as the only one of its kind; latch what fails, and raise it out of its frames."""
        if not lock.acquire(False):
            raise ContextBusyError(
                f"another {kind} is at work on this context: one thread or task may seal and one "
                "unseal at a time; serialise the calls, or give each its own connection"
            )
        try:
            return work(data)
        except UsageError as error:
            fault: SASLError = error.fresh()
        except SASLError as error:
            fault = self.fail(error)
        except BaseException as error:  # an interrupt or no memory, half-way: no telling the state
            self.fail(SASLError("an earlier call on this context was interrupted; connect anew"))
            raise error.with_traceback(None)  # noqa: B904 - it is the same one
        finally:
            lock.release()
        try:
            raise fault
        finally:
            del fault  # or it, its traceback and this frame would keep each other alive

    def fail(self, error: SASLError) -> SASLError:
        """Latch with `error`, as the framing above does, and return what is to be raised."""
        self.close()  # first of all: whatever goes wrong next, nothing works any more
        if self._fault is None:
            self._fault = error.fresh()
        return self._refusal()

    def check(self) -> None:
        """Raise what `seal` and `unseal` would raise of a failed or closed context."""
        if self._sealer is None:
            raise self._refusal()

    def close(self) -> None:
        """Drop the keys: later calls are a `UsageError`. Idempotent; tells the peer nothing."""
        self._sealer = self._unsealer = None

    def _refusal(self) -> SASLError:
        if (fault := self.fault) is not None:
            return fault
        error = UsageError("the security context is closed; log in anew for another")
        error.status = SecurityStatus.SEC_E_CONTEXT_EXPIRED
        return error

    def __reduce__(self) -> NoReturn:
        raise TypeError("a security context is one connection's; it cannot be copied or pickled")

    @half_made_too
    def __repr__(self) -> str:
        state = " failed" if self.failed else "" if self.alive else " closed"
        cipher = f" {self.cipher}" if self.cipher else ""
        return f"<SecurityContext {self.mechanism} {self.qop}{cipher} ssf={self.ssf}{state}>"
