"""GSS-SPNEGO: Kerberos or NTLM, whichever both sides can, as Active Directory has it.

SPNEGO's tokens (RFC 4178, MS-SPNG) go back and forth until the context stands; there is no word on
layers. The layer is what the context's flags say at the end (MS-ADTS section 5.1.1.1.2):
confidentiality seals, integrity alone signs, neither is none. Nor is there a word on sizes: how
much a frame may bring, and how much we send in one, are limits of our own.

NTLM is weaker than its 128 bits. Its server proves no more than that it reaches somebody who knows
the password; what its client sends can be relayed, and guessed at. It has to be asked for.
"""

from __future__ import annotations

import os
from typing import Final

from saslwrap.context import SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    SASLError,
    UsageError,
    require_kind,
    require_number,
)
from saslwrap.mechanism import ClientMechanism, ServerMechanism
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer
from saslwrap.mechanisms.gss.errors import is_said_by_kdc
from saslwrap.mechanisms.gss.layer import best_ssf, make_context
from saslwrap.mechanisms.gss.ntlm import NTLMWatch
from saslwrap.mechanisms.gss.provider import Flag, GSSContext
from saslwrap.mechanisms.gss.side import GSSSide
from saslwrap.mechanisms.gss.tokens import RESPONSE, list_mic, open_token
from saslwrap.properties import MAX_MAXBUF, SecurityProperties

__all__ = ["GSSSPNEGOClient", "GSSSPNEGOServer"]

_SEND_LIMIT: Final = 65536
"""Cyrus SASL's limit; a server of its kind closes over a longer one, silently."""

_LAYER: Final = Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE


class _Limits:
    """What GSS-SPNEGO does not negotiate: the longest tokens to receive and to send."""

    def __init__(self, receive_limit: int, send_limit: int) -> None:
        require_number("receive_limit", receive_limit, 1, MAX_MAXBUF)
        require_number("send_limit", send_limit, 1, MAX_MAXBUF)
        self.receive = receive_limit
        self.send = send_limit

    def context(
        self, gss: GSSContext, watch: NTLMWatch, properties: SecurityProperties, external_ssf: int
    ) -> SecurityContext | None:
        """Make the context that was negotiated, None for none; hold it against the policy."""
        ssf = _ssf(gss, watch)
        _check_policy(ssf, gss.protocol, *properties.layer_ssf(external_ssf))
        if not ssf:
            return None
        return make_context(
            gss,
            mechanism="GSS-SPNEGO",
            ssf=ssf,
            local_maxbuf=self.receive,
            peer_maxbuf=self.send,
        )


def _ssf(gss: GSSContext, watch: NTLMWatch) -> int:
    """The strength of what the flags say was negotiated: both sides go by them."""
    if gss.protocol == "ntlm":
        return watch.ssf
    sealed, signed = Flag.CONFIDENTIALITY in gss.flags, Flag.INTEGRITY in gss.flags
    return gss.ssf if sealed else int(signed)


def _check_policy(ssf: int, protocol: str | None, least: int, greatest: int) -> None:
    if least <= ssf <= greatest:
        return
    wanted = f"an SSF of {least} to {greatest}" if greatest else "no layer"
    remedy = "Change min_ssf or max_ssf"
    if protocol == "kerberos" and greatest == 1:
        remedy = "Kerberos seals where it signs here: integrity alone is for GSSAPI to give"
    raise NegotiationError(
        f"GSS-SPNEGO gives an SSF of {ssf} ({protocol}); wanted: {wanted}. {remedy}"
    )


def _is_forbidden(gss: GSSContext, *, ntlm: bool) -> bool:
    return gss.protocol == "ntlm" and not ntlm


class GSSSPNEGOClient(GSSSide, ClientMechanism):
    r"""Log in to Active Directory and its like, with Kerberos or, where that is allowed, NTLM.

    Without any of `password`, `credential_cache` and `keytab` the system's own tickets are taken:
    those of `kinit`, of `KRB5CCNAME`, or of the Windows session.

    :param username: who authenticates: `"alice"`, `"alice@AD.EXAMPLE.COM"` or `"DOMAIN\alice"`.
        None takes that of the cache
    :param password: the user's password
    :param service: IANA service name: `"ldap"` ...
    :param host: the server's name as in its SPN: a full host name, never an address
    :param authzid: not to be had with GSS-SPNEGO: has to be None
    :param properties: what the login has to give; `ciphers` and `max_buffer` have no meaning here
    :param credential_cache: a ticket cache, by path or as MIT names it (`"FILE:..."`, `"KCM:..."`)
    :param keytab: a file with the user's key, in place of a password
    :param ntlm: whether NTLM will do where Kerberos cannot be had. None: if the username has NTLM's
        own form, `"DOMAIN\alice"`
    :param receive_limit: the longest token to receive, in octets
    :param send_limit: the longest token to send, in octets: what Cyrus SASL's servers take
    :raises UsageError: arguments of another kind, that contradict each other, or cannot be sent
    :raises MechanismUnavailableError: the extra is not installed

    Steps may talk to a KDC (`may_block`). Failing ones say what is wrong with tickets, clocks,
    names or the KDC as `AuthenticationError`, and what is not installed as
    `MechanismUnavailableError`.
    """

    name = "GSS-SPNEGO"

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
        ntlm: bool | None = None,
        receive_limit: int = MAX_MAXBUF,
        send_limit: int = _SEND_LIMIT,
    ) -> None:
        super().__init__()
        self._credentials = GSSCredentials(username, password, credential_cache, keytab)
        if authzid is not None:
            raise UsageError("GSS-SPNEGO cannot carry an authzid; GSSAPI can")
        self._peer = Peer(service, host, is_client=True)
        self._limits = _Limits(receive_limit, send_limit)
        require_kind("properties", properties, SecurityProperties)
        require_kind("ntlm", ntlm, bool | None)
        self.authcid: str | None = username
        self.properties = properties
        self._ntlm = "\\" in (username or "") if ntlm is None else ntlm
        self._watch = NTLMWatch()
        self._listed = False  # the server's MIC over the list of mechanisms has come

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        """The greatest SSF this mechanism can reach within `properties`, None if it cannot."""
        ssf = best_ssf(properties, external_ssf)
        return None if ssf == 1 else ssf

    def _step(self, message: bytes | None) -> bytes | None:
        gss = self._gss
        if gss is None:
            if message:
                raise MalformedMessageError("the server sent a token before the client's first")
            gss, token = self._start()
            self._gss = gss
        else:
            if not message or message[0] != RESPONSE:  # a list of its own would replace ours
                raise MalformedMessageError("the server's token is no answer of SPNEGO")
            token = gss.step(message)
            self._listed |= bool(list_mic(message))
        if _is_forbidden(gss, ntlm=self._ntlm):
            raise NegotiationError(
                "the server wants NTLM, which was not allowed: see that Kerberos works there, or "
                "pass ntlm=True"
            )
        self._watch.see(token)
        if self._watch.seen:
            self._check_proof()
        if gss.complete:
            self._conclude(gss)
        elif not token:
            raise MalformedMessageError("SPNEGO has nothing to say before it is complete")
        return token or None

    def _check_proof(self) -> None:
        """Hold NTLM's proof against the policy before it leaves: the server chose what is in it."""
        _check_policy(self._watch.ssf, "ntlm", *self._wanted)
        if self._watch.bound and self._peer.bound_to(self._channel).bindings is None:
            raise NegotiationError(
                "the server would have us bind the login to a channel of its own choice"
            )

    @property
    def _wanted(self) -> tuple[int, int]:
        return self.properties.layer_ssf(self._channel.external_ssf)

    def _start(self) -> tuple[GSSContext, bytes | None]:
        gss = self._open("negotiate")
        try:
            token = gss.step(None)
            forbidden = _is_forbidden(gss, ntlm=self._ntlm)
        except SASLError as error:
            raise (self._why_not_kerberos() or error) from None
        if not forbidden:
            return gss, token
        why = self._why_not_kerberos()
        if why is None:
            raise NegotiationError("SPNEGO chose NTLM, which was not allowed: pass ntlm=True")
        if is_said_by_kdc(why):
            raise why
        raise type(why)(f"{why} (NTLM was not tried; ntlm=True allows it)")

    def _why_not_kerberos(self) -> SASLError | None:
        """Try it alone: SPNEGO keeps the reason to itself."""
        if self._fault is not None:  # given up meanwhile: nobody wants to know
            return None
        try:
            self._open("kerberos").step(None)
        except SASLError as error:
            return error
        return None

    def _open(self, protocol: str) -> GSSContext:
        greatest = self._wanted[1]
        flags = Flag.MUTUAL | (_LAYER if greatest else Flag.NO_INTEGRITY)
        if greatest > 1:
            flags |= Flag.CONFIDENTIALITY
        return self._open_context(protocol, flags)

    def _conclude(self, gss: GSSContext) -> None:
        if gss.protocol != "ntlm" and Flag.MUTUAL not in gss.flags:
            raise MutualAuthenticationError("the server did not prove itself to Kerberos")
        if self._watch.seen and not self._listed:
            raise MutualAuthenticationError(
                "the server did not prove itself to NTLM: its MIC over SPNEGO's list of mechanisms "
                "is missing"
            )
        context = self._limits.context(
            gss, self._watch, self.properties, self._channel.external_ssf
        )
        self.authcid = self.authcid or gss.own_name
        self._forget()
        self._finish(context)


class GSSSPNEGOServer(GSSSide, ServerMechanism):
    r"""Be logged in to as Active Directory is, with Kerberos or, where that is allowed, NTLM.

    Kerberos' keys come from the keytab that `KRB5_KTNAME` or krb5.conf names; only the key of
    `service/host` is used. NTLM's users come from the file that `NTLM_USER_FILE` names, a line
    each: `DOMAIN:user:password`.

    :param username: the account that runs the service, on Windows. Elsewhere the keytab has the key
    :param password: its password
    :param service: IANA service name
    :param host: our name, as in our principal
    :param properties: what the client must choose from
    :param ntlm: whether NTLM is accepted
    :param receive_limit: the longest token to receive, in octets
    :param send_limit: the longest token to send, in octets: what Cyrus SASL's servers take
    :param tls_server_end_point: the hash of our certificate (`channel_binding`): a login that is
        not bound to it is refused. Python's TLS does not tell a server its own certificate
    :raises UsageError: arguments of another kind, or that contradict each other
    :raises MechanismUnavailableError: the extra is not installed

    `authcid` is the client's principal with its realm, or `DOMAIN\user` of NTLM.
    """

    name = "GSS-SPNEGO"

    @forgetful
    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        service: str,
        host: str,
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        ntlm: bool = False,
        receive_limit: int = MAX_MAXBUF,
        send_limit: int = _SEND_LIMIT,
        tls_server_end_point: bytes | None = None,
    ) -> None:
        super().__init__()
        self._credentials = GSSCredentials(username, password)
        self._peer = Peer(service, host, is_client=False, bindings=tls_server_end_point)
        self._limits = _Limits(receive_limit, send_limit)
        require_kind("properties", properties, SecurityProperties)
        require_kind("ntlm", ntlm, bool)
        self._properties = properties
        self._ntlm = ntlm
        self._watch = NTLMWatch()
        self._in_spnego = False  # not NTLM or Kerberos by itself
        self._listed = False  # the client's MIC over the list of mechanisms has come

    def _step(self, message: bytes | None) -> bytes | None:
        if not message:
            if self._gss is None and message is None:
                return b""  # the client is to speak first
            raise MalformedMessageError("the client sent no token where SPNEGO needs one")
        self._watch.see(message)
        gss = self._gss
        if gss is None:
            self._in_spnego = open_token(message) != message
            gss, token = self._start(message)
            self._gss = gss
        else:
            if self._in_spnego and message[0] != RESPONSE:  # nothing would hold the list then
                raise MalformedMessageError("the client's token is no answer of SPNEGO")
            token = gss.step(message)
            self._listed |= bool(list_mic(message))
        if _is_forbidden(gss, ntlm=self._ntlm):
            raise NegotiationError("the client wants NTLM, which is not accepted here")
        if gss.protocol == "ntlm" and gss.complete_inside and not self._watch.seen:
            raise AuthenticationError("the client's proof went past our eyes")
        if gss.complete:
            self._conclude(gss)
        return token or None

    def _start(self, message: bytes) -> tuple[GSSContext, bytes | None]:
        gss = self._open("negotiate")
        try:
            return gss, gss.step(message)
        except AuthenticationError as error:
            refusal = error
        if not self._ntlm:
            self._open("kerberos")  # SPNEGO keeps it to itself if that is not to be had here
        raise refusal

    def _open(self, protocol: str) -> GSSContext:
        flags = Flag.MUTUAL | Flag.CONFIDENTIALITY | _LAYER
        return self._open_context(protocol, flags)

    def _conclude(self, gss: GSSContext) -> None:
        self._check_bindings(bound=self._watch.bound if gss.protocol == "ntlm" else gss.bound)
        if gss.protocol == "ntlm" and self._in_spnego and not self._listed:
            raise AuthenticationError(
                "the client's MIC over SPNEGO's list of mechanisms is missing: somebody may have "
                "struck out what is better than NTLM"
            )
        context = self._limits.context(
            gss, self._watch, self._properties, self._channel.external_ssf
        )
        self.authcid: str | None = gss.peer_name
        self._forget()
        self._finish(context)
