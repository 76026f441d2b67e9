"""What `IMAPServer` serves: mailboxes in memory, their names, and word of what changes in them.

A `Message` never changes: other flags are another message under the same UID. So whoever holds one,
as a FETCH that is under way, holds what it was.

Names are kept as they go over the wire: modified UTF-7 (RFC 3501 section 5.1.3), INBOX in capitals.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate, count
from types import MappingProxyType
from typing import Final

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.names import check_encodable
from saslwrap.testing.imap_commands import CommandError

__all__ = [
    "DELIMITER",
    "SYSTEM_FLAGS",
    "Mailbox",
    "Mailboxes",
    "Message",
    "as_message",
    "encode_name",
    "is_flag",
]

#: Between the levels of a name.
DELIMITER: Final = "/"

SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")

_BEYOND_ASCII: Final = re.compile(r"[^ -~]+")
#: The longest name and pattern, in octets, and the most mailboxes: what one command may ask for.
NAME_LIMIT: Final = 255
COUNT_LIMIT: Final = 1000

_NAME: Final = re.compile(r"[ -$&-)+-~]+")
_KEYWORD: Final = re.compile(r"[!#$&'+-\[^-z|}~]+")
_SYSTEM: Final = frozenset(flag.casefold() for flag in SYSTEM_FLAGS)
_WILDCARDS: Final = "*%"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Message:
    r"""A message, as it lies in a mailbox.

    :param content: header and body, with CRLF at the ends of lines
    :param flags: such as `{"\\Seen"}`, or keywords
    :param received: when it came, with a time zone
    """

    content: bytes = field(repr=False)
    flags: Collection[str] = frozenset()
    received: datetime = field(default_factory=_now)


class Mailbox:
    """Messages by UID, the eldest first.

    :param uid_validity: another one for each mailbox that ever had the name
    :ivar uid_next: the UID of the next message
    """

    def __init__(self, uid_validity: int) -> None:
        self.uid_validity: Final = uid_validity
        self.uid_next: int = 1
        self._messages: Final[dict[int, Message]] = {}
        self._flags: Final = {flag.casefold(): flag for flag in SYSTEM_FLAGS}
        self._watchers: Final[list[Callable[[], object]]] = []

    @property
    def messages(self) -> Mapping[int, Message]:
        """What is there now."""
        return MappingProxyType(self._messages)

    @property
    def flags(self) -> tuple[str, ...]:
        """The system's, and every keyword that was ever used here."""
        return tuple(self._flags.values())

    def add(self, message: Message) -> int:
        """Put a message in; give its UID."""
        uid, self.uid_next = self.uid_next, self.uid_next + 1
        self._messages[uid] = replace(message, flags=self.spell(message.flags))
        self._tell()
        return uid

    def remove(self, uids: Iterable[int]) -> None:
        """Take messages out; those that are gone already do not matter."""
        for uid in uids:
            self._messages.pop(uid, None)
        self._tell()

    def set_flags(self, uid: int, flags: Iterable[str]) -> None:
        """Give a message that is there these flags, in place of those that it has."""
        self._messages[uid] = replace(self._messages[uid], flags=self.spell(flags))
        self._tell()

    @contextmanager
    def watched(self, tell: Callable[[], object]) -> Iterator[None]:
        """Call `tell` after each change, while the block runs."""
        self._watchers.append(tell)
        try:
            yield
        finally:
            self._watchers.remove(tell)

    def spell(self, flags: Iterable[str]) -> frozenset[str]:
        """Write flags as they were first written here: case does not count."""
        return frozenset(self._flags.setdefault(flag.casefold(), flag) for flag in flags)

    def _tell(self) -> None:
        for tell in self._watchers:
            tell()


class Mailboxes:
    """Mailboxes by name. There is always an INBOX, and above a mailbox each level of its name.

    :param contents: messages by name; octets are a message without flags that came just now
    :raises UsageError: something that is no message, or no name
    """

    def __init__(self, contents: Mapping[str, Iterable[bytes | Message]]) -> None:
        self._boxes: Final[dict[str, Mailbox]] = {}
        self._validities: Final = count(1)
        self._make("INBOX")
        require_kind("mailboxes", contents, Mapping, "lists of messages by name")
        for name, messages in contents.items():
            wire_name = encode_name(name)
            if isinstance(messages, bytes | str) or not isinstance(messages, Iterable):
                raise UsageError(f"mailbox {name!r} takes a list of messages: [b'Subject: ...']")
            try:
                box = self._make(_canonical(wire_name))
            except CommandError as error:
                raise UsageError(f"{name!r} is no name of a mailbox: {error}") from None
            for message in messages:
                box.add(as_message(message))

    def __getitem__(self, name: str) -> Mailbox:
        """Find one; a `CommandError` if there is none."""
        if (box := self._boxes.get(_canonical(name))) is None:
            raise CommandError("NO [NONEXISTENT]", "there is no such mailbox")
        return box

    def target(self, name: str) -> Mailbox:
        """Find one to put messages into; the client may make it if there is none."""
        try:
            return self[name]
        except CommandError as error:
            raise CommandError("NO [TRYCREATE]", str(error)) from None

    def create(self, name: str) -> None:
        """Make one, empty; a `CommandError` if that cannot be."""
        name = _canonical(name.removesuffix(DELIMITER))
        if name in self._boxes:
            raise CommandError("NO [ALREADYEXISTS]", "there is such a mailbox")
        self._make(name)

    def delete(self, name: str) -> None:
        """Take one away, with what is in it; a `CommandError` if that cannot be."""
        box, name = self[name], _canonical(name)
        if name == "INBOX" or any(other.startswith(name + DELIMITER) for other in self._boxes):
            raise CommandError("NO [CANNOT]", "INBOX, and what has others below it, stays")
        del self._boxes[name]
        box.remove(list(box.messages))

    def matching(self, pattern: str) -> list[str]:
        """Name those that a pattern fits: `*` is anything, `%` anything on one level."""
        if len(pattern) > NAME_LIMIT:
            return []
        return [name for name in self._boxes if _fits(_canonical(pattern), name)]

    def _make(self, name: str) -> Mailbox:
        if not (_NAME.fullmatch(name) and all(name.split(DELIMITER))):
            raise CommandError("NO [CANNOT]", "a name is ASCII without * and %, no level is empty")
        if len(name) > NAME_LIMIT or len(self._boxes) >= COUNT_LIMIT:
            limits = f"{COUNT_LIMIT} mailboxes with names of {NAME_LIMIT} octets"
            raise CommandError("NO [LIMIT]", f"there are {limits} at most")
        for level in accumulate(name.split(DELIMITER), f"{{}}{DELIMITER}{{}}".format):
            if level not in self._boxes:
                self._boxes[level] = Mailbox(next(self._validities))
        return self._boxes[name]


def encode_name(name: str) -> str:
    """Write a name in modified UTF-7: `Entwürfe` is `Entw&APw-rfe`.

    :raises UsageError: it is no text that can be written
    """
    check_encodable("a mailbox's name", name)
    return _BEYOND_ASCII.sub(
        lambda match: f"&{_modified_base64(match[0])}-", name.replace("&", "&-")
    )


def _modified_base64(text: str) -> str:
    return b64encode(text.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")


def is_flag(name: str) -> bool:
    """Say whether it is a flag of the system, or may be a keyword (an atom)."""
    return name.casefold() in _SYSTEM or _KEYWORD.fullmatch(name) is not None


def as_message(message: bytes | Message) -> Message:
    """Take a message as a caller writes it down.

    :raises UsageError: it is none
    """
    if isinstance(message, bytes):
        return Message(message)
    if not (isinstance(message, Message) and isinstance(message.content, bytes)):
        raise UsageError("a message is octets, or a Message with octets: Message(b'Subject: ...')")
    if not _are_flags(message.flags):
        raise UsageError(f"flags={message.flags!r} is no set of flags, such as {{'\\\\Seen'}}")
    require_kind("received", message.received, datetime)
    if message.received.tzinfo is None:
        raise UsageError("the time at which a message came has no time zone: datetime.now(UTC)")
    return message


def _are_flags(flags: object) -> bool:
    if isinstance(flags, str) or not isinstance(flags, Collection):
        return False
    return all(isinstance(flag, str) and is_flag(flag) for flag in flags)


def _canonical(name: str) -> str:
    return "INBOX" if name.upper() == "INBOX" else name


def _fits(pattern: str, name: str) -> bool:
    """Match by all the places of the pattern that one can be at: no wildcard is tried anew."""
    places = _onward(pattern, {0})
    for char in name:
        here = {place for place in places if _takes(pattern, place, char)}
        stay = {place for place in here if pattern[place] in _WILDCARDS}
        places = _onward(pattern, stay | {place + 1 for place in here - stay})
    return len(pattern) in places


def _takes(pattern: str, place: int, char: str) -> bool:
    expected = pattern[place : place + 1]
    return expected in ("*", char) or (expected == "%" and char != DELIMITER)


def _onward(pattern: str, places: set[int]) -> set[int]:
    """Add the places behind wildcards, which may stand for nothing."""
    found, new = set(places), list(places)
    while new:
        place = new.pop()
        wild = place < len(pattern) and pattern[place] in _WILDCARDS
        if wild and place + 1 not in found:
            found.add(place + 1)
            new.append(place + 1)
    return found
