"""The mutants that survive for a reason: `survivors.md`."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["accepted"]

LIST = Path(__file__).with_name("survivors.md")


def accepted() -> dict[str, str]:
    """Read the list: the reason for each mutant, by its name."""
    return dict(re.findall(r"^- `(.+)`\n  (\S.*)$", LIST.read_text("utf-8"), re.MULTILINE))
