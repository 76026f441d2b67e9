"""POP3's AUTH, both halves."""

from __future__ import annotations

from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from tests.fuzz.lines import AUTH_LINES, asked, plain_side, served, targets

CLIENT = plain_side(
    lambda case: POP3Auth(case.client("pop"), initial_response=case.is_early),
    lines=(b"CAPA", b"NOOP", b"QUIT", b"USER alice", *AUTH_LINES),
    says=asked(b"AUTH"),
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
