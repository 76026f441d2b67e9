"""LDAP's login: both halves of Bind, and the client that asks for the mechanisms first."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import lru_cache, partial
from typing import Final, TypeAlias

from saslwrap.errors import (
    AuthenticationError,
    MalformedMessageError,
    MutualAuthenticationError,
    NegotiationError,
    ProtocolError,
    TruncatedStreamError,
    UnacceptableSuccessError,
)
from saslwrap.exchange import Event, Script, Send
from saslwrap.properties import SecurityProperties
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_login import DowngradeError, LDAPLogin
from saslwrap.protocols.ldap_messages import Message, ResultCode, decode, encode, measure, result
from tests.fuzz.ldap_messages import CODES, SEARCH, forged_request, forged_response, offer
from tests.fuzz.reader import Reader
from tests.fuzz.talk import Between, Login, Talk
from tests.fuzz.target import Allowed, Target
from tests.fuzz.watched import POLICIES, WEAK_OFFER, WatchedClient, WatchedServer
from tests.support import ToyMechanism

Names: TypeAlias = tuple[bytes, ...]

OFFERS: Final[tuple[Names, ...]] = (
    (b"DIGEST-MD5",),
    (b"TOY", b"DIGEST-MD5"),
    (b"TOY",),
    (),
    (b"GSSAPI", b"digest-md5"),
)


class StrongToy(ToyMechanism):
    """A mechanism that is chosen where it is offered, and stands for one that was struck out."""

    best = 256


class Directory(LDAPBindServer):
    """A server that is asked for its mechanisms before the login."""

    def __init__(self, policy: SecurityProperties, names: Names) -> None:
        super().__init__({"DIGEST-MD5": lambda: WatchedServer(policy)})
        self._names = names

    def _run(self) -> Script:
        yield from self._tell_names()
        yield from super()._run()

    def _tell_names(self) -> Generator[Event, None, None]:
        yield Send(answer_search((yield from self._message()), self._names))


class NamesAgain:
    """What answers the second reading of the list."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def answer(self, said: bytes) -> bytes:
        return answer_search(said, self._names) if said else b""


def answer_search(request: bytes, names: Names) -> bytes:
    """A root DSE with these mechanisms."""
    message_id = decode(request).message_id
    entry = encode(message_id, "searchResEntry", offer(*names))
    return entry + encode(message_id, "searchResDone", result(0))


def messages_in(octets: bytes) -> Iterator[Message]:
    """Decode one message after the other."""
    while octets:
        length = measure(octets, 1 << 20)
        assert length is not None, "no whole message"
        yield decoded(octets[:length])
        octets = octets[length:]


@lru_cache(maxsize=256)
def decoded(octets: bytes) -> Message:
    """Decode a message. The same ones are said and heard over and over."""
    return decode(octets)


def check_messages(talk: Talk) -> None:
    """Hold that what was said are messages, and that in a login each request has its response."""
    said = list(messages_in(b"".join(talk.said)))
    assert all(message.operation for message in said)
    if talk.fault:
        return
    both = [*said, *messages_in(talk.taken)]
    asked, answered = (
        [message.message_id for message in both if message.operation == operation]
        for operation in ("bindRequest", "bindResponse")
    )
    assert asked == answered, "a response to another request"


def server_half(policy: SecurityProperties) -> LDAPBindServer:
    """A server that knows DIGEST-MD5."""
    return LDAPBindServer({"DIGEST-MD5": lambda: WatchedServer(policy)})


def client_half(policy: SecurityProperties) -> LDAPBind:
    """Alice's login."""
    return LDAPBind(WatchedClient(policy))


def login_half(policy: SecurityProperties) -> LDAPLogin:
    """Alice's login, with a better mechanism if it is there."""
    return LDAPLogin([WatchedClient(policy), StrongToy(b"first", b"second", b"third")])


def client_login(policy: SecurityProperties) -> Login:
    """Bind, with its client attacked."""
    return Login(
        partial(client_half, policy), partial(server_half, policy), forged_response, check_messages
    )


def server_login(policy: SecurityProperties) -> Login:
    """Bind, with its server attacked."""
    return Login(
        partial(server_half, policy), partial(client_half, policy), forged_request, check_messages
    )


def whole_login(policy: SecurityProperties, names: Names) -> Login:
    """The login that asks first, with its client attacked."""
    peer = partial(Directory, policy, names)
    is_possible = b"TOY" not in names and bool(names)
    return Login(partial(login_half, policy), peer, forged_response, check_messages, is_possible)


def attack_client(data: bytes) -> None:
    reader = Reader(data)
    client_login(reader.one_of(POLICIES)).attack(reader)


def attack_server(data: bytes) -> None:
    reader = Reader(data)
    server_login(reader.one_of(POLICIES)).attack(reader)


def attack_whole_login(data: bytes) -> None:
    """The login, and then the second reading of the list, under the layer."""
    reader = Reader(data)
    half = whole_login(reader.one_of(POLICIES), reader.one_of(OFFERS)).attack(reader)
    if (confirmation := half.follow_up()) is not None:
        names = NamesAgain(reader.one_of(OFFERS))
        second = Talk(confirmation, Between(reader, names, forged_response), reader.sizes())
        second.run()
        second.finish()
        assert b"TOY" not in names_in(second.taken), "a better one was struck out, unnoticed"


def names_in(octets: bytes) -> list[bytes]:
    """The mechanisms that a server's answer names, in upper case; none if it is a refusal."""
    *entries, done = messages_in(octets)
    if done.value["resultCode"] != ResultCode.success:
        return []
    attributes = (attribute for entry in entries for attribute in entry.value["attributes"])
    return [
        name.upper()
        for attribute in attributes
        if attribute["type"].lower() == b"supportedsaslmechanisms"
        for name in attribute["vals"]
    ]


def refusals(message_id: int) -> Iterator[bytes]:
    """What a server says that refuses a login, or makes its client refuse it."""
    for code in CODES:
        yield encode(message_id, "bindResponse", result(code, "no"))
    for code in (ResultCode.success, ResultCode.saslBindInProgress):
        weak = result(code, serverSaslCreds=WEAK_OFFER)
        given_up = result(ResultCode.authMethodNotSupported)
        yield encode(message_id, "bindResponse", weak) + encode(
            message_id + 1, "bindResponse", given_up
        )


def client_seeds() -> Iterator[bytes]:
    for number, policy in enumerate(POLICIES):
        yield from client_login(policy).seeds(bytes([number]))
    for answers in refusals(1):
        yield bytes(5) + answers


def server_seeds() -> Iterator[bytes]:
    for number, policy in enumerate(POLICIES):
        yield from server_login(policy).seeds(bytes([number]))


def whole_login_seeds() -> Iterator[bytes]:
    for number, policy in enumerate(POLICIES):
        yield from whole_login(policy, OFFERS[0]).seeds(bytes([number, 0]))
    names = answer_search(encode(1, "searchRequest", SEARCH), OFFERS[0])
    for answers in refusals(2):
        yield bytes(6) + names + answers
    for offered in range(len(OFFERS)):
        for again in range(len(OFFERS)):
            yield bytes([1, offered]) + bytes(3) + b"\1" + bytes(4) + bytes([again])


_FROM_SERVER: Allowed = {
    ProtocolError: "no LDAP, a message too long, or another one than was due",
    MalformedMessageError: "a message that cannot be decoded, or a challenge that cannot be read",
    TruncatedStreamError: "the end of the stream during the login",
    AuthenticationError: "a refusal",
    MutualAuthenticationError: "success, or a last message, without the right proof",
    NegotiationError: "an offer that our policy does not take; a refusal for want of protection",
    UnacceptableSuccessError: "success with an offer that our policy does not take",
}

TARGETS = (
    Target("ldap-bind", attack_client, _FROM_SERVER, client_seeds, 2048),
    Target(
        "ldap-bind-server",
        attack_server,
        {
            ProtocolError: "no LDAP, a message too long, or another one than was due",
            MalformedMessageError: "a message that cannot be decoded, or a response not be read",
            TruncatedStreamError: "the end of the stream, or unbindRequest, during the login",
            AuthenticationError: "a wrong proof, a simple bind, a login given up",
            NegotiationError: "a choice, a mechanism or a critical control that we do not have",
        },
        server_seeds,
        2048,
    ),
    Target(
        "ldap-login",
        attack_whole_login,
        {
            **_FROM_SERVER,
            DowngradeError: "a list under the layer that is better than the one in clear",
        },
        whole_login_seeds,
        2048,
    ),
)
