"""Attack list, group E: the proofs, wrong or left out."""

from __future__ import annotations

import secrets

import pytest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import transport_survives
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing.pairs import PASSWORD, properties_for
from tests.attacks.bind_server import IN_PROGRESS, SUCCESS, LDAPServer
from tests.attacks.digest_peer import (
    ANYTHING,
    CHOICE,
    NO_LAYER,
    Raw,
    challenge,
    digest,
    heard,
    our_client,
    our_server,
    proof,
    refusal,
    response,
    told,
    victim,
)

# ---------------------------------------------------------------- E10: the server's proof

RIGHT = proof()
UNPROVEN: dict[str, tuple[bytes, type[SASLError]]] = {
    "wrong": (b"rspauth=" + b"0" * 32, MutualAuthenticationError),
    "missing": (b"x=y", MutualAuthenticationError),
    "no value": (b'rspauth=""', MutualAuthenticationError),
    "no message": (b"", MalformedMessageError),
    "upper case": (b"rspauth=" + RIGHT[8:].upper(), MutualAuthenticationError),
    "cut": (RIGHT[:-1], MutualAuthenticationError),
    "too long": (RIGHT + b"0", MutualAuthenticationError),
    "right and more": (RIGHT + b',x="y"', MutualAuthenticationError),
    "more and right": (b'realm="y",' + RIGHT, MutualAuthenticationError),
    "right and a word": (RIGHT + b" OK", MalformedMessageError),
    "right and NUL": (RIGHT + b"\0", MalformedMessageError),
    "the client's": (
        b"rspauth=" + heard(response())["response"].encode(),
        MutualAuthenticationError,
    ),
    "the client's message": (response(), MutualAuthenticationError),
    "the client's message with it": (response(rspauth=RIGHT[8:]), MutualAuthenticationError),
    "another name": (b"response=" + RIGHT[8:], MutualAuthenticationError),
    "another password": (
        b"rspauth=" + digest("", CHOICE | {"username": "bob"}),
        MutualAuthenticationError,
    ),
}


@pytest.mark.parametrize(("message", "kind"), UNPROVEN.values(), ids=list(UNPROVEN))
def test_e10_server_that_does_not_prove_itself_is_refused(
    message: bytes, kind: type[SASLError]
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: proof is None or not compare_digest(
    Guard: saslwrap/mechanisms/digest_md5/messages.py: if len(directives) == 1 else None
    Guard: saslwrap/mechanisms/digest_md5/keys.py: return self._value(session_key, b":")
    """
    client = victim("client", properties_for("rc4"))
    assert heard(told(client, challenge()))["response"] == heard(response())["response"]
    refusal(client, message, kind)


@pytest.mark.parametrize(
    ("first", "kind"),
    [(b"rspauth=" + b"0" * 32, MutualAuthenticationError), (b"", MalformedMessageError)],
    ids=["wrong", "broken"],
)
def test_e10_right_proof_does_not_mend_a_wrong_one(first: bytes, kind: type[SASLError]) -> None:
    """Guard: saslwrap/mechanism.py: if self._fault is not None:"""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    with pytest.raises(kind):
        client.step(first)
    refusal(client, RIGHT, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"0" * 32, AuthenticationError),
        (digest("", CHOICE), AuthenticationError),
        (digest("authenticate", CHOICE), AuthenticationError),
        (digest("AUTHENTICATE", CHOICE).upper(), MalformedMessageError),
        (digest("AUTHENTICATE", CHOICE)[:-1], MalformedMessageError),
        (digest("AUTHENTICATE", CHOICE) + b"0", MalformedMessageError),
        ("", MalformedMessageError),
        (None, MalformedMessageError),
    ],
    ids=[
        "wrong",
        "the server's",
        "lower case",
        "upper case",
        "cut",
        "too long",
        "empty",
        "missing",
    ],
)
def test_e10_client_that_does_not_prove_itself_is_refused(
    value: Raw, kind: type[SASLError]
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: if compare_digest(parameters.response(
    Guard: saslwrap/mechanisms/digest_md5/keys.py: return self._value(session_key, b"AUTHENTICATE:")
    Guard: saslwrap/mechanisms/digest_md5/messages.py: _HEX_32 = re.compile(rb"[0-9a-f]{32}")
    """
    refusal(victim("server"), response(response=value), kind)


def test_e10_unknown_user_has_no_password_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the one that is hashed in place of his.

    Guard: saslwrap/mechanisms/digest_md5/server.py: if not (known and session_key):
    """
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: PASSWORD)
    server = our_server(get_secret=lambda *_: None)
    server.step(None)
    refusal(server, response(), AuthenticationError)


# ---------------------------------------------------------------- E11: success without a proof


def test_e11_success_without_a_proof_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: proof is None or not compare_digest("""
    client = victim("client")
    client.step(challenge())
    refusal(client, None, MutualAuthenticationError)


SUCCESSES: dict[str, tuple[list[tuple[int, bytes | None]], type[SASLError]]] = {
    "at once": ([(SUCCESS, None)], MutualAuthenticationError),
    "at once, empty": ([(SUCCESS, b"")], MalformedMessageError),
    "at once, a proof": ([(SUCCESS, RIGHT)], MalformedMessageError),
    "at once, a challenge": ([(SUCCESS, challenge())], ProtocolError),
    "without": ([(IN_PROGRESS, challenge()), (SUCCESS, None)], MutualAuthenticationError),
    "empty": ([(IN_PROGRESS, challenge()), (SUCCESS, b"")], MalformedMessageError),
    "wrong": ([(IN_PROGRESS, challenge()), (SUCCESS, b"rspauth=0")], MutualAuthenticationError),
    "wrong challenge": (
        [(IN_PROGRESS, challenge()), (IN_PROGRESS, b"rspauth=0"), (SUCCESS, None)],
        MutualAuthenticationError,
    ),
}


@pytest.mark.parametrize(("answers", "kind"), SUCCESSES.values(), ids=list(SUCCESSES))
@pytest.mark.parametrize("properties", [ANYTHING, NO_LAYER], ids=["layer", "no layer"])
def test_e11_success_without_a_proof_is_refused_over_ldap(
    properties: SecurityProperties, answers: list[tuple[int, bytes | None]], kind: type[SASLError]
) -> None:
    """Guard: saslwrap/exchange.py: if self._mechanism is None or not self._mechanism.complete:
    Guard: saslwrap/mechanisms/digest_md5/client.py: proof is None or not compare_digest(
    """
    exchange = LDAPBind(our_client(properties))
    with pytest.raises(SASLError) as caught:
        LDAPServer(*answers).serve(exchange)
    assert type(caught.value) is kind
    assert not transport_survives(caught.value)
    with pytest.raises(UsageError):
        _ = exchange.context


@pytest.mark.parametrize(
    "message",
    [None, b"", b"rspauth=" + b"0" * 32, challenge()],
    ids=["nothing", "empty", "proof", "challenge"],
)
def test_e11_client_that_skips_its_proof_is_refused(message: bytes | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: if message is None:"""
    refusal(victim("server"), message, MalformedMessageError)
