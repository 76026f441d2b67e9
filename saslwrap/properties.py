"""The plain values that the other floors pass around: what is asked for, and what was got."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from saslwrap.errors import UsageError, require_kind, require_number

__all__ = ["QOP", "ChannelInfo", "SecurityProperties", "Sizes", "StreamSizes"]

#: maxbuf lies between these (RFC 2831bis section 2.1.1; RFC 4752 has three octets for it).
MIN_MAXBUF = 17
MAX_MAXBUF = 0xFFFFFF

CIPHER_NAMES = ("rc4", "3des", "rc4-56", "des", "rc4-40")


class QOP(enum.StrEnum):
    """Quality of protection (RFC 2831 section 2.1.1). A member equals its token: `"auth-conf"`."""

    AUTH = "auth"
    AUTH_INT = "auth-int"
    AUTH_CONF = "auth-conf"


@dataclass(frozen=True, slots=True)
class SecurityProperties:
    """What a login must give before it counts; the defaults refuse anything weak.

    Strength is counted in SSF, as Cyrus SASL does: 0 no layer, 1 integrity, 40 rc4-40, 55 des,
    56 rc4-56, 112 3des, 128 rc4, 256 AES.

    :param min_ssf: the least strength. Below 112 is weak, and has to be asked for by this number;
        1 accepts a layer of integrity only, 0 accepts none
    :param max_ssf: the greatest strength
    :param max_buffer: the largest token that we receive, in octets, 17 to 16777215: our maxbuf
    :param ciphers: DIGEST-MD5 ciphers that may be used, the preferred one first. All five:
        `"rc4", "3des", "rc4-56", "des", "rc4-40"`
    :param require_layer: None: a layer, unless TLS below already gives `min_ssf` (Active Directory
        forbids both). True: a layer in any case. False: never a layer; `min_ssf` is TLS's to give
    :raises UsageError: for a value of another kind, or out of its range
    """

    min_ssf: int = 112
    max_ssf: int = 256
    max_buffer: int = 65536
    ciphers: tuple[str, ...] = ("rc4", "3des")
    require_layer: bool | None = None

    def __post_init__(self) -> None:
        require_kind("min_ssf", self.min_ssf, int)
        require_kind("max_ssf", self.max_ssf, int)
        require_number("max_buffer", self.max_buffer, MIN_MAXBUF, MAX_MAXBUF)
        require_kind("require_layer", self.require_layer, bool | None)
        require_kind("ciphers", self.ciphers, Iterable, "a tuple of names")
        if not 0 <= self.min_ssf <= self.max_ssf:
            raise UsageError(
                f"0 <= min_ssf <= max_ssf does not hold: min_ssf={self.min_ssf}, "
                f"max_ssf={self.max_ssf}"
            )
        if isinstance(self.ciphers, str):
            raise UsageError(f"ciphers takes a tuple of names: ciphers=({self.ciphers!r},)")
        object.__setattr__(self, "ciphers", tuple(self.ciphers))
        if unknown := [name for name in self.ciphers if name not in CIPHER_NAMES]:
            raise UsageError(f"unknown ciphers {unknown}; there are {', '.join(CIPHER_NAMES)}")

    def layer_ssf(self, external_ssf: int = 0) -> tuple[int, int]:
        """The least and the greatest SSF that the layer may have over a channel of `external_ssf`.

        `(0, 0)` is no layer. An empty range (least above greatest) is never returned.

        :raises UsageError: the properties contradict each other over this channel
        """
        if self.require_layer is True:
            if not self.max_ssf:
                raise UsageError("require_layer=True contradicts max_ssf=0; raise max_ssf")
            return max(self.min_ssf, 1), self.max_ssf
        secured_below = 0 < external_ssf >= self.min_ssf
        if self.require_layer is False:
            if self.min_ssf and not secured_below:
                raise UsageError(
                    f"require_layer=False leaves min_ssf={self.min_ssf} to TLS, which gives "
                    f"{external_ssf} here; connect with TLS, lower min_ssf, or allow a layer"
                )
            return 0, 0
        return (0, 0) if secured_below else (self.min_ssf, self.max_ssf)


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """What a driver knows about the channel below, told to the mechanism before its first step.

    :param external_ssf: bits of TLS's cipher, 0 without TLS
    :param tls_server_end_point: the hash of the server's certificate (RFC 5929 section 4.1),
        where it is known
    :raises UsageError: for a value of another kind, or below 0
    """

    external_ssf: int = 0
    tls_server_end_point: bytes | None = None

    def __post_init__(self) -> None:
        require_number("external_ssf", self.external_ssf, 0)
        require_kind("tls_server_end_point", self.tls_server_end_point, bytes | None)


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """SecPkgContext_StreamSizes: the sizes of a sealed message, in octets.

    :param header: octets of a token before the message
    :param trailer: most octets of a token after the message
    :param maximum_message: the largest message that `seal` takes: its token fits the peer's maxbuf
    :param buffers: how many buffers a native call takes
    :param block_size: the cipher's block, 1 for a stream cipher and for auth-int
    """

    header: int
    trailer: int
    maximum_message: int
    buffers: int
    block_size: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """SecPkgContext_Sizes: the sizes of tokens and signatures, in octets.

    :param max_token: the largest message of the login
    :param max_signature: the largest signature, without padding
    :param block_size: the cipher's block, 1 for a stream cipher and for auth-int
    :param security_trailer: the most that sealing adds to a message
    """

    max_token: int
    max_signature: int
    block_size: int
    security_trailer: int
