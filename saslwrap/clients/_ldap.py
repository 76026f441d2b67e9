"""What the clients of LDAP share: the login that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from saslwrap.mechanism import ClientMechanism
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_login import LDAPLogin

Mechanisms: TypeAlias = ClientMechanism | Sequence[ClientMechanism]
"""One mechanism, or several, of which the best is taken that the server has."""


def make_login(mechanisms: Mechanisms, message_id: int) -> LDAPBind:
    """Make the login of one mechanism, or of the best of several."""
    if isinstance(mechanisms, ClientMechanism):
        return LDAPBind(mechanisms, message_id)
    return LDAPLogin(mechanisms, message_id)
