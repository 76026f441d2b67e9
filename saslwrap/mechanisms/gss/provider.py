"""One GSS context, as pyspnego has it: over MIT, Heimdal, Windows' SSPI, or its own NTLM.

Everything that the mechanisms know of GSS stands here: flags, steps, wrap and unwrap, sizes and
strength. What goes wrong below leaves as an error of ours (see `errors`), without a cause: a
provider's frames may hold a password. pyspnego is an extra; it is imported when a context is made.
"""

from __future__ import annotations

import enum
import importlib.util
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    SASLError,
)
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer, Source
from saslwrap.mechanisms.gss.errors import login_error, unwrap_error, wrap_error
from saslwrap.mechanisms.gss.tokens import open_token

if TYPE_CHECKING:
    from spnego import ContextProxy

__all__ = ["Flag", "GSSContext", "is_installed", "open_context", "require_installed"]

T = TypeVar("T")

_SASL_SSF = "1.2.840.113554.1.2.2.5.15"
"""GSS_C_SEC_CONTEXT_SASL_SSF of MIT krb5, which Cyrus SASL asks for too."""

_SESSION_KEY = "1.2.840.113554.1.2.2.5.5"
"""GSS_C_INQ_SSPI_SESSION_KEY."""

_ENCRYPTION_TYPES: Final = {
    16: "des3-cbc-sha1",
    17: "aes128-cts-hmac-sha1-96",
    18: "aes256-cts-hmac-sha1-96",
    19: "aes128-cts-hmac-sha256-128",
    20: "aes256-cts-hmac-sha384-192",
    23: "arcfour-hmac",
    25: "camellia128-cts-cmac",
    26: "camellia256-cts-cmac",
}
"""IANA's Kerberos Encryption Type Numbers, in MIT's names."""

_MOST_STEPS: Final = 10
"""Kerberos needs two of one side, NTLM in SPNEGO three; a hostile peer may want more for ever."""

_PROBE: Final = 65536

_CHANNEL_BOUND: Final = 0x800

_MARGIN: Final = 16
"""Octets that a token may be longer than the provider says: the padding to a cipher's block."""


class Flag(enum.IntFlag):
    """What is asked of a context, and what was granted (RFC 2744 appendix A)."""

    MUTUAL = 0x02
    REPLAY = 0x04
    SEQUENCE = 0x08
    CONFIDENTIALITY = 0x10
    INTEGRITY = 0x20
    #: Neither confidentiality nor integrity, which MIT krb5 grants unasked (pyspnego's own flag).
    NO_INTEGRITY = 0x10000000


def is_installed() -> bool:
    """Whether the extra is there."""
    try:
        return importlib.util.find_spec("spnego") is not None
    except (ImportError, ValueError):  # it is blocked, in one way or another
        return False


def require_installed() -> None:
    """Refuse to go on without the extra.

    :raises MechanismUnavailableError: it is not there; the text says what to install
    """
    if not is_installed():
        raise MechanismUnavailableError(
            "Kerberos, NTLM and SPNEGO come with an extra: pip install 'saslwrap[gssapi]'"
        )


def open_context(
    protocol: str,
    peer: Peer,
    credentials: GSSCredentials,
    flags: Flag,
) -> GSSContext:
    """Make a context. May talk to a KDC.

    :param protocol: `"kerberos"` or `"negotiate"`
    :raises MechanismUnavailableError: pyspnego, or the system's Kerberos, is not there
    :raises AuthenticationError: the credentials cannot be used
    """
    spnego = _import_spnego()
    bindings = None
    if peer.bindings is not None:
        data = b"tls-server-end-point:" + peer.bindings
        bindings = spnego.channel_bindings.GssChannelBindings(application_data=data)
    common = {
        "service": peer.service,
        "hostname": peer.host,
        "protocol": protocol,
        "context_req": spnego.ContextReq(int(flags)),
        "channel_bindings": bindings,
    }

    source = credentials.source

    def translate(error: Exception) -> SASLError:
        return login_error(error, peer, source, in_reply=False)

    def make() -> Any:
        if peer.is_client:
            return spnego.client(credentials.of_client(spnego), **common)
        acceptor = credentials.of_server(spnego, peer.service, peer.host)
        return spnego.server(credentials=acceptor, **common)

    is_spnego = protocol == "negotiate"
    return GSSContext(_translated(make, translate), peer, source, is_spnego=is_spnego)


def _import_spnego() -> Any:
    require_installed()
    import spnego
    import spnego.channel_bindings

    return spnego


def _translated(work: Callable[[], T], translate: Callable[[Exception], SASLError]) -> T:
    """Raise what goes wrong as one of ours, out of the frames in which it did."""
    try:
        return work()
    except SASLError as error:
        raised = error
    except Exception as error:  # a provider's parsers raise anything
        raised = translate(error)
    raise raised


class GSSContext:
    """A context: first it is established, step by step, then it wraps and unwraps.

    GSS contexts are not made for two threads; one lock serialises what a sealer and an unsealer do.

    :ivar complete: whether it is established
    :ivar peer_name: the client's name, as the acceptor has it, once it is complete
    """

    def __init__(self, proxy: ContextProxy, peer: Peer, source: Source, *, is_spnego: bool) -> None:
        self._proxy = proxy
        self._peer = peer
        self._source = source
        self._is_spnego = is_spnego
        self._lock = Lock()
        self._steps = 0
        self.complete: bool = False
        self.peer_name: str | None = None

    def step(self, token: bytes | None) -> bytes | None:
        """Take the peer's token, give the next one, None or `b""` without. May talk to a KDC."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise MalformedMessageError(f"the peer would not end the login in {_MOST_STEPS} steps")
        if open_token(token or b"") != (token or b"") and not self._is_spnego:
            raise MalformedMessageError("the token is SPNEGO's where Kerberos' own was due")

        def translate(error: Exception) -> SASLError:
            deferred = self._deferred_error() or error
            return login_error(deferred, self._peer, self._source, in_reply=bool(token))

        def work() -> bytes | None:
            reply = self._proxy.step(token)
            if self._proxy.complete:
                self._conclude()
            else:
                for proxy in _inside(self._proxy):
                    _demand_ntlmv2(getattr(proxy, "__dict__", {}))
            return reply

        return _translated(work, translate)

    @property
    def complete_inside(self) -> bool:
        """Whether what SPNEGO carries is at its end, be SPNEGO or not."""
        return any(getattr(proxy, "complete", False) for proxy in _inside(self._proxy))

    def _conclude(self) -> None:
        """Take the end of the login at pyspnego's word, but not at that of the peer.

        Its SPNEGO is complete as soon as the peer says so, on both sides, whatever is inside.
        """
        below = list(_inside(self._proxy))
        if not all(getattr(proxy, "complete", True) for proxy in below):
            kind = MutualAuthenticationError if self._peer.is_client else AuthenticationError
            raise kind("the peer ended SPNEGO before the login inside it was over")
        name = self._proxy.client_principal
        if not self._peer.is_client and not name:
            raise AuthenticationError("the client has no name")
        self.peer_name = name
        for proxy in (self._proxy, *below):
            _drop_secrets(getattr(proxy, "__dict__", {}))
        self.complete = True

    def _deferred_error(self) -> Exception | None:
        """Fetch what python-gssapi keeps: an error that came with a token for the peer."""
        try:
            _ = getattr(self._native, "complete", None)
        except Exception as error:
            return error
        return None

    @property
    def protocol(self) -> str | None:
        """`"kerberos"` or `"ntlm"`, None while that is open."""
        try:
            return self._proxy.negotiated_protocol
        except Exception:  # SSPI cannot tell before there is a context
            return None

    @property
    def flags(self) -> Flag:
        """What was granted."""
        return Flag(int(self._proxy.context_attr) & 0x3E)

    @property
    def bound(self) -> bool:
        """Whether the client's binding was there and held, to an acceptor with one.

        GSS_C_CHANNEL_BOUND_FLAG (MIT krb5 since 1.19) in clear words; SSPI refuses by itself.
        """
        native = self._native
        return native is None or bool(int(native.actual_flags) & _CHANNEL_BOUND)

    @property
    def own_name(self) -> str | None:
        """The initiator's own name, where the provider tells."""
        name = getattr(self._native, "initiator_name", None)
        return None if name is None else str(name).rstrip("\0")

    @property
    def ssf(self) -> int:
        """The strength of Kerberos' sealing, in bits."""
        if (told := self._told_ssf()) is not None:
            return told
        return min(8 * len(self._proxy.session_key), 256)

    def _told_ssf(self) -> int | None:
        answers = self._inquire(_SASL_SSF)
        return int.from_bytes(answers[0], "big") if answers else None

    @property
    def cipher(self) -> str | None:
        """The cipher's name, as Kerberos has it, where the provider tells."""
        if self._is_ntlm:
            return "rc4"
        answers = self._inquire(_SESSION_KEY)  # and behind it, an OID that ends in the type
        return _ENCRYPTION_TYPES.get(answers[1][-1]) if len(answers) > 1 else None

    def _inquire(self, question: str) -> list[bytes]:
        """gss_inquire_sec_context_by_oid: what MIT krb5 answers, nothing elsewhere."""
        if (native := self._native) is None:
            return []
        from gssapi import OID
        from gssapi.raw import inquire_sec_context_by_oid

        try:
            return list(inquire_sec_context_by_oid(native, OID.from_int_seq(question)))
        except Exception:  # Heimdal does not know the question
            return []

    def overhead(self, *, encrypt: bool) -> int:
        """The most octets that a token has beyond its message."""
        return _PROBE - self.size_limit(_PROBE, encrypt=encrypt)

    def size_limit(self, maximum_token: int, *, encrypt: bool) -> int:
        """The longest message whose token has at most `maximum_token` octets, 0 if none has.

        gss_wrap_size_limit (RFC 2744 section 5.34) where python-gssapi is below; elsewhere what the
        provider says of its overhead, and a margin.
        """

        def work() -> int:
            if (native := self._native) is None:
                margin = 0 if self._is_ntlm else _MARGIN
                return maximum_token - self._proxy.query_message_sizes().header - margin
            limit: int = native.get_wrap_size_limit(maximum_token, encrypted=encrypt)
            # old Heimdal added where it should have subtracted
            return limit if limit <= maximum_token else 2 * maximum_token - limit

        return max(0, _translated(work, wrap_error))

    @property
    def _is_ntlm(self) -> bool:
        return self.protocol == "ntlm"

    def wrap(self, message: bytes, *, encrypt: bool) -> tuple[bytes, bool]:
        """gss_wrap: the token, and whether it is encrypted (RFC 2744 section 5.33)."""

        def work() -> tuple[bytes, bool]:
            with self._lock:
                result = self._proxy.wrap(message, encrypt=encrypt)
            return result.data, result.encrypted

        return _translated(work, wrap_error)

    def unwrap(self, token: bytes) -> tuple[bytes, bool]:
        """gss_unwrap: the message, and whether it was encrypted (RFC 2744 section 5.31).

        :param token: octets that nobody else holds. MIT krb5 works in place, in `bytes` too
        """

        def work() -> tuple[bytes, bool]:
            with self._lock:
                result = self._proxy.unwrap(token)
            return result.data, result.encrypted

        return _translated(work, unwrap_error)

    @property
    def _native(self) -> Any:
        """python-gssapi's context, None over SSPI and NTLM: for what pyspnego does not pass on."""
        for candidate in _inside(self._proxy):
            if hasattr(candidate, "get_wrap_size_limit"):
                return candidate
        return None


def _inside(proxy: object) -> Iterator[object]:
    """Go down in pyspnego, which keeps what is below in `_context`: a proxy, or the native one."""
    while (proxy := _below(proxy)) is not None:
        yield proxy


def _below(proxy: object) -> object:
    try:
        return getattr(proxy, "_context", None)
    except Exception:  # SPNEGO has not got that far
        return None


def _drop_secrets(state: dict[str, Any]) -> None:
    """Drop what pyspnego keeps longer than it needs: passwords, and NTLM's hashes of them."""
    if "_credentials" in state:
        state["_credentials"] = None
    if hasattr(state.get("_credential"), "nt_hash"):
        state["_credential"] = None


def _demand_ntlmv2(state: dict[str, Any]) -> None:
    """Have pyspnego's acceptor refuse LM and NTLMv1, as LM_COMPAT_LEVEL=5 does."""
    if "_nt_v1" in state:
        state["_lm"] = state["_nt_v1"] = False
