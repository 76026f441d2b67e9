"""The layers of both mechanisms between ourselves: key types, sizes, attacks, threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Barrier, BrokenBarrierError, Event, Lock
from typing import TYPE_CHECKING, Any

import pytest

from saslwrap import (
    ContextBusyError,
    IntegrityError,
    NegotiationError,
    OutOfSequenceError,
    SASLError,
    SecurityContext,
    SecurityProperties,
    SecurityStatus,
    UsageError,
)
from saslwrap.mechanisms.gss.provider import GSSContext
from saslwrap.testing import ContextPair, connect_mechanisms
from tests.gss_pairs import (
    LAYERS,
    PROTECTIONS,
    check_both_ways,
    gss_contexts,
    gss_pair,
    write_ntlm_users,
)
from tests.peers.directory import ALICE
from tests.peers.kdc import Realm
from tests.peers.support import require_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytest.importorskip("spnego")

PATIENCE = 60.0
MESSAGES = 5000
KERBEROS_LAYERS = tuple(name for name in LAYERS if name != "ntlm-128")


@pytest.fixture(params=LAYERS)
def protection(
    request: pytest.FixtureRequest,
    alice_ticket: Realm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Each layer, and whatever its login needs."""
    write_ntlm_users(tmp_path, monkeypatch)
    name: str = request.param
    return name


@pytest.fixture
def contexts(protection: str) -> ContextPair:
    return gss_contexts(protection)


# key types

ENCTYPES = {
    "aes128-cts-hmac-sha1-96": 128,
    "aes256-cts-hmac-sha1-96": 256,
    "aes128-cts-hmac-sha256-128": 128,
    "aes256-cts-hmac-sha384-192": 256,
    "camellia256-cts-cmac": 256,
    "arcfour-hmac": 64,
}
RC4 = "arcfour-hmac"
MAXBUFS = (100, 1000, 65536, 16777215)


@pytest.fixture(scope="module", params=ENCTYPES)
def realm_of_a_kind(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """A realm whose keys are all of one kind."""
    require_program(*Realm.programs)
    with Realm(enctypes=(request.param,)) as realm:
        yield realm


@pytest.fixture
def enctype(realm_of_a_kind: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of the keys; the test process lives in their realm, with a ticket of Alice's."""
    for name, value in realm_of_a_kind.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'ccache'}")
    realm_of_a_kind.kinit(ALICE.username, ALICE.password, cache=tmp_path / "ccache")
    (name,) = realm_of_a_kind.enctypes
    return name


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
def test_the_strength_of_each_key(enctype: str, protection: str) -> None:
    strength = ENCTYPES[enctype]
    contexts = gss_contexts(protection, properties=SecurityProperties(min_ssf=strength))
    assert [context.ssf for context in contexts] == [strength] * 2
    assert [context.cipher for context in contexts] == [enctype] * 2
    check_both_ways(contexts)


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
def test_a_key_that_is_too_weak(enctype: str, protection: str) -> None:
    properties = SecurityProperties(min_ssf=ENCTYPES[enctype] + 1, max_ssf=1000)
    with pytest.raises(NegotiationError) as caught:
        gss_contexts(protection, properties=properties)
    assert f"wanted: an SSF of {properties.min_ssf} to 1000" in str(caught.value)
    assert str(ENCTYPES[enctype]) in str(caught.value)


@pytest.mark.parametrize("protection", ["gssapi-256", "spnego-256"])
def test_rc4_is_refused_by_default(enctype: str, protection: str) -> None:
    pair = gss_pair(protection)
    if enctype != RC4:
        connect_mechanisms(*pair)
        return
    with pytest.raises(NegotiationError, match="wanted: an SSF of 112 to 256"):
        connect_mechanisms(*pair)


def maximum(context: SecurityContext) -> int:
    return context.stream_sizes.maximum_message


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "sealed"])
@pytest.mark.parametrize("maxbuf", MAXBUFS)
def test_the_longest_message_fills_a_token(enctype: str, maxbuf: int, signed: bool) -> None:
    properties = SecurityProperties(min_ssf=1, max_ssf=1 if signed else 256, max_buffer=maxbuf)
    contexts = gss_contexts("gssapi-256", properties=properties)
    for sender, receiver in (contexts, contexts[::-1]):
        assert (sender.peer_maxbuf, sender.local_maxbuf) == (maxbuf, maxbuf)
        message = random.Random(1).randbytes(maximum(sender))
        token = sender.seal(message)
        assert maxbuf - 60 <= len(token) <= maxbuf
        assert receiver.unseal(token) == message
        with pytest.raises(UsageError, match=f"over the maximum message of {len(message)}"):
            sender.seal(message + b"x")
    check_both_ways(contexts)  # a refusal kills nothing


def test_spnego_takes_its_own_limits(enctype: str) -> None:
    contexts = gss_contexts(
        "spnego-256",
        properties=SecurityProperties(min_ssf=64),
        client={"send_limit": 1000, "receive_limit": 16777215},
        server={"send_limit": 65536, "receive_limit": 2000},
    )
    assert [context.peer_maxbuf for context in contexts] == [1000, 65536]
    assert [context.local_maxbuf for context in contexts] == [16777215, 2000]
    for sender, receiver in (contexts, contexts[::-1]):
        message = bytes(maximum(sender))
        token = sender.seal(message)
        assert sender.peer_maxbuf - 60 <= len(token) <= sender.peer_maxbuf
        assert receiver.unseal(token) == message


# sizes


def test_each_side_has_a_maximum_of_its_own(alice_ticket: Realm) -> None:
    contexts = gss_contexts(
        "gssapi-256",
        client={"properties": SecurityProperties(max_buffer=1000)},
        server={"properties": SecurityProperties(max_buffer=5000)},
    )
    assert [maximum(context) for context in contexts] == [5000 - 60, 1000 - 60]
    assert [context.peer_maxbuf for context in contexts] == [5000, 1000]
    assert [context.local_maxbuf for context in contexts] == [1000, 5000]
    for sender, receiver in (contexts, contexts[::-1]):
        token = sender.seal(bytes(maximum(sender)))
        assert len(token) == receiver.local_maxbuf
        assert receiver.unseal(token) == bytes(maximum(sender))
        with pytest.raises(UsageError):
            sender.seal(bytes(maximum(sender) + 1))


def test_a_maximum_that_carries_nothing(alice_ticket: Realm) -> None:
    pair = gss_pair("gssapi-256", server={"properties": SecurityProperties(max_buffer=59)})
    with pytest.raises(NegotiationError, match="too small for a token to carry anything"):
        connect_mechanisms(*pair)


@pytest.mark.parametrize("name", ["receive_limit", "send_limit"])
@pytest.mark.parametrize("limit", [0, -1, 1 << 24])
def test_limits_of_spnego_out_of_range(name: str, limit: int) -> None:
    for side in ("client", "server"):
        with pytest.raises(UsageError, match=rf"{name} is .* from 1 to 16777215, not {limit}"):
            gss_pair("spnego-256", **{side: {name: limit}})


# what an attacker does


def flipped(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], alter(tokens[1], -1), *tokens[1:]]


def flipped_first(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], alter(tokens[1], 0), *tokens[1:]]


def cut(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], tokens[1][:-1], *tokens[1:]]


def longer(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], tokens[1] + b"\0", *tokens[1:]]


def empty(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], b"", *tokens[1:]]


def replayed(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], tokens[0], *tokens[1:]]


def with_a_gap(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[0], tokens[2], tokens[1], tokens[3]]


def swapped(tokens: Sequence[bytes]) -> list[bytes]:
    return [tokens[1], tokens[0], *tokens[1:]]


IN_A_TOKEN = (flipped, flipped_first, cut, longer, empty)
BETWEEN_TOKENS = (replayed, with_a_gap, swapped)


def alter(token: bytes, place: int) -> bytes:
    altered = bytearray(token)
    altered[place] ^= 1
    return bytes(altered)


def deliver(tokens: Sequence[bytes], receiver: SecurityContext) -> tuple[int, list[SASLError]]:
    """Give how many were taken, and why the others were not."""
    refusals: list[SASLError] = []
    for token in tokens:
        try:
            receiver.unseal(token)
        except SASLError as error:
            refusals.append(error)
    return len(tokens) - len(refusals), refusals


@pytest.mark.parametrize("attack", [*IN_A_TOKEN, *BETWEEN_TOKENS])
@pytest.mark.parametrize("swap", [False, True], ids=["to the server", "to the client"])
def test_an_attack_is_the_end(
    protection: str, attack: Callable[[Sequence[bytes]], list[bytes]], swap: bool
) -> None:
    contexts = gss_contexts(protection)
    sender, receiver = contexts[::-1] if swap else contexts
    sealed = [sender.seal(b"message %d" % number) for number in range(4)]
    answer = receiver.seal(b"an answer")
    good, refusals = deliver(attack(sealed), receiver)
    assert good == (0 if attack is swapped else 1), "a token was taken that must not be"
    in_order = attack in BETWEEN_TOKENS and protection != "ntlm-128"
    assert {type(refusal) for refusal in refusals} == {
        OutOfSequenceError if in_order else IntegrityError
    }
    assert len({str(refusal) for refusal in refusals}) == 1
    with pytest.raises(type(refusals[0])):
        receiver.seal(b"nothing more")
    assert receiver.failed
    assert not receiver.alive
    assert sender.unseal(answer) == b"an answer"  # that side knows nothing of it


def test_a_signed_token_where_a_sealed_one_is_due(alice_ticket: Realm) -> None:
    """The guard: gss_unwrap opens it gladly."""
    for protection in ("gssapi-256", "spnego-256"):
        contexts = gss_contexts(protection)
        sealer: Any = contexts.client._sealer
        sealer._encrypt = False
        token = contexts.client.seal(b"in clear")
        assert b"in clear" in token
        with pytest.raises(IntegrityError):
            contexts.server.unseal(token)
        assert contexts.server.failed


# threads


def shuttle(
    sender: SecurityContext, receiver: SecurityContext, name: bytes
) -> list[Callable[[], None]]:
    """Two threads: one seals, one unseals what it seals. Give what is left to wait for."""
    tokens: SimpleQueue[bytes] = SimpleQueue()

    def message(number: int) -> bytes:
        return b"%b %06d " % (name, number) * (number % 7)

    def seal() -> None:
        for number in range(MESSAGES):
            tokens.put(sender.seal(message(number)))

    def unseal() -> None:
        for number in range(MESSAGES):
            assert receiver.unseal(tokens.get(timeout=PATIENCE)) == message(number)

    return [seal, unseal]


def test_both_directions_in_threads(contexts: ContextPair) -> None:
    """Four threads: each context has a sealer and an unsealer at work at the same time."""
    client, server = contexts
    work = [*shuttle(client, server, b"there"), *shuttle(server, client, b"back")]
    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(one) for one in work]:
            future.result(PATIENCE)


def test_one_direction_in_many_threads_by_turns(contexts: ContextPair) -> None:
    """A context belongs to no thread, as long as somebody keeps the order."""
    turn = Lock()

    def carry(number: int) -> None:
        for step in range(250):
            message = b"%d of thread %d" % (step, number)
            with turn:
                assert contexts.server.unseal(contexts.client.seal(message)) == message

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(carry, range(4), timeout=PATIENCE))


class _Watched:
    """A proxy of pyspnego's that sees whether two threads are in it at the same time."""

    def __init__(self, proxy: Any) -> None:
        self._context = proxy  # where GSSContext looks for what is below
        self._meeting = Barrier(2)
        self.crowded = False

    def wrap(self, *arguments: Any, **options: Any) -> Any:
        self._meet()
        return self._context.wrap(*arguments, **options)

    def unwrap(self, *arguments: Any, **options: Any) -> Any:
        self._meet()
        return self._context.unwrap(*arguments, **options)

    def _meet(self) -> None:
        try:
            self._meeting.wait(0.3)
        except BrokenBarrierError:
            return
        self.crowded = True


def test_gss_sees_one_thread_at_a_time(contexts: ContextPair) -> None:
    """The guard: GSS contexts are not made for a sealer and an unsealer at the same time."""
    sealer: Any = contexts.client._sealer
    watched = sealer._gss._proxy = _Watched(sealer._gss._proxy)
    token = contexts.server.seal(b"a message")
    with ThreadPoolExecutor(2) as pool:
        sealing = pool.submit(contexts.client.seal, b"another one")
        unsealing = pool.submit(contexts.client.unseal, token)
        assert contexts.server.unseal(sealing.result(PATIENCE)) == b"another one"
        assert unsealing.result(PATIENCE) == b"a message"
    assert not watched.crowded


@pytest.mark.parametrize("kind", ["seal", "unseal"])
def test_a_second_one_of_a_kind_is_refused(
    contexts: ContextPair, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = Event(), Event()
    name = "wrap" if kind == "seal" else "unwrap"
    original = getattr(GSSContext, name)
    tokens = [contexts.server.seal(b"message %d" % number) for number in range(2)]

    def slowly(*arguments: object, **options: object) -> object:
        entered.set()
        assert leave.wait(PATIENCE)
        return original(*arguments, **options)

    call = contexts.client.seal if kind == "seal" else contexts.client.unseal
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(GSSContext, name, slowly)
        first = pool.submit(call, tokens[0])
        try:
            assert entered.wait(PATIENCE)
            with pytest.raises(ContextBusyError, match="one unseal at a time"):
                call(tokens[1])
            if kind == "seal":  # the other direction is free meanwhile
                assert contexts.client.unseal(tokens[0]) == b"message 0"
            else:
                assert contexts.client.seal(b"meanwhile")
        finally:
            leave.set()
        assert first.result(PATIENCE)
    assert contexts.client.alive


# the end


def test_a_closed_context(contexts: ContextPair) -> None:
    token = contexts.server.seal(b"a message")
    contexts.client.close()
    contexts.client.close()
    for call in (contexts.client.seal, contexts.client.unseal):
        with pytest.raises(UsageError, match="closed") as caught:
            call(token)
        assert caught.value.status is SecurityStatus.SEC_E_CONTEXT_EXPIRED
    assert not contexts.client.alive
    assert not contexts.client.failed


def test_a_mechanism_that_was_abandoned(protection: str) -> None:
    pair = gss_pair(protection)
    connect_mechanisms(*pair)
    for side in pair:
        side.abandon()
        assert side.context is not None
        assert not side.context.alive
        with pytest.raises(SASLError, match="given up"):
            side.step(b"once more")


def test_a_context_shows_what_it_is(contexts: ContextPair, protection: str) -> None:
    name, _, ssf = PROTECTIONS[protection]
    for context in contexts:
        assert name in repr(context) or name == "NTLM"
        assert f"ssf={ssf}" in repr(context)
        assert "0x" not in repr(context)
