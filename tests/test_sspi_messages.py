"""EncryptMessage, DecryptMessage, MakeSignature, VerifySignature: each buffer, each status."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saslwrap.mechanisms.digest_md5.context import DigestSealer, DigestUnsealer
from saslwrap.sspi import (
    SECBUFFER_READONLY,
    CtxtHandle,
    SecBuffer,
    SecBufferType,
    decrypt_message,
    encrypt_message,
    make_signature,
    verify_signature,
)
from saslwrap.testing.pairs import PROTECTIONS, connect_mechanisms, mechanism_pair
from tests.attacks.support import sealer_of
from tests.sspi_calls import (
    DATA,
    EMPTY,
    HEADER,
    INCOMPLETE,
    NO_SPACE,
    PADDING,
    STREAM,
    TOKEN,
    TRAILER,
    Buffers,
    check_untouched,
    confidential,
    each_protection,
    messages_for,
    no_memory,
    opened,
    pair,
    refused,
    sealed,
)
from tests.support import make_context as make_toy_context
from tests.test_digest_md5_vectors import (
    CASES,
    CLIENT_SAYS,
    EXTRA,
    SERVER_SAYS,
    context_of,
    logged_in_client,
    logged_in_server,
)


@each_protection
@pytest.mark.parametrize("side", ["client", "server"])
def test_encrypted_messages_open_with_unseal(protection: str, side: str) -> None:
    ends = pair(protection)
    sender, receiver = ends if side == "client" else ends[::-1]
    for message in messages_for(sender):
        assert receiver.unseal(sealed(sender, message)) == message


@each_protection
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("kind", [DATA, STREAM])
def test_sealed_messages_decrypt(protection: str, side: str, kind: int) -> None:
    ends = pair(protection)
    sender, receiver = ends if side == "client" else ends[::-1]
    for message in messages_for(sender):
        assert opened(receiver, sender.seal(message), kind) == message


@each_protection
def test_tokens_are_those_of_seal(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    for message in messages_for(ours):
        token = theirs.seal(message)
        buffers = [SecBuffer(DATA, bytearray(message)), SecBuffer(PADDING, bytearray(24))]
        encrypt_message(ours, 0, buffers, 0)
        assert buffers[0].data == token[: len(message)]
        assert buffers[1].data == token[len(message) :]


@given(st.lists(st.binary(max_size=100), max_size=8), st.sampled_from(PROTECTIONS))
def test_any_messages_come_through(messages: list[bytes], protection: str) -> None:
    client, server = pair(protection)
    assert [opened(server, sealed(client, message)) for message in messages] == messages


@each_protection
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_vectors(case: Any, protection: str) -> None:
    client = context_of(logged_in_client(case, protection))
    server = context_of(logged_in_server(case, protection))
    for sender, receiver, messages, name in [
        (client, server, CLIENT_SAYS, "c2s"),
        (server, client, SERVER_SAYS, "s2c"),
    ]:
        tokens = [bytes.fromhex(frame)[4:] for frame in case["layers"][protection][name]]
        assert [sealed(sender, message) for message in messages] == tokens
        assert [opened(receiver, token) for token in tokens] == messages


@pytest.mark.parametrize("protection", EXTRA["empty_message"]["c2s"])
def test_the_vectors_of_an_empty_message(protection: str) -> None:
    case = CASES[EXTRA["empty_message"]["case"]]
    token = bytes.fromhex(EXTRA["empty_message"]["c2s"][protection])[4:]
    assert sealed(context_of(logged_in_client(case, protection)), b"") == token
    assert opened(context_of(logged_in_server(case, protection)), token) == b""


def test_a_handle_stands_for_its_context() -> None:
    client, server = mechanism_pair("rc4")
    connect_mechanisms(client, server)
    ours, theirs = CtxtHandle(client), CtxtHandle(server)  # type: ignore[arg-type]
    assert opened(theirs, sealed(ours, b"message")) == b"message"


@each_protection
def test_the_documented_order_of_four(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    buffers = [
        SecBuffer(HEADER, bytearray(4)),
        SecBuffer(DATA, bytearray(b"message")),
        SecBuffer(TRAILER, bytearray(ours.stream_sizes.trailer)),
        SecBuffer(EMPTY, bytearray(4)),
    ]
    encrypt_message(ours, 0, buffers, 0)
    assert b"".join(buffer.data for buffer in buffers) == theirs.seal(b"message")


@each_protection
def test_buffers_that_need_no_memory(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    trailer = SecBuffer(TRAILER, bytearray(ours.stream_sizes.trailer))
    encrypt_message(ours, 0, [SecBuffer(HEADER), SecBuffer(DATA), trailer, SecBuffer(EMPTY)], 0)
    assert trailer.data == theirs.seal(b"")


@each_protection
def test_a_second_data_buffer_takes_the_signature(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(DATA, bytearray(24))]
    encrypt_message(ours, 0, buffers, 0)
    assert b"".join(buffer.data for buffer in buffers) == theirs.seal(b"message")


@each_protection
def test_readonly_buffers_are_not_processed(protection: str) -> None:
    ours, theirs = pair(protection).client, pair(protection).client
    aside = [
        SecBuffer(DATA | SECBUFFER_READONLY, b"left alone"),
        SecBuffer(PADDING, bytearray(b"as well"), readonly=True),
        SecBuffer(HEADER | SECBUFFER_READONLY, bytearray(b"this one too")),
        SecBuffer(EMPTY, bytearray(b"and this"), readonly=True),
    ]
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    encrypt_message(ours, 0, [*aside[:2], *buffers, *aside[2:]], 0)
    token = b"".join(buffer.data for buffer in buffers)
    assert token == theirs.seal(b"message")
    whole = SecBuffer(DATA, bytearray(token))
    decrypt_message(pair(protection).server, [*aside, whole], 0)
    assert bytes(whole.data) == b"message"
    assert [bytes(buffer.data) for buffer in aside] == [
        b"left alone",
        b"as well",
        b"this one too",
        b"and this",
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_an_empty_data_buffer_beside_a_stream_shows_the_message(order: int) -> None:
    client, server = pair("rc4")
    stream, data = SecBuffer(STREAM, bytearray(client.seal(b"message"))), SecBuffer(DATA)
    decrypt_message(server, [stream, SecBuffer(EMPTY), data][::order], 0)
    assert bytes(data.data) == bytes(stream.data) == b"message"


def test_success_without_a_message_is_normal() -> None:
    client, server = pair("3des")
    assert opened(server, client.seal(b"")) == b""
    assert opened(server, client.seal(b"next")) == b"next"


SIGNATURE_TYPES = [TOKEN, PADDING, DATA]


@pytest.mark.parametrize("kind", SIGNATURE_TYPES)
def test_message_and_signature_are_a_token(kind: SecBufferType) -> None:
    client, server = pair("auth-int")
    for message in messages_for(client):
        buffers = [SecBuffer(DATA, message), SecBuffer(kind, bytearray(20))]
        make_signature(client, 0, buffers, 0)
        assert buffers[0].data == message
        assert len(buffers[1].data) == 16
        assert server.unseal(message + bytes(buffers[1].data)) == message


@pytest.mark.parametrize("kind", SIGNATURE_TYPES)
def test_a_signature_is_verified(kind: SecBufferType) -> None:
    client, server = pair("auth-int")
    for message in messages_for(client):
        token = client.seal(message)
        buffers = [SecBuffer(DATA, message), SecBuffer(kind, token[-16:])]
        verify_signature(server, buffers, 0)
        assert [bytes(buffer.data) for buffer in buffers] == [message, token[-16:]]


def test_signing_is_encrypting_without_confidentiality() -> None:
    ours, theirs = pair("auth-int").client, pair("auth-int").client
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, bytearray(16))]
    make_signature(ours, 0, buffers, 0)
    assert sealed(theirs, b"message") == b"".join(buffer.data for buffer in buffers)


@pytest.mark.parametrize("place", range(16))
def test_each_octet_of_a_signature_counts(place: int) -> None:
    client, server = pair("auth-int")
    token = bytearray(client.seal(b"message"))
    token[7 + place] ^= 1
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, token[7:])]
    status = "SEC_E_OUT_OF_SEQUENCE" if place > 11 else "SEC_E_MESSAGE_ALTERED"
    refused(status, verify_signature, server, buffers, 0)
    assert server.failed


def test_a_signature_of_another_message_is_refused() -> None:
    client, server = pair("auth-int")
    buffers = [
        SecBuffer(DATA, bytearray(b"massage")),
        SecBuffer(TOKEN, client.seal(b"message")[7:]),
    ]
    refused("SEC_E_MESSAGE_ALTERED", verify_signature, server, buffers, 0)
    assert bytes(buffers[0].data) == b"massage"


@confidential
def test_nothing_is_only_signed_under_confidentiality(protection: str) -> None:
    client, _ = pair(protection)
    buffers = [SecBuffer(DATA, b"message"), SecBuffer(TOKEN, bytearray(16))]
    refused("SEC_E_QOP_NOT_SUPPORTED", make_signature, client, 0, buffers, 0)
    refused("SEC_E_QOP_NOT_SUPPORTED", verify_signature, client, buffers, 0)
    assert sealed(client, b"message") == pair(protection).client.seal(b"message")


def test_a_signed_message_over_our_maxbuf_is_refused() -> None:
    client, server = pair("auth-int", server_maxbuf=64)
    assert client.stream_sizes.maximum_message == 48
    buffers = [SecBuffer(DATA, bytes(49)), SecBuffer(TOKEN, bytes(16))]
    refused("SEC_E_BUFFER_TOO_SMALL", verify_signature, server, buffers, 0)
    assert server.failed


def calls(context: Any) -> list[tuple[Buffers, Callable[[], object]]]:
    """All four, as documented, each with its buffers."""
    made: list[tuple[Buffers, Callable[[], object]]] = []
    for call in (encrypt_message, make_signature):
        sealing = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
        made.append((sealing, partial(call, context, 0, sealing, 0)))
    token = [SecBuffer(DATA, bytearray(pair("auth-int").client.seal(b"message")))]
    made.append((token, partial(decrypt_message, context, token, 0)))
    signed = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(16))]
    made.append((signed, partial(verify_signature, context, signed, 0)))
    return made


def check_all_refused(status: str, context: Any) -> None:
    for buffers, call in calls(context):
        check_untouched(status, call, buffers=buffers)


@pytest.mark.parametrize("nothing", [None, 0, "context", object()])
def test_what_is_no_context_is_an_invalid_handle(nothing: object) -> None:
    check_all_refused("SEC_E_INVALID_HANDLE", nothing)


def test_a_login_that_is_not_complete_is_an_invalid_handle() -> None:
    client, server = mechanism_pair("rc4")
    check_all_refused("SEC_E_INVALID_HANDLE", CtxtHandle(client))  # type: ignore[arg-type]
    server.step(None)
    check_all_refused("SEC_E_INVALID_HANDLE", CtxtHandle(server))  # type: ignore[arg-type]


def test_a_login_without_a_layer_has_no_quality_of_protection() -> None:
    client, server = mechanism_pair("auth")
    connect_mechanisms(client, server)
    for mechanism in (client, server):
        handle = CtxtHandle(mechanism)  # type: ignore[arg-type]
        check_all_refused("SEC_E_QOP_NOT_SUPPORTED", handle)
        handle.close()
        check_all_refused("SEC_E_QOP_NOT_SUPPORTED", handle)


def test_a_context_of_another_mechanism_is_not_for_this_package() -> None:
    check_all_refused("SEC_E_UNSUPPORTED_FUNCTION", make_toy_context())


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "3des"])
def test_a_closed_context_has_expired(protection: str) -> None:
    client, server = mechanism_pair(protection)
    connect_mechanisms(client, server)
    handle = CtxtHandle(client)  # type: ignore[arg-type]
    handle.close()
    handle.close()
    assert server.context is not None
    server.context.close()
    for closed in (handle, handle.context, server.context):
        for buffers, call in calls(closed)[:: 2 if protection != "auth-int" else 1]:
            check_untouched("SEC_E_CONTEXT_EXPIRED", call, buffers=buffers)


@each_protection
def test_an_altered_message_ends_the_context_and_is_wiped(protection: str) -> None:
    token = pair(protection).client.seal(b"message of some length")
    for place in range(len(token)):
        server = pair(protection).server
        memory = bytearray(token)
        memory[place] ^= 0x80
        buffer = SecBuffer(DATA, memory)
        status = "SEC_E_OUT_OF_SEQUENCE" if place >= len(token) - 4 else "SEC_E_MESSAGE_ALTERED"
        error = refused(status, decrypt_message, server, [buffer], 0)
        assert not any(memory[:-6])
        assert server.failed
        again = SecBuffer(DATA, bytearray(token))
        assert str(refused(status, decrypt_message, server, [again], 0)) == str(error)
        assert again.data == token
        pad = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
        check_untouched(status, encrypt_message, server, 0, pad, 0, buffers=pad)


@each_protection
def test_a_replayed_message_is_out_of_sequence(protection: str) -> None:
    client, server = pair(protection)
    token = client.seal(b"message")
    assert opened(server, token) == b"message"
    memory = bytearray(token)
    refused("SEC_E_OUT_OF_SEQUENCE", decrypt_message, server, [SecBuffer(DATA, memory)], 0)
    assert not any(memory[:-6])


@each_protection
def test_what_is_shorter_than_any_token_is_incomplete(protection: str) -> None:
    client, server = pair(protection)
    token = client.seal(b"")
    for length in range(len(token)):
        buffer = SecBuffer(STREAM, bytearray(token[:length]))
        check_untouched(INCOMPLETE, decrypt_message, server, [buffer], 0, buffers=[buffer])
    assert not server.failed
    assert opened(server, token) == b""


@each_protection
def test_a_token_over_our_maxbuf_does_not_fit_our_buffer(protection: str) -> None:
    _, server = pair(protection, server_maxbuf=64)
    buffer = SecBuffer(DATA, bytearray(65))
    refused(NO_SPACE, decrypt_message, server, [buffer], 0)
    refused(NO_SPACE, decrypt_message, server, [buffer], 0)
    assert server.failed


@each_protection
def test_without_memory_for_sealing(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = pair(protection)
    monkeypatch.setattr(DigestSealer, "_mac", no_memory)
    buffers = [SecBuffer(DATA, bytearray(b"message")), SecBuffer(PADDING, bytearray(24))]
    call = partial(encrypt_message, client, 0, buffers, 0)
    check_untouched("SEC_E_INSUFFICIENT_MEMORY", call, buffers=buffers)
    monkeypatch.undo()
    assert "connect anew" in str(refused("SEC_E_INTERNAL_ERROR", call))


@each_protection
def test_without_memory_for_opening(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard: what was deciphered and not yet authenticated does not stay behind."""
    client, server = pair(protection)
    buffer = SecBuffer(DATA, bytearray(client.seal(b"message")))
    monkeypatch.setattr(DigestUnsealer, "_authenticate", no_memory)
    refused("SEC_E_INSUFFICIENT_MEMORY", decrypt_message, server, [buffer], 0)
    assert not any(buffer.data[:-6])
    assert server.failed


def test_other_exceptions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    client, _ = pair("rc4")
    monkeypatch.setattr(DigestSealer, "_mac", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sealed(client, b"message")


def test_the_end_of_the_sequence_numbers() -> None:
    client, _ = pair("rc4")
    sealer_of(client)._number = 1 << 32
    memory = bytearray(b"message")
    buffers = [SecBuffer(DATA, memory), SecBuffer(PADDING, bytearray(24))]
    refused("SEC_E_UNSUPPORTED_FUNCTION", encrypt_message, client, 0, buffers, 0)
    assert memory == b"message"
