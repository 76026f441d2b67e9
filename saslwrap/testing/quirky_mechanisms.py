"""How `Quirks` come about in a login: a real server's mechanism, and what passes it rewritten."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Final

from saslwrap.context import Octets, SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MechanismUnavailableError,
    NegotiationError,
    OutOfSequenceError,
)
from saslwrap.mechanism import ServerMechanism
from saslwrap.mechanisms.digest_md5.directives import format_directives, parse_directives, quote
from saslwrap.mechanisms.digest_md5.messages import CHALLENGE_LIMIT, Response
from saslwrap.mechanisms.digest_md5.names import digest_uri
from saslwrap.properties import QOP, ChannelInfo
from saslwrap.testing.quirks import Quirks

__all__ = [
    "BrokenCipherError",
    "ForeignURIError",
    "LayerOverTLSError",
    "QuirkyDigestMD5",
    "QuirkyGSSAPI",
    "QuirkyGSSSPNEGO",
]

#: Directives of a challenge that are quoted anyway (RFC 2831 section 2.1.1).
_QUOTED: Final = ("realm", "nonce", "qop", "cipher")


class BrokenCipherError(MechanismUnavailableError):
    """The cipher that was offered and chosen does not work."""


class ForeignURIError(AuthenticationError):
    """The client wants to log in to another server."""


class LayerOverTLSError(NegotiationError):
    """The client chose a layer over TLS."""


class _Quirky(ServerMechanism):
    """Passes all on to a real mechanism, but that it may not let it know of TLS."""

    def __init__(self, inner: ServerMechanism, quirks: Quirks) -> None:
        super().__init__()
        self.may_block: bool = inner.may_block
        self._inner: Final = inner
        self._quirks: Final = quirks

    def bind_channel(self, info: ChannelInfo) -> None:
        super().bind_channel(info)
        self._inner.bind_channel(replace(info, external_ssf=0) if self._hides_tls else info)

    @property
    def _hides_tls(self) -> bool:
        """Whether layers are offered as if there was no TLS."""
        return self._quirks.no_layer_over_tls

    def _step(self, message: bytes | None) -> bytes | None:
        reply = self._inner.step(message)
        if self._inner.complete:
            context = self._inner.context
            if context is not None and self._hides_tls and self._channel.external_ssf:
                raise LayerOverTLSError("the client chose a layer; over TLS none is given here")
            self.authcid: str | None = self._inner.authcid
            self.authzid: str | None = self._inner.authzid
            self._finish(context and self._dress(context))
        return reply

    def _dress(self, context: SecurityContext) -> SecurityContext:
        return context

    def _forget(self) -> None:
        self._inner.abandon()


class QuirkyGSSAPI(_Quirky):
    """GSSAPI with quirks."""

    name = "GSSAPI"


class QuirkyGSSSPNEGO(_Quirky):
    """GSS-SPNEGO with quirks."""

    name = "GSS-SPNEGO"


class QuirkyDigestMD5(_Quirky):
    """DIGEST-MD5 with quirks.

    :param service: the server's, as in its digest-uri
    :param host: the same
    """

    name = "DIGEST-MD5"

    def __init__(self, inner: ServerMechanism, quirks: Quirks, *, service: str, host: str) -> None:
        super().__init__(inner, quirks)
        self._uri: Final = digest_uri(service, host).lower().split(b"/")
        self._challenged = False

    def _step(self, message: bytes | None) -> bytes | None:
        if self._challenged and message is not None:
            self._look_at(Response.parse(message))
        reply = super()._step(message)
        if self._challenged or reply is None:
            return reply
        self._challenged = True
        return _rewrite(reply, self._quirks)

    def _look_at(self, response: Response) -> None:
        if response.cipher in self._quirks.broken_ciphers:
            raise BrokenCipherError(f"couldn't init cipher '{response.cipher}'")
        is_ours = response.digest_uri.lower().split(b"/")[:2] == self._uri
        if self._quirks.foreign_uri is not None and not is_ours:
            raise ForeignURIError("the client's digest-uri is not that of this server")

    def _dress(self, context: SecurityContext) -> SecurityContext:
        reserve = self._quirks.reserve[context.qop is QOP.AUTH_CONF]
        most = min(context.stream_sizes.maximum_message, context.peer_maxbuf - reserve)
        return SecurityContext(
            context,
            _Discarding(context) if self._quirks.discards_bad_frames else context,
            mechanism=context.mechanism,
            qop=context.qop,
            ssf=context.ssf,
            cipher=context.cipher,
            stream_sizes=replace(context.stream_sizes, maximum_message=max(most, 1)),
            sizes=context.sizes,
            local_maxbuf=context.local_maxbuf,
            peer_maxbuf=context.peer_maxbuf,
        )


class _Discarding:
    """Takes the first altered token for nothing; what comes next is out of sequence."""

    def __init__(self, context: SecurityContext) -> None:
        self._context: Final = context
        self._discarded = False

    def unseal(self, token: Octets) -> bytes:
        if self._discarded:
            raise OutOfSequenceError
        try:
            return self._context.unseal(token)
        except OutOfSequenceError:
            raise
        except IntegrityError:
            self._discarded = True
        return b""


def _rewrite(challenge: bytes, quirks: Quirks) -> bytes:
    """Write a challenge with these quirks."""
    directives = parse_directives(challenge, CHALLENGE_LIMIT)
    return format_directives(
        (name, _written(name, value.value, quirks))
        for name, values in directives.items()
        for value in values
        if not (name == "maxbuf" and quirks.no_maxbuf)
    )


def _written(name: str, value: bytes, quirks: Quirks) -> bytes:
    if name == "cipher":
        offered = value.split(b","), map(str.encode, quirks.broken_ciphers)
        value = b",".join(dict.fromkeys(chain(*offered)))
    return quote(value) if name in (*_QUOTED, *quirks.quoted) else value
