"""GSS: the tokens that are judged before pyspnego sees them, and logins over NTLM.

What is told apart in a token is held against what pyspnego makes of it. In a login an attacker
stands between two genuine sides; NTLM's MIC covers all three of its messages, so a server that is
complete has seen them as they were sent. (NTLM needs no realm; Kerberos' own steps are libkrb5's.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import spnego._ntlm
import spnego._ntlm_raw.crypto
import spnego._ntlm_raw.messages
import spnego._spnego
from spnego._ntlm_raw.messages import AvFlags, AvId

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
)
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.gss.ntlm import NTLMWatch
from saslwrap.mechanisms.gss.tokens import MAX_TOKEN, list_mic, open_token
from saslwrap.testing import MechanismPair
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.watched import judge_refusal
from tests.gss_pairs import (
    NTLM_USERNAME,
    check_both_ways,
    contexts_of,
    gss_pair,
    leave_ntlm_alone,
)
from tests.test_gss_ntlm import BOUND, END, MIC_IS_THERE, STRONG, authenticate_message
from tests.test_gss_tokens import (
    INNER,
    KERBEROS,
    MECHANISMS,
    MIC,
    PICKED,
    STATE,
    init,
    response,
    tlv,
)

NTLM = b"NTLMSSP\0"
KEY_EXCHANGE, SIGN_OR_SEAL = 0x40000000, 0x30
AUTHENTICATE = NTLM + b"\3\0\0\0"

#: A file system in memory, where there is one: to remove a folder from a disk takes longer than all
#: the rest.
MEMORY: Final = next(map(str, Path("/dev").glob("shm")), None)

#: LM's hash, which nobody wants: DES in pure Python, and the same each time.
LM_HASH: Final = cache(spnego._ntlm_raw.crypto.lmowfv1)

TOKENS = (
    init(MECHANISMS, INNER, MIC),
    response(STATE, PICKED, INNER, MIC),
    init(MECHANISMS, tlv(0xA2, tlv(0x04, authenticate_message(STRONG)))),
    response(STATE, tlv(0xA2, tlv(0x04, authenticate_message(STRONG)))),
    tlv(0x60, bytes.fromhex(KERBEROS), b"\1\0", tlv(0x6E, b"x")),
    NTLM + b"\1\0\0\0" + bytes(20),
)
MESSAGES = (
    authenticate_message(STRONG),
    authenticate_message(STRONG | 0x40000001, pairs=MIC_IS_THERE + BOUND + END),
    authenticate_message(STRONG, pairs=END),
    authenticate_message(STRONG, length=24),
    authenticate_message(STRONG & ~0x20, user=""),
)


def judge_token(data: bytes) -> None:
    """Open a token, and let pyspnego open it."""
    reader = Reader(data)
    token = reader.edited(reader.one_of(TOKENS)) if reader.flag() else reader.rest()
    inner = open_token(token)
    assert len(token) <= MAX_TOKEN
    assert inner in token
    if inner == token:
        assert not token or token[0] == 0x60 or token.startswith(NTLM)
    else:
        found = inner, list_mic(token)
        assert pyspnego_opens(token) in (None, found), "pyspnego sees something else inside"


def pyspnego_opens(token: bytes) -> tuple[bytes, bytes] | None:
    """What pyspnego finds inside, and the MIC that it verifies; None if it refuses the token."""
    try:
        there = spnego._spnego.unpack_token(token)
        is_first = isinstance(there, spnego._spnego.NegTokenInit)
        found = there.mech_token if is_first else there.response_token
        mic = None if is_first else there.mech_list_mic
    except Exception:  # it refuses more than we do, in many ways
        return None
    return bytes(found or b""), bytes(mic or b"") if mic != found else b""


def judge_ntlm(data: bytes) -> None:
    """Let the watch see up to three tokens; what it lets pass has to hold for pyspnego too."""
    reader = Reader(data)
    watch = NTLMWatch()
    last = b""
    for _ in range(reader.number() % 3 + 1):
        token = reader.edited(reader.one_of(MESSAGES)) if reader.flag() else reader.octets()
        token = response(STATE, tlv(0xA2, tlv(0x04, token))) if reader.flag() else token
        seen = watch.seen
        watch.see(token)
        if watch.seen and not seen:
            last = open_token(token)
    if watch.seen:
        judge_authenticate(last, watch)
    assert watch.ssf in (0, 40, 56, 128)


def judge_authenticate(token: bytes, watch: NTLMWatch) -> None:
    """Hold what pyspnego reads from NTLM's last message against what the watch is there for."""
    try:
        message = spnego._ntlm_raw.messages.Authenticate.unpack(token)
        user, domain = message.user_name, message.domain_name
        proof = message.nt_challenge_response or b""
        pairs = spnego._ntlm_raw.messages.NTClientChallengeV2.unpack(proof[16:]).av_pairs
    except Exception:  # it refuses it
        return
    assert len(proof) > 24, "LM or NTLMv1"
    assert pairs[AvId.flags] & AvFlags.mic, "no MIC is said to be there"
    assert message.mic is not None, "there is no room for the MIC"
    assert user, "nobody"
    assert "\\" not in user + (domain or ""), "nobody, behind a backslash"
    if message.flags & KEY_EXCHANGE and message.flags & SIGN_OR_SEAL:
        assert len(message.encrypted_random_session_key or b"") == 16, "a key that is everybody's"
    assert watch.bound or not any(pairs.get(AvId.channel_bindings, b""))


class Wire:
    """What passes between two sides, edited or not."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.passed: list[tuple[bytes, bytes]] = []

    def carry(self, token: bytes | None) -> bytes | None:
        if token is None:
            return None
        self.passed.append((token, self._reader.edited(token)))
        return self.passed[-1][1]

    @property
    def is_untouched(self) -> bool:
        return all(sent == came for sent, came in self.passed)


def attack_ntlm(data: bytes) -> None:
    """Stand between a client and a server that log in by NTLM, inside SPNEGO."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        leave_ntlm_alone(Path(folder), patch)
        patch.setattr(spnego._ntlm, "lmowfv1", LM_HASH)
        attack_login(Reader(data), gss_pair("ntlm-128"), NTLM_USERNAME, whole_messages)


def whole_messages(wire: Wire) -> None:
    """Hold that NTLM's messages came as they were sent."""
    for sent, came in wire.passed:
        assert open_token(sent) == open_token(came), "NTLM's messages were bent"


def attack_login(
    reader: Reader, pair: MechanismPair, authcid: str, check: Callable[[Wire], None]
) -> None:
    """Stand between two sides that log in.

    :param authcid: who the client is, to its server
    :param check: holds what passed, once the server is content
    """
    wire = Wire(reader)
    try:
        log_in(wire, *pair, check)
    except SASLError:
        assert not wire.is_untouched, "an untouched login failed"
        raise
    assert pair.server.authcid == authcid
    assert (pair.server.context is None) == (pair.client.context is None)
    if pair.client.context is not None:
        check_both_ways(contexts_of(pair))


def log_in(wire: Wire, client: Mechanism, server: Mechanism, check: Callable[[Wire], None]) -> None:
    """Pass tokens on until both sides are content."""
    token = wire.carry(step(client, None))
    while not (client.complete and server.complete):
        token = wire.carry(step(server, token))
        if server.complete:
            check(wire)
        if not client.complete:
            token = wire.carry(step(client, token))


def step(mechanism: Mechanism, message: bytes | None) -> bytes | None:
    """Take one step; a refusal has to last."""
    try:
        return mechanism.step(message)
    except SASLError as error:
        judge_refusal(mechanism, error, was_complete=mechanism.complete)
        raise


def token_seeds() -> Iterator[bytes]:
    for number, token in enumerate(TOKENS):
        yield b"\0" + token
        yield bytes([1, number, 1, 0, 6, 1]) + b"\5\1"


def ntlm_seeds() -> Iterator[bytes]:
    for number in range(len(MESSAGES)):
        for wrapped in (b"\0", b"\1"):
            whole = bytes([1, number, 0]) + wrapped
            yield b"\0" + whole
            yield b"\1" + whole + b"\0\3abc\0"
            yield b"\1" + whole + whole
            yield b"\0" + bytes([1, number, 1, 0, 20, 2]) + b"\4\0\2" + wrapped
    yield b"\0\0" + bytes([len(AUTHENTICATE)]) + AUTHENTICATE + b"\0"


def login_seeds() -> Iterator[bytes]:
    yield b""
    for turn in range(5):
        for at in (0, 3, 30, 60, 100):
            yield bytes(turn) + bytes([1, 0, at, 1]) + b"\x5a\1"


TARGETS = (
    Target(
        "spnego-token",
        judge_token,
        {MalformedMessageError: "too long, too much of a tree, or of another form"},
        token_seeds,
        1024,
    ),
    Target(
        "ntlm-watch",
        judge_ntlm,
        {
            MalformedMessageError: "no token of SPNEGO",
            AuthenticationError: "a last message that proves nothing, or comes twice",
            NegotiationError: "a session without sealing, or none",
        },
        ntlm_seeds,
        1024,
    ),
    Target(
        "gss-spnego-step",
        attack_ntlm,
        {
            MalformedMessageError: "no token of SPNEGO, or none where one was due",
            AuthenticationError: "a token that does not hold",
            NegotiationError: "a session that our policy does not take; Kerberos alone",
            MutualAuthenticationError: "a server's answer without a MIC over the list",
            ProtocolError: "a message after completion",
        },
        login_seeds,
        512,
    ),
)
