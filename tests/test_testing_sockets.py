from __future__ import annotations

import socket

import pytest

from saslwrap import DigestMD5Client, ServerMechanism
from saslwrap.errors import AuthenticationError, TruncatedStreamError
from saslwrap.protocols.ldap import LDAPBind, LDAPBindServer
from saslwrap.testing import MechanismPair, authenticated_sockets, mechanism_pair
from saslwrap.testing.pairs import HOST, USERNAME
from tests.conftest import exchange_pair


def test_two_sealed_sockets_talk() -> None:
    client, server = authenticated_sockets(*exchange_pair(mechanism_pair()))
    with client, server:
        for sender, receiver in ((client, server), (server, client)):
            sender.sendall(b"are you there?")
            assert receiver.recv(100) == b"are you there?"


def test_they_may_be_the_callers_and_have_a_timeout() -> None:
    ends = socket.socketpair()
    client, server = authenticated_sockets(
        *exchange_pair(mechanism_pair("3des")), sockets=ends, timeout=7
    )
    with client, server:
        assert [end.fileno() for end in ends] == [client.fileno(), server.fileno()]
        assert client.gettimeout() == server.gettimeout() == 7


def test_a_login_that_fails_says_both_sides_reasons_and_closes() -> None:
    ends = socket.socketpair()
    wrong = DigestMD5Client(USERNAME, "wrong", service="ldap", host=HOST)
    halves = exchange_pair(MechanismPair(wrong, mechanism_pair().server))
    with pytest.raises(AuthenticationError) as caught:
        authenticated_sockets(*halves, sockets=ends)
    assert "invalidCredentials" in str(caught.value)
    assert "the login was refused" in str(caught.value.__cause__)
    assert [end.fileno() for end in ends] == [-1, -1]


def test_a_server_that_falls_over_is_the_cause() -> None:
    def broken() -> ServerMechanism:
        raise KeyError("no such mechanism")

    client = LDAPBind(mechanism_pair().client)
    with pytest.raises(TruncatedStreamError) as caught:
        authenticated_sockets(client, LDAPBindServer({"DIGEST-MD5": broken}))
    assert isinstance(caught.value.__cause__, KeyError)
