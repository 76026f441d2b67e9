"""POP3's AUTH, both halves."""

from __future__ import annotations

from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from tests.fuzz.lines import plain_side, served, targets

CLIENT = plain_side(
    lambda case: POP3Auth(case.client("pop"), initial_response=case.is_early),
    lines=(
        b"CAPA",
        b"NOOP",
        b"QUIT",
        b"USER alice",
        b"AUTH",
        b"AUTH DIGEST-MD5 =",
        b"AUTH RECITAL b25l",
        b"AUTH PLAIN",
        b"auth digest-md5",
        b"*",
        b"",
    ),
    says=rb"((AUTH (DIGEST-MD5|RECITAL( b25l)?)|[A-Za-z0-9+/]*=*|\*)\r\n|)",
    heard=rb"(?:\+(?: [A-Za-z0-9+/]*=*)?\r\n)*\+OK(?: [^\r\n]*)?\r\n",
)
SERVER = plain_side(
    lambda case: POP3AuthServer(case.servers("pop")),
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
        rb"|\+OK\r\nSASL (DIGEST-MD5|RECITAL)\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n\.\r\n|)"
    ),
    heard=served(rb"(?i:AUTH)"),
    before=b"+ ",
)

TARGETS = targets("pop3-auth", CLIENT, SERVER)
