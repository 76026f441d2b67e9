"""All targets, by name."""

from __future__ import annotations

from typing import Final

from tests.fuzz import (
    frames,
    gss,
    imap,
    kerberos,
    ldap,
    ldap_messages,
    messages,
    pop3,
    sieve,
    smtp,
    sspi,
    steps,
    tokens,
)
from tests.fuzz.target import Target

_GROUPS: Final = (
    *(frames, tokens, messages, steps),
    *(ldap_messages, ldap, imap, pop3, smtp, sieve),
    *(gss, kerberos, sspi),
)

TARGETS: Final[dict[str, Target]] = {
    target.name: target for group in _GROUPS for target in group.TARGETS
}
