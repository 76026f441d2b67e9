"""What exchanges say about a server's refusal, whatever the protocol."""

from __future__ import annotations

from typing import Final

__all__ = ["STRONGER", "STRONGER_OVER_TLS"]

STRONGER: Final = "raise min_ssf, set require_layer=True, or use TLS"
STRONGER_OVER_TLS: Final = (
    "it does not count this TLS: connect without it, for a layer; where a server takes both, "
    "require_layer=True gives both"
)
