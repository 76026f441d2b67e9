"""What the clients of LDAP share: the login that they make, of what makes mechanisms for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from saslwrap.errors import UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_login import LDAPLogin

Mechanisms: TypeAlias = ClientMechanism | Sequence[ClientMechanism]
"""One mechanism, or several, of which the best is taken that the server has."""


def check_maker(make_mechanism: Callable[[], Mechanisms]) -> None:
    """See to it that there is a new mechanism for each login.

    :raises UsageError: it is one, and none that can be called
    """
    if not callable(make_mechanism):
        raise UsageError("make_mechanism takes what makes one, for each login: lambda: ...")


def make_login(mechanisms: Mechanisms, message_id: int) -> LDAPBind:
    """Make the login of one mechanism, or of the best of several."""
    if isinstance(mechanisms, ClientMechanism):
        return LDAPBind(mechanisms, message_id)
    return LDAPLogin(mechanisms, message_id)
