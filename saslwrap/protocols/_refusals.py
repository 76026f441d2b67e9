"""How exchanges put a server's refusal, whatever the protocol."""

from __future__ import annotations

from saslwrap.errors import NegotiationError
from saslwrap.properties import ChannelInfo

__all__ = ["too_weak"]


def too_weak(name: str, outcome: str, channel: ChannelInfo | None) -> NegotiationError:
    """Make the error of a server that wants more protection than a mechanism was to give.

    :param outcome: what the server said
    :param channel: what the login travels in, where that is known
    """
    remedy = "raise min_ssf, set require_layer=True, or use TLS"
    if channel is not None and channel.external_ssf > 0:
        remedy = (
            "it does not count this TLS: connect without it, for a layer; where a server takes "
            "both, require_layer=True gives both"
        )
    return NegotiationError(
        f"the server wants more protection than {name} was to give: {outcome}; {remedy}"
    )
