"""The messages of DIGEST-MD5 (RFC 2831 section 2.1): what is in them, and their own rules.

Both are checked here for what can be checked without knowing the other: syntax, and which directive
stands how often. Whether they fit the login is for client and server to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from saslwrap.errors import MalformedMessageError
from saslwrap.mechanisms.digest_md5.directives import (
    Directives,
    format_directives,
    parse_directives,
    quote,
)
from saslwrap.properties import MAX_MAXBUF, QOP

__all__ = ["Challenge", "Response", "parse_rspauth"]

CHALLENGE_LIMIT = 2048
RESPONSE_LIMIT = 4096
DEFAULT_MAXBUF = 65536

_DIGITS = re.compile(rb"[0-9]+")
_HEX_32 = re.compile(rb"[0-9a-f]{32}")
_HEX_8 = re.compile(rb"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """digest-challenge: the server's offer (section 2.1.1).

    :param qops: tokens in lower case; not all of them need be known
    :param ciphers: the same; empty where auth-conf is not offered, or the directive is absent
    :param maxbuf: not held against its range yet: `check_maxbuf` does
    """

    nonce: bytes
    realms: tuple[bytes, ...]
    qops: tuple[str, ...]
    ciphers: tuple[str, ...]
    maxbuf: int
    utf8: bool

    @classmethod
    def parse(cls, message: bytes) -> Challenge:
        """Read a server's.

        :raises MalformedMessageError: it breaks the grammar or a directive's own rule
        """
        directives = parse_directives(message, CHALLENGE_LIMIT)
        if (algorithm := directives.keyword("algorithm", "")) != "md5-sess":
            raise MalformedMessageError(
                f"the challenge's algorithm is {algorithm[:64]!r}, not md5-sess"
            )
        directives.one("stale")
        qops = tuple(directives.keywords("qop", QOP.AUTH))
        has_ciphers = directives.one("cipher") is not None and QOP.AUTH_CONF in qops
        return cls(
            nonce=_filled(directives, "nonce"),
            realms=tuple(directives.all("realm")),
            qops=qops,
            ciphers=tuple(directives.keywords("cipher", "")) if has_ciphers else (),
            maxbuf=_maxbuf(directives),
            utf8=_utf8(directives),
        )

    def format(self) -> bytes:
        """Write a server's."""
        return format_directives(
            [
                *(("realm", quote(realm)) for realm in self.realms),
                ("nonce", quote(self.nonce)),
                ("qop", quote(_list(self.qops))),
                ("cipher", quote(_list(self.ciphers)) if self.ciphers else None),
                ("maxbuf", b"%d" % self.maxbuf),
                ("charset", b"utf-8" if self.utf8 else None),
                ("algorithm", b"md5-sess"),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """digest-response: the client's choice and proof (section 2.1.2).

    :param username: a server's reading keeps a lone backslash, see `Directive.lenient`
    :param realm: None where the directive is absent
    :param qop: as spelled, since the hash covers the spelling; None where the directive is absent
    """

    username: bytes
    realm: bytes | None
    nonce: bytes
    cnonce: bytes
    nonce_count: bytes
    qop: bytes | None
    digest_uri: bytes
    response: bytes
    maxbuf: int | None
    utf8: bool
    cipher: str | None
    authzid: bytes | None

    @classmethod
    def parse(cls, message: bytes) -> Response:
        """Read a client's.

        :raises MalformedMessageError: it breaks the grammar or a directive's own rule
        """
        directives = parse_directives(message, RESPONSE_LIMIT)
        _filled(directives, "username")
        has_maxbuf = directives.one("maxbuf") is not None
        return cls(
            username=directives["username"][0].lenient,
            realm=directives.one("realm"),
            nonce=_filled(directives, "nonce"),
            cnonce=_filled(directives, "cnonce"),
            nonce_count=_matching(directives, "nc", _HEX_8),
            qop=_filled(directives, "qop") if "qop" in directives else None,
            digest_uri=_filled(directives, "digest-uri"),
            response=_matching(directives, "response", _HEX_32),
            maxbuf=_maxbuf(directives) if has_maxbuf else None,
            utf8=_utf8(directives),
            cipher=_cipher(directives),
            authzid=_filled(directives, "authzid") if "authzid" in directives else None,
        )

    def format(self) -> bytes:
        """Write a client's.

        The order and the quoting are those of OpenLDAP's client, which every server has seen.
        """
        return format_directives(
            [
                ("username", quote(self.username)),
                ("realm", None if self.realm is None else quote(self.realm)),
                ("nonce", quote(self.nonce)),
                ("cnonce", quote(self.cnonce)),
                ("nc", self.nonce_count),
                ("qop", self.qop),
                ("cipher", self.cipher.encode() if self.cipher else None),
                ("maxbuf", None if self.maxbuf is None else b"%d" % self.maxbuf),
                ("digest-uri", quote(self.digest_uri)),
                ("response", self.response),
                ("charset", b"utf-8" if self.utf8 else None),
                ("authzid", None if self.authzid is None else quote(self.authzid)),
            ]
        )


def parse_rspauth(message: bytes) -> bytes | None:
    """Read the server's proof (section 2.1.3), None where the message is not just that.

    :raises MalformedMessageError: it breaks the grammar
    """
    directives = parse_directives(message, CHALLENGE_LIMIT)
    proof = directives.one("rspauth")
    return proof if len(directives) == 1 else None


def _maxbuf(directives: Directives) -> int:
    digits = directives.one("maxbuf")
    if digits is None:
        return DEFAULT_MAXBUF
    if not _DIGITS.fullmatch(digits := digits.strip()):
        raise MalformedMessageError("the directive maxbuf is not a decimal number")
    significant = digits.lstrip(b"0")
    # never turn hundreds of digits into a number: all that counts is that it is too large
    return int(significant or b"0") if len(significant) <= 8 else MAX_MAXBUF + 1


def _utf8(directives: Directives) -> bool:
    charset = directives.keyword("charset", "")
    if "charset" in directives and charset != "utf-8":
        raise MalformedMessageError(f"the directive charset is {charset[:64]!r}, not utf-8")
    return charset == "utf-8"


def _cipher(directives: Directives) -> str | None:
    if "cipher" not in directives:
        return None
    _filled(directives, "cipher")
    return directives.keyword("cipher", "")


def _filled(directives: Directives, name: str) -> bytes:
    if not (value := directives.required(name)):
        raise MalformedMessageError(f"the directive {name} is empty")
    return value


def _matching(directives: Directives, name: str, pattern: re.Pattern[bytes]) -> bytes:
    if not pattern.fullmatch(value := directives.required(name)):
        raise MalformedMessageError(f"the directive {name} does not have its form")
    return value


def _list(tokens: Iterable[str]) -> bytes:
    return ",".join(tokens).encode("ascii")
