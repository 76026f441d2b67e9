"""How the demo looks: what the application wrote beside what the wire carried, in colour.

rich draws it: it knows terminals, widths and NO_COLOR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from saslwrap.errors import MechanismUnavailableError
from saslwrap.properties import QOP

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Part", "Picture", "frame_parts"]

#: Octets and the style that they are drawn in.
Part: TypeAlias = tuple[bytes, str]

PLAIN = "green"
LENGTH = "bold yellow"
SEALED = "red"
MAC = "bright_red"
TYPE = "bold cyan"
SEQUENCE = "bold magenta"

MAX_ROWS = 18


def frame_parts(frame: bytes, qop: QOP | None) -> list[Part]:
    """Tell the parts of a DIGEST-MD5 frame apart; without a layer there are none."""
    if qop is None:
        return [(frame, PLAIN)]
    body, end = frame[4:-6], [(frame[-6:-4], TYPE), (frame[-4:], SEQUENCE)]
    if qop is QOP.AUTH_INT:
        return [(frame[:4], LENGTH), (body[:-10], PLAIN), (body[-10:], MAC), *end]
    return [(frame[:4], LENGTH), (body, SEALED), *end]


class Picture:
    """Draws on the terminal.

    :raises MechanismUnavailableError: rich is not installed
    """

    def __init__(self) -> None:
        self._console = _console()
        # hex, space and text of n octets are 4n + 1 wide; two of them and the frame have to fit
        self._width = 16 if self._console.width >= 140 else 8

    def title(self, text: str) -> None:
        """Start a section."""
        self._console.rule(_text(text, "bold"), align="left", style="dim")

    def line(self, text: str, style: str = "") -> None:
        """Write a line."""
        self._console.print(text, style=style or None, highlight=False, markup=False)

    def legend(self, qop: QOP | None) -> None:
        """Say what the colours mean."""
        marks = [("plaintext", PLAIN)]
        if qop is not None:
            marks += [("length", LENGTH), ("type", TYPE), ("sequence number", SEQUENCE)]
            sealed = (
                [("MAC", MAC)] if qop is QOP.AUTH_INT else [("sealed: message and MAC", SEALED)]
            )
            marks[2:2] = sealed
        self._console.print(_joined("  ", [_text(f"■ {name}", style) for name, style in marks]))

    def beside(self, title: str, plain: bytes, wire: Sequence[Part], *, writes: str) -> None:
        """Draw plaintext and wire side by side."""
        from rich.table import Table

        octets = sum(len(data) for data, _ in wire)
        table = Table(title=title, title_justify="left", title_style="bold", expand=False)
        width = 4 * self._width + 1
        table.add_column(f"{writes}: {len(plain)} octets", no_wrap=True, min_width=width)
        table.add_column(f"the wire carried: {octets} octets", no_wrap=True, min_width=width)
        table.add_row(self._dump([(plain, PLAIN)]), self._dump(wire))
        self._console.print(table)

    def _dump(self, parts: Sequence[Part]) -> Text:
        octets = [(octet, style) for data, style in parts for octet in data]
        width, hidden = self._width, len(octets) - MAX_ROWS * self._width
        head = octets if hidden <= 0 else octets[: (MAX_ROWS - 2) * width]
        rows = [self._row(head[at : at + width]) for at in range(0, len(head), width)]
        if hidden > 0:  # the last octets are the ones to see: type and sequence number
            rows.append(_text(f"... {len(octets) - len(head) - width} more octets ...", "dim"))
            rows.append(self._row(octets[-width:]))
        return _joined("\n", rows)

    def _row(self, row: Sequence[tuple[int, str]]) -> Text:
        digits = _joined(" ", [_text(f"{octet:02x}", style) for octet, style in row])
        digits.append(" " * (3 * (self._width - len(row)) + 2))
        for octet, style in row:
            digits.append(chr(octet) if 0x20 <= octet < 0x7F else "·", style)
        return digits


def _console() -> Console:
    try:
        from rich.console import Console
    except ImportError:
        pass
    else:
        console = Console()
        console.on_broken_pipe = _raise_broken_pipe  # type: ignore[method-assign] # not SystemExit
        return console
    raise MechanismUnavailableError("the demo draws with rich: pip install 'saslwrap[cli]'")


def _raise_broken_pipe() -> None:
    raise BrokenPipeError


def _text(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style)


def _joined(separator: str, texts: Sequence[Text]) -> Text:
    from rich.text import Text

    return Text(separator).join(texts)
