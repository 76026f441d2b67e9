"""What FETCH gives of a message (RFC 3501 sections 6.4.5 and 7.4.2).

Each item writes itself as a few pieces; a message's octets are among them as they lie in memory.
Parts of a MIME body are not taken apart: BODY[1] and BODYSTRUCTURE are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import getaddresses
from imaplib import Time2Internaldate
from itertools import chain
from typing import Final, TypeAlias

from saslwrap.context import Buffer
from saslwrap.testing.imap_commands import Command, CommandError
from saslwrap.testing.imap_mailboxes import Message
from saslwrap.testing.imap_view import Numbered, format_flags

__all__ = ["FLAGS", "UID", "Item", "field_of", "header_of", "quoted", "take_items", "write_items"]

_ITEM: Final = re.compile(rb"([A-Za-z0-9.]+)(\[?)")
_SECTION: Final = re.compile(rb"(?:HEADER(?:\.FIELDS(?:\.NOT)?)?|TEXT)?", re.IGNORECASE)
_PARTIAL: Final = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")
_ATOM: Final = re.compile(rb"[!#$&'+-\[^-z|}~]+")

_HEADER: Final = re.compile(rb"(?:\A|\n)\r?\n")
_FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:((?:.*\n(?=[ \t]))*.*\n?)", re.MULTILINE)
_PLAIN: Final = re.compile(rb"[ !#-\[\]-~]*")

Pieces: TypeAlias = Iterable[Buffer]


@dataclass(frozen=True, slots=True)
class Item:
    r"""One thing that is asked for.

    :param write: writes it, with its name
    :param reads: whether the message is \Seen after it
    """

    write: Callable[[Numbered], Pieces]
    reads: bool = False


def take_items(command: Command, *, by_uid: bool) -> list[Item]:
    """Take what a FETCH asks for: an item, or a list of items; by UID it is told that, too."""
    found = list(chain.from_iterable(command.one_or_more(lambda: _take(command))))
    if not found:
        raise CommandError("BAD", "nothing is to be fetched")
    return [UID, *found] if by_uid and UID not in found else found


def write_items(found: Numbered, items: Iterable[Item]) -> Iterator[Buffer]:
    """Write the answer for one message."""
    yield b"* %d FETCH (" % found.number
    for place, item in enumerate(items):
        if place:
            yield b" "
        yield from item.write(found)
    yield b")\r\n"


def header_of(content: bytes) -> bytes:
    """Give the header, with the empty line behind it; all of it where there is none."""
    end = _HEADER.search(content)
    return content[: end.end()] if end else content


def field_of(header: bytes, name: bytes) -> bytes | None:
    """Give the value of the first field of that name, unfolded; None if there is none."""
    for match in _FIELD.finditer(header):
        if match[1].lower() == name.lower():
            return b" ".join(match[2].split())
    return None


def quoted(octets: bytes) -> bytes:
    """Write a string: quoted, or as a literal where it cannot be."""
    if _PLAIN.fullmatch(octets):
        return b'"%b"' % octets
    return b"{%d}\r\n%b" % (len(octets), octets)


def _atom_or_quoted(octets: bytes) -> bytes:
    return octets if _ATOM.fullmatch(octets) else quoted(octets)


def _take(command: Command) -> Sequence[Item]:
    name, bracket = command.take(_ITEM, "what is to be fetched").groups()
    word = name.decode().upper()
    if bracket and word in ("BODY", "BODY.PEEK"):
        return [_take_section(command, reads=word == "BODY")]
    if bracket or word not in _ITEMS:
        raise CommandError("BAD", f"{word} cannot be fetched here")
    return _ITEMS[word]


def _take_section(command: Command, *, reads: bool) -> Item:
    section = command.take(_SECTION, "a section")[0].decode().upper()
    names: list[bytes] = []
    label = section.encode()
    if section.startswith("HEADER.FIELDS"):
        command.space()
        names = command.parenthesised(command.string)
        label += b" (%b)" % b" ".join(map(_atom_or_quoted, names))
    if not command.skip(b"]"):
        raise CommandError("BAD", "this section cannot be fetched here")
    part = slice(None)
    label = b"BODY[%b]" % label
    if command.at(b"<"):
        start, length = map(int, command.take(_PARTIAL, "a part, as <0.1024>").groups())
        part, label = slice(start, start + length), label + b"<%d>" % start
    return Item(lambda found: _literal(label, _section(section, names, found)[part]), reads)


def _whole(name: str, section: str, *, reads: bool) -> Item:
    """Make an item of IMAP2, which is a section by another name."""
    return Item(lambda found: _literal(name.encode(), _section(section, [], found)), reads)


def _section(section: str, names: list[bytes], found: Numbered) -> memoryview:
    content = found.message.content
    header = header_of(content)
    match section:
        case "":
            return memoryview(content)
        case "TEXT":
            return memoryview(content)[len(header) :]
        case "HEADER":
            return memoryview(header)
        case _:
            return memoryview(_fields(header, names, without=section.endswith("NOT")))


def _fields(header: bytes, names: Iterable[bytes], *, without: bool) -> bytes:
    wanted = {name.lower() for name in names}
    fields = _FIELD.finditer(header)
    kept = [field[0] for field in fields if (field[1].lower() in wanted) is not without]
    return b"".join([*kept, b"\r\n"])


def _literal(label: bytes, octets: Buffer) -> Pieces:
    return (b"%b {%d}\r\n" % (label, len(octets)), octets)


def _internal_date(message: Message) -> bytes:
    return b"INTERNALDATE " + Time2Internaldate(message.received).encode()


def _envelope(message: Message) -> bytes:
    header = header_of(message.content)
    sender = field_of(header, b"From")
    addresses = [
        sender,
        field_of(header, b"Sender") or sender,
        field_of(header, b"Reply-To") or sender,
        *(field_of(header, name) for name in (b"To", b"Cc", b"Bcc")),
    ]
    before = (_nstring(field_of(header, name)) for name in (b"Date", b"Subject"))
    behind = (_nstring(field_of(header, name)) for name in (b"In-Reply-To", b"Message-ID"))
    return b"ENVELOPE (%b)" % b" ".join(chain(before, map(_addresses, addresses), behind))


def _nstring(value: bytes | None) -> bytes:
    return b"NIL" if value is None else quoted(value)


def _addresses(value: bytes | None) -> bytes:
    text = (value or b"").decode("utf-8", "surrogateescape")
    try:
        found = [pair for pair in getaddresses([text]) if any(pair)]
    except RecursionError:  # the parser goes down a level for each bracket
        found = []
    return b"(%b)" % b"".join(_address(*pair) for pair in found) if found else b"NIL"


def _address(name: str, address: str) -> bytes:
    mailbox, _, host = address.rpartition("@") if "@" in address else (address, "", "")
    parts = (name, "", mailbox, host)
    octets = (part.encode("utf-8", "surrogateescape") for part in parts)
    return b"(%b)" % b" ".join(_nstring(part or None) for part in octets)


UID: Final = Item(lambda found: (b"UID %d" % found.uid,))
FLAGS: Final = Item(lambda found: (b"FLAGS " + format_flags(found.message.flags),))

_SIZE: Final = Item(lambda found: (b"RFC822.SIZE %d" % len(found.message.content),))
_DATE: Final = Item(lambda found: (_internal_date(found.message),))
_ENVELOPE: Final = Item(lambda found: (_envelope(found.message),))

_ITEMS: Final[Mapping[str, Sequence[Item]]] = {
    "UID": [UID],
    "FLAGS": [FLAGS],
    "RFC822.SIZE": [_SIZE],
    "INTERNALDATE": [_DATE],
    "ENVELOPE": [_ENVELOPE],
    "FAST": [FLAGS, _DATE, _SIZE],
    "ALL": [FLAGS, _DATE, _SIZE, _ENVELOPE],
    "RFC822": [_whole("RFC822", "", reads=True)],
    "RFC822.HEADER": [_whole("RFC822.HEADER", "HEADER", reads=False)],
    "RFC822.TEXT": [_whole("RFC822.TEXT", "TEXT", reads=True)],
}
