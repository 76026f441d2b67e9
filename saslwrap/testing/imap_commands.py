"""An IMAP command as it is read, argument by argument (RFC 3501 section 9).

A command is one line, or several with a literal between each two. Each method of `Command` takes
one thing from where the last one ended, and refuses what does not belong there. Literals lie beside
the text, so that a message is never copied with it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Final, NamedTuple, TypeAlias, TypeVar

from saslwrap.context import Buffer

__all__ = ["Answer", "Command", "CommandError", "LiteralSize", "SequenceSet"]

T = TypeVar("T")

#: Pairs of first and last, None for `*`; both ends count, in either order.
SequenceSet: TypeAlias = Sequence[tuple[int | None, int | None]]

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"

_HEAD: Final = re.compile(rb"([!#$&',-\[\]-z|}~]+) ([A-Za-z0-9]+)")
_LITERAL: Final = re.compile(rb"\{([0-9]+)(\+?)\}\r\n")
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*+)"')
_ATOM: Final = re.compile(rb"[!#$&'+-\[^-z|}~]+")
_STRING_ATOM: Final = re.compile(rb"[!#$&'+-\[\]-z|}~]+")
_PATTERN_ATOM: Final = re.compile(rb"[!#-'*+-\[\]-z|}~]+")
_FLAG: Final = re.compile(rb"\\?[!#$&'+-\[^-z|}~]+")
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_RANGE: Final = re.compile(rb"([1-9][0-9]{0,9}|\*)(?::([1-9][0-9]{0,9}|\*))?(,?)")
_DATE: Final = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9:]{8} [+-][0-9]{4})"'
)


class CommandError(Exception):
    """A command that is refused.

    :param status: `BAD`, for what is not understood, or `NO`, with a response code perhaps
    """

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class Answer(NamedTuple):
    """What comes before the tagged OK, and the response code in it."""

    untagged: Iterable[Buffer] = ()
    code: str = ""


class LiteralSize(NamedTuple):
    """A literal that follows; a synchronising one waits for our word (RFC 7888)."""

    size: int
    synchronising: bool


class Command:
    """One command, and how far it has been read.

    :param line: the first one, with its end
    :ivar tag: what the answer has to begin with
    :ivar name: in capitals
    :raises CommandError: it does not begin with a tag and a name
    """

    def __init__(self, line: bytes) -> None:
        _check(line)
        if not (head := _HEAD.match(line)):
            raise CommandError("BAD", "this is no command")
        self.tag: Final = head[1].decode()
        self.name: str = head[2].decode().upper()
        self._text = line
        self._at = head.end()
        self._literals: Final[deque[bytes]] = deque()

    @property
    def text(self) -> bytes:
        """All lines."""
        return self._text

    @property
    def announced(self) -> LiteralSize | None:
        """What the last line announces; None if the command is complete."""
        found = _LITERAL.fullmatch(self._text, max(0, self._text.rfind(b"{")))
        return found and LiteralSize(_size(found[1]), not found[2])

    def go_on(self, literal: bytes, line: bytes) -> None:
        """Take the literal that was announced, and the line behind it."""
        self._literals.append(literal)
        _check(line)
        self._text += line

    def space(self) -> None:
        """Take the one space between two arguments."""
        self.expect(b" ", "a space")

    def end(self) -> None:
        """Take the end of the command."""
        self.expect(b"\r\n", "the end of the command")

    def at(self, octet: bytes) -> bool:
        """Say whether that is next."""
        return self._text.startswith(octet, self._at)

    def skip(self, octets: bytes) -> bool:
        """Take that if it is next, and say whether it was."""
        if found := self.at(octets):
            self._at += len(octets)
        return found

    def skip_word(self, word: str) -> bool:
        """Take that word if it is next, in capitals or not, and say whether it was."""
        octets = self._text[self._at : self._at + len(word)]
        return octets.upper() == word.encode() and self.skip(octets)

    def expect(self, octets: bytes, what: str) -> None:
        """Take exactly that.

        :param what: was expected
        :raises CommandError: it is not next
        """
        if not self.skip(octets):
            raise self._expected(what)

    def word(self) -> str:
        """Take an atom; give it in capitals."""
        return self.take(_ATOM, "an atom")[0].decode().upper()

    def take(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        """Take what a pattern fits.

        :param what: was expected
        :raises CommandError: it does not fit
        """
        if not (found := pattern.match(self._text, self._at)):
            raise self._expected(what)
        self._at = found.end()
        return found

    def string(self) -> bytes:
        """Take an atom, a quoted string or a literal (`astring`)."""
        return self._string(_STRING_ATOM)

    def mailbox(self) -> str:
        """Take a mailbox's name, as it goes over the wire."""
        return _ascii(self.string())

    def pattern(self) -> str:
        """Take a name with wildcards (`list-mailbox`)."""
        return _ascii(self._string(_PATTERN_ATOM))

    def literal(self) -> bytes:
        """Take a literal, and no other string."""
        self.take(_LITERAL, "a literal")
        return self._literals.popleft()

    def number(self) -> int:
        """Take a number."""
        return int(self.take(_NUMBER, "a number")[0])

    def flag(self) -> str:
        r"""Take a flag, such as `\Seen`, or a keyword."""
        return self.take(_FLAG, "a flag")[0].decode()

    def date(self) -> date:
        """Take a day."""
        _, *parts = self.take(_DATE, "a date, as 1-Feb-2024").groups()
        return _moment(*parts).date()

    def date_time(self) -> datetime:
        """Take a moment."""
        parts = self.take(_DATE_TIME, 'a moment, as " 1-Feb-2024 12:00:00 +0000"').groups()
        return _moment(*parts)

    def sequence_set(self) -> SequenceSet:
        """Take numbers and ranges of numbers."""
        ranges, more = [], True
        while more:
            first, last, comma = self.take(_RANGE, "numbers, as 1:4,7,9:*").groups()
            ranges.append((_bound(first), _bound(last or first)))
            more = bool(comma)
        return ranges

    def parenthesised(self, take: Callable[[], T]) -> list[T]:
        """Take a list in parentheses, each element with `take`."""
        self.expect(b"(", "a list in parentheses")
        found: list[T] = []
        while not self.skip(b")"):
            if found:
                self.space()
            found.append(take())
        return found

    def one_or_more(self, take: Callable[[], T]) -> list[T]:
        """Take one element, or a list of them in parentheses."""
        return self.parenthesised(take) if self.at(b"(") else [take()]

    def _string(self, atom: re.Pattern[bytes]) -> bytes:
        if self.at(b"{"):
            return self.literal()
        if self.at(b'"'):
            return re.sub(rb"\\(.)", rb"\1", self.take(_QUOTED, "a quoted string")[1])
        return self.take(atom, "a string")[0]

    def _expected(self, what: str) -> CommandError:
        return CommandError("BAD", f"{self.name}: {what} was expected at octet {self._at}")


def _check(line: bytes) -> None:
    if not line.endswith(b"\r\n") or b"\0" in line or b"\r" in line[:-2]:
        raise CommandError("BAD", "a line ends in CRLF, and has no CR or NUL before")


def _size(digits: bytes) -> int:
    return int(digits) if len(digits) < 20 else 10**20  # `int` takes long over long ones


def _ascii(name: bytes) -> str:
    if not name.isascii():
        raise CommandError("BAD", "names beyond ASCII are written in modified UTF-7")
    return name.decode()


def _bound(number: bytes) -> int | None:
    return None if number == b"*" else int(number)


def _moment(day: bytes, month: bytes, year: bytes, time: bytes = b"00:00:00 +0000") -> datetime:
    number = _MONTHS.find(month.decode().lower()) // 4 + 1  # `%b` would go by the locale
    text = f"{int(day)} {number} {year.decode()} {time.decode()}"
    try:
        return datetime.strptime(text, "%d %m %Y %H:%M:%S %z")
    except ValueError:
        raise CommandError("BAD", "there is no such date") from None
