"""What the tests of the asyncio transport share."""

from __future__ import annotations

import pytest

from saslwrap.asyncio import SASLTransport
from saslwrap.asyncio.wire import Wire
from tests.conftest import TLSContexts
from tests.test_shells_support import BufferedRecorder, Peer, Recorder

both_kinds = pytest.mark.parametrize(
    "kind", [pytest.param(Recorder, id="protocol"), pytest.param(BufferedRecorder, id="buffered")]
)

over_what = pytest.mark.parametrize("over", ["tcp", "tls"])


def wire_of(transport: SASLTransport) -> Wire:
    return transport._wire


@pytest.fixture
def tls_or_tcp(over: str, tls: TLSContexts) -> TLSContexts | None:
    return tls if over == "tls" else None


def altered(peer: Peer) -> bytes:
    frame = bytearray(peer.seal(b"altered"))
    frame[6] ^= 1
    return bytes(frame)
