"""The security layer of the GSS mechanisms: one gss_wrap token a frame (RFC 4752 section 3.3).

What GSS leaves to its callers is closed here:

*   Sequence detection must have been *granted*. A context without it unwraps replays, gaps and
    swapped tokens without a word. With it, whatever is not the next token is an error. (Replay
    detection alone lets gaps pass. Cyrus' client asks for sequence detection only; MIT krb5 then
    reports a replay as a late token.)
*   A token that came unencrypted under confidentiality is refused: gss_unwrap opens it gladly.
*   gss_unwrap gets a copy of its own. MIT krb5 works in place, in the caller's immutable `bytes`.
*   Whether there is a layer comes from the negotiation. That gss_wrap works says nothing: it works
    in contexts without integrity.
*   No token is longer than the peer can take: the limit is asked for, and each token is measured.

The latch, without which GSS would go on after a failure, is the context's.
"""

from __future__ import annotations

from saslwrap.context import Octets, SecurityContext
from saslwrap.errors import IntegrityError, NegotiationError, SASLError, UsageError
from saslwrap.mechanisms.gss.provider import Flag, GSSContext, is_installed
from saslwrap.mechanisms.gss.tokens import MAX_TOKEN
from saslwrap.properties import QOP, SecurityProperties, Sizes, StreamSizes

__all__ = ["best_ssf", "can_carry_layer", "make_context"]


def can_carry_layer(flags: Flag) -> bool:
    """Whether a context with these flags detects whatever is not the next token."""
    return Flag.INTEGRITY in flags and Flag.SEQUENCE in flags


def best_ssf(properties: SecurityProperties, external_ssf: int) -> int | None:
    """The greatest SSF that Kerberos can reach within `properties`, None if it cannot."""
    try:
        least, greatest = properties.layer_ssf(external_ssf)
    except UsageError:
        return None
    if not is_installed():
        return None
    for ssf in (256, 128, 1, 0):
        if least <= ssf <= greatest:
            return ssf
    return None


class _GSSSealer:
    def __init__(self, gss: GSSContext, *, encrypt: bool, peer_maxbuf: int) -> None:
        self._gss = gss
        self._encrypt = encrypt
        self._peer_maxbuf = peer_maxbuf

    def seal(self, message: Octets) -> bytes:
        token, encrypted = self._gss.wrap(bytes(message), encrypt=self._encrypt)
        if self._encrypt and not encrypted:
            raise SASLError("GSS did not encrypt the message, so it was not sent")
        if len(token) > self._peer_maxbuf:
            raise SASLError(
                f"GSS made a token of {len(token)} octets, the peer's maxbuf is "
                f"{self._peer_maxbuf}, so it was not sent"
            )
        return token


class _GSSUnsealer:
    def __init__(self, gss: GSSContext, *, encrypted: bool) -> None:
        self._gss = gss
        self._encrypted = encrypted

    def unseal(self, token: Octets) -> bytes:
        message, encrypted = self._gss.unwrap(memoryview(token).tobytes())
        if self._encrypted and not encrypted:
            raise IntegrityError
        return message


def make_context(
    gss: GSSContext,
    *,
    mechanism: str,
    ssf: int,
    local_maxbuf: int,
    peer_maxbuf: int,
) -> SecurityContext:
    """Make the security context over an established GSS context.

    :param ssf: 1 for integrity only, more for confidentiality
    :raises NegotiationError: GSS did not grant what a layer needs, or the peer's maxbuf is too
        small to carry anything
    """
    if not can_carry_layer(gss.flags):
        raise NegotiationError(
            "the GSS context does not detect replays and reordering, so it can carry no layer: the "
            "client has to ask for sequence detection"
        )
    encrypt = ssf > 1
    limit = gss.size_limit(peer_maxbuf, encrypt=encrypt)
    if limit < 1:
        raise NegotiationError(
            f"the peer's maxbuf, or our send_limit, of {peer_maxbuf} octets is too small for a "
            "token to carry anything"
        )
    overhead = gss.overhead(encrypt=encrypt)
    return SecurityContext(
        _GSSSealer(gss, encrypt=encrypt, peer_maxbuf=peer_maxbuf),
        _GSSUnsealer(gss, encrypted=encrypt),
        mechanism=mechanism,
        qop=QOP.AUTH_CONF if encrypt else QOP.AUTH_INT,
        ssf=ssf,
        cipher=gss.cipher if encrypt else None,
        stream_sizes=StreamSizes(
            header=overhead, trailer=0, maximum_message=limit, buffers=2, block_size=1
        ),
        sizes=Sizes(
            max_token=MAX_TOKEN,
            max_signature=overhead,
            block_size=1,
            security_trailer=overhead,
        ),
        local_maxbuf=local_maxbuf,
        peer_maxbuf=peer_maxbuf,
    )
