"""Attack list, group G: what a failure, or a call that is broken off, does to the state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from traceback import extract_tb
from typing import Any
from weakref import ref

import pytest

from saslwrap.errors import ContextBusyError, IntegrityError, SASLError, SecurityStatus, UsageError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS
from saslwrap.mechanisms.digest_md5.keys import integrity_keys, sealing_keys
from saslwrap.testing import context_pair, layer_pair, mechanism_pair
from tests.attacks.support import (
    SESSION_KEY,
    Forger,
    Gate,
    between_frames,
    buffers_in,
    every_protection,
    frame,
    held_inside,
    judge,
    nothing,
    sealer_of,
    unsealer_of,
    victim,
    wire,
)


def fail(layer: SecurityLayer) -> SASLError:
    """Let a frame fail."""
    error = judge(layer, frame(bytes(22))).error
    assert isinstance(error, IntegrityError)
    return error


def raised(call: Callable[[], object]) -> SASLError:
    """What `call` raises."""
    with pytest.raises(SASLError) as caught:
        call()
    return caught.value


@every_protection
def test_g1_write_after_an_error_raises_it(protection: str) -> None:
    """Guard: saslwrap/context.py: self.close()"""
    layer = victim(protection)
    first = fail(layer)
    for data in (b"data", b"", bytes(200_000)):
        again = raised(lambda data=data: layer.send_data(data))  # type: ignore[misc]
        assert type(again) is type(first)
        assert str(again) == str(first)
    assert type(raised(lambda: layer.context.seal(b"data"))) is type(first)


@every_protection
def test_g2_read_after_an_error_raises_the_same_anew(protection: str) -> None:
    """Guard: saslwrap/context.py: else self._fault.fresh()
    Guard: saslwrap/context.py: self.close()
    """
    layer = victim(protection)
    errors = [fail(layer), *(raised(layer.read) for _ in range(3))]
    errors.append(raised(lambda: layer.context.unseal(Forger(protection).token())))
    for error in errors:
        assert type(error) is IntegrityError
        assert str(error) == str(errors[0])
        assert error.__cause__ is None
        assert error.__context__ is None
    assert len({id(error) for error in errors}) == len(errors)


@every_protection
def test_g2_input_after_an_error_is_not_stored(protection: str) -> None:
    """Guard: saslwrap/layer.py: if self.context.alive:"""
    layer = victim(protection)
    fail(layer)
    layer.receive_data(bytes(100_000))
    assert layer.unread() == b""


@every_protection
def test_g2_plaintext_of_a_good_frame_is_still_read_after_an_error(protection: str) -> None:
    """Guard: saslwrap/layer.py: if self._offset == len(self._plaintext):"""
    layer = victim(protection)
    layer.receive_data(frame(Forger(protection).token(b"good"), bytes(22)))
    assert layer.read(1) == b"g"
    assert type(raised(lambda: layer.context.unseal(bytes(22)))) is IntegrityError
    assert layer.read(3) == b"ood"
    assert type(raised(layer.read)) is IntegrityError


@every_protection
def test_g4_part_of_a_frame_stays_for_the_next_read(protection: str) -> None:
    """Guard: saslwrap/framing.py: return None"""
    client, server = layer_pair(protection)
    (octets,) = wire(client, b"in two parts")
    for split in (2, 4, 10):
        client, server = layer_pair(protection)
        (octets,) = wire(client, b"in two parts")
        server.receive_data(octets[:split])
        assert [server.read() for _ in range(3)] == [b"", b"", b""]
        server.receive_data(octets[split:])
        assert server.read() == b"in two parts"


@every_protection
def test_g4_rest_of_a_message_stays_for_the_next_read(protection: str) -> None:
    """Guard: saslwrap/layer.py: if self._offset == len(self._plaintext):"""
    client, server = layer_pair(protection)
    server.receive_data(b"".join(wire(client, b"one", b"two")))
    assert [server.read(2) for _ in range(4)] == [b"on", b"e", b"tw", b"o"]


@every_protection
def test_g4_read_that_found_the_context_busy_loses_nothing(protection: str) -> None:
    """Guard: saslwrap/layer.py: self._decoder.release()"""
    client, server = layer_pair(protection)
    first, second = client.context.seal(b"first"), frame(client.context.seal(b"second"))
    server.receive_data(second)
    gate = Gate(unsealer_of(server.context))
    with held_inside(gate, lambda: server.context.unseal(first)):
        for _ in range(3):
            with pytest.raises(ContextBusyError):
                server.read()
    assert server.read() == b"second"


@every_protection
def test_g4_busy_error_does_not_latch(protection: str) -> None:
    """Guard: saslwrap/errors.py: class ContextBusyError(UsageError):"""
    client, server = layer_pair(protection)
    context = server.context
    (octets,) = wire(client, b"one")
    with held_inside(Gate(sealer_of(context)), lambda: context.seal(b"one")):
        assert type(raised(lambda: server.send_data(b"intruder"))) is ContextBusyError
    server.receive_data(octets)
    with held_inside(Gate(unsealer_of(context)), lambda: context.unseal(octets[4:])):
        assert type(raised(server.read)) is ContextBusyError
    assert not context.failed


@every_protection
def test_g4_sealing_that_stops_between_two_frames_latches(
    protection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/layer.py: if not spent:"""
    client, _ = layer_pair(protection, server_maxbuf=64)
    turns: Iterator[Callable[[], None]] = iter([nothing, client.context.close])
    with between_frames(monkeypatch, "seal") as gate:
        gate.on_call = lambda: next(turns)()
        raised(lambda: client.send_data(b"x" * 200))
    assert client.context.failed
    for call in (lambda: client.send_data(b"more"), client.read):
        assert "between two frames" in str(raised(call))


def test_g4_interrupt_between_two_frames_latches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: saslwrap/layer.py: if not spent:"""
    client, _ = layer_pair("rc4", server_maxbuf=64)

    def break_off() -> None:
        raise KeyboardInterrupt

    turns: Iterator[Callable[[], None]] = iter([nothing, break_off])
    with between_frames(monkeypatch, "seal") as gate:
        gate.on_call = lambda: next(turns)()
        with pytest.raises(KeyboardInterrupt):
            client.send_data(b"x" * 200)
    assert client.context.failed


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
@every_protection
def test_g4_interrupted_seal_or_unseal_latches(
    protection: str, interrupt: type[BaseException]
) -> None:
    """Guard: saslwrap/context.py: self.fail(SASLError("an earlier call on this context was
    Guard: saslwrap/context.py: self.close()
    """

    def break_off() -> None:
        raise interrupt

    for direction in (sealer_of, unsealer_of):
        layer = victim(protection)
        Gate(direction(layer.context)).on_call = break_off
        layer.receive_data(frame(Forger(protection).token()))
        with pytest.raises(interrupt):
            layer.read() if direction is unsealer_of else layer.send_data(b"data")
        assert layer.context.failed
        for call in (layer.read, lambda: layer.send_data(b"data")):  # noqa: B023
            assert "interrupted" in str(raised(call))


@every_protection
def test_g5_close_says_nothing_to_the_peer(protection: str) -> None:
    """Guard: saslwrap/context.py: self._sealer = self._unsealer = None"""
    client, server = layer_pair(protection)
    verdict = judge(server, b"".join(wire(client, b"the last words")))
    client.context.close()
    client.context.close()
    assert verdict.accepted == b"the last words"
    for data in (b"", b"x"):
        assert type(raised(lambda data=data: client.send_data(data))) is UsageError  # type: ignore[misc]
    for call in (client.read, partial(client.context.seal, b"x")):
        error = raised(call)
        assert type(error) is UsageError
        assert error.status == SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert not client.context.failed
    server.receive_eof()
    assert server.read() == b""
    assert server.at_eof


@every_protection
def test_g5_close_drops_the_keys(protection: str) -> None:
    """Guard: saslwrap/context.py: self._sealer = self._unsealer = None"""
    context = victim(protection).context
    kept: list[ref[object]] = [ref(sealer_of(context)), ref(unsealer_of(context))]
    context.close()
    assert [reference() for reference in kept] == [None, None]


def keys_of(protection: str) -> list[bytes]:
    """All keys of a victim."""
    spec = CIPHERS.get(protection)
    pairs = [integrity_keys(SESSION_KEY)]
    if spec:
        pairs.append(sealing_keys(SESSION_KEY, spec.key_octets))
    return [SESSION_KEY, *(k for p in pairs for k in (p.client_to_server, p.server_to_client))]


@every_protection
def test_g6_traceback_of_a_failure_holds_no_key_and_no_plaintext(protection: str) -> None:
    """Guard: saslwrap/context.py: fault = self.fail(error)"""
    secrets = keys_of(protection)
    plaintext = b"plaintext that nobody may see"
    if protection != "auth-int":
        secrets.append(plaintext)
    context = victim(protection).context
    first = raised(lambda: context.unseal(Forger(protection).token(plaintext, mac=bytes(10))))
    layer = victim(protection)
    layer.receive_data(frame(Forger(protection).token(plaintext, mac=bytes(10))))
    for error in (first, raised(layer.read), raised(layer.read)):
        assert not [b for b in buffers_in(error.__traceback__) for s in secrets if s in b]
        frames = [stack.name for stack in extract_tb(error.__traceback__)]
        assert "recover" not in frames
        assert all("digest_md5" not in stack.filename for stack in extract_tb(error.__traceback__))


def test_g6_traceback_of_an_interrupt_holds_no_plaintext() -> None:
    """Guard: saslwrap/context.py: raise error.with_traceback(None) # noqa: B904 - it"""
    plaintext = b"plaintext that nobody may see"
    context = victim("rc4").context

    def break_off() -> None:
        raise MemoryError

    Gate(unsealer_of(context)).on_call = break_off
    with pytest.raises(MemoryError) as caught:
        context.unseal(Forger("rc4").token(plaintext))
    assert plaintext not in list(buffers_in(caught.value.__traceback__))


def test_g6_traceback_of_a_message_that_is_refused_holds_no_plaintext() -> None:
    """Guard: saslwrap/context.py: del message # neither
    Guard: saslwrap/context.py: raise error.with_traceback(None) # noqa: B904 - as
    """
    context = victim("rc4").context
    plaintext = b"plaintext that nobody may see" * 10_000
    for message in (plaintext, bytearray(plaintext), memoryview(plaintext)):
        with pytest.raises(UsageError, match="over the maximum message") as caught:
            context.seal(message)
        assert plaintext not in list(buffers_in(caught.value.__traceback__))


def refuse() -> None:
    raise SASLError("the provider gave up")


def interrupt() -> None:
    raise KeyboardInterrupt


STOPS = {
    "first frame": [refuse],
    "second frame": [nothing, refuse],
    "first interrupted": [interrupt],
    "second interrupted": [nothing, interrupt],
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=list(STOPS))
@every_protection
def test_g6_traceback_of_a_failed_send_holds_no_plaintext(
    protection: str, stop: list[Callable[[], object]]
) -> None:
    """Guard: saslwrap/layer.py: data = piece = token = b""
    Guard: saslwrap/layer.py: frames.clear()
    """
    plaintext = b"plaintext that nobody may see"
    client, _ = layer_pair(protection, server_maxbuf=64)
    turns = iter(stop)
    Gate(sealer_of(client.context)).on_call = lambda: next(turns)()
    with pytest.raises((SASLError, KeyboardInterrupt)) as caught:
        client.send_data(plaintext * 4)
    again = raised(lambda: client.send_data(plaintext))
    for error in (caught.value, caught.value.__context__, again):
        traceback = error.__traceback__ if error else None
        assert not [b for b in buffers_in(traceback) if plaintext in b]


def test_g6_traceback_of_a_send_of_no_buffer_holds_no_plaintext() -> None:
    """Guard: saslwrap/layer.py: error.__traceback__ = None
    Guard: saslwrap/layer.py: del data # as in
    """
    given: Any = [b"plaintext that nobody may see"]
    layer = layer_pair("rc4").client
    for call in (layer.send_data, layer.batches):
        with pytest.raises(TypeError, match="bytes-like") as caught:
            call(given)
        assert given[0] not in list(buffers_in(caught.value.__traceback__))


def test_g6_traceback_of_a_second_writer_holds_no_plaintext() -> None:
    """Guard: saslwrap/layer.py: data = b"" raise Cont"""
    plaintext = b"plaintext that nobody may see"
    layer = layer_pair("rc4").client
    with held_inside(Gate(sealer_of(layer.context)), lambda: layer.send_data(b"x")):
        error = raised(lambda: layer.send_data(plaintext))
    assert type(error) is ContextBusyError
    assert plaintext not in list(buffers_in(error.__traceback__))


@every_protection
def test_g6_texts_and_reprs_hold_no_key(protection: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: outbound: bytes = field(repr=False)
    Guard: saslwrap/mechanisms/digest_md5/keys.py: client_to_server: bytes = field(repr=False)
    """
    layer = victim(protection)
    error = fail(layer)
    things = [layer, layer.context, error, integrity_keys(SESSION_KEY)]
    things += [integrity_keys(SESSION_KEY).of(is_client=True), *mechanism_pair(protection)]
    texts = "".join(f"{thing!r}{thing!s}" for thing in things)
    for key in keys_of(protection):
        assert key.hex() not in texts
        assert repr(key) not in texts
    assert "s3cret" not in texts


@every_protection
def test_g6_nothing_is_logged(protection: str, caplog: pytest.LogCaptureFixture) -> None:
    """Guard: saslwrap/layer.py: self.context.fail(error)"""
    with caplog.at_level(0):
        client, server = layer_pair(protection)
        judge(server, b"".join(wire(client, b"data")))
        fail(server)
    assert caplog.records == []


@every_protection
def test_g7_data_over_the_maximum_message_is_split(protection: str) -> None:
    """Guard: saslwrap/layer.py: if type(data) is bytes and len(data) <= step:
    Guard: saslwrap/mechanisms/digest_md5/context.py: // block_size * block_size - MAC_OCTETS - 1
    """
    client, server = layer_pair(protection, server_maxbuf=64)
    largest = client.context.stream_sizes.maximum_message
    for octets in (1, largest, largest + 1, 3 * largest, 3 * largest + 1):
        frames = client.send_data(b"m" * octets)
        assert len(frames) == 2 * -(-octets // largest)
        assert all(len(token) <= 64 for token in frames[1::2])
        assert judge(server, b"".join(frames)).accepted == b"m" * octets


@every_protection
def test_g7_message_over_the_maximum_spends_no_number(protection: str) -> None:
    """Guard: saslwrap/context.py: if len(message) > self.stream_sizes.maximum_message:"""
    client, server = context_pair(protection, server_maxbuf=64)
    largest = client.stream_sizes.maximum_message
    assert type(raised(lambda: client.seal(bytes(largest + 1)))) is UsageError
    assert not client.failed
    assert server.unseal(client.seal(bytes(largest))) == bytes(largest)


@every_protection
def test_g8_nothing_with_keys_can_be_pickled_or_copied(protection: str) -> None:
    """Guard: saslwrap/context.py: raise TypeError("a security context is one connection's;
    Guard: saslwrap/layer.py: raise TypeError("a security layer is one connection's;
    Guard: saslwrap/mechanism.py: raise TypeError("a mechanism is one connection's;
    """
    layer = layer_pair(protection).client
    for thing in (layer, layer.context, *mechanism_pair(protection)):
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="one connection's"):
                duplicate(thing)
