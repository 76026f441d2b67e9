r"""An IMAP server that seals, in the test's own process, over plain Python data.

    import anyio

    from saslwrap import DigestMD5Client
    from saslwrap.anyio import authenticate
    from saslwrap.protocols.imap import IMAPAuthenticate
    from saslwrap.testing import IMAPServer

    MAILBOXES = {"INBOX": [b"From: bob@example.com\r\nSubject: hello\r\n\r\nHow are you?"]}

    async def main():
        async with IMAPServer(MAILBOXES, users={"alice": "s3cret"}) as server:
            mechanism = DigestMD5Client("alice", "s3cret", service="imap", host=server.host)
            async with await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
                stream = await authenticate(tcp, IMAPAuthenticate(mechanism))
                await stream.send(b"A2 EXAMINE INBOX\r\n")
                print(await stream.receive())

    anyio.run(main)

A blocking client, or one in another process, takes the server in a thread:

    with IMAPServer(MAILBOXES, users={"alice": "s3cret"}).in_thread() as server:
        subprocess.run(["imtest", "-m", "DIGEST-MD5", "-p", str(server.port), ...])

It speaks IMAP4rev1 (RFC 3501) as far as clients use it on whole messages: the parts of a MIME body
are not taken apart, mailboxes are not renamed, nothing is ever \Recent. There is no LOGIN. All
users have the same mailboxes, any number of connections at once. `deliver` and `expunge` change a
mailbox from the test's side, and who waits in IDLE hears of it.

Commands are answered one after the other. What is long leaves in batches, in as many frames as the
client's maxbuf asks for.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Final

from anyio.abc import AnyByteStream

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.properties import SecurityProperties
from saslwrap.testing.imap_commands import CommandError
from saslwrap.testing.imap_connection import IMAPConnection
from saslwrap.testing.imap_mailboxes import Mailbox, Mailboxes, Message, as_message, encode_name
from saslwrap.testing.imap_session import Session
from saslwrap.testing.mechanisms import MechanismNames
from saslwrap.testing.quirks import STRICT, Quirks
from saslwrap.testing.server import Connection, SASLServer

__all__ = ["IMAPServer"]


class IMAPServer(SASLServer):
    """A small IMAP server on loopback: `async with`, or `with server.in_thread()`.

    :param mailboxes: messages by the name of their mailbox: `{"INBOX": [b"Subject: ..."]}`. There
        is always an INBOX, for all users the same
    :param users: passwords by username
    :param realm: where the users are
    :param host: the server's name, which a client's digest-uri must have
    :param properties: what a login must give. `SecurityProperties(max_buffer=4096)` takes frames no
        larger than Cyrus IMAP does
    :param mechanisms: names of `DIGEST-MD5`, `GSSAPI`, `GSS-SPNEGO`, the latter two with the key in
        the keytab that `KRB5_KTNAME` names; or factories by name
    :param tls: a context with the server's certificate: a client may start TLS (RFC 3501 section
        6.2.1), and is then asked for no layer
    :param tls_at_once: whether TLS begins with the first octet, as on the port of imaps
    :param tls_server_end_point: the hash of that certificate, which `mechanisms.channel_binding`
        makes: over TLS, GSSAPI and GSS-SPNEGO by name refuse a login that is not bound to it
    :param append_limit: octets that a message of a client's may have, at most
    :param quirks: what the server does differently: `CYRUS_IMAP`, or some of that. Those of a
        mechanism are not for factories of one's own
    :param idle_timeout: seconds that a client has for its next command, or for the end of IDLE
        after the last news, for a login, for TLS' handshake, and to take a batch of an answer
    :raises UsageError: mailboxes that cannot be read, an option of another kind or out of its
        range, or what cannot go together
    :raises MechanismUnavailableError: the extra of a mechanism is not installed
    """

    service = "imap"

    @forgetful
    def __init__(
        self,
        mailboxes: Mapping[str, Iterable[bytes | Message]],
        users: Mapping[str, str] | None = None,
        *,
        realm: str = "example.com",
        host: str = "localhost",
        properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
        mechanisms: MechanismNames = ("DIGEST-MD5",),
        tls: ssl.SSLContext | None = None,
        tls_at_once: bool = False,
        tls_server_end_point: bytes | None = None,
        append_limit: int = 1 << 25,
        quirks: Quirks = STRICT,
        idle_timeout: float = 300,
    ) -> None:
        require_kind("append_limit", append_limit, int)
        if append_limit < 0:
            raise UsageError(f"append_limit is a number of octets, 0 or more, not {append_limit}")
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
        self.append_limit: Final = append_limit
        self._mailboxes: Final = Mailboxes(mailboxes)

    def deliver(self, mailbox: str, message: bytes | Message) -> int:
        """Put a message into a mailbox, as mail comes in; give its UID. From any thread.

        :raises UsageError: there is no such mailbox, or it is no message
        """
        taken = as_message(message)
        return self._call(lambda: self._box(mailbox).add(taken))

    def expunge(self, mailbox: str, *uids: int) -> None:
        """Take messages out of a mailbox; those that are gone do not matter. From any thread.

        :raises UsageError: there is no such mailbox, or never was a message with such a UID in it
        """
        for uid in uids:
            require_kind("a UID", uid, int)
        self._call(lambda: self._expunge(mailbox, uids))

    def messages(self, mailbox: str) -> dict[int, Message]:
        """Give the messages of a mailbox as they are now, by UID. From any thread.

        :raises UsageError: there is no such mailbox
        """
        return self._call(lambda: dict(self._box(mailbox).messages))

    def _expunge(self, mailbox: str, uids: Iterable[int]) -> None:
        box = self._box(mailbox)
        if unknown := [uid for uid in uids if not 0 < uid < box.uid_next]:
            raise UsageError(
                f"{mailbox!r} never had a message with UID {unknown[0]}; `messages` has those that "
                "are there"
            )
        box.remove(uids)

    def _box(self, name: str) -> Mailbox:
        try:
            return self._mailboxes[encode_name(name)]
        except CommandError:
            raise UsageError(f"there is no mailbox {name!r}; name it in `mailboxes`") from None

    def _connection(self, transport: AnyByteStream) -> Connection:
        session = Session(self._mailboxes)
        return IMAPConnection(self, session, transport, append_limit=self.append_limit)
