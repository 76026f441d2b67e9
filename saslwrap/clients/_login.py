"""What the clients' logins share: how a failure is told in a library's words, and what closes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saslwrap.errors import (
    AuthenticationError,
    MechanismUnavailableError,
    NegotiationError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import Exchange

__all__ = ["closed_by_failure", "no_tls_now", "told_as"]


@contextmanager
def told_as(
    refused: Callable[[str], Exception], lost: Callable[[str], Exception] | None = None
) -> Iterator[None]:
    """Raise what users of a library look for, with our error as the cause.

    What the caller has to mend stays as it is: a `UsageError`, a `MechanismUnavailableError`.

    :param refused: makes the error of a refusal, the server's or our policy's, of its text
    :param lost: makes that of a connection that broke, or whose server broke the protocol; without
        it they stay as they are
    """
    try:
        yield
    except (UsageError, MechanismUnavailableError):
        raise
    except (AuthenticationError, NegotiationError) as error:
        raise refused(str(error)) from error
    except (SASLError, OSError) as error:
        if lost is None:
            raise
        raise lost(str(error)) from error


@contextmanager
def closed_by_failure(
    login: Exchange, close: Callable[[], object], but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Close the client of a login that fails, unless its transport is left usable.

    It is not where the server said more behind its refusal: the answer to the next command would
    be taken from that.

    :param but: errors of the library that leave it usable, too
    """
    try:
        yield
    except but:
        raise
    except BaseException as error:
        if not login.leaves_usable(error) or login.trailing_data:
            close()
        raise


def no_tls_now(command: str) -> UsageError:
    """Say that a layer is in force, below which TLS cannot be put."""
    return UsageError(f"{command} has to come before the login, not under its layer")
