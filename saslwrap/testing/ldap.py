"""An LDAP server that seals, in the test's own process, over plain Python data.

    import anyio

    from saslwrap import DigestMD5Client
    from saslwrap.anyio import SASLAttribute, authenticate
    from saslwrap.protocols.ldap import LDAPBind
    from saslwrap.testing import LDAPServer

    ENTRIES = {
        "dc=example,dc=com": {"objectClass": ["dcObject", "organization"], "dc": ["example"]},
        "cn=Alice,dc=example,dc=com": {"objectClass": ["person"], "cn": ["Alice"], "sn": ["A."]},
    }

    async def main():
        async with LDAPServer(ENTRIES, users={"alice": "s3cret"}) as server:
            mechanism = DigestMD5Client("alice", "s3cret", service="ldap", host=server.host)
            async with await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
                stream = await authenticate(tcp, LDAPBind(mechanism))
                print("sealed with SSF", stream.extra(SASLAttribute.ssf))

    anyio.run(main)

A blocking client, or one in another process, takes the server in a thread:

    with LDAPServer(ENTRIES, users={"alice": "s3cret"}).in_thread() as server:
        subprocess.run(
            f"ldapsearch -N -Y DIGEST-MD5 -H {server.url} -U alice -w s3cret -b dc=example,dc=com",
            shell=True,
        )

(`-N`, because a digest names the host it is for: the server accepts its own name only.)

It answers searches, in pages too (RFC 2696), comparisons, and "Who am I?"; with `writable` clients
may add, modify and delete entries; the rest is refused in good form. Before a login it shows the
root DSE and nothing else. Requests are answered one after the other, so that there is never
anything to abandon, and nothing outstanding when a login begins. Results leave in batches: many
messages in a frame, in as many frames as the client's maxbuf asks for.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from anyio.abc import AnyByteStream

from saslwrap.errors import require_kind
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.properties import SecurityProperties
from saslwrap.testing.ldap_connection import START_TLS, LDAPConnection
from saslwrap.testing.ldap_directory import Directory
from saslwrap.testing.ldap_paging import PAGED_RESULTS
from saslwrap.testing.ldap_requests import WHO_AM_I
from saslwrap.testing.mechanisms import MechanismNames
from saslwrap.testing.quirks import STRICT, Quirks
from saslwrap.testing.server import Connection, SASLServer

__all__ = ["LDAPServer"]


class LDAPServer(SASLServer):
    """A small LDAP server on loopback: `async with`, or `with server.in_thread()`.

    :param entries: attributes by DN, parents included: `{"cn=x": {"cn": ["x"]}}`
    :param users: passwords by username. They need no entries; who is logged in sees all entries
    :param realm: where the users are
    :param host: the server's name, which a client's digest-uri must have
    :param properties: what a login must give
    :param mechanisms: names of `DIGEST-MD5`, `GSSAPI`, `GSS-SPNEGO`, the latter two with the key in
        the keytab that `KRB5_KTNAME` names; or factories by name
    :param tls: a context with the server's certificate: a client may start TLS (RFC 4511 section
        4.14), and is then asked for no layer
    :param tls_at_once: whether TLS begins with the first octet, as on the port of ldaps
    :param tls_server_end_point: the hash of that certificate, which `mechanisms.channel_binding`
        makes: over TLS, GSSAPI and GSS-SPNEGO by name refuse a login that is not bound to it
    :param quirks: what the server does differently: `MICROSOFT`, `CYRUS`, `JDK`, or some of that.
        Those of a mechanism are not for factories of one's own
    :param writable: whether clients may add, modify and delete entries
    :param idle_timeout: seconds that a client has for its next request, for a login, for TLS'
        handshake, and to take a batch of results
    :raises UsageError: entries that cannot be read, an option of another kind or out of its range,
        or what cannot go together
    :raises MechanismUnavailableError: the extra of a mechanism is not installed

    An authzid is taken as it is said, and shown by "Who am I?".
    """

    service = "ldap"

    @forgetful
    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Sequence[str | bytes]]],
        users: Mapping[str, str] | None = None,
        *,
        realm: str = "example.com",
        host: str = "localhost",
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        mechanisms: MechanismNames = ("DIGEST-MD5",),
        tls: ssl.SSLContext | None = None,
        tls_at_once: bool = False,
        tls_server_end_point: bytes | None = None,
        quirks: Quirks = STRICT,
        writable: bool = False,
        idle_timeout: float = 300,
    ) -> None:
        require_kind("writable", writable, bool)
        super().__init__(
            users,
            realm=realm,
            host=host,
            properties=properties,
            mechanisms=mechanisms,
            tls=tls,
            tls_at_once=tls_at_once,
            tls_server_end_point=tls_server_end_point,
            quirks=quirks,
            idle_timeout=idle_timeout,
        )
        self._writable: Final = writable
        self._directory: Final = Directory(
            entries,
            {
                "supportedLDAPVersion": ["3"],
                "supportedSASLMechanisms": list(self.mechanisms),
                "supportedExtension": [WHO_AM_I, *([START_TLS] if tls else [])],
                "supportedControl": [PAGED_RESULTS],
            },
        )

    @property
    def entries(self) -> dict[str, dict[str, list[bytes]]]:
        """A copy of the entries as they are now; from any thread."""
        return self._call(lambda: self._directory.data)

    def _connection(self, transport: AnyByteStream) -> Connection:
        return LDAPConnection(self, self._directory, transport, writable=self._writable)
