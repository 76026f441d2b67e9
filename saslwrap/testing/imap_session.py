"""What a client may do in its mailboxes once it is logged in, and what it is answered. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Final

from saslwrap.context import Buffer
from saslwrap.testing.imap_commands import Answer, Command, CommandError
from saslwrap.testing.imap_fetch import quoted
from saslwrap.testing.imap_mailboxes import DELIMITER, Mailbox, Mailboxes, Message
from saslwrap.testing.imap_selected import BY_UID, COMMANDS, Selected, take_flags
from saslwrap.testing.imap_view import View, format_flags

__all__ = ["Session", "tagged"]

#: While these are answered, nothing may be renumbered (RFC 3501 section 7.4.1).
_BY_NUMBER: Final = ("FETCH", "SEARCH", "STORE")

_STATUS: Final[Mapping[str, Callable[[Mailbox], int]]] = {
    "MESSAGES": lambda box: len(box.messages),
    "RECENT": lambda box: 0,
    "UIDNEXT": lambda box: box.uid_next,
    "UIDVALIDITY": lambda box: box.uid_validity,
    "UNSEEN": lambda box: sum("\\Seen" not in m.flags for m in box.messages.values()),
}


class Session:
    """One client's, from its login on.

    :param mailboxes: all clients have the same
    """

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes: Final = mailboxes
        self._view: View | None = None  # of the mailbox that is selected

    def answer(self, command: Command) -> Iterator[Buffer]:
        """Do what is asked, and give the answer, piece by piece.

        All is done when the first piece is there: others may change the mailbox while a client
        takes its time.

        :raises CommandError: before the first piece
        """
        by_uid = command.name == "UID"
        if by_uid:
            command.space()
            command.name = command.word()
        done = self._do(command, by_uid=by_uid)
        yield from done.untagged
        yield from self.news(expunged=by_uid or command.name not in _BY_NUMBER)
        code = f"[{done.code}] " if done.code else ""
        yield tagged(command, "OK", f"{code}{command.name} completed")

    def news(self, *, expunged: bool = True) -> list[bytes]:
        """Tell what has changed in the mailbox that is selected."""
        return [] if self._view is None else self._view.news(expunged=expunged)

    def watched(self, tell: Callable[[], object]) -> AbstractContextManager[None]:
        """Call `tell` when there is news, while the block runs."""
        return nullcontext() if self._view is None else self._view.mailbox.watched(tell)

    def _do(self, command: Command, *, by_uid: bool) -> Answer:
        if not by_uid and (do := _COMMANDS.get(command.name)):
            return do(self, command)
        do_selected = COMMANDS.get(command.name)
        if do_selected is None or (by_uid and command.name not in BY_UID):
            raise CommandError("BAD", f"{command.name} is not known here")
        selected = Selected(self._require_view(), self._mailboxes, by_uid=by_uid)
        return do_selected(selected, command)

    def _require_view(self) -> View:
        if self._view is None:
            raise CommandError("BAD", "select a mailbox first")
        return self._view

    def _select(self, command: Command) -> Answer:
        name = _take_mailbox(command)
        self._view = None
        box = self._mailboxes[name]
        self._view = View(box, read_only=command.name == "EXAMINE")
        code = "READ-ONLY" if self._view.read_only else "READ-WRITE"
        return Answer(_describe(self._view), code)

    def _unselect(self, command: Command) -> Answer:
        command.end()
        view = self._require_view()
        if command.name == "CLOSE" and not view.read_only:
            gone = (m.uid for m in view.all() if "\\Deleted" in m.message.flags)
            view.mailbox.remove(list(gone))
        self._view = None
        return Answer()

    def _create(self, command: Command) -> Answer:
        self._mailboxes.create(_take_mailbox(command))
        return Answer()

    def _delete(self, command: Command) -> Answer:
        self._mailboxes.delete(_take_mailbox(command))
        return Answer()

    def _subscribe(self, command: Command) -> Answer:
        """Every mailbox is subscribed to."""
        _ = self._mailboxes[_take_mailbox(command)]
        if command.name == "UNSUBSCRIBE":
            raise CommandError("NO [CANNOT]", "every mailbox is subscribed to")
        return Answer()

    def _list(self, command: Command) -> Answer:
        command.space()
        reference = command.mailbox()
        command.space()
        pattern = command.pattern()
        command.end()
        if not pattern:
            return Answer([b'* LIST (\\Noselect) "%b" ""\r\n' % DELIMITER.encode()])
        names = self._mailboxes.matching(reference + pattern)
        return Answer([_listed(command.name, name) for name in names])

    def _status(self, command: Command) -> Answer:
        command.space()
        name = command.mailbox()
        box = self._mailboxes[name]
        command.space()
        items = command.parenthesised(command.word)
        command.end()
        if not items or not set(items) <= _STATUS.keys():
            raise CommandError("BAD", f"STATUS knows {', '.join(_STATUS)}")
        values = " ".join(f"{item} {_STATUS[item](box)}" for item in items)
        return Answer([b"* STATUS %b (%b)\r\n" % (quoted(name.encode()), values.encode())])

    def _append(self, command: Command) -> Answer:
        command.space()
        name = command.mailbox()
        command.space()
        flags: list[str] = []
        received = datetime.now(UTC)
        if command.at(b"("):
            flags = take_flags(command)
            command.space()
        if command.at(b'"'):
            received = command.date_time()
            command.space()
        content = command.literal()
        command.end()
        box = self._mailboxes.target(name)
        uid = box.add(Message(content, flags, received))
        return Answer(code=f"APPENDUID {box.uid_validity} {uid}")

    def _namespace(self, command: Command) -> Answer:
        command.end()
        return Answer([b'* NAMESPACE (("" "%b")) NIL NIL\r\n' % DELIMITER.encode()])


def tagged(command: Command, status: str, text: str) -> bytes:
    """Write the last line of an answer."""
    return f"{command.tag} {status} {text}\r\n".encode()


def _take_mailbox(command: Command) -> str:
    command.space()
    name = command.mailbox()
    command.end()
    return name


def _listed(command: str, name: str) -> bytes:
    return b'* %b () "%b" %b\r\n' % (command.encode(), DELIMITER.encode(), quoted(name.encode()))


def _describe(view: View) -> list[bytes]:
    box, all_messages = view.mailbox, view.all()
    flags = format_flags(box.flags).decode()
    unseen = next((m.number for m in all_messages if "\\Seen" not in m.message.flags), None)
    lasting = "()" if view.read_only else f"{flags[:-1]} \\*)"
    lines = [
        f"FLAGS {flags}",
        f"{len(all_messages)} EXISTS",
        "0 RECENT",
        *([f"OK [UNSEEN {unseen}] the first that was not read"] if unseen else []),
        f"OK [UIDVALIDITY {box.uid_validity}] of this mailbox",
        f"OK [UIDNEXT {box.uid_next}] of the next message",
        f"OK [PERMANENTFLAGS {lasting}] flags that last",
    ]
    return [f"* {line}\r\n".encode() for line in lines]


_COMMANDS: Final[Mapping[str, Callable[[Session, Command], Answer]]] = {
    "APPEND": Session._append,
    "CLOSE": Session._unselect,
    "CREATE": Session._create,
    "DELETE": Session._delete,
    "EXAMINE": Session._select,
    "LIST": Session._list,
    "LSUB": Session._list,
    "NAMESPACE": Session._namespace,
    "SELECT": Session._select,
    "STATUS": Session._status,
    "SUBSCRIBE": Session._subscribe,
    "UNSELECT": Session._unselect,
    "UNSUBSCRIBE": Session._subscribe,
}
