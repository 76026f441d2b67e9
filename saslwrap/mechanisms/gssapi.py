"""GSSAPI: Kerberos V5, with the layer negotiated apart (RFC 4752).

    client: AP-REQ                                ->  server: AP-REP
    client: nothing more, an empty message        ->  server: wrapped [layers it offers][its maxbuf]
    client: wrapped [layer][its maxbuf] authzid   ->  server: complete

Both wrapped messages have integrity only. A maxbuf is three octets, and bounds a token, not its
message. Bits that we do not know are negotiated off. The server has proved itself by AP-REP.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from saslwrap.context import SecurityContext
from saslwrap.errors import (
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    require_kind,
    require_number,
)
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer
from saslwrap.mechanisms.gss.layer import best_ssf, can_carry_layer, make_context
from saslwrap.mechanisms.gss.provider import Flag, GSSContext
from saslwrap.mechanisms.gss.side import GSSSide
from saslwrap.mechanisms.names import check_text
from saslwrap.properties import MAX_MAXBUF, SecurityProperties

__all__ = ["GSSAPIClient", "GSSAPIServer"]

_AUTHZID_LIMIT: Final = 4096


class _Layer(enum.IntFlag):
    """RFC 4752 section 3.3."""

    NONE = 1
    INTEGRITY = 2
    CONFIDENTIALITY = 4


_LAYERS: Final = 0xFE
"""All bits but NONE's, those of layers that we do not know among them."""


class _Negotiation:
    """What both sides do once the GSS context stands: weigh layers, and say their choice."""

    def __init__(self, gss: GSSContext, properties: SecurityProperties, external_ssf: int) -> None:
        self._gss = gss
        self._properties = properties
        self._least, self._greatest = properties.layer_ssf(external_ssf)

    @property
    def client_name(self) -> str | None:
        """Who the client is, to its server."""
        return self._gss.peer_name

    @property
    def _strengths(self) -> dict[_Layer, int]:
        """The SSF of each layer that the GSS context can carry: the client may not ask for all."""
        strengths = {_Layer.NONE: 0}
        if can_carry_layer(self._gss.flags):
            strengths[_Layer.INTEGRITY] = 1
            if Flag.CONFIDENTIALITY in self._gss.flags:
                strengths[_Layer.CONFIDENTIALITY] = self._gss.ssf
        return strengths

    @property
    def allowed(self) -> _Layer:
        """Those of them that the policy allows."""
        allowed = _Layer(0)
        for layer, ssf in self._strengths.items():
            if self._least <= ssf <= self._greatest:
                allowed |= layer
        return allowed

    def policy(self) -> str:
        """Name what is wanted, for an error's text."""
        layer = "no layer" if not self._greatest else f"an SSF of {self._least} to {self._greatest}"
        strengths = " or ".join(map(str, self._strengths.values()))
        return f"{layer}; Kerberos, as the client asked for it, gives {strengths}"

    def wrap(self, layers: _Layer, text: bytes = b"") -> bytes:
        """Say a choice, or an offer, and what we can receive."""
        maxbuf = self._properties.max_buffer if layers & _LAYERS else 0
        message = bytes([layers]) + maxbuf.to_bytes(3, "big") + text
        token, _ = self._gss.wrap(message, encrypt=False)
        return token

    def unwrap(self, message: bytes | None) -> tuple[int, int, bytes]:
        """Read the peer's: bits, its maxbuf, and what follows."""
        plain, encrypted = self._gss.unwrap(message or b"")
        if encrypted or len(plain) < 4:
            raise MalformedMessageError(
                "the peer's word on layers is not as RFC 4752 section 3 has it: four octets or "
                "more, with integrity only"
            )
        return plain[0], int.from_bytes(plain[1:4], "big"), plain[4:]

    def context(
        self, layer: _Layer, peer_maxbuf: int, assume_maxbuf: int | None
    ) -> SecurityContext | None:
        """Make the context of a layer that was agreed on, None for none."""
        if layer == _Layer.NONE:
            return None
        if not peer_maxbuf:
            if assume_maxbuf is None:
                raise NegotiationError(
                    "the peer wants a layer but announces a maximum of 0 octets, which carries "
                    "nothing; if it means no limit, set assume_maxbuf=65536"
                )
            peer_maxbuf = assume_maxbuf
        sealed = layer == _Layer.CONFIDENTIALITY
        return make_context(
            self._gss,
            mechanism="GSSAPI",
            ssf=self._gss.ssf if sealed else 1,
            local_maxbuf=self._properties.max_buffer,
            peer_maxbuf=peer_maxbuf,
        )


def _check_assumed(maxbuf: int | None) -> None:
    if maxbuf is not None:
        require_number("assume_maxbuf", maxbuf, 1, MAX_MAXBUF)


class GSSAPIClient(GSSSide, ClientMechanism):
    """Log in with Kerberos.

    Without any of `password`, `credential_cache` and `keytab` the system's own tickets are taken:
    those of `kinit`, of `KRB5CCNAME`, or of the Windows session.

    :param username: who authenticates: a principal, `"alice"` or `"alice@EXAMPLE.COM"`. None takes
        that of the cache
    :param password: the user's password; a KDC is asked for a ticket then
    :param service: IANA service name: `"ldap"`, `"imap"` ...
    :param host: the server's name as in its principal: a full host name, never an address
    :param authzid: on whose behalf, None for oneself
    :param properties: what the login has to give; `ciphers` has no meaning here
    :param credential_cache: a ticket cache, by path or as MIT names it (`"FILE:..."`, `"KCM:..."`)
    :param keytab: a file with the user's key, in place of a password
    :param ad_compat: choose integrity and confidentiality both, where confidentiality is meant and
        both are offered: what old Active Directory wants
    :param assume_maxbuf: what to take a server's maximum of 0 octets for; None refuses it
    :raises UsageError: arguments of another kind, that contradict each other, or cannot be sent
    :raises MechanismUnavailableError: the extra is not installed

    Steps may talk to a KDC (`may_block`). Failing ones say what is wrong with tickets, clocks,
    names or the KDC as `AuthenticationError`, and what is not installed as
    `MechanismUnavailableError`.
    """

    name = "GSSAPI"

    @forgetful
    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        service: str,
        host: str,
        authzid: str | None = None,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        credential_cache: str | os.PathLike[str] | None = None,
        keytab: str | os.PathLike[str] | None = None,
        ad_compat: bool = False,
        assume_maxbuf: int | None = None,
    ) -> None:
        super().__init__()
        self._credentials = GSSCredentials(username, password, credential_cache, keytab)
        self._peer = Peer(service, host, is_client=True)
        if authzid is not None:
            check_text("authzid", authzid)
        _check_assumed(assume_maxbuf)
        require_kind("properties", properties, SecurityProperties)
        self.authcid: str | None = username
        self.authzid = authzid
        self.properties = properties
        self._ad_compat = ad_compat
        self._assume_maxbuf = assume_maxbuf
        self._agreeing: _Negotiation | None = None

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        """The greatest SSF this mechanism can reach within `properties`, None if it cannot."""
        return best_ssf(properties, external_ssf)

    def _forget(self) -> None:
        super()._forget()
        self._agreeing = None

    def _step(self, message: bytes | None) -> bytes | None:
        if self._agreeing is not None:
            return self._agree(self._agreeing, message)
        gss = self._gss
        if gss is None:
            if message:
                raise MalformedMessageError("the server sent a token before the client's first")
            gss = self._gss = self._open()
        elif not message:
            raise MalformedMessageError("the server sent no token where Kerberos needs one")
        return self._establish(gss, message)

    def _open(self) -> GSSContext:
        _, greatest = self.properties.layer_ssf(self._channel.external_ssf)
        flags = Flag.MUTUAL | Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE
        if greatest > 1:
            flags |= Flag.CONFIDENTIALITY
        return self._open_context("kerberos", flags)

    def _establish(self, gss: GSSContext, message: bytes | None) -> bytes:
        token = gss.step(message or None)
        if gss.complete:
            self._credentials.forget()
            if Flag.MUTUAL not in gss.flags:
                raise MutualAuthenticationError("the server did not prove itself to Kerberos")
            self.authcid = self.authcid or gss.own_name
            self._agreeing = _Negotiation(gss, self.properties, self._channel.external_ssf)
        elif not token:
            raise MalformedMessageError("Kerberos has nothing to say before it is complete")
        return token or b""

    def _agree(self, negotiation: _Negotiation, message: bytes | None) -> bytes:
        offered, peer_maxbuf, rest = negotiation.unwrap(message)
        if rest or (peer_maxbuf and not offered & _LAYERS):
            raise MalformedMessageError(
                "the server's offer of layers is not four octets, or has a size for no layer"
            )
        layer = self._choose(negotiation, offered)
        context = negotiation.context(layer, peer_maxbuf, self._assume_maxbuf)
        choice = layer
        if self._ad_compat and layer == _Layer.CONFIDENTIALITY:
            choice |= _Layer.INTEGRITY & _Layer(offered & 7)
        reply = negotiation.wrap(choice, (self.authzid or "").encode())
        self._forget()
        self._finish(context)
        return reply

    def _choose(self, negotiation: _Negotiation, offered: int) -> _Layer:
        common = negotiation.allowed & _Layer(offered & 7)
        for layer in reversed(_Layer):
            if layer in common:
                return layer
        names = [layer.name.lower() for layer in _Layer if layer & offered and layer.name]
        raise NegotiationError(
            f"the server offers {', '.join(names) or 'no layer that is known'}; wanted: "
            f"{negotiation.policy()}. Change min_ssf or max_ssf, or connect with TLS"
        )


class GSSAPIServer(GSSSide, ServerMechanism):
    """Be logged in to with Kerberos.

    The keys come from the keytab that `KRB5_KTNAME` or krb5.conf names; only the key of
    `service/host` is used.

    :param username: the account that runs the service, on Windows. Elsewhere the keytab has the key
    :param password: its password
    :param service: IANA service name
    :param host: our name, as in our principal
    :param properties: what is offered, and what the client must choose from
    :param ad_compat: accept the choice of integrity and confidentiality both as the latter, as
        Active Directory does
    :param assume_maxbuf: what to take a client's maximum of 0 octets for; None refuses it
    :param tls_server_end_point: the hash of our certificate (`channel_binding`): a login that is
        not bound to it is refused. Python's TLS does not tell a server its own certificate
    :raises UsageError: arguments of another kind, or that contradict each other
    :raises MechanismUnavailableError: the extra is not installed

    `authcid` is the client's principal with its realm, `authzid` on whose behalf it wants to act,
    or None. Whether it may do so is the application's to decide, after the login.
    """

    name = "GSSAPI"

    @forgetful
    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        service: str,
        host: str,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        ad_compat: bool = False,
        assume_maxbuf: int | None = None,
        tls_server_end_point: bytes | None = None,
    ) -> None:
        super().__init__()
        self._credentials = GSSCredentials(username, password)
        self._peer = Peer(service, host, is_client=False, bindings=tls_server_end_point)
        _check_assumed(assume_maxbuf)
        require_kind("properties", properties, SecurityProperties)
        self._properties = properties
        self._ad_compat = ad_compat
        self._assume_maxbuf = assume_maxbuf
        self._next: Callable[[bytes | None], bytes | None] = self._establish

    def _forget(self) -> None:
        super()._forget()
        self._next = self._establish  # drop the negotiation, which holds the GSS context

    def _step(self, message: bytes | None) -> bytes | None:
        return self._next(message)

    def _establish(self, message: bytes | None) -> bytes | None:
        if not message:
            if self._gss is None and message is None:
                return b""  # the client is to speak first
            raise MalformedMessageError("the client sent no token where Kerberos needs one")
        gss = self._gss
        if gss is None:
            gss = self._gss = self._open_context("kerberos", Flag(0))
        token = gss.step(message)
        if not gss.complete:
            return token
        self._check_bindings(bound=gss.bound)
        self._credentials.forget()
        negotiation = _Negotiation(gss, self._properties, self._channel.external_ssf)
        if not token:
            return self._offer(negotiation, b"")
        self._next = partial(self._offer, negotiation)
        return token

    def _offer(self, negotiation: _Negotiation, message: bytes | None) -> bytes:
        if message:
            raise MalformedMessageError("the client answered the end of Kerberos with a token")
        if not negotiation.allowed:
            raise NegotiationError(f"GSSAPI cannot give what is wanted: {negotiation.policy()}")
        self._next = partial(self._conclude, negotiation)
        return negotiation.wrap(negotiation.allowed)

    def _conclude(self, negotiation: _Negotiation, message: bytes | None) -> None:
        chosen, peer_maxbuf, text = negotiation.unwrap(message)
        layer = self._chosen(chosen, negotiation.allowed)
        if layer == _Layer.NONE and peer_maxbuf:
            raise MalformedMessageError("the client has a size for no layer")
        self.authzid: str | None = _authzid(text)
        context = negotiation.context(layer, peer_maxbuf, self._assume_maxbuf)
        self.authcid: str | None = negotiation.client_name
        self._forget()
        self._finish(context)

    def _chosen(self, chosen: int, offered: _Layer) -> _Layer:
        """Hold the client's choice against our offer: one layer of it, no more."""
        if self._ad_compat and chosen == _Layer.INTEGRITY | _Layer.CONFIDENTIALITY:
            chosen = _Layer.CONFIDENTIALITY
        for layer in _Layer:
            if chosen == layer and layer in offered:
                return layer
        raise NegotiationError("the client did not choose one of the layers that were offered")


def _authzid(text: bytes) -> str | None:
    if len(text) > _AUTHZID_LIMIT:
        raise MalformedMessageError(f"the client's authzid is over {_AUTHZID_LIMIT} octets")
    try:
        authzid = text.decode()
    except UnicodeDecodeError:
        raise MalformedMessageError("the client's authzid is not UTF-8") from None
    if "\0" in authzid:
        raise MalformedMessageError("the client's authzid has a NUL in it")
    return authzid or None
