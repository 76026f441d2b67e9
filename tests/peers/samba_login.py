"""Every way to log in to the domain controller that brings a layer, and what it leaves on the wire.

With MIT Kerberos and AES a token of GSS is one of RFC 4121 section 4.2.6.2: `05 04`, flags, `ff`,
then in octets 8 to 15 the sequence number. One of NTLM begins with its signature, MS-NLMP section
2.2.2.9.1: version 1, checksum, and in octets 12 to 15, little-endian, the sequence number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from saslwrap import ClientMechanism, GSSAPIClient, GSSSPNEGOClient, SecurityProperties
from saslwrap.protocols.ldap_messages import ResultCode, decode, measure
from tests.peers.directory import ALICE
from tests.peers.frames import split_frames
from tests.peers.ldap_client import LONGEST_MESSAGE
from tests.peers.samba import Samba

if TYPE_CHECKING:
    from tests.peers.wiretap import Recording

KERBEROS_NAME = f"{ALICE.username}@{Samba.realm}"
NTLM_NAME = rf"{Samba.domain}\{ALICE.username}"

SIGNED = SecurityProperties(min_ssf=1, max_ssf=1)
NO_LAYER = SecurityProperties(min_ssf=0, max_ssf=0)

gssapi_of_ticket = partial(GSSAPIClient, service="ldap", host=Samba.host)
spnego_of_ticket = partial(GSSSPNEGOClient, service="ldap", host=Samba.host)
gssapi = partial(gssapi_of_ticket, username=KERBEROS_NAME, password=ALICE.password)
spnego = partial(spnego_of_ticket, username=KERBEROS_NAME, password=ALICE.password)
ntlm = partial(spnego_of_ticket, username=NTLM_NAME, password=ALICE.password)


@dataclass(frozen=True, slots=True)
class Login:
    """How Alice logs in, and the strength that this has."""

    mechanism: Callable[..., ClientMechanism]
    ssf: int

    @property
    def sealed(self) -> bool:
        return self.ssf > 1

    @property
    def by_ntlm(self) -> bool:
        return self.mechanism is ntlm


LOGINS = {
    "gssapi-sealed": Login(gssapi, 256),
    "gssapi-signed": Login(partial(gssapi, properties=SIGNED), 1),
    "gssapi-ad_compat": Login(partial(gssapi, ad_compat=True), 256),
    "spnego-kerberos": Login(spnego, 256),
    "spnego-ntlm": Login(ntlm, 128),
}


class Wire:
    """One connection: the messages of its login, then nothing but frames.

    :ivar requests: the credentials of each bindRequest
    :ivar responses: those of each bindResponse
    :ivar sent: the tokens that the client sent behind the login
    :ivar received: the tokens that it received
    """

    def __init__(self, recording: Recording) -> None:
        from_server, from_client = recording.server_to_client, recording.client_to_server
        self.requests: list[bytes] = []
        self.responses: list[bytes] = []
        code: int = ResultCode.saslBindInProgress
        while code == ResultCode.saslBindInProgress:
            request, from_client = _take(from_client)
            response, from_server = _take(from_server)
            self.requests.append(request["authentication"][1].get("credentials", b""))
            self.responses.append(response.get("serverSaslCreds", b""))
            code = response["resultCode"]
        assert code == ResultCode.success
        self.sent = list(split_frames(from_client))
        self.received = list(split_frames(from_server))

    def check(self, login: Login) -> None:
        """Every token is one of its kind and of its side, and none is missing."""
        for tokens, by_server in ((self.sent, False), (self.received, True)):
            numbers = [_ntlm(token) if login.by_ntlm else _kerberos(token) for token in tokens]
            assert numbers == list(range(numbers[0], numbers[0] + len(tokens)))
            if not login.by_ntlm:
                flags = {token[2] & 3 for token in tokens}
                assert flags == {by_server | login.sealed << 1}

    def shows(self, plaintext: bytes) -> bool:
        """Whether an eavesdropper reads this behind the login."""
        return any(plaintext in token for token in (*self.sent, *self.received))


def layers(token: bytes) -> bytes:
    """An offer of layers, or a choice, in its unsealed token: four octets and a checksum.

    Heimdal, which is inside Samba, rotates both to the right.
    """
    assert token[2] & 2 == 0
    rotated, count = token[16:], int.from_bytes(token[6:8], "big")
    return (rotated[count:] + rotated[:count])[:4]


def _take(wire: bytes) -> tuple[dict[str, Any], bytes]:
    length = measure(wire, LONGEST_MESSAGE)
    assert length is not None
    return decode(wire[:length]).value, wire[length:]


def _kerberos(token: bytes) -> int:
    assert token[:2] == b"\5\4"
    assert token[3] == 0xFF
    return int.from_bytes(token[8:16], "big")


def _ntlm(token: bytes) -> int:
    assert token[:4] == b"\1\0\0\0"
    return int.from_bytes(token[12:16], "little")
