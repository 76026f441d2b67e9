"""What GSSAPI and GSS-SPNEGO share, on both sides: the GSS context of a login."""

from __future__ import annotations

from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer
from saslwrap.mechanisms.gss.errors import not_bound
from saslwrap.mechanisms.gss.provider import Flag, GSSContext, open_context, require_installed

__all__ = ["GSSSide"]


class GSSSide(Mechanism):
    """One side. It holds a password, and the GSS context, for no longer than the login takes.

    The constructors are `forgetful` of the password.

    :raises MechanismUnavailableError: the extra is not installed
    """

    may_block = True

    _credentials: GSSCredentials
    _peer: Peer

    def __init__(self) -> None:
        super().__init__()
        require_installed()
        self._gss: GSSContext | None = None

    def _forget(self) -> None:
        self._credentials.forget()
        self._gss = None

    def _open_context(self, protocol: str, flags: Flag) -> GSSContext:
        """Make a context that is bound to the channel below. May talk to a KDC."""
        return open_context(protocol, self._peer.bound_to(self._channel), self._credentials, flags)

    def _check_bindings(self, *, bound: bool) -> None:
        """Refuse a client that is not bound to our TLS, where we know that.

        :param bound: whether it said which TLS it is on, and that was ours
        """
        if self._peer.bound_to(self._channel).bindings is not None and not bound:
            raise not_bound()
