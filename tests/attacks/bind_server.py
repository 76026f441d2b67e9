"""A hostile LDAP server."""

from __future__ import annotations

from saslwrap.exchange import Done, NeedData, Send, Step
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import ResultCode, decode, encode, result

IN_PROGRESS, SUCCESS = ResultCode.saslBindInProgress, ResultCode.success


class LDAPServer:
    """A hostile one: says what it was told to say, whatever it hears.

    :param answers: result code and credentials of each
    :ivar heard: mechanism and credentials of each request
    """

    def __init__(self, *answers: tuple[int, bytes | None]) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bytes, bytes | None]] = []

    def serve(self, exchange: LDAPBind) -> None:
        """Let our client log in."""
        while not isinstance(event := exchange.advance(), Done):
            if isinstance(event, Step):
                exchange.step()
            elif isinstance(event, Send):
                exchange.receive_data(self._answer(event.data))
            else:
                assert not isinstance(event, NeedData)

    def _answer(self, request: bytes) -> bytes:
        message = decode(request)
        _, sasl = message.value["authentication"]
        self.heard.append((sasl["mechanism"], sasl.get("credentials")))
        code, credentials = self.answers.pop(0)
        more = {} if credentials is None else {"serverSaslCreds": credentials}
        return encode(message.message_id, "bindResponse", result(code, "", **more))
