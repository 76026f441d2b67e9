"""The mechanisms that a server for tests has, by name.

GSSAPI and GSS-SPNEGO take their key from the keytab that `KRB5_KTNAME` names: see `Realm.active`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeAlias

from saslwrap.errors import UsageError
from saslwrap.mechanism import ServerMechanism, require_name
from saslwrap.mechanisms.digest_md5 import DigestMD5Server
from saslwrap.mechanisms.digest_md5.messages import DEFAULT_MAXBUF
from saslwrap.mechanisms.gss_spnego import GSSSPNEGOServer
from saslwrap.mechanisms.gssapi import GSSAPIServer
from saslwrap.properties import SecurityProperties
from saslwrap.protocols._factories import Factories, factories_by_name
from saslwrap.testing.quirks import STRICT, Quirks
from saslwrap.testing.quirky_mechanisms import QuirkyDigestMD5, QuirkyGSSAPI, QuirkyGSSSPNEGO

__all__ = ["MechanismFactories", "MechanismNames", "Place"]

#: What makes a new mechanism for each login, by IANA name.
MechanismFactories: TypeAlias = Factories

#: What a server takes: names of what it can make itself, or factories of one's own.
MechanismNames: TypeAlias = Iterable[str] | MechanismFactories


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients log in, and how: all that a mechanism of a server has to know.

    :param service: IANA service name
    :param host: the server's name, as clients have to say it
    :param realm: of DIGEST-MD5's users; Kerberos' is that of the keytab
    :param users: passwords by username, for DIGEST-MD5; Kerberos' are the KDC's
    :param properties: what a login must give
    :param tls_server_end_point: the hash of the certificate that GSS logins have to be bound to
    :param quirks: what is to be different
    """

    service: str
    host: str
    realm: str
    users: Mapping[str, str] = field(repr=False)
    properties: SecurityProperties
    tls_server_end_point: bytes | None = None
    quirks: Quirks = STRICT

    def __post_init__(self) -> None:
        if self.quirks.no_maxbuf and self.properties.max_buffer < DEFAULT_MAXBUF:
            raise UsageError(
                f"who leaves maxbuf out announces {DEFAULT_MAXBUF} octets; max_buffer is "
                f"{self.properties.max_buffer}"
            )

    def mechanisms(self, chosen: MechanismNames) -> dict[str, Callable[[], ServerMechanism]]:
        """Give the factories of the mechanisms that were named, and those that were given as such.

        Each of the former makes one at once, so that what is missing is told to whoever starts the
        server, and not to its clients.

        :raises UsageError: a name that is not known here, one string in place of several, or a
            factory that a login's server half would refuse
        :raises MechanismUnavailableError: the extra of a mechanism is not installed
        """
        if isinstance(chosen, str | bytes):
            raise UsageError(f"mechanisms takes several names: mechanisms=[{chosen!r}]")
        if isinstance(chosen, Mapping):
            return factories_by_name(chosen)
        for name in chosen:
            require_name(name)
        factories = factories_by_name({name: self._factory(name) for name in chosen})
        for make in factories.values():
            make()
        return factories

    def over_tls(self, tls_server_end_point: bytes | None) -> Place:
        """Give the same over TLS, with GSS logins that have to be bound to a certificate.

        Who refuses layers over TLS takes no layer there, but offers them nevertheless.
        """
        properties = self.properties
        if self.quirks.no_layer_over_tls:
            properties = replace(properties, min_ssf=0, require_layer=None)
        return replace(self, tls_server_end_point=tls_server_end_point, properties=properties)

    def _factory(self, name: str) -> Callable[[], ServerMechanism]:
        make = _MAKERS.get(name.upper())
        if make is None:
            known = ", ".join(_MAKERS)
            raise UsageError(
                f"{name!r} is not known by name; these are: {known}. Give a mapping of names to "
                "factories for mechanisms of your own"
            )
        return partial(make, self)


def _digest_md5(place: Place) -> ServerMechanism:
    quirks = place.quirks
    make = partial(
        DigestMD5Server,
        lambda username, _: place.users.get(username),
        service=place.service,
        host=place.host,
        realms=[place.realm] if quirks.realms is None else quirks.realms,
        properties=place.properties,
    )
    mechanism = make(generate_nonce=quirks.nonce) if quirks.nonce else make()
    if quirks == STRICT:
        return mechanism
    return QuirkyDigestMD5(mechanism, quirks, service=place.service, host=place.host)


def _gssapi(place: Place) -> ServerMechanism:
    mechanism = GSSAPIServer(
        service=place.service,
        host=place.host,
        properties=place.properties,
        tls_server_end_point=place.tls_server_end_point,
    )
    return mechanism if place.quirks == STRICT else QuirkyGSSAPI(mechanism, place.quirks)


def _gss_spnego(place: Place) -> ServerMechanism:
    mechanism = GSSSPNEGOServer(
        service=place.service,
        host=place.host,
        properties=place.properties,
        tls_server_end_point=place.tls_server_end_point,
    )
    return mechanism if place.quirks == STRICT else QuirkyGSSSPNEGO(mechanism, place.quirks)


_MAKERS: Final[Mapping[str, Callable[[Place], ServerMechanism]]] = {
    "DIGEST-MD5": _digest_md5,
    "GSSAPI": _gssapi,
    "GSS-SPNEGO": _gss_spnego,
}
