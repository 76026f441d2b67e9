"""A whole LDAP login: which mechanisms the server has, the best of them, and whether that was true.

    C: searchRequest   the root DSE: supportedSASLMechanisms
    S: searchResEntry, searchResDone
       Bind, with the strongest mechanism that the policy allows (see `ldap`)
    C: the same searchRequest, under the new layer
    S: its answer

The first list comes in clear: an attacker in between can strike out what he cannot break. The
second one he cannot touch. RFC 4513 section 6.3.1 (and RFC 4422 section 6.1.2) have clients read it
again; if it has a mechanism that would have been chosen, somebody struck it out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final

from saslwrap.errors import NegotiationError, ProtocolError, SASLError, UsageError
from saslwrap.exchange import Event, Exchange, Script, Send
from saslwrap.mechanism import ClientMechanism, choose_mechanism
from saslwrap.protocols._follow_up import FollowUp
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.protocols.ldap_messages import MAX_MESSAGE_ID, ResultCode, decode, encode, measure

__all__ = ["DowngradeError", "LDAPLogin"]

_ATTRIBUTE: Final = b"supportedSASLMechanisms"

_SEARCH: Final = {
    "baseObject": b"",
    "scope": 0,
    "derefAliases": 0,
    "sizeLimit": 0,
    "timeLimit": 0,
    "typesOnly": False,
    "filter": ("present", b"objectClass"),
    "attributes": [_ATTRIBUTE],
}


class DowngradeError(NegotiationError, ProtocolError):
    """The list of mechanisms was cut short before the login: somebody stands in between.

    :ivar hidden: the mechanism that was struck out, and would have been chosen
    """

    def __init__(self, hidden: str, chosen: str) -> None:
        super().__init__(
            f"the server has {hidden}, which was missing in the list that came in clear, so that "
            f"{chosen} was chosen: somebody between us and the server wants a weaker login"
        )
        self.hidden = hidden
        self._chosen = chosen

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.hidden, self._chosen)


class _Mechanisms:
    """One reading of the list."""

    def __init__(self, message_id: int) -> None:
        self._message_id = message_id
        self.names: list[str] | None = None

    @property
    def request(self) -> bytes:
        return encode(self._message_id, "searchRequest", _SEARCH)

    def take(self, pdu: bytes) -> bool:
        """Take a message of the server's; whether it was the last one."""
        message = decode(pdu)
        if message.message_id != self._message_id:
            raise ProtocolError(
                f"the server sent {message.operation or 'an unknown operation'} with message id "
                f"{message.message_id} while its mechanisms were asked for"
            )
        if message.operation == "searchResEntry" and self.names is None:
            self.names = self._names(message.value["attributes"])
            return False
        if message.operation != "searchResDone":
            raise ProtocolError(
                f"the server answered a search by {message.operation or 'an unknown operation'}"
            )
        if message.value["resultCode"] != ResultCode.success:
            self.names = None
        return True

    @staticmethod
    def _names(attributes: list[dict[str, Any]]) -> list[str]:
        return [
            value.decode("ascii", "replace").upper()
            for attribute in attributes
            if attribute["type"].lower() == _ATTRIBUTE.lower()
            for value in attribute["vals"]
        ]


def check_candidates(given: Sequence[ClientMechanism], remedy: str) -> list[ClientMechanism]:
    """Refuse what is not one mechanism or several.

    :param remedy: what the error says: what was to give them, and in which form
    :raises UsageError: it is none, or there is another kind among them
    """
    candidates = list(given) if isinstance(given, Iterable) else [given]
    if not candidates or not all(isinstance(one, ClientMechanism) for one in candidates):
        raise UsageError(remedy)
    return candidates


class LDAPLogin(LDAPBind):
    """Choose a mechanism by what the server offers, log in, and check the offer afterwards.

    A driver runs it like any other login. With a layer, the offer is read again under it, before
    the application gets the stream; the connection is closed if it was a lie (`DowngradeError`).

    One is chosen and tried, never the next: what cannot work here (Kerberos without a ticket) does
    not belong into the list.

    :param candidates: new mechanisms, each with its own `properties`; the preferred one first among
        equals
    :param message_id: of the first request; each further one has the next
    :ivar offered: the mechanisms that the server named in clear, in upper case; None before it did
    :raises UsageError: there is no candidate, or the message id is not in 1..2147483647
    """

    def __init__(
        self,
        candidates: Sequence[ClientMechanism],
        message_id: int = 1,
    ) -> None:
        self._candidates: list[ClientMechanism] = check_candidates(
            candidates, "candidates takes one mechanism or more, made: [GSSAPIClient(...)]"
        )
        super().__init__(self._candidates[0], message_id)
        self._mechanism = None  # not chosen yet
        self._asked: _Mechanisms | None = None  # as long as the answer is not complete
        self.offered: list[str] | None = None

    def _run(self) -> Script:
        self._asked = _Mechanisms(self._take_id())
        yield Send(self._asked.request)
        yield from self._hear_names()
        self._client = self._choose(self.offered or [])
        self._set_mechanism(self._client)
        self._abandon_all_but(self._client)
        yield from super()._run()

    def _abandon_all_but(self, chosen: ClientMechanism | None) -> None:
        for candidate in self._candidates:
            if candidate is not chosen:
                candidate.abandon()

    def _latch(self, error: SASLError) -> SASLError:
        self._abandon_all_but(None)
        return super()._latch(error)

    def _take_id(self) -> int:
        taken, self._next_id = self._next_id, self._next_id % MAX_MESSAGE_ID + 1
        return taken

    def _hear_names(self) -> Generator[Event, None, None]:
        while self._asked is not None:
            asked = self._asked
            if asked.take((yield from self._message())):
                self.offered, self._asked = asked.names, None

    def _choose(self, offered: Sequence[str]) -> ClientMechanism:
        external_ssf = self._channel.external_ssf if self._channel else 0
        return choose_mechanism(offered, self._candidates, external_ssf=external_ssf)

    def _settle(self) -> Script:
        yield from self._hear_names()
        yield from super()._settle()

    def follow_up(self) -> Exchange | None:
        """Give what reads the list again, under the layer."""
        return None if self.context is None else _Confirmation(self)

    def check_offer(self, offered: Sequence[str]) -> None:
        """Hold the list that came under protection against the one that came in clear.

        :raises DowngradeError: we would have chosen another one, which was not to be seen then
        """
        try:
            best = self._choose(offered).name.upper()
        except NegotiationError:
            return  # under the layer the server offers nothing: OpenLDAP with a minimum above it
        if best not in (self.offered or []):
            raise DowngradeError(best, self._client.name)


class _Confirmation(FollowUp):
    """The second reading of the list."""

    def __init__(self, login: LDAPLogin) -> None:
        super().__init__()
        self._login = login

    def _run(self) -> Script:
        asked = _Mechanisms(self._login._take_id())
        yield Send(asked.request)
        while not asked.take((yield from self._message())):
            pass
        self._login.check_offer(asked.names or [])

    def _measure(self, buffer: bytearray) -> int | None:
        return measure(buffer, self._login.PDU_LIMIT)
