"""What a call takes for a context, and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeAlias, TypeVar

from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import (
    ContextBusyError,
    FrameTooLargeError,
    MechanismUnavailableError,
    SASLError,
    SecurityStatus,
)
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server

__all__ = ["CtxtHandle", "Handle", "SSPIError"]

P = ParamSpec("P")
T = TypeVar("T")


class SSPIError(SASLError):
    """A call failed.

    :ivar status: the SECURITY_STATUS that the call of Windows would have returned
    """

    def __init__(
        self, text: str, status: SecurityStatus = SecurityStatus.SEC_E_INTERNAL_ERROR
    ) -> None:
        super().__init__(text)
        self.status = status

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.status.name})"


def native(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what is below this floor, and raise what it raises with the status of a native call.

    The error has neither cause nor context: those would hold frames that saw plaintext.
    """
    try:
        return work(*args, **kwargs)
    except ContextBusyError:
        raise
    except SASLError as error:
        fault = SSPIError(str(error), _status_of(error))
    except MemoryError:
        fault = SSPIError(
            "there is not enough memory for this call; its context is of no more use",
            SecurityStatus.SEC_E_INSUFFICIENT_MEMORY,
        )
    try:
        raise fault
    finally:
        del fault  # or it, its traceback and this frame would keep each other alive


def _status_of(error: SASLError) -> SecurityStatus:
    match error:
        case MechanismUnavailableError():  # a cipher, or MD5 itself
            return SecurityStatus.SEC_E_CRYPTO_SYSTEM_INVALID
        case FrameTooLargeError():  # the buffer that is too small is the one that we announced
            return SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    return error.status


class CtxtHandle:
    """One side's login and what came of it (SSPI: CtxtHandle).

    `initialize_security_context` and `accept_security_context` make it. It also takes a mechanism
    that logged in by other means, through a shell for one, and gives it to the calls here.

    :ivar mechanism: the login
    """

    __slots__ = ("_fault", "mechanism")

    def __init__(self, mechanism: DigestMD5Client | DigestMD5Server) -> None:
        self.mechanism: Final = mechanism
        self._fault: SSPIError | None = None

    @property
    def complete(self) -> bool:
        """Whether this side is done and satisfied."""
        return self.mechanism.complete

    @property
    def context(self) -> SecurityContext | None:
        """The security context, None if no layer was negotiated.

        :raises UsageError: before completion
        """
        return self.mechanism.context

    def close(self) -> None:
        """Drop the keys (DeleteSecurityContext)."""
        if self.complete and self.context:
            self.context.close()

    def check(self) -> None:
        """Raise what made the login fail; that it is not over, if it is not.

        :raises SSPIError: as said
        """
        if self._fault is not None:
            raise self._fault.fresh()
        if not self.complete:
            raise SSPIError("the login is not complete", SecurityStatus.SEC_E_INVALID_HANDLE)

    def step(self, token: Buffer | None) -> bytes | None:
        """Take the peer's token, give the next one; a failure is this handle's for good.

        :raises SSPIError: the step failed
        """
        try:
            return native(self.mechanism.step, token)
        except SSPIError as error:
            self._fault = error.fresh()
            raise

    def __repr__(self) -> str:
        return f"<CtxtHandle {self.mechanism!r}>"


#: What stands for a context: a login's handle, or the context of any DIGEST-MD5 mechanism.
Handle: TypeAlias = CtxtHandle | SecurityContext


def context_of(handle: Handle) -> SecurityContext:
    """Give the context behind a handle, whether it lives or not.

    :raises SSPIError: there is none: SEC_E_INVALID_HANDLE, what the login failed of, or, of a login
        without a layer, SEC_E_QOP_NOT_SUPPORTED
    """
    if isinstance(handle, CtxtHandle):
        handle.check()
        context = handle.context
    elif isinstance(handle, SecurityContext):
        context = handle
    else:
        raise SSPIError(f"no context: {type(handle).__name__}", SecurityStatus.SEC_E_INVALID_HANDLE)
    if context is None:
        raise SSPIError(
            "the login negotiated no layer (qop=auth): messages go as they are",
            SecurityStatus.SEC_E_QOP_NOT_SUPPORTED,
        )
    if context.mechanism != "DIGEST-MD5":
        raise SSPIError(
            f"this is the Digest package; a context of {context.mechanism} has seal and unseal",
            SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
        )
    return context
