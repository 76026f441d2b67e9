"""POP3's AUTH, both halves."""

from __future__ import annotations

from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from tests.fuzz.lines import plain_side, targets
from tests.fuzz.watched import WatchedClient, WatchedServer

CLIENT = plain_side(
    lambda policy: POP3Auth(WatchedClient(policy, "pop")),
    lines=(
        b"CAPA",
        b"NOOP",
        b"QUIT",
        b"USER alice",
        b"AUTH",
        b"AUTH DIGEST-MD5 =",
        b"AUTH PLAIN",
        b"auth digest-md5",
        b"*",
        b"",
    ),
    says=rb"((AUTH DIGEST-MD5|[A-Za-z0-9+/]*=*|\*)\r\n|)",
)
SERVER = plain_side(
    lambda policy: POP3AuthServer({"DIGEST-MD5": lambda: WatchedServer(policy, "pop")}),
    lines=(
        b"+OK ready",
        b"+OK",
        b"-ERR",
        b"-ERR [AUTH] no",
        b"-ERR [SYS/TEMP] no",
        b"SASL DIGEST-MD5",
        b".",
        b"+",
        b"+ ?",
    ),
    says=(
        rb"(\+ [A-Za-z0-9+/]*=*\r\n|(\+OK|-ERR)( [ -~]*)?\r\n"
        rb"|\+OK\r\nSASL DIGEST-MD5\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n\.\r\n|)"
    ),
    before=b"+ ",
)

TARGETS = targets("pop3-auth", CLIENT, SERVER)
