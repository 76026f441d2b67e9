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
    make_attribute,
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

#: Attributes by their names in lower case, while they are modified.
_Attributes = dict[str, Attribute]


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
    (folded,) = make_attribute("wanted", [wanted]).folded
    return ResultCode.compareTrue if folded in there.folded else ResultCode.compareFalse


def _modify(directory: Directory, value: Any) -> ResultCode:
    attributes = dict(directory.entry(value["object"]).attributes)
    for change in value["changes"]:
        modify = _MODIFICATIONS.get(change["operation"])
        if modify is None:
            raise DirectoryError(ResultCode.protocolError, "that is no way to modify an attribute")
        modification = change["modification"]
        modify(attributes, _name(modification["type"]), list(modification["vals"]))
    directory.replace(value["object"], attributes)
    return ResultCode.success


def _add_values(attributes: _Attributes, name: str, values: Sequence[bytes]) -> None:
    if not values:
        raise DirectoryError(ResultCode.protocolError, "there is no value to add")
    there = attributes.get(name.casefold())
    added = make_attribute(name, [*(there.values if there else ()), *values])
    if len(set(added.folded)) < len(added.folded):
        raise DirectoryError(ResultCode.attributeOrValueExists, "a value is there already")
    attributes[name.casefold()] = added


def _delete_values(attributes: _Attributes, name: str, values: Sequence[bytes]) -> None:
    there = attributes.pop(name.casefold(), None)
    gone = set(make_attribute(name, values).folded)
    if there is None or not gone <= set(there.folded):
        raise DirectoryError(ResultCode.noSuchAttribute, "the entry has no such value")
    pairs = zip(there.values, there.folded, strict=True)
    left = [octets for octets, folded in pairs if values and folded not in gone]
    if left:
        attributes[name.casefold()] = make_attribute(name, left)


def _replace_values(attributes: _Attributes, name: str, values: Sequence[bytes]) -> None:
    attributes.pop(name.casefold(), None)
    if values:
        _add_values(attributes, name, values)


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
_MODIFICATIONS: Final[Mapping[int, Callable[[_Attributes, str, Sequence[bytes]], None]]] = {
    0: _add_values,
    1: _delete_values,
    2: _replace_values,
}


@functools.cache
def _codec() -> Any:
    import asn1tools  # an extra; who got here has decoded a request with it

    return asn1tools.compile_string(_SCHEMA, "ber")
