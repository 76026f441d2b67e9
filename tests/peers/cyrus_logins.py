"""What the tests of Cyrus' servers share: logins there, their wire, its clients at ours."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    GSSAPIClient,
    NegotiationError,
    SecurityProperties,
)
from saslwrap.testing.pairs import PASSWORD, USERNAME, properties_for
from tests.peers.cyrus import Cyrus, require_imtest, run_imtest
from tests.peers.directory import ALICE, Credentials
from tests.peers.frames import frame_lengths
from tests.peers.kdc import BOB

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from saslwrap import ClientMechanism, Exchange
    from tests.peers.shells import Conversation, Shell
    from tests.peers.wiretap import Direction, Wiretap

WRONG = Credentials(ALICE.username, "wr0ng-Pa55")

#: Protections that Cyrus' servers offer, and their SSF.
STRENGTHS = {"rc4": 128, "des": 55, "auth-int": 1}


def digest(
    user: Credentials = ALICE,
    protection: str = "rc4",
    properties: SecurityProperties | None = None,
    service: str = "imap",
) -> DigestMD5Client:
    return DigestMD5Client(
        user.username,
        user.password,
        service=service,
        host=Cyrus.host,
        properties=properties or properties_for(protection),
    )


def kerberos(service: str, greatest: int = 256, least: int = 1) -> GSSAPIClient:
    """A login with a ticket, whose layer has an SSF in these bounds."""
    properties = SecurityProperties(min_ssf=least, max_ssf=greatest)
    return GSSAPIClient(service=service, host=Cyrus.host, properties=properties)


def check_ssf(conversation: Conversation, ssf: int) -> None:
    """There is a layer, of this strength."""
    assert conversation.context is not None
    assert conversation.context.ssf == ssf


def log_in_after_failures(
    conversation: Conversation,
    log_in: Callable[[ClientMechanism], object],
    service: str,
    refusal: str,
    user: Credentials = BOB,
) -> None:
    """Log in, after a wrong password and a policy that the server cannot meet.

    :param refusal: how the server refuses the password
    """
    with pytest.raises(AuthenticationError, match=refusal):
        log_in(digest(WRONG, service=service))
    with pytest.raises(NegotiationError, match="the server offers auth,"):
        log_in(digest(properties=SecurityProperties(min_ssf=200), service=service))
    assert conversation.context is None
    log_in(digest(user, service=service))


def hear_the_end(conversation: Conversation) -> None:
    """The server has closed the connection; so do we."""
    assert conversation.receive() == b""
    conversation.close()


def in_frames(tap: Wiretap, direction: Direction, in_clear: Mapping[Direction, bytes]) -> bytes:
    """What went in frames, once the connection is closed; nothing else did.

    :param in_clear: a pattern of what went before them, each way
    """
    tap.wait_closed()
    wire = tap.recordings[0].sent(direction)
    found = re.match(in_clear[direction], wire, re.DOTALL)
    assert found
    assert frame_lengths(wire[found.end() :])
    return wire[found.end() :]


@dataclass(frozen=True, slots=True)
class CyrusClient:
    """One of Cyrus' clients, connected to a shell of ours."""

    conversation: Conversation
    process: subprocess.Popen[bytes]

    def let_in(self, greeting: bytes, login: Exchange, protection: str) -> None:
        """Greet it, and let it log in to a layer."""
        self.conversation.send(greeting)
        self.conversation.authenticate(login)
        check_ssf(self.conversation, STRENGTHS[protection])

    def refuse(self, greeting: bytes, login: Exchange) -> bytes:
        """Greet it, and do not let it in; give what it says of that."""
        self.conversation.send(greeting)
        with pytest.raises(AuthenticationError):
            self.conversation.authenticate(login)
        return self.said()

    def said(self) -> bytes:
        """Close, and give all that it has written."""
        self.conversation.close()
        return self.process.communicate(b"", 30)[0]


@contextmanager
def cyrus_client(
    shell: Shell, name: str, password: str = PASSWORD, commands: bytes = b""
) -> Iterator[CyrusClient]:
    """Run one, which waits for our greeting: `imtest`, `pop3test`, `sivtest` ..."""
    require_imtest()
    listener = shell.listen()
    port = listener.getsockname()[1]
    with run_imtest(port, USERNAME, password, name=name, commands=commands) as process:
        yield CyrusClient(shell.accept(listener), process)


def shown_ssf(ssf: int) -> bytes:
    """The line in which such a client tells the strength of its layer."""
    return b"Security strength factor: %d" % ssf
