"""The commands for the messages of the mailbox that is selected (RFC 3501 section 6.4).

By number or by UID; COPY and MOVE tell the UIDs that they gave (RFC 4315, RFC 6851).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final, TypeAlias

from saslwrap.testing.imap_commands import Answer, Command, CommandError
from saslwrap.testing.imap_fetch import FLAGS, UID, take_items, write_items
from saslwrap.testing.imap_mailboxes import Mailboxes, is_flag
from saslwrap.testing.imap_search import take_search
from saslwrap.testing.imap_view import Numbered, View

__all__ = ["BY_UID", "COMMANDS", "Selected", "take_flags"]

_STORE: Final = re.compile(rb"([+-]?)FLAGS(\.SILENT)?", re.IGNORECASE)

_Flags: TypeAlias = frozenset[str]
_CHANGES: Final[Mapping[bytes, Callable[[_Flags, _Flags], _Flags]]] = {
    b"": lambda old, new: new,
    b"+": operator.or_,
    b"-": operator.sub,
}


class Selected:
    """One command, in a view.

    :param mailboxes: where COPY and MOVE find another one
    :param by_uid: messages are named by UID
    """

    def __init__(self, view: View, mailboxes: Mailboxes, *, by_uid: bool) -> None:
        self._view: Final = view
        self._mailboxes: Final = mailboxes
        self._by_uid: Final = by_uid

    def fetch(self, command: Command) -> Answer:
        r"""FETCH; a message whose octets are fetched, and not just peeked at, is \Seen."""
        found = self._take_messages(command)
        command.space()
        items = take_items(command, by_uid=self._by_uid)
        command.end()
        reads = any(item.reads for item in items) and not self._view.read_only
        answers = []
        for message in found:
            seen = reads and "\\Seen" not in message.message.flags
            now = self._change(message, b"+", {"\\Seen"}) if seen else message
            more = [FLAGS] if seen and FLAGS not in items else []
            answers.append(write_items(now, [*items, *more]))
        return Answer(chain.from_iterable(answers))

    def store(self, command: Command) -> Answer:
        """STORE, with the flags in the answer or `.SILENT`."""
        found = self._take_messages(command)
        command.space()
        change, silent = command.take(_STORE, "FLAGS").groups()
        command.space()
        flags = take_flags(command)
        command.end()
        self._view.require_writable()
        changed = [self._change(message, change, flags) for message in found]
        items = [UID, FLAGS] if self._by_uid else [FLAGS]
        shown = () if silent else changed
        return Answer(chain.from_iterable(write_items(message, items) for message in shown))

    def copy(self, command: Command) -> Answer:
        """COPY."""
        return Answer(code=self._copy(self._take_messages(command), command))

    def move(self, command: Command) -> Answer:
        """MOVE: the messages' end here is told as any other."""
        found = self._take_messages(command)
        self._view.require_writable()
        code = self._copy(found, command)
        self._remove(found)
        return Answer([f"* OK [{code}] moved\r\n".encode()] if code else [])

    def search(self, command: Command) -> Answer:
        """SEARCH."""
        command.space()
        wanted = take_search(command, self._view)
        command.end()
        found = (message for message in self._view.all() if wanted(message))
        numbers = (message.uid if self._by_uid else message.number for message in found)
        return Answer([b" ".join([b"* SEARCH", *(b"%d" % number for number in numbers)]), b"\r\n"])

    def expunge(self, command: Command) -> Answer:
        r"""EXPUNGE all that is \Deleted; with UIDs, only of these."""
        found = self._take_messages(command) if self._by_uid else self._view.all()
        command.end()
        self._view.require_writable()
        self._remove(message for message in found if "\\Deleted" in message.message.flags)
        return Answer()

    def check(self, command: Command) -> Answer:
        """CHECK, which is NOOP here."""
        command.end()
        return Answer()

    def _take_messages(self, command: Command) -> list[Numbered]:
        command.space()
        return self._view.select(command.sequence_set(), by_uid=self._by_uid)

    def _change(self, found: Numbered, change: bytes, flags: Iterable[str]) -> Numbered:
        box = self._view.mailbox
        new = _CHANGES[change](frozenset(found.message.flags), box.spell(flags))
        self._view.set_flags(found.uid, new)
        return found._replace(message=box.messages[found.uid])

    def _copy(self, found: Iterable[Numbered], command: Command) -> str:
        command.space()
        name = command.mailbox()
        command.end()
        target = self._mailboxes.target(name)
        pairs = [(message.uid, target.add(message.message)) for message in found]
        if not pairs:
            return ""
        old, new = (",".join(map(str, uids)) for uids in zip(*pairs, strict=True))
        return f"COPYUID {target.uid_validity} {old} {new}"

    def _remove(self, found: Iterable[Numbered]) -> None:
        self._view.mailbox.remove([message.uid for message in found])


def take_flags(command: Command) -> list[str]:
    """Take flags, in parentheses or not; only the system's own may begin with a backslash."""
    if command.at(b"("):
        flags = command.parenthesised(command.flag)
    else:
        flags = [command.flag()]
        while command.skip(b" "):
            flags.append(command.flag())
    if unknown := [flag for flag in flags if not is_flag(flag)]:
        raise CommandError("BAD", f"{unknown[0]} is no flag that can be set")
    return flags


COMMANDS: Final[Mapping[str, Callable[[Selected, Command], Answer]]] = {
    "CHECK": Selected.check,
    "COPY": Selected.copy,
    "EXPUNGE": Selected.expunge,
    "FETCH": Selected.fetch,
    "MOVE": Selected.move,
    "SEARCH": Selected.search,
    "STORE": Selected.store,
}

#: Those that may stand behind UID.
BY_UID: Final = COMMANDS.keys() - {"CHECK"}
