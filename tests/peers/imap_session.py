"""An IMAP client of few commands over any shell, and a message to put into a mailbox."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from saslwrap.protocols.imap import IMAPAuthenticate
from tests.peers.cyrus_logins import hear_the_end
from tests.peers.directory import NEEDLE

if TYPE_CHECKING:
    from saslwrap import ClientMechanism
    from tests.peers.shells import Shell

VOLUME = 200_000


def mail(volume: int = VOLUME) -> bytes:
    """A message, with a needle on every line."""
    source = random.Random(volume)
    head = b"Subject: test\r\n\r\n"
    lines = (f"{NEEDLE} {source.randbytes(20).hex()}\r\n" for _ in range(volume // 59 + 1))
    return head + "".join(lines).encode()


class IMAPSession:
    """A connection to an IMAP server, and what a client does with it."""

    def __init__(self, shell: Shell, port: int) -> None:
        self.conversation = shell.connect(port)
        self._number = 0
        assert self._until(rb"\* OK")

    def log_in(
        self, mechanism: ClientMechanism, *, initial_response: bool = False
    ) -> IMAPAuthenticate:
        login = IMAPAuthenticate(mechanism, tag=self._tag(), initial_response=initial_response)
        self.conversation.authenticate(login)
        return login

    def command(self, words: str) -> bytes:
        """Send it, and give all that comes up to its OK."""
        tag = self._tag()
        self.conversation.send(f"{tag} {words}\r\n".encode())
        return self._ok(tag)

    def append(self, message: bytes) -> int:
        """Put it into the INBOX, and give its UID."""
        tag = self._tag()
        self.conversation.send(f"{tag} APPEND INBOX {{{len(message)}}}\r\n".encode())
        assert self._until(rb"\+")
        self.conversation.send(message)
        self.conversation.send(b"\r\n")
        found = re.search(rb"\[APPENDUID \d+ (\d+)\]", self._ok(tag))
        assert found
        return int(found[1])

    def fetch(self, uid: int) -> bytes:
        answer = self.command(f"UID FETCH {uid} BODY.PEEK[]")
        found = re.search(rb"\{(\d+)\}\r\n", answer)
        assert found
        return answer[found.end() : found.end() + int(found[1])]

    def log_out(self) -> None:
        assert b"* BYE" in self.command("LOGOUT")
        hear_the_end(self.conversation)

    def _tag(self) -> str:
        self._number += 1
        return f"t{self._number}"

    def _ok(self, tag: str) -> bytes:
        answer = self._until(rb"%b (?:OK|NO|BAD)" % tag.encode())
        assert f"\r\n{tag} OK".encode() in b"\r\n" + answer, answer[-200:]
        return answer

    def _until(self, start: bytes) -> bytes:
        """What comes up to a line that starts so, with that line; nothing comes behind it."""
        data = b""
        while not re.search(rb"(?:\A|\n)%b [^\n]*\n\Z" % start, data[-1000:]):
            received = self.conversation.receive()
            assert received, f"the end after {data[-200:]!r}"
            data += received
        return data
