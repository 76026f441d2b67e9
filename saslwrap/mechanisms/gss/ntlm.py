"""How strong an NTLM session is, read from the message that fixes it.

AUTHENTICATE_MESSAGE carries the flags that both sides derive their keys from, in clear, under the
message's own MIC (MS-NLMP section 2.2.1.3). No provider passes them on. A session may have keys of
40 or 56 bits, one cipher state for both directions, or signatures that are constant: all of it
looks like a sealed session from above.
"""

from __future__ import annotations

from typing import Final

from saslwrap.errors import NegotiationError

__all__ = ["NTLMWatch"]

_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"
_FLAGS_AT: Final = 60

_SIGN = 0x00000010
_SEAL = 0x00000020
_EXTENDED_SESSION_SECURITY = 0x00080000
_KEY_128 = 0x20000000
_KEY_56 = 0x80000000


class NTLMWatch:
    """Looks at the tokens that the client sends, on either side."""

    def __init__(self) -> None:
        self._flags: list[int] = []

    def see(self, token: bytes | None) -> None:
        """Look at one. SPNEGO carries NTLM's message as it is, somewhere inside."""
        token = token or b""
        at = token.find(_AUTHENTICATE)
        while at >= 0:
            flags = token[at + _FLAGS_AT : at + _FLAGS_AT + 4]
            self._flags.append(int.from_bytes(flags, "little"))
            at = token.find(_AUTHENTICATE, at + 1)

    @property
    def ssf(self) -> int:
        """The strength of sealing, in bits.

        :raises NegotiationError: the session signs only, or lacks what makes NTLM's signatures
            worth anything
        """
        flags = self._flags[0] if len(self._flags) == 1 else 0
        needed = _SIGN | _SEAL | _EXTENDED_SESSION_SECURITY
        if flags & needed != needed:
            raise NegotiationError(
                "NTLM was negotiated without sealing and extended session security, which is no "
                "protection: allow confidentiality on both sides (max_ssf), or use Kerberos"
            )
        return 128 if flags & _KEY_128 else 56 if flags & _KEY_56 else 40
