"""What a login of LDAP's leaves on the wire, one way: whole messages in clear, then frames."""

from __future__ import annotations

from saslwrap.protocols.ldap_messages import measure
from tests.peers.frames import split_frames
from tests.peers.ldap_client import LONGEST_MESSAGE


def split_login(wire: bytes, messages: int = 2) -> tuple[bytes, bytes]:
    """The login, of so many messages (DIGEST-MD5's has two each way), and what is behind it."""
    end = 0
    for _ in range(messages):
        length = measure(wire[end:], LONGEST_MESSAGE)
        assert length is not None
        end += length
    return wire[:end], wire[end:]


def digest_tokens(wire: bytes) -> list[bytes]:
    """The tokens behind a login, all of DIGEST-MD5's form."""
    found = list(split_frames(split_login(wire)[1]))
    assert {token[-6:-4] for token in found} <= {b"\0\1"}
    return found


def digest_numbers(wire: bytes) -> list[int]:
    """Their sequence numbers."""
    return [int.from_bytes(token[-4:], "big") for token in digest_tokens(wire)]
