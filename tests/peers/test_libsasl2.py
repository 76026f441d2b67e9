"""saslwrap's shells against libsasl2's DIGEST-MD5: what `test_digest_peers.py` leaves out."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    NegotiationError,
    TruncatedStreamError,
)
from saslwrap.sync import authenticate_socket
from tests.peers.directory import ALICE, CYRILLIC, LATIN, Credentials
from tests.peers.meeting import (
    DOWN,
    UP,
    Meeting,
    client,
    converse,
    each_user,
    framed,
    server,
    wires,
)
from tests.peers.peer_process import PeerDiedError
from tests.peers.shells import one_shell, some_shells
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from tests.peers.libsasl2 import Libsasl2

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def peer(libsasl2: Libsasl2) -> Libsasl2:
    return libsasl2


@some_shells
def test_3des_is_offered_and_cannot_be_had(tapped: Meeting) -> None:
    """OpenSSL 3 has it, but Debian's plugin sets a key of wrong parity and gives up."""
    conversation, case = tapped.at_server()
    with pytest.raises(AuthenticationError, match=r"the server refused: .*init cipher '3des'"):
        conversation.authenticate(client("3des"))
    assert "couldn't init cipher '3des'" in case.result()["error"]
    assert conversation.receive() == b""  # it was the peer who hung up
    conversation.close()
    assert b'3des"' in wires(tapped.tap)[DOWN].login[0]

    conversation, case = tapped.from_client()
    with pytest.raises(TruncatedStreamError, match="closed the connection during the login"):
        conversation.authenticate(server("3des"))
    assert "failed to init cipher '3des'" in case.result()["error"]


@one_shell
def test_a_subsequent_login_is_a_fresh_one(tapped: Meeting) -> None:
    """Its client wants to go on from the last login, whose keys and counters would come again."""
    seen = []
    for remember in (None, 1):
        conversation, case = tapped.from_client({"remember": remember})
        conversation.authenticate(server())
        converse(conversation, case, echoes=[16])
        seen.append(wires(tapped.tap))
    first, second = (found[UP].login for found in seen)
    remembered = second[0].removeprefix(b"@DIGEST-MD5\0")
    assert re.findall(rb'nonce="[^"]*"', remembered) == re.findall(rb'nonce="[^"]*"', first[1])
    assert b"nc=00000002" in remembered
    assert b"nc=00000001" in second[1]
    assert seen[0][DOWN].tokens != seen[1][DOWN].tokens
    assert seen[0][UP].tokens != seen[1][UP].tokens


# Names and passwords.


@each_user
@some_shells
def test_each_user_at_its_server(meeting: Meeting, libsasl2: Libsasl2, user: Credentials) -> None:
    conversation, case = meeting.at_server()
    conversation.authenticate(client(user=user))
    assert converse(conversation, case)["authzid"] == libsasl2.full_name(user)


@one_shell
def test_authzid(meeting: Meeting, libsasl2: Libsasl2) -> None:
    conversation, case = meeting.from_client({"authzid": LATIN.username})
    exchange = server()
    conversation.authenticate(exchange)
    assert (exchange.authcid, exchange.authzid) == (ALICE.username, LATIN.username)
    converse(conversation, case)

    conversation, case = meeting.at_server()
    conversation.authenticate(client(authzid=ALICE.username))
    assert converse(conversation, case)["authzid"] == libsasl2.full_name(ALICE)

    conversation, case = meeting.at_server()
    with pytest.raises(AuthenticationError, match="the server refused: "):
        conversation.authenticate(client(authzid=CYRILLIC.username))
    assert "Requested identity not authenticated identity" in case.result()["error"]


# What the policies leave.


@one_shell
def test_it_offers_less_than_we_want(meeting: Meeting) -> None:
    for limits in ({"max_ssf": 1}, {"max_ssf": 56}, {"min_ssf": 128}):
        conversation, case = meeting.at_server(limits)
        with pytest.raises(NegotiationError, match="the server offers auth"):
            conversation.authenticate(client("rc4" if "max_ssf" in limits else "auth-int"))
        assert "aborted" in case.result()["error"]


@one_shell
def test_it_wants_more_than_we_offer(meeting: Meeting) -> None:
    conversation, case = meeting.from_client({"min_ssf": 128})
    with pytest.raises(TruncatedStreamError):
        conversation.authenticate(server("rc4-40"))
    assert "error" in case.result()


# Frames that were tampered with.


@pytest.mark.parametrize("protection", ["auth-int", "rc4", "des"])
def test_it_ends_it_too(libsasl2: Libsasl2, protection: str) -> None:
    case, port = libsasl2.server({})
    plain = socket.create_connection((LOOPBACK, port), 10)
    with authenticate_socket(plain, client(protection)) as sealed:
        context = sealed.context
        assert context is not None
        for altered in (0, 1):
            plain.sendall(framed(context.seal(b"a request"), altered=altered))
            if not altered:
                assert sealed.recv(100) == b"a request"
        result = case.result()
    assert result["received"] == "9"
    assert "LibraryError: -1" in result["error"]


def test_a_frame_of_des_that_is_no_block_ends_its_process(libsasl2: Libsasl2) -> None:
    """Debian's libsasl2 dies of it; ours does not, nor does this run."""
    case, port = libsasl2.server({})
    plain = socket.create_connection((LOOPBACK, port), 10)
    with authenticate_socket(plain, client("des")):
        plain.sendall(bytes.fromhex("00000010 00010203040506070809 0001 00000000"))
        try:
            end = case.result()["error"]
        except PeerDiedError as death:
            end = str(death)
    assert end.startswith(("status -11", "LibraryError"))  # SIGSEGV, or it has been mended
    case, port = libsasl2.server({})
    with authenticate_socket(socket.create_connection((LOOPBACK, port), 10), client()) as sealed:
        sealed.sendall(b"alive")
        assert sealed.recv(100) == b"alive"
