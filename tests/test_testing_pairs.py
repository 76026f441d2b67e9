from __future__ import annotations

from typing import Any

import pytest

from saslwrap import DigestMD5Client, SecurityContext, SecurityProperties
from saslwrap.errors import NegotiationError, UsageError
from saslwrap.properties import QOP
from saslwrap.testing import (
    PROTECTIONS,
    ContextPair,
    MechanismPair,
    connect_mechanisms,
    context_pair,
    layer_pair,
    mechanism_pair,
)
from tests.sound import SoundClient, SoundServer

ANY = SecurityProperties(min_ssf=0, ciphers=("rc4", "3des", "rc4-56", "des", "rc4-40"))


def check_both_ways(pair: ContextPair) -> None:
    for sender, receiver in (pair, pair[::-1]):
        assert receiver.unseal(sender.seal(b"a message")) == b"a message"


def sizes(context: SecurityContext) -> tuple[int, int]:
    return context.local_maxbuf, context.peer_maxbuf


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_contexts_by_the_name_of_a_protection(protection: str) -> None:
    pair = context_pair(protection, client_maxbuf=2000, server_maxbuf=3000)
    assert (sizes(pair.client), sizes(pair.server)) == ((2000, 3000), (3000, 2000))
    assert {context.cipher or "auth-int" for context in pair} == {protection}
    check_both_ways(pair)


def test_contexts_of_another_mechanism() -> None:
    pair = context_pair(MechanismPair(SoundClient(), SoundServer()))
    assert [context.mechanism for context in pair] == ["TOY", "TOY"]
    check_both_ways(pair)


def test_layers_of_a_ready_pair_with_its_own_maxbuf() -> None:
    client, server = layer_pair(mechanism_pair("3des", client_maxbuf=2000))
    (frame,) = client.send_data(b"a message")[:1]
    assert frame
    assert (sizes(client.context), sizes(server.context)) == ((2000, 65536), (65536, 2000))


def test_a_ready_pair_with_a_seed_is_a_golden_one() -> None:
    first, second = (context_pair(mechanism_pair(seed=7)) for _ in range(2))
    assert first.client.seal(b"message") == second.client.seal(b"message")
    assert first.client.seal(b"more") != context_pair(mechanism_pair(seed=8)).client.seal(b"more")


@pytest.mark.parametrize(
    "more", [{"client_maxbuf": 2000}, {"server_maxbuf": 2000}, {"seed": 1}], ids=str
)
def test_a_ready_pair_is_left_as_it_is(more: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="a ready pair has its own"):
        context_pair(mechanism_pair(), **more)


def test_a_login_without_a_layer_has_no_contexts() -> None:
    for pair in ("auth", mechanism_pair("auth")):
        with pytest.raises(UsageError, match="brings no layer; ask for one"):
            context_pair(pair)


def test_the_server_may_offer_more_than_the_client_wants() -> None:
    pair = context_pair(mechanism_pair("des", offer=ANY))
    assert [context.cipher for context in pair] == ["des", "des"]
    check_both_ways(pair)


def test_the_client_may_take_more_than_the_server_offers() -> None:
    pair = context_pair(mechanism_pair(ANY, offer="auth-int", server_maxbuf=500))
    assert [context.qop for context in pair] == [QOP.AUTH_INT] * 2
    assert sizes(pair.client) == (65536, 500)


def test_offers_that_do_not_meet() -> None:
    with pytest.raises(NegotiationError):
        connect_mechanisms(*mechanism_pair("rc4", offer="auth-int"))


def test_on_whose_behalf() -> None:
    client, server = mechanism_pair("auth", authzid="bob")
    connect_mechanisms(client, server)
    assert (client.authzid, server.authzid) == ("bob", "bob")


def test_a_pair_is_made_of_properties_too() -> None:
    pair = context_pair(SecurityProperties(min_ssf=112, ciphers=("3des",)), client_maxbuf=2000)
    assert pair.client.cipher == pair.server.cipher == "3des"
    assert pair.server.stream_sizes.maximum_message < 2000
    assert layer_pair(SecurityProperties()).client.context.ssf == 128


def test_a_protection_that_is_none_is_answered_with_all_there_are() -> None:
    words = "one of auth, auth-int, rc4, .*, or properties; not 'auth-conf'$"
    for make in (mechanism_pair, context_pair):
        with pytest.raises(UsageError, match=words):
            make("auth-conf")
    with pytest.raises(UsageError, match=words.replace("'auth-conf'", "7")):
        mechanism_pair("rc4", offer=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, ("rc4",), (1, 2), mechanism_pair()[::-1], DigestMD5Client])
def test_what_is_no_pair_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"both sides of a login, MechanismPair\(client, server\)"):
        context_pair(given)


def test_a_pair_logs_in_once() -> None:
    pair = mechanism_pair()
    context_pair(pair)
    with pytest.raises(UsageError, match="logs in once: make both sides of the pair anew"):
        context_pair(pair)
