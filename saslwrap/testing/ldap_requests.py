"""What `LDAPServer` answers to a request, without I/O: searches, "Who am I?", changes, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from saslwrap.errors import ProtocolError
from saslwrap.protocols.ldap_messages import Message, ResultCode, encode, result
from saslwrap.testing.ldap_changes import COMPARE, apply_change
from saslwrap.testing.ldap_directory import Directory, DirectoryError
from saslwrap.testing.ldap_paging import PAGED_RESULTS, page_of

__all__ = ["WHO_AM_I", "answer", "is_critical"]

#: RFC 4532.
WHO_AM_I: Final = b"1.3.6.1.4.1.4203.1.11.3"

#: The response's tag, by the request's name, or by its tag where `ldap_messages` has no name for
#: it: modify, add, delete, modifyDN, compare (RFC 4511 appendix B).
_RESPONSE_TAGS: Final[Mapping[str | bytes, int]] = {
    "searchRequest": 0x65,
    "extendedReq": 0x78,
    b"\x66": 0x67,
    b"\x68": 0x69,
    b"\x4a": 0x6B,
    b"\x6c": 0x6D,
    b"\x6e": 0x6F,
}


def answer(
    pdu: bytes, request: Message, directory: Directory, identity: str | None, *, writable: bool
) -> Iterable[bytes]:
    """Give the messages that answer a request, one after the other as they are asked for.

    :param pdu: the request as it came
    :param identity: who is logged in, None for nobody
    :param writable: whether entries may be changed
    :raises ProtocolError: it is no request
    """
    respond = partial(_respond, pdu, request)
    known = (PAGED_RESULTS,) if request.operation == "searchRequest" else ()
    if is_critical(request, known):
        return [respond(ResultCode.unavailableCriticalExtension)]
    if request.operation == "extendedReq":
        return [_extended(request, identity, respond)]
    if identity is None and not _is_root_dse(request):
        return [respond(ResultCode.strongerAuthRequired, "log in first, with SASL")]
    if request.operation == "searchRequest":
        return _search(request, directory, respond)
    if not writable and pdu[_operation_at(pdu)] != COMPARE:
        return [respond(ResultCode.unwillingToPerform, "entries stay as they are: writable=True")]
    return [_change(pdu, directory, respond)]


def is_critical(request: Message, known: Iterable[bytes] = ()) -> bool:
    """Whether it insists on a control that is not known."""
    return any(
        control["criticality"] and control["controlType"] not in known
        for control in request.controls
    )


def _search(
    request: Message, directory: Directory, respond: Callable[..., bytes]
) -> Iterator[bytes]:
    search, number = request.value, request.message_id
    try:
        page = page_of(request)
        found = page.cut(directory.search(search))
    except DirectoryError as error:
        yield respond(error.code, str(error), error.matched_dn)
        return
    for count, entry in enumerate(found, 1):
        if 0 < search["sizeLimit"] < count:
            yield respond(ResultCode.sizeLimitExceeded)
            return
        selected = entry.select(search["attributes"], types_only=search["typesOnly"])
        yield encode(number, "searchResEntry", selected)
    yield encode(number, "searchResDone", result(ResultCode.success), page.controls())


def _change(pdu: bytes, directory: Directory, respond: Callable[..., bytes]) -> bytes:
    try:
        return respond(apply_change(pdu, directory))
    except DirectoryError as error:
        return respond(error.code, str(error), error.matched_dn)


def _extended(request: Message, identity: str | None, respond: Callable[..., bytes]) -> bytes:
    if request.value["requestName"] != WHO_AM_I:
        return respond(ResultCode.protocolError, "unknown extended operation")
    if identity is None:
        return respond(ResultCode.strongerAuthRequired, "log in first, with SASL")
    value = result(ResultCode.success, responseValue=identity.encode())
    return encode(request.message_id, "extendedResp", value)


def _is_root_dse(request: Message) -> bool:
    return (
        request.operation == "searchRequest"
        and request.value["scope"] == 0
        and not request.value["baseObject"].strip()
    )


def _respond(
    pdu: bytes, request: Message, code: int, text: str = "", matched_dn: str = ""
) -> bytes:
    """Encode a result, in the response that belongs to the request.

    All these responses have one shape, so the tag alone tells them apart.

    :raises ProtocolError: it is no request
    """
    at = _operation_at(pdu)
    tag = _RESPONSE_TAGS.get(request.operation or pdu[at : at + 1])
    if tag is None:
        raise ProtocolError(f"the client sent {request.operation or 'an unknown operation'}")
    value = result(code, text, matchedDN=matched_dn.encode())
    response = bytearray(encode(request.message_id, "searchResDone", value))
    response[_operation_at(response)] = tag
    return bytes(response)


def _operation_at(message: bytes | bytearray) -> int:
    """Where the operation's tag is: behind the head of the message, and the message id."""
    number = 2 + (message[1] & 0x7F if message[1] & 0x80 else 0)
    return number + 2 + message[number + 1]
