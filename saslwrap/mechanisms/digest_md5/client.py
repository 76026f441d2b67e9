"""DIGEST-MD5, the client's side (RFC 2831 section 2.1).

    server: digest-challenge   ->  client: digest-response
    server: rspauth            ->  client: nothing, complete

The server proves itself by rspauth; the context exists only after that proof held.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hmac import compare_digest
from typing import get_args

from saslwrap.context import SecurityContext
from saslwrap.errors import (
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    UsageError,
    require_kind,
)
from saslwrap.mechanism import ClientMechanism
from saslwrap.mechanisms.digest_md5.ciphers import require_md5
from saslwrap.mechanisms.digest_md5.context import make_context
from saslwrap.mechanisms.digest_md5.credentials import HashEncoding, from_wire, to_wire, urp
from saslwrap.mechanisms.digest_md5.keys import NONCE_COUNT, DigestParameters
from saslwrap.mechanisms.digest_md5.messages import (
    RESPONSE_LIMIT,
    Challenge,
    Response,
    parse_rspauth,
)
from saslwrap.mechanisms.digest_md5.names import check_nonce, digest_uri
from saslwrap.mechanisms.digest_md5.negotiation import Protection, allowed, choose
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.names import check_encodable, check_text
from saslwrap.properties import QOP, SecurityProperties

__all__ = ["DigestMD5Client"]


def _random_cnonce() -> str:
    return secrets.token_urlsafe(24)


class DigestMD5Client(ClientMechanism):
    """Log in with a name and a password.

    :param username: who authenticates, without realm
    :param password: the user's password
    :param service: IANA service name: `"ldap"`, `"imap"`, `"pop"`, `"smtp"`, `"sieve"` ...
    :param host: the server's name, as it knows itself: part of digest-uri, which it may check
    :param realm: where the account is. None takes the server's, the first of several
    :param authzid: on whose behalf, None for oneself
    :param serv_name: the service's name where that is not the host's (a replicated service)
    :param properties: what the login has to give
    :param hash_encoding: how names beyond ASCII are hashed: `"auto"` as RFC 2831, Cyrus and the JDK
        do; `"utf8"` without conversion; `"gsasl"` as GNU SASL does
    :param generate_cnonce: gives the client's nonce; for tests that replay a login
    :raises UsageError: a name that cannot be sent, or an argument of another kind
    :raises MechanismUnavailableError: OpenSSL has MD5 switched off
    """

    name = "DIGEST-MD5"

    @forgetful
    def __init__(
        self,
        username: str,
        password: str,
        *,
        service: str,
        host: str,
        realm: str | None = None,
        authzid: str | None = None,
        serv_name: str | None = None,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        hash_encoding: HashEncoding = "auto",
        generate_cnonce: Callable[[], str] = _random_cnonce,
    ) -> None:
        super().__init__()
        self._password = password
        require_md5()
        check_text("username", username)
        if realm is not None:
            check_text("realm", realm, may_be_empty=True)
        check_encodable("password", self._password)
        if authzid is not None:
            check_text("authzid", authzid)
        if hash_encoding not in get_args(HashEncoding):
            raise UsageError(f"hash_encoding is one of {', '.join(get_args(HashEncoding))}")
        require_kind("properties", properties, SecurityProperties)
        require_kind("generate_cnonce", generate_cnonce, Callable, "a function")
        self.authcid: str | None = username
        self._username = username
        self.authzid = authzid
        self._realm = realm
        self._digest_uri = digest_uri(service, host, serv_name)
        self.properties = properties
        self._hash_encoding: HashEncoding = hash_encoding
        self._generate_cnonce = generate_cnonce
        self._expected_rspauth: bytes | None = None
        self._pending_context: SecurityContext | None = None

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        """The greatest SSF this mechanism can reach within `properties`, None if it cannot."""
        try:
            protections = allowed(properties, external_ssf)
        except UsageError:
            return None
        reachable = (p.ssf for p in protections if p.works and p.fits(properties.max_buffer))
        return max(reachable, default=None)

    def _forget(self) -> None:
        self._password = ""
        self._expected_rspauth = None
        self._pending_context = None

    def _step(self, message: bytes | None) -> bytes | None:
        if self._expected_rspauth is not None:
            self._verify(message)
            context, self._pending_context = self._pending_context, None
            self._finish(context)
            return None
        return None if message is None else self._respond(Challenge.parse(message))

    def _respond(self, challenge: Challenge) -> bytes:
        protection = self._choose(challenge)
        parameters = DigestParameters(
            nonce=challenge.nonce,
            cnonce=check_nonce(self._generate_cnonce(), "generate_cnonce"),
            qop=protection.qop.encode(),
            digest_uri=self._digest_uri,
            authzid=None if self.authzid is None else self.authzid.encode(),
        )
        if compare_digest(parameters.nonce, parameters.cnonce):
            raise ProtocolError("the server's nonce is our own cnonce: it was reflected")
        realm = self._choose_realm(challenge)
        session_key = self._session_key(parameters, realm, utf8=challenge.utf8)
        response = self._format(parameters, protection, session_key, realm, utf8=challenge.utf8)
        self._expected_rspauth = parameters.rspauth(session_key)
        if protection.qop is not QOP.AUTH:
            self._pending_context = make_context(
                session_key,
                protection.cipher,
                is_client=True,
                local_maxbuf=self.properties.max_buffer,
                peer_maxbuf=challenge.maxbuf,
            )
        return response

    def _choose(self, challenge: Challenge) -> Protection:
        if not set(challenge.qops) & set(QOP):
            raise MalformedMessageError(
                f"the server offers no known qop: {', '.join(challenge.qops)[:64]!r}"
            )
        return choose(
            self.properties,
            self._channel.external_ssf,
            qops=challenge.qops,
            ciphers=challenge.ciphers,
            maxbuf=challenge.maxbuf,
        )

    def _choose_realm(self, challenge: Challenge) -> bytes | None:
        if self._realm is not None:
            return to_wire(self._realm, utf8=challenge.utf8)
        return challenge.realms[0] if challenge.realms else None

    def _session_key(
        self, parameters: DigestParameters, realm: bytes | None, *, utf8: bool
    ) -> bytes:
        to_wire(self._password, utf8=utf8)
        encoding = self._hash_encoding if utf8 else "auto"
        realm_name = from_wire(realm or b"") if utf8 else (realm or b"").decode("latin-1")
        secret = urp(self._username, realm_name, self._password, encoding)
        self._password = ""
        return parameters.session_key(secret)

    def _format(
        self,
        parameters: DigestParameters,
        protection: Protection,
        session_key: bytes,
        realm: bytes | None,
        *,
        utf8: bool,
    ) -> bytes:
        response = Response(
            username=to_wire(self._username, utf8=utf8),
            realm=realm,
            nonce=parameters.nonce,
            cnonce=parameters.cnonce,
            nonce_count=NONCE_COUNT,
            qop=parameters.qop,
            digest_uri=parameters.digest_uri,
            response=parameters.response(session_key),
            maxbuf=None if protection.qop is QOP.AUTH else self.properties.max_buffer,
            utf8=utf8,
            cipher=protection.cipher.name if protection.cipher else None,
            authzid=parameters.authzid,
        ).format()
        if len(response) >= RESPONSE_LIMIT:
            raise NegotiationError(
                f"the response would have {len(response)} octets, {RESPONSE_LIMIT - 1} are allowed "
                "(RFC 2831 section 2.1.2); use shorter names"
            )
        return response

    def _verify(self, message: bytes | None) -> None:
        proof = None if message is None else parse_rspauth(message)
        expected = self._expected_rspauth
        if expected is None or proof is None or not compare_digest(proof, expected):
            raise MutualAuthenticationError(
                "the server did not prove that it knows the password: do not trust it"
            )
