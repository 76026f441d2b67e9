"""DIGEST-MD5, the server's side (RFC 2831 section 2.1).

    server: digest-challenge   <-  the first step, whatever the client sent with it
    client: digest-response    ->  server: rspauth, complete

An initial response would be a *subsequent* authentication (section 2.2). It would bring back the
keys of the former session with its counters at 0, so recorded tokens would replay; it is ignored
and answered with a fresh challenge.

An unknown user and a wrong password are one: the same error, and the same work, with a secret that
nobody has. What a login is checked against is our own challenge, never what the client repeats.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from hmac import compare_digest

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    NegotiationError,
    UsageError,
    is_async,
    require_kind,
)
from saslwrap.mechanism import ServerMechanism
from saslwrap.mechanisms.digest_md5.ciphers import require_md5
from saslwrap.mechanisms.digest_md5.context import make_context
from saslwrap.mechanisms.digest_md5.credentials import (
    DigestMD5Secret,
    Secret,
    all_urps,
    from_wire,
)
from saslwrap.mechanisms.digest_md5.keys import NONCE_COUNT, DigestParameters
from saslwrap.mechanisms.digest_md5.messages import (
    CHALLENGE_LIMIT,
    DEFAULT_MAXBUF,
    Challenge,
    Response,
)
from saslwrap.mechanisms.digest_md5.names import check_nonce, digest_uri
from saslwrap.mechanisms.digest_md5.negotiation import Protection, check_maxbuf, offer
from saslwrap.mechanisms.names import check_host, check_text, is_encodable
from saslwrap.properties import QOP, SecurityProperties

__all__ = ["DigestMD5Server"]


def _random_nonce() -> str:
    return secrets.token_urlsafe(24)


class DigestMD5Server(ServerMechanism):
    """Let clients log in that know a password.

    :param get_secret: takes username and realm, gives the password, a `DigestMD5Secret`, or None
        for an unknown user. A plain function; a slow one goes with `may_block=True` and runs in a
        worker thread, from where an async store is reached: by `anyio.from_thread.run` under
        `saslwrap.anyio`, by `asyncio.run_coroutine_threadsafe` under `saslwrap.asyncio`
    :param service: IANA service name, `"ldap"`; the client's digest-uri must have it
    :param host: our name; the client's digest-uri must have it, in any case
    :param realms: what the challenge offers; the client's must be among them. With none, the
        client's realm is passed to `get_secret` as it is, `""` if it sends none
    :param serv_name: the service's name where that is not the host's (a replicated service); the
        client's digest-uri may have it
    :param properties: what is offered, and what the client must choose from
    :param may_block: whether `get_secret` may take its time
    :param generate_nonce: gives the server's nonce; for tests that replay a login
    :raises UsageError: a name that cannot be sent, an argument of another kind, or a challenge that
        gets too long
    :raises MechanismUnavailableError: OpenSSL has MD5 switched off

    `authcid` is the client's name without realm, `realm` its realm, `authzid` on whose behalf it
    wants to act, or None. Whether it may do so is the application's to decide, after the login.
    """

    name = "DIGEST-MD5"

    def __init__(
        self,
        get_secret: Callable[[str, str], Secret | None],
        *,
        service: str,
        host: str,
        realms: Sequence[str] = (),
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        serv_name: str | None = None,
        may_block: bool = False,
        generate_nonce: Callable[[], str] = _random_nonce,
    ) -> None:
        super().__init__()
        require_md5()
        if not callable(get_secret) or is_async(get_secret):
            raise UsageError(
                "get_secret is a plain function; with may_block=True it runs in a thread, from "
                "where an async store is reached: by anyio.from_thread.run under saslwrap.anyio, "
                "by asyncio.run_coroutine_threadsafe under saslwrap.asyncio"
            )
        if isinstance(realms, str):
            raise UsageError(f"realms takes several names: realms=[{realms!r}]")
        require_kind("realms", realms, Collection, "a list of names")  # an iterator would end
        self._realms = tuple(realms)
        for realm in self._realms:
            check_text("realm", realm)
        require_kind("properties", properties, SecurityProperties)
        require_kind("generate_nonce", generate_nonce, Callable, "a function")
        self.may_block = may_block
        self.realm: str | None = None
        self._get_secret = get_secret
        if serv_name is not None:
            check_host(serv_name, "serv_name")
        self._service = digest_uri(service, host).lower().split(b"/")
        self._serv_names = {part.lower().encode() for part in (host, serv_name) if part}
        self._properties = properties
        self._generate_nonce = generate_nonce
        self._offered: list[Protection] = []
        self._challenge: Challenge | None = None

    def _step(self, message: bytes | None) -> bytes | None:
        if self._challenge is None:
            return self._make_challenge()
        if message is None:
            raise MalformedMessageError("the client answered the challenge with no message")
        return self._check(Response.parse(message), self._challenge)

    def _make_challenge(self) -> bytes:
        self._offered = offer(self._properties, self._channel.external_ssf)
        self._challenge = Challenge(
            nonce=check_nonce(self._generate_nonce(), "generate_nonce"),
            realms=tuple(realm.encode() for realm in self._realms),
            qops=tuple(dict.fromkeys(protection.qop for protection in self._offered)),
            ciphers=tuple(p.cipher.name for p in self._offered if p.cipher),
            maxbuf=self._properties.max_buffer,
            utf8=True,
        )
        message = self._challenge.format()
        if len(message) >= CHALLENGE_LIMIT:
            raise UsageError(
                f"the challenge has {len(message)} octets, {CHALLENGE_LIMIT - 1} are allowed (RFC "
                "2831 section 2.1.1); offer fewer realms"
            )
        return message

    def _check(self, response: Response, challenge: Challenge) -> bytes:
        protection = self._chosen(response)
        peer_maxbuf = DEFAULT_MAXBUF if response.maxbuf is None else response.maxbuf
        if protection.qop is not QOP.AUTH and not protection.fits(check_maxbuf(peer_maxbuf)):
            raise NegotiationError(
                f"the client's maxbuf of {peer_maxbuf} octets is too small for {protection} to "
                "carry anything"
            )
        authzid = self._authzid(response)
        parameters = DigestParameters(
            nonce=challenge.nonce,
            cnonce=response.cnonce,
            qop=response.qop or QOP.AUTH.encode(),
            digest_uri=response.digest_uri,
            authzid=response.authzid,
        )
        session_key = self._authenticate(response, parameters)
        self.authcid: str | None = from_wire(response.username)
        self.realm = from_wire(response.realm or b"")
        self.authzid = authzid
        self._finish(
            None
            if protection.qop is QOP.AUTH
            else make_context(
                session_key,
                protection.cipher,
                is_client=False,
                local_maxbuf=self._properties.max_buffer,
                peer_maxbuf=peer_maxbuf,
            )
        )
        return b"rspauth=" + parameters.rspauth(session_key)

    def _chosen(self, response: Response) -> Protection:
        """What the client chose, if it was offered: the policy's second check."""
        qop = (response.qop or QOP.AUTH.encode()).decode("latin-1").lower()
        if response.cipher is not None and qop != QOP.AUTH_CONF:
            raise MalformedMessageError("the client names a cipher, which only goes with auth-conf")
        for protection in self._offered:
            cipher = protection.cipher.name if protection.cipher else None
            if (qop, response.cipher) == (protection.qop, cipher):
                return protection
        chosen = qop if response.cipher is None else f"{qop} ({response.cipher})"
        raise NegotiationError(
            f"the client chose {chosen[:64]!r}; offered: {', '.join(map(str, self._offered))}"
        )

    @staticmethod
    def _authzid(response: Response) -> str | None:
        if response.authzid is None:
            return None
        try:
            return response.authzid.decode("utf-8")
        except UnicodeDecodeError:
            pass
        raise MalformedMessageError("the directive authzid is not UTF-8")

    def _authenticate(self, response: Response, parameters: DigestParameters) -> bytes:
        """Give H(A1) if the client knows the secret. All that is wrong fails in the same way."""
        username, realm = from_wire(response.username), from_wire(response.realm or b"")
        acceptable = self._acceptable(response, realm, parameters.nonce)
        secret = self._get_secret(username, realm) if acceptable else None
        known = secret is not None
        session_key = b""
        for urp in self._urps(username, realm, secret):
            candidate = parameters.session_key(urp)
            if compare_digest(parameters.response(candidate), response.response):
                session_key = session_key or candidate
        if not (known and session_key):
            raise AuthenticationError(
                "the login was refused: unknown user, wrong password, or names (realm, digest-uri, "
                "nonce) that are not ours"
            )
        return session_key

    def _acceptable(self, response: Response, realm: str, nonce: bytes) -> bool:
        return (
            compare_digest(response.nonce, nonce)
            and not compare_digest(response.cnonce, nonce)  # a reflection
            and response.nonce_count == NONCE_COUNT
            and (realm in self._realms or not self._realms)
            and self._is_us(response.digest_uri.lower())
        )

    def _is_us(self, their_uri: bytes) -> bool:
        """Whether a digest-uri, in lower case, is `service/host` or `service/host/serv-name`."""
        parts = their_uri.split(b"/")
        return parts[:2] == self._service and (
            len(parts) == 2 or (len(parts) == 3 and parts[2] in self._serv_names)
        )

    @staticmethod
    def _urps(username: str, realm: str, secret: Secret | None) -> Sequence[bytes]:
        """The hashes to try: always three, always computed."""
        if not (secret is None or isinstance(secret, str | DigestMD5Secret)):
            raise UsageError("get_secret gives a str, a DigestMD5Secret or None")
        password = secret if isinstance(secret, str) else secrets.token_urlsafe(12)
        if not is_encodable(password):
            raise UsageError("get_secret gave a password with lone surrogates, which nobody has")
        computed = all_urps(username, realm, password)
        return [secret.digest] * 3 if isinstance(secret, DigestMD5Secret) else computed
