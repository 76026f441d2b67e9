"""Attack list, group E: less protection than the least that is wanted, layer and cipher."""

from __future__ import annotations

import pytest

from saslwrap.errors import NegotiationError
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode
from tests.attacks.bind_server import IN_PROGRESS, LDAPServer
from tests.attacks.digest_peer import (
    ANYTHING,
    AUTH,
    EVERY_OFFER,
    INT,
    STRICT,
    WEAK,
    Role,
    Said,
    both_roles,
    challenge,
    delivered,
    heard,
    hostile,
    layers,
    log_in,
    our_client,
    our_server,
    refusal,
    response,
    rewriting,
    told,
    victim,
)

# ---------------------------------------------------------------- E1: the least layer

INTEGRITY_AT_LEAST = SecurityProperties(min_ssf=1, ciphers=CIPHER_NAMES)
LAYER = SecurityProperties(min_ssf=0, require_layer=True)
CONFIDENTIALITY_AT_LEAST = SecurityProperties(min_ssf=2, ciphers=CIPHER_NAMES)
OFFERS_BELOW: list[tuple[SecurityProperties, Said]] = [
    (INTEGRITY_AT_LEAST, {"qop": "auth"}),
    (INTEGRITY_AT_LEAST, {"qop": None}),
    (INTEGRITY_AT_LEAST, {"qop": "auth,token"}),
    (CONFIDENTIALITY_AT_LEAST, {"qop": "auth,auth-int"}),
    (SecurityProperties(), {"qop": "auth,auth-int"}),
    (LAYER, {"qop": "auth"}),
]
offers_below = pytest.mark.parametrize(
    ("properties", "offer"),
    OFFERS_BELOW,
    ids=["auth", "no qop", "unknown qop", "int", "int by default", "layer required"],
)


@offers_below
def test_e1_offer_below_the_minimum_is_refused_before_a_response(
    properties: SecurityProperties, offer: Said
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf
    Guard: saslwrap/properties.py: return max(self.min_ssf, 1), self.max_ssf
    """
    refusal(victim("client", properties), challenge(**offer), NegotiationError, "offers auth")


@offers_below
def test_e1_nothing_is_sent_to_a_server_that_offers_too_little(
    properties: SecurityProperties, offer: Said
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf
    Guard: saslwrap/protocols/ldap.py: yield Send(self._abort_message())
    """
    server = LDAPServer(
        (IN_PROGRESS, challenge(**offer)), (ResultCode.authMethodNotSupported, None)
    )
    with pytest.raises(NegotiationError):
        server.serve(LDAPBind(our_client(properties)))
    assert server.heard == [(b"DIGEST-MD5", None), (b"", None)]  # the second one gives up


@pytest.mark.parametrize(
    ("properties", "choice"),
    [
        (INTEGRITY_AT_LEAST, AUTH),
        (INTEGRITY_AT_LEAST, {"qop": None, "cipher": None}),
        (CONFIDENTIALITY_AT_LEAST, AUTH),
        (CONFIDENTIALITY_AT_LEAST, INT),
        (SecurityProperties(), INT),
        (LAYER, AUTH),
    ],
    ids=["auth", "no qop", "auth for conf", "int", "int by default", "layer required"],
)
def test_e1_client_that_takes_less_than_the_minimum_is_refused(
    properties: SecurityProperties, choice: Said
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: for protection in self._offered:
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf
    """
    refusal(victim("server", properties), response(**choice), NegotiationError, "the client chose")


@pytest.mark.parametrize(
    ("properties", "qops", "ciphers"),
    [
        (SecurityProperties(), "auth-conf", "rc4,3des"),
        (STRICT, "auth-conf", "rc4,3des"),
        (CONFIDENTIALITY_AT_LEAST, "auth-conf", ",".join(CIPHER_NAMES)),
        (INTEGRITY_AT_LEAST, "auth-conf,auth-int", ",".join(CIPHER_NAMES)),
    ],
    ids=["default", "every cipher", "conf", "int"],
)
def test_e1_server_offers_nothing_below_its_minimum(
    properties: SecurityProperties, qops: str, ciphers: str
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf"""
    said = heard(told(our_server(properties), None))
    assert (said["qop"], said["cipher"]) == (qops, ciphers)


# ---------------------------------------------------------------- E2: the least cipher


@pytest.mark.parametrize("ciphers", ["rc4-40", "des", "rc4-56", "des,rc4-56,rc4-40", "aes", None])
@pytest.mark.parametrize("qops", ["auth-conf", "auth,auth-int,auth-conf"])
def test_e2_offer_stripped_to_weak_ciphers_is_refused(qops: str, ciphers: str | None) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf"""
    message = challenge(qop=qops, cipher=ciphers)
    refusal(victim("client", STRICT), message, NegotiationError, "wanted: an SSF of 112")


@pytest.mark.parametrize("cipher", WEAK)
def test_e2_weak_cipher_is_refused_by_the_server(cipher: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: for protection in self._offered:
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf
    """
    refusal(victim("server", STRICT), response(cipher=cipher), NegotiationError, "the client chose")


@pytest.mark.parametrize("cipher", WEAK)
@both_roles
def test_e2_cipher_that_is_not_named_is_not_used(role: Role, cipher: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: CIPHERS[name]) for name in ciphers]"""
    properties = SecurityProperties(min_ssf=2)
    refusal(
        victim(role, properties), hostile(role, qop=b"auth-conf", cipher=cipher), NegotiationError
    )


MEDIUM = SecurityProperties(min_ssf=55, ciphers=CIPHER_NAMES)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(STRICT, STRICT), (STRICT, ANYTHING), (ANYTHING, STRICT), (MEDIUM, STRICT), (STRICT, MEDIUM)],
    ids=["both", "client", "server", "medium client", "medium server"],
)
def test_e2_man_in_the_middle_gets_nobody_below_his_minimum(
    ours: SecurityProperties, theirs: SecurityProperties
) -> None:
    """Whatever he strikes out of the offer, or adds to it.

    Within the policy of both he does have his way: rc4 struck out leaves 3des.

    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: least <= protection.ssf
    Guard: saslwrap/mechanisms/digest_md5/server.py: for protection in self._offered:
    """
    reached = set()
    for qop, cipher in EVERY_OFFER:
        client, server = our_client(ours), our_server(theirs)
        try:
            log_in(client, server, offer=rewriting(qop=qop, cipher=cipher))
        except NegotiationError:
            assert not client.complete
            assert not server.complete
        else:
            here, there = layers(client, server)
            assert here.context.ssf == there.context.ssf >= max(ours.min_ssf, theirs.min_ssf)
            assert delivered(here, there, b"hello") == b"hello"
            reached.add(here.context.cipher)
    assert reached == {"rc4", "3des"}
