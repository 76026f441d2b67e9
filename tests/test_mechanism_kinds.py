"""A login takes a mechanism of its own side, and says so before it begins."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, cast

import pytest

from saslwrap.errors import UsageError
from saslwrap.exchange import Exchange, NeedData, Send
from saslwrap.mechanism import ServerMechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.protocols.imap import IMAPAuthenticate, IMAPAuthenticateServer
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.protocols.ldap_login import LDAPLogin
from saslwrap.protocols.ldap_messages import encode
from saslwrap.protocols.pop3 import POP3Auth, POP3AuthServer
from saslwrap.protocols.sieve import SieveAuthenticate, SieveAuthenticateServer
from saslwrap.protocols.smtp import SMTPAuth, SMTPAuthServer

SECRET = "s3cret-Pa55"
SASL = {"mechanism": b"DIGEST-MD5"}
BIND = {"version": 3, "name": b"", "authentication": ("sasl", SASL)}


LOGINS = (IMAPAuthenticate, LDAPBind, POP3Auth, SieveAuthenticate, SMTPAuth)


def client() -> DigestMD5Client:
    return DigestMD5Client("alice", SECRET, service="ldap", host="localhost")


def server() -> DigestMD5Server:
    return DigestMD5Server(lambda *_: SECRET, service="ldap", host="localhost", realms=["r"])


async def late() -> DigestMD5Server:
    return server()


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (DigestMD5Client, r"as DigestMD5Client\(...\) makes, not the class DigestMD5Client"),
        (server(), "not a DigestMD5Server"),
        (SECRET, "not a str"),
        (b"", "not a bytes"),
        (None, "not a NoneType"),
        (object(), "not a object"),
    ],
)
def test_a_client_takes_a_clients_mechanism(login: Any, given: object, words: str) -> None:
    with pytest.raises(UsageError, match=f"takes a ClientMechanism.*{words}") as caught:
        login(given)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [DigestMD5Client, server(), SECRET, b"", None, [server()]])
def test_a_client_that_may_choose_does_too(given: Any) -> None:
    words = r"^candidates takes one mechanism or more, made: \[GSSAPIClient\(...\)\]$"
    with pytest.raises(UsageError, match=words):
        LDAPLogin(given, 1)


@pytest.mark.parametrize(
    "make_login_server",
    [
        IMAPAuthenticateServer,
        LDAPBindServer,
        POP3AuthServer,
        SieveAuthenticateServer,
        SMTPAuthServer,
    ],
)
@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (["DIGEST-MD5"], "^mechanisms is a mapping .*, {'DIGEST-MD5': make}, not list$"),
        (server(), "^mechanisms is a mapping .*, not DigestMD5Server$"),
        ({"DIGEST-MD5": server()}, "'DIGEST-MD5'.* a function that makes one, not DigestMD5Server"),
        ({"DIGEST-MD5": None}, "a function that makes one, not NoneType"),
        ({b"DIGEST-MD5": server}, "^a mechanism's name is str, not bytes$"),
        (
            {"DIGEST-MD5": DigestMD5Server},
            r"without arguments.*: lambda: DigestMD5Server\(\.\.\.\)$",
        ),
        ({"DIGEST-MD5": lambda name: server()}, r"^mechanisms\['DIGEST-MD5'\] is called without"),
        ({"DIGEST-MD5": late}, r"^mechanisms\['DIGEST-MD5'\] is a function .*, not an async one$"),
        ({"DIGEST-MD5": ServerMechanism}, "a function that makes one, not an abstract class$"),
        ({"": server}, "^a mechanism's name is 1 to 20 of A to Z, .*, not ''$"),
        ({"X" * 21: server}, f"not '{'X' * 21}'$"),
        ({"DIGEST MD5": server}, "not 'DIGEST MD5'$"),
        ({"X\r\n+OK": server}, r"not 'X\\r\\n\+OK'$"),
        ({"X\n": server}, r"not 'X\\n'$"),
        ({"\N{LATIN SMALL LETTER LONG S}CRAM": server}, "1 to 20 of A to Z"),
        ({"X-MINE": server, "x-mine": server}, "^mechanisms has X-MINE twice, in two spellings$"),
    ],
)
def test_a_server_offers_what_it_can_make(
    make_login_server: Any, offer: object, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_login_server(offer)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IMAPAuthenticate(client(), tag=cast(Any, b"A1")), "^tag is str, not bytes$"),
        (
            lambda: IMAPAuthenticate(client(), initial_response=cast(Any, "no")),
            "^initial_response is bool, not str$",
        ),
        (
            lambda: IMAPAuthenticateServer({}, initial_response=cast(Any, None)),
            "^initial_response is bool, not NoneType$",
        ),
        (lambda: SMTPAuthServer({}, hostname=cast(Any, b"h")), "^hostname is str, not bytes$"),
        (lambda: SieveAuthenticateServer({}, announce=cast(Any, 0)), "^announce is bool, not int$"),
    ],
)
def test_an_option_of_another_kind_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_what_python_cannot_tell_the_arguments_of_is_taken() -> None:
    with pytest.raises(ValueError, match="no signature"):
        signature(type)
    POP3AuthServer({"DIGEST-MD5": cast(Any, type)})


@pytest.mark.parametrize("name", ["", "X" * 21, "X\r\nRSET", "x y", "\N{KELVIN SIGN}", 7, None])
@pytest.mark.parametrize("login", LOGINS)
def test_a_client_says_no_name_that_sasl_does_not_allow(login: Any, name: Any) -> None:
    mechanism = client()
    mechanism.name = name  # type: ignore[misc]
    with pytest.raises(UsageError, match=r"^a mechanism's name is "):
        login(mechanism)


@pytest.mark.parametrize(
    ("make_login_server", "command"),
    [
        (IMAPAuthenticateServer, b"a1 AUTHENTICATE DIGEST-MD5\r\n"),
        (LDAPBindServer, encode(1, "bindRequest", BIND)),
        (POP3AuthServer, b"AUTH DIGEST-MD5\r\n"),
        (SieveAuthenticateServer, b'AUTHENTICATE "DIGEST-MD5"\r\n'),
        (SMTPAuthServer, b"AUTH DIGEST-MD5\r\n"),
    ],
)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (client, "not a DigestMD5Client"),
        (lambda: DigestMD5Server, "not the class DigestMD5Server"),
        (lambda: None, "not a NoneType"),
    ],
)
def test_a_server_takes_a_servers_mechanism(
    make_login_server: Any, command: bytes, make: Callable[[], object], words: str
) -> None:
    exchange: Exchange = make_login_server({"DIGEST-MD5": make})
    assert exchange.advance() == NeedData()
    exchange.receive_data(command)
    answer = exchange.advance()
    assert isinstance(answer, Send)
    assert b"nonce" not in answer.data
    assert b"NoneType" not in answer.data
    with pytest.raises(UsageError, match=f"takes a ServerMechanism.*{words}"):
        exchange.advance()
