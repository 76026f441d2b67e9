"""Cyrus SASL's library, libsasl2, as a peer in a process of its own: `libsasl2_peer.py`.

What libsasl2 (2.1.28) does beyond the notes of others:

- `sasl_decode` of several frames gives all or nothing: one that is bad takes those before it along.
- A frame of des whose padding is bad fails without a text of its own: `sasl_errdetail` still has
  what the login left there.
- Its client remembers each login to a host as long as the process lives, and begins the next one
  with a subsequent authentication (RFC 2831 section 2.2), unasked: the old nonce and cnonce with
  nc=00000002, as an initial response. It takes a fresh challenge for an answer. But what the old
  login had of a cipher stays in force if the new one ends in auth-int: nothing can be read then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers import protections
from tests.peers.directory import REALM
from tests.peers.libsasl2_library import find_library
from tests.peers.peer_process import PeerProcess
from tests.peers.support import require_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.peers.directory import Credentials

ROOT = Path(__file__).parents[2]


class Libsasl2(PeerProcess):
    """It knows everybody in `directory.USERS`, by a sasldb in its folder."""

    plugins = ("digestmd5", "sasldb")
    max_buffer = "maxbuf"
    refusal = r"-\d+: "
    error = "LibraryError"
    names_charset = False

    @classmethod
    def require(cls, *plugins: str) -> None:
        if find_library() is None:
            require_program("libsasl2.so.2")  # which is none, but has its packages named
        super().require(*plugins)

    def _prepare(self) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._environ |= {"PYTHONPATH": path, "SASL_CONF_PATH": str(self.folder)}

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", "tests.peers.libsasl2_peer", str(self.folder))

    def full_name(self, user: Credentials) -> str:
        return f"{user.username}@{REALM}"

    def layer(self, protection: str) -> dict[str, str]:
        return {"ssf": str(protections.SSF[protection])}


@pytest.fixture(scope="session")
def libsasl2_process() -> Iterator[Libsasl2]:
    """One process for the whole run, unless it dies."""
    Libsasl2.require()
    with Libsasl2() as peer:
        yield peer


@pytest.fixture
def libsasl2(libsasl2_process: Libsasl2) -> Iterator[Libsasl2]:
    yield libsasl2_process
    libsasl2_process.end_cases()
