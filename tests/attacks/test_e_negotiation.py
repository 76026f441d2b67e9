"""Attack list, group E: the login, with a hostile server, a hostile client, a man in the middle.

A hostile peer is a handful of directives. It knows the password, and its proofs are right for what
it says: what stops it is nothing but the check under attack. The man in the middle knows nothing;
he rewrites what the hash does not cover (RFC 6331): the offer, the chosen cipher, maxbuf.

E16 and E17, the offers of GSSAPI, stand with that mechanism.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations, product
from typing import Any, Literal, TypeAlias

import pytest

from saslwrap.errors import (
    AuthenticationError,
    FrameTooLargeError,
    IntegrityError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
    UsageError,
)
from saslwrap.exchange import Done, NeedData, Send, Step, transport_survives
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server, messages
from saslwrap.properties import CIPHER_NAMES, SecurityProperties
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode, decode, encode, result
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret, properties_for
from tests.attacks.support import drain, judge

Role = Literal["client", "server"]
both_roles = pytest.mark.parametrize("role", ["client", "server"])

#: A value to be quoted; octets as they are; several; none.
Raw: TypeAlias = str | bytes | Sequence[str | bytes] | None
Said: TypeAlias = dict[str, Raw]

NONCE, CNONCE = "N0nce", "Cn0nce"
QOPS = ("auth", "auth-int", "auth-conf")
WEAK = ("rc4-56", "des", "rc4-40")

ANYTHING = SecurityProperties(min_ssf=0, ciphers=CIPHER_NAMES)
STRICT = SecurityProperties(ciphers=CIPHER_NAMES)  # every cipher is named: the minimum decides
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)

OFFER: Said = {
    "realm": REALM,
    "nonce": NONCE,
    "qop": "auth,auth-int,auth-conf",
    "cipher": "rc4,3des,rc4-56,des,rc4-40",
    "maxbuf": b"65536",
    "charset": b"utf-8",
    "algorithm": b"md5-sess",
}
CHOICE: Said = {
    "username": USERNAME,
    "realm": REALM,
    "nonce": NONCE,
    "cnonce": CNONCE,
    "nc": b"00000001",
    "qop": b"auth-conf",
    "cipher": b"rc4",
    "digest_uri": f"ldap/{HOST}",
    "charset": b"utf-8",
}
AUTH: Said = {"qop": b"auth", "cipher": None}
INT: Said = {"qop": b"auth-int", "cipher": None}


# ---------------------------------------------------------------- what a peer says


def write(directives: Mapping[str, Raw]) -> bytes:
    """Write a message; `_` in a name stands for `-`."""
    return b",".join(
        name.replace("_", "-").encode() + b"=" + (one if isinstance(one, bytes) else quoted(one))
        for name, raw in directives.items()
        for one in ([raw] if isinstance(raw, str | bytes) else raw or ())
    )


def quoted(text: str) -> bytes:
    return b'"%b"' % re.sub(r'(["\\])', r"\\\1", text).encode()


def challenge(**changes: Raw) -> bytes:
    """A server's offer: everything, but for the changes."""
    return write(OFFER | changes)


def response(hashed: Said | None = None, /, **changes: Raw) -> bytes:
    """A client's choice with the right proof for it.

    :param hashed: what is hashed in place of what is said
    """
    said = CHOICE | changes
    return write({"response": digest("AUTHENTICATE", said | (hashed or {}))} | said)


def proof(**changes: Raw) -> bytes:
    """The server's right proof for a choice."""
    return b"rspauth=" + digest("", CHOICE | changes)


def digest(method: str, said: Mapping[str, Raw]) -> bytes:
    """What is proven with, straight from RFC 2831 section 2.1.2.1."""

    def value(name: str, default: bytes = b"") -> bytes:
        raw = said.get(name) or default
        assert isinstance(raw, str | bytes)
        return raw if isinstance(raw, bytes) else raw.encode()

    def h(*parts: bytes) -> bytes:
        return hashlib.md5(b":".join(parts)).digest()

    nonce, cnonce, qop = value("nonce"), value("cnonce"), value("qop", b"auth")
    authzid = [value("authzid")] if said.get("authzid") is not None else []
    zeros = [b"0" * 32] if qop.lower() != b"auth" else []
    a1 = h(h(value("username"), value("realm"), PASSWORD.encode()), nonce, cnonce, *authzid)
    a2 = h(method.encode(), value("digest_uri"), *zeros)
    key = a1.hex().encode()
    return h(key, nonce, value("nc"), cnonce, qop, a2.hex().encode()).hex().encode()


def heard(message: bytes) -> dict[str, str]:
    """What one of ours said, unquoted."""
    found = re.findall(rb'([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",]*))(?:,|$)', message)
    return {
        name.decode().replace("-", "_"): re.sub(r"\\(.)", r"\1", (inner or plain).decode())
        for name, inner, plain in found
    }


def rewritten(message: bytes, **changes: Raw) -> bytes:
    """What a man in the middle makes of a message of ours."""
    return write(heard(message) | changes)


# ---------------------------------------------------------------- the victims


def our_client(properties: SecurityProperties = ANYTHING, /, **changes: Any) -> DigestMD5Client:
    arguments: dict[str, Any] = {
        "username": USERNAME,
        "password": PASSWORD,
        "service": "ldap",
        "host": HOST,
        "generate_cnonce": lambda: CNONCE,
    }
    return DigestMD5Client(properties=properties, **arguments | changes)


def our_server(properties: SecurityProperties = ANYTHING, /, **changes: Any) -> DigestMD5Server:
    arguments: dict[str, Any] = {
        "get_secret": get_secret,
        "service": "ldap",
        "host": HOST,
        "realms": [REALM],
        "generate_nonce": lambda: NONCE,
    }
    return DigestMD5Server(properties=properties, **arguments | changes)


def victim(role: Role, properties: SecurityProperties = ANYTHING) -> Mechanism:
    """Ours, at the point where the peer's first message of substance is due."""
    side = our_client(properties) if role == "client" else our_server(properties)
    side.step(None)
    return side


def hostile(role: Role, **changes: Raw) -> bytes:
    """The message of substance to attack `role` with."""
    return challenge(**changes) if role == "client" else response(**changes)


def told(side: Mechanism, message: bytes | None) -> bytes:
    """Step, and have an answer."""
    answer = side.step(message)
    assert answer is not None
    return answer


def refusal(
    side: Mechanism, message: bytes | None, kind: type[SASLError], text: str | None = None
) -> str:
    """The message is refused, with this type of error, for good. Give the text."""
    with pytest.raises(SASLError, match=text) as caught:
        side.step(message)
    assert type(caught.value) is kind
    assert not side.complete
    with pytest.raises(UsageError):
        _ = side.context
    if isinstance(side, DigestMD5Server):
        assert (side.authcid, side.authzid, side.realm) == (None, None, None)
    for later in (challenge(), response(), proof(), None):
        with pytest.raises(kind):
            side.step(later)
    return str(caught.value)


def accepted(side: Mechanism, message: bytes) -> SecurityLayer | None:
    """The message is accepted, the login ends well."""
    answer = told(side, message)
    if isinstance(side, DigestMD5Client):
        side.step(proof(**heard(answer)))
    assert side.complete
    return None if side.context is None else SecurityLayer(side.context)


Rewrite: TypeAlias = Callable[[bytes], bytes]


def rewriting(**changes: Raw) -> Rewrite:
    return lambda message: rewritten(message, **changes)


def log_in(
    client: Mechanism, server: Mechanism, *, offer: Rewrite = bytes, choice: Rewrite = bytes
) -> None:
    """Let two of ours log in, with a man between them."""
    answer = told(client, offer(told(server, client.step(None))))
    client.step(server.step(choice(answer)))


def layers(client: Mechanism, server: Mechanism) -> tuple[SecurityLayer, SecurityLayer]:
    assert client.context
    assert server.context
    return SecurityLayer(client.context), SecurityLayer(server.context)


def delivered(sender: SecurityLayer, receiver: SecurityLayer, message: bytes) -> bytes:
    """Send a message; give what arrives."""
    for frame in sender.send_data(message):
        receiver.receive_data(frame)
    return drain(receiver)


class LDAPServer:
    """A hostile one: says what it was told to say, whatever it hears.

    :param answers: result code and credentials of each
    :ivar heard: mechanism and credentials of each request
    """

    def __init__(self, *answers: tuple[int, bytes | None]) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bytes, bytes | None]] = []

    def serve(self, exchange: LDAPBind) -> None:
        """Let our client log in."""
        while not isinstance(event := exchange.advance(), Done):
            if isinstance(event, Step):
                exchange.step()
            elif isinstance(event, Send):
                exchange.receive_data(self._answer(event.data))
            else:
                assert not isinstance(event, NeedData)

    def _answer(self, request: bytes) -> bytes:
        message = decode(request)
        _, sasl = message.value["authentication"]
        self.heard.append((sasl["mechanism"], sasl.get("credentials")))
        code, credentials = self.answers.pop(0)
        more = {} if credentials is None else {"serverSaslCreds": credentials}
        return encode(message.message_id, "bindResponse", result(code, "", **more))


IN_PROGRESS, SUCCESS = ResultCode.saslBindInProgress, ResultCode.success


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


def subsets(names: Sequence[str]) -> list[str | None]:
    """All of them, as a directive has them, None for none."""
    return [
        ",".join(part) or None for n in range(len(names) + 1) for part in combinations(names, n)
    ]


EVERY_OFFER = list(product(subsets(QOPS), subsets(CIPHER_NAMES)))
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


# ---------------------------------------------------------------- E5: maxbuf

OUT_OF_RANGE = {
    "0": b"0",
    "16": b"16",
    "2^24": b"16777216",
    "2^31": b"2147483648",
    "2^32": b"4294967296",
    "2^32+65536": b"4295032832",
    "2^64+65536": b"18446744073709617152",
    "zeros": b"0" * 400,
    "16 after zeros": b"0" * 400 + b"16",
    "400 digits": b"9" * 400,
    "1800 digits": b"1" + b"0" * 1799,
}


out_of_range = pytest.mark.parametrize("maxbuf", OUT_OF_RANGE.values(), ids=list(OUT_OF_RANGE))


@out_of_range
@pytest.mark.parametrize("choice", [{}, INT], ids=["conf", "int"])
@both_roles
def test_e5_maxbuf_out_of_range_is_refused(role: Role, choice: Said, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if not MIN_MAXBUF <= maxbuf
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if chosen[0].qop is not QOP.AUTH:
    Guard: saslwrap/mechanisms/digest_md5/server.py: protection.fits(check_maxbuf(peer_maxbuf))
    """
    message = hostile(role, **choice | {"maxbuf": maxbuf})
    text = refusal(victim(role), message, MalformedMessageError, "maxbuf is not in 17..16777215")
    assert len(text) < 200  # the digits are not in it


NO_NUMBER = [
    b"-1",
    b"-65536",
    b"+17",
    b"1e5",
    b"0x1000",
    b"65536.0",
    "",
    " ",
    "6 5",
    "1,2",
    b"\xb2",
]


@pytest.mark.parametrize("maxbuf", NO_NUMBER, ids=lambda raw: str(raw or "none").strip("b'"))
@pytest.mark.parametrize("choice", [{}, AUTH], ids=["conf", "auth"])
@both_roles
def test_e5_maxbuf_that_is_no_number_is_refused(role: Role, choice: Said, maxbuf: Raw) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not _DIGITS.fullmatch("""
    message = hostile(role, **choice | {"maxbuf": maxbuf})
    refusal(victim(role), message, MalformedMessageError, "not a decimal number")


@out_of_range
@both_roles
def test_e5_maxbuf_out_of_range_does_no_harm_without_a_layer(role: Role, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: if chosen[0].qop is not QOP.AUTH:
    Guard: saslwrap/mechanisms/digest_md5/server.py: if protection.qop is not QOP.AUTH and not
    """
    assert accepted(victim(role, NO_LAYER), hostile(role, **AUTH, maxbuf=maxbuf)) is None


@pytest.mark.parametrize(
    "maxbuf",
    [b"9" * 1800, b"0" * 1800, b"0" * 1790 + b"65536"],
    ids=["nines", "zeros", "zeros and 65536"],
)
@both_roles
def test_e5_hundreds_of_digits_never_become_a_number(
    role: Role, maxbuf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if len(significant) <= 8 else
    Guard: saslwrap/mechanisms/digest_md5/messages.py: .lstrip(b"0")
    """
    converted: list[int] = []

    def spied(digits: bytes) -> int:
        converted.append(len(digits))
        return int(digits)

    monkeypatch.setattr(messages, "int", spied, raising=False)
    side = victim(role)
    if maxbuf.endswith(b"65536"):
        accepted(side, hostile(role, maxbuf=maxbuf))
    else:
        refusal(side, hostile(role, maxbuf=maxbuf), MalformedMessageError)
    assert max(converted, default=0) <= 8


@pytest.mark.parametrize("maxbuf", [b"17", b"21"])
@pytest.mark.parametrize("cipher", ["3des", "des"])
@both_roles
def test_e5_maxbuf_too_small_for_a_block_is_refused(role: Role, cipher: str, maxbuf: bytes) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/negotiation.py: maximum_message(maxbuf, block_size)"""
    message = hostile(role, cipher=cipher, maxbuf=maxbuf)
    refusal(victim(role, properties_for(cipher)), message, NegotiationError, "too small")


@pytest.mark.parametrize(
    ("cipher", "maxbuf", "maximum"),
    [
        ("rc4", b"17", 1),
        ("rc4", b"0000000000000022", 6),
        ("rc4", b"1" * 4, 1095),
        ("rc4", b"16777215", 16777199),
        ("3des", b"22", 5),
        ("des", b"00000000000000000022", 5),
        ("3des", b"16777215", 16777197),
    ],
)
@both_roles
def test_e5_maxbuf_in_range_bounds_what_is_sent(
    role: Role, cipher: str, maxbuf: bytes, maximum: int
) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: peer_maxbuf=challenge.maxbuf,
    Guard: saslwrap/mechanisms/digest_md5/server.py: peer_maxbuf=peer_maxbuf,
    """
    side = victim(role, properties_for(cipher))
    layer = accepted(side, hostile(role, cipher=cipher, maxbuf=maxbuf))
    assert layer
    assert layer.context.stream_sizes.maximum_message == maximum
    first, *_ = layer.send_data(bytes(min(maximum, 4000) + 1))
    assert len(bytes(first)) - 4 <= int(maxbuf)


@pytest.mark.parametrize("towards", ["server", "client"])
@pytest.mark.parametrize("maxbuf", [b"16", b"17", b"21", b"22", b"999", b"1008", b"65536", None])
@pytest.mark.parametrize("cipher", ["rc4", "3des"])
def test_e5_rewritten_maxbuf_denies_service_at_most(
    cipher: str, maxbuf: bytes | None, towards: Role
) -> None:
    """No hash covers maxbuf. Too small, it slows us down or stops us; too large, it does so later.

    Guard: saslwrap/framing.py: if length > self.limit:
    Guard: saslwrap/mechanisms/digest_md5/negotiation.py: maximum_message(maxbuf, block_size)
    """
    policy = properties_for(cipher, max_buffer=1000)
    client, server = our_client(policy), our_server(policy)
    rewrite = {"offer" if towards == "server" else "choice": rewriting(maxbuf=maxbuf)}
    small = 22 if cipher == "3des" else 17
    size = 65536 if maxbuf is None else int(maxbuf)
    if size < small:
        with pytest.raises((NegotiationError, MalformedMessageError)):
            log_in(client, server, **rewrite)
        return
    log_in(client, server, **rewrite)
    here, there = layers(client, server)
    sender, receiver = (here, there) if towards == "server" else (there, here)
    message = bytes(2000)
    if size <= 1000:
        assert delivered(sender, receiver, message) == message
    else:
        verdict = judge(receiver, bytes(sender.send_data(message)[0])[:4])
        assert (type(verdict.error), verdict.accepted) == (FrameTooLargeError, b"")


# ---------------------------------------------------------------- E6: sizes


def sized(message: bytes, size: int) -> bytes:
    """Fill a message up, with a directive that nobody knows."""
    return message + b",x=" + b"a" * (size - len(message) - 3)


LIMITS: list[tuple[Role, int]] = [("client", 2048), ("server", 4096)]


@pytest.mark.parametrize(("role", "limit"), LIMITS)
def test_e6_message_just_under_the_limit_is_read(role: Role, limit: int) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:
    Guard: saslwrap/mechanisms/digest_md5/messages.py: RESPONSE_LIMIT = 4096
    """
    assert accepted(victim(role), sized(hostile(role), limit - 1))


@pytest.mark.parametrize("more", [0, 1, 1 << 20])
@pytest.mark.parametrize(("role", "limit"), LIMITS)
def test_e6_message_at_the_limit_is_refused_unread(role: Role, limit: int, more: int) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:
    Guard: saslwrap/mechanisms/digest_md5/messages.py: CHALLENGE_LIMIT = 2048
    """
    for message in (sized(hostile(role), limit + more), b"\0" * (limit + more)):
        refusal(victim(role), message, MalformedMessageError, f"over the limit of {limit - 1}$")


@pytest.mark.parametrize(("size", "fits"), [(2047, True), (2048, False)])
def test_e6_proof_has_the_limit_of_the_challenge(size: int, fits: bool) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(message) >= limit:"""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    message = proof() + b"," * (size - len(proof()))
    if fits:
        client.step(message)
        assert client.complete
    else:
        refusal(client, message, MalformedMessageError, "over the limit of 2047$")


def test_e6_challenge_that_makes_our_response_too_long_is_not_answered() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/client.py: if len(response) >= RESPONSE_LIMIT:"""
    client = our_client(username="a" * 2300)
    refusal(client, challenge(nonce="n" * 1850), NegotiationError, "4095 are allowed")


# ---------------------------------------------------------------- E7: duplicates

#: What stands in each directive of a message, and another value that is good as well.
TWICE: dict[Role, dict[str, str]] = {
    "client": {
        "nonce": "other",
        "algorithm": "md5-sess",
        "qop": "auth-conf",
        "stale": "true",
        "maxbuf": "4096",
        "charset": "utf-8",
        "cipher": "3des",
    },
    "server": {
        "username": "bob",
        "realm": REALM,
        "nonce": NONCE,
        "cnonce": "other",
        "nc": "00000001",
        "qop": "auth-conf",
        "cipher": "rc4",
        "digest_uri": f"ldap/{HOST}",
        "response": "0" * 32,
        "maxbuf": "4096",
        "charset": "utf-8",
        "authzid": "u:bob",
    },
}
DUPLICATES = [(role, name) for role, names in TWICE.items() for name in names]
WHOLE: Said = {"maxbuf": b"65536", "stale": b"true", "authzid": "u:alice"}


@pytest.mark.parametrize("again", ["the same", "another", "in capitals"])
@pytest.mark.parametrize(("role", "name"), DUPLICATES)
def test_e7_directive_that_stands_twice_is_refused(role: Role, name: str, again: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(values) > 1:
    Guard: saslwrap/mechanisms/digest_md5/directives.py: .decode("latin-1").lower()
    Guard: saslwrap/mechanisms/digest_md5/messages.py: directives.one("stale")
    Guard: saslwrap/mechanisms/digest_md5/messages.py: _filled(directives, "username")
    Guard: saslwrap/mechanisms/digest_md5/messages.py: realm=directives.one("realm"),
    """
    message = hostile(role, **WHOLE)
    value = TWICE[role][name] if again == "another" else heard(message)[name]
    directive = write({name.upper() if again == "in capitals" else name: value})
    for twice in (message + b"," + directive, directive + b"," + message):
        refusal(victim(role), twice, MalformedMessageError, "stands 2 times")


def test_e7_proof_that_stands_twice_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: if len(values) > 1:"""
    client = victim("client", properties_for("rc4"))
    client.step(challenge())
    refusal(client, proof() + b"," + proof(), MalformedMessageError, "stands 2 times")


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


# ---------------------------------------------------------------- E13: empty names, NUL


@pytest.mark.parametrize("name", ["username", "nonce", "cnonce", "qop", "digest_uri", "authzid"])
def test_e13_empty_name_is_refused_by_the_server(name: str) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not (value :="""
    server = our_server(get_secret=lambda *_: PASSWORD)
    server.step(None)
    cipher: Said = {"cipher": None} if name == "qop" else {}
    message = response(**cipher | {name: ""})
    refusal(server, message, MalformedMessageError, "is empty")


def test_e13_empty_realm_is_no_realm_of_ours() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: realm in self._realms or not self._realms"""
    server = our_server(get_secret=lambda *_: PASSWORD)
    server.step(None)
    refusal(server, response(realm=""), AuthenticationError)


@pytest.mark.parametrize("name", ["username", "realm", "authzid", "nonce", "cnonce", "digest_uri"])
@pytest.mark.parametrize(
    "raw",
    [b'"a\0b"', b'"a\\\0b"', b'"\0"', b'"alice\0"', b"alice\0", b'"a\nb"', b'"a\x7fb"'],
    ids=["NUL", "escaped NUL", "only NUL", "NUL at the end", "bare NUL", "line feed", "DEL"],
)
def test_e13_control_character_in_a_name_is_refused_by_the_server(name: str, raw: bytes) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: [^"\\\x00-\x08\x0a-\x1f\x7f]"""
    message = response({name: raw[1:-1].replace(b"\\", b"")}, **{name: raw})
    refusal(victim("server"), message, MalformedMessageError, "does not parse")


def test_e13_authzid_that_is_not_utf_8_is_refused() -> None:
    """Guard: saslwrap/mechanisms/digest_md5/server.py: return response.authzid.decode("utf-8")"""
    message = response({"authzid": b"u:\xff"}, authzid=b'"u:\xff"')
    refusal(victim("server"), message, MalformedMessageError, "not UTF-8")


@pytest.mark.parametrize(
    "changes",
    [{"nonce": ""}, {"nonce": b'"\0"'}, {"realm": b'"a\0b"'}],
    ids=["nonce", "NUL in nonce", "NUL in realm"],
)
def test_e13_empty_nonce_or_nul_is_refused_by_the_client(changes: Said) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/messages.py: if not (value :="""
    refusal(victim("client"), challenge(**changes), MalformedMessageError)


@pytest.mark.parametrize(
    "names",
    [
        {"username": ""},
        {"authzid": ""},
        {"username": "alice\0"},
        {"realm": "a\0"},
        {"authzid": "u:\0"},
        {"authzid": "\x7f"},
    ],
    ids=["username", "authzid", "NUL", "NUL in realm", "NUL in authzid", "DEL"],
)
def test_e13_empty_names_and_nul_are_never_sent(names: dict[str, str]) -> None:
    """Guard: saslwrap/mechanisms/names.py: if not value and not may_be_empty:
    Guard: saslwrap/mechanisms/names.py: if _CONTROL.search(value):
    """
    with pytest.raises(UsageError):
        our_client(**names)


# ---------------------------------------------------------------- E14: quoting

ODD_NAMES = {
    "authzid": 'alice",authzid="root',
    "realm": 'alice",realm="other',
    "backslash last": "alice\\",
    "backslash and authzid": 'alice\\",authzid="root',
    "quote": '"',
    "backslash": "\\",
    "backslash and quote": '\\"',
    "comma": "a,b=c",
    "spaces": "a , b",
    "directives": "nonce=x,qop=auth",
    "commas": '",,"',
}
odd_name = pytest.mark.parametrize("name", ODD_NAMES.values(), ids=list(ODD_NAMES))


@odd_name
def test_e14_name_does_not_get_out_of_its_quotes(name: str) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: _NEEDS_ESCAPE.sub(rb"\\\1", value)"""
    client = our_client(username=name, realm=name, authzid=name)
    server = our_server(realms=["first", name], get_secret=lambda *_: PASSWORD)
    answer = told(client, told(server, None))
    said = heard(answer)
    assert {said[key] for key in ("username", "realm", "authzid")} == {name}
    client.step(server.step(answer))
    assert client.complete
    assert (server.authcid, server.realm, server.authzid) == (name, name, name)


@odd_name
@both_roles
def test_e14_what_is_hashed_is_unescaped(role: Role, name: str) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: _NEEDLESSLY_ESCAPED.sub(rb"\1", inner)
    Guard: saslwrap/mechanisms/digest_md5/directives.py: Directive(_ESCAPED.sub(rb"\1", inner)
    """
    if role == "server":
        server = our_server(realms=[name], get_secret=lambda *_: PASSWORD)
        server.step(None)
        assert accepted(server, response(username=name, realm=name, authzid=name))
        assert (server.authcid, server.realm, server.authzid) == (name, name, name)
    else:
        said = heard(told(victim("client"), challenge(realm=name)))
        assert said["realm"] == name
        assert said["response"].encode() == digest("AUTHENTICATE", CHOICE | {"realm": name})


BROKEN = {
    "trailing backslash": b'"alice\\"',
    "nothing but a backslash": b'"\\',
    "three backslashes": b'"alice\\\\\\"',
    "unterminated": b'"alice',
    "only opened": b'"',
    "quote inside": b'"ali"ce"',
    "behind the quotes": b'"alice"x',
    "two values": b'"alice" "bob"',
    "quote in a token": b'ali"ce',
    "backslash in a token": b"ali\\ce",
    "space in a token": b"ali ce",
    "no comma": b'"alice" realm="x"',
    "no value": b"",
    "no value but a space": b" ",
    "line feed": b'"ali\nce"',
    "folded line": b'"ali\r\n ce"',
}
SOMEWHERE: dict[Role, str] = {"client": "realm", "server": "username"}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@both_roles
def test_e14_broken_quoting_is_refused(role: Role, last: bool, raw: bytes) -> None:
    r"""Guard: saslwrap/mechanisms/digest_md5/directives.py: (?=,|\Z)
    Guard: saslwrap/mechanisms/digest_md5/directives.py: |\\[^\x00-\x1f\x7f])*"'
    """
    name = SOMEWHERE[role]
    rest, broken = hostile(role, **{name: None}), write({name: raw})
    message = rest + b"," + broken if last else broken + b"," + rest
    refusal(victim(role), message, MalformedMessageError)


# ---------------------------------------------------------------- E15: unknown directives

UNKNOWN: Said = {
    "opaque": ["a", b"b", "a"],
    "domain": "c",
    "x": [b"1", b"1", 'nonce="x",qop="auth"'],
    "nonce2": "other",
    "noncee": "other",
    "auth_param": "",
    "rspauth": [b"0" * 32] * 2,
}


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@both_roles
def test_e15_unknown_directives_are_ignored(role: Role, first: bool) -> None:
    """Guard: saslwrap/mechanisms/digest_md5/directives.py: directives.setdefault(name, [])"""
    foreign: Said = (
        {"username": "bob", "cnonce": "x"} if role == "client" else {"algorithm": [b"x"] * 2}
    )
    parts = [hostile(role), write(UNKNOWN | foreign)]
    message = b",".join(reversed(parts) if first else parts)
    plain, other = victim(role), victim(role)
    assert told(other, message) == told(plain, hostile(role))
