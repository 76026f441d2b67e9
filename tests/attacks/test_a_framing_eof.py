"""Attack list, group A: framing and the end of the input."""

from __future__ import annotations

import pytest

from saslwrap.errors import IntegrityError, ProtocolError, TruncatedStreamError
from saslwrap.exchange import Done, Exchange, Send, Step
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import ServerMechanism
from saslwrap.testing import layer_pair, mechanism_pair
from tests.attacks.support import counted, drain, every_protection, judge, wire, work_of
from tests.support import ToyExchange


@every_protection
def test_a1_end_at_a_frames_border_is_a_clean_end(protection: str) -> None:
    """Guard: saslwrap/framing.py: if self._eof and arrived:"""
    client, server = layer_pair(protection)
    verdict = judge(server, b"".join(wire(client, b"one", b"two")), eof=True)
    assert verdict.accepted == b"onetwo"
    assert verdict.error is None
    assert server.at_eof


@every_protection
def test_a1_end_is_not_clean_before_everything_is_read(protection: str) -> None:
    """Guard: saslwrap/framing.py: return self._eof and not self._buffer"""
    client, server = layer_pair(protection)
    server.receive_data(b"".join(wire(client, b"one", b"two")))
    server.receive_eof()
    assert server.read() == b"one"
    assert not server.at_eof
    assert server.read() == b"two"
    assert server.at_eof


@pytest.mark.parametrize("arrived", [1, 2, 3])
@every_protection
def test_a2_end_inside_the_length_is_truncation(protection: str, arrived: int) -> None:
    """Guard: saslwrap/framing.py: if self._eof and arrived:"""
    client, server = layer_pair(protection)
    first, second = wire(client, b"one", b"two")
    verdict = judge(server, first + second[:arrived], eof=True)
    assert verdict.accepted == b"one"
    assert isinstance(verdict.error, TruncatedStreamError)
    assert not server.at_eof


@every_protection
def test_a3_end_inside_the_token_is_truncation_without_plaintext(protection: str) -> None:
    """Guard: saslwrap/framing.py: if self._eof and arrived:
    Guard: saslwrap/framing.py: if arrived >= LENGTH_OCTETS + length:
    """
    size = len(wire(layer_pair(protection).client, b"a message")[0])
    for arrived in range(4, size):
        client, server = layer_pair(protection)
        verdict = judge(server, wire(client, b"a message")[0][:arrived], eof=True)
        assert verdict.accepted == b""
        assert isinstance(verdict.error, TruncatedStreamError)
        assert not server.at_eof


@every_protection
def test_a4_any_split_of_two_frames_gives_the_same(protection: str) -> None:
    """Guard: saslwrap/framing.py: if arrived >= LENGTH_OCTETS:
    Guard: saslwrap/framing.py: del self._buffer[: self._end]
    """
    size = len(b"".join(wire(layer_pair(protection).client, b"first", b"second one")))
    for split in range(size + 1):
        client, server = layer_pair(protection)
        octets = b"".join(wire(client, b"first", b"second one"))
        server.receive_data(octets[:split])
        early = drain(server)
        server.receive_data(octets[split:])
        assert early + drain(server) == b"firstsecond one"
        assert server.unread() == b""


@every_protection
def test_a4_octet_by_octet_gives_the_same(protection: str) -> None:
    """Guard: saslwrap/framing.py: if arrived >= LENGTH_OCTETS:
    Guard: saslwrap/framing.py: if arrived >= LENGTH_OCTETS + length:
    """
    client, server = layer_pair(protection)
    got = b""
    for octet in b"".join(wire(client, b"first", b"second one")):
        server.receive_data(bytes((octet,)))
        got += drain(server)
    assert got == b"firstsecond one"


@every_protection
def test_a5_many_frames_in_one_read_all_come_in_order(protection: str) -> None:
    """Guard: saslwrap/framing.py: self._end = LENGTH_OCTETS + length"""
    client, server = layer_pair(protection)
    messages = [b"message %d" % number for number in range(200)]
    server.receive_data(b"".join(wire(client, *messages)))
    assert [server.read() for _ in messages] == messages
    assert server.read() == b""


def test_a5_many_frames_in_one_read_cost_linear_work() -> None:
    """Guard: saslwrap/framing.py: del self._buffer[: self._end]"""

    def work(frames: int) -> int:
        client, server = layer_pair("auth-int")
        counted(server).receive_data(b"".join(wire(client, *[b"x" * 100] * frames)))
        assert len(drain(server)) == 100 * frames
        return work_of(server)

    assert work(400) <= 2.1 * work(200)


def log_in_by_lines(exchange: Exchange, server: ServerMechanism, after_success: bytes) -> None:
    """Play a server that sends its proof, its success and what follows in one piece."""
    while not isinstance(event := exchange.advance(), Done):
        if isinstance(event, Step):
            exchange.step()
        elif isinstance(event, Send) and event.data.startswith(b"AUTH"):
            exchange.receive_data(b"+" + (server.step(None) or b"") + b"\n")
        else:
            assert isinstance(event, Send), "everything was sent"
            proof = server.step(event.data.removesuffix(b"\n")) or b""
            sealed = b"".join(layer_of(server).send_data(after_success))
            exchange.receive_data(b"+" + proof + b"\nOK\n" + sealed)


def layer_of(side: Exchange | ServerMechanism) -> SecurityLayer:
    """A layer over what a completed login left."""
    assert side.context is not None
    return SecurityLayer(side.context)


def toy_login(protection: str) -> tuple[ToyExchange, ServerMechanism]:
    """A login of lines over real DIGEST-MD5 mechanisms."""
    client, server = mechanism_pair(protection)
    exchange = ToyExchange(client)
    exchange.limit = 4096
    return exchange, server


@every_protection
def test_a6_frame_behind_the_success_line_goes_to_the_layer(protection: str) -> None:
    """Guard: saslwrap/exchange.py: del self._buffer[:length]"""
    exchange, server = toy_login(protection)
    log_in_by_lines(exchange, server, b"sealed at once")
    assert b"sealed at once" not in exchange.trailing_data or protection == "auth-int"
    assert judge(layer_of(exchange), exchange.trailing_data).accepted == b"sealed at once"


@every_protection
def test_a6_cleartext_behind_the_success_line_is_refused(protection: str) -> None:
    """Guard: saslwrap/framing.py: if length > self.limit:"""
    exchange, server = toy_login(protection)
    log_in_by_lines(exchange, server, b"")
    exchange.receive_data(b"* injected after the success line\r\n")
    verdict = judge(layer_of(exchange), exchange.trailing_data)
    assert verdict.accepted == b""
    assert isinstance(verdict.error, ProtocolError | IntegrityError)
