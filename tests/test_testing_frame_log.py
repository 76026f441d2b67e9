from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from saslwrap import DigestMD5Server, choose_mechanism
from saslwrap.anyio import SASLAttribute
from saslwrap.context import SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    ContextBusyError,
    FrameTooLargeError,
    IntegrityError,
    OutOfSequenceError,
    SASLError,
    UsageError,
)
from saslwrap.layer import SecurityLayer
from saslwrap.properties import ChannelInfo, SecurityProperties
from saslwrap.testing import (
    PROTECTIONS,
    FrameLog,
    FrameRecord,
    connect_mechanisms,
    context_pair,
    mechanism_pair,
    memory_stream_pair,
)
from saslwrap.testing.checks import check_byte_stream
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, properties_for
from tests.conftest import logged_in, talk
from tests.support import ToySealer, ToyUnsealer, at_work, make_context, make_layer, tokens


def watched_pair(protection: str = "rc4") -> tuple[FrameLog, SecurityContext, SecurityContext]:
    """A client's context that is watched, and the server's."""
    log, pair = FrameLog(), context_pair(protection)
    return log, log.watch(pair.client), pair.server


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_it_has_what_was_sealed_and_what_was_unsealed(protection: str) -> None:
    log, client, server = watched_pair(protection)
    sent = client.seal(b"question"), client.seal(b"")
    assert [server.unseal(token) for token in sent] == [b"question", b""]
    received = server.seal(b"answer")
    assert client.unseal(received) == b"answer"
    assert log.records == (
        FrameRecord(0, "sent", 0, sent[0], b"question"),
        FrameRecord(0, "sent", 1, sent[1], b""),
        FrameRecord(0, "received", 0, received, b"answer"),
    )
    assert log.sent == log.records[:2]
    assert log.received == log.records[2:]
    assert len(log) == 3


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_watched_context_says_what_the_other_says(protection: str) -> None:
    context = context_pair(protection).client
    watched = FrameLog().watch(context)
    for name in (
        *("mechanism", "qop", "ssf", "cipher", "stream_sizes", "sizes"),
        *("local_maxbuf", "peer_maxbuf", "failed", "alive"),
    ):
        assert getattr(watched, name) == getattr(context, name)
    assert repr(watched) == repr(context)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_it_sees_what_is_done_in_place(protection: str) -> None:
    log, client, server = watched_pair(protection)
    memory = bytearray(b"question")
    token = memory + client.seal_in_place(memoryview(memory))
    assert server.unseal(token) == b"question"
    memory = bytearray(server.seal(b"answer"))
    received = bytes(memory)
    assert memory[: client.unseal_in_place(memoryview(memory))] == b"answer"
    assert log.records == (
        FrameRecord(0, "sent", 0, bytes(token), b"question"),
        FrameRecord(0, "received", 0, received, b"answer"),
    )


def test_it_sees_signatures_and_leaves_the_message_as_it_is() -> None:
    log, client, server = watched_pair("auth-int")
    message = memoryview(b"question")
    signature = client.sign(message)
    server.verify(message, memoryview(signature))
    signature_back = server.sign(message)
    client.verify(message, memoryview(signature_back))
    assert [record.message for record in log.records] == [b"question"] * 2
    assert [record.token for record in log.records] == [
        b"question" + signature,
        b"question" + signature_back,
    ]


def altered(token: bytes) -> bytes:
    return bytes([token[0] ^ 1]) + token[1:]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda client, token: client.unseal(altered(token)), IntegrityError),
        (lambda client, token: (client.unseal(token), client.unseal(token)), OutOfSequenceError),
        (
            lambda client, token: client.unseal_in_place(memoryview(bytearray(altered(token)))),
            IntegrityError,
        ),
        (lambda client, token: client.unseal(bytes(70_000)), FrameTooLargeError),
    ],
    ids=["altered", "replayed", "altered in place", "too large"],
)
def test_it_has_what_failed_and_the_failure_stays(
    call: Callable[[SecurityContext, bytes], object], kind: type[SASLError]
) -> None:
    log, client, server = watched_pair()
    with pytest.raises(kind) as first:
        call(client, server.seal(b"answer"))
    failed = log.records[-1]
    assert failed.direction == "received"
    assert failed.message is None
    assert type(failed.error) is kind
    assert (failed.token is None) == (kind is FrameTooLargeError)
    count = len(log)
    for later in (lambda: client.seal(b"x"), lambda: client.unseal(b"x"), client.check):
        with pytest.raises(kind) as again:
            later()
        assert type(again.value) is kind
        assert str(again.value) == str(first.value)
        assert again.value.__cause__ is again.value.__context__ is None
    assert len(log) == count
    assert client.failed
    assert not client.alive


def test_an_unwatched_context_is_dead_with_its_watched_one() -> None:
    pair = context_pair()
    client, server = FrameLog().watch(pair.client), FrameLog().watch(pair.server)
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.seal(b"x")
    assert not pair.client.alive
    server.fail(IntegrityError())
    assert pair.server.failed
    assert str(pair.server.fault) == str(server.fault) == str(IntegrityError())


def test_it_has_what_the_framing_refused() -> None:
    log, client, server = watched_pair()
    layer = SecurityLayer(client)
    good = server.seal(b"good")
    layer.receive_data(len(good).to_bytes(4, "big") + good + b"HTTP/1.1 400 Bad Request")
    assert layer.read() == b"good"
    with pytest.raises(FrameTooLargeError):
        layer.read()
    assert [(record.number, type(record.error)) for record in log.received] == [
        (0, type(None)),
        (1, FrameTooLargeError),
    ]


def test_what_spends_nothing_is_not_there() -> None:
    log, client, _ = watched_pair()
    with pytest.raises(UsageError, match="maximum message"):
        client.seal(bytes(70_000))
    with pytest.raises(UsageError, match="in place"):
        client.seal_in_place(memoryview(b"read only"))
    assert log.records == ()
    toy = FrameLog().watch(make_context())
    for call in (toy.seal_in_place, toy.unseal_in_place):
        with pytest.raises(UsageError, match=r"TOY cannot (un)?seal in place; use (un)?seal"):
            call(memoryview(bytearray(20)))
    assert toy.alive


def test_a_context_that_is_watched_is_nobody_else_s() -> None:
    """A layer of it would seal past the log, and out of the watched one's sequence."""
    context = make_context()
    FrameLog().watch(context)
    with pytest.raises(UsageError, match="has a user already"):
        SecurityLayer(context)
    in_use = make_layer().context
    with pytest.raises(UsageError, match="has a user already"):
        FrameLog().watch(in_use)


def test_a_failure_to_seal_is_there() -> None:
    sealer = ToySealer()
    log = FrameLog()
    context = log.watch(make_context(sealer))

    def fail() -> None:
        raise SASLError("no ticket any more")

    sealer.on_call = fail
    with pytest.raises(SASLError, match="no ticket"):
        context.seal(b"x")
    (record,) = log.sent
    assert (record.token, record.message, str(record.error)) == (None, None, "no ticket any more")


def test_a_second_sealer_is_refused_and_the_other_direction_goes_on() -> None:
    sealer, unsealer = ToySealer(), ToyUnsealer()
    log = FrameLog()
    context = log.watch(make_context(sealer, unsealer))
    with at_work(sealer, lambda: context.seal(b"first")) as first:
        with pytest.raises(ContextBusyError, match="another sealer"):
            context.seal(b"second")
        assert context.unseal(tokens(b"in")[0]) == b"in"
    assert first.result() == tokens(b"first")[0]
    assert [record.message for record in log.records] == [b"in", b"first"]


def test_closing_while_a_call_is_at_work_lets_that_end() -> None:
    sealer = ToySealer()
    log = FrameLog()
    context = log.watch(make_context(sealer))
    with at_work(sealer, lambda: context.seal(b"first")) as first:
        context.close()
    assert first.result() == tokens(b"first")[0]
    assert len(log) == 1


def test_two_threads_are_in_the_log_in_the_order_of_each() -> None:
    log, client, server = watched_pair()
    incoming = [server.seal(bytes([number])) for number in range(200)]
    ready = Event()

    def seal() -> None:
        ready.wait(10)
        for number in range(200):
            client.seal(bytes([number]))

    with ThreadPoolExecutor(1) as pool:
        sealing = pool.submit(seal)
        ready.set()
        for token in incoming:
            client.unseal(token)
        sealing.result(10)
    for records in (log.sent, log.received):
        assert [record.number for record in records] == list(range(200))
        assert [record.message for record in records] == [bytes([n]) for n in range(200)]


# Mechanisms


def test_a_watched_login_is_the_same_login() -> None:
    log, pair = FrameLog(), mechanism_pair("3des")
    client, server = log.watch_mechanism(pair.client), log.watch_mechanism(pair.server)
    assert (client.name, client.authcid, client.may_block) == ("DIGEST-MD5", USERNAME, False)
    assert repr(client) == "<WatchedClient incomplete>"
    with pytest.raises(UsageError, match="before it is complete"):
        _ = client.context
    connect_mechanisms(client, server)
    assert server.authcid == USERNAME
    assert client.context is not None
    assert server.context is not None
    assert server.context.unseal(client.context.seal(b"hello")) == b"hello"
    assert [(record.context, record.direction) for record in log.records] == [
        (1, "sent"),
        (0, "received"),
    ]


def test_a_watched_login_without_a_layer_has_no_context() -> None:
    log, pair = FrameLog(), mechanism_pair("auth")
    client = log.watch_mechanism(pair.client)
    connect_mechanisms(client, pair.server)
    assert client.context is None


def test_a_watched_client_can_be_chosen() -> None:
    properties = SecurityProperties(min_ssf=128, max_ssf=128, ciphers=("rc4",))
    client = FrameLog().watch_mechanism(mechanism_pair("rc4").client)
    assert choose_mechanism(["DIGEST-MD5"], [client], properties) is client
    assert client.best_ssf(properties) == 128
    assert client.properties == properties_for("rc4")


def test_a_watched_login_that_fails_or_is_given_up_does_so_for_both() -> None:
    log, pair = FrameLog(), mechanism_pair()
    strangers = DigestMD5Server(lambda *_: "other", service="ldap", host=HOST, realms=[REALM])
    server = log.watch_mechanism(strangers)
    response = pair.client.step(server.step(None))
    with pytest.raises(AuthenticationError) as first:
        server.step(response)
    with pytest.raises(AuthenticationError) as again:
        server.step(response)
    assert str(first.value) == str(again.value)
    pair = mechanism_pair()
    client = log.watch_mechanism(pair.client)
    connect_mechanisms(client, pair.server)
    client.abandon()
    assert pair.client.context is not None
    assert not pair.client.context.alive


def test_a_watched_mechanism_passes_its_channel_on() -> None:
    pair = mechanism_pair("auth")
    client = FrameLog().watch_mechanism(pair.client)
    client.bind_channel(ChannelInfo(external_ssf=256))
    connect_mechanisms(client, pair.server)
    with pytest.raises(UsageError, match="make a new one"):
        client.bind_channel(ChannelInfo())


@pytest.mark.parametrize("given", [None, DigestMD5Server, mechanism_pair()])
def test_what_cannot_be_watched_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^context is SecurityContext, not "):
        FrameLog().watch(given)
    with pytest.raises(UsageError, match=r"^mechanism is a mechanism that was made, not "):
        FrameLog().watch_mechanism(given)


def test_a_complete_mechanism_is_too_late() -> None:
    pair = mechanism_pair()
    connect_mechanisms(*pair)
    for side in pair:
        with pytest.raises(UsageError, match=r"complete; give its context to watch\(\)"):
            FrameLog().watch_mechanism(side)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_watched_stream_keeps_the_contract(anyio_backend: str) -> None:
    log = FrameLog()

    async def make_pair() -> tuple[object, object]:
        mechanisms = mechanism_pair()
        watched = type(mechanisms)(
            log.watch_mechanism(mechanisms.client), log.watch_mechanism(mechanisms.server)
        )
        return await logged_in(*memory_stream_pair(), watched)

    client, server = await logged_in(*memory_stream_pair(), "rc4")
    await talk(client, server)
    await check_byte_stream(make_pair, volume=100_000)  # type: ignore[arg-type]
    assert client.extra(SASLAttribute.context) is not None
    assert len(log) > 100


# To read


def test_a_line_a_frame_with_its_direction_number_and_sizes() -> None:
    log, client, server = watched_pair("auth-int")
    client.seal(b"question\r\n")
    client.seal(bytes(50))
    with pytest.raises(IntegrityError):
        client.unseal(altered(server.seal(b"answer")))
    assert repr(log).startswith("<FrameLog of 3 frames")
    assert "question" not in repr(log) + repr(log.records)
    assert str(log).splitlines() == [
        "context  direction  number  message  token  content",
        "      0  sent            0       10     26  question..",
        "      0  sent            1       50     66  " + "." * 40 + "...",
        "      0  received        0        -     22  IntegrityError: a protected message was "
        "altered or forged",
    ]


def test_the_octets_beside_the_plaintext() -> None:
    log, client, _ = watched_pair("auth-int")
    token = client.seal(b"eighteen octets...")
    heading, line, first, second, third = log.dump().splitlines()
    assert heading.startswith("context")
    assert line == str(log.records[0])
    assert first == f"            0  {token[:16].hex(' ')}  eighteen octets."
    assert second == f"           10  {token[16:32].hex(' ')}  .."
    assert third == f"           20  {token[32:].hex(' ')}"


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_no_key_and_no_password_is_in_a_log(protection: str) -> None:
    log, pair = FrameLog(), mechanism_pair(protection)
    client = log.watch_mechanism(pair.client)
    connect_mechanisms(client, pair.server)
    assert client.context is not None
    client.context.seal(b"hello")
    shown = f"{log!r}{log.dump()}{log.records!r}{client!r}{client.context!r}"
    assert PASSWORD not in shown
    assert FrameRecord.__slots__ == (
        *("context", "direction", "number", "token", "message", "error"),
    )
