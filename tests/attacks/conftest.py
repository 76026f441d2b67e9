from __future__ import annotations

from tests.attacks.support import primitives

__all__ = ["primitives"]
