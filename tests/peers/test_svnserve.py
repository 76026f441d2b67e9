"""The example of Subversion's login: by the contract, with svnserve, and with svn."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from examples.svn_login import SvnLogin, SvnLoginServer, read, write
from saslwrap import AuthenticationError, DigestMD5Client, ProtocolError, SecurityProperties
from saslwrap.testing import check_exchange, mechanism_pair
from saslwrap.testing.pairs import PASSWORD, USERNAME, properties_for
from tests.peers.cyrus_logins import STRENGTHS, WRONG
from tests.peers.directory import ALICE, Credentials
from tests.peers.shells import Shell
from tests.peers.support import (
    LOOPBACK,
    program,
    require_program,
    require_sasl_plugin,
    stop_process,
)
from tests.peers.svnserve import Svnserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saslwrap import Exchange
    from tests.peers.shells import Conversation
    from tests.peers.wiretap import WiretapFactory

pytestmark = pytest.mark.timeout(60)

URL = "svn://localhost/repo"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    Svnserve.require()
    with Svnserve() as server:
        yield server.port


def login(user: Credentials, properties: SecurityProperties) -> SvnLogin:
    mechanism = DigestMD5Client(
        user.username, user.password, service="svn", host="localhost", properties=properties
    )
    return SvnLogin(mechanism, URL)


def receive(conversation: Conversation) -> Any:
    """Receive a list."""
    return read(conversation.receive_until(b") ) "))


@pytest.mark.parametrize("protection", ["rc4", "auth-int"])
def test_work_under_a_layer(
    shell: Shell, port: int, wiretap: WiretapFactory, protection: str
) -> None:
    tap = wiretap(LOOPBACK, port)
    conversation = shell.connect(tap.port)
    context = conversation.authenticate(login(ALICE, properties_for(protection)))
    assert context is not None
    assert context.ssf == STRENGTHS[protection]
    status, (_, url, *_) = receive(conversation)
    assert (status, url) == ("success", URL.encode())
    conversation.send(write(["get-latest-rev", []]))
    assert conversation.receive_until(b"( success ( 0 ) ) ")
    conversation.close()
    tap.wait_closed()
    assert (b"get-latest-rev" in tap.client_to_server) is (protection == "auth-int")


def test_refusals(shell: Shell, port: int) -> None:
    with pytest.raises(AuthenticationError, match="the server refused the login"):
        shell.connect(port).authenticate(login(WRONG, SecurityProperties()))
    with pytest.raises(ProtocolError, match="svn has no word for that"):
        shell.connect(port).authenticate(login(ALICE, SecurityProperties(min_ssf=200)))


def test_the_contract() -> None:
    def make_pair() -> tuple[Exchange, Exchange]:
        client, server = mechanism_pair("rc4", service="svn")
        return SvnLogin(client, URL), SvnLoginServer(lambda: server, "example")

    def make_refused() -> tuple[Exchange, Exchange]:
        server = mechanism_pair("rc4", service="svn").server
        refused = login(WRONG, SecurityProperties())
        return refused, SvnLoginServer(lambda: server, "example")

    check_exchange(make_pair, make_refused=make_refused)


def test_svn_logs_in_to_us(shell: Shell) -> None:
    require_program("svn")
    require_sasl_plugin("digestmd5")
    listener = shell.listen()
    url = f"svn://localhost:{listener.getsockname()[1]}/repo"
    options = ["--non-interactive", "--no-auth-cache", "--username", USERNAME]
    svn = subprocess.Popen(
        [program("svn"), "info", *options, "--password", PASSWORD, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        conversation = shell.accept(listener)
        server = mechanism_pair("rc4", service="svn").server
        context = conversation.authenticate(SvnLoginServer(lambda: server, "example.com"))
        assert context is not None
        conversation.send(write(["success", [b"uuid", url.encode(), []]]))
        assert conversation.receive() == b"( get-latest-rev ( ) ) "
        conversation.close()
    finally:
        stop_process(svn)
