"""What the clients of LDAP share: the login that they make, of what makes mechanisms for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from saslwrap.errors import UsageError
from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_login import LDAPLogin, check_candidates

Mechanisms: TypeAlias = ClientMechanism | Sequence[ClientMechanism]
"""One mechanism, or several, of which the best is taken that the server has."""

_TO_MAKE: Final = "make_mechanism has to make one mechanism or more: lambda: GSSAPIClient(...)"


def check_maker(make_mechanism: Callable[[], Mechanisms]) -> None:
    """See to it that there is a new mechanism for each login.

    :raises UsageError: it is one, and none that can be called
    """
    if not callable(make_mechanism):
        raise UsageError("make_mechanism takes what makes one, for each login: lambda: ...")


def make_login(mechanisms: Mechanisms, message_id: int, remedy: str = _TO_MAKE) -> LDAPBind:
    """Make the login of one mechanism, or of the best of several.

    :param remedy: what the error says where they are none
    :raises UsageError: they are none
    """
    if isinstance(mechanisms, ClientMechanism):
        return LDAPBind(mechanisms, message_id)
    return LDAPLogin(check_candidates(mechanisms, remedy), message_id)
