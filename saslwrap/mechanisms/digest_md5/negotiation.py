"""Which protection a login gets: policy on one side, the peer's offer on the other.

Neither offer nor choice is covered by DIGEST-MD5's hash (RFC 6331), so an attacker in between can
strike out what he cannot break. The only defence is each side's own minimum, and it is held against
what was *chosen*.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from saslwrap.errors import (
    MalformedMessageError,
    MechanismUnavailableError,
    NegotiationError,
    one_line,
)
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS, CipherSpec, available
from saslwrap.mechanisms.digest_md5.context import maximum_message
from saslwrap.properties import MAX_MAXBUF, MIN_MAXBUF, QOP, SecurityProperties

__all__ = ["Protection", "allowed", "check_maxbuf", "choose", "offer"]


@dataclass(frozen=True, slots=True)
class Protection:
    """A quality of protection with its cipher; cipher is None but for auth-conf."""

    qop: QOP
    cipher: CipherSpec | None = None

    @property
    def ssf(self) -> int:
        """Strength, as Cyrus SASL counts it."""
        return self.cipher.ssf if self.cipher else int(self.qop is QOP.AUTH_INT)

    @property
    def works(self) -> bool:
        """Whether OpenSSL has the cipher here."""
        return self.cipher is None or bool(available([self.cipher.name]))

    def fits(self, maxbuf: int) -> bool:
        """Whether a token of `maxbuf` octets can carry anything."""
        block_size = self.cipher.block_size if self.cipher else 1
        return self.qop is QOP.AUTH or maximum_message(maxbuf, block_size) > 0

    def __str__(self) -> str:
        return f"{self.qop} ({self.cipher.name})" if self.cipher else str(self.qop)


def allowed(properties: SecurityProperties, external_ssf: int = 0) -> list[Protection]:
    """What the policy allows over a channel of `external_ssf`, the preferred first."""
    least, greatest = properties.layer_ssf(external_ssf)
    return [
        protection
        for protection in _known(properties.ciphers)
        if least <= protection.ssf <= greatest
    ]


def _known(ciphers: Iterable[str]) -> list[Protection]:
    confidential = [Protection(QOP.AUTH_CONF, CIPHERS[name]) for name in ciphers]
    return [*confidential, Protection(QOP.AUTH_INT), Protection(QOP.AUTH)]


def offer(properties: SecurityProperties, external_ssf: int) -> list[Protection]:
    """What a server offers: all that it allows and can do.

    :raises NegotiationError: the policy leaves nothing to offer
    :raises MechanismUnavailableError: all that it leaves is missing in OpenSSL
    """
    wanted = allowed(properties, external_ssf)
    if not wanted:
        raise NegotiationError(f"DIGEST-MD5 cannot give {_policy(properties)}")
    return _working(_fitting(wanted, properties.max_buffer, "our max_buffer"))


def choose(
    properties: SecurityProperties,
    external_ssf: int,
    *,
    qops: Collection[str],
    ciphers: Collection[str],
    maxbuf: int,
) -> Protection:
    """Choose from a server's offer, as a client does.

    :param maxbuf: the server's
    :raises MalformedMessageError: `maxbuf` is out of range, and matters
    :raises NegotiationError: nothing that is offered is allowed
    :raises MechanismUnavailableError: what is offered and allowed is missing in OpenSSL
    """
    offered = [
        protection
        for protection in _known(CIPHERS)
        if protection.qop in qops
        and (protection.cipher is None or protection.cipher.name in ciphers)
    ]
    wanted = allowed(properties, external_ssf)
    chosen = [protection for protection in wanted if protection in offered]
    if not chosen:
        raise NegotiationError(
            f"the server offers {_shown(qops)}"
            + (f" with {_shown(ciphers)}" if ciphers else "")
            + f"; wanted: {_policy(properties)}. {_remedy(offered, wanted)}"
        )
    if chosen[0].qop is not QOP.AUTH:
        check_maxbuf(maxbuf)
    chosen = _fitting(chosen, properties.max_buffer, "our max_buffer")
    return _working(_fitting(chosen, maxbuf, "the server's maxbuf"))[0]


def _shown(tokens: Iterable[str]) -> str:
    """A server's tokens, in which tabs may stand."""
    return one_line(", ".join(tokens))[:64]


def _remedy(offered: Collection[Protection], wanted: Collection[Protection]) -> str:
    if not wanted:
        return "DIGEST-MD5 has nothing of that strength with these: lower min_ssf or add to ciphers"
    strongest = max((protection.ssf for protection in offered), default=0)
    if strongest > max((protection.ssf for protection in wanted), default=0):
        return "The offer is stronger: raise max_ssf, or add to ciphers"
    return (
        "Weaker protection has to be asked for: lower min_ssf or add to ciphers, or connect with "
        "TLS"
    )


def _fitting(protections: list[Protection], maxbuf: int, whose: str) -> list[Protection]:
    if fitting := [protection for protection in protections if protection.fits(maxbuf)]:
        return fitting
    raise NegotiationError(
        f"{whose} of {maxbuf} octets is too small for {', '.join(map(str, protections))} to carry "
        "anything; raise it, or allow a stream cipher in ciphers"
    )


def check_maxbuf(maxbuf: int) -> int:
    """Hold a peer's maxbuf against its range (RFC 2831bis), where there is a layer to fill it.

    :raises MalformedMessageError: it is out of range
    """
    if not MIN_MAXBUF <= maxbuf <= MAX_MAXBUF:
        raise MalformedMessageError(
            f"the peer's maxbuf is not in {MIN_MAXBUF}..{MAX_MAXBUF}; its configuration is broken: "
            "mend it there, or log in over TLS without a layer (require_layer=False)"
        )
    return maxbuf


def _working(protections: list[Protection]) -> list[Protection]:
    if working := [protection for protection in protections if protection.works]:
        return working
    raise MechanismUnavailableError(
        f"OpenSSL lacks the cipher for {', '.join(map(str, protections))}: load its legacy "
        "provider (unset CRYPTOGRAPHY_OPENSSL_NO_LEGACY), or allow another one in ciphers"
    )


def _policy(properties: SecurityProperties) -> str:
    layer = {None: "", True: ", a layer in any case", False: ", no layer"}
    return (
        f"an SSF of {properties.min_ssf} to {properties.max_ssf} with ciphers "
        f"{', '.join(properties.ciphers) or 'none'}{layer[properties.require_layer]}"
    )
