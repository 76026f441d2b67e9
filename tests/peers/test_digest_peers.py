"""saslwrap's shells against the DIGEST-MD5 of others, in both roles: ours and the peer's.

What only one of them does is in `test_jdk.py` and `test_libsasl2.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from saslwrap import AuthenticationError, IntegrityError
from tests.peers.directory import ALICE, Credentials
from tests.peers.meeting import (
    ALTERED,
    AT_ONCE,
    DOWN,
    SOME,
    UP,
    Meeting,
    check_wires,
    client,
    converse,
    each_user,
    server,
    sizes,
    wires,
)
from tests.peers.protections import OF_CYRUS, SSF
from tests.peers.shells import FACES, Shell, some_shells

if TYPE_CHECKING:
    from saslwrap import SecurityContext
    from tests.peers.peer_process import PeerProcess

pytestmark = pytest.mark.timeout(60)

PEERS = {"jdk": SSF, "libsasl2": OF_CYRUS}
"""A peer's fixture, and what it can do."""


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> PeerProcess:
    found: PeerProcess = request.getfixturevalue(request.param)
    return found


each_protection = pytest.mark.parametrize(
    ("peer", "shell", "protection"),
    [
        (peer, kind, protection)
        for peer, protections in PEERS.items()
        for kind in Shell.KINDS
        for protection in protections
        if kind in FACES or protection in ("rc4", "auth-int")
    ],
    indirect=["peer", "shell"],
)
each_kind = pytest.mark.parametrize(
    ("peer", "protection"),
    [
        *(("jdk", protection) for protection in ("auth-int", "rc4", "3des")),
        *(("libsasl2", protection) for protection in ("auth-int", "rc4", "des")),
    ],
    indirect=["peer"],
)
"""Integrity, a stream cipher, a block cipher."""

either_side = pytest.mark.parametrize("at_server", [True, False], ids=["our-client", "our-server"])


def check_context(context: SecurityContext | None, protection: str) -> None:
    if protection == "auth":
        assert context is None
    else:
        assert context is not None
        assert context.cipher == (None if protection == "auth-int" else protection)
        assert context.ssf == SSF[protection]


# Each protection over each shell.


@each_protection
def test_our_client(tapped: Meeting, peer: PeerProcess, protection: str) -> None:
    conversation, case = tapped.at_server({"sends": sizes(*SOME)})
    check_context(conversation.authenticate(client(protection)), protection)
    result = converse(conversation, case, SOME)
    assert result.items() >= peer.layer(protection).items()
    assert result["authzid"] == peer.full_name(ALICE)
    check_wires(tapped.tap, protection)


@each_protection
def test_our_server(tapped: Meeting, peer: PeerProcess, protection: str) -> None:
    conversation, case = tapped.from_client({"sends": sizes(*SOME)})
    exchange = server(protection)
    check_context(conversation.authenticate(exchange), protection)
    assert exchange.authcid == ALICE.username
    result = converse(conversation, case, SOME)
    assert result.items() >= peer.layer(protection).items()
    check_wires(tapped.tap, protection)


# Sizes and segments.

SMALL = [
    ("jdk", True, "auth-int", 984, 1000, 900),
    ("jdk", True, "rc4", 974, 990, 900),
    ("jdk", True, "3des", 974, 998, 894),
    ("jdk", False, "auth-int", 984, 1000, 900),
    ("jdk", False, "rc4", 974, 990, 900),
    ("jdk", False, "3des", 974, 998, 894),
    ("libsasl2", True, "auth-int", 980, 996, 900),
    ("libsasl2", True, "rc4", 971, 987, 900),
    ("libsasl2", True, "des", 971, 990, 894),
    ("libsasl2", False, "auth-int", 984, 1000, 900),
    ("libsasl2", False, "rc4", 975, 991, 900),
    ("libsasl2", False, "des", 975, 998, 894),
]
"""The longest message and token of the peer's, where we take 1000 octets; ours, where it takes 900.

The JDK counts 26 octets for any cipher, libsasl2 25, both 16 for integrity; libsasl2's server
counts 4 more for the length.
"""


@pytest.mark.parametrize(
    ("peer", "at_server", "protection", "maximum", "theirs", "ours"),
    SMALL,
    indirect=["peer"],
    ids=[f"{row[0]}-{'our-client' if row[1] else 'our-server'}-{row[2]}" for row in SMALL],
)
@some_shells
def test_small_buffers_on_both_sides(
    tapped: Meeting,
    peer: PeerProcess,
    at_server: bool,
    protection: str,
    maximum: int,
    theirs: int,
    ours: int,
) -> None:
    options = {"sends": 65_000, peer.max_buffer: 900}
    conversation, case = tapped.log_in(at_server, protection, options, max_buffer=1000)
    result = converse(conversation, case, [65_000])
    found = check_wires(tapped.tap, protection)
    assert int(result["maximum"]) == maximum
    assert max(found[DOWN if at_server else UP].lengths) == theirs
    assert max(found[UP if at_server else DOWN].lengths) == ours


@pytest.mark.parametrize(
    ("peer", "protection"), [("jdk", "rc4"), ("libsasl2", "des")], indirect=["peer"]
)
@pytest.mark.parametrize("pieces", [1, 7, 4099, AT_ONCE])
@either_side
@some_shells
def test_frames_in_pieces_or_together(
    meeting: Meeting, at_server: bool, protection: str, pieces: int
) -> None:
    """Towards us by how it writes; towards it by how much libsasl2 decodes at once."""
    sends = (*SOME, 5000 if pieces < 100 else 65_000, 1)
    options = {"sends": sizes(*sends), "pieces": pieces, "chunk": min(pieces, 65536)}
    conversation, case = meeting.log_in(at_server, protection, options)
    converse(conversation, case, sends, echoes=sends)


# The switch.

MUCH = (1, 65_000, 65_000, 69_999, *[37] * 20)
EAGERLY = {"sends": sizes(*MUCH), "pieces": AT_ONCE, "eager": 1}


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_success(meeting: Meeting, protection: str) -> None:
    conversation, case = meeting.at_server(EAGERLY)
    conversation.authenticate(client(protection))
    converse(conversation, case, MUCH)


@pytest.mark.parametrize("protection", ["rc4", "auth"])
def test_data_in_one_segment_with_the_last_response(meeting: Meeting, protection: str) -> None:
    conversation, case = meeting.from_client(EAGERLY)
    conversation.authenticate(server(protection, proof_with_success=False))
    converse(conversation, case, MUCH)


@either_side
@some_shells
def test_a_proof_before_the_success(tapped: Meeting, at_server: bool) -> None:
    if at_server:
        conversation, case = tapped.at_server({"apart": 1})
        conversation.authenticate(client())
    else:
        conversation, case = tapped.from_client()
        conversation.authenticate(server(proof_with_success=False))
    converse(conversation, case)
    assert [message[:1] for message in wires(tapped.tap)[DOWN].login] == [b"+", b"+", b"."]


# Names and passwords.


@each_user
@some_shells
def test_each_user_of_its_client(tapped: Meeting, peer: PeerProcess, user: Credentials) -> None:
    """The name is UTF-8, whether or not a charset says so."""
    conversation, case = tapped.from_client(user=user)
    exchange = server()
    conversation.authenticate(exchange)
    assert exchange.authcid == user.username
    converse(conversation, case)
    response = wires(tapped.tap)[UP].login[1]
    assert f'username="{user.username}"'.encode() in response
    assert (b"charset=utf-8" in response) is peer.names_charset


@pytest.mark.parametrize(
    "user",
    [Credentials(ALICE.username, "wrong"), Credentials("nobody", ALICE.password)],
    ids=["password", "user"],
)
@some_shells
def test_who_is_not_let_in(meeting: Meeting, peer: PeerProcess, user: Credentials) -> None:
    conversation, case = meeting.at_server()
    with pytest.raises(AuthenticationError, match=f"the server refused: {peer.refusal}"):
        conversation.authenticate(client(user=user))
    assert re.search(peer.refusal, case.result()["error"])
    assert conversation.receive() == b""  # it was the peer who hung up
    assert conversation.context is None

    conversation, case = meeting.from_client(user=user)
    with pytest.raises(AuthenticationError, match=r"unknown user, wrong password"):
        conversation.authenticate(server())
    assert case.result()["error"] == f"{peer.error}: refused: no"
    assert conversation.receive() == b""
    assert conversation.context is None


# Frames that were tampered with.


@each_kind
@either_side
@some_shells
def test_we_end_it_at_an_altered_frame(meeting: Meeting, protection: str, at_server: bool) -> None:
    conversation, case = meeting.log_in(at_server, protection, {"tamper": 1})
    assert conversation.echoed(b"first") == b"first"
    conversation.send(b"second")
    for attempt in (conversation.receive, conversation.receive, lambda: conversation.send(b"x")):
        with pytest.raises(IntegrityError, match=ALTERED):
            attempt()
    assert case.result()["received"] == "11"
