"""ManageSieve's lines (RFC 5804 section 1.2): words and strings, which may be literals.

A line goes on behind a literal: `OK (SASL {4}`, CRLF, `abcd) "done"`, CRLF is one. What a literal
announces is held against the limit of a line before an octet of it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, TypeAlias

from saslwrap.errors import MalformedMessageError, ProtocolError
from saslwrap.exchange import Event
from saslwrap.mechanism import Mechanism
from saslwrap.protocols._lines import Lines

__all__ = ["QUOTED_LIMIT", "Strings", "Word", "literal", "quoted", "string"]

#: A word of the protocol's or a parenthesis; what a string says, as octets.
Word: TypeAlias = str | bytes

#: The longest quoted string, in octets (RFC 5804 section 4).
QUOTED_LIMIT: Final = 1024

_QUOTABLE: Final = re.compile(rb"[^\\\"\r\n\0]{,%d}" % QUOTED_LIMIT)
_LITERAL: Final = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n\Z")
_WORD: Final = re.compile(
    rb'"(?P<quoted>(?:[^"\\\r\n\0]|\\["\\])*)"'
    rb"|\{(?P<literal>[0-9]{1,10})\+?\}\r\n"
    rb"|(?P<word>[()]|[^\s\"\\(){}\0-\x20\x7f-\xff]+)"
)


def quoted(text: str) -> str:
    """Write a short text of one line as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def string(value: bytes, plus: bytes = b"") -> bytes:
    """Write octets as a string: quoted where that is possible."""
    return b'"%b"' % value if _QUOTABLE.fullmatch(value) else literal(value, plus)


def literal(value: bytes, plus: bytes = b"") -> bytes:
    """Write octets as a literal; a client's has a `+` behind the length."""
    return b"{%d%b}\r\n%b" % (len(value), plus, value)


class Strings(Lines):
    """Messages are lines of words and strings."""

    def __init__(self, mechanism: Mechanism | None) -> None:
        super().__init__(mechanism)
        self._text = 0  # where the text behind the last literal begins

    def _measure(self, buffer: bytearray) -> int | None:
        while (end := super()._measure(buffer)) is not None:
            head = _LITERAL.search(buffer, max(self._text, end - 16), end)
            if head is None:
                return end
            self._text = self._searched = end + int(head[1])
            if self._text + 2 > self.LINE_LIMIT:
                raise ProtocolError(
                    f"the {self._peer} announced a literal of {int(head[1])} octets; a line of "
                    f"the login may have {self.LINE_LIMIT}"
                )
        return None

    def _words(self) -> Generator[Event, None, list[Word]]:
        """Get the peer's next line, taken apart."""
        line = yield from self._message()
        self._searched = self._text = 0
        words = _take_apart(line)
        if words is None:
            text = f"the {self._peer} sent a line that cannot be taken apart"
            raise (yield from self._told(MalformedMessageError(text)))
        return words


def _take_apart(line: bytes) -> list[Word] | None:
    if not line.endswith(b"\r\n"):
        return None
    words: list[Word] = []
    at, end = 0, len(line) - 2
    while at != end:
        if (match := _WORD.match(line, at)) is None:
            return None
        word, at = _take(line, match)
        words.append(word)
        if line.startswith(b" ", at):
            at += 1
    return words


def _take(line: bytes, match: re.Match[bytes]) -> tuple[Word, int]:
    at = match.end()
    if match["literal"] is not None:
        end = at + int(match["literal"])
        return line[at:end], end
    if match["quoted"] is not None:
        return re.sub(rb"\\(.)", rb"\1", match["quoted"]), at
    return match["word"].decode(), at
