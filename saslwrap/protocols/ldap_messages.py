# ruff: noqa: N815 - result codes have the RFC's names
"""LDAP messages as octets: BER over a schema of our own (RFC 4511), without I/O.

`measure` says how long the message at the head of a buffer is, from its first octets alone;
`decode` and `encode` turn one whole message into a `Message` and back. A message's value is made of
plain dicts, tuples, bytes and ints. Strings, DNs and attribute names are bytes, in UTF-8, because a
peer's may be anything. A key marked `?` is left out where the field is absent: a `b""` that is
there is a field that is present and empty. Values without a key are None.

    bindRequest     {version: int, name: bytes, authentication: CHOICE}
        CHOICE      ("simple", password) | ("sasl", {mechanism: bytes, credentials?: bytes})
    bindResponse    {RESULT, serverSaslCreds?: bytes}
    unbindRequest   None
    searchRequest   {baseObject: bytes, scope: int, derefAliases: int, sizeLimit: int,
                     timeLimit: int, typesOnly: bool, filter: FILTER, attributes: [bytes]}
    searchResEntry  {objectName: bytes, attributes: [{type: bytes, vals: [bytes]}]}
    searchResRef    [uri]
    searchResDone   {RESULT}
    abandonRequest  int, the message id of what is abandoned
    extendedReq     {requestName: bytes, requestValue?: bytes}
    extendedResp    {RESULT, responseName?: bytes, responseValue?: bytes}

    RESULT          resultCode: int, matchedDN: bytes, diagnosticMessage: bytes, referral?: [uri]
                    (`result()` makes one)
    FILTER          ("and", [FILTER]) | ("or", [FILTER]) | ("not", FILTER) | ("present", attribute)
                    | ("equalityMatch", AVA) | ("greaterOrEqual", AVA) | ("lessOrEqual", AVA)
                    | ("approxMatch", AVA)
                    | ("substrings", {type: bytes, substrings: [(PLACE, part)]})
                    | ("extensibleMatch", {matchingRule?: bytes, type?: bytes, matchValue: bytes,
                       dnAttributes: bool})
    PLACE           "initial" | "any" | "final"
    AVA             {attributeDesc: bytes, assertionValue: bytes}

scope: 0 base, 1 one level, 2 subtree. Result codes, known or not, are ints that compare equal to
the members of `ResultCode`. An operation, an authentication choice or a filter that is not above
decodes to None or `(None, None)`.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from saslwrap.context import Buffer
from saslwrap.errors import (
    MalformedMessageError,
    MechanismUnavailableError,
    ProtocolError,
    UsageError,
)

__all__ = [
    "MAX_MESSAGE_ID",
    "NOTICE_OF_DISCONNECTION",
    "Message",
    "ResultCode",
    "decode",
    "encode",
    "measure",
    "notice_of_disconnection",
    "result",
    "result_name",
]

#: maxInt (RFC 4511 section 4.1.1.1).
MAX_MESSAGE_ID: Final = 2**31 - 1

#: The responseName of a server's farewell (RFC 4511 section 4.4.1).
NOTICE_OF_DISCONNECTION: Final = b"1.3.6.1.4.1.1466.20036"

# Tags are the RFC's. What it calls ENUMERATED is an INTEGER with that tag here, so that a number
# that nobody listed is still a number. Sections: 4.1.1 the message, 4.1.9 results, 4.1.11 controls,
# 4.2 bind, 4.3 unbind, 4.5 search, 4.11 abandon, 4.12 extended.
_SCHEMA = """
LDAP DEFINITIONS IMPLICIT TAGS EXTENSIBILITY IMPLIED ::= BEGIN

Message ::= SEQUENCE {
    messageID INTEGER,
    protocolOp CHOICE {
        bindRequest BindRequest,
        bindResponse BindResponse,
        unbindRequest [APPLICATION 2] NULL,
        searchRequest SearchRequest,
        searchResEntry SearchEntry,
        searchResDone [APPLICATION 5] Result,
        abandonRequest [APPLICATION 16] INTEGER,
        searchResRef [APPLICATION 19] SEQUENCE OF OCTET STRING,
        extendedReq ExtendedRequest,
        extendedResp ExtendedResponse
    },
    controls [0] SEQUENCE OF Control OPTIONAL
}

Code ::= [UNIVERSAL 10] INTEGER

Control ::= SEQUENCE {
    controlType OCTET STRING,
    criticality BOOLEAN DEFAULT FALSE,
    controlValue OCTET STRING OPTIONAL
}

Result ::= SEQUENCE {
    resultCode Code,
    matchedDN OCTET STRING,
    diagnosticMessage OCTET STRING,
    referral [3] SEQUENCE OF OCTET STRING OPTIONAL
}

BindRequest ::= [APPLICATION 0] SEQUENCE {
    version INTEGER,
    name OCTET STRING,
    authentication CHOICE {
        simple [0] OCTET STRING,
        sasl [3] SEQUENCE {
            mechanism OCTET STRING,
            credentials OCTET STRING OPTIONAL
        }
    }
}

BindResponse ::= [APPLICATION 1] SEQUENCE {
    COMPONENTS OF Result,
    serverSaslCreds [7] OCTET STRING OPTIONAL
}

SearchRequest ::= [APPLICATION 3] SEQUENCE {
    baseObject OCTET STRING,
    scope Code,
    derefAliases Code,
    sizeLimit INTEGER,
    timeLimit INTEGER,
    typesOnly BOOLEAN,
    filter Filter,
    attributes SEQUENCE OF OCTET STRING
}

Filter ::= CHOICE {
    and [0] SET OF Filter,
    or [1] SET OF Filter,
    not [2] EXPLICIT Filter,
    equalityMatch [3] Assertion,
    substrings [4] SEQUENCE {
        type OCTET STRING,
        substrings SEQUENCE OF CHOICE {
            initial [0] OCTET STRING,
            any [1] OCTET STRING,
            final [2] OCTET STRING
        }
    },
    greaterOrEqual [5] Assertion,
    lessOrEqual [6] Assertion,
    present [7] OCTET STRING,
    approxMatch [8] Assertion,
    extensibleMatch [9] SEQUENCE {
        matchingRule [1] OCTET STRING OPTIONAL,
        type [2] OCTET STRING OPTIONAL,
        matchValue [3] OCTET STRING,
        dnAttributes [4] BOOLEAN DEFAULT FALSE
    }
}

Assertion ::= SEQUENCE { attributeDesc OCTET STRING, assertionValue OCTET STRING }

SearchEntry ::= [APPLICATION 4] SEQUENCE {
    objectName OCTET STRING,
    attributes SEQUENCE OF SEQUENCE { type OCTET STRING, vals SET OF OCTET STRING }
}

ExtendedRequest ::= [APPLICATION 23] SEQUENCE {
    requestName [0] OCTET STRING,
    requestValue [1] OCTET STRING OPTIONAL
}

ExtendedResponse ::= [APPLICATION 24] SEQUENCE {
    COMPONENTS OF Result,
    responseName [10] OCTET STRING OPTIONAL,
    responseValue [11] OCTET STRING OPTIONAL
}

END
"""


class ResultCode(enum.IntEnum):
    """Result codes, with the names of RFC 4511 section 4.1.9; appendix A says when to use which."""

    success = 0
    operationsError = 1
    protocolError = 2
    timeLimitExceeded = 3
    sizeLimitExceeded = 4
    compareFalse = 5
    compareTrue = 6
    authMethodNotSupported = 7
    strongerAuthRequired = 8
    referral = 10
    adminLimitExceeded = 11
    unavailableCriticalExtension = 12
    confidentialityRequired = 13
    saslBindInProgress = 14
    noSuchAttribute = 16
    undefinedAttributeType = 17
    inappropriateMatching = 18
    constraintViolation = 19
    attributeOrValueExists = 20
    invalidAttributeSyntax = 21
    noSuchObject = 32
    aliasProblem = 33
    invalidDNSyntax = 34
    aliasDereferencingProblem = 36
    inappropriateAuthentication = 48
    invalidCredentials = 49
    insufficientAccessRights = 50
    busy = 51
    unavailable = 52
    unwillingToPerform = 53
    loopDetect = 54
    namingViolation = 64
    objectClassViolation = 65
    notAllowedOnNonLeaf = 66
    notAllowedOnRDN = 67
    entryAlreadyExists = 68
    objectClassModsProhibited = 69
    affectsMultipleDSAs = 71
    other = 80


def result_name(code: int) -> str:
    """Name a code for a text: `invalidCredentials (49)`; `result code 4096` if nobody named it."""
    try:
        return f"{ResultCode(code).name} ({code})"
    except ValueError:
        return f"result code {code}"


@dataclass(frozen=True, slots=True)
class Message:
    """One LDAPMessage (RFC 4511 section 4.1.1).

    :ivar operation: the RFC's name of it, None for one that is not in the table above
    :ivar value: in the shape that the table above shows for it
    :ivar controls: dicts `{controlType: bytes, criticality: bool, controlValue?: bytes}`
    """

    message_id: int
    operation: str | None
    value: Any = field(repr=False)
    controls: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


def measure(buffer: Buffer, limit: int) -> int | None:
    """Measure the message at the head of `buffer`, in octets, None while that cannot be said.

    Judged on what is there, before more arrives. Lengths are definite (RFC 4511 section 5.1) and
    have at most four octets, leading zeros among them as Active Directory sends them.

    :param limit: the longest message, in octets, its head included
    :raises ProtocolError: this is no LDAP message, or it is or will be over the limit
    """
    if buffer and buffer[0] != 0x30:
        raise ProtocolError(f"the peer sends {_looks_like(buffer[0])} where LDAP was expected")
    if len(buffer) < 2:
        return None
    size = buffer[1] & 0x7F if buffer[1] & 0x80 else 0
    if buffer[1] == 0x80 or size > 4:
        raise ProtocolError(
            "the peer announces an LDAP message of "
            f"{f'a length in {size} octets' if size else 'indefinite length'}; "
            f"the limit is {limit} octets"
        )
    there = bytes(buffer[2 : 2 + size])
    missing = size - len(there)
    length = int.from_bytes(there.ljust(size, b"\0")) if size else buffer[1]
    if 2 + size + length > limit:
        raise ProtocolError(
            f"the peer announces an LDAP message of {'at least ' if missing else ''}"
            f"{2 + size + length} octets; the limit is {limit}"
        )
    return None if missing else 2 + size + length


def decode(pdu: bytes) -> Message:
    """Decode one whole message.

    :raises MalformedMessageError: it is not one
    :raises MechanismUnavailableError: asn1tools is not installed
    """
    codec = _codec()
    try:
        _check_lengths(pdu)
        message = codec.decode("Message", pdu)
    except Exception:  # asn1tools lets out what it runs into: IndexError, RecursionError ...
        message = None
    if message is None or not 0 <= message["messageID"] <= MAX_MESSAGE_ID:
        raise MalformedMessageError(f"an LDAP message of {len(pdu)} octets cannot be decoded")
    operation, value = message["protocolOp"]
    return Message(message["messageID"], operation, value, tuple(message.get("controls", ())))


def encode(
    message_id: int, operation: str, value: Any, controls: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Encode one message, `operation` and `value` as in the table above.

    :raises UsageError: the value has not the shape of the operation
    :raises MechanismUnavailableError: asn1tools is not installed
    """
    codec = _codec()
    message = {"messageID": message_id, "protocolOp": (operation, value)}
    if controls:
        message["controls"] = [dict(control) for control in controls]
    try:
        return bytes(codec.encode("Message", message))
    except Exception:  # its text would show the value, which may be a password
        error = UsageError(f"{operation} is no LDAP operation, or its value is not of its shape")
    raise error


def result(code: int, diagnostic: str = "", **more: Any) -> dict[str, Any]:
    """Make a RESULT, with the further fields of the response: `result(0, serverSaslCreds=b"")`."""
    return {
        "resultCode": code,
        "matchedDN": b"",
        "diagnosticMessage": diagnostic.encode(),
        **more,
    }


def notice_of_disconnection(code: int, diagnostic: str = "") -> bytes:
    """Encode a server's farewell, before it closes the connection (RFC 4511 section 4.4.1)."""
    farewell = result(code, diagnostic, responseName=NOTICE_OF_DISCONNECTION)
    return encode(0, "extendedResp", farewell)


@functools.cache
def _codec() -> Any:
    try:
        import asn1tools
    except ImportError as error:
        raise MechanismUnavailableError(
            "LDAP needs asn1tools: pip install 'saslwrap[ldap]'"
        ) from error
    return asn1tools.compile_string(_SCHEMA, "ber")


def _looks_like(octet: int) -> str:
    if octet == 0:
        return "what looks like a SASL frame (is the connection under a security layer?)"
    if octet in (0x15, 0x16):
        return "what looks like TLS"
    if 0x20 <= octet < 0x7F or octet in b"\r\n":
        return "what looks like text"
    return f"an octet 0x{octet:02x}"


#: INTEGER and ENUMERATED; LDAP's fit 4 octets (maxInt, RFC 4511 section 4.1.1.1).
_NUMBERS: Final = (0x02, 0x0A)
_NUMBER_OCTETS: Final = 4


def _check_lengths(pdu: bytes) -> None:
    """Check that each element ends within its parent, and numbers, which asn1tools does not.

    :raises ValueError: one does not
    :raises IndexError: one has no length
    """
    ends = [len(pdu)]
    offset = 0
    while offset < len(pdu):
        while ends[-1] == offset:
            ends.pop()
        constructed = pdu[offset] & 0x20
        start, end = _contents(pdu, offset)
        if end > ends[-1] or (offset == 0 and end != len(pdu)):
            raise ValueError("an element does not fit its parent")
        if pdu[offset] in _NUMBERS and end - start > _NUMBER_OCTETS:
            raise ValueError("a number is out of range")
        if constructed:
            ends.append(end)
        offset = start if constructed else end


def _contents(pdu: bytes, offset: int) -> tuple[int, int]:
    """Where the contents of the element at `offset` start and end (X.690 section 8.1)."""
    tag = pdu[offset]
    offset += 1
    if tag & 0x1F == 0x1F:
        while pdu[offset] & 0x80:
            offset += 1
        offset += 1
    length, offset = pdu[offset], offset + 1
    if length == 0x80 or (length == 0 and tag in (0x02, 0x0A)):
        raise ValueError("an indefinite length, or a number without digits")
    if length > 0x80:
        size = length & 0x7F
        length, offset = int.from_bytes(pdu[offset : offset + size]), offset + size
    return offset, offset + length
