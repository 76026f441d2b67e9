"""QueryContextAttributes, the structures, and their numbers."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import saslwrap
from saslwrap.errors import SecurityStatus
from saslwrap.properties import Sizes, StreamSizes
from saslwrap.sspi import (
    SECBUFFER_READONLY,
    AscReq,
    CtxtHandle,
    IscReq,
    KeyInfo,
    SecBuffer,
    SecBufferType,
    SecPkgAttr,
    SecPkgInfo,
    SSPIError,
    initialize_security_context,
    query_context_attributes,
)
from saslwrap.testing.pairs import PROTECTIONS, USERNAME, context_pair
from tests.sspi_calls import refused
from tests.support import make_context as make_toy_context
from tests.test_sspi_negotiation import ALICE, ALL, TARGET, logged_in

SIZES: Final = SecPkgAttr.SECPKG_ATTR_SIZES
STREAM_SIZES: Final = SecPkgAttr.SECPKG_ATTR_STREAM_SIZES
KEY_INFO: Final = SecPkgAttr.SECPKG_ATTR_KEY_INFO
PACKAGE_INFO: Final = SecPkgAttr.SECPKG_ATTR_PACKAGE_INFO
NAMES: Final = SecPkgAttr.SECPKG_ATTR_NAMES
FLAGS: Final = SecPkgAttr.SECPKG_ATTR_FLAGS

KEYS = {
    "auth-int": KeyInfo("HMAC-MD5", "", 128, 0x8009, 0),
    "rc4": KeyInfo("HMAC-MD5", "RC4", 128, 0x8009, 0x6801),
    "rc4-56": KeyInfo("HMAC-MD5", "RC4", 56, 0x8009, 0x6801),
    "rc4-40": KeyInfo("HMAC-MD5", "RC4", 40, 0x8009, 0x6801),
    "des": KeyInfo("HMAC-MD5", "DES", 56, 0x8009, 0x6601),
    "3des": KeyInfo("HMAC-MD5", "3DES", 112, 0x8009, 0x6609),
}


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_what_a_context_says(protection: str) -> None:
    block = 8 if protection in ("des", "3des") else 1
    trailer, maximum = (24, 65517) if block == 8 else (16, 65520)
    handles = logged_in(protection)
    for context in (*handles, *context_pair(protection)):
        assert query_context_attributes(context, SIZES) == Sizes(4096, 16, block, trailer)
        expected = StreamSizes(0, trailer, maximum, 2, block)
        assert query_context_attributes(context, STREAM_SIZES) == expected
        assert query_context_attributes(context, KEY_INFO) == KEYS[protection]
        package = query_context_attributes(context, PACKAGE_INFO)
        assert package == SecPkgInfo(0x10013, 1, 21, 4096, "WDigest", "DIGEST-MD5 (RFC 2831)")
    for handle in handles:
        assert query_context_attributes(handle, NAMES) == USERNAME


@pytest.mark.parametrize("protection", ALL)
def test_the_flags_are_what_the_login_got(protection: str) -> None:
    ours, theirs = (query_context_attributes(handle, FLAGS) for handle in logged_in(protection))
    integrity, confidentiality = protection != "auth", protection not in ("auth", "auth-int")
    assert isinstance(ours, IscReq)
    assert isinstance(theirs, AscReq)
    assert ours == 0x2 | integrity * 0x1000C | confidentiality * 0x10
    assert theirs == 0x2 | integrity * 0x2000C | confidentiality * 0x10


def test_what_a_login_without_a_layer_says() -> None:
    for handle in logged_in("auth"):
        assert query_context_attributes(handle, SIZES) == Sizes(4096, 0, 0, 0)
        assert query_context_attributes(handle, PACKAGE_INFO).name == "WDigest"
        assert query_context_attributes(handle, NAMES) == USERNAME
        for attribute in (STREAM_SIZES, KEY_INFO):
            refused("SEC_E_QOP_NOT_SUPPORTED", query_context_attributes, handle, attribute)


@pytest.mark.parametrize("attribute", SecPkgAttr)
def test_there_is_nothing_to_say_before_the_end_of_the_login(attribute: SecPkgAttr) -> None:
    _, handle, _ = initialize_security_context(ALICE, None, TARGET, 0, None)
    refused("SEC_E_INVALID_HANDLE", query_context_attributes, handle, attribute)
    refused("SEC_E_INVALID_HANDLE", query_context_attributes, None, attribute)


@pytest.mark.parametrize("attribute", SecPkgAttr)
def test_contexts_of_other_mechanisms_are_not_asked(attribute: SecPkgAttr) -> None:
    toy = make_toy_context()
    refused("SEC_E_UNSUPPORTED_FUNCTION", query_context_attributes, toy, attribute)


@pytest.mark.parametrize("attribute", [NAMES, FLAGS])
def test_a_bare_context_does_not_know_its_login(attribute: SecPkgAttr) -> None:
    context, _ = context_pair("rc4")
    error = refused("SEC_E_UNSUPPORTED_FUNCTION", query_context_attributes, context, attribute)
    assert "CtxtHandle(mechanism)" in str(error)


@pytest.mark.parametrize("attribute", [2, 9, 18, -1])
def test_other_attributes(attribute: int) -> None:
    for handle in logged_in("rc4"):
        refused("SEC_E_UNSUPPORTED_FUNCTION", query_context_attributes, handle, attribute)


def test_a_closed_context_answers() -> None:
    ours, _ = logged_in("rc4")
    ours.close()
    assert query_context_attributes(ours, SIZES).max_signature == 16
    assert query_context_attributes(ours, 1) == USERNAME


# ---------------------------------------------------------------- numbers of sspi.h

NUMBERS = {
    SecBufferType: {
        "SECBUFFER_EMPTY": 0,
        "SECBUFFER_DATA": 1,
        "SECBUFFER_TOKEN": 2,
        "SECBUFFER_PKG_PARAMS": 3,
        "SECBUFFER_MISSING": 4,
        "SECBUFFER_EXTRA": 5,
        "SECBUFFER_STREAM_TRAILER": 6,
        "SECBUFFER_STREAM_HEADER": 7,
        "SECBUFFER_NEGOTIATION_INFO": 8,
        "SECBUFFER_PADDING": 9,
        "SECBUFFER_STREAM": 10,
        "SECBUFFER_MECHLIST": 11,
        "SECBUFFER_MECHLIST_SIGNATURE": 12,
        "SECBUFFER_TARGET": 13,
        "SECBUFFER_CHANNEL_BINDINGS": 14,
        "SECBUFFER_CHANGE_PASS_RESPONSE": 15,
        "SECBUFFER_TARGET_HOST": 16,
        "SECBUFFER_ALERT": 17,
    },
    SecPkgAttr: {
        "SECPKG_ATTR_SIZES": 0,
        "SECPKG_ATTR_NAMES": 1,
        "SECPKG_ATTR_STREAM_SIZES": 4,
        "SECPKG_ATTR_KEY_INFO": 5,
        "SECPKG_ATTR_PACKAGE_INFO": 10,
        "SECPKG_ATTR_FLAGS": 14,
    },
    IscReq: {
        "ISC_REQ_DELEGATE": 0x1,
        "ISC_REQ_MUTUAL_AUTH": 0x2,
        "ISC_REQ_REPLAY_DETECT": 0x4,
        "ISC_REQ_SEQUENCE_DETECT": 0x8,
        "ISC_REQ_CONFIDENTIALITY": 0x10,
        "ISC_REQ_PROMPT_FOR_CREDS": 0x40,
        "ISC_REQ_ALLOCATE_MEMORY": 0x100,
        "ISC_REQ_CONNECTION": 0x800,
        "ISC_REQ_EXTENDED_ERROR": 0x4000,
        "ISC_REQ_STREAM": 0x8000,
        "ISC_REQ_INTEGRITY": 0x10000,
        "ISC_REQ_HTTP": 0x10000000,
    },
    AscReq: {
        "ASC_REQ_DELEGATE": 0x1,
        "ASC_REQ_MUTUAL_AUTH": 0x2,
        "ASC_REQ_REPLAY_DETECT": 0x4,
        "ASC_REQ_SEQUENCE_DETECT": 0x8,
        "ASC_REQ_CONFIDENTIALITY": 0x10,
        "ASC_REQ_ALLOCATE_MEMORY": 0x100,
        "ASC_REQ_CONNECTION": 0x800,
        "ASC_REQ_EXTENDED_ERROR": 0x8000,
        "ASC_REQ_STREAM": 0x10000,
        "ASC_REQ_INTEGRITY": 0x20000,
        "ASC_REQ_PROXY_BINDINGS": 0x4000000,
        "ASC_REQ_ALLOW_MISSING_BINDINGS": 0x10000000,
    },
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_names_and_numbers_are_those_of_sspi_h(
    kind: type[SecBufferType | SecPkgAttr | IscReq | AscReq],
) -> None:
    assert {name: int(member) for name, member in kind.__members__.items()} == NUMBERS[kind]


# ---------------------------------------------------------------- SecBuffer

DATA = SecBufferType.SECBUFFER_DATA


def test_the_flag_stands_beside_the_type_or_by_itself() -> None:
    for buffer in (
        SecBuffer(DATA, b"x", readonly=True),
        SecBuffer(DATA | SECBUFFER_READONLY, b"x"),
    ):
        assert (buffer.type, buffer.readonly) == (DATA, True)
        assert repr(buffer) == "<SecBuffer SECBUFFER_DATA readonly, 1 octets>"
    assert SECBUFFER_READONLY == 0x80000000
    assert not SecBuffer(DATA, b"x").readonly


def test_the_repr_shows_no_content() -> None:
    assert repr(SecBuffer(1, b"secret")) == "<SecBuffer SECBUFFER_DATA, 6 octets>"


@pytest.mark.parametrize("kind", [18, 99, 0x8000_0063, -1])
def test_a_type_that_there_is_not(kind: int) -> None:
    with pytest.raises(SSPIError) as caught:
        SecBuffer(kind, b"")
    assert caught.value.status is SecurityStatus.SEC_E_INVALID_TOKEN


@pytest.mark.parametrize("data", ["text", 5, memoryview(b"with gaps")[::2]])
def test_what_is_no_contiguous_memory(data: object) -> None:
    with pytest.raises(TypeError):
        SecBuffer(DATA, data)  # type: ignore[arg-type]


def test_data_can_be_set_anew() -> None:
    memory = bytearray(b"message")
    buffer = SecBuffer(DATA, memory)
    buffer.data = buffer.data[:4]
    assert bytes(buffer.data) == b"mess"
    buffer.data = memory
    assert buffer.data.obj is memory
    buffer.data = None
    assert bytes(buffer.data) == b""


# ---------------------------------------------------------------- the module


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_an_error_can_be_copied_and_pickled(duplicate: object) -> None:
    error = SSPIError("what happened", SecurityStatus.SEC_E_INVALID_TOKEN)
    assert callable(duplicate)
    twin = duplicate(error)
    assert str(twin) == str(error) == "what happened (SEC_E_INVALID_TOKEN)"
    assert twin.status is error.status
    assert SSPIError("what").status is SecurityStatus.SEC_E_INTERNAL_ERROR


def test_it_pulls_in_no_shell_and_no_extra() -> None:
    code = """
import sys, saslwrap.sspi
print(*{"anyio", "asyncio", "socket", "asn1tools", "spnego", "pytest"} & set(sys.modules))
"""
    root = Path(saslwrap.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == ""


def test_a_handle_is_made_of_any_mechanism() -> None:
    ours, _ = logged_in("rc4")
    assert CtxtHandle(ours.mechanism).context is ours.context
