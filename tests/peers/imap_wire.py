"""What a login of IMAP's leaves on the wire: lines in clear, then frames and nothing else."""

from __future__ import annotations

import re

from tests.peers.wiretap import Direction, Recording

_LOGIN = re.compile(rb"([^ \r\n]+) AUTHENTICATE [^\r]*\r\n(?:[A-Za-z0-9+/=]*\r\n)*")


def behind_the_login(recording: Recording, direction: Direction) -> bytes:
    """What follows the last line in clear: the server's OK, the client's answer to rspauth."""
    login = list(_LOGIN.finditer(recording.client_to_server))[-1]
    if direction is Direction.CLIENT_TO_SERVER:
        return recording.client_to_server[login.end() :]
    ok = re.search(rb"(?m)^%b OK[^\r]*\r\n" % re.escape(login[1]), recording.server_to_client)
    assert ok
    return recording.server_to_client[ok.end() :]


def frame_lengths(wire: bytes) -> list[int]:
    """The lengths of the frames, well formed to the last octet."""
    found = []
    while wire:
        length = int.from_bytes(wire[:4], "big")
        assert 0 < length <= len(wire) - 4
        found.append(length)
        wire = wire[4 + length :]
    return found
