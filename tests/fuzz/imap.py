"""IMAP's AUTHENTICATE, both halves."""

from __future__ import annotations

from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from tests.fuzz.lines import asked, plain_side, served, targets

CLIENT = plain_side(
    lambda case: IMAPAuthenticate(case.client("imap"), initial_response=case.is_early),
    lines=(
        b"A0 CAPABILITY",
        b"A0 NOOP",
        b"A0 LOGOUT",
        b"A0 LOGIN alice secret",
        b"A0 SELECT INBOX",
        b"A1 AUTHENTICATE DIGEST-MD5 =",
        b"A1 AUTHENTICATE RECITAL b25l",
        b"A1 AUTHENTICATE PLAIN",
        b"A1 authenticate digest-md5",
        b"*",
        b"",
        b"A1",
    ),
    says=asked(b"A1 AUTHENTICATE"),
    heard=(
        rb"(?:\* [^\r\n]*\r\n|\+(?: [A-Za-z0-9+/]*=*)?\r\n)*"
        rb"A1 (?i:OK)(?: [^\r\n]*)?\r\n"
    ),
)
SERVER = plain_side(
    lambda case: IMAPAuthenticateServer(case.servers("imap")),
    lines=(
        b"* OK ready",
        b"* CAPABILITY IMAP4rev1 AUTH=DIGEST-MD5",
        b"* BYE leaving",
        b"A1 OK [CAPABILITY IMAP4rev1 IDLE] done",
        b"A1 NO [PRIVACYREQUIRED] no",
        b"A1 NO [AUTHENTICATIONFAILED] no",
        b"A1 BAD what",
        b"A2 OK done",
        b"* 1 FETCH (BODY[] {5}",
        b"+",
        b"+ ?",
    ),
    says=(
        rb"(\* (CAPABILITY|BYE)( [!-~]+)*\r\n)?"
        rb"(\+ [A-Za-z0-9+/]*=*\r\n|[!-~]+ (OK|NO|BAD) [ -~]*\r\n|)"
    ),
    heard=served(rb"[^ \r\n]+ (?i:AUTHENTICATE)"),
    before=b"+ ",
)

TARGETS = targets("imap-authenticate", CLIENT, SERVER)
