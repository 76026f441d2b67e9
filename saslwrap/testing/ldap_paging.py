"""Search results in pages: the control of RFC 2696.

    C: searchRequest, control: [entries a page][no cookie]
    S: entries; searchResDone, control: [0][cookie]
    C: the same searchRequest, control: [entries a page][that cookie]
    S: entries; searchResDone, control: [0][no cookie]          at the end

A cookie is the number of entries that were given already: nothing is kept between two pages.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from saslwrap.protocols.ldap_messages import MAX_MESSAGE_ID, Message, ResultCode
from saslwrap.testing.ldap_directory import DirectoryError, Entry

__all__ = ["PAGED_RESULTS", "Page", "page_of"]

PAGED_RESULTS: Final = b"1.2.840.113556.1.4.319"

_SCHEMA: Final = """
Paging DEFINITIONS ::= BEGIN
Control ::= SEQUENCE { size INTEGER, cookie OCTET STRING }
END
"""

_COOKIE: Final = re.compile(rb"[0-9]{0,9}")


class Page:
    """A part of what a search finds.

    :param size: entries, None for all that there are
    :param start: entries that were given before
    """

    def __init__(self, size: int | None, start: int = 0) -> None:
        self._size = size
        self._start = start
        self._more = False

    def cut(self, found: Iterator[Entry]) -> Iterator[Entry]:
        """Give the entries of the page."""
        if self._size is None:
            return found
        return self._cut(islice(found, self._start, None), self._size)

    def _cut(self, rest: Iterator[Entry], size: int) -> Iterator[Entry]:
        yield from islice(rest, size)
        self._more = size > 0 and next(rest, None) is not None

    def controls(self) -> Sequence[dict[str, Any]]:
        """Say with the result how it goes on, once the entries were taken."""
        if self._size is None:
            return ()
        cookie = b"%d" % (self._start + self._size) if self._more else b""
        value = _codec().encode("Control", {"size": 0, "cookie": cookie})
        return [{"controlType": PAGED_RESULTS, "criticality": False, "controlValue": bytes(value)}]


def page_of(request: Message) -> Page:
    """Give the page that a search asks for, which is all of it without the control.

    :raises DirectoryError: the control cannot be read, or what it asks for cannot be
    """
    values = [
        control.get("controlValue", b"")
        for control in request.controls
        if control["controlType"] == PAGED_RESULTS
    ]
    if not values:
        return Page(None)
    try:
        (value,) = values
        asked = _codec().decode("Control", value)
    except Exception:  # asn1tools lets out what it runs into
        raise DirectoryError(ResultCode.protocolError, "the page cannot be read") from None
    if not 0 <= asked["size"] <= MAX_MESSAGE_ID:  # maxInt, RFC 4511 section 4.1.1
        raise DirectoryError(ResultCode.protocolError, "the size of the page is out of range")
    if not _COOKIE.fullmatch(asked["cookie"]):
        raise DirectoryError(ResultCode.unwillingToPerform, "the page's cookie is none of ours")
    return Page(asked["size"], int(asked["cookie"] or 0))


@functools.cache
def _codec() -> Any:
    import asn1tools  # an extra; who got here has decoded a request with it

    return asn1tools.compile_string(_SCHEMA, "ber")
