"""A hostile peer of the GSS mechanisms: raw pyspnego, which wraps whatever it is told to.

It holds the keys of its session, as a peer does: what stops it is nothing but the check under
attack. NTLM needs a file of users only; Kerberos needs the realm, and a ticket of Alice's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar

import pytest

from saslwrap import GSSAPIClient, GSSAPIServer, GSSSPNEGOClient, GSSSPNEGOServer
from saslwrap.errors import IntegrityError, ProtocolError, SASLError
from saslwrap.layer import SecurityLayer
from saslwrap.mechanism import Mechanism
from tests.attacks.support import frame, judge
from tests.gss_pairs import NTLM_USERNAME, PLACE, SEALED, SIGNED
from tests.peers.directory import ALICE

spnego = pytest.importorskip("spnego")

Role = Literal["client", "server"]
both_roles = pytest.mark.parametrize("role", ["client", "server"])

Test = TypeVar("Test", bound=Callable[..., None])


def each_layer(*layers: str) -> Callable[[Test], Test]:
    """Run a test with each layer of `session`, and what it needs."""
    values = [one if one == "ntlm" else pytest.param(one, marks=pytest.mark.peer) for one in layers]
    parametrized = pytest.mark.parametrize("layer", values)
    return lambda test: parametrized(pytest.mark.usefixtures("layers_needs")(test))


every_layer = each_layer("sealed", "signed", "spnego", "ntlm")

NTLM = b"NTLMSSP\0"
NEGOTIATE, CHALLENGE, AUTHENTICATE = NTLM + b"\1\0\0\0", NTLM + b"\2\0\0\0", NTLM + b"\3\0\0\0"

MUTUAL, REPLAY, SEQUENCE = 0x02, 0x04, 0x08
CONFIDENTIALITY, INTEGRITY, NO_INTEGRITY = 0x10, 0x20, 0x10000000
EVERYTHING = MUTUAL | REPLAY | SEQUENCE | CONFIDENTIALITY | INTEGRITY

PATIENCE = 30

#: The layers of an offer, or a choice (RFC 4752 section 3.3).
NONE, INT, CONF = 1, 2, 4
ALL = NONE | INT | CONF


def kerberos(test: Test) -> Test:
    """Mark a test that needs the realm, and Alice's ticket."""
    marked: Test = pytest.mark.peer(pytest.mark.usefixtures("alice_ticket")(test))
    return marked


def hostile(
    role: Role,
    protocol: str = "kerberos",
    flags: int = EVERYTHING,
    binding: bytes | None = None,
) -> Any:
    """Make a peer in this role, which says that it is on the TLS connection of `binding`."""
    common: dict[str, Any] = {
        "hostname": PLACE["host"],
        "service": PLACE["service"],
        "protocol": protocol,
        "context_req": spnego.ContextReq(flags),
        "channel_bindings": binding and bindings(binding),
    }
    if role == "server":
        return spnego.server(**common)
    if protocol == "kerberos":
        return spnego.client(**common)
    return spnego.client(NTLM_USERNAME, ALICE.password, **common)


def bindings(binding: bytes) -> Any:
    """The same in pyspnego's words."""
    return import_module("spnego.channel_bindings").GssChannelBindings(
        application_data=b"tls-server-end-point:" + binding
    )


def gssapi(role: Role, **options: Any) -> Mechanism:
    """Our side of GSSAPI."""
    return (GSSAPIClient if role == "client" else GSSAPIServer)(**PLACE, **options)


def spnego_mechanism(role: Role, *, ntlm: bool = False, **options: Any) -> Mechanism:
    """Our side of GSS-SPNEGO."""
    if role == "server":
        return GSSSPNEGOServer(**PLACE, ntlm=ntlm, **options)
    name = {"username": NTLM_USERNAME, "password": ALICE.password} if ntlm else {}
    return GSSSPNEGOClient(**PLACE, **{**name, **options})


def told(mechanism: Mechanism, message: bytes | None) -> bytes:
    """Step, and have an answer."""
    answer = mechanism.step(message)
    assert answer is not None
    return answer


@dataclass
class Attacked:
    """A login of ours that got as far as GSSAPI's word on layers.

    :ivar offer: what our server offered, unwrapped
    """

    ours: Mechanism
    peer: Any
    offer: bytes = b""

    def hears(self, message: bytes, *, encrypt: bool = False) -> bytes | None:
        """Step with the peer's word, wrapped."""
        return self.ours.step(self.peer.wrap(message, encrypt=encrypt).data)


def attacked(role: Role, *, flags: int = EVERYTHING, **options: Any) -> Attacked:
    """Let Kerberos end, with our side of GSSAPI in this role: the peer's word is due."""
    ours = gssapi(role, **options)
    if role == "client":
        peer = hostile("server")
        assert ours.step(peer.step(told(ours, None))) == b""
        return Attacked(ours, peer)
    peer = hostile("client", flags=flags)
    answer = ours.step(peer.step())
    if answer and not peer.complete:
        peer.step(answer)
        answer = ours.step(b"")
    return Attacked(ours, peer, peer.unwrap(answer).data)


def word(layers: int, maxbuf: int = 65536, text: bytes = b"") -> bytes:
    """What either side says of layers."""
    return bytes([layers]) + maxbuf.to_bytes(3, "big") + text


@dataclass
class Session:
    """A layer of ours, and the peer at its other end."""

    layer: SecurityLayer
    peer: Any
    encrypt: bool

    def token(self, message: bytes = b"a message", *, encrypt: bool | None = None) -> bytes:
        """The peer's next token."""
        wanted = self.encrypt if encrypt is None else encrypt
        token = self.peer.wrap(message, encrypt=wanted).data
        assert isinstance(token, bytes)
        return token

    def frames(self, *messages: bytes) -> list[bytes]:
        """The peer's next frames."""
        return [frame(self.token(message)) for message in messages]

    def assert_refuses(self, data: bytes, accepted: bytes = b"", *, eof: bool = False) -> SASLError:
        """The layer takes `data` for an attack, and is dead from there, both ways."""
        verdict = judge(self.layer, data, eof=eof)
        assert verdict.accepted == accepted
        assert isinstance(verdict.error, IntegrityError | ProtocolError)
        self.assert_dead(type(verdict.error))
        return verdict.error

    def assert_dead(self, kind: type[SASLError]) -> None:
        """Not even what is genuine passes, in or out."""
        assert self.layer.context.failed
        after = judge(self.layer, b"".join(self.frames(b"genuine", b"genuine too")))
        assert (after.accepted, type(after.error)) == (b"", kind)
        with pytest.raises(kind):
            self.layer.send_data(b"secret")


Script = Generator[bytes | None, bytes | None, None]
Change = Callable[[int, bytes | None], bytes | None]


def gssapi_script(peer: Any, role: Role, choice: int = CONF) -> Script:
    """What a peer says in GSSAPI, from our first step in `role` on; it is told what we answer."""
    if role == "client":
        answer = yield None
        yield peer.step(answer)
        answer = yield peer.wrap(word(ALL), encrypt=False).data
        peer.unwrap(answer)
    else:
        answer = yield peer.step()
        peer.step(answer)
        answer = yield b""
        peer.unwrap(answer)
        yield peer.wrap(word(choice), encrypt=False).data


def spnego_script(peer: Any, role: Role) -> Script:
    """The same for GSS-SPNEGO."""
    answer = yield (None if role == "client" else peer.step())
    while answer:
        answer = yield peer.step(answer)


def script(layer: str, role: Role, binding: bytes | None = None) -> tuple[Any, Script]:
    """Give a peer and what it says, for a layer of `session`."""
    other: Role = "server" if role == "client" else "client"
    if layer in ("sealed", "signed"):
        peer = hostile(other, binding=binding)
        return peer, gssapi_script(peer, role, CONF if layer == "sealed" else INT)
    protocol = "kerberos" if (layer, other) == ("spnego", "client") else "negotiate"
    peer = hostile(other, protocol, binding=binding)
    return peer, spnego_script(peer, role)


def mechanism(layer: str, role: Role, **options: Any) -> Mechanism:
    """Our side, for a layer of `session`."""
    if layer in ("spnego", "ntlm"):
        return spnego_mechanism(role, ntlm=layer == "ntlm", **options)
    return gssapi(role, **{"properties": SEALED if layer == "sealed" else SIGNED, **options})


class PeerGaveUpError(Exception):
    """The peer did not understand us."""


def log_in(
    ours: Mechanism, says: Script, change: Change = lambda _, message: message
) -> bytes | None:
    """Let a login run until we are complete, and give our last answer.

    :param change: gives what we hear, from the number of our step and the genuine message
    """
    message = next(says)
    for number in range(PATIENCE):
        answer = ours.step(change(number, message))
        if ours.complete:
            return answer
        try:
            message = says.send(answer)
        except Exception as error:  # whatever is wrong is not wrong with us
            raise PeerGaveUpError from error
    raise AssertionError("the login has no end")


def session(layer: str, role: Role, **options: Any) -> Session:
    """Log in, and give both ends."""
    ours = mechanism(layer, role, **options)
    peer, says = script(layer, role)
    answer = log_in(ours, says)
    with suppress(StopIteration):
        says.send(answer)
    assert ours.context is not None
    return Session(SecurityLayer(ours.context), peer, encrypt=layer != "signed")
