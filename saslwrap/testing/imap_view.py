"""A mailbox as one client knows it: sequence numbers count what that client has been told of.

What other clients change becomes known when the protocol allows it; `news` is the difference
between what is and what was told (RFC 3501 sections 5.2 and 7.4.1).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from saslwrap.testing.imap_commands import CommandError, SequenceSet
from saslwrap.testing.imap_mailboxes import Mailbox, Message

__all__ = ["Numbered", "View", "format_flags"]


class Numbered(NamedTuple):
    """A message of a view: its sequence number, its UID, and what it is now."""

    number: int
    uid: int
    message: Message


class View:
    """One client's view of a mailbox that it has selected.

    :param read_only: the client only examines it
    """

    def __init__(self, mailbox: Mailbox, *, read_only: bool) -> None:
        self.mailbox: Final = mailbox
        self.read_only: Final = read_only
        self._told: Final = {uid: message.flags for uid, message in mailbox.messages.items()}

    def require_writable(self) -> None:
        """Refuse a command that would change something, where nothing may be changed."""
        if self.read_only:
            raise CommandError("NO", "the mailbox was opened to be read")

    def all(self) -> list[Numbered]:
        """Give all messages that the client was told of, and that are still there."""
        return [Numbered(n, uid, self.mailbox.messages[uid]) for n, uid in self._present()]

    def select(self, wanted: SequenceSet, *, by_uid: bool) -> list[Numbered]:
        """Give the messages of a set that are still there.

        :raises CommandError: a sequence number that there is not; a UID does not matter
        """
        uids = list(self._told)
        numbers: Sequence[int] = uids if by_uid else range(1, len(uids) + 1)
        highest = numbers[-1] if numbers else 0
        ranges = _resolve(wanted, highest)
        if not by_uid and any(last > highest for _, last in ranges):
            raise CommandError("BAD", f"there are {highest} messages")
        present, places = self.mailbox.messages, _places(numbers, ranges)
        return [Numbered(p + 1, uids[p], present[uids[p]]) for p in places if uids[p] in present]

    def set_flags(self, uid: int, flags: Iterable[str]) -> None:
        """Change a message, for the client, who knows of it then."""
        self.mailbox.set_flags(uid, flags)
        self._told[uid] = self.mailbox.messages[uid].flags

    def news(self, *, expunged: bool = True) -> list[bytes]:
        """Tell what has changed since it was told last.

        :param expunged: also what is gone, which renumbers the rest: not while the client waits for
            an answer that goes by numbers
        """
        gone = list(self._expunge()) if expunged else []
        return [*gone, *self._changed_flags(), *self._arrived()]

    def _present(self) -> Iterator[tuple[int, int]]:
        return (pair for pair in enumerate(self._told, 1) if pair[1] in self.mailbox.messages)

    def _expunge(self) -> Iterator[bytes]:
        for number, uid in reversed(list(enumerate(self._told, 1))):
            if uid not in self.mailbox.messages:
                del self._told[uid]
                yield b"* %d EXPUNGE\r\n" % number

    def _changed_flags(self) -> Iterator[bytes]:
        for number, uid, message in self.all():
            if message.flags != self._told[uid]:
                self._told[uid] = message.flags
                flags = format_flags(message.flags)
                yield b"* %d FETCH (UID %d FLAGS %b)\r\n" % (number, uid, flags)

    def _arrived(self) -> Iterator[bytes]:
        before = len(self._told)
        for uid, message in self.mailbox.messages.items():
            self._told.setdefault(uid, message.flags)
        if len(self._told) > before:
            yield b"* %d EXISTS\r\n" % len(self._told)


def format_flags(flags: Iterable[str]) -> bytes:
    """Write flags as a list in parentheses."""
    return b"(%b)" % " ".join(sorted(flags)).encode()


def _resolve(wanted: SequenceSet, highest: int) -> list[tuple[int, int]]:
    """Say what `*` is, put each range in order, and the ranges too."""
    known = ((first or highest, last or highest) for first, last in wanted)
    return sorted((min(pair), max(pair)) for pair in known)


def _places(numbers: Sequence[int], ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Find the places of the numbers in ranges, each once, however the ranges overlap."""
    done = 0
    for first, last in ranges:
        start, end = bisect_left(numbers, first), bisect_right(numbers, last)
        yield from range(max(done, start), end)
        done = max(done, end)
