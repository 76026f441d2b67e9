"""ManageSieve's AUTHENTICATE, both halves, and what is said behind it, under the layer."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from saslwrap.exchange import Done, Exchange, Send
from saslwrap.protocols.ldap import UnacceptableSuccessError
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from tests.fuzz.lines import Side, targets
from tests.fuzz.reader import Reader
from tests.fuzz.talk import Between, Peer, Recording, Talk
from tests.fuzz.watched import WEAK_OFFER

#: A server's capabilities, as it says them first, and again under the layer.
GREETING: Final = b'"SASL" "DIGEST-MD5"\r\nOK "ready"\r\n'

#: What it says then: unasked, to CAPABILITY, and to NOOP.
ANSWERS: Final = 2 * GREETING + b'OK (TAG "after login") "done"\r\n'

_LITERAL: Final = re.compile(rb'((?:[^"{]|"(?:[^"\\]|\\.)*")*?)\{([0-9]+)\+?\}\r\n', re.DOTALL)
_WRITTEN: Final = re.compile(
    rb'\{[0-9]+\+?\}\r\n(?P<literal>[A-Za-z0-9+/]*=*)|"(?P<quoted>[A-Za-z0-9+/]*=*)"'
)
_QUOTED: Final = rb'"(?:[^"\\\r\n\0]|\\["\\])*"'
_SAID_BY_CLIENT: Final = re.compile(
    rb'(AUTHENTICATE "(DIGEST-MD5"|RECITAL"( "b25l")?)\r\n|"(?:[A-Za-z0-9+/]*=*|\*)"\r\n'
    rb'|CAPABILITY\r\nNOOP "after login"\r\n|)'
)
_SAID_BY_SERVER: Final = re.compile(
    rb'("SASL" %b\r\nOK "ready"\r\n|""\r\n|(OK|NO|BYE)( \([A-Z-]+( %b)?\))? %b\r\n|)'
    % (_QUOTED, _QUOTED, _QUOTED)
)

_HEARD_BY_CLIENT: Final = re.compile(rb'(?:"[A-Za-z0-9+/]*=*" ?\r\n)*(?i:OK)[^\r\n]*\r\n')
_HEARD_BY_SERVER: Final = re.compile(
    rb'(?:[^\r\n]*\r\n){0,10}(?i:AUTHENTICATE) ?"[^\r\n]*\r\n(?:"[A-Za-z0-9+/]*=*" ?\r\n)+'
)


def without_literals(said: bytes) -> bytes:
    """The same with an empty string in place of each literal, all of which has to be there."""
    rest = b""
    while match := _LITERAL.match(said):
        end = match.end() + int(match[2])
        assert end <= len(said), "a literal that is cut short"
        rest, said = rest + match[1] + b'""', said[end:]
    return rest + said


def written(message: bytes) -> bytes:
    """A message as a string."""
    return b'"%b"' % b64encode(message)


def read_capabilities(half: Exchange, reader: Reader) -> None:
    """Hear them under the layer: what is heard is what was said, in any pieces."""
    assert isinstance(half, SieveAuthenticate)
    if half.context is None:
        assert half.follow_up() is None
        return
    between = Between(reader, Recording(ANSWERS), SERVER.forge)
    talk, found = reading(half, between, reader.sizes())
    at_once, found_at_once = reading(half, Recording(bytes(talk.heard)), [0])
    assert (talk.outcome, found) == (at_once.outcome, found_at_once)
    assert between.has_bent or found == {"SASL": "DIGEST-MD5"}
    talk.finish()


def reading(half: SieveAuthenticate, peer: Peer, sizes: list[int]) -> tuple[Talk, object]:
    """Let a client read once, and give what it then takes for the server's capabilities."""
    half.capabilities = None
    follow_up = half.follow_up()
    assert follow_up is not None
    talk = Talk(follow_up, peer, sizes)
    talk.run()
    CLIENT.check(talk)
    return talk, half.capabilities


def say_capabilities(half: Exchange, reader: Reader) -> None:
    """Hold that a server says them again, under a layer alone."""
    greeting = half.follow_up()
    assert (greeting is None) == (half.context is None)
    if greeting is not None:
        assert greeting.advance() == Send(GREETING)
        assert greeting.advance() == Done()


CLIENT = Side(
    lambda case: SieveAuthenticate(case.client("sieve"), initial_response=case.is_early),
    lines=(
        b"CAPABILITY",
        b'NOOP "{1}"',
        b"NOOP {4+}\r\n{1\r\n",
        b"NOOP {4+}\r\n\r\nOK",
        b"LOGOUT",
        b"LISTSCRIPTS",
        b'AUTHENTICATE "DIGEST-MD5" ""',
        b'AUTHENTICATE "RECITAL" "b25l"',
        b"AUTHENTICATE {5+}\r\nPLAIN",
        b"AUTHENTICATE {99999}",
        b'authenticate "digest-md5"',
        b'"*"',
        b"{0+}\r\n",
        b'"?"',
    ),
    says=lambda octets: _SAID_BY_CLIENT.fullmatch(without_literals(octets)),
    heard=lambda octets: _HEARD_BY_CLIENT.fullmatch(without_literals(octets)),
    write=written,
    written=_WRITTEN,
    behind=read_capabilities,
)
SERVER = Side(
    lambda case: SieveAuthenticateServer(case.servers("sieve")),
    lines=(
        b'OK "done"',
        b"OK",
        b'OK (SASL "cnNwYXV0aD0w")',
        b"OK (SASL {4}\r\ncnM=) {2}\r\nok",
        b"OK (SASL)",
        b"OK (SASL %b)" % written(WEAK_OFFER),
        b'OK (TAG "after login") "done"',
        b'NO (AUTH-TOO-WEAK) "weak"',
        b"NO",
        b'BYE "leaving"',
        b'"SIEVE" "fileinto"',
        b'"STARTTLS"',
        b"{99999}",
        b"{1}\r\n?",
        b"{0}\r\n",
    ),
    says=lambda octets: _SAID_BY_SERVER.fullmatch(without_literals(octets)),
    heard=lambda octets: _HEARD_BY_SERVER.fullmatch(without_literals(octets)),
    write=written,
    written=_WRITTEN,
    behind=say_capabilities,
)

TARGETS = targets(
    "sieve-authenticate",
    CLIENT,
    SERVER,
    {UnacceptableSuccessError: "success with an offer that our policy does not take"},
)
