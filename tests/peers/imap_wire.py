"""What a login of IMAP's leaves on the wire: lines in clear, then frames and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

from tests.peers.frames import frame_lengths as frame_lengths
from tests.peers.wiretap import Direction, Recording, Wiretap

_LOGIN = re.compile(rb"([^ \r\n]+) AUTHENTICATE [^\r]*\r\n(?:[A-Za-z0-9+/=]*\r\n)*")

#: No test spends more octets on its logins.
_HEAD = 65536


def behind_the_login(recording: Recording, direction: Direction) -> bytes:
    """What follows the last line in clear: the server's OK, the client's answer to rspauth."""
    login = list(_LOGIN.finditer(recording.client_to_server[:_HEAD]))[-1]
    if direction is Direction.CLIENT_TO_SERVER:
        return recording.client_to_server[login.end() :]
    ok = re.search(rb"(?m)^%b OK[^\r]*\r\n" % re.escape(login[1]), recording.server_to_client)
    assert ok
    return recording.server_to_client[ok.end() :]


def check_sealed(tap: Wiretap, *words: bytes, shows: bool = False) -> None:
    """Behind the login there are frames and nothing else, and no word can be read in them."""
    check_frames(tap, behind_the_login, *words, shows=shows)


def check_frames(
    tap: Wiretap,
    behind: Callable[[Recording, Direction], bytes],
    *words: bytes,
    shows: bool = False,
) -> None:
    """The same, where `behind` finds what follows a login."""
    tap.wait_closed()
    both = b""
    for recording, direction in product(tap.recordings, Direction):
        rest = behind(recording, direction)
        assert frame_lengths(rest)
        both += rest
    assert [word in both for word in words] == [shows] * len(words)
