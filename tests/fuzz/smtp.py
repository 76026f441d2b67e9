"""SMTP's AUTH, both halves."""

from __future__ import annotations

from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer
from tests.fuzz.lines import AUTH_LINES, asked, plain_side, served, targets

CLIENT = plain_side(
    lambda case: SMTPAuth(case.client("smtp"), initial_response=case.is_early),
    lines=(
        b"EHLO client",
        b"LHLO client",
        b"HELO client",
        b"NOOP",
        b"RSET",
        b"QUIT",
        b"MAIL FROM:<>",
        *AUTH_LINES,
    ),
    says=asked(b"AUTH"),
    heard=(
        rb"(?:(?:334-[^\r\n]*\r\n){0,99}334(?: [A-Za-z0-9+/]*=*)?\r\n)*"
        rb"(?:235-[^\r\n]*\r\n){0,99}235(?: [^\r\n]*)?\r\n"
    ),
)
SERVER = plain_side(
    lambda case: SMTPAuthServer(case.servers("smtp")),
    lines=(
        b"235 2.7.0 done",
        b"235-2.7.0 not yet",
        b"235",
        b"250 OK",
        b"334",
        b"334-",
        b"334 ?",
        b"421 4.3.2 leaving",
        b"454 4.7.0 later",
        b"501 5.7.0 given up",
        b"534 5.7.9 weak",
        b"535 5.7.8 no",
        b"538 5.7.11 weak",
        b"654 what",
    ),
    says=(
        rb"(334 [A-Za-z0-9+/]*=*\r\n|[245][0-9]{2} [ -~]*\r\n"
        rb"|250-localhost\r\n250 AUTH (DIGEST-MD5|RECITAL)\r\n|)"
    ),
    heard=served(rb"(?i:AUTH)"),
    before=b"334 ",
)

TARGETS = targets("smtp-auth", CLIENT, SERVER)
