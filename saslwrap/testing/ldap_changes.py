"""Requests that change an entry, or compare one of its values: modify, add, delete, compare.

They are no part of `ldap_messages`, so their octets are read here (RFC 4511 sections 4.6 to 4.8 and
4.10), and done to a `Directory`. A modification is done as a whole or not at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from saslwrap.protocols.ldap_messages import ResultCode
from saslwrap.testing.ldap_directory import (
    Attribute,
    Directory,
    DirectoryError,
    fold,
)

__all__ = ["COMPARE", "apply_change"]

#: The tag of a compareRequest, which changes nothing.
COMPARE: Final = 0x6E

_SCHEMA: Final = """
Changes DEFINITIONS IMPLICIT TAGS EXTENSIBILITY IMPLIED ::= BEGIN

Message ::= SEQUENCE {
    messageID INTEGER,
    protocolOp CHOICE {
        modify [APPLICATION 6] SEQUENCE {
            object OCTET STRING,
            changes SEQUENCE OF SEQUENCE {
                operation [UNIVERSAL 10] INTEGER,
                modification Attribute
            }
        },
        add [APPLICATION 8] SEQUENCE {
            entry OCTET STRING,
            attributes SEQUENCE OF Attribute
        },
        delete [APPLICATION 10] OCTET STRING,
        compare [APPLICATION 14] SEQUENCE {
            entry OCTET STRING,
            ava SEQUENCE { attributeDesc OCTET STRING, assertionValue OCTET STRING }
        }
    }
}

Attribute ::= SEQUENCE { type OCTET STRING, vals SET OF OCTET STRING }

END
"""

#: The values of an attribute that is modified, by their form to compare: a change costs no more
#: than what it changes.
_Values = dict[str, bytes]


def apply_change(pdu: bytes, directory: Directory) -> ResultCode:
    """Do what a request asks for, and give the result's code: success, or a comparison's outcome.

    :param pdu: the whole message
    :raises DirectoryError: it cannot be done, or not be read
    """
    try:
        operation, value = _codec().decode("Message", pdu)["protocolOp"]
        done = _OPERATIONS.get(operation)
    except Exception:  # asn1tools lets out what it runs into
        raise DirectoryError(ResultCode.protocolError, "the request cannot be read") from None
    if done is None:
        raise DirectoryError(ResultCode.unwillingToPerform, "entries keep their names here")
    return done(directory, value)


def _add(directory: Directory, value: Any) -> ResultCode:
    attributes = {_name(a["type"]): list(a["vals"]) for a in value["attributes"]}
    if len(attributes) < len(value["attributes"]) or not all(attributes.values()):
        raise DirectoryError(ResultCode.protocolError, "an attribute is there twice, or is empty")
    directory.add(value["entry"], attributes)
    return ResultCode.success


def _delete(directory: Directory, dn: bytes) -> ResultCode:
    directory.remove(dn)
    return ResultCode.success


def _compare(directory: Directory, value: Any) -> ResultCode:
    attribute, wanted = value["ava"]["attributeDesc"], value["ava"]["assertionValue"]
    there = directory.entry(value["entry"]).attributes.get(_name(attribute).casefold())
    if there is None:
        raise DirectoryError(ResultCode.noSuchAttribute, "the entry has no such attribute")
    return ResultCode.compareTrue if fold(wanted) in there.folded else ResultCode.compareFalse


def _modify(directory: Directory, value: Any) -> ResultCode:
    before = directory.entry(value["object"]).attributes
    names: dict[str, str] = {}
    changed: dict[str, _Values] = {}
    for change in value["changes"]:
        modify = _MODIFICATIONS.get(change["operation"])
        if modify is None:
            raise DirectoryError(ResultCode.protocolError, "that is no way to modify an attribute")
        modification = change["modification"]
        name = _name(modification["type"])
        key = name.casefold()
        names[key] = name
        if key not in changed:
            changed[key] = _values_of(before.get(key))
        modify(changed[key], modification["vals"])
    left = {key: attribute for key, attribute in before.items() if key not in changed}
    made = {key: _made(names[key], values) for key, values in changed.items() if values}
    directory.replace(value["object"], left | made)
    return ResultCode.success


def _values_of(attribute: Attribute | None) -> _Values:
    return {} if attribute is None else dict(attribute.folded)


def _made(name: str, values: _Values) -> Attribute:
    return Attribute(name.encode(), tuple(values.values()), values, operational=False)


def _add_values(there: _Values, values: Sequence[bytes]) -> None:
    if not values:
        raise DirectoryError(ResultCode.protocolError, "there is no value to add")
    for octets in values:
        if (folded := fold(octets)) in there:
            raise DirectoryError(ResultCode.attributeOrValueExists, "a value is there already")
        there[folded] = octets


def _delete_values(there: _Values, values: Sequence[bytes]) -> None:
    gone = set(map(fold, values)) if values else set(there)
    if not there or not gone <= there.keys():
        raise DirectoryError(ResultCode.noSuchAttribute, "the entry has no such value")
    for folded in gone:
        del there[folded]


def _replace_values(there: _Values, values: Sequence[bytes]) -> None:
    there.clear()
    if values:
        _add_values(there, values)


def _name(octets: bytes) -> str:
    if not octets or not octets.isascii():
        raise DirectoryError(ResultCode.undefinedAttributeType, "that is no name of an attribute")
    return octets.decode()


_OPERATIONS: Final[Mapping[str, Callable[[Directory, Any], ResultCode]]] = {
    "add": _add,
    "delete": _delete,
    "compare": _compare,
    "modify": _modify,
}

#: RFC 4511 section 4.6.
_MODIFICATIONS: Final[Mapping[int, Callable[[_Values, Sequence[bytes]], None]]] = {
    0: _add_values,
    1: _delete_values,
    2: _replace_values,
}


@functools.cache
def _codec() -> Any:
    import asn1tools  # an extra; who got here has decoded a request with it

    return asn1tools.compile_string(_SCHEMA, "ber")
