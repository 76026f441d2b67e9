"""Attack list, group E: what was not offered is chosen, and what was chosen is rewritten."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations

import pytest

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    UsageError,
)
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, properties_for
from tests.attacks.digest_peer import (
    AUTH,
    EVERY_OFFER,
    INT,
    QOPS,
    STRICT,
    WEAK,
    Role,
    Said,
    challenge,
    heard,
    layers,
    log_in,
    our_client,
    our_server,
    proof,
    refusal,
    response,
    rewriting,
    rewritten,
    told,
    victim,
)
from tests.attacks.support import judge

# ---------------------------------------------------------------- E3: what was not offered


@pytest.mark.parametrize(
    "choice",
    [
        AUTH,
        INT,
        {"qop": b"auth-conf", "cipher": b"des"},
        {"qop": b"auth-conf", "cipher": b"rc4-40"},
        {"qop": b"auth-conf", "cipher": b"aes"},
        {"qop": b"auth-conf", "cipher": None},
        {"qop": b"token", "cipher": None},
        {"qop": b"auth-con", "cipher": None},
    ],
    ids=["auth", "int", "des", "rc4-40", "aes", "no cipher", "unknown qop", "half a qop"],
)
def test_e3_choice_that_was_not_offered_is_refused(choice: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: for protection in self._offered:
    Guard: saslwrap/mechanisms/digest_md5/server.py: if (qop, response.cipher) ==
    """
    server = victim("server", SecurityProperties())
    refusal(server, response(**choice), NegotiationError, "the client chose")


@pytest.mark.parametrize(
    "choice",
    [
        {"qop": "auth,auth-int", "cipher": None},
        {"qop": "auth-conf,auth", "cipher": None},
        {"qop": "auth-conf,", "cipher": None},
        {"qop": " auth-conf", "cipher": None},
        {"cipher": "rc4,3des"},
        {"cipher": "rc4,"},
        {"cipher": " rc4"},
    ],
    ids=[
        *("qops", "conf and auth", "conf and comma", "space and conf"),
        *("ciphers", "rc4 and comma", "space and rc4"),
    ],
)
def test_e3_list_is_no_choice(choice: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: if (qop, response.cipher) =="""
    refusal(victim("server"), response(**choice), NegotiationError, "the client chose")


@pytest.mark.parametrize(
    "choice",
    [
        {"cipher": [b"rc4", b"3des"]},
        {"cipher": [b"rc4", b"rc4"]},
        {"qop": [b"auth-conf", b"auth"], "cipher": None},
        {"qop": [b"auth-int", b"auth-conf"]},
    ],
    ids=["ciphers", "the same cipher", "conf and auth", "int and conf"],
)
@pytest.mark.parametrize("qop", QOPS)
def test_e3_two_choices_are_refused(choice: Said, qop: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(values) > 1:"""
    message = response({"qop": qop}, **choice)
    refusal(victim("server"), message, MalformedMessageError, "stands 2 times")


@pytest.mark.parametrize("choice", [AUTH, INT], ids=["auth", "int"])
@pytest.mark.parametrize("cipher", ["rc4", "aes"])
def test_e3_cipher_without_confidentiality_is_refused(choice: Said, cipher: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: response.cipher is not None and qop !="""
    message = response(**choice | {"cipher": cipher})
    refusal(victim("server"), message, MalformedMessageError, "only goes with auth-conf")


@pytest.mark.parametrize("realm", ["evil.example", "EXAMPLE.COM", "example.com ", "", None])
def test_e3_realm_that_was_not_offered_is_refused(realm: str | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: realm in self._realms or not self._realms"""
    server = our_server(get_secret=lambda *_: PASSWORD)  # has users of that name in every realm
    server.step(None)
    refusal(server, response(realm=realm), AuthenticationError)


def test_e3_realms_that_were_read_before_are_not_any_realm() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: realms, Collection,"""
    realms = (realm for realm in [REALM])
    for _ in range(2):  # logins
        with suppress(UsageError):  # where it cannot be offered, nobody gets in either
            server = our_server(get_secret=lambda *_: PASSWORD, realms=realms)
            server.step(None)
            refusal(server, response(realm="evil.example"), AuthenticationError)


@pytest.mark.parametrize("algorithm", [None, "", "md5", "md5-sess,md5", "sha-256-sess"])
def test_e3_algorithm_other_than_md5_sess_is_refused(algorithm: str | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: != "md5-sess":"""
    message = challenge(algorithm=algorithm)
    refusal(victim("client"), message, MalformedMessageError, "not md5-sess")


def test_e3_client_chooses_one_of_what_was_offered() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: in wanted if protection in offered]"""
    for qop, cipher in EVERY_OFFER:
        offered = {"qop": (qop or "auth").split(","), "cipher": (cipher or "").split(",")}
        client = victim("client")
        try:
            said = heard(told(client, challenge(qop=qop, cipher=cipher)))
        except NegotiationError:
            assert offered == {"qop": ["auth-conf"], "cipher": [""]}
        else:
            assert said["qop"] in offered["qop"]
            assert said.get("cipher") in (
                offered["cipher"] if said["qop"] == "auth-conf" else [None]
            )


# ---------------------------------------------------------------- E4: what was chosen, rewritten


@pytest.mark.parametrize(
    ("protection", "changes"),
    [
        ("rc4", {"qop": b"auth-int", "cipher": None}),
        ("rc4", {"qop": b"auth", "cipher": None}),
        ("rc4", {"qop": None, "cipher": None}),
        ("rc4", {"qop": b"AUTH-CONF"}),
        ("auth-int", {"qop": b"auth-conf", "cipher": b"rc4"}),
        ("auth-int", {"qop": b"auth"}),
        ("auth", {"qop": b"auth-int"}),
        ("auth", {"qop": b"auth-conf", "cipher": b"rc4"}),
        ("rc4", {"authzid": "u:root"}),
        ("rc4", {"digest_uri": f"ldap/{HOST}/{HOST}"}),
        ("rc4", {"cnonce": "other"}),
        ("rc4", {"username": "bob"}),
        ("rc4", {"realm": "other.example"}),
    ],
    ids=[
        *("conf to int", "conf to auth", "conf to none", "case", "int to conf", "int to auth"),
        *("auth to int", "auth to conf", "authzid", "digest-uri", "cnonce", "username", "realm"),
    ],
)
def test_e4_rewritten_choice_breaks_the_clients_proof(protection: str, changes: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: NONCE_COUNT, self.cnonce, self.qop, a2
    Guard: saslwrap/mechanisms/digest_md5/keys.py: parts.append(self.authzid)
    Guard: saslwrap/mechanisms/digest_md5/keys.py: a2 = _hex(purpose + self.digest_uri + zeros)
    Guard: saslwrap/mechanisms/digest_md5/server.py: qop=response.qop or
    """
    client = our_client(properties_for(protection))
    server = our_server(realms=[REALM, "other.example"], get_secret=lambda *_: PASSWORD)
    message = rewritten(told(client, told(server, None)), **changes)
    refusal(server, message, AuthenticationError)


@pytest.mark.parametrize("authzid", [None, "u:bob", "U:alice"])
def test_e4_rewritten_authzid_breaks_the_clients_proof(authzid: str | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/keys.py: parts.append(self.authzid)"""
    client, server = our_client(authzid="u:alice"), our_server()
    message = rewritten(told(client, told(server, None)), authzid=authzid)
    refusal(server, message, AuthenticationError)


@pytest.mark.parametrize(
    "changes",
    [AUTH, INT, {"qop": b"AUTH-CONF"}, {"authzid": "u:root"}, {"digest_uri": "ldap/other"}],
    ids=["auth", "int", "case", "authzid", "digest-uri"],
)
def test_e4_proof_for_a_rewritten_choice_is_refused(changes: Said) -> None:
    """The server took what the man in the middle wrote, and says so: the client notices.

    Guard: saslwrap/mechanisms/digest_md5/client.py: proof is None or not compare_digest(
    """
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    refusal(client, proof(**changes), MutualAuthenticationError)


@pytest.mark.parametrize("towards", ["server", "client"])
@pytest.mark.parametrize(("chosen", "taken"), list(permutations(CIPHER_NAMES, 2)))
def test_e4_rewritten_cipher_fails_at_the_first_frame(
    chosen: str, taken: str, towards: Role
) -> None:
    """No hash covers the cipher: the login succeeds, and then not one octet passes.

    Guard: saslwrap/mechanisms/digest_md5/keys.py: root = session_key[:key_octets]
    Guard: saslwrap/mechanisms/digest_md5/ciphers.py: first, last = key[:7],
    """
    client, server = our_client(properties_for(chosen)), our_server()
    log_in(client, server, choice=rewriting(cipher=taken))
    here, there = layers(client, server)
    assert (here.context.cipher, there.context.cipher) == (chosen, taken)
    sender, receiver = (here, there) if towards == "server" else (there, here)
    verdict = judge(receiver, b"".join(sender.send_data(b"some words")))
    assert verdict.accepted == b""
    assert type(verdict.error) is IntegrityError
    assert receiver.context.failed


@pytest.mark.parametrize("taken", WEAK)
def test_e4_cipher_rewritten_to_one_below_the_minimum_is_refused(taken: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: for protection in self._offered:"""
    client, server = our_client(STRICT), our_server(STRICT)
    message = rewritten(told(client, told(server, None)), cipher=taken)
    refusal(server, message, NegotiationError, "the client chose")
