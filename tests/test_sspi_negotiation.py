"""InitializeSecurityContext and AcceptSecurityContext, against each other and the mechanisms."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import saslwrap
from saslwrap import (
    DigestMD5Client,
    DigestMD5Secret,
    DigestMD5Server,
    SecurityContext,
    UsageError,
)
from saslwrap.errors import SASLError, SecurityStatus
from saslwrap.mechanisms.digest_md5 import ciphers
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.properties import CIPHER_NAMES
from saslwrap.sspi import (
    AscReq,
    CtxtHandle,
    InboundCredential,
    IscReq,
    OutboundCredential,
    SSPIError,
    accept_security_context,
    encrypt_message,
    initialize_security_context,
)
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.pairs import (
    HOST,
    PASSWORD,
    PROTECTIONS,
    REALM,
    USERNAME,
    get_secret,
    properties_for,
)
from tests.sspi_calls import opened, refused, sealed
from tests.test_context import exposed

OK = SecurityStatus.SEC_E_OK
CONTINUE = SecurityStatus.SEC_I_CONTINUE_NEEDED

TARGET = f"ldap/{HOST}"
ALICE = OutboundCredential(USERNAME, REALM, PASSWORD)
SERVICE = InboundCredential(get_secret, "ldap", HOST, [REALM])

ALL = ("auth", *PROTECTIONS)


def qop_of(protection: str) -> str:
    return protection if protection.startswith("auth") else "auth-conf"


ISC: dict[str, int] = {
    "auth": 0,
    "auth-int": IscReq.ISC_REQ_INTEGRITY,
    "auth-conf": IscReq.ISC_REQ_CONFIDENTIALITY,
}
ASC: dict[str, int] = {
    "auth": 0,
    "auth-int": AscReq.ASC_REQ_INTEGRITY,
    "auth-conf": AscReq.ASC_REQ_CONFIDENTIALITY,
}


def only(protection: str) -> dict[str, Any]:
    return {"ciphers": (protection,)} if protection in CIPHER_NAMES else {}


def client_of(protection: str) -> tuple[OutboundCredential, None, str, int]:
    credential = OutboundCredential(USERNAME, REALM, PASSWORD, **only(protection))
    return credential, None, TARGET, ISC[qop_of(protection)]


def log_in(
    client: tuple[Any, None, str, int], server: InboundCredential, asc: int
) -> tuple[CtxtHandle, CtxtHandle]:
    """The sequence of calls as the documentation has it."""
    status, theirs, token = accept_security_context(server, None, None, asc)
    assert status is CONTINUE
    assert token
    status, ours, token = initialize_security_context(*client, token)
    assert status is CONTINUE
    assert not ours.complete
    status, theirs, token = accept_security_context(None, theirs, token, 0)
    assert status is OK
    status, ours, token = initialize_security_context(None, ours, None, 0, token)
    assert (status, token) == (OK, None)
    return ours, theirs


def logged_in(protection: str) -> tuple[CtxtHandle, CtxtHandle]:
    server = InboundCredential(get_secret, "ldap", HOST, [REALM], **only(protection))
    return log_in(client_of(protection), server, ASC[qop_of(protection)])


def check_handle(handle: CtxtHandle, protection: str) -> None:
    assert handle.complete
    if protection == "auth":
        assert handle.context is None
        return
    assert isinstance(handle.context, SecurityContext)
    assert handle.context.qop == qop_of(protection)
    assert handle.context.cipher == (protection if protection in CIPHER_NAMES else None)


@pytest.mark.parametrize("protection", ALL)
def test_both_calls_log_in_to_each_other(protection: str) -> None:
    ours, theirs = logged_in(protection)
    check_handle(ours, protection)
    check_handle(theirs, protection)
    if protection != "auth":
        assert opened(theirs, sealed(ours, b"message")) == b"message"
        assert opened(ours, sealed(theirs, b"answer")) == b"answer"


@pytest.mark.parametrize("protection", ALL)
def test_the_client_s_call_logs_in_to_a_server_mechanism(protection: str) -> None:
    server = DigestMD5Server(
        get_secret,
        service="ldap",
        host=HOST,
        realms=[REALM],
        properties=properties_for(protection),
    )
    status, ours, token = initialize_security_context(*client_of(protection), None)
    assert (status, token) == (CONTINUE, None)
    while status is CONTINUE:
        token = server.step(token)
        status, ours, token = initialize_security_context(None, ours, None, 0, token)
    check_handle(ours, protection)
    if server.context:
        assert server.context.unseal(sealed(ours, b"message")) == b"message"
        assert opened(ours, server.context.seal(b"answer")) == b"answer"


@pytest.mark.parametrize("protection", ALL)
def test_a_client_mechanism_logs_in_to_the_server_s_call(protection: str) -> None:
    client = DigestMD5Client(
        USERNAME, PASSWORD, service="ldap", host=HOST, properties=properties_for(protection)
    )
    credential = InboundCredential(get_secret, "ldap", HOST, [REALM], **only(protection))
    status, theirs, token = accept_security_context(credential, None, b"", ASC[qop_of(protection)])
    while not client.complete:
        token = client.step(token)
        if token is not None:
            status, theirs, token = accept_security_context(None, theirs, token, 0)
    assert status is OK
    check_handle(theirs, protection)
    if client.context:
        assert opened(theirs, client.context.seal(b"message")) == b"message"
        assert client.context.unseal(sealed(theirs, b"answer")) == b"answer"


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_tokens_come_in_any_buffer(buffer: Callable[[bytes], bytes]) -> None:
    _, theirs, challenge = accept_security_context(SERVICE, None, buffer(b""), 0)
    assert challenge
    _, ours, token = initialize_security_context(ALICE, None, TARGET, 0, buffer(challenge))
    assert token
    status, theirs, token = accept_security_context(None, theirs, buffer(token), 0)
    assert token
    assert status is OK
    assert initialize_security_context(None, ours, None, 0, buffer(token))[0] is OK


# ---------------------------------------------------------------- flags

AT_CLIENT = {
    "none": (0, "auth"),
    "mutual": (IscReq.ISC_REQ_MUTUAL_AUTH, "auth"),
    "not of interest": (
        IscReq.ISC_REQ_ALLOCATE_MEMORY
        | IscReq.ISC_REQ_CONNECTION
        | IscReq.ISC_REQ_STREAM
        | IscReq.ISC_REQ_EXTENDED_ERROR,
        "auth",
    ),
    "replay": (IscReq.ISC_REQ_REPLAY_DETECT, "auth-int"),
    "sequence": (IscReq.ISC_REQ_SEQUENCE_DETECT, "auth-int"),
    "integrity": (IscReq.ISC_REQ_INTEGRITY, "auth-int"),
    "confidentiality": (IscReq.ISC_REQ_CONFIDENTIALITY, "auth-conf"),
    "both": (IscReq.ISC_REQ_CONFIDENTIALITY | IscReq.ISC_REQ_INTEGRITY, "auth-conf"),
    "a number": (0x10 | 0x8, "auth-conf"),
}

AT_SERVER = {
    "none": (0, "auth"),
    "mutual": (AscReq.ASC_REQ_MUTUAL_AUTH, "auth"),
    "not of interest": (
        AscReq.ASC_REQ_ALLOCATE_MEMORY
        | AscReq.ASC_REQ_CONNECTION
        | AscReq.ASC_REQ_STREAM
        | AscReq.ASC_REQ_EXTENDED_ERROR
        | AscReq.ASC_REQ_ALLOW_MISSING_BINDINGS,
        "auth",
    ),
    "replay": (AscReq.ASC_REQ_REPLAY_DETECT, "auth-int"),
    "sequence": (AscReq.ASC_REQ_SEQUENCE_DETECT, "auth-int"),
    "integrity": (AscReq.ASC_REQ_INTEGRITY, "auth-int"),
    "confidentiality": (AscReq.ASC_REQ_CONFIDENTIALITY, "auth-conf"),
    "both": (AscReq.ASC_REQ_CONFIDENTIALITY | AscReq.ASC_REQ_INTEGRITY, "auth-conf"),
    "a number": (0x10 | 0x8, "auth-conf"),
    "the client's integrity": (0x10000, "auth"),
}


@pytest.mark.parametrize(("flags", "qop"), AT_CLIENT.values(), ids=list(AT_CLIENT))
def test_the_client_s_flags_choose_what_it_takes(flags: int, qop: str) -> None:
    offer = (
        b'realm="example.com",nonce="n0nce",qop="auth,auth-int,auth-conf",'
        b'cipher="rc4,3des,des",algorithm=md5-sess,charset=utf-8'
    )
    status, _, token = initialize_security_context(ALICE, None, TARGET, flags, offer)
    assert status is CONTINUE
    assert token
    assert parse_directives(token, 4096).required("qop") == qop.encode()


@pytest.mark.parametrize(("flags", "qop"), AT_SERVER.values(), ids=list(AT_SERVER))
def test_the_server_s_flags_choose_what_it_offers(flags: int, qop: str) -> None:
    _, _, challenge = accept_security_context(SERVICE, None, None, flags)
    assert challenge
    assert parse_directives(challenge, 2048).required("qop") == qop.encode()


@pytest.mark.parametrize(("ours", "theirs"), [(a, b) for a in ISC for b in ASC if a != b])
def test_sides_that_require_different_things_do_not_meet(ours: str, theirs: str) -> None:
    _, _, challenge = accept_security_context(SERVICE, None, None, ASC[theirs])
    call = initialize_security_context, ALICE, None, TARGET, ISC[ours], challenge
    refused("SEC_E_ALGORITHM_MISMATCH", *call)


@pytest.mark.parametrize(
    "flag",
    [IscReq.ISC_REQ_DELEGATE, IscReq.ISC_REQ_PROMPT_FOR_CREDS, IscReq.ISC_REQ_HTTP],
)
def test_what_a_client_cannot_have(flag: int) -> None:
    call = initialize_security_context, ALICE, None, TARGET, flag | 0x10, None
    refused("SEC_E_UNSUPPORTED_FUNCTION", *call)


@pytest.mark.parametrize("flag", [AscReq.ASC_REQ_DELEGATE, AscReq.ASC_REQ_PROXY_BINDINGS])
def test_what_a_server_cannot_have(flag: int) -> None:
    refused("SEC_E_SECURITY_QOS_FAILED", accept_security_context, SERVICE, None, None, flag)


# ---------------------------------------------------------------- names and credentials


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("ldap/dc.example.com", b"ldap/dc.example.com"),
        ("LDAP/DC1.example.com/example.com", b"LDAP/DC1.example.com/example.com"),
    ],
)
def test_the_target_name_becomes_the_digest_uri(target: str, uri: bytes) -> None:
    challenge = b'nonce="n0nce",qop="auth",algorithm=md5-sess,charset=utf-8'
    _, _, token = initialize_security_context(ALICE, None, target, 0, challenge)
    assert token
    assert parse_directives(token, 4096).required("digest-uri") == uri


@pytest.mark.parametrize(
    "target",
    [None, "", "ldap", "ldap/", "/host", "ldap/a/b/c", "ldap/a b", "l dap/host", "ldap/a/"],
)
def test_what_is_no_target_name(target: str | None) -> None:
    call = initialize_security_context, ALICE, None, target, 0, None
    refused("SEC_E_TARGET_UNKNOWN", *call)


@pytest.mark.parametrize("domain", [None, ""])
def test_without_a_domain_the_server_s_realm_is_taken(domain: str | None) -> None:
    client = OutboundCredential(USERNAME, domain, PASSWORD), None, TARGET, 0
    _, theirs = log_in(client, SERVICE, 0)
    assert isinstance(theirs.mechanism, DigestMD5Server)
    assert theirs.mechanism.realm == REALM


def test_a_stored_hash_serves_as_well() -> None:
    secret = DigestMD5Secret.from_password(USERNAME, REALM, PASSWORD)
    log_in(client_of("auth"), InboundCredential(lambda *_: secret, "ldap", HOST, [REALM]), 0)


@pytest.mark.parametrize("credential", [None, SERVICE, "alice"])
def test_a_client_needs_its_credential(credential: Any) -> None:
    call = initialize_security_context, credential, None, TARGET, 0, None
    refused("SEC_E_NO_CREDENTIALS", *call)


@pytest.mark.parametrize("credential", [None, ALICE, "service"])
def test_a_server_needs_its_credential(credential: Any) -> None:
    refused("SEC_E_NO_CREDENTIALS", accept_security_context, credential, None, None, 0)


def test_credentials_that_cannot_be_sent() -> None:
    for wrong in [
        OutboundCredential("", None, PASSWORD),
        OutboundCredential("al\0ice", None, PASSWORD),
        OutboundCredential(USERNAME, "\n", PASSWORD),
        OutboundCredential(USERNAME, REALM, "\ud800"),
        OutboundCredential(USERNAME, REALM, PASSWORD, ciphers=("rot13",)),
        OutboundCredential(USERNAME, REALM, PASSWORD, max_buffer=1),
    ]:
        call = initialize_security_context, wrong, None, TARGET, 0x10, None
        refused("SEC_E_NO_CREDENTIALS", *call)
    for wrong_server in [
        InboundCredential(get_secret, "ldap", "no host", [REALM]),
        InboundCredential(get_secret, "ldap", HOST, (realm for realm in [REALM])),  # type: ignore[arg-type]
    ]:
        refused("SEC_E_NO_CREDENTIALS", accept_security_context, wrong_server, None, None, 0)


def test_sizes_and_ciphers_are_the_credential_s() -> None:
    client = OutboundCredential(USERNAME, REALM, PASSWORD, ("des",), 1000), None, TARGET, 0x10
    server = InboundCredential(get_secret, "ldap", HOST, [REALM], ("rc4-40", "des"), 2000)
    for handle, local, peer in zip(
        log_in(client, server, 0x10), (1000, 2000), (2000, 1000), strict=True
    ):
        assert handle.context
        assert handle.context.cipher == "des"
        assert (handle.context.local_maxbuf, handle.context.peer_maxbuf) == (local, peer)


def test_no_secret_shows() -> None:
    assert PASSWORD not in repr(ALICE)
    wrong = OutboundCredential("al\0ice", None, PASSWORD)
    error = refused(
        "SEC_E_NO_CREDENTIALS", initialize_security_context, wrong, None, TARGET, 0, None
    )
    assert exposed(error, PASSWORD.encode()) == []
    assert shows(PASSWORD.encode(), *kept_by(error, ("tests.", "_pytest"))) == []


# ---------------------------------------------------------------- failures


def test_a_wrong_password_is_denied_for_good() -> None:
    _, theirs, challenge = accept_security_context(SERVICE, None, None, 0)
    wrong = OutboundCredential(USERNAME, REALM, "wrong")
    _, _, token = initialize_security_context(wrong, None, TARGET, 0, challenge)
    error = refused("SEC_E_LOGON_DENIED", accept_security_context, None, theirs, token, 0)
    again = refused("SEC_E_LOGON_DENIED", accept_security_context, None, theirs, token, 0)
    assert str(again) == str(error)
    refused("SEC_E_LOGON_DENIED", encrypt_message, theirs, 0, [], 0)


def test_a_server_that_does_not_prove_itself() -> None:
    _, _, challenge = accept_security_context(SERVICE, None, None, 0)
    _, ours, _ = initialize_security_context(ALICE, None, TARGET, 0, challenge)
    forged = b"rspauth=" + b"0" * 32
    call = initialize_security_context, None, ours, None, 0, forged
    refused("SEC_E_MUTUAL_AUTH_FAILED", *call)
    refused("SEC_E_MUTUAL_AUTH_FAILED", encrypt_message, ours, 0, [], 0)


@pytest.mark.parametrize("token", [b"garbage", b'nonce="', b"qop=auth"])
def test_a_malformed_token(token: bytes) -> None:
    refused("SEC_E_INVALID_TOKEN", initialize_security_context, ALICE, None, TARGET, 0, token)
    _, theirs, _ = accept_security_context(SERVICE, None, None, 0)
    refused("SEC_E_INVALID_TOKEN", accept_security_context, None, theirs, token, 0)


def test_no_token_in_answer_to_a_challenge() -> None:
    _, theirs, _ = accept_security_context(SERVICE, None, None, 0)
    refused("SEC_E_INVALID_TOKEN", accept_security_context, None, theirs, b"", 0)


def test_a_login_that_is_complete_takes_no_more() -> None:
    ours, theirs = logged_in("rc4")
    refused("SEC_E_LOGON_DENIED", initialize_security_context, None, ours, None, 0, b"more")
    refused("SEC_E_LOGON_DENIED", accept_security_context, None, theirs, b"more", 0)
    assert opened(theirs, sealed(ours, b"message")) == b"message"


def test_handles_of_the_other_side_or_of_nobody() -> None:
    _, theirs, _ = accept_security_context(SERVICE, None, None, 0)
    _, ours, _ = initialize_security_context(ALICE, None, TARGET, 0, None)
    for wrong in (theirs, logged_in("rc4")[0].context, "handle", 0):
        call = initialize_security_context, ALICE, wrong, TARGET, 0, None
        refused("SEC_E_INVALID_HANDLE", *call)
    for wrong in (ours, logged_in("rc4")[0].context, "handle", 0):
        refused("SEC_E_INVALID_HANDLE", accept_security_context, SERVICE, wrong, None, 0)


def test_a_store_without_memory() -> None:
    def exhausted(username: str, realm: str) -> str:
        raise MemoryError

    server = InboundCredential(exhausted, "ldap", HOST, [REALM])
    _, theirs, challenge = accept_security_context(server, None, None, 0)
    _, _, token = initialize_security_context(ALICE, None, TARGET, 0, challenge)
    refused("SEC_E_INSUFFICIENT_MEMORY", accept_security_context, None, theirs, token, 0)
    refused("SEC_E_INSUFFICIENT_MEMORY", encrypt_message, theirs, 0, [], 0)


def test_a_store_that_breaks_its_contract() -> None:
    server = InboundCredential(lambda *_: 5, "ldap", HOST, [REALM])  # type: ignore[arg-type]
    _, theirs, challenge = accept_security_context(server, None, None, 0)
    _, _, token = initialize_security_context(ALICE, None, TARGET, 0, challenge)
    refused("SEC_E_UNSUPPORTED_FUNCTION", accept_security_context, None, theirs, token, 0)


@pytest.fixture
def without_rc4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ciphers._works

    def works(spec: ciphers.CipherSpec) -> bool:
        return not spec.name.startswith("rc4") and real(spec)

    monkeypatch.setattr(ciphers, "_works", works)


@pytest.mark.usefixtures("without_rc4")
def test_a_cipher_that_openssl_lacks_is_told_by_every_call() -> None:
    """The login meets it, and the messages' calls, on the handle that is left, tell of it."""
    rc4 = OutboundCredential(USERNAME, REALM, PASSWORD, ("rc4",))
    _, ours, _ = initialize_security_context(rc4, None, TARGET, 0x10, None)
    offer = b'nonce="n0nce",qop="auth-conf",cipher="rc4",algorithm=md5-sess,charset=utf-8'
    status = "SEC_E_CRYPTO_SYSTEM_INVALID"
    error = refused(status, initialize_security_context, None, ours, None, 0, offer)
    assert "lacks the cipher for auth-conf (rc4)" in str(error)
    assert str(refused(status, encrypt_message, ours, 0, [], 0)) == str(error)
    server = InboundCredential(get_secret, "ldap", HOST, [REALM], ("rc4",))
    refused(status, accept_security_context, server, None, None, 0x10)


def test_without_md5_there_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr(hashlib, "md5", refuse)
    status = "SEC_E_CRYPTO_SYSTEM_INVALID"
    refused(status, initialize_security_context, ALICE, None, TARGET, 0, None)
    refused(status, accept_security_context, SERVICE, None, None, 0)


WITHOUT_LEGACY = f"""
from saslwrap.sspi import *
alice = OutboundCredential("alice", None, "x", ciphers=("rc4",))
offer = b'nonce="n0nce",qop="auth-conf",cipher="rc4",algorithm=md5-sess,charset=utf-8'
_, handle, _ = initialize_security_context(alice, None, "{TARGET}", 0x10, None)
message = SecBuffer(SecBufferType.SECBUFFER_DATA, bytearray(b"message"))
room = SecBuffer(SecBufferType.SECBUFFER_PADDING, bytearray(24))
for call in (
    lambda: initialize_security_context(None, handle, None, 0, offer),
    lambda: encrypt_message(handle, 0, [message, room], 0),
    lambda: decrypt_message(handle, [message], 0),
):
    try:
        call()
    except SSPIError as error:
        print(error.status.name)
"""


def test_a_cipher_that_openssl_really_lacks() -> None:
    root = str(Path(saslwrap.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LEGACY],
        env=os.environ | {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["SEC_E_CRYPTO_SYSTEM_INVALID"] * 3, done.stderr


# ---------------------------------------------------------------- handles


def test_a_handle_says_who_it_is_and_nothing_more() -> None:
    ours, theirs = logged_in("rc4")
    assert repr(ours) == "<CtxtHandle <DigestMD5Client complete>>"
    assert repr(theirs) == "<CtxtHandle <DigestMD5Server complete>>"


def test_a_handle_has_no_context_before_it_is_complete() -> None:
    _, ours, _ = initialize_security_context(ALICE, None, TARGET, 0, None)
    with pytest.raises(UsageError):
        ours.context  # noqa: B018
    ours.close()
    assert not ours.complete


def test_an_error_is_one_of_the_library_s() -> None:
    call = partial(initialize_security_context, None, None, TARGET, 0, None)
    with pytest.raises(SASLError, match=r"^no OutboundCredential \(SEC_E_NO_CREDENTIALS\)$"):
        call()


@pytest.mark.parametrize("flags", [0x20000, 1 << 40, AscReq.ASC_REQ_INTEGRITY])
def test_flags_that_a_client_does_not_have_are_refused(flags: int) -> None:
    """The guard: the server's number for integrity would mean no layer here, without a word."""
    alice = OutboundCredential("alice", "example.com", "s3cret")
    with pytest.raises(SSPIError) as caught:
        initialize_security_context(alice, None, "ldap/localhost", flags, None)
    assert caught.value.status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION


@pytest.mark.parametrize("flags", [0x20, IscReq.ISC_REQ_INTEGRITY])
def test_flags_that_a_server_does_not_have_are_refused(flags: int) -> None:
    service = InboundCredential(lambda user, realm: None, "ldap", "localhost")
    with pytest.raises(SSPIError) as caught:
        accept_security_context(service, None, None, flags)
    assert caught.value.status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
