"""What the tests of LDAP's Bind share."""

from __future__ import annotations

from typing import Any

from saslwrap.exchange import Event, Exchange, NeedData, Send
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_messages import Message, decode, encode, result
from tests.played import PlayedClient, Turn, crank


def sent(event: Event) -> Message:
    assert isinstance(event, Send)
    return decode(event.data)


def bind_request(
    message_id: int, credentials: bytes | None = None, mechanism: str = "PLAYED", **changes: Any
) -> bytes:
    sasl = {"mechanism": mechanism.encode()}
    if credentials is not None:
        sasl["credentials"] = credentials
    value = {"version": 3, "name": b"", "authentication": ("sasl", sasl), **changes}
    return encode(message_id, "bindRequest", value)


def bind_response(
    message_id: int, code: int, credentials: bytes | None = None, text: str = ""
) -> bytes:
    more = {} if credentials is None else {"serverSaslCreds": credentials}
    return encode(message_id, "bindResponse", result(code, text, **more))


def started(*turns: Turn, message_id: int = 1) -> LDAPBind:
    """A client that has sent its first request and waits for the response."""
    exchange = LDAPBind(PlayedClient(*turns), message_id)
    assert isinstance(crank(exchange), Send)
    assert crank(exchange) == NeedData()
    return exchange


FIRST_FRAME = bytes.fromhex("0000001e300c02010365070a0100040004000a7c63b4329e8adb652f000100000001")

ABORT = bind_request(2, None, "")


def answer(exchange: Exchange, event: Event) -> tuple[int, dict[str, Any]]:
    """What the server sent, without the empty fields."""
    message = sent(event)
    assert message.operation == "bindResponse"
    value = {key: field for key, field in message.value.items() if field != b""}
    assert isinstance(exchange, LDAPBindServer)
    assert (exchange.message_id, exchange.result_code) == (message.message_id, value["resultCode"])
    return message.message_id, value
