r"""What servers of the world do differently, for a client to be tried on: `quirks=MICROSOFT`.

    LDAPServer(ENTRIES, USERS, quirks=MICROSOFT)
    LDAPServer(ENTRIES, USERS, quirks=Quirks(realms=("one.example", "two.example")))
    LDAPServer(ENTRIES, USERS, quirks=replace(CYRUS, reserve=(0, 0)))

Each is a fact that was read or measured; where, stands beside it. A server without quirks is
strict: it does what the RFCs say. Most of these break no rule, and a client has to cope with all of
them.

The challenge of DIGEST-MD5 may be rewritten on its way, as nothing of it but the nonce is covered
by the hash (RFC 2831 section 2.1.2.1): that is how these come about, and what an attacker could do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS
from saslwrap.mechanisms.names import check_encodable, check_text
from saslwrap.protocols.ldap_messages import ResultCode

__all__ = ["CYRUS", "CYRUS_IMAP", "JDK", "MICROSOFT", "STRICT", "Quirks", "microsoft_nonce"]

#: Directives of a challenge that have no quotes in the RFC's grammar, but get some.
_PLAIN: Final = ("algorithm", "maxbuf")

#: The others say whether the server has them.
_KINDS: Final = {
    "nonce": Callable | None,
    "realms": tuple | None,
    "quoted": Iterable,
    "broken_ciphers": Iterable,
    "reserve": tuple,
    "texts": Mapping,
    "foreign_uri": str | None,
}


def microsoft_nonce() -> str:
    """Make a nonce as Active Directory does: `+Upgraded+v1` and 112 digits (ldap3 issue 848).

    That is longer than some clients expect; the RFC sets no limit but that of the challenge.
    """
    return f"+Upgraded+v1{secrets.token_hex(56)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a server differs. All fields are independent; the defaults are no quirks.

    The first ones are DIGEST-MD5's, whatever the protocol:

    :param nonce: makes the nonces
    :param realms: what the challenge offers in place of the server's realm: several, or none, which
        leaves the realm to the client (RFC 2831 section 2.1.1). Passwords are the same in all
    :param quoted: directives of the challenge in quotes: `algorithm`, as Microsoft's documents show
        it, or `maxbuf`, as the JDK sends it
    :param no_maxbuf: whether maxbuf is left out, which clients take for 65536. Active Directory
        does that, and so did old Cyrus SASL (its issue 144)
    :param broken_ciphers: ciphers that are offered, and fail once a client has chosen them. 3des of
        Debian 12's libsasl2 (2.1.28) does, on both sides
    :param reserve: octets of a client's maxbuf that no message fills, under auth-int and under
        auth-conf: 16 and 16 (22 with des and 3des) would be needed
    :param discards_bad_frames: whether a frame that was altered is dropped without a word, as the
        JDK's `unwrap` does, and RFC 4422 section 3.7 forbids. The connection goes on until the next
        frame, which is out of sequence then. Not over other mechanisms

    The others are LDAP's:

    :param absent_challenge: whether a challenge that is empty is absent from the bindResponse, as
        OpenLDAP's slapd leaves it out
    :param empty_success: whether a success without a message has `serverSaslCreds` that are empty,
        as Samba has at the end of GSSAPI
    :param no_layer_over_tls: whether layers are offered over TLS and refused once they are chosen,
        as Active Directory does (MS-ADTS section 5.1.2.1)
    :param texts: the diagnosticMessage of a refused bind, by its result code
    :param foreign_uri: the same where the digest-uri is not the server's, None for that of the code

    The last is IMAP's:

    :param ok_under_layer: whether the OK of a login is said under the layer that it brought, where
        RFC 9051 section 6.2.2 has it in front of the layer. A client that waits for a line may wait
        for ever
    :raises UsageError: a value of another kind, out of its range, or that nobody could be sent
    """

    nonce: Callable[[], str] | None = None
    realms: tuple[str, ...] | None = None
    quoted: tuple[str, ...] = ()
    no_maxbuf: bool = False
    broken_ciphers: tuple[str, ...] = ()
    reserve: tuple[int, int] = (0, 0)
    discards_bad_frames: bool = False
    absent_challenge: bool = False
    empty_success: bool = False
    no_layer_over_tls: bool = False
    texts: Mapping[ResultCode, str] = field(default_factory=dict)
    foreign_uri: str | None = None
    ok_under_layer: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            require_kind(each.name, getattr(self, each.name), _KINDS.get(each.name, bool))
        self._take_names("quoted", _PLAIN)
        self._take_names("broken_ciphers", sorted(CIPHERS))
        _check_reserve(self.reserve)
        for realm in self.realms or ():
            check_text("a realm of realms", realm)
        _check_texts(self.texts)
        if self.foreign_uri is not None:
            check_encodable("foreign_uri", self.foreign_uri)

    def _take_names(self, field_name: str, known: Sequence[str]) -> None:
        given = getattr(self, field_name)
        names = (None,) if isinstance(given, str) else tuple(given)
        if not all(name in known for name in names):
            raise UsageError(f"{field_name} takes a tuple of {', '.join(known)}")
        object.__setattr__(self, field_name, names)


def _check_reserve(reserve: tuple[int, ...]) -> None:
    for octets in reserve:
        require_kind("a number in reserve", octets, int)
    if len(reserve) != 2 or min(reserve) < 0:
        raise UsageError(
            "reserve takes two numbers of octets, 0 or more, of auth-int and of auth-conf: "
            "reserve=(16, 26)"
        )


def _check_texts(texts: Mapping[ResultCode, str]) -> None:
    for code, text in texts.items():
        require_kind("a code in texts", code, int)
        check_encodable(f"texts[{code!r}]", text)


#: None at all.
STRICT: Final = Quirks()

#: Active Directory. Nonce and challenge: ldap3 issue 848, Novell.Directory.Ldap.NETStandard pull
#: request 70. Texts: ldap3 issues 848 and 1030, NUL at the end included, and ldap4net issue 160
#: (Samba has the same). The empty success is Samba's, measured. Layers over TLS: the code and the
#: words that PowerView.py reports.
MICROSOFT: Final = Quirks(
    nonce=microsoft_nonce,
    no_maxbuf=True,
    empty_success=True,
    no_layer_over_tls=True,
    texts={
        ResultCode.invalidCredentials: "8009030C: LdapErr: DSID-0C09058A, comment: "
        "AcceptSecurityContext error, data 52e, v4563\0",
        ResultCode.strongerAuthRequired: "00002028: LdapErr: DSID-0C090259, comment: The server "
        "requires binds to turn on integrity checking if SSL\\TLS are not already active on the "
        "connection, data 0, v4563\0",
        ResultCode.inappropriateAuthentication: "Cannot start kerberos signing/sealing when using "
        "TLS/SSL",
    },
    foreign_uri="80090303: LdapErr: DSID-0C0904DD, comment: The digest-uri does not match any LDAP "
    "SPN's registered for this server., data 0, v2580\0",
)

#: Cyrus SASL 2.1.28 below OpenLDAP 2.5, as Debian 12 has them; measured. It counts the length of a
#: frame into maxbuf, and 25 octets of overhead under every cipher (`digestmd5.c`).
CYRUS: Final = Quirks(
    broken_ciphers=("3des",),
    reserve=(20, 29),
    absent_challenge=True,
)

#: Cyrus IMAP above the same: where its OK is, its issue 6454 reports of 3.10.
CYRUS_IMAP: Final = replace(CYRUS, absent_challenge=False, ok_under_layer=True)

#: The JDK 17's `javax.security.sasl` on the server's side; measured, and read in
#: `DigestMD5Server.java` and `DigestMD5Base.java`.
JDK: Final = Quirks(
    quoted=("maxbuf",),
    reserve=(16, 26),
    discards_bad_frames=True,
)
