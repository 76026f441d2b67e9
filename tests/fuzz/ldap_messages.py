"""LDAP's messages as octets, and what an attacker can say in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from saslwrap.errors import MalformedMessageError, ProtocolError
from saslwrap.protocols.ldap_messages import (
    NOTICE_OF_DISCONNECTION,
    ResultCode,
    decode,
    encode,
    measure,
    notice_of_disconnection,
    result,
)
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.watched import LOGINS

LIMITS = (64, 300, 262143)
CODES = (
    ResultCode.success,
    ResultCode.saslBindInProgress,
    ResultCode.invalidCredentials,
    ResultCode.authMethodNotSupported,
    ResultCode.strongerAuthRequired,
    ResultCode.confidentialityRequired,
    ResultCode.unwillingToPerform,
    4096,
)

AVA = {"attributeDesc": b"cn", "assertionValue": b"x"}
PARTS = {"type": b"cn", "substrings": [("initial", b"a"), ("any", b"b"), ("final", b"c")]}
RULE = {"matchingRule": b"1.2", "type": b"cn", "matchValue": b"v", "dnAttributes": True}
FILTER = (
    "and",
    [("or", [("present", b"cn"), ("substrings", PARTS)]), ("not", ("equalityMatch", AVA))],
)
SEARCH = {
    "baseObject": b"dc=example",
    "scope": 2,
    "derefAliases": 0,
    "sizeLimit": 100,
    "timeLimit": 0,
    "typesOnly": False,
    "filter": FILTER,
    "attributes": [b"*", b"+"],
}
CONTROL = {"controlType": b"1.2.3", "criticality": True, "controlValue": b"v"}


def bind(mechanism: bytes, credentials: bytes | None, version: int = 3) -> dict[str, Any]:
    """A bindRequest."""
    sasl = {"mechanism": mechanism}
    if credentials is not None:
        sasl["credentials"] = credentials
    return {"version": version, "name": b"", "authentication": ("sasl", sasl)}


def offer(*names: bytes) -> dict[str, Any]:
    """A searchResEntry: the root DSE with its mechanisms."""
    return {
        "objectName": b"",
        "attributes": [{"type": b"supportedSASLMechanisms", "vals": list(names)}],
    }


def credentials(reader: Reader) -> bytes | None:
    """What may stand for a message of a mechanism."""
    match reader.number() % 5:
        case 0:
            return None
        case 1:
            return reader.octets()
        case 2:
            return reader.edited(LOGINS[0].challenge())
        case 3:
            return reader.edited(reader.one_of(LOGINS).message())
        case _:
            return reader.edited(reader.one_of(LOGINS).proof)


def forged_response(reader: Reader, genuine: bytes) -> bytes:
    """What a server might say."""
    message_id = reader.number() % 6
    outcome = result(reader.one_of(CODES), reader.octets().decode("latin-1"))
    match reader.number() % 6:
        case 0:
            return encode(message_id, "searchResDone", outcome)
        case 1:
            return encode(message_id, "searchResEntry", offer(b"digest-md5", reader.octets()))
        case 2:
            return notice_of_disconnection(reader.one_of(CODES), "farewell")
        case 3:
            return encode(message_id, "searchResRef", [reader.octets()])
        case 4:
            return rewritten(reader, genuine)
        case _:
            if (sealed := credentials(reader)) is not None:
                outcome["serverSaslCreds"] = sealed
            return encode(message_id, "bindResponse", outcome)


def forged_request(reader: Reader, genuine: bytes) -> bytes:
    """What a client might say."""
    message_id = reader.number() % 6
    controls = [CONTROL] if reader.flag() else []
    match reader.number() % 6:
        case 0:
            return encode(message_id, "searchRequest", SEARCH, controls)
        case 1:
            return encode(message_id, "unbindRequest", None)
        case 2:
            simple = {"version": 3, "name": b"cn=x", "authentication": ("simple", reader.octets())}
            return encode(message_id, "bindRequest", simple, controls)
        case 3:
            request = bind(reader.octets(), credentials(reader), reader.number())
            return encode(message_id, "bindRequest", request, controls)
        case 4:
            return rewritten(reader, genuine)
        case _:
            request = bind(b"DIGEST-MD5", credentials(reader))
            return encode(message_id, "bindRequest", request, controls)


def rewritten(reader: Reader, genuine: bytes) -> bytes:
    """The genuine message with another id, another outcome, or its credentials edited."""
    if not (length := measure(genuine, 1 << 20)):
        return genuine
    message = decode(genuine[:length])
    message_id, value = message.message_id, message.value
    match reader.number() % 3, value:
        case 0, _:
            message_id = reader.number()
        case 1, {"resultCode": _}:
            value = {**value, "resultCode": reader.one_of(CODES)}
        case _, {"serverSaslCreds": credentials}:
            value = {**value, "serverSaslCreds": reader.edited(credentials)}
        case _, {"authentication": ("sasl", {"credentials": credentials})}:
            value = bind(b"DIGEST-MD5", reader.edited(credentials))
    return encode(message_id, message.operation or "", value) + genuine[length:]


def read_message(data: bytes) -> None:
    """Measure a stream's head, octet by octet; decode it, and write it again."""
    reader = Reader(data)
    limit = reader.one_of(LIMITS)
    stream = reader.rest()
    length = None
    for end in range(min(len(stream), 8) + 1):
        found = measure(stream[:end], limit)
        assert length in (None, found), "a length that changed"
        length = found
    if length is None:
        assert len(stream) < 6, "six octets tell every length"
        return
    assert 2 <= length <= limit
    pdu = stream[:length]
    message = decode(pdu)
    assert 0 <= message.message_id < 2**31
    if message.operation and is_known(message.value):
        written = encode(message.message_id, message.operation, message.value, message.controls)
        assert decode(written) == message, (pdu, written)


def is_known(value: Any) -> bool:
    """Whether all of it is in the schema: a choice that is not decodes to None twice."""
    match value:
        case (None, None):
            return False
        case dict():
            return all(map(is_known, value.values()))
        case list() | tuple():
            return all(map(is_known, value))
    return True


def seeds() -> Iterator[bytes]:
    """Each operation; lengths in each form; numbers and elements that do not fit."""
    outcome = result(0, "text", referral=[b"ldap://x"])
    values: dict[str, Any] = {
        "bindRequest": bind(b"DIGEST-MD5", b"x"),
        "bindResponse": {**outcome, "serverSaslCreds": b""},
        "unbindRequest": None,
        "searchRequest": {**SEARCH, "filter": ("and", [FILTER, ("extensibleMatch", RULE)])},
        "searchResEntry": offer(b"DIGEST-MD5"),
        "searchResRef": [b"ldap://x"],
        "searchResDone": outcome,
        "abandonRequest": 1,
        "extendedReq": {"requestName": b"1.3", "requestValue": b""},
        "extendedResp": {**outcome, "responseName": NOTICE_OF_DISCONNECTION},
    }
    for operation, value in values.items():
        yield b"\2" + encode(1, operation, value)
        yield b"\2" + encode(1, operation, value, [CONTROL])
    for head in ("3080", "30820040", "3085", "30840004", "3084ffffffff", "00000001", "160301"):
        yield b"\2" + bytes.fromhex(head)
    yield b"\0" + encode(1, "bindRequest", bind(b"DIGEST-MD5", bytes(60)))


TARGETS = (
    Target(
        "ldap-message",
        read_message,
        {
            ProtocolError: "no LDAP, or a length over the limit",
            MalformedMessageError: "an element that does not fit, or is not in the schema",
        },
        seeds,
        1024,
    ),
)
