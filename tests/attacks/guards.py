"""The guards of the package, what takes each out, and the attack that then succeeds.

A row is an attack test, by its id, and a guard: a file, a snippet of its source (it must stand
there exactly once), and what to put in its place. `test_guards.py` makes each replacement in a copy
of the package, and sees the test fail there. A test's docstring names its guards in the same words.

The rows stand by group, in `guards_*.py`.
"""

from __future__ import annotations

from tests.attacks import (
    guards_framing,
    guards_gss,
    guards_messages,
    guards_offer,
    guards_proof,
    guards_state,
    guards_stream,
    guards_tokens,
    guards_transition,
)
from tests.attacks.guard import Guard

__all__ = ["GUARDS"]

GUARDS: list[tuple[str, Guard]] = [
    *guards_framing.GUARDS,
    *guards_tokens.GUARDS,
    *guards_offer.GUARDS,
    *guards_messages.GUARDS,
    *guards_proof.GUARDS,
    *guards_state.GUARDS,
    *guards_stream.GUARDS,
    *guards_transition.GUARDS,
    *guards_gss.GUARDS,
]
