"""What a measurement says, as text to read and as JSON to keep."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.backends.openssl import backend

__all__ = ["Report", "machine", "table"]


def machine() -> dict[str, Any]:
    """Say when and on what this runs."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
    }


@dataclass(frozen=True)
class Report:
    """What was measured.

    :param title: what, in a line
    :param text: for people
    :param data: for programs; what `json` takes
    """

    title: str
    text: str
    data: Any
    machine: dict[str, Any] = field(default_factory=machine)

    def __str__(self) -> str:
        return f"{self.title}\n{', '.join(map(str, self.machine.values()))}\n\n{self.text}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table; the first column reads from the left, the others from the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
