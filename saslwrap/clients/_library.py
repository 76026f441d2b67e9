"""What the clients share: which versions of a library are known."""

from __future__ import annotations

import re
from importlib import metadata

from saslwrap.errors import MechanismUnavailableError


def require(library: str, first: str, below: str) -> None:
    """See to it that a library is here, in a version whose hooks were tried.

    :param first: the first version that is known
    :param below: the first one that is not known any more
    :raises MechanismUnavailableError: it is missing, or of another version
    """
    remedy = f"pip install '{library}>={first},<{below}'"
    try:
        version = metadata.version(library)
    except metadata.PackageNotFoundError:
        raise MechanismUnavailableError(f"{library} is not installed: {remedy}") from None
    if not _numbers(first) <= _numbers(version) < _numbers(below):
        raise MechanismUnavailableError(
            f"{library} {version} is not known to keep a connection sealed; {first} and later, "
            f"before {below}, are: {remedy}"
        )


def _numbers(version: str) -> list[int]:
    """Take the numbers out of a version: `2.10rc1` counts as 2.10."""
    release = re.match(r"[\d.]*", version)
    return [int(number) for number in re.findall(r"\d+", release[0] if release else "")]
