"""What the server's half of a login offers: mechanisms by name, each made anew for a client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanism import ServerMechanism

__all__ = ["factories_by_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 section 3.1


def factories_by_name(
    mechanisms: Mapping[str, Callable[[], ServerMechanism]],
) -> dict[str, Callable[[], ServerMechanism]]:
    """Give the same with names in upper case, refused now and not at the first client's login.

    :raises UsageError: no mapping, a name that SASL does not allow or that stands there twice, or
        what makes no mechanism, such as one that is made already
    """
    wanted = "a mapping of names to functions, {'DIGEST-MD5': make}"
    require_kind("mechanisms", mechanisms, Mapping, wanted)
    factories: dict[str, Callable[[], ServerMechanism]] = {}
    for name, make in mechanisms.items():
        require_kind("a mechanism's name", name, str)
        if not _NAME.fullmatch(name):
            raise UsageError(
                "a mechanism's name is 1 to 20 letters, digits, hyphens and underscores, not "
                f"{name!r}"
            )
        require_kind(f"mechanisms[{name!r}]", make, Callable, "a function that makes one")
        if name.upper() in factories:
            raise UsageError(f"mechanisms has {name.upper()} twice, in two spellings")
        factories[name.upper()] = make
    return factories
