"""DIGEST-MD5's mechanisms with fixed nonces, which hold their own completion against the reference.

Whatever drives them, an exchange or a bare step: a side that is complete got a right proof, worked
out by `tests.vectors.reference`, for what it said itself.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from saslwrap.context import Buffer
from saslwrap.errors import SASLError
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.mechanisms.digest_md5.credentials import from_wire
from saslwrap.mechanisms.digest_md5.messages import Challenge, Response
from saslwrap.properties import QOP, SecurityProperties
from saslwrap.testing.pairs import HOST, PASSWORD, REALM, USERNAME, get_secret
from tests.fuzz.target import same_error
from tests.vectors.reference import Login, request_digest, session_key

NONCE: Final = "N0nce"
CNONCE: Final = "Cn0nce"

#: What is asked for: from the default to anything.
POLICIES: Final = (
    SecurityProperties(),
    SecurityProperties(min_ssf=0, ciphers=("rc4", "3des", "des", "rc4-56", "rc4-40")),
    SecurityProperties(min_ssf=1, max_ssf=1, max_buffer=100),
    SecurityProperties(min_ssf=0, max_ssf=0),
    SecurityProperties(min_ssf=40, ciphers=("3des", "des"), max_buffer=1024),
)

LOGINS: Final = (
    Login(),
    Login(qop="auth-int", cipher=None),
    Login(qop="auth", cipher=None),
    Login(cipher="3des", authzid="bob"),
)

#: An offer that the default policy does not take.
WEAK_OFFER: Final = LOGINS[0].challenge(qop="auth")


class WatchedClient(DigestMD5Client):
    """Alice's side."""

    def __init__(self, properties: SecurityProperties, service: str = "ldap") -> None:
        super().__init__(
            USERNAME,
            PASSWORD,
            service=service,
            host=HOST,
            properties=properties,
            generate_cnonce=lambda: CNONCE,
        )
        self.policy = properties
        self.said: Response | None = None

    @property
    def external_ssf(self) -> int:
        return self._channel.external_ssf

    def step(self, message: Buffer | None) -> bytes | None:
        reply = super().step(message)
        if reply is not None:
            assert PASSWORD.encode() not in reply, "it says the password"
            self.said = Response.parse(reply)
            offer = Challenge.parse(bytes(message or b""))
            assert (self.said.qop or b"").decode() in offer.qops, "a choice that was not offered"
            assert self.said.cipher is None or self.said.cipher in offer.ciphers
            assert self.said.response == proof(self.said, b"AUTHENTICATE"), reply
        if self.complete:
            assert self.said is not None
            assert bytes(message or b"").strip(b", \t\r\n").lower().startswith(b"rspauth")
            assert proof(self.said, b"") in bytes(message or b"").replace(b"\\", b"")
            judge_context(self, self.said)
        return reply


class WatchedServer(DigestMD5Server):
    """The side that knows Alice, and nobody else."""

    def __init__(self, properties: SecurityProperties, service: str = "ldap") -> None:
        super().__init__(
            get_secret,
            service=service,
            host=HOST,
            realms=[REALM],
            properties=properties,
            generate_nonce=lambda: NONCE,
        )
        self.policy = properties
        self._uri = f"{service}/{HOST}".encode()

    @property
    def external_ssf(self) -> int:
        return self._channel.external_ssf

    def step(self, message: Buffer | None) -> bytes | None:
        reply = super().step(message)
        if self.complete:
            said = Response.parse(bytes(message or b""))
            assert (self.authcid, self.realm) == (USERNAME, REALM)
            assert said.nonce == NONCE.encode() != said.cnonce
            assert said.nonce_count == b"00000001"
            assert said.digest_uri.lower() in (self._uri, self._uri + b"/" + HOST.encode())
            assert said.response == proof(said, b"AUTHENTICATE"), "a login without a right proof"
            assert reply == b"rspauth=" + proof(said, b"")
            judge_context(self, said)
        return reply


def proof(said: Response, method: bytes) -> bytes:
    """Alice's proof for what a response says (method AUTHENTICATE), or the server's (none)."""
    realm = said.realm or b""
    text = from_wire(realm) if said.utf8 else realm.decode("latin-1")
    key = session_key(Login(realm=text).urp, said.nonce, said.cnonce, said.authzid)
    counted = said.nonce, said.nonce_count, said.cnonce
    return request_digest(key, method, *counted, said.qop or b"auth", said.digest_uri)


def judge_context(mechanism: WatchedClient | WatchedServer, said: Response) -> None:
    """Hold what a login ended in against what was said, and against the policy."""
    context = mechanism.context
    least, greatest = mechanism.policy.layer_ssf(mechanism.external_ssf)
    qop = (said.qop or b"auth").lower().decode()
    if context is None:
        assert (qop, least) == (QOP.AUTH, 0)
        return
    assert (context.qop, context.cipher) == (qop, said.cipher)
    assert least <= context.ssf <= greatest
    assert context.cipher is None or context.cipher in mechanism.policy.ciphers
    assert context.local_maxbuf == mechanism.policy.max_buffer
    assert context.stream_sizes.maximum_message < context.peer_maxbuf


def judge_refusal(mechanism: Mechanism, fault: SASLError, *, was_complete: bool = False) -> None:
    """Hold that a mechanism that refused stays where it is, and gives no context."""
    assert mechanism.complete == was_complete
    for message in (None, b"", b"rspauth=x"):
        same_error(partial(mechanism.step, message), fault)
