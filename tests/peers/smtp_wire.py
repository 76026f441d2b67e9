"""What a login of SMTP's or LMTP's leaves on the wire: lines in clear, then frames only."""

from __future__ import annotations

import re

from tests.peers.imap_wire import check_frames
from tests.peers.wiretap import Direction, Recording, Wiretap

_LOGIN = re.compile(rb"(?m)^AUTH [^\r]*\r\n(?:[A-Za-z0-9+/=]*\r\n)*")
_SUCCESS = re.compile(rb"(?m)^235[^\r]*\r\n")

#: No test spends more octets on its logins.
_HEAD = 65536


def behind_the_login(recording: Recording, direction: Direction) -> bytes:
    """What follows the last line in clear: the server's 235, the client's answer to rspauth."""
    ends = _LOGIN if direction is Direction.CLIENT_TO_SERVER else _SUCCESS
    wire = recording.sent(direction)
    login = list(ends.finditer(wire[:_HEAD]))[-1]
    return wire[login.end() :]


def check_sealed(tap: Wiretap, *words: bytes, shows: bool = False) -> None:
    """Behind the login there are frames and nothing else, and no word can be read in them."""
    check_frames(tap, behind_the_login, *words, shows=shows)
