"""Loads the vectors. `README.md` is the register of where each came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def load(name: str) -> Any:
    """Load one file of this folder."""
    return json.loads((FOLDER / name).read_text("utf-8"))


def names(pattern: str) -> list[str]:
    """Name the files of this folder that fit, for `load`."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.glob(pattern))
