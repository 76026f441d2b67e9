"""The JDK (`javax.security.sasl`), as a peer in a process of its own.

What the JDK (17) does beyond the notes of others:

- Its server quotes maxbuf, and leaves it out where `javax.security.sasl.maxbuffer` is not set, or
  65536. Without `javax.security.sasl.qop` it leaves qop out: `auth` is meant.
- `javax.security.sasl.strength` binds its client alone. Its server offers all five ciphers, and
  takes rc4-40 although told to be "high".
- Its client sends maxbuf (not quoted) in any case, under `auth` too; cipher is quoted.
- A frame whose MAC is wrong (altered data, MAC or sequence number) is dropped and not counted, so
  the next good one fails as out of sequence. Under 3des and des, what is altered at the end of the
  ciphertext spoils the next frame as well, and two are dropped. An altered last frame is lost, and
  nobody hears of it. A wrong type is an error at once.
- A frame that is too short is no error of SASL's but a NegativeArraySizeException.
- Its server takes a name of a user without asking whether there is one: that is for the
  application's callback, which has to give no password.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers.directory import REALM
from tests.peers.peer_process import PeerProcess
from tests.peers.support import program, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.peers.directory import Credentials

QOP_OFFER = "javax.security.sasl.qop"
STRENGTH = "javax.security.sasl.strength"
MAX_BUFFER = "javax.security.sasl.maxbuffer"
SEND_MAX_BUFFER = "javax.security.sasl.sendmaxbuffer"
REALMS = "com.sun.security.sasl.digest.realm"
UTF8 = "com.sun.security.sasl.digest.utf8"
"""Properties of the JDK's mechanism: options with these names are handed to it."""


class Jdk(PeerProcess):
    """`jdk/Peer.java`, compiled into the folder."""

    programs = ("java", "javac")
    max_buffer = MAX_BUFFER
    refusal = r"javax\.security\.sasl\.SaslException: DIGEST-MD5: "
    error = "javax.security.sasl.SaslException"
    names_charset = True

    def _prepare(self) -> None:
        source = Path(__file__).parent / "jdk" / "Peer.java"
        strict = ("-encoding", "UTF-8", "-Xlint:all", "-Werror")
        run("javac", *strict, "-d", self.folder, source)

    def command(self) -> Sequence[str]:
        tuning = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx128m")
        return (program("java"), *tuning, "-cp", str(self.folder), "Peer")

    def account(self, user: Credentials) -> dict[str, object]:
        offer = {QOP_OFFER: "auth-conf,auth-int,auth", REALMS: REALM}
        return {**super().account(user), **offer}

    def full_name(self, user: Credentials) -> str:
        return user.username

    def layer(self, protection: str) -> dict[str, str]:
        return {"qop": protection if protection.startswith("auth") else "auth-conf"}


@pytest.fixture(scope="session")
def jvm() -> Iterator[Jdk]:
    """One JVM for the whole run."""
    Jdk.require()
    with Jdk() as peer:
        yield peer


@pytest.fixture
def jdk(jvm: Jdk) -> Iterator[Jdk]:
    yield jvm
    jvm.end_cases()
