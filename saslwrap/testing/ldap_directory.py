"""What `LDAPServer` serves: entries in memory, their names, and search filters over them.

All values are compared as text without regard to case; there is no schema. An attribute counts as
known if some entry has it: a filter about another one is Undefined (RFC 4511 section 4.5.1.7), so
that neither `(nickname=x)` nor `(!(nickname=x))` finds anything where nobody has a nickname.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.names import check_encodable
from saslwrap.protocols.ldap_messages import ResultCode

__all__ = [
    "DN",
    "Attribute",
    "Directory",
    "DirectoryError",
    "Entry",
    "fold",
    "matches",
    "parse_dn",
]

#: A distinguished name, in a form to compare: the root's end first, each RDN a set of pairs.
DN: TypeAlias = tuple[frozenset[tuple[str, str]], ...]

#: Attributes as a caller writes them down.
Attributes: TypeAlias = Mapping[str, Sequence[str | bytes]]

_BASE, _ONE_LEVEL, _SUBTREE = range(3)

_PAIR = re.compile(r"((?:[^\\,+]|\\.)*+)([,+]|$)", re.DOTALL)
_ESCAPE = re.compile(rb"\\([0-9a-fA-F]{2})|\\(.)", re.DOTALL)


class DirectoryError(Exception):
    """A request that cannot be met; `code` and `matched_dn` are the result's."""

    def __init__(self, code: ResultCode, text: str, matched_dn: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.matched_dn = matched_dn


def parse_dn(text: str) -> DN:
    """Bring a name (RFC 4514) into a form to compare: case and needless spaces do not count.

    :raises ValueError: it is not a name
    """
    if not text.strip():
        return ()
    rdns: list[set[tuple[str, str]]] = [set()]
    at, separator = 0, ","
    while separator:
        pair = _PAIR.match(text, at)
        if pair is None:
            raise ValueError("a name ends in a backslash")
        rdns[-1].add(_parse_pair(pair[1]))
        at, separator = pair.end(), pair[2]
        if separator == ",":
            rdns.append(set())
    return tuple(frozenset(rdn) for rdn in reversed(rdns))


def _parse_pair(text: str) -> tuple[str, str]:
    attribute, equals, value = text.partition("=")
    if not (equals and attribute.strip()):
        raise ValueError("a part of a name is not of the form attribute=value")
    unescaped = _ESCAPE.sub(
        lambda escape: bytes.fromhex(escape[1].decode()) if escape[1] else escape[2],
        value.encode("utf-8", "surrogateescape"),
    )
    return fold(attribute.strip().encode()), " ".join(fold(unescaped).split())


def fold(value: bytes) -> str:
    """Bring a value into the form to compare."""
    return value.decode("utf-8", "surrogateescape").casefold()


@dataclass(frozen=True, slots=True)
class Attribute:
    """The values of one attribute, as they were written, and by their form to compare."""

    name: bytes
    values: tuple[bytes, ...]
    folded: Mapping[str, bytes]
    operational: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its name as it was written, its attributes by their names in lower case."""

    dn: str
    attributes: Mapping[str, Attribute]

    @classmethod
    def make(cls, dn: str, attributes: Attributes, operational: Attributes | None = None) -> Entry:
        """Make an entry; one without objectClass gets `top`, as each has one (RFC 4512).

        :raises UsageError: values that are no list of texts, or an attribute in two spellings
        """
        made = [_make_attribute(name, values) for name, values in attributes.items()]
        made += [
            _make_attribute(name, values, operational=True)
            for name, values in (operational or {}).items()
        ]
        by_name: dict[str, Attribute] = {}
        for attribute in made:
            there = by_name.setdefault(fold(attribute.name), attribute)
            if there is not attribute:
                spellings = f"{there.name.decode()} and {attribute.name.decode()}"
                raise UsageError(
                    f"{dn!r} has {spellings}, one attribute: give all its values in one list"
                )
        by_name.setdefault("objectclass", _make_attribute("objectClass", ["top"]))
        return cls(dn, by_name)

    def has(self, attribute: str, value: str) -> bool:
        """Whether an attribute has a value, both in the form to compare."""
        there = self.attributes.get(attribute)
        return there is not None and value in there.folded

    def select(self, names: Iterable[bytes], *, types_only: bool) -> dict[str, Any]:
        """Give a searchResEntry with the attributes that a search asks for.

        `*` stands for all but the operational ones, as no name at all does; `+` for those; `1.1`
        for none (RFC 4511 section 4.5.1.8).
        """
        wanted = {fold(name) for name in names} or {"*"}
        return {
            "objectName": self.dn.encode(),
            "attributes": [
                {"type": attribute.name, "vals": [] if types_only else list(attribute.values)}
                for name, attribute in self.attributes.items()
                if name in wanted or ("+" if attribute.operational else "*") in wanted
            ],
        }


def _make_attribute(
    name: str, values: Sequence[str | bytes], *, operational: bool = False
) -> Attribute:
    """Make an attribute.

    :raises UsageError: `values` is no list of texts, one value perhaps
    """
    check_encodable("an attribute's name", name)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise UsageError(f"{name} takes a list of values: [{values!r}]")
    octets = tuple(_octets(name, value) for value in values)
    return Attribute(name.encode(), octets, {fold(value): value for value in octets}, operational)


def _octets(name: str, value: str | bytes) -> bytes:
    require_kind(f"a value of {name}", value, str | bytes)
    if isinstance(value, bytes):
        return value
    check_encodable(f"a value of {name}", value)
    return value.encode()


class Directory:
    """Entries by name, and the root DSE, which is no part of them.

    :param entries: attributes by DN. An entry whose parent is not there starts a naming context
    :param root: attributes of the root DSE, operational as RFC 4512 section 5.1 has them
    :raises UsageError: a DN cannot be read, or stands there twice; or attributes are none
    """

    def __init__(self, entries: Mapping[str, Attributes], root: Attributes) -> None:
        self._entries: Final[dict[DN, Entry]] = {}
        self._below: Final[Counter[DN]] = Counter()  # how many entries are next below a name
        self._root_attributes: Final = root
        require_kind("entries", entries, Mapping, "attributes by DN")
        for dn, attributes in entries.items():
            check_encodable("a DN", dn)
            require_kind(repr(dn), attributes, Mapping, "values by attribute")
            try:
                name = parse_dn(dn)
            except ValueError as error:
                raise UsageError(f"{dn!r} is no DN: {error}") from None
            if not name or name in self._entries:
                raise UsageError(f"{dn!r} is the root, or an entry that is there already")
            self._put(name, Entry.make(dn, attributes))

    @property
    def data(self) -> dict[str, dict[str, list[bytes]]]:
        """All entries, as they would be written down."""
        return {
            entry.dn: {a.name.decode(): list(a.values) for a in entry.attributes.values()}
            for entry in self._entries.values()
        }

    @cached_property
    def _depth(self) -> int:
        return max(map(len, self._entries), default=0)

    @cached_property
    def _root(self) -> Entry:
        contexts = [e.dn for name, e in self._entries.items() if name[:-1] not in self._entries]
        return Entry.make("", {}, {"namingContexts": contexts, **self._root_attributes})

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(
            attribute
            for entry in (self._root, *self._entries.values())
            for attribute in entry.attributes
        )

    def search(self, request: Mapping[str, Any]) -> Iterator[Entry]:
        """Give the entries that a searchRequest finds, in the order in which they were given.

        A search from the root comes by all naming contexts, but not by the root DSE, which only a
        base search finds.

        :raises DirectoryError: before the first one
        """
        scope, search_filter = request["scope"], request["filter"]
        within = self._within(self._find(_name_of(request["baseObject"])), scope)
        return (entry for entry in within if matches(entry, search_filter, self._known))

    def entry(self, dn: bytes) -> Entry:
        """Give the entry of this name.

        :raises DirectoryError: there is none
        """
        name = self._find(_name_of(dn))
        return self._entries[name] if name else self._root

    def add(self, dn: bytes, attributes: Attributes) -> None:
        """Add an entry below one that is there.

        :raises DirectoryError: it is there already, or its parent is not
        """
        name = _name_of(dn)
        if not name or name in self._entries:
            raise DirectoryError(ResultCode.entryAlreadyExists, "the entry is there already")
        if not self._find(name[:-1]):
            raise DirectoryError(ResultCode.noSuchObject, "there is no such naming context")
        self._put(name, Entry.make(dn.decode(), attributes))
        self._forget_summaries()

    def remove(self, dn: bytes) -> None:
        """Remove an entry that has none below it.

        :raises DirectoryError: there is none, or it has
        """
        name = self._find(_name_of(dn))
        if not name or self._below[name]:
            raise DirectoryError(ResultCode.notAllowedOnNonLeaf, "there are entries below it")
        del self._entries[name]
        self._below[parent := name[:-1]] -= 1
        if not self._below[parent]:
            del self._below[parent]
        self._forget_summaries()

    def replace(self, dn: bytes, attributes: Mapping[str, Attribute]) -> None:
        """Give an entry other attributes.

        :raises DirectoryError: there is none, or they lack what its name is made of
        """
        name = self._find(_name_of(dn))
        if not name:
            raise DirectoryError(ResultCode.unwillingToPerform, "the root DSE stays as it is")
        before = self._entries[name]
        after = Entry(before.dn, attributes)
        if any(before.has(*pair) and not after.has(*pair) for pair in name[-1]):
            raise DirectoryError(ResultCode.notAllowedOnRDN, "the entry is named after this value")
        self._entries[name] = after
        self._forget_summaries()

    def _put(self, name: DN, entry: Entry) -> None:
        self._entries[name] = entry
        self._below[name[:-1]] += 1

    def _forget_summaries(self) -> None:
        for summary in ("_depth", "_root", "_known"):
            self.__dict__.pop(summary, None)

    def _find(self, name: DN) -> DN:
        if not name or name in self._entries:
            return name
        ancestors = (name[:length] for length in range(min(len(name) - 1, self._depth), 0, -1))
        nearest = next((a for a in ancestors if a in self._entries), None)
        matched_dn = self._entries[nearest].dn if nearest else ""
        raise DirectoryError(ResultCode.noSuchObject, "there is no such entry", matched_dn)

    def _within(self, base: DN, scope: int) -> Iterator[Entry]:
        if scope == _BASE:
            return iter([self._entries[base] if base else self._root])
        if scope not in (_ONE_LEVEL, _SUBTREE):
            raise DirectoryError(ResultCode.protocolError, f"scope {scope} is unknown")
        size = len(base)
        return (
            entry
            for name, entry in list(self._entries.items())  # it may change meanwhile
            if name[:size] == base and (scope == _SUBTREE or len(name) == size + 1)
        )


def _name_of(dn: bytes) -> DN:
    try:
        return parse_dn(dn.decode())
    except ValueError:
        raise DirectoryError(ResultCode.invalidDNSyntax, "that is no DN") from None


def matches(entry: Entry, search_filter: Any, known: Collection[str]) -> bool | None:
    """Evaluate a filter, in the shape that `ldap_messages` decodes it to; None is Undefined."""
    match search_filter:
        case ("and", parts):
            return _combine((matches(entry, part, known) for part in parts), decisive=False)
        case ("or", parts):
            return _combine((matches(entry, part, known) for part in parts), decisive=True)
        case ("not", part):
            outcome = matches(entry, part, known)
            return None if outcome is None else not outcome
        case ("present", name):
            return _any_value(entry, name, known, lambda value: True)
        case ("substrings", {"type": name, "substrings": parts}):
            pieces = [(place, fold(part)) for place, part in parts]
            return _any_value(entry, name, known, lambda value: _has_pieces(value, pieces))
        case (kind, {"attributeDesc": name, "assertionValue": octets}):
            compare, wanted = _COMPARISONS[kind], fold(octets)
            return _any_value(entry, name, known, lambda value: compare(value, wanted))
        case _:  # extensibleMatch, and what nobody has defined
            return None


def _combine(outcomes: Iterable[bool | None], *, decisive: bool) -> bool | None:
    """And, whose decisive outcome is False, and or, whose is True (X.511 section 7.8.1)."""
    undefined = False
    for outcome in outcomes:
        if outcome is decisive:
            return decisive
        undefined = undefined or outcome is None
    return None if undefined else not decisive


def _any_value(
    entry: Entry, name: bytes, known: Collection[str], holds: Callable[[str], bool]
) -> bool | None:
    attribute = entry.attributes.get(key := fold(name))
    if attribute is None:
        return False if key in known else None
    return any(map(holds, attribute.folded))


def _has_pieces(value: str, pieces: Sequence[tuple[str, str]]) -> bool:
    at = 0
    for place, piece in pieces:
        if place == "initial":
            start = 0 if value.startswith(piece) else -1
        elif place == "final":
            start = len(value) - len(piece) if value.endswith(piece) else -1
        else:
            start = value.find(piece, at)
        if start < at:
            return False
        at = start + len(piece)
    return True


def _at_least(value: str, bound: str) -> bool:
    """Compare numbers as numbers (without `int`, which refuses long ones), the rest as text."""
    if not (_is_number(value) and _is_number(bound)):
        return value >= bound
    value, bound = value.lstrip("0"), bound.lstrip("0")
    return (len(value), value) >= (len(bound), bound)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


_COMPARISONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "equalityMatch": operator.eq,
    "approxMatch": operator.eq,
    "greaterOrEqual": _at_least,
    "lessOrEqual": lambda value, bound: _at_least(bound, value),
}
