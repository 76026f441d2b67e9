"""The login: InitializeSecurityContext, AcceptSecurityContext, and what they start from."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from saslwrap.context import Buffer
from saslwrap.errors import SecurityStatus, UsageError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Secret, DigestMD5Server
from saslwrap.mechanisms.digest_md5.names import digest_uri
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.properties import SecurityProperties
from saslwrap.sspi.handles import CtxtHandle, SSPIError, native

__all__ = [
    "AscReq",
    "InboundCredential",
    "IscReq",
    "OutboundCredential",
    "accept_security_context",
    "initialize_security_context",
]

#: What either call gives: status, handle, and the token for the peer, None if there is none.
Progress: TypeAlias = tuple[SecurityStatus, CtxtHandle, bytes | None]


class IscReq(enum.IntFlag):
    """What a client requires (fContextReq), and by the same numbers got (pfContextAttr)."""

    ISC_REQ_DELEGATE = 0x00000001
    ISC_REQ_MUTUAL_AUTH = 0x00000002
    ISC_REQ_REPLAY_DETECT = 0x00000004
    ISC_REQ_SEQUENCE_DETECT = 0x00000008
    ISC_REQ_CONFIDENTIALITY = 0x00000010
    ISC_REQ_PROMPT_FOR_CREDS = 0x00000040
    ISC_REQ_ALLOCATE_MEMORY = 0x00000100
    ISC_REQ_CONNECTION = 0x00000800
    ISC_REQ_EXTENDED_ERROR = 0x00004000
    ISC_REQ_STREAM = 0x00008000
    ISC_REQ_INTEGRITY = 0x00010000
    ISC_REQ_HTTP = 0x10000000


class AscReq(enum.IntFlag):
    """What a server requires (fContextReq), and by the same numbers got (pfContextAttr)."""

    ASC_REQ_DELEGATE = 0x00000001
    ASC_REQ_MUTUAL_AUTH = 0x00000002
    ASC_REQ_REPLAY_DETECT = 0x00000004
    ASC_REQ_SEQUENCE_DETECT = 0x00000008
    ASC_REQ_CONFIDENTIALITY = 0x00000010
    ASC_REQ_ALLOCATE_MEMORY = 0x00000100
    ASC_REQ_CONNECTION = 0x00000800
    ASC_REQ_EXTENDED_ERROR = 0x00008000
    ASC_REQ_STREAM = 0x00010000
    ASC_REQ_INTEGRITY = 0x00020000
    ASC_REQ_PROXY_BINDINGS = 0x04000000
    ASC_REQ_ALLOW_MISSING_BINDINGS = 0x10000000


_REFUSED_BY_CLIENT = IscReq.ISC_REQ_DELEGATE | IscReq.ISC_REQ_PROMPT_FOR_CREDS | IscReq.ISC_REQ_HTTP
_REFUSED_BY_SERVER = AscReq.ASC_REQ_DELEGATE | AscReq.ASC_REQ_PROXY_BINDINGS

#: Numbers that are one thing for a client and another for a server.
_MEANS_ANOTHER = 0x0003C000

#: Any of these is auth-int, which gives all of them.
INTEGRITY_OF_CLIENT = (
    IscReq.ISC_REQ_REPLAY_DETECT | IscReq.ISC_REQ_SEQUENCE_DETECT | IscReq.ISC_REQ_INTEGRITY
)
INTEGRITY_OF_SERVER = (
    AscReq.ASC_REQ_REPLAY_DETECT | AscReq.ASC_REQ_SEQUENCE_DETECT | AscReq.ASC_REQ_INTEGRITY
)


@dataclass(frozen=True, slots=True)
class OutboundCredential:
    """Who a client is (SECPKG_CRED_OUTBOUND, with a SEC_WINNT_AUTH_IDENTITY).

    :param domain: the realm, None or empty for the first that the server offers
    :param ciphers: those of `CONFIDENTIALITY`, the preferred one first; weak ones by their names
    :param max_buffer: the largest token that we receive, in octets
    """

    user: str
    domain: str | None
    password: str = field(repr=False)
    ciphers: tuple[str, ...] = ("rc4", "3des")
    max_buffer: int = 65536


@dataclass(frozen=True, slots=True)
class InboundCredential:
    """Who a server is, and whom it knows (SECPKG_CRED_INBOUND).

    :param get_secret: takes user name and realm; as of `DigestMD5Server`
    :param service: IANA service name, `"ldap"`
    :param host: our name
    :param realms: what the challenge offers; as of `DigestMD5Server`
    :param ciphers: those of `CONFIDENTIALITY`; weak ones by their names
    :param max_buffer: the largest token that we receive, in octets
    """

    get_secret: Callable[[str, str], str | DigestMD5Secret | None] = field(repr=False)
    service: str
    host: str
    realms: Sequence[str] = ()
    ciphers: tuple[str, ...] = ("rc4", "3des")
    max_buffer: int = 65536


@forgetful
def initialize_security_context(
    credential: OutboundCredential | None,
    context: CtxtHandle | None,
    target_name: str | None,
    context_req: int,
    token: Buffer | None,
) -> Progress:
    """Take a client's login one step on (InitializeSecurityContext).

    The flags choose the quality of protection, exactly: `ISC_REQ_CONFIDENTIALITY` auth-conf, else
    `ISC_REQ_REPLAY_DETECT`, `ISC_REQ_SEQUENCE_DETECT` or `ISC_REQ_INTEGRITY` auth-int, else auth.

    :param context: None at first, then what the last call gave; credential, target_name and
        context_req are those of the first call and not looked at again
    :param target_name: service principal name, `"ldap/dc.example.com"`
    :param context_req: `IscReq` flags (fContextReq)
    :param token: the server's, None or empty if there is none yet
    :return: SEC_E_OK, if the server proved itself, or SEC_I_CONTINUE_NEEDED; the handle; a token
        for the server, or None
    :raises SSPIError: with the status; see the table in the documentation
    """
    if context is None:
        context = _start_client(credential, target_name, context_req)
    return _step(context, DigestMD5Client, token)


@forgetful
def accept_security_context(
    credential: InboundCredential | None,
    context: CtxtHandle | None,
    token: Buffer | None,
    context_req: int,
) -> Progress:
    """Take a server's login one step on (AcceptSecurityContext).

    :param context: None at first, then what the last call gave; credential and context_req are
        those of the first call and not looked at again
    :param token: the client's, None or empty if there is none yet
    :param context_req: `AscReq` flags (fContextReq), as of `initialize_security_context`
    :return: SEC_E_OK, if the client is who it says, or SEC_I_CONTINUE_NEEDED; the handle; a token
        for the client
    :raises SSPIError: with the status; see the table in the documentation
    """
    if context is None:
        context = _start_server(credential, context_req)
    return _step(context, DigestMD5Server, token)


def _start_client(
    credential: OutboundCredential | None, target_name: str | None, context_req: int
) -> CtxtHandle:
    if not isinstance(credential, OutboundCredential):
        raise SSPIError("no OutboundCredential", SecurityStatus.SEC_E_NO_CREDENTIALS)
    _check_known(context_req, IscReq, AscReq)
    if context_req & _REFUSED_BY_CLIENT:
        raise SSPIError(
            "no delegation, no prompt, and of Digest only the SASL mechanism",
            SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
        )
    service, host, serv_name = _names_in(target_name)
    return _start(
        lambda: DigestMD5Client(
            credential.user,
            credential.password,
            service=service,
            host=host,
            serv_name=serv_name,
            realm=credential.domain or None,
            properties=_properties(credential, context_req, INTEGRITY_OF_CLIENT),
        )
    )


def _start_server(credential: InboundCredential | None, context_req: int) -> CtxtHandle:
    if not isinstance(credential, InboundCredential):
        raise SSPIError("no InboundCredential", SecurityStatus.SEC_E_NO_CREDENTIALS)
    _check_known(context_req, AscReq, IscReq)
    if context_req & _REFUSED_BY_SERVER:
        raise SSPIError(
            "no delegation and no channel binding", SecurityStatus.SEC_E_SECURITY_QOS_FAILED
        )
    return _start(
        lambda: DigestMD5Server(
            credential.get_secret,
            service=credential.service,
            host=credential.host,
            realms=credential.realms,
            properties=_properties(credential, context_req, INTEGRITY_OF_SERVER),
        )
    )


def _check_known(
    context_req: int, flags: type[IscReq | AscReq], others: type[IscReq | AscReq]
) -> None:
    """Refuse flags that there are not, and the other side's, whose numbers mean something else."""
    meant_otherwise = isinstance(context_req, others) and context_req & _MEANS_ANOTHER
    if meant_otherwise or context_req & ~sum(flags):
        raise SSPIError(
            f"flags that are not all of {flags.__name__}: {context_req!r}",
            SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
        )


def _start(make: Callable[[], DigestMD5Client | DigestMD5Server]) -> CtxtHandle:
    try:
        return CtxtHandle(native(make))
    except SSPIError as error:
        if error.status is SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION:  # a UsageError was below
            error.status = SecurityStatus.SEC_E_NO_CREDENTIALS
        raise


def _names_in(target_name: str | None) -> tuple[str, str, str | None]:
    """Take `service/host[/serv-name]` apart."""
    match (target_name or "").split("/"):
        case [service, host, *rest] if len(rest) < 2:
            serv_name = rest[0] if rest else None
            with suppress(UsageError):
                digest_uri(service, host, serv_name)
                return service, host, serv_name
    raise SSPIError(
        f"no service principal name, such as 'ldap/dc.example.com': {target_name!r}",
        SecurityStatus.SEC_E_TARGET_UNKNOWN,
    )


def _properties(
    credential: OutboundCredential | InboundCredential, context_req: int, integrity: int
) -> SecurityProperties:
    """What the flags require, and nothing else."""
    least, greatest = 0, 0
    if context_req & IscReq.ISC_REQ_CONFIDENTIALITY:
        least, greatest = 2, 256
    elif context_req & integrity:
        least, greatest = 1, 1
    return SecurityProperties(
        min_ssf=least,
        max_ssf=greatest,
        ciphers=credential.ciphers,
        max_buffer=credential.max_buffer,
    )


def _step(
    handle: CtxtHandle,
    kind: type[DigestMD5Client | DigestMD5Server],
    token: Buffer | None,
) -> Progress:
    if not isinstance(handle, CtxtHandle) or not isinstance(handle.mechanism, kind):
        raise SSPIError("no handle that this call has given", SecurityStatus.SEC_E_INVALID_HANDLE)
    if handle.complete:
        raise SSPIError(
            "the login is complete; another one on this handle would repeat its keys",
            SecurityStatus.SEC_E_LOGON_DENIED,
        )
    answer = handle.step(token or None)
    status = SecurityStatus.SEC_E_OK if handle.complete else SecurityStatus.SEC_I_CONTINUE_NEEDED
    return status, handle, answer
