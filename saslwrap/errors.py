"""The error tree. Every error says who is at fault, by its type, and what to do, by its text.

Nothing secret and no plaintext ever stands in a text: texts are built from constants, numbers,
names of mechanisms and ciphers, and what the peer sent in clear.
"""

from __future__ import annotations

import copy
import enum
import inspect
from collections.abc import Callable
from functools import wraps
from math import inf
from typing import Any, Self, TypeVar, get_args

__all__ = [
    "AuthenticationError",
    "ContextBusyError",
    "FrameTooLargeError",
    "IntegrityError",
    "MalformedMessageError",
    "MechanismUnavailableError",
    "MutualAuthenticationError",
    "NegotiationError",
    "OutOfSequenceError",
    "ProtocolError",
    "SASLError",
    "SecurityStatus",
    "TruncatedStreamError",
    "UnacceptableSuccessError",
    "UsageError",
]


T = TypeVar("T")

_LINE_LIMIT = 200


def one_line(text: str) -> str:
    """Make one printable line of a text that a peer or a library wrote, or had a hand in."""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    return " ".join(words)[:_LINE_LIMIT]


class SecurityStatus(enum.IntEnum):
    """SSPI's SECURITY_STATUS codes (winerror.h): those of errors, and those that calls return."""

    SEC_E_OK = 0
    SEC_I_CONTINUE_NEEDED = 0x00090312
    SEC_E_INSUFFICIENT_MEMORY = 0x80090300
    SEC_E_INVALID_HANDLE = 0x80090301
    SEC_E_UNSUPPORTED_FUNCTION = 0x80090302
    SEC_E_TARGET_UNKNOWN = 0x80090303
    SEC_E_INTERNAL_ERROR = 0x80090304
    SEC_E_SECPKG_NOT_FOUND = 0x80090305
    SEC_E_INVALID_TOKEN = 0x80090308
    SEC_E_QOP_NOT_SUPPORTED = 0x8009030A
    SEC_E_LOGON_DENIED = 0x8009030C
    SEC_E_NO_CREDENTIALS = 0x8009030E
    SEC_E_MESSAGE_ALTERED = 0x8009030F
    SEC_E_OUT_OF_SEQUENCE = 0x80090310
    SEC_E_CONTEXT_EXPIRED = 0x80090317
    SEC_E_INCOMPLETE_MESSAGE = 0x80090318
    SEC_E_BUFFER_TOO_SMALL = 0x80090321
    SEC_E_ALGORITHM_MISMATCH = 0x80090331
    SEC_E_SECURITY_QOS_FAILED = 0x80090332
    SEC_E_CRYPTO_SYSTEM_INVALID = 0x80090337
    SEC_E_MUTUAL_AUTH_FAILED = 0x80090363


class SASLError(Exception):
    """The root of all errors of this package."""

    #: The SSPI code that says the same (SECURITY_STATUS).
    status: SecurityStatus = SecurityStatus.SEC_E_INTERNAL_ERROR

    def fresh(self) -> Self:
        """Give the same error anew: same type, text and attributes; no traceback, no cause."""
        error = copy.copy(self)
        error.__dict__.pop("__notes__", None)
        return error


class UsageError(SASLError):
    """The caller's mistake: deterministic, and never caused by what a peer sent."""

    status = SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


class ContextBusyError(UsageError):
    """A second sealer, or a second unsealer, entered a context that has one at work."""


class MechanismUnavailableError(SASLError):
    """An extra, a cipher or a legacy provider is missing; the text says what to install or set."""

    status = SecurityStatus.SEC_E_SECPKG_NOT_FOUND


class NegotiationError(SASLError):
    """Our policy and the peer's offer do not meet; the text names both."""

    status = SecurityStatus.SEC_E_ALGORITHM_MISMATCH


class AuthenticationError(SASLError):
    """The login was refused."""

    status = SecurityStatus.SEC_E_LOGON_DENIED


class MutualAuthenticationError(AuthenticationError):
    """The *peer* did not prove that it knows the secret: it is not who it claims to be."""

    status = SecurityStatus.SEC_E_MUTUAL_AUTH_FAILED


class ProtocolError(SASLError, ConnectionError):
    """The peer broke the protocol."""

    status = SecurityStatus.SEC_E_INVALID_TOKEN


class UnacceptableSuccessError(NegotiationError, ProtocolError):
    """The server reported success, but what was negotiated does not meet our policy.

    The server may have installed its layer, so unlike after other refusals of ours the connection
    cannot be used on.
    """


class MalformedMessageError(ProtocolError):
    """A message of the login cannot be parsed, or breaks its grammar's rules."""


class FrameTooLargeError(ProtocolError):
    """A length field announces more than we said we can receive (RFC 4422 section 3.7).

    :ivar announced: the length that the peer announced, in octets
    :ivar limit: the local maxbuf, in octets
    """

    def __init__(self, announced: int, limit: int, hint: str = "") -> None:
        super().__init__(
            f"the peer announced a frame of {announced} octets, our maxbuf is {limit}{hint}"
        )
        self.announced = announced
        self.limit = limit
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.announced, self.limit, self._hint), dict(self.__dict__)


class TruncatedStreamError(ProtocolError):
    """The connection ended inside a frame or inside the login: something was cut off."""

    status = SecurityStatus.SEC_E_INCOMPLETE_MESSAGE


class IntegrityError(SASLError, ConnectionError):
    """A token does not authenticate. One type and one text for every cause inside it."""

    status = SecurityStatus.SEC_E_MESSAGE_ALTERED

    def __init__(self, text: str = "a protected message was altered or forged") -> None:
        super().__init__(text)


class OutOfSequenceError(IntegrityError):
    """A token carries another sequence number than is due: one was lost, replayed or reordered."""

    status = SecurityStatus.SEC_E_OUT_OF_SEQUENCE

    def __init__(
        self, text: str = "a protected message is out of sequence: lost, replayed or reordered"
    ) -> None:
        super().__init__(text)


def require_kind(name: str, value: object, kind: Any, wanted: str = "") -> None:
    """Refuse an argument of another kind when it is given, without showing it.

    True and False are no numbers, though Python has them for some: only a kind that names `bool`
    takes them.

    :param kind: what `isinstance` takes: a type, a union, `Callable`
    :param wanted: the kind in words, where its name would not do
    :raises UsageError: it is of another kind
    """
    stray = isinstance(value, bool) and bool not in (kind, *get_args(kind))
    if stray or not isinstance(value, kind):
        wanted = wanted or (kind.__name__ if isinstance(kind, type) else str(kind))
        raise UsageError(f"{name} is {wanted}, not {_kind_of(value)}")


def _kind_of(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def require_number(
    name: str, value: Any, least: float = -inf, most: float = inf, *, kind: Any = int
) -> None:
    """Refuse an argument that is no number, or is out of its range. A bool is no number.

    :param kind: `int`, or `int | float` where parts count too
    :raises UsageError: it is none, or out of its range
    """
    wanted = "a whole number" if kind is int else "a number"
    wanted += f" from {least}" if least > -inf else ""
    wanted += f" to {most}" if most < inf else ""
    require_kind(name, value, kind, wanted)
    if not least <= value <= most:
        raise UsageError(f"{name} is {wanted}, not {value}")


def half_made_too(describe: Callable[[T], str]) -> Callable[[T], str]:
    """Let a `__repr__` say something of an object whose arguments were refused, too.

    A traceback that shows local variables has such a one, and would end in an `AttributeError` of
    ours in place of the refusal.
    """

    @wraps(describe)
    def describing(self: T) -> str:
        try:
            return describe(self)
        except AttributeError:
            return f"<{type(self).__name__} half made>"

    return describing


def is_async(function: Any) -> bool:
    """Whether a call gives a coroutine: it is an async function, or its `__call__` is one."""
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def require_maker(name: str, make: Any, wanted: str, example: str) -> None:
    """Refuse what cannot be called without arguments to make a thing at once.

    :param wanted: the function in words: "a function that makes one"
    :param example: such a function, for one that needs arguments
    :raises UsageError: it is no function, an async one, an abstract class, or it needs arguments
    """
    require_kind(name, make, Callable, wanted)
    if is_async(make):
        raise UsageError(f"{name} is {wanted}, not an async one")
    if inspect.isabstract(make):
        raise UsageError(f"{name} is {wanted}, not an abstract class")
    try:
        inspect.signature(make).bind()
    except TypeError:
        raise UsageError(
            f"{name} is called without arguments, and cannot be; give it those that it needs: "
            f"{example}"
        ) from None
    except ValueError:  # of some that are written in C nobody knows
        pass
