"""QueryContextAttributes: what a context says of itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, overload

from saslwrap.context import SecurityContext
from saslwrap.errors import SecurityStatus
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.mechanisms.digest_md5.context import MAX_MESSAGE_OF_LOGIN
from saslwrap.properties import QOP, Sizes, StreamSizes
from saslwrap.sspi.handles import CtxtHandle, Handle, SSPIError, context_of
from saslwrap.sspi.negotiation import (
    INTEGRITY_OF_CLIENT,
    INTEGRITY_OF_SERVER,
    AscReq,
    IscReq,
)

__all__ = ["KeyInfo", "SecPkgAttr", "SecPkgInfo", "query_context_attributes"]


class SecPkgAttr(enum.IntEnum):
    """What can be asked (ulAttribute)."""

    SECPKG_ATTR_SIZES = 0
    SECPKG_ATTR_NAMES = 1
    SECPKG_ATTR_STREAM_SIZES = 4
    SECPKG_ATTR_KEY_INFO = 5
    SECPKG_ATTR_PACKAGE_INFO = 10
    SECPKG_ATTR_FLAGS = 14


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """SecPkgContext_KeyInfo: with what messages are signed and sealed.

    :param signature_algorithm_name: `"HMAC-MD5"`
    :param encrypt_algorithm_name: `"RC4"`, `"DES"` or `"3DES"`; `""` if messages are only signed
    :param key_size: effective length of the key in bits: the cipher's, else the signature's
    :param signature_algorithm: ALG_ID of wincrypt.h
    :param encrypt_algorithm: ALG_ID of wincrypt.h, 0 if messages are only signed
    """

    signature_algorithm_name: str
    encrypt_algorithm_name: str
    key_size: int
    signature_algorithm: int
    encrypt_algorithm: int


@dataclass(frozen=True, slots=True)
class SecPkgInfo:
    """SecPkgInfo: the package itself.

    :param capabilities: SECPKG_FLAG_* of sspi.h: INTEGRITY, PRIVACY, CONNECTION, MUTUAL_AUTH
    :param version: of the package's protocol
    :param rpc_id: RPC_C_AUTHN_DIGEST
    :param max_token: the largest message of the login, in octets
    """

    capabilities: int
    version: int
    rpc_id: int
    max_token: int
    name: str
    comment: str


_CALG_HMAC: Final = 0x8009
_CIPHERS: Final = {
    None: ("", 128, 0),
    "rc4": ("RC4", 128, 0x6801),
    "rc4-56": ("RC4", 56, 0x6801),
    "rc4-40": ("RC4", 40, 0x6801),
    "des": ("DES", 56, 0x6601),
    "3des": ("3DES", 112, 0x6609),
}

_PACKAGE: Final = SecPkgInfo(
    capabilities=0x00000001 | 0x00000002 | 0x00000010 | 0x00010000,
    version=1,
    rpc_id=21,
    max_token=MAX_MESSAGE_OF_LOGIN,
    name="WDigest",
    comment="DIGEST-MD5 (RFC 2831)",
)

Answer: TypeAlias = Sizes | StreamSizes | KeyInfo | SecPkgInfo | str | IscReq | AscReq


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_SIZES]
) -> Sizes: ...


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_STREAM_SIZES]
) -> StreamSizes: ...


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_KEY_INFO]
) -> KeyInfo: ...


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_PACKAGE_INFO]
) -> SecPkgInfo: ...


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_NAMES]
) -> str: ...


@overload
def query_context_attributes(
    context: Handle, attribute: Literal[SecPkgAttr.SECPKG_ATTR_FLAGS]
) -> IscReq | AscReq: ...


@overload
def query_context_attributes(context: Handle, attribute: int) -> Answer: ...


def query_context_attributes(context: Handle, attribute: int) -> Answer:
    """Ask a context about itself (QueryContextAttributes). A closed one answers too.

    A structure of one field is its field: SECPKG_ATTR_NAMES gives the user's name, and
    SECPKG_ATTR_FLAGS what the login got, as `IscReq` of a client and `AscReq` of a server.

    :param attribute: a `SecPkgAttr`
    :raises SSPIError: it is none, or cannot be known of a bare `SecurityContext`
        (SEC_E_UNSUPPORTED_FUNCTION); there is no context yet (SEC_E_INVALID_HANDLE); the login
        negotiated no layer, of which this would tell (SEC_E_QOP_NOT_SUPPORTED)
    """
    match attribute:
        case SecPkgAttr.SECPKG_ATTR_SIZES:
            return _sizes(context)
        case SecPkgAttr.SECPKG_ATTR_STREAM_SIZES:
            return context_of(context).stream_sizes
        case SecPkgAttr.SECPKG_ATTR_KEY_INFO:
            return _key_info(context_of(context))
        case SecPkgAttr.SECPKG_ATTR_PACKAGE_INFO:
            _layer_of(context)
            return _PACKAGE
        case SecPkgAttr.SECPKG_ATTR_NAMES:
            return _login_of(context).mechanism.authcid or ""
        case SecPkgAttr.SECPKG_ATTR_FLAGS:
            return _flags(_login_of(context))
    raise SSPIError(
        f"the Digest package has no attribute {attribute}",
        SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
    )


def _layer_of(handle: Handle) -> SecurityContext | None:
    """The context, None for one without a layer, of which there is something to tell."""
    if isinstance(handle, CtxtHandle):
        handle.check()
        if handle.context is None:
            return None
    return context_of(handle)


def _login_of(handle: Handle) -> CtxtHandle:
    _layer_of(handle)
    if isinstance(handle, CtxtHandle):
        return handle
    raise SSPIError(
        "a SecurityContext does not know its login; ask CtxtHandle(mechanism)",
        SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION,
    )


def _sizes(handle: Handle) -> Sizes:
    layer = _layer_of(handle)
    return layer.sizes if layer else Sizes(MAX_MESSAGE_OF_LOGIN, 0, 0, 0)


def _key_info(context: SecurityContext) -> KeyInfo:
    name, key_size, algorithm = _CIPHERS[context.cipher]
    return KeyInfo("HMAC-MD5", name, key_size, _CALG_HMAC, algorithm)


def _flags(login: CtxtHandle) -> IscReq | AscReq:
    qop = login.context.qop if login.context else QOP.AUTH
    got = int(IscReq.ISC_REQ_MUTUAL_AUTH)
    if qop is QOP.AUTH_CONF:
        got |= IscReq.ISC_REQ_CONFIDENTIALITY
    is_client = isinstance(login.mechanism, DigestMD5Client)
    if qop is not QOP.AUTH:
        got |= INTEGRITY_OF_CLIENT if is_client else INTEGRITY_OF_SERVER
    return IscReq(got) if is_client else AscReq(got)
