"""Contracts, as checks that run: of byte streams, contexts, mechanisms and exchanges.

Each check tries rule after rule, on pairs that the caller makes. A rule that does not hold raises
`AssertionError` with its words, and with what happened instead.
"""

from saslwrap.testing.checks.byte_stream import check_byte_stream
from saslwrap.testing.checks.context import check_security_context
from saslwrap.testing.checks.exchange import check_exchange
from saslwrap.testing.checks.mechanism import check_mechanism_pair

__all__ = [
    "check_byte_stream",
    "check_exchange",
    "check_mechanism_pair",
    "check_security_context",
]
