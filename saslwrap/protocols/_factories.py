"""What the server's half of a login offers: mechanisms by name, each made anew for a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from saslwrap.errors import UsageError, require_kind, require_maker
from saslwrap.mechanism import ServerMechanism, require_name

__all__ = ["Factories", "factories_by_name"]

Factories: TypeAlias = Mapping[str, Callable[[], ServerMechanism]]


def factories_by_name(mechanisms: Factories) -> dict[str, Callable[[], ServerMechanism]]:
    """Give the same with names in upper case, refused now and not at the first client's login.

    :raises UsageError: no mapping, a name that SASL does not allow or that stands there twice, or
        what makes no mechanism, such as one that is made already, or a class that needs arguments
    """
    wanted = "a mapping of names to functions, {'DIGEST-MD5': make}"
    require_kind("mechanisms", mechanisms, Mapping, wanted)
    factories: dict[str, Callable[[], ServerMechanism]] = {}
    for name, make in mechanisms.items():
        require_name(name)
        example = "lambda: DigestMD5Server(...)"
        require_maker(f"mechanisms[{name!r}]", make, "a function that makes one", example)
        if name.upper() in factories:
            raise UsageError(f"mechanisms has {name.upper()} twice, in two spellings")
        factories[name.upper()] = make
    return factories
