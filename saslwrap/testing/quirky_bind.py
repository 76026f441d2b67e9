"""How `Quirks` come about in LDAP's bind."""

from __future__ import annotations

from typing import Final

from saslwrap.errors import SASLError
from saslwrap.exchange import Script, Send
from saslwrap.protocols.ldap import LDAPBindServer
from saslwrap.protocols.ldap_messages import ResultCode
from saslwrap.testing.mechanisms import MechanismFactories
from saslwrap.testing.quirks import Quirks
from saslwrap.testing.quirky_mechanisms import (
    BrokenCipherError,
    ForeignURIError,
    LayerOverTLSError,
)

__all__ = ["QuirkyBindServer"]


class QuirkyBindServer(LDAPBindServer):
    """The server's half of a bind, with the words and the omissions of a real one."""

    def __init__(self, mechanisms: MechanismFactories, quirks: Quirks) -> None:
        super().__init__(mechanisms)
        self._quirks: Final = quirks

    def _tell(self, refusal: SASLError) -> Script:
        match refusal:
            case BrokenCipherError():
                text = f"SASL(-1): generic failure: {refusal}"
                yield self._say(ResultCode.other, text)
            case ForeignURIError():
                yield self._say(ResultCode.invalidCredentials, self._quirks.foreign_uri or "")
            case LayerOverTLSError():
                yield self._answer(ResultCode.inappropriateAuthentication, str(refusal))
            case _:
                yield from super()._tell(refusal)

    def _answer(self, code: int, text: str = "", credentials: bytes | None = None) -> Send:
        if code == ResultCode.success and credentials is None and self._quirks.empty_success:
            credentials = b""
        if code == ResultCode.saslBindInProgress and self._quirks.absent_challenge:
            credentials = credentials or None
        words = {int(known): said for known, said in self._quirks.texts.items()}
        return self._say(code, words.get(code, text), credentials)

    def _say(self, code: int, text: str, credentials: bytes | None = None) -> Send:
        return super()._answer(code, text, credentials)
