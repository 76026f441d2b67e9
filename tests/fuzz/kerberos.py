"""The steps of GSSAPI and GSS-SPNEGO over Kerberos.

GSSAPI's peer has the keys, and abuses them. It is a bare GSS context: it sends what libkrb5 made,
edited or not, and then, under its own key, any word on layers that an input may have (RFC 4752
section 3). What has to come of that word is worked out here anew. GSS-SPNEGO's two sides are
genuine, with an attacker in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from saslwrap.context import SecurityContext
from saslwrap.errors import (
    AuthenticationError,
    IntegrityError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    SASLError,
)
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.gss.credentials import GSSCredentials, Peer
from saslwrap.mechanisms.gss.provider import Flag, GSSContext, open_context
from saslwrap.mechanisms.gssapi import GSSAPIClient, GSSAPIServer
from saslwrap.properties import ChannelInfo, SecurityProperties
from tests.fuzz.gss import attack_login, login_seeds
from tests.fuzz.reader import Reader
from tests.fuzz.realm import PRINCIPAL, in_realm, require_realm
from tests.fuzz.steps import step
from tests.fuzz.target import Target
from tests.gss_pairs import PLACE, PLAIN, SEALED, SIGNED, gss_pair

Side = TypeVar("Side", GSSAPIClient, GSSAPIServer)

#: The layers' bits, and the SSF of each over AES-256.
STRENGTHS: Final = {1: 0, 2: 1, 4: 256}

POLICIES: Final = (
    SEALED,
    SIGNED,
    PLAIN,
    SecurityProperties(min_ssf=0, max_buffer=100),
    SecurityProperties(min_ssf=1, require_layer=True),
)
ASKED: Final = (
    Flag.MUTUAL | Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE | Flag.CONFIDENTIALITY,
    Flag.MUTUAL | Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE,
    Flag.INTEGRITY | Flag.REPLAY | Flag.SEQUENCE | Flag.CONFIDENTIALITY,
    Flag.MUTUAL | Flag.INTEGRITY | Flag.REPLAY | Flag.CONFIDENTIALITY,
    Flag.MUTUAL | Flag.NO_INTEGRITY,
)

#: A maxbuf that is enough for a token, whatever its layer, and one that is too little.
ENOUGH, TOO_LITTLE = 100, 28


@dataclass(frozen=True)
class Setting:
    """How the attacked side is made, beside its class."""

    policy: SecurityProperties
    external_ssf: int
    ad_compat: bool
    assume_maxbuf: int | None

    @classmethod
    def read(cls, reader: Reader) -> Setting:
        """Read one off an input."""
        return cls(
            reader.one_of(POLICIES),
            reader.one_of((0, 1, 256)),
            reader.flag(),
            reader.one_of((None, 65536)),
        )

    def make(self, kind: Callable[..., Side]) -> Side:
        """Make the side."""
        mechanism = kind(
            **PLACE,
            properties=self.policy,
            ad_compat=self.ad_compat,
            assume_maxbuf=self.assume_maxbuf,
        )
        mechanism.bind_channel(ChannelInfo(external_ssf=self.external_ssf))
        return mechanism

    def layers(self, *, sealing: bool, signing: bool = True) -> int:
        """The bits of the layers that the policy allows, of those the GSS context can carry."""
        least, greatest = self.policy.layer_ssf(self.external_ssf)
        can = 1 | signing * (2 | sealing * 4)
        return sum(bit for bit, ssf in STRENGTHS.items() if bit & can and least <= ssf <= greatest)

    def choice(self, layers: int, offered: int) -> bytes:
        """Write a word of the attacked side's: these layers, and what it can receive."""
        both = self.ad_compat and layers == 4
        maxbuf = self.policy.max_buffer if layers & ~1 else 0
        return bytes([layers | both * (offered & 2)]) + maxbuf.to_bytes(3, "big")

    def size(self, maxbuf: int) -> int:
        """What is taken for the peer's maxbuf."""
        return maxbuf or self.assume_maxbuf or 0

    def outcome(self, choice: int, maxbuf: int) -> bool | None:
        """Whether a layer and a maxbuf make a login; None if that is the GSS library's to say."""
        if choice in (0, 1):
            return bool(choice)
        size = self.size(maxbuf)
        return None if TOO_LITTLE < size < ENOUGH else size >= ENOUGH


@dataclass(frozen=True)
class Word:
    """A peer's word on layers, on the wire; and in clear, unless somebody bent it on the way."""

    token: bytes
    plain: bytes | None

    @classmethod
    def read(cls, reader: Reader, gss: GSSContext, genuine: bytes) -> Word:
        """The genuine one, or any other under the peer's key; edited, or not."""
        plain = reader.octets() if reader.flag() else genuine
        token, encrypted = gss.wrap(plain, encrypt=reader.flag())
        came = reader.edited(token)
        is_bent = unrotated(came) != unrotated(token)
        return cls(came, None if encrypted or is_bent else plain)

    @property
    def parts(self) -> tuple[int, int, bytes]:
        """Bits, maxbuf, and what follows; no bits where there is no such word."""
        if self.plain is None or len(self.plain) < 4:
            return 0, 0, b""
        return self.plain[0], int.from_bytes(self.plain[1:4], "big"), self.plain[4:]


def unrotated(token: bytes) -> bytes:
    """A token as it was before it was rotated: how far stands in clear (RFC 4121 section 4.2.5)."""
    body = token[16:]
    count = int.from_bytes(token[6:8], "big") % (len(body) or 1)
    return token[:6] + token[8:16] + body[count:] + body[:count]


def strongest(layers: int) -> int:
    """The strongest of some layers, 0 if there is none."""
    return max((bit for bit in STRENGTHS if bit & layers), default=0)


def is_text(octets: bytes) -> bool:
    """Whether octets may be an authzid."""
    try:
        return "\0" not in octets.decode()
    except UnicodeDecodeError:
        return False


def bare(flags: Flag, *, is_client: bool) -> GSSContext:
    """A peer."""
    peer = Peer(PLACE["service"], PLACE["host"], is_client=is_client)
    return open_context("kerberos", peer, GSSCredentials(), flags)


def attack_client(data: bytes) -> None:
    """Be a client's server."""
    reader = Reader(data)
    setting, authzid = Setting.read(reader), reader.one_of((None, "bob", "b\u00f6b"))
    with in_realm():
        client = setting.make(partial(GSSAPIClient, authzid=authzid))
        server = bare(Flag(0), is_client=False)
        answer = server.step(step(client, None)) or b""
        assert step(client, reader.edited(answer)) == b""
        word = Word.read(reader, server, b"\7\1\0\0")
        offered, maxbuf, rest = word.parts
        sealing = setting.policy.layer_ssf(setting.external_ssf)[1] > 1
        is_offer = not rest and (offered & ~1 or not maxbuf)
        choice = strongest(is_offer and offered & setting.layers(sealing=sealing))
        reply = taken(client, word, setting.outcome(choice, maxbuf))
        said = server.unwrap(reply or b"")
        assert said == (setting.choice(choice, offered) + (authzid or "").encode(), False)
        judge_layer(client.context, server, choice, setting.size(maxbuf))
        if reader.more:
            step(client, reader.octets())


def attack_server(data: bytes) -> None:
    """Be a server's client."""
    reader = Reader(data)
    setting, asked = Setting.read(reader), reader.one_of(ASKED)
    with in_realm():
        server = setting.make(GSSAPIServer)
        client = bare(asked, is_client=True)
        offer = establish(reader, server, client)
        granted = client.flags  # MIT grants confidentiality with integrity, asked or not
        offered = setting.layers(
            sealing=Flag.CONFIDENTIALITY in granted,
            signing=Flag.INTEGRITY | Flag.SEQUENCE in granted,
        )
        assert client.unwrap(offer) == (setting.choice(offered, 0), False)
        best = strongest(offered)
        word = Word.read(reader, client, bytes([best, best > 1, 0, 0]))
        bits, maxbuf, authzid = word.parts
        bits = 4 if setting.ad_compat and bits == 6 else bits
        is_choice = bits == strongest(bits) and is_text(authzid) and not (bits == 1 and maxbuf)
        choice = is_choice and bits & offered
        assert taken(server, word, setting.outcome(choice, maxbuf)) is None
        assert server.authcid == PRINCIPAL
        assert (server.authzid or "") == authzid.decode()
        judge_layer(server.context, client, choice, setting.size(maxbuf))
        if reader.more:
            step(server, reader.octets())


def establish(reader: Reader, server: Mechanism, client: GSSContext) -> bytes:
    """Get to the server's offer, with its client's token edited on the way, or not."""
    if reader.flag():
        assert step(server, None) == b""
    sent = client.step(None) or b""
    came = reader.edited(sent)
    reply = step(server, came)
    if not client.complete:
        assert client.step(reply) in (None, b"")
        reply = step(server, reader.one_of((b"", None, reader.octets())))
    return reply or b""


def taken(mechanism: Mechanism, word: Word, outcome: bool | None) -> bytes | None:
    """Let the side hear a word, and hold it to what has to come of that; None is either."""
    fault, reply = None, None
    try:
        reply = step(mechanism, word.token)
    except SASLError as error:
        fault = error
    assert outcome in (None, fault is None), f"{word} is refused, or taken, wrongly: {fault}"
    if fault:
        raise fault
    assert mechanism.complete
    return reply


def judge_layer(
    context: SecurityContext | None, peer: GSSContext, choice: int, maxbuf: int
) -> None:
    """Hold a layer, or that there is none, against what was agreed on, both ways."""
    assert (context is None) == (choice == 1)
    if context is None:
        return
    sealed = choice == 4
    assert (context.ssf, context.peer_maxbuf) == (STRENGTHS[choice], maxbuf)
    message = bytes(min(context.stream_sizes.maximum_message, 4096))
    token = context.seal(message)
    assert len(token) <= maxbuf
    assert peer.unwrap(token) == (message, sealed)
    assert context.unseal(peer.wrap(b"hello", encrypt=sealed)[0]) == b"hello"


def attack_spnego(data: bytes) -> None:
    """Stand between a client and a server that log in by Kerberos, inside SPNEGO.

    A ticket's name stands in clear, so a server may be content with what was bent.
    """
    reader = Reader(data)
    with in_realm():
        pair = gss_pair(reader.one_of(("spnego-256", "spnego-0")))
        attack_login(reader, pair, PRINCIPAL, lambda wire: None)


def client_seeds() -> Iterator[bytes]:
    """Each policy over each channel, with the genuine offer; each offer; what is no offer."""
    for policy in range(len(POLICIES)):
        for external in range(3):
            yield bytes([policy, external])
    for compatible in (0, 1):
        for offered in (0, 1, 2, 3, 4, 6, 7, 0x80, 0xFF):
            for size in (b"\0\0\0", b"\0\0\x1c", b"\0\xff\xff"):
                word = bytes([offered]) + size
                yield bytes([3, 0, compatible, 1, 1, 0, 1, 4]) + word
                yield bytes([3, 0, compatible, 0, 0, 0, 1, 4]) + word
    for word in (b"", b"\1\0\0", b"\7\1\0\0x"):
        yield bytes([0, 0, 0, 0, 0, 0, 1, len(word)]) + word
    yield bytes(6) + b"\0\1"
    yield bytes(6) + b"\0\0\1\0\5\1x\1"
    yield bytes(6) + b"\0\0\0" + b"\1x"
    for at in (5, 60):
        yield bytes(5) + b"\1\0%c\1x\1" % at


def server_seeds() -> Iterator[bytes]:
    """Each policy over each channel, with each client; each choice; what is none."""
    for policy in range(len(POLICIES)):
        for asked in range(len(ASKED)):
            yield bytes([policy, 0, 0, 0, asked])
    for compatible in (0, 1):
        for chosen in (0, 1, 2, 3, 4, 6, 7, 0x84):
            for size in (b"\0\0\0", b"\0\0\x1c", b"\0\xff\xff"):
                word = bytes([chosen]) + size + b"bob"
                yield bytes([3, 0, compatible, 1, 0, 1, 0, 0, 0, 1, 7]) + word
                yield bytes([3, 0, compatible, 0, 0, 0, 0, 0, 0, 1, 7]) + word
    for text in (b"b\0b", b"\xff", "b\u00f6b".encode()):
        yield bytes([1, *bytes(8), 1, 4 + len(text)]) + b"\2\1\0\0" + text
    yield bytes(7) + b"\1"
    for at in (5, 200):
        yield bytes(5) + b"\0\1\0%c\1x\1" % at
    yield bytes(9) + b"\0\1"
    yield bytes(9) + b"\0\0\1\0\5\1x\1"
    yield bytes(9) + b"\0\0\0" + b"\1x"


def spnego_seeds() -> Iterator[bytes]:
    """With a layer, and without; an answer that was bent to want a MIC when all has been said."""
    for edits in login_seeds():
        yield b"\0" + edits
    yield b"\1"
    yield b"\0\0" + bytes([1, 0, 10, 1]) + b"\3\1"


TARGETS = (
    Target(
        "gssapi-client-step",
        attack_client,
        {
            MalformedMessageError: "no offer, or no token where one was due",
            NegotiationError: "an offer that our policy does not take, or of no size",
            MutualAuthenticationError: "a token of Kerberos' that proves nothing",
            IntegrityError: "an offer that was bent",
            ProtocolError: "a message after completion",
        },
        client_seeds,
        512,
        require_realm,
    ),
    Target(
        "gssapi-server-step",
        attack_server,
        {
            MalformedMessageError: "no choice, no authzid, or no token where one was due",
            NegotiationError: "a choice that we did not offer; nothing that we could offer",
            AuthenticationError: "a token of Kerberos' that does not hold",
            IntegrityError: "a choice that was bent",
            ProtocolError: "a message after completion",
        },
        server_seeds,
        512,
        require_realm,
    ),
    Target(
        "gss-spnego-kerberos-step",
        attack_spnego,
        {
            MalformedMessageError: "no token of SPNEGO, or none where one was due",
            AuthenticationError: "a token that does not hold",
            MutualAuthenticationError: "a token that proves nothing",
            ProtocolError: "a message after completion",
        },
        spnego_seeds,
        512,
        require_realm,
    ),
)
