from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslwrap.errors import (
    MalformedMessageError,
    MechanismUnavailableError,
    ProtocolError,
    UsageError,
)
from saslwrap.protocols import ldap_messages
from saslwrap.protocols.ldap_messages import (
    MAX_MESSAGE_ID,
    Message,
    ResultCode,
    decode,
    encode,
    measure,
    notice_of_disconnection,
    result,
    result_name,
)

LIMIT = 262143
UNBIND = bytes.fromhex("30 05 020101 4200")

AVA = {"attributeDesc": b"uid", "assertionValue": b"alice"}
FILTERS: list[Any] = [
    ("present", b"objectClass"),
    ("equalityMatch", AVA),
    ("greaterOrEqual", AVA),
    ("lessOrEqual", AVA),
    ("approxMatch", AVA),
    ("and", []),
    ("or", [("present", b"uid"), ("and", [("equalityMatch", AVA)])]),
    ("not", ("not", ("present", b"uid"))),
    (
        "substrings",
        {"type": b"cn", "substrings": [("initial", b"a"), ("any", b"b"), ("final", b"c")]},
    ),
    ("extensibleMatch", {"matchValue": b"v", "dnAttributes": False}),
    (
        "extensibleMatch",
        {"matchingRule": b"1.2", "type": b"cn", "matchValue": b"v", "dnAttributes": True},
    ),
]


def search(**changes: Any) -> dict[str, Any]:
    return {
        "baseObject": b"dc=example",
        "scope": 2,
        "derefAliases": 0,
        "sizeLimit": 100,
        "timeLimit": 0,
        "typesOnly": False,
        "filter": ("present", b"objectClass"),
        "attributes": [b"*", b"+"],
        **changes,
    }


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


def message(operation: bytes, message_id: bytes = b"\x02\x01\x01", *more: bytes) -> bytes:
    return tlv(0x30, message_id, operation, *more)


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("bindRequest", {"version": 3, "name": b"cn=x", "authentication": ("simple", b"pw")}),
        (
            "bindRequest",
            {"version": 3, "name": b"", "authentication": ("sasl", {"mechanism": b"X"})},
        ),
        (
            "bindRequest",
            {
                "version": 3,
                "name": b"",
                "authentication": ("sasl", {"mechanism": b"X", "credentials": b""}),
            },
        ),
        ("bindResponse", result(0)),
        ("bindResponse", result(14, serverSaslCreds=b"")),
        ("bindResponse", result(10, "elsewhere", referral=[b"ldap://a", b"ldap://b"])),
        ("unbindRequest", None),
        ("searchRequest", search()),
        *[("searchRequest", search(filter=each)) for each in FILTERS],
        (
            "searchResEntry",
            {
                "objectName": b"uid=alice",
                "attributes": [
                    {"type": b"uid", "vals": [b"alice", b"\xff"]},
                    {"type": b"cn", "vals": []},
                ],
            },
        ),
        ("searchResRef", [b"ldap://a"]),
        ("searchResDone", result(32)),
        ("abandonRequest", 7),
        ("extendedReq", {"requestName": b"1.3.6.1.4.1.4203.1.11.3"}),
        ("extendedReq", {"requestName": b"1.2", "requestValue": b""}),
        ("extendedResp", result(0)),
        ("extendedResp", result(0, responseName=b"1.2", responseValue=b"dn:uid=alice")),
    ],
)
def test_every_operation_survives_the_round_trip(operation: str, value: Any) -> None:
    pdu = encode(5, operation, value)
    assert measure(pdu, LIMIT) == len(pdu)
    assert decode(pdu) == Message(5, operation, value)


@pytest.mark.parametrize(
    ("operation", "value", "octets"),
    [
        ("unbindRequest", None, UNBIND),
        (
            "bindRequest",  # RFC 4511's tags, put together by hand
            {"version": 3, "name": b"", "authentication": ("sasl", {"mechanism": b"EXTERNAL"})},
            "3016 020101 6011 020103 0400 a30a 0408 45585445524e414c",
        ),
        ("bindResponse", result(14, "x"), "300d 020101 6108 0a010e 0400 040178"),
        (
            "bindResponse",
            result(0, serverSaslCreds=b""),
            "300e 020101 6109 0a0100 0400 0400 8700",
        ),
        (
            "searchRequest",
            search(baseObject=b"", filter=("not", ("present", b"x")), attributes=[]),
            "301d 020101 6318 0400 0a0102 0a0100 020164 020100 010100 a203870178 3000",
        ),
        ("abandonRequest", 5, "3006 020101 500105"),
        ("searchResRef", [b"a"], "3008 020101 7303040161"),
        ("extendedReq", {"requestName": b"1.2"}, "300a 020101 7705 8003312e32"),
        (
            "extendedResp",
            result(0, responseName=b"1.2", responseValue=b"v"),
            "3014 020101 780f 0a0100 0400 0400 8a03312e32 8b0176",
        ),
    ],
)
def test_the_octets_are_the_rfc_s(operation: str, value: Any, octets: str | bytes) -> None:
    pdu = octets if isinstance(octets, bytes) else bytes.fromhex(octets)
    assert encode(1, operation, value) == pdu
    assert decode(pdu) == Message(1, operation, value)


def test_absent_and_empty_credentials_differ() -> None:
    absent = decode(bytes.fromhex("300c 020101 6107 0a0100 0400 0400")).value
    empty = decode(bytes.fromhex("300e 020101 6109 0a0100 0400 0400 8700")).value
    assert "serverSaslCreds" not in absent
    assert empty["serverSaslCreds"] == b""


def test_an_unknown_result_code_is_an_int() -> None:
    value = decode(bytes.fromhex("300d 020101 6108 0a021000 0400 0400")).value
    assert value["resultCode"] == 4096
    assert result_name(value["resultCode"]) == "result code 4096"
    assert result_name(49) == "invalidCredentials (49)"


def test_a_result_code_equals_its_member() -> None:
    value = decode(encode(1, "bindResponse", result(ResultCode.saslBindInProgress))).value
    assert value["resultCode"] == ResultCode.saslBindInProgress


@pytest.mark.parametrize("tag", [0x66, 0x4A, 0x79, 0x05])
def test_an_operation_that_is_not_in_the_schema_is_none(tag: int) -> None:
    decoded = decode(message(tlv(tag, b"")))
    assert (decoded.message_id, decoded.operation, decoded.value) == (1, None, None)


def test_an_operation_with_a_long_tag_is_none() -> None:
    assert decode(message(b"\x7f\x81\x01\x00")).operation is None


def test_an_unknown_authentication_choice_and_filter_are_none() -> None:
    bind = message(bytes.fromhex("6008 020103 0400 8a0178"))
    assert decode(bind).value["authentication"] == (None, None)
    pdu = encode(1, "searchRequest", search(filter=("present", b"x")))
    odd = decode(pdu.replace(b"\x87\x01x", b"\x8f\x01x"))
    assert odd.value["filter"] == (None, None)


def test_unknown_fields_at_the_end_of_a_sequence_are_ignored() -> None:  # RFC 4511 section 4
    pdu = message(bytes.fromhex("610a 0a0100 0400 0400 950178"))
    assert decode(pdu).value == result(0)


def test_controls_are_carried() -> None:
    control = {"controlType": b"1.2", "criticality": True, "controlValue": b""}
    plain = {"controlType": b"1.3"}
    decoded = decode(encode(1, "unbindRequest", None, [control, plain]))
    assert decoded.controls == (control, {"controlType": b"1.3", "criticality": False})
    assert decode(UNBIND).controls == ()


@pytest.mark.parametrize("head", ["30 05", "30 81 05", "30 82 0005", "30 84 00000005"])
def test_long_forms_with_leading_zeros_are_fine(head: str) -> None:
    pdu = bytes.fromhex(head + "020101 4200")
    assert measure(pdu, LIMIT) == len(pdu)
    assert measure(pdu + b"more", LIMIT) == len(pdu)
    assert decode(pdu) == Message(1, "unbindRequest", None)


@pytest.mark.parametrize(
    ("heads", "what"),
    [
        (b"\0", "what looks like a SASL frame (is the connection under a security layer?)"),
        (b"\x15\x16", "what looks like TLS"),
        (b" ~\r\n", "what looks like text"),
        (b"\x1f", "an octet 0x1f"),
        (b"\x7f", "an octet 0x7f"),
        (b"\x80", "an octet 0x80"),
    ],
)
def test_what_comes_in_place_of_ldap_is_named(heads: bytes, what: str) -> None:
    for head in heads:
        with pytest.raises(ProtocolError) as caught:
            measure(bytes([head]), LIMIT)
        assert str(caught.value) == f"the peer sends {what} where LDAP was expected"


def test_message_ids_end_at_max_int() -> None:
    assert decode(encode(MAX_MESSAGE_ID, "unbindRequest", None)).message_id == 2147483647
    assert decode(encode(0, "unbindRequest", None)).message_id == 0
    for out in (MAX_MESSAGE_ID + 1, -1):
        with pytest.raises(MalformedMessageError):
            decode(encode(out, "unbindRequest", None))


def test_a_notice_of_disconnection_is_an_extended_response_without_request() -> None:
    pdu = notice_of_disconnection(ResultCode.unavailable, "bye")
    decoded = decode(pdu)
    assert (decoded.message_id, decoded.operation) == (0, "extendedResp")
    assert decoded.value == result(52, "bye", responseName=b"1.3.6.1.4.1.1466.20036")
    silent = decode(notice_of_disconnection(ResultCode.unavailable))
    assert silent.value["diagnosticMessage"] == b""


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "30",
        "3000",
        "30 05 020101",  # cut off
        "30 05 020101 4200 00",  # more than announced
        "30 05 020101 4200 0400",  # a whole element more
        "30 05 020101 4201",  # the operation ends outside of its message
        "30 06 020101 4200 04",  # an element without length
        "30 07 020101 0a0100",  # a number in the place of the operation, not a choice of it
        "30 04 0200 4200",  # a number without digits
        "30 0b 020101 6106 0a00 0400 0400",  # which must not be read as success
        "30 80 020101 4200 0000",  # indefinite
        "30 0e 020101 6180 0a0100 0400 0400 0000",  # indefinite inside
        "30 8185 020101 6180 0a0100 0400 0477" + "78" * 119 + "0000",  # nor is that length 128
        "30 0c 020101 6104 0a0100 0400 0400",  # the result lacks its text: it is after the end
        "30 0c 020101 6107 0a0100 0400 0401",  # the text ends outside
        "30 0d 020101 6107 0a0100 0400 0401 00",  # the text ends outside of its operation
        "30 02 4200",  # no message id
        "30 03 020101",  # no operation
        "30 05 020201 4200",  # the message id takes the operation's tag
        "30 05 040101 4200",
        "30 0d 0209 7fffffffffffffffff 4200",
        "30 09 0205 0000000001 4200",  # longer than any number that fits
        "04 05 020101 4200",
        "30 84",
        "30 84 ffffffff",
        "7f",
        "3f",
    ],
)
def test_what_is_no_message_is_malformed(octets: str) -> None:
    with pytest.raises(MalformedMessageError, match=r"of \d+ octets cannot be decoded") as caught:
        decode(bytes.fromhex(octets))
    assert caught.value.__cause__ is None


def test_the_text_shows_no_content() -> None:
    pdu = bytes.fromhex("3010 020101 600b 020103") + b"\x04\x06secret"  # no authentication
    with pytest.raises(MalformedMessageError) as caught:
        decode(pdu)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("tag", [0xA0, 0xA2])
def test_a_filter_nested_too_deeply_is_malformed(tag: int) -> None:
    nested = b"\x87\x01x"
    for _ in range(20_000):
        nested = tlv(tag, nested)
    head = bytes.fromhex("0400 0a0102 0a0100 020164 020100 010100")
    with pytest.raises(MalformedMessageError):
        decode(message(tlv(0x63, head, nested, b"\x30\x00")))


@given(st.binary(max_size=64))
def test_any_octets_decode_or_are_malformed(pdu: bytes) -> None:
    with contextlib.suppress(MalformedMessageError):
        assert 0 <= decode(pdu).message_id <= MAX_MESSAGE_ID


@given(st.data())
def test_any_damage_decodes_or_is_malformed(data: st.DataObject) -> None:
    pdu = bytearray(encode(1, "searchRequest", search(filter=("or", FILTERS))))
    for _ in range(data.draw(st.integers(1, 3))):
        pdu[data.draw(st.integers(0, len(pdu) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessageError):
        assert 0 <= decode(bytes(pdu)).message_id <= MAX_MESSAGE_ID


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("bindRequest", {"version": 3, "name": b"secret"}),
        ("bindResponse", result(0, serverSaslCreds=None)),
        ("searchResDone", {"resultCode": "secret"}),
        ("modifyRequest", b"secret"),
        ("unbindRequest", object),
    ],
)
def test_a_value_of_another_shape_is_the_caller_s_mistake(operation: str, value: Any) -> None:
    with pytest.raises(UsageError, match=operation) as caught:
        encode(1, operation, value)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_message_s_repr_shows_no_value() -> None:
    assert "pw" not in repr(Message(1, "bindRequest", {"simple": b"pw"}, ({"controlType": b"pw"},)))


def test_without_asn1tools_the_text_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asn1tools", None)
    ldap_messages._codec.cache_clear()
    with pytest.raises(MechanismUnavailableError, match=r"pip install 'saslwrap\[ldap\]'"):
        decode(UNBIND)
    with pytest.raises(MechanismUnavailableError):
        encode(1, "unbindRequest", None)
    monkeypatch.undo()
    assert decode(UNBIND).operation == "unbindRequest"


def test_the_schema_is_compiled_once() -> None:
    assert ldap_messages._codec() is ldap_messages._codec()


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("", None),
        ("30", None),
        ("3000", 2),
        ("307f", 129),
        ("3081", None),
        ("3081 80", 131),
        ("3084 000000", None),
        ("3084 00000005", 11),
        ("3082 fffb", 65535),
        ("3083 03fffa", 262143),
    ],
)
def test_measure(octets: str, expected: int | None) -> None:
    assert measure(bytes.fromhex(octets), LIMIT) == expected
    assert measure(bytearray.fromhex(octets), LIMIT) == expected
    assert measure(memoryview(bytes.fromhex(octets)), LIMIT) == expected


@pytest.mark.parametrize(
    ("octets", "certain_at", "text"),
    [
        ("3080", 2, "indefinite length; the limit is 262143"),
        ("3085 0000000001", 2, "a length in 5 octets; the limit is 262143"),
        ("30ff", 2, "a length in 127 octets"),
        ("3083 03fffb", 5, "of 262144 octets; the limit is 262143"),
        ("3083 040000", 3, "of at least 262149 octets; the limit is 262143"),
        ("3084 00040000", 4, "of at least 262150 octets; the limit is 262143"),
        ("3084 ffffffff", 3, "of at least 4278190086 octets; the limit is 262143"),
        ("3084 0003fffa", 6, "of 262144 octets; the limit is 262143"),
        ("160301", 1, "TLS"),
        ("1503", 1, "TLS"),
        ("00000013", 1, "SASL frame"),
        ("2a204f4b", 1, "text"),
        ("0d0a", 1, "text"),
        ("ff", 1, "0xff"),
    ],
)
def test_measure_refuses_as_soon_as_it_is_certain(octets: str, certain_at: int, text: str) -> None:
    data = bytes.fromhex(octets)
    for length in range(certain_at):
        assert measure(data[:length], LIMIT) is None
    with pytest.raises(ProtocolError, match=text):
        measure(data[:certain_at], LIMIT)
    with pytest.raises(ProtocolError, match=r"262143|expected"):
        measure(data, LIMIT)


def test_four_length_octets_of_ones_are_refused_when_they_are_there() -> None:
    with pytest.raises(ProtocolError, match="of 4294967301 octets; the limit is 262143"):
        measure(bytes.fromhex("3084 ffffffff"), LIMIT)


@given(st.binary(max_size=8), st.integers(2, 300))
def test_measure_never_changes_its_mind(data: bytes, limit: int) -> None:
    answers: list[int | str | None] = []
    for length in range(len(data) + 1):
        try:
            answers.append(measure(data[:length], limit))
        except ProtocolError:
            answers.append("refused")
    settled = [answer for answer in answers if answer is not None]
    assert len(set(settled)) <= 1
    assert answers == [None] * (len(answers) - len(settled)) + settled


# RFC 4511 section 4.1.9
RESULT_CODES = {
    "success": 0,
    "operationsError": 1,
    "protocolError": 2,
    "timeLimitExceeded": 3,
    "sizeLimitExceeded": 4,
    "compareFalse": 5,
    "compareTrue": 6,
    "authMethodNotSupported": 7,
    "strongerAuthRequired": 8,
    "referral": 10,
    "adminLimitExceeded": 11,
    "unavailableCriticalExtension": 12,
    "confidentialityRequired": 13,
    "saslBindInProgress": 14,
    "noSuchAttribute": 16,
    "undefinedAttributeType": 17,
    "inappropriateMatching": 18,
    "constraintViolation": 19,
    "attributeOrValueExists": 20,
    "invalidAttributeSyntax": 21,
    "noSuchObject": 32,
    "aliasProblem": 33,
    "invalidDNSyntax": 34,
    "aliasDereferencingProblem": 36,
    "inappropriateAuthentication": 48,
    "invalidCredentials": 49,
    "insufficientAccessRights": 50,
    "busy": 51,
    "unavailable": 52,
    "unwillingToPerform": 53,
    "loopDetect": 54,
    "namingViolation": 64,
    "objectClassViolation": 65,
    "notAllowedOnNonLeaf": 66,
    "notAllowedOnRDN": 67,
    "entryAlreadyExists": 68,
    "objectClassModsProhibited": 69,
    "affectsMultipleDSAs": 71,
    "other": 80,
}


def test_the_result_codes_are_those_of_the_rfc() -> None:
    assert {code.name: code.value for code in ResultCode} == RESULT_CODES
