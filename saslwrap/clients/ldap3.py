"""ldap3 under a security layer: Active Directory that demands signing, from a blocking client.

    connection = ldap3.Connection("dc1.ad.example")
    authenticate(connection, lambda: GSSSPNEGOClient(service="ldap", host="dc1.ad.example"))
    connection.search("DC=ad,DC=example", "(cn=alice)")

ldap3 opens its socket anew where it sees fit: its restartable strategies do after each failure, a
lazy connection with the first request, anybody who calls `open`. What logs in is therefore no call
but a part of the connection, and takes the place of what ldap3 itself would do:

    do_sasl_bind   every bind of ldap3's ends here: ours logs in and puts the layer below
    send           every request passes here: none gets by that would leave in clear
    open           reads no schema yet: that would be such a request; `bind` reads it

So a connection that lost its layer, or was refused a new login, sends nothing until one succeeds.
All three are public, and ldap3 calls them through the connection; no private attribute is touched.
`auto_referrals` is turned off: ldap3 follows a referral over a connection of its own making, which
has no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from saslwrap.clients._ldap import Mechanisms, check_maker, make_login
from saslwrap.clients._library import require
from saslwrap.clients._login import closed_by_failure, no_tls_now, told_as
from saslwrap.context import Buffer
from saslwrap.errors import FrameTooLargeError, ProtocolError, UsageError
from saslwrap.sync import SASLSocket, authenticate_socket

__all__ = ["authenticate"]

_START_TLS: Final = "1.3.6.1.4.1.1466.20037"
_SUCCESS: Final = {
    "result": 0,
    "description": "success",
    "dn": "",
    "message": "",
    "referrals": None,
    "saslCreds": None,
    "type": "bindResponse",
}


def authenticate(connection: Any, make_mechanism: Callable[[], Mechanisms]) -> None:
    """Log in, now and whenever ldap3 binds again; everything else goes under the layer.

    TLS comes before (`open`, then `start_tls`); a connection that is closed is opened, a lazy one
    logs in with its first request. The strategy is `SYNC`, `SAFE_SYNC`, `RESTARTABLE` or
    `SAFE_RESTARTABLE`: the others read in threads or pools of their own.

    After an error the connection is not bound, and sends nothing until a `bind`, or this function,
    succeeds. It is still open after a refusal, and closed after anything else.

    :param connection: an `ldap3.Connection` that is not logged in by SASL; other credentials in it
        are not used
    :param make_mechanism: gives a new mechanism for each login, or several, of which the best is
        taken that the server has (`LDAPLogin`)
    :raises LDAPBindError: ldap3's; its cause is an `AuthenticationError` or `NegotiationError`
    :raises LDAPSocketReceiveError: ldap3's; its cause is a `SASLError` that is a `ConnectionError`,
        or another `OSError`
    :raises UsageError: the connection, or what makes the mechanism, is of the wrong kind
    :raises MechanismUnavailableError: ldap3 is missing, or neither 2.9.1 nor a later 2.9
    """
    require("ldap3", "2.9.1", "2.10")
    import ldap3

    if not isinstance(connection, ldap3.Connection):
        raise UsageError("connection takes an ldap3.Connection, made without auto_bind")
    check_maker(make_mechanism)
    strategy = connection.strategy
    if not strategy.sync or strategy.pooled or strategy.no_real_dsa:
        raise UsageError(
            f"the strategy {connection.strategy_type} cannot take a layer; SYNC, SAFE_SYNC, "
            "RESTARTABLE and SAFE_RESTARTABLE can"
        )
    if connection.bound and connection.authentication == ldap3.SASL:
        raise UsageError("the connection is logged in by SASL already: call unbind() first")
    _Login(connection, make_mechanism).install(ldap3.SASL, ldap3.EXTERNAL)
    connection.bind()


class _Socket(SASLSocket):
    """ldap3 makes an error anew, of its type and its text: one that takes more gives way."""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        with _of_one_text():
            return super().recv(bufsize, flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        try:
            with _of_one_text():
                super().sendall(data, flags)
        finally:
            data = b""  # no traceback is to show it


@contextmanager
def _of_one_text() -> Iterator[None]:
    try:
        yield
    except FrameTooLargeError as error:
        raise ProtocolError(str(error)) from error


def _extension(message_type: str, request: Any) -> str | None:
    """Name the extended operation that a request asks for, None where it asks for another one."""
    return str(request["requestName"]) if message_type == "extendedReq" else None


class _Login:
    """What stands in for three methods of one connection."""

    def __init__(self, connection: Any, make_mechanism: Callable[[], Mechanisms]) -> None:
        self._connection = connection
        self._make_mechanism = make_mechanism

    def install(self, sasl: str, any_mechanism: str) -> None:
        """Take the place of ldap3's methods; `bind` calls them for any mechanism that it knows."""
        connection = self._connection
        connection.authentication = sasl
        connection.sasl_mechanism, connection.sasl_credentials = any_mechanism, None
        connection.auto_referrals = False
        connection.do_sasl_bind = self.do_sasl_bind
        connection.send = self.send
        connection.open = self.open

    def open(self, reset_usage: bool = True, read_server_info: bool = True) -> None:
        self._connection.strategy.open(reset_usage, read_server_info=False)

    def send(self, message_type: str, request: Any, controls: Any = None) -> Any:
        try:
            self._check(message_type, _extension(message_type, request))
            return self._connection.strategy.send(message_type, request, controls)
        except OSError:  # LDAPSocketSendError: sealed, but not sent
            self._connection.strategy.close()
            raise
        finally:
            request = controls = None  # no traceback is to show them

    def _check(self, message_type: str, extension: str | None) -> None:
        """Refuse what has to be no request of this connection, or not now."""
        layered = isinstance(self._connection.socket, _Socket)
        if message_type == "bindRequest":
            raise UsageError(
                "this connection logs in by saslwrap only: bind() does it, with a new mechanism"
            )
        if extension == _START_TLS:
            if layered:
                raise no_tls_now("StartTLS")
        elif self._connection.socket and message_type != "unbindRequest":
            if not layered:
                raise UsageError(f"{message_type} would go out in clear: call bind() first")
            if not self._connection.bound:  # the server takes us for nobody, under the old layer
                raise UsageError(f"{message_type} needs a login that succeeds: call bind() first")

    def do_sasl_bind(self, controls: Any = None) -> dict[str, Any]:
        from ldap3.core.exceptions import LDAPBindError, LDAPSocketReceiveError

        if controls:
            raise UsageError("a bind with controls is not supported under a layer")
        with told_as(self._noted(LDAPBindError), self._noted(LDAPSocketReceiveError)):
            return self._log_in()

    def _noted(self, kind: type[Exception]) -> Callable[[str], Exception]:
        """Make errors of a kind; their text is the connection's last error, as ldap3 has it."""

        def make(text: str) -> Exception:
            self._connection.last_error = text
            return kind(text)

        return make

    def _log_in(self) -> dict[str, Any]:
        connection = self._connection
        connection.bound = False
        layered = isinstance(connection.socket, _Socket)
        sock = connection.socket if layered else _Socket(connection.socket, None)
        first_id = connection.server.next_message_id()
        login = make_login(self._make_mechanism(), first_id)
        try:
            with closed_by_failure(login, connection.strategy.close):
                authenticate_socket(sock, login)
        finally:
            for _ in range(first_id + 1, login.next_message_id):  # ldap3 goes on behind ours
                connection.server.next_message_id()
        connection.socket, connection.user = sock, login.authcid
        connection.result = dict(_SUCCESS)
        return dict(_SUCCESS)
