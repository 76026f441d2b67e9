"""What becomes of a `StreamWriter` under a layer: the new one, and the old one.

The old one has the transport below still. Whoever held on to it would write in clear, so it refuses
whatever sends; it keeps what ends the connection, or tells of it. No attribute that is private to
asyncio is touched. The transport itself cannot be guarded so: uvloop's let nothing be put in their
methods' place.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn

from saslwrap.errors import UsageError

__all__ = ["SASLStreamWriter", "retire"]

_SENDING: Final = "write", "writelines", "write_eof", "start_tls"


class SASLStreamWriter(asyncio.StreamWriter):
    """asyncio's own, which does not take TLS into a layer."""

    async def start_tls(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: TLS begins before the login.

        :raises UsageError: always
        """
        raise UsageError("the stream has a security layer; TLS begins before the login, or never")


def retire(writer: asyncio.StreamWriter, above: asyncio.Transport) -> None:
    """Let a writer send nothing any more. When it closes, what waits in `above` still goes out."""
    for name in _SENDING:
        setattr(writer, name, _refuse)
    writer.close = above.close  # type: ignore[method-assign]


def _refuse(*_: object, **__: object) -> NoReturn:
    raise UsageError(
        "this writer is below a security layer, and would send in clear; go on with the pair that "
        "was returned"
    )
