"""What was refused when it was made can be shown, as a traceback with local variables does."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from saslwrap import DigestMD5Client
from saslwrap.anyio import SASLStream
from saslwrap.context import SecurityContext
from saslwrap.errors import UsageError
from saslwrap.exchange import Exchange
from saslwrap.layer import SecurityLayer
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_login import LDAPLogin
from saslwrap.sspi import SecBuffer, SSPIError
from saslwrap.sync import SASLSocket
from tests.support import ToyMechanism, make_context

WRONG: Any = 5


class Impatient(ToyMechanism):
    """Judges its argument before it begins."""

    def __init__(self, name: str) -> None:
        raise UsageError(f"{name} will not do")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (LDAPBind, lambda: LDAPBind(WRONG)),
        (LDAPLogin, lambda: LDAPLogin(WRONG)),
        (Impatient, lambda: Impatient("this")),
        (SecurityContext, lambda: make_context(maximum_message=0)),
        (SecurityLayer, lambda: SecurityLayer(WRONG)),
        (SASLStream, lambda: SASLStream(WRONG, WRONG)),
        (SASLSocket, lambda: SASLSocket(WRONG, WRONG)),
        (SecBuffer, lambda: SecBuffer(1, WRONG)),
        (SecBuffer, lambda: SecBuffer(99)),
    ],
)
def test_a_traceback_shows_what_was_refused(kind: type, make: Callable[[], object]) -> None:
    with pytest.raises((UsageError, SSPIError, TypeError)) as caught:
        make()
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert f"self = <{kind.__name__} half made>\n" in "".join(shown.format())


@pytest.mark.parametrize("kind", [DigestMD5Client, LDAPBind, SecurityContext, SecBuffer])
def test_what_has_no_argument_yet_can_be_shown(kind: Any) -> None:
    assert repr(kind.__new__(kind)) == f"<{kind.__name__} half made>"


def test_what_is_made_says_what_it_is() -> None:
    assert repr(LDAPBind(ToyMechanism())) == "<LDAPBind under way>"
    assert Exchange.__repr__.__name__ == "__repr__"
