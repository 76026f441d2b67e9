"""LDAP's Bind with SASL (RFC 4511 section 4.2, RFC 4513 section 5.2), both halves, without I/O.

    C: bindRequest   sasl DIGEST-MD5                           (no credentials: absent)
    S: bindResponse  saslBindInProgress, serverSaslCreds = challenge
    C: bindRequest   sasl DIGEST-MD5, credentials = response   (the next message id)
    S: bindResponse  success, serverSaslCreds = rspauth

The layer starts with the first octet after the success, in both directions.

Absent and empty credentials differ where a login starts and where it succeeds (RFC 4513 section
5.2.1.3): None and `b""` of a mechanism. In between they do not: a challenge and its response are
messages, so an absent one is read as empty (slapd sends an empty challenge so), and an empty one
is always sent as present.

A login is aborted by a bindRequest for the mechanism `""`, which the server refuses (RFC 4511
section 4.2.1). It has to wait until the response that is due has come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, Final, NoReturn

from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    TruncatedStreamError,
    UsageError,
    one_line,
    require_number,
)
from saslwrap.errors import UnacceptableSuccessError as UnacceptableSuccessError
from saslwrap.exchange import Event, Exchange, Script, Send, check_kind, transport_survives
from saslwrap.mechanism import ClientMechanism, Mechanism, ServerMechanism
from saslwrap.protocols._factories import factories_by_name
from saslwrap.protocols._refusals import too_weak
from saslwrap.protocols.ldap_messages import (
    MAX_MESSAGE_ID,
    NOTICE_OF_DISCONNECTION,
    Message,
    ResultCode,
    decode,
    encode,
    measure,
    result,
    result_name,
)

__all__ = ["LDAPBind", "LDAPBindServer"]

_IN_PROGRESS: Final = ResultCode.saslBindInProgress


#: What the client is told of a mechanism's error, and whether the error's text is: a text about
#: credentials would tell an unknown user from a wrong password.
_ANSWERS: Final[tuple[tuple[type[SASLError], ResultCode, bool], ...]] = (
    (AuthenticationError, ResultCode.invalidCredentials, False),
    (IntegrityError, ResultCode.invalidCredentials, False),
    (NegotiationError, ResultCode.strongerAuthRequired, True),
    (ProtocolError, ResultCode.protocolError, True),
    (MechanismUnavailableError, ResultCode.authMethodNotSupported, False),
    (SASLError, ResultCode.other, False),
)

#: How servers refuse a login that protects too little; the last one is Cyrus SASL's.
_TOO_WEAK: Final = (
    ResultCode.strongerAuthRequired,
    ResultCode.confidentialityRequired,
    ResultCode.inappropriateAuthentication,
)


def _outcome(answer: Mapping[str, Any]) -> str:
    text = one_line(answer["diagnosticMessage"].decode(errors="replace"))
    return result_name(answer["resultCode"]) + (f", {text!r}" if text else "")


class _Bind(Exchange):
    """What both halves share."""

    #: The longest message before the login is done, in octets: OpenLDAP's sockbuf_max_incoming.
    PDU_LIMIT: ClassVar[int] = 262143

    def __init__(self, mechanism: Mechanism | None) -> None:
        super().__init__(mechanism)
        #: The result code of the server's last answer, None before the first.
        self.result_code: int | None = None

    def _measure(self, buffer: bytearray) -> int | None:
        return measure(buffer, self.PDU_LIMIT)


class LDAPBind(_Bind):
    """The client's half.

    :param mechanism: a new one; a mechanism is used once
    :param message_id: of the first bindRequest; each further one has the next
    :raises UsageError: the message id is not in 1..2147483647; the mechanism is none of a client
    """

    def __init__(self, mechanism: ClientMechanism, message_id: int = 1) -> None:
        check_kind(mechanism, ClientMechanism)
        super().__init__(mechanism)
        require_number("message_id", message_id, 1, MAX_MESSAGE_ID)
        self._client = mechanism
        self._next_id = message_id
        self._due_id: int | None = None  # of the request that is not answered yet

    @property
    def next_message_id(self) -> int:
        """The first message id that the login has not used: the application goes on from it."""
        return self._next_id

    def _run(self) -> Script:
        response = yield from self._bind((yield from self._ask(None)))
        while response["resultCode"] == _IN_PROGRESS:
            reply = yield from self._ask(response.get("serverSaslCreds", b""))
            response = yield from self._bind(reply or b"")
        if response["resultCode"] != ResultCode.success:
            raise self._refused(response)
        yield from self._conclude(response.get("serverSaslCreds"))

    def _bind(self, credentials: bytes | None) -> Generator[Event, None, dict[str, Any]]:
        yield Send(self._request(self._client.name, credentials))
        return (yield from self._response())

    def _request(self, mechanism: str, credentials: bytes | None) -> bytes:
        sasl = {"mechanism": mechanism.encode()}
        if credentials is not None:
            sasl["credentials"] = credentials
        bind = {"version": 3, "name": b"", "authentication": ("sasl", sasl)}
        request = encode(self._next_id, "bindRequest", bind)
        self._due_id, self._next_id = self._next_id, self._next_id % MAX_MESSAGE_ID + 1
        return request

    def _response(self) -> Generator[Event, None, dict[str, Any]]:
        message = decode((yield from self._message()))
        if message.operation != "bindResponse" or message.message_id != self._due_id:
            raise self._stray(message)
        self._due_id = None
        response: dict[str, Any] = message.value
        self.result_code: int | None = response["resultCode"]
        return response

    def _stray(self, message: Message) -> ProtocolError:
        unsolicited = (message.message_id, message.operation) == (0, "extendedResp")
        if unsolicited and message.value.get("responseName") == NOTICE_OF_DISCONNECTION:
            return ProtocolError(f"the server ends the connection: {_outcome(message.value)}")
        return ProtocolError(
            f"the server sent {message.operation or 'an unknown operation'} with message id "
            f"{message.message_id} during the login; bindResponse with {self._due_id} was due. "
            "Finish what was asked before a login starts"
        )

    def _refused(self, response: dict[str, Any]) -> SASLError:
        name, outcome = self._client.name, _outcome(response)
        match response["resultCode"]:
            case ResultCode.authMethodNotSupported:
                return NegotiationError(f"the server does not support {name}: {outcome}")
            case code if self._minds_layer(code):
                return NegotiationError(
                    f"the server refused {name}: {outcome}; Active Directory takes no layer over "
                    "TLS: leave require_layer unset, or connect without TLS"
                )
            case code if code in _TOO_WEAK:
                return too_weak(name, outcome, self._channel)
            case _:
                return AuthenticationError(f"the server refused {name}: {outcome}")

    def _minds_layer(self, code: int) -> bool:
        """Whether that is how Active Directory refuses a layer over TLS.

        inappropriateAuthentication is Cyrus SASL's for too little protection, too: it is that if
        no layer was asked for.
        """
        return self._over_tls and (
            code == ResultCode.unwillingToPerform
            or (
                code == ResultCode.inappropriateAuthentication
                and self._client.properties.require_layer is True
            )
        )

    @property
    def _over_tls(self) -> bool:
        return self._channel is not None and self._channel.external_ssf > 0

    def _conclude(self, credentials: bytes | None) -> Script:
        """Hold a success against the mechanism: it has to be satisfied, with nothing left to say.

        Samba's success has empty credentials for a mechanism that is complete; they are no message.
        """
        if credentials or (credentials is not None and not self._client.complete):
            yield from self._prove(credentials)
        self._require_complete()

    def _tell(self, refusal: SASLError) -> Script:
        if transport_survives(refusal):
            yield from self._settle()

    @property
    def _challenged(self) -> bool:
        return self._due_id is None and self.result_code == _IN_PROGRESS

    def _settle(self) -> Script:
        """Hear the response that is due; abort if the server still waits for us, and hear that."""
        if self._due_id is not None:
            yield from self._response()
        if self._challenged:
            yield Send(self._abort_message())
            yield from self._response()
        if self.result_code in (ResultCode.success, _IN_PROGRESS):
            raise ProtocolError(
                f"the server answered {result_name(self.result_code)} to a login that was given up"
            )

    def _abort_message(self) -> bytes:
        return self._request("", None) if self._challenged else b""

    def _aborted(self) -> Script:
        yield from self._settle()


class LDAPBindServer(_Bind):
    """The server's half: one SASL login, from its first bindRequest on.

    Every refusal is answered before it is raised, so that the connection can be used on where
    `transport_survives` says so:

    ================================================  ==========================  =================
    what came                                         answer                      error
    ================================================  ==========================  =================
    simple bind                                       strongerAuthRequired        Authentication
    another choice, or a mechanism we do not have     authMethodNotSupported      Negotiation
    `""` in place of the mechanism, during its login  authMethodNotSupported      Authentication
    another version than 3                            protocolError               Protocol
    a critical control                                unavailableCriticalExt.     Negotiation
    another operation                                 none                        Protocol
    unbindRequest: the client left                    none                        TruncatedStream
    ================================================  ==========================  =================

    What a mechanism finds wrong is answered as RFC 4511 appendix A.2 puts it nearest: wrong
    credentials by invalidCredentials and no further word, so that an unknown user looks like a
    wrong password; a policy that is not met by strongerAuthRequired, as Active Directory does; a
    broken message by protocolError; a mechanism that is unavailable by authMethodNotSupported;
    anything else by other. A request for another mechanism starts the login anew, with a new
    object of the factory (RFC 4513 section 5.2.1.2).

    :param mechanisms: factories by IANA name
    :ivar message_id: of the last bindRequest, 0 before the first
    :ivar bind_name: the DN in it, which SASL does not use
    :raises UsageError: a name that SASL does not allow, or what makes no mechanism
    """

    def __init__(self, mechanisms: Mapping[str, Callable[[], ServerMechanism]]) -> None:
        super().__init__(None)
        self._factories: Final = factories_by_name(mechanisms)
        self._chosen = ""
        self._unanswered = False
        self.message_id: int = 0
        self.bind_name: bytes = b""

    def abort(self) -> bytes:
        """Refuse the login, as `Exchange.abort`; not once the client was told of success."""
        if self.result_code == ResultCode.success:
            raise UsageError("the client was told of success; there is nothing to abort")
        return super().abort()

    def _run(self) -> Script:
        while True:
            message = yield from self._next_message()
            reply = yield from self._ask(message)
            if self._mechanism is not None and self._mechanism.complete:
                break
            yield self._answer(_IN_PROGRESS, credentials=reply)
        yield self._answer(ResultCode.success, credentials=reply)

    def _next_message(self) -> Generator[Event, None, bytes | None]:
        """Get the next message for the mechanism, which is a new one if its name is new."""
        sasl = yield from self._sasl_request()
        name = sasl["mechanism"].decode("ascii", "replace").upper()
        credentials: bytes | None = sasl.get("credentials")
        if self._chosen and name == self._chosen:
            return credentials or b""
        yield from self._choose(name)
        return credentials

    def _sasl_request(self) -> Generator[Event, None, dict[str, Any]]:
        request = yield from self._bind_request()
        method, sasl = request["authentication"]
        if request["version"] != 3:
            text = f"LDAP version {request['version']} is not 3"
            yield from self._refuse(ResultCode.protocolError, ProtocolError(text), text)
        if method == "simple":
            error = AuthenticationError("the client sent a simple bind; this login takes SASL only")
            yield from self._refuse(ResultCode.strongerAuthRequired, error, "SASL is required")
        if method != "sasl":
            unknown = NegotiationError("the client asked for an unknown authentication choice")
            yield from self._refuse(ResultCode.authMethodNotSupported, unknown)
        return dict(sasl)

    def _bind_request(self) -> Generator[Event, None, dict[str, Any]]:
        message = decode((yield from self._message()))
        if message.operation == "unbindRequest":
            raise TruncatedStreamError("the client left during the login (unbindRequest)")
        if message.operation != "bindRequest" or message.message_id == 0:
            raise ProtocolError(
                f"the client sent {message.operation or 'an unknown operation'} with message id "
                f"{message.message_id} during the login; bindRequest was due"
            )
        self.message_id, self._unanswered = message.message_id, True
        self.bind_name = message.value["name"]
        if any(control["criticality"] for control in message.controls):  # RFC 4511 section 4.1.11
            error = NegotiationError("the client's bind has a critical control; none is known here")
            yield from self._refuse(ResultCode.unavailableCriticalExtension, error)
        return dict(message.value)

    def _choose(self, name: str) -> Script:
        if self._chosen and not name:
            gone = AuthenticationError("the client aborted the login")
            yield from self._refuse(ResultCode.authMethodNotSupported, gone)
        if name not in self._factories:
            text = f"there is {', '.join(self._factories) or 'no mechanism'}"
            error = NegotiationError(f"the client asked for {one_line(name) or 'nothing'}; {text}")
            yield from self._refuse(ResultCode.authMethodNotSupported, error, text)
        self._chosen = name
        try:
            mechanism = self._factories[name]()
            check_kind(mechanism, ServerMechanism)
            return self._set_mechanism(mechanism)
        except SASLError as error:
            failure = error
        yield from self._tell(failure)
        raise failure

    def _tell(self, refusal: SASLError) -> Script:
        code, tell = next(answer for kind, *answer in _ANSWERS if isinstance(refusal, kind))
        yield self._answer(code, one_line(str(refusal)) if tell else "")

    def _refuse(
        self, code: ResultCode, error: SASLError, text: str = ""
    ) -> Generator[Event, None, NoReturn]:
        yield self._answer(code, one_line(text))
        raise error

    def _answer(self, code: int, text: str = "", credentials: bytes | None = None) -> Send:
        more = {} if credentials is None else {"serverSaslCreds": credentials}
        self.result_code: int | None = code
        self._unanswered = False
        return Send(encode(self.message_id, "bindResponse", result(code, text, **more)))

    def _abort_message(self) -> bytes:
        return self._answer(ResultCode.unwillingToPerform).data if self._unanswered else b""

    def _aborted(self) -> Script:
        yield from ()
