r"""What SEARCH looks for (RFC 3501 section 6.4.4).

Strings are found wherever they stand, without regard to case. Fields of the header are compared as
text, encoded words (RFC 2047) read; bodies as the octets that they are. Nothing is ever \Recent.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, TypeAlias

from saslwrap.testing.imap_commands import Command, CommandError
from saslwrap.testing.imap_fetch import field_of, header_of
from saslwrap.testing.imap_mailboxes import SYSTEM_FLAGS, Message
from saslwrap.testing.imap_view import Numbered, View

__all__ = ["Key", "take_search"]

#: Says whether a message is one that is looked for.
Key: TypeAlias = Callable[[Numbered], bool]

#: How deep keys may lie inside each other.
_DEPTH: Final = 50

_SET_START: Final = b"0123456789*"


def take_search(command: Command, view: View) -> Key:
    """Take what a SEARCH asks for, up to the end of the command."""
    if command.skip_word("CHARSET"):
        command.space()
        if command.string().upper() not in (b"US-ASCII", b"UTF-8"):
            raise CommandError("NO [BADCHARSET (US-ASCII UTF-8)]", "this charset is unknown")
        command.space()
    return _Taker(command, view).conjunction()


class _Taker:
    """Takes keys, one inside the other."""

    def __init__(self, command: Command, view: View) -> None:
        self._command: Final = command
        self._view: Final = view
        self._depth = 0

    def conjunction(self) -> Key:
        keys = [self._key()]
        while self._command.skip(b" "):
            keys.append(self._key())
        return lambda found: all(key(found) for key in keys)

    def _key(self) -> Key:
        self._depth += 1
        if self._depth > _DEPTH:
            raise CommandError("BAD", f"the keys of this search are nested over {_DEPTH} deep")
        key = self._one_key()
        self._depth -= 1
        return key

    def _one_key(self) -> Key:
        command = self._command
        if command.skip(b"("):
            key = self.conjunction()
            command.expect(b")", "a closing parenthesis")
            return key
        if any(command.at(b"%c" % octet) for octet in _SET_START):
            return self._set(by_uid=False)
        return self._named(command.word())

    def _named(self, name: str) -> Key:
        if (plain := _PLAIN.get(name)) is not None:
            return plain
        self._command.space()
        match name:
            case "NOT":
                key = self._key()
                return lambda found: not key(found)
            case "OR":
                first = self._key()
                self._command.space()
                second = self._key()
                return lambda found: first(found) or second(found)
            case "UID":
                return self._set(by_uid=True)
            case _ if name in _WITH_ARGUMENT:
                return _WITH_ARGUMENT[name](self._command)
            case _:
                raise CommandError("BAD", f"{name} cannot be searched for here")

    def _set(self, *, by_uid: bool) -> Key:
        found = self._view.select(self._command.sequence_set(), by_uid=by_uid)
        uids = {message.uid for message in found}
        return lambda found: found.uid in uids


def _has(flag: str, *, there: bool = True) -> Key:
    folded = flag.casefold()

    def key(found: Numbered) -> bool:
        return any(flag.casefold() == folded for flag in found.message.flags) is there

    return key


def _take_keyword(there: bool, command: Command) -> Key:
    return _has(command.flag(), there=there)


def _take_field(name: bytes, command: Command) -> Key:
    wanted = _text(command.string())
    return lambda found: (value := _field(found.message, name)) is not None and wanted in value


def _take_header(command: Command) -> Key:
    name = command.string()
    command.space()
    return _take_field(name, command)


def _take_octets(start: Callable[[bytes], int], command: Command) -> Key:
    wanted = command.string().lower()

    def key(found: Numbered) -> bool:
        content = found.message.content
        return content.lower().find(wanted, start(content)) >= 0

    return key


def _take_size(compare: Callable[[int, int], bool], command: Command) -> Key:
    size = command.number()
    return lambda found: compare(len(found.message.content), size)


def _take_day(
    day_of: Callable[[Message], date | None], compare: Callable[[Any, Any], bool], command: Command
) -> Key:
    wanted = command.date()
    return lambda found: (day := day_of(found.message)) is not None and compare(day, wanted)


def _received(message: Message) -> date:
    return message.received.date()


def _sent(message: Message) -> date | None:
    value = field_of(header_of(message.content), b"Date") or b""
    try:
        return parsedate_to_datetime(value.decode("ascii", "replace")).date()
    except ValueError:
        return None


def _field(message: Message, name: bytes) -> str | None:
    value = field_of(header_of(message.content), name)
    if value is None:
        return None
    text = value.decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(text))).casefold()
    except (HeaderParseError, LookupError, ValueError):  # no such charset, or no such encoding
        return text.casefold()


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").casefold()


_PLAIN: Final[Mapping[str, Key]] = {
    "ALL": lambda found: True,
    "NEW": lambda found: False,
    "RECENT": lambda found: False,
    "OLD": lambda found: True,
    **{flag[1:].upper(): _has(flag) for flag in SYSTEM_FLAGS},
    **{f"UN{flag[1:].upper()}": _has(flag, there=False) for flag in SYSTEM_FLAGS},
}

_FIELDS: Final = ("BCC", "CC", "FROM", "SUBJECT", "TO")

_COMPARISONS: Final = {"BEFORE": operator.lt, "ON": operator.eq, "SINCE": operator.ge}

_WITH_ARGUMENT: Final[Mapping[str, Callable[[Command], Key]]] = {
    **{
        name: partial(_take_field, name.encode()) for name in ("BCC", "CC", "FROM", "SUBJECT", "TO")
    },
    "HEADER": _take_header,
    "BODY": partial(_take_octets, lambda content: len(header_of(content))),
    "TEXT": partial(_take_octets, lambda content: 0),
    "KEYWORD": partial(_take_keyword, True),
    "UNKEYWORD": partial(_take_keyword, False),
    "LARGER": partial(_take_size, operator.gt),
    "SMALLER": partial(_take_size, operator.lt),
    **{name: partial(_take_day, _received, compare) for name, compare in _COMPARISONS.items()},
    **{f"SENT{name}": partial(_take_day, _sent, compare) for name, compare in _COMPARISONS.items()},
}
