"""Attack list, group E: nonces, and their count."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    ProtocolError,
)
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME, get_secret, properties_for
from tests.attacks.digest_peer import (
    CNONCE,
    NONCE,
    Said,
    challenge,
    heard,
    our_client,
    our_server,
    proof,
    refusal,
    response,
    told,
    victim,
)

# ---------------------------------------------------------------- E8: the server's nonce


def fresh_nonce() -> str:
    return heard(told(DigestMD5Server(get_secret, service="ldap", host=HOST), None))["nonce"]


def fresh_cnonce() -> str:
    client = DigestMD5Client(USERNAME, PASSWORD, service="ldap", host=HOST)
    return heard(told(client, challenge()))["cnonce"]


def drawn(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Draw nonces under the same seed; give how many octets each one took from `secrets`."""
    taken = []

    def spied(octets: int) -> str:
        taken.append(octets)
        return real(octets)

    real = secrets.token_urlsafe
    monkeypatch.setattr(secrets, "token_urlsafe", spied)
    nonces = set()
    for _ in range(200):
        random.seed(1)
        nonces.add(fresh())
    assert len(nonces) == 200
    return taken


def test_e8_nonces_of_the_server_are_unique_and_unpredictable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: return secrets.token_urlsafe(24)"""
    taken = drawn(fresh_nonce, monkeypatch)
    assert len(taken) == 200
    assert min(taken) * 8 >= 128


def test_e8_recorded_response_does_not_pass_again() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: nonce=check_nonce(self._generate_nonce(),"""
    client = our_client()
    server, later = (our_server(generate_nonce=fresh_nonce) for _ in range(2))
    recorded = told(client, told(server, None))
    later.step(None)
    refusal(later, recorded, AuthenticationError)


def test_e8_server_that_repeats_its_nonce_gets_another_login() -> None:
    """The client keeps no list of nonces; its own cnonce makes every login new.

    Guard: saslwrap/mechanisms/digest_md5/client.py: check_nonce(self._generate_cnonce(),
    """
    first, second = (our_client(generate_cnonce=fresh_cnonce) for _ in range(2))
    said, again = (heard(told(client, challenge())) for client in (first, second))
    assert said["response"] != again["response"]
    refusal(second, proof(**said), MutualAuthenticationError)


# ---------------------------------------------------------------- E9: the client's nonce


def test_e9_cnonces_are_unique_and_unpredictable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: return secrets.token_urlsafe(24)"""
    taken = drawn(fresh_cnonce, monkeypatch)
    assert len(taken) == 200
    assert min(taken) * 8 >= 128


def test_e9_own_cnonce_reflected_as_the_servers_nonce_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: if compare_digest(parameters.nonce,"""
    refusal(victim("client"), challenge(nonce=CNONCE), ProtocolError, "reflected")


def test_e9_own_nonce_reflected_as_the_clients_cnonce_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: and not compare_digest(response.cnonce,"""
    refusal(victim("server"), response(cnonce=NONCE), AuthenticationError)


@pytest.mark.parametrize(
    "uri",
    [
        f"imap/{HOST}",
        "ldap/other",
        f"ldap/{HOST}/other",
        f"ldap/{HOST}/{HOST}/x",
        f"ldap/{HOST}/",
        f"ldap//{HOST}",
        "ldap",
        HOST,
        "",
    ],
)
def test_e9_response_that_was_made_for_another_service_is_refused(uri: str) -> None:
    """A server that a user logs in to passes his response on to us.

    Guard: saslwrap/mechanisms/digest_md5/server.py: and self._is_us(response.digest_uri.lower())
    """
    kind = AuthenticationError if uri else MalformedMessageError
    refusal(victim("server"), response(digest_uri=uri), kind)


@pytest.mark.parametrize(
    "changes",
    [{}, {"nonce": "other"}, {"stale": b"true", "nonce": "other"}],
    ids=["again", "another", "stale"],
)
def test_e9_client_answers_one_challenge(changes: Said) -> None:
    """No cnonce is used twice.

    Guard: saslwrap/mechanisms/digest_md5/client.py: if self._expected_rspauth is not None:
    """
    client = victim("client")
    client.step(challenge())
    refusal(client, challenge(**changes), MutualAuthenticationError)


# ---------------------------------------------------------------- E12: nonce and count of another


@pytest.mark.parametrize("hashed", [{}, {"nonce": NONCE}], ids=["hashed", "ours hashed"])
@pytest.mark.parametrize("nonce", ["other", NONCE.lower(), NONCE + "x", NONCE[:-1], CNONCE])
def test_e12_nonce_that_is_not_the_servers_is_refused(nonce: str, hashed: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: compare_digest(response.nonce, nonce)"""
    refusal(victim("server"), response(hashed, nonce=nonce), AuthenticationError)


@pytest.mark.parametrize("hashed", [{}, {"nc": b"00000001"}], ids=["hashed", "1 hashed"])
@pytest.mark.parametrize("nc", ["00000002", "00000000", "ffffffff", "00000010"])
def test_e12_nonce_count_other_than_1_is_refused(nc: str, hashed: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: response.nonce_count == NONCE_COUNT"""
    refusal(victim("server"), response(hashed, nc=nc), AuthenticationError)


@pytest.mark.parametrize(
    "nc", [None, "", "1", "0000001", "000000001", "0000000g", " 0000001", "0x000001", "+0000001"]
)
def test_e12_nonce_count_of_another_form_is_refused(nc: str | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: nonce_count=_matching("""
    message = response({"nc": b"00000001"}, nc=nc)
    refusal(victim("server"), message, MalformedMessageError, "directive nc")


@pytest.mark.parametrize(
    "changes",
    [{"nonce": "other"}, {"cnonce": "other"}, {"nc": b"00000002"}, {"nc": b""}],
    ids=["nonce", "cnonce", "nc", "no nc"],
)
def test_e12_proof_for_another_nonce_or_count_is_refused(changes: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: proof is None or not compare_digest("""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    refusal(client, proof(**changes), MutualAuthenticationError)
