"""What the attacks share: a forger who knows the keys, spies on what is done, and gates.

A line of the attack list is a test. Its docstring names the guard that stops the attack, as a line
of source; `guards.py` says how to take that guard out, and `test_guards.py` shows that the test
then fails.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event
from types import TracebackType
from typing import Any, SupportsIndex, TypeVar, cast

import pytest
from cryptography.hazmat.primitives.ciphers import CipherContext
from cryptography.hazmat.primitives.hmac import HMAC

from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import SASLError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanisms.digest_md5 import context as digest_context
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS, CipherSpec
from saslwrap.mechanisms.digest_md5.context import DigestSealer, DigestUnsealer, make_context
from saslwrap.mechanisms.digest_md5.keys import integrity_keys, sealing_keys
from saslwrap.testing import PROTECTIONS

T = TypeVar("T")

PATIENCE = 20.0

SESSION_KEY = bytes(range(0x40, 0x50))

BLOCK = ("3des", "des")
STREAM = tuple(name for name in PROTECTIONS if name not in BLOCK)

every_protection = pytest.mark.parametrize("protection", PROTECTIONS)
block_protection = pytest.mark.parametrize("protection", BLOCK)
stream_protection = pytest.mark.parametrize("protection", STREAM)


def nothing() -> None:
    """Do nothing."""


def frame(*tokens: Buffer) -> bytes:
    """Put its length before each token."""
    return b"".join(len(token).to_bytes(4, "big") + bytes(token) for token in tokens)


def wire(layer: SecurityLayer, *messages: Buffer) -> list[bytes]:
    """Send each message and give its frames, joined."""
    return [b"".join(layer.send_data(message)) for message in messages]


def drain(layer: SecurityLayer) -> bytes:
    """Read all plaintext that is there."""
    return b"".join(iter(layer.read, b""))


@dataclass(frozen=True)
class Verdict:
    """What a layer made of its input: plaintext, and then the error, if there was one."""

    accepted: bytes
    error: SASLError | None


def judge(layer: SecurityLayer, data: bytes, *, eof: bool = False) -> Verdict:
    """Feed `data` to a layer, read all it gives."""
    layer.receive_data(data)
    if eof:
        layer.receive_eof()
    accepted = b""
    try:
        while piece := layer.read():
            accepted += piece
    except SASLError as error:
        return Verdict(accepted, error)
    return Verdict(accepted, None)


def judge_in_place(layer: SecurityLayer, data: bytes) -> Verdict:
    """Unseal one frame in memory of our own, as SSPI's calls do."""
    memory = bytearray(data[4:])
    try:
        length = layer.context.unseal_in_place(memoryview(memory))
    except SASLError as error:
        return Verdict(bytes(memory), error)
    return Verdict(bytes(memory[:length]), None)


class Forger:
    """Knows the keys of the session and makes any token with them, right or wrong.

    This is the strongest attacker there is: what it cannot pass off, nobody can.
    """

    def __init__(self, protection: str, *, is_client: bool = True) -> None:
        spec = CIPHERS.get(protection)
        self._integrity_key = integrity_keys(SESSION_KEY).of(is_client=is_client).outbound
        self._encrypt: Callable[[bytes], bytes] = bytes
        self._block = 1
        if spec:
            key = sealing_keys(SESSION_KEY, spec.key_octets).of(is_client=is_client).outbound
            self._encrypt = spec.encryptor(key).update
            self._block = spec.block_size

    def mac(self, message: bytes, number: int = 0) -> bytes:
        """The right MAC."""
        text = (number % (1 << 32)).to_bytes(4, "big") + message
        return hmac.digest(self._integrity_key, text, "md5")[:10]

    def padding(self, message: bytes) -> bytes:
        """The right padding, none for a stream cipher."""
        if self._block == 1:
            return b""
        length = self._block - (len(message) + 10) % self._block
        return bytes((length,)) * length

    def token(
        self,
        message: bytes = b"hello",
        number: int = 0,
        *,
        padding: bytes | None = None,
        mac: bytes | None = None,
        kind: bytes = b"\0\1",
    ) -> bytes:
        """A token, right where nothing else is asked for."""
        if padding is None:
            padding = self.padding(message)
        if mac is None:
            mac = self.mac(message, number)
        trailer = kind + (number % (1 << 32)).to_bytes(4, "big")
        return self._encrypt(message + padding + mac) + trailer


def victim(protection: str, *, maxbuf: int = 65536, is_client: bool = False) -> SecurityLayer:
    """The layer that a `Forger` attacks: a real DIGEST-MD5 context over a key that it knows."""
    return SecurityLayer(
        make_context(
            SESSION_KEY,
            CIPHERS.get(protection),
            is_client=is_client,
            local_maxbuf=maxbuf,
            peer_maxbuf=maxbuf,
        )
    )


def sealer_of(context: SecurityContext) -> DigestSealer:
    """The sending direction inside a context."""
    assert isinstance(context._sealer, DigestSealer)
    return context._sealer


def unsealer_of(context: SecurityContext) -> DigestUnsealer:
    """The receiving direction inside a context."""
    assert isinstance(context._unsealer, DigestUnsealer)
    return context._unsealer


@dataclass
class Primitives:
    """The record of calls to primitives: name, and length of what went in."""

    calls: list[tuple[str, int]] = field(default_factory=list)

    def note(self, name: str, data: Buffer = b"") -> None:
        self.calls.append((name, len(data)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class _SpiedHMAC:
    def __init__(self, real: HMAC, primitives: Primitives) -> None:
        self._real = real
        self._primitives = primitives

    def copy(self) -> _SpiedHMAC:
        self._primitives.note("hmac copy")
        return _SpiedHMAC(self._real.copy(), self._primitives)

    def update(self, data: Buffer) -> None:
        self._primitives.note("hmac update", data)
        self._real.update(data)

    def finalize(self) -> bytes:
        self._primitives.note("hmac finalize")
        return self._real.finalize()


class _SpiedCipher:
    def __init__(self, real: CipherContext, primitives: Primitives) -> None:
        self._real = real
        self._primitives = primitives

    def update(self, data: Buffer) -> bytes:
        self._primitives.note("cipher update", data)
        return self._real.update(data)

    def update_into(self, data: Buffer, into: Buffer) -> int:
        self._primitives.note("cipher update", data)
        return self._real.update_into(data, into)


@pytest.fixture
def primitives(monkeypatch: pytest.MonkeyPatch) -> Primitives:
    """Spy on the primitives of each context made from now on."""
    record = Primitives()

    def keyed(key: bytes, algorithm: Any) -> _SpiedHMAC:
        return _SpiedHMAC(HMAC(key, algorithm), record)

    def decryptor(spec: CipherSpec, key: bytes) -> _SpiedCipher:
        return _SpiedCipher(real_decryptor(spec, key), record)

    def compare(a: bytes, b: bytes) -> bool:
        record.note("compare_digest", a)
        return hmac.compare_digest(a, b)

    real_decryptor = CipherSpec.decryptor
    monkeypatch.setattr(CipherSpec, "decryptor", decryptor)
    monkeypatch.setattr(digest_context, "HMAC", keyed)
    monkeypatch.setattr(digest_context, "compare_digest", compare)
    return record


class Gate:
    """Stands where a direction takes its HMAC: calls `on_call` from inside each seal or unseal."""

    def __init__(self, direction: DigestSealer | DigestUnsealer) -> None:
        self._real = direction._keyed
        self.on_call: Callable[[], object] = nothing
        direction._keyed = cast("HMAC", self)

    def copy(self) -> HMAC:
        self.on_call()
        return self._real.copy()


@contextmanager
def held_inside(gate: Gate, call: Callable[[], T]) -> Iterator[Future[T]]:
    """Keep `call` inside `gate`, in another thread, while the block runs; later calls pass."""
    entered, leave = Event(), Event()

    def wait() -> None:
        gate.on_call = nothing
        entered.set()
        assert leave.wait(PATIENCE)

    gate.on_call = wait
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            assert entered.wait(PATIENCE)
            yield future
        finally:
            leave.set()


@contextmanager
def between_frames(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[Gate]:
    """Let a gate stand before each `seal` or `unseal`, outside the context's own guard."""
    gate = Gate.__new__(Gate)
    gate.on_call = nothing
    real = getattr(SecurityContext, name)

    def gated(context: SecurityContext, data: Buffer) -> bytes:
        gate.on_call()
        result = real(context, data)
        assert isinstance(result, bytes)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(SecurityContext, name, gated)
        yield gate


class CountingBuffer(bytearray):
    """A bytearray that counts the octets which are moved or copied: work, without a clock."""

    work = 0

    def __iadd__(self, data: Any) -> CountingBuffer:
        self.work += len(data)
        self.extend(data)
        return self

    def __add__(self, data: Any) -> CountingBuffer:
        joined = CountingBuffer(bytes(self) + data)
        joined.work = self.work + len(joined)
        return joined

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if not isinstance(key, slice):
            return part
        piece = CountingBuffer(part)
        self.work += len(piece)
        piece.work = self.work
        return piece

    def __delitem__(self, key: SupportsIndex | slice) -> None:
        self.work += 1  # from the front, a bytearray moves its start and copies nothing
        super().__delitem__(key)


def counted(layer: SecurityLayer) -> SecurityLayer:
    """Count the octets that the layer's decoder moves, from now on."""
    layer._decoder._buffer = CountingBuffer()
    return layer


def work_of(layer: SecurityLayer) -> int:
    """How many octets the decoder of a counted layer moved."""
    buffer = layer._decoder._buffer
    assert isinstance(buffer, CountingBuffer)
    return buffer.work


def buffers_in(traceback: TracebackType | None) -> Iterator[bytes]:
    """Each buffer in a local of a frame of the package, as octets."""
    while traceback:
        if "saslwrap" in traceback.tb_frame.f_globals.get("__name__", ""):
            for value in traceback.tb_frame.f_locals.values():
                for item in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(item, bytes | bytearray | memoryview):
                        with suppress(ValueError):  # a view that was released
                            yield bytes(item)
        traceback = traceback.tb_next
