"""The directive lists that DIGEST-MD5's messages are (RFC 2831 section 7).

    list      = *( LWS "," ) directive *( LWS "," [ LWS directive ] )     ; null elements allowed
    directive = name LWS "=" LWS ( token / quoted-string )

Names are case-insensitive. The value that counts everywhere, hashing included, is the unescaped
one. What real peers need is accepted: any directive quoted or not (the JDK quotes `cipher` and
`maxbuf`), any run of CR LF SP HT as white space, a comma too many. What no peer needs is refused:
other control characters, a missing comma, an unterminated quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from saslwrap.errors import MalformedMessageError

__all__ = ["Directive", "Directives", "format_directives", "parse_directives", "quote"]

_LWS = rb"[ \t\r\n]*"
# Octets over 0x7F are no token by the grammar; unquoted names beyond ASCII come from some clients.
_TOKEN = rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?={}]+"
_VALUE = rb"[^\x00-\x20\x7f,\"\\]+"  # tokens, and what careless peers leave unquoted: a/b, a=b
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_DIRECTIVE = re.compile(
    rb"%b(?P<name>%b)%b=%b(?:(?P<quoted>%b)|(?P<plain>%b))%b(?=,|\Z)"
    % (_LWS, _TOKEN, _LWS, _LWS, _QUOTED, _VALUE, _LWS)
)
_SEPARATORS = re.compile(rb"[ \t\r\n,]*")
_ESCAPED = re.compile(rb"\\(.)")  # no control character, by _QUOTED
_NEEDLESSLY_ESCAPED = re.compile(rb'\\(["\\])')
_NEEDS_ESCAPE = re.compile(rb'(["\\])')


class Directive(NamedTuple):
    r"""One value, as it is hashed.

    :param value: unescaped
    :param lenient: the same, but with a backslash that escapes neither `"` nor another one kept:
        clients of Microsoft send `DOMAIN\user` unescaped (MS-DPSP section 2.2)
    """

    value: bytes
    lenient: bytes


class Directives(dict[str, list[Directive]]):
    """Values by lower-case name, in order of arrival; unknown names are in, and do no harm."""

    def all(self, name: str) -> list[bytes]:
        """All values of a directive that may repeat."""
        return [directive.value for directive in self.get(name, [])]

    def one(self, name: str) -> bytes | None:
        """The value of a directive that stands once at most, None where it is absent.

        :raises MalformedMessageError: it is repeated
        """
        values = self.all(name)
        if len(values) > 1:
            raise MalformedMessageError(f"the directive {name} stands {len(values)} times")
        return values[0] if values else None

    def required(self, name: str) -> bytes:
        """The value of a directive that stands exactly once.

        :raises MalformedMessageError: it is missing, or repeated
        """
        if (value := self.one(name)) is None:
            raise MalformedMessageError(f"the directive {name} is missing")
        return value

    def keyword(self, name: str, default: str) -> str:
        """The value of a directive that is a single token without case, in lower case."""
        value = self.one(name)
        return default if value is None else _ascii(name, value).lower()

    def keywords(self, name: str, default: str) -> list[str]:
        """The tokens of a directive that is a list of such, in lower case."""
        tokens = [token.strip() for token in self.keyword(name, default).split(",")]
        if not (tokens := [token for token in tokens if token]):
            raise MalformedMessageError(f"the directive {name} lists nothing")
        return tokens


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        pass
    raise MalformedMessageError(f"the directive {name} is not ASCII")


def parse_directives(message: bytes, limit: int) -> Directives:
    """Take a message apart.

    :param limit: the size that the message has to stay below (RFC 2831 section 2.1), in octets
    :raises MalformedMessageError: it does not, or does not parse
    """
    if len(message) >= limit:
        raise MalformedMessageError(
            f"a DIGEST-MD5 message of {len(message)} octets is over the limit of {limit - 1}"
        )
    directives = Directives()
    position = _skip_separators(message, 0)
    while position < len(message):
        if (match := _DIRECTIVE.match(message, position)) is None:
            raise MalformedMessageError(
                f"a DIGEST-MD5 message does not parse at octet {position} of {len(message)}"
            )
        name = match["name"].decode("latin-1").lower()
        directives.setdefault(name, []).append(_unescape(match))
        position = _skip_separators(message, match.end())
    if not directives:
        raise MalformedMessageError("a DIGEST-MD5 message holds no directive")
    return directives


def _skip_separators(message: bytes, position: int) -> int:
    found = _SEPARATORS.match(message, position)
    return found.end() if found else position


def _unescape(match: re.Match[bytes]) -> Directive:
    if (plain := match["plain"]) is not None:
        return Directive(plain, plain)
    inner = match["quoted"][1:-1]
    return Directive(_ESCAPED.sub(rb"\1", inner), _NEEDLESSLY_ESCAPED.sub(rb"\1", inner))


def quote(value: bytes) -> bytes:
    """Write a value as a quoted-string."""
    return b'"%b"' % _NEEDS_ESCAPE.sub(rb"\\\1", value)


def format_directives(directives: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Write a message; directives whose value is None are left out."""
    return b",".join(
        b"%b=%b" % (name.encode("ascii"), value) for name, value in directives if value is not None
    )
