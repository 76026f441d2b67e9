"""What GSS reports, in words that name the cause and the remedy.

GSS has a few major codes that say little, and minor codes of the mechanism that say it all: those
of Kerberos (com_err's table "krb5") or SSPI's status. pyspnego and python-gssapi hand them on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MechanismUnavailableError,
    MutualAuthenticationError,
    OutOfSequenceError,
    SASLError,
    SecurityStatus,
    one_line,
)
from saslwrap.mechanisms.gss.credentials import Peer, Source

__all__ = ["is_said_by_kdc", "login_error", "not_bound", "unwrap_error", "wrap_error"]

_KRB5: Final = -1765328384
"""Where com_err's table of Kerberos begins."""

_KDC = "check the network, and the realm's kdc in krb5.conf or its SRV records in the DNS"
_NTP = "set the clocks by NTP, Kerberos allows for five minutes"
_UNKNOWN_SERVICE = (
    "the KDC does not know the service {service}/{host}: service and host have to be as in the "
    "server's principal (SPN), which is seldom its address"
)
_OTHER_KEY = (
    "the ticket for {service}/{host} was not made with the key that its server has: the server's "
    "keytab is out of date, the name belongs to another account, or permitted_enctypes in its "
    "krb5.conf leaves that kind of key out"
)
_EXPIRED = "the Kerberos ticket has expired: renew it (kinit)"
_SKEW = f"the clocks of client, server and KDC differ too much: {_NTP}"
_UNREACHABLE = f"no KDC of the realm answers: {_KDC}"
_UNKNOWN_REALM = (
    "the realm is unknown: check its spelling, the network, and the realm's kdc in krb5.conf or "
    "its SRV records in the DNS"
)
_ADMINISTRATOR = "ask the realm's administrator"
_CONFIGURATION = "Kerberos cannot read its configuration: check krb5.conf, or KRB5_CONFIG"
_TYPES = (
    "there is no encryption type in common: permitted_enctypes in krb5.conf, or the account's "
    "encryption types, leave none"
)

#: By the code's place in the table of Kerberos (RFC 4120 section 7.5.9, and MIT's krb5_err.et).
_KERBEROS: Final = {
    1: f"the account has expired: {_ADMINISTRATOR}",
    6: r"the KDC does not know the user: check name and realm, as in name@REALM, not DOMAIN\name",
    7: _UNKNOWN_SERVICE,
    12: "the KDC's policy forbids this login, here or now",
    14: _TYPES,
    18: f"the account is disabled, locked or expired: {_ADMINISTRATOR}",
    23: "the password has expired: change it (kpasswd)",
    32: _EXPIRED,
    33: f"the ticket is not valid yet: if it is not meant for later, {_NTP}",
    35: _OTHER_KEY,
    37: _SKEW,
    41: _OTHER_KEY,
    44: _OTHER_KEY,
    45: _OTHER_KEY,
    68: "the user belongs to another realm: write it out, name@REALM",
    134: "the name is no principal: write it as name@REALM",
    135: _CONFIGURATION,
    136: _CONFIGURATION,
    144: (
        "the ticket is for another service than {service}/{host}: client and server have to name "
        "it the same, as the keytab does"
    ),
    148: _SKEW,
    150: _TYPES,
    154: _UNKNOWN_REALM,
    156: _UNREACHABLE,
    220: _UNKNOWN_REALM,
    224: "there is no default realm: write name@REALM, or set default_realm in krb5.conf",
    237: _TYPES,
}

_WRONG_PASSWORD: Final = "the password is wrong"  # noqa: S105 - a text

#: What only a KDC that knows the account says.
_SAID_BY_KDC: Final = {_KERBEROS[1], _KERBEROS[18], _KERBEROS[23], _WRONG_PASSWORD}

_WRONG_KEY: Final = {24, 31}  # the proof, or the reply, does not decrypt
_MUTUAL_FAILED: Final = {46, 158}

#: What a client's credentials are wrong about, and what may be done, by where they come from.
_UNUSABLE: Final = {
    Source.PASSWORD: "the KDC gave no ticket: check the name and the password",
    Source.CACHE: (
        "credential_cache has no Kerberos ticket that can be used: check its path and username, or "
        "fill it (kinit -c)"
    ),
    Source.KEYTAB: (
        "the keytab has no key of this user that can be used: check its path and username; klist "
        "-k lists what it has"
    ),
    Source.SYSTEM: (
        "there is no Kerberos ticket that can be used: run kinit, or give username and password, "
        "credential_cache or keytab; KRB5CCNAME names the cache that is looked at"
    ),
}

#: Codes that say so: of caches (140, 141, 195, 196, 199, 200, 212), of keytabs (180, 181, 213).
_NO_CREDENTIALS: Final = {140, 141, 180, 181, 195, 196, 199, 200, 212, 213}

_NO_KEY = (
    "there is no key for {service}/{host} that can be used: the keytab, which KRB5_KTNAME or "
    "krb5.conf names, has to be there and have one; klist -k lists what it has"
)

#: SSPI's status (winerror.h).
_WINDOWS: Final = {
    0x80090303: _UNKNOWN_SERVICE,
    0x8009030C: "the name or the password is wrong",
    0x8009030E: "there are no credentials: log in to Windows, or give username and password",
    0x80090311: _UNREACHABLE,
    0x80090322: _OTHER_KEY,
    0x80090324: _SKEW,
}

_EXPIRED_CREDENTIALS: Final = 11 << 16
_NO_CRED: Final = 7 << 16
_BAD_BINDINGS: Final = 4 << 16
_OTHER_CHANNEL: Final = (
    "the login is bound to another TLS connection (tls-server-end-point): somebody stands between "
    "client and server, or terminates TLS with another certificate"
)

_SUPPLEMENTARY: Final = 0x2 | 0x4 | 0x8 | 0x10  # DUPLICATE, OLD, UNSEQ, GAP

_MINOR = re.compile(r"Minor \(\d+\): (.*?)(?:, Context: |$)", re.DOTALL)
_TRAILING_CODE = re.compile(r" -?\d+$")


def login_error(
    error: Exception, peer: Peer, source: Source = Source.SYSTEM, *, in_reply: bool
) -> SASLError:
    """Translate what went wrong in a login.

    :param source: where our credentials come from
    :param in_reply: whether it was about something that the peer sent
    """
    if isinstance(error, ImportError):
        return _no_library(error)
    codes = [code for code in map(_kerberos_code, _chain(error)) if code is not None]
    if peer.is_client and in_reply and (_MUTUAL_FAILED | _WRONG_KEY) & set(codes):
        return MutualAuthenticationError(
            f"{peer.service}/{peer.host} did not prove that it has the service's key"
        )
    text = _by_code(codes, peer, source) or _by_status(error, peer, source)
    if text is None:
        return _unknown(error, peer, source, in_reply=in_reply)
    kind = MechanismUnavailableError if text == _NO_KEY else AuthenticationError
    return kind(text.format(service=peer.service, host=peer.host))


def _by_code(codes: list[int], peer: Peer, source: Source) -> str | None:
    for code in codes:
        if code in _KERBEROS:
            return _KERBEROS[code]
        if code in _WRONG_KEY:
            return _wrong_key(peer, source)
        if code in _NO_CREDENTIALS:
            return _UNUSABLE[source] if peer.is_client else _NO_KEY
    return None


def _wrong_key(peer: Peer, source: Source) -> str:
    if not peer.is_client:
        return _OTHER_KEY
    if source is Source.KEYTAB:
        return "the keytab's key of this user is out of date: make a new one"
    return _WRONG_PASSWORD


def not_bound() -> AuthenticationError:
    """Refuse a client that did not say which TLS connection it is on."""
    return AuthenticationError("the client did not bind its login to TLS (tls-server-end-point)")


def is_said_by_kdc(error: SASLError) -> bool:
    """Whether a KDC that knows the account has refused it: NTLM would not help then."""
    return str(error) in _SAID_BY_KDC


def _by_status(error: Exception, peer: Peer, source: Source) -> str | None:
    """Go by GSS's major codes and Windows' status, which say less."""
    for one in _chain(error):
        if text := _WINDOWS.get(getattr(one, "winerror", 0) & 0xFFFFFFFF):
            return text
        major = _major(one)
        if major == _NO_CRED:
            return _UNUSABLE[source] if peer.is_client else _NO_KEY
        if major in (_EXPIRED_CREDENTIALS, _BAD_BINDINGS):
            return _EXPIRED if major == _EXPIRED_CREDENTIALS else _OTHER_CHANNEL
        if type(one).__name__ == "BadBindingsError":  # pyspnego's NTLM
            return _OTHER_CHANNEL
    return None


def _unknown(error: Exception, peer: Peer, source: Source, *, in_reply: bool) -> SASLError:
    if not in_reply:
        if source is Source.KEYTAB:  # missing, empty, a folder: no code of Kerberos
            return AuthenticationError(_UNUSABLE[source])
        return AuthenticationError(
            f"Kerberos or NTLM cannot start: {_detail(error)}. Check the names, files and "
            "krb5.conf; KRB5_TRACE=/dev/stderr shows what Kerberos does"
        )
    if peer.is_client:
        return MalformedMessageError("the server's token cannot be read, or refuses the login")
    return AuthenticationError("the client's token does not hold")


def _no_library(error: ImportError) -> MechanismUnavailableError:
    return MechanismUnavailableError(
        "Kerberos is not usable here: the packages gssapi and krb5 come with the extra "
        "(pip install 'saslwrap[gssapi]') and need the system's library, libgssapi-krb5-2 or the "
        f"like: {one_line(str(error))}"
    )


def _chain(error: Exception) -> Iterator[Exception]:
    """Go down to what is below: pyspnego wraps what it gets, twice for SPNEGO."""
    below: object = error
    while isinstance(below, Exception):
        yield below
        below = getattr(below, "base_error", None)


def _kerberos_code(error: Exception) -> int | None:
    """Give a code of Kerberos by its place in the table."""
    code = getattr(error, "err_code", None)  # krb5's own error
    if code is None:
        code = getattr(error, "min_code", None)  # GSS keeps 32 bits without sign
    if not isinstance(code, int):
        return None
    signed = (code & 0xFFFFFFFF) - (1 << 32) if code & 0x80000000 else code
    place = signed - _KRB5
    return place if 0 <= place < 256 else None


def _major(error: Exception) -> int:
    major = getattr(error, "maj_code", 0)
    return major & 0xFFFF0000 if isinstance(major, int) else 0


def _detail(error: Exception) -> str:
    """Say what the library says, without its numbers; nothing of what is not its own error."""
    if type(error).__module__.partition(".")[0] not in {"spnego", "gssapi", "krb5"}:
        return type(error).__name__
    text = str(error)
    if minor := _MINOR.search(text):
        text = minor[1]
    return one_line(_TRAILING_CODE.sub("", text)) or type(error).__name__


def unwrap_error(error: Exception) -> SASLError:
    """Translate what went wrong with a protected message: one text for every cause inside it.

    That it came out of turn is known only after it has proved genuine, and is no secret.
    """
    for one in _chain(error):
        major, winerror = getattr(one, "maj_code", 0), getattr(one, "winerror", 0) & 0xFFFFFFFF
        late = isinstance(major, int) and not major >> 16 and major & _SUPPLEMENTARY
        if late or winerror == SecurityStatus.SEC_E_OUT_OF_SEQUENCE:
            return OutOfSequenceError()
    return IntegrityError()


def wrap_error(error: Exception) -> SASLError:
    """Translate what went wrong when we protected a message."""
    if isinstance(error, MemoryError):
        raise error
    raised = SASLError(f"the message could not be protected, connect anew: {_detail(error)}")
    raised.status = SecurityStatus.SEC_E_CONTEXT_EXPIRED
    return raised
